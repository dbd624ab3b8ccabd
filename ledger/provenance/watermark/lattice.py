"""The keyed patterns: which plane waves carry what.

Canonical coordinates put the short side of a picture at 480 units, whatever its pixels. A pattern is a real field
with period 160 in both directions: a sum of plane waves on the lattice k/160, in the ring 5.5 ≤ |k| ≤ 20.4 (0.034 to
0.128 cycles a unit: below it the picture itself drowns the mark, above it encoders drop it). The field is evaluated
from its 608 coefficients by two thin matrix products, so it exists exactly at any size, and measured back the
same way. Because it is periodic, cutting the picture is only a translation, that is, a phase ramp over the lattice.

There are four patterns, each with its own keyed phases and its own keyed split of the lattice: 96 waves are known to
the key holder (the *template*, by which a pattern and its position are found), the rest carry the coded bits, two
bits a wave, one on each quadrature, each bit on about two waves.

Everything keyed is read straight from SHAKE-256, not from a random generator whose stream a library may change:
marks must be found for years.
"""

import functools
import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ledger.provenance.watermark import ecc

CANONICAL_SIDE: Final = 480
PERIOD: Final = 160
PATTERNS: Final = 4
KEY_BYTES: Final = 32
TEMPLATE_WAVES: Final = 96
_RING: Final = (5.5, 20.4)
_TEMPLATE_GAIN: Final = 1.35
_CREST: Final = 1.6
"""Peaks beyond this many deviations are cut: a lone bright spot repeated every 160 units catches the eye."""

Reals = NDArray[np.float32]
Phasors = NDArray[np.complex64]


@dataclass(frozen=True, slots=True)
class Waves:
    """The lattice points used, one of each ± pair, [n] each. Every array over waves keeps this order."""

    ky: NDArray[np.intp]
    kx: NDArray[np.intp]
    reach: int

    def __len__(self) -> int:
        return len(self.ky)


@dataclass(frozen=True, slots=True)
class Pattern:
    """One keyed pattern: unit phases [n], amplitudes [n], and the split of the waves."""

    phases: Phasors
    amplitudes: Reals
    template: NDArray[np.intp]
    data: NDArray[np.intp]

    def coefficients(self, signs: ecc.Signs) -> Phasors:
        """complex64 [n]: the waves with the coded signs on their two quadratures."""
        symbols = np.ones(len(self.phases), np.complex64)
        cosine, sine = self.bit_indices()
        symbols[self.data] = (signs[cosine] + 1j * signs[sine]) / np.sqrt(2.0)
        return np.asarray(self.amplitudes * self.phases * symbols, np.complex64)

    def bit_indices(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Which coded bit each data wave carries on its cosine and on its sine."""
        order = np.arange(2 * len(self.data)) % ecc.CODED_BITS
        return order[: len(self.data)], order[len(self.data) :]

    def evidence(self, measured: Phasors) -> ecc.Signs:
        """float32 [448]: what the measured waves [n], already aligned to this pattern's origin, say of each bit."""
        cosine, sine = self.bit_indices()
        symbols = (measured * self.phases.conj())[self.data]
        total = np.bincount(cosine, symbols.real, ecc.CODED_BITS) + np.bincount(
            sine, symbols.imag, ecc.CODED_BITS
        )
        return np.asarray(total, np.float32)


@functools.cache
def waves() -> Waves:
    reach = int(_RING[1])
    ky, kx = np.mgrid[-reach : reach + 1, 0 : reach + 1]
    radius = np.hypot(ky, kx)
    used = (radius >= _RING[0]) & (radius <= _RING[1]) & ((kx > 0) | (ky > 0))
    return Waves(ky[used], kx[used], reach)


@functools.cache
def radii() -> NDArray[np.intp]:
    """The ring each wave lies in, for measuring noise by frequency."""
    return np.hypot(waves().ky, waves().kx).astype(np.intp)


@functools.lru_cache(maxsize=8)
def patterns(key: bytes) -> tuple[Pattern, ...]:
    return tuple(_pattern(key, index) for index in range(PATTERNS))


def _pattern(key: bytes, index: int) -> Pattern:
    n = len(waves())
    stream = hashlib.shake_256(b"countersign/watermark/v1/pattern\x00" + bytes([index]) + key).digest(12 * n)
    phases = np.exp(2j * np.pi / 2**32 * np.frombuffer(stream[: 4 * n], ">u4"))
    order = np.argsort(np.frombuffer(stream[4 * n :], ">u8"), kind="stable")
    template, data = order[:TEMPLATE_WAVES], order[TEMPLATE_WAVES:]
    amplitudes = np.hypot(waves().ky, waves().kx) ** -0.5
    amplitudes[template] *= _TEMPLATE_GAIN
    return Pattern(phases.astype(np.complex64), amplitudes.astype(np.float32), template, data)


def field(coefficients: Phasors, height: int, width: int) -> Reals:
    """float32 [height, width]: the pattern over a picture of that size, mean square 1, crests cut."""
    lattice = waves()
    spectrum = np.zeros((2 * lattice.reach + 1, lattice.reach + 1), np.complex64)
    spectrum[lattice.ky + lattice.reach, lattice.kx] = coefficients
    units = CANONICAL_SIDE / min(height, width)
    rows, columns = _plane(height, units), _plane(width, units)[:, lattice.reach :]
    # Re(rows · spectrum · columnsᵀ) as two real products.
    left = rows @ spectrum
    values = left.real @ columns.real.T - left.imag @ columns.imag.T
    values /= values.std()
    np.clip(values, -_CREST, _CREST, out=values)
    return np.asarray(values / values.std(), np.float32)


def measure(pictures: Reals, units: float) -> Phasors:
    """complex64 [t, n]: each wave's coefficient in `pictures` float32 [t, h, w], whose pixels are `units` wide."""
    lattice = waves()
    rows = _plane(pictures.shape[1], units).conj()
    columns = _plane(pictures.shape[2], units)[:, lattice.reach :].conj()
    across = pictures @ columns.real + 1j * (pictures @ columns.imag)
    return np.asarray((rows.T @ across)[:, lattice.ky + lattice.reach, lattice.kx], np.complex64)


@functools.lru_cache(maxsize=16)
def _plane(pixels: int, units: float) -> Phasors:
    """complex64 [pixels, 2·reach+1]: e^{2πikx/160} at the pixel centres."""
    k = np.arange(waves().reach + 1)
    angles = (np.outer((np.arange(pixels) + 0.5) * (units / PERIOD), k) % 1.0 * (2 * np.pi)).astype(
        np.float32
    )
    half = np.empty(angles.shape, np.complex64)
    half.real, half.imag = np.cos(angles), np.sin(angles)
    return np.concatenate([half[:, :0:-1].conj(), half], axis=1)
