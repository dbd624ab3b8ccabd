"""The keyed patterns: which plane waves carry what.

Canonical coordinates put the short side of a picture at 480 units, whatever its pixels. A pattern is a real field
with period 160 in both directions: a sum of plane waves on the lattice k/160, in a ring of wave numbers (below it the
picture itself drowns the mark, above it encoders drop it), without those along the axes, where pictures, frames' edges
and encoders' blocks are loudest. The field is evaluated from its coefficients by two thin matrix products, so it exists
exactly at any size, and measured back the same way. Because it is periodic, cutting the picture is only a translation,
that is, a phase ramp over the lattice; turning, mirroring and squeezing it move the lattice as a whole.

The lattice is public: where its points lie tells how a picture was moved, before any key is known. Keyed are the phases
of four patterns, which of the waves are known to the key holder (the *template*, by which position and pattern are
found) and which coded bit each of the rest carries on each quadrature, each bit on about two places.

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
_RING: Final = (4.5, 18.5)
_TEMPLATE_GAIN: Final = 1.35
_TILT: Final = -0.5
"""Amplitude falls with this power of the wave number."""
_CREST: Final = 1.6
"""Peaks beyond this many deviations are cut: a lone bright spot repeated every 160 units catches the eye."""

Reals = NDArray[np.float32]
Phasors = NDArray[np.complex64]


@dataclass(frozen=True, slots=True)
class Waves:
    """The lattice points used, one of each ± pair, [n] each. Every array over waves keeps this order."""

    ky: NDArray[np.intp]
    kx: NDArray[np.intp]
    radius: Reals
    reach: int

    def __len__(self) -> int:
        return len(self.ky)


@dataclass(frozen=True, slots=True)
class Pattern:
    """One keyed pattern: unit phases [n], amplitudes [n], and what the waves are for. The template is every pattern's."""

    phases: Phasors
    amplitudes: Reals
    template: NDArray[np.intp]
    data: NDArray[np.intp]
    bits: NDArray[np.intp]
    """intp [2, data]: which coded bit each data wave carries on its cosine and on its sine."""

    def coefficients(self, signs: ecc.Signs) -> Phasors:
        """complex64 [n]: the waves with the coded signs on their two quadratures."""
        symbols = np.ones(len(self.phases), np.complex64)
        cosine, sine = self.bits
        symbols[self.data] = (signs[cosine] + 1j * signs[sine]) / np.sqrt(2.0)
        return np.asarray(self.amplitudes * self.phases * symbols, np.complex64)

    def evidence(self, measured: Phasors) -> ecc.Signs:
        """float32 [512]: what the measured waves [n], already aligned to this pattern's origin, say of each bit."""
        cosine, sine = self.bits
        symbols = (measured * self.phases.conj())[self.data]
        total = np.bincount(cosine, symbols.real, ecc.CODED_BITS)
        total += np.bincount(sine, symbols.imag, ecc.CODED_BITS)
        return np.asarray(total, np.float32)


@functools.cache
def waves() -> Waves:
    reach = int(_RING[1])
    ky, kx = np.mgrid[-reach : reach + 1, 1 : reach + 1]
    radius = np.hypot(ky, kx)
    used = (radius >= _RING[0]) & (radius <= _RING[1]) & (ky != 0)
    return Waves(ky[used], kx[used], radius[used].astype(np.float32), reach)


@functools.cache
def rings() -> NDArray[np.intp]:
    """The ring each wave lies in, for measuring noise by frequency."""
    return waves().radius.astype(np.intp)


@functools.lru_cache(maxsize=8)
def patterns(key: bytes) -> tuple[Pattern, ...]:
    n = len(waves())
    draws = _draws(b"split", key, n)
    order = np.argsort(draws, kind="stable")
    template, data = np.sort(order[:TEMPLATE_WAVES]), np.sort(order[TEMPLATE_WAVES:])
    amplitudes = waves().radius ** _TILT
    amplitudes[template] *= _TEMPLATE_GAIN
    return tuple(_pattern(key, index, amplitudes, template, data) for index in range(PATTERNS))


def _pattern(
    key: bytes, index: int, amplitudes: Reals, template: NDArray[np.intp], data: NDArray[np.intp]
) -> Pattern:
    angles = _draws(b"phases%d" % index, key, len(amplitudes)) * (2 * np.pi / 2**64)
    places = np.argsort(_draws(b"bits%d" % index, key, 2 * len(data)), kind="stable")
    bits = np.empty(2 * len(data), np.intp)
    bits[places] = np.arange(2 * len(data)) % ecc.CODED_BITS
    phases = np.exp(1j * angles).astype(np.complex64)
    return Pattern(phases, amplitudes.astype(np.float32), template, data, bits.reshape(2, -1))


def _draws(purpose: bytes, key: bytes, count: int) -> NDArray[np.uint64]:
    stream = hashlib.shake_256(b"countersign/watermark/v2/" + purpose + b"\x00" + key).digest(8 * count)
    return np.frombuffer(stream, ">u8").astype(np.uint64)


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


def measure(pictures: Reals, units: tuple[float, float]) -> Phasors:
    """complex64 [t, n]: each wave's coefficient in `pictures` float32 [t, h, w], whose pixels are `units` high and wide."""
    lattice = waves()
    rows = _plane(pictures.shape[1], units[0]).conj()
    columns = _plane(pictures.shape[2], units[1])[:, lattice.reach :].conj()
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
