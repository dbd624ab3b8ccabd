"""How a picture was moved, read from the public lattice: no key, no assumption about what was done to it.

A move is a 2×2 matrix from canonical units to pixels; crops and translations don't change it. Under it the wave k/160
is found in a picture's spectrum at move⁻ᵀ·k/160. Every wave carries energy wherever the picture was cut and whatever it
says, so the sum of the energies at all lattice points, for one move after another, shows the right one. Quarter turns
and mirrors map the lattice onto itself and are told apart later, by the key's template.
"""

import itertools
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ledger.provenance.watermark import lattice

Move = NDArray[np.float64]
"""float64 [2, 2]: canonical units (x, y) → pixels of a sampled picture (x, y)."""

SCALES: Final = (0.42, 2.4)
"""How wide a pixel may have become, in the units it would have in a picture that was not moved."""
_ANGLE: Final = np.pi / 4
_STRETCH: Final = 0.7
_STEP: Final = 0.012
_CANDIDATES: Final = 40
_LOUDEST: Final = 6.0
"""Energy of a cell, in those of its neighbourhood, beyond which it belongs to the picture."""
_KEY_FRAME: Final = 3.0
_AROUND: Final = 6
"""Cells on each side that make a neighbourhood."""
_HEARD: Final = (9.0, 18.0)
"""Wave numbers below the first are drowned by pictures, those above the second thinned out by encoders."""
_TURNS: Final = tuple(
    np.array(rows)
    for rows in (
        ((1, 0), (0, 1)),
        ((0, -1), (1, 0)),
        ((-1, 0), (0, -1)),
        ((0, 1), (-1, 0)),
        ((-1, 0), (0, 1)),
        ((0, 1), (1, 0)),
        ((1, 0), (0, -1)),
        ((0, -1), (-1, 0)),
    )
)
"""The symmetries of a square: what the lattice itself cannot tell apart."""


@dataclass(frozen=True, slots=True)
class Spectra:
    """The zero-padded spectra of a few pictures, complex64 [g, n, n/2+1], and the whitened energy of all, [n, n]."""

    each: lattice.Phasors
    energy: lattice.Reals
    size: int
    centre: tuple[float, float]

    @classmethod
    def of(cls, pictures: lattice.Reals, first: lattice.Reals) -> "Spectra":
        """`first` is the clip's first frame: encoders spend most on it, so it is heard by itself as well."""
        _, height, width = pictures.shape
        size = 1 << (2 * max(height, width) - 1).bit_length() - 1
        taper = _taper(height)[:, None] * _taper(width)
        each = np.stack([np.fft.rfft2(picture * taper, (size, size)) for picture in pictures])
        energy = np.zeros(each.shape[1:], np.float32)
        # Neighbours as well: two bursts of one pattern say more together than one by one.
        together = [(one + after, 1.0) for one, after in itertools.pairwise(each)]
        key = np.fft.rfft2(first * taper, (size, size))
        for spectrum, weight in ((key, _KEY_FRAME), *((one, 1.0) for one in each), *together):
            power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
            around = np.pad(power, ((_AROUND, _AROUND), (0, 0)), mode="wrap")
            around = cv2.blur(around, (2 * _AROUND + 1, 2 * _AROUND + 1))[_AROUND:-_AROUND]
            energy += weight * (np.minimum(power / (around + 1e-9), _LOUDEST) - 1.0)
        return cls(each.astype(np.complex64), _whole_plane(energy), size, ((width - 1) / 2, (height - 1) / 2))

    def scores(self, moves: NDArray[np.float64]) -> lattice.Reals:
        """float32 [m]: how much energy lies on the lattice under each of `moves` [m, 2, 2]."""
        waves = lattice.waves()
        middle = self.size // 2
        plane = self.energy.ravel()
        weights = np.exp(-((waves.radius / _HEARD[1]) ** 2)) * np.minimum(waves.radius / _HEARD[0], 1.0)
        # The cell of wave k is moves⁻ᵀ · k · size / period, counted from the middle.
        steps = np.swapaxes(np.linalg.inv(moves), 1, 2).astype(np.float32) * (self.size / lattice.PERIOD)
        kx, ky = waves.kx.astype(np.float32), waves.ky.astype(np.float32)
        scores = np.empty(len(moves), np.float32)
        for start in range(0, len(moves), 512):
            part = steps[start : start + 512, :, :, None]
            x, y = (part[:, axis, 0] * kx + part[:, axis, 1] * ky + (middle + 0.5) for axis in (0, 1))
            for cells in (x, y):
                np.clip(cells, 0, self.size - 1, out=cells)
            places = y.astype(np.int32)
            places *= self.size
            places += x.astype(np.int32)
            scores[start : start + 512] = plane[places] @ weights
        return scores

    def at(self, move: Move, symmetry: NDArray[np.intp] | None = None) -> lattice.Phasors:
        """complex64 [g, n]: the waves of each picture under `move`, phases counted from the picture's centre."""
        waves = lattice.waves()
        k = np.stack([waves.kx, waves.ky]).astype(np.float64)
        if symmetry is not None:
            k = symmetry @ k
        cells = np.linalg.inv(move).T @ k * (self.size / lattice.PERIOD)
        x, y = np.rint(cells).astype(np.intp)
        sign = np.where(x < 0, -1, 1)
        values = self.each[:, sign * y % self.size, np.minimum(np.abs(x), self.size // 2)]
        values = np.where(sign < 0, values.conj(), values)
        return np.asarray(
            values * np.exp(2j * np.pi / self.size * (x * self.centre[0] + y * self.centre[1])), np.complex64
        )


def move_of(units: float, angle: float, stretch: float, shear: float = 0.0) -> Move:
    """The move to pixels `units` wide, stretched e^`stretch` times in width against height, then turned by `angle`."""
    return np.asarray(_moves(np.array([[np.log(units), angle, stretch, shear]]))[0])


def likely(spectra: Spectra, units: float) -> list[Move]:
    """The moves under which most energy lies on the lattice, best first, no two alike."""
    lows, highs = np.log(units * SCALES[0]), np.log(units * SCALES[1])
    scales, nothing = np.arange(lows, highs, _STEP), np.zeros(1)
    angles = np.arange(-_ANGLE, _ANGLE, _STEP)
    stretches = np.arange(-_STRETCH, _STRETCH + _STEP, _STEP)
    guesses = np.concatenate(
        [_grid(scales, angles, nothing, nothing), _grid(scales, nothing, stretches, nothing)]
    )
    scores = spectra.scores(_moves(guesses))
    # A picture's own lines make some scales louder than others: a move is compared with those of its scale.
    turned = scores[: len(scales) * len(angles)].reshape(len(scales), -1)
    usual = _smooth(turned.mean(1)), _smooth(turned.std(1))

    def stands_out(score: lattice.Reals, log_units: NDArray[np.float64]) -> NDArray[np.float64]:
        mean, deviation = (np.interp(log_units, scales, values) for values in usual)
        return np.asarray((score - mean) / (deviation + 1e-9))

    order = np.argsort(stands_out(scores, guesses[:, 0]))[::-1]
    refined = [_refined(spectra, guess) for guess in _apart(guesses[order[:2000]], 2.5 * _STEP)[:_CANDIDATES]]
    found = np.array([guess for _, guess in refined])
    outstanding = stands_out(np.array([score for score, _ in refined], np.float32), found[:, 0])
    return list(_moves(np.array(_apart(found[np.argsort(outstanding)[::-1]], 0.5 * _STEP))))


def _apart(guesses: NDArray[np.float64], least: float) -> list[NDArray[np.float64]]:
    """Those of `guesses` that no earlier one is as near to as `least`."""
    chosen: list[NDArray[np.float64]] = []
    for guess in guesses:
        if len(chosen) < _CANDIDATES and all(np.abs(guess - other).max() > least for other in chosen):
            chosen.append(guess)
    return chosen


def _smooth(values: lattice.Reals) -> NDArray[np.float64]:
    return np.convolve(np.pad(values.astype(float), 4, mode="edge"), np.full(9, 1 / 9), mode="valid")


def symmetries() -> tuple[NDArray[np.intp], ...]:
    return _TURNS


def _refined(spectra: Spectra, guess: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    around = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=4)))
    best, step = -np.inf, _STEP / 2
    for _ in range(8):
        tried = guess + step * around
        scores = spectra.scores(_moves(tried))
        winner = int(np.argmax(scores))
        best, guess = float(scores[winner]), tried[winner]
        if not around[winner].any():
            step /= 2
            if step < _STEP / 16:
                break
    return best, guess


def _grid(*axes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)


def _moves(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 [m, 2, 2] of [m, 4]: the logarithm of a pixel's width in units, angle, stretch, shear."""
    log_units, angle, stretch, shear = parameters.T
    scale = np.exp(-log_units)
    wide, tall = scale * np.exp(stretch / 2), scale * np.exp(-stretch / 2)
    c, s = np.cos(angle), np.sin(angle)
    slant = shear * scale
    return np.stack(
        [np.stack([c * wide, c * slant - s * tall], -1), np.stack([s * wide, s * slant + c * tall], -1)], 1
    )


def _whole_plane(half: lattice.Reals) -> lattice.Reals:
    """float32 [n, n]: energies by frequency, nought in the middle, nothing at the edge; `half` is [n, n/2+1]."""
    size = len(half)
    right = np.fft.fftshift(half[:, :-1], axes=0)
    whole = np.zeros((size, size), np.float32)
    middle = size // 2
    whole[:, middle:] = right
    whole[1:, 1:middle] = right[:0:-1, :0:-1]
    whole[: size // 32], whole[-(size // 32) :] = 0.0, 0.0
    whole[:, : size // 32], whole[:, -(size // 32) :] = 0.0, 0.0
    return whole


def _taper(length: int) -> lattice.Reals:
    edge = max(2, length // 16)
    ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(edge) + 0.5) / edge)
    return np.concatenate([ramp, np.ones(length - 2 * edge), ramp[::-1]]).astype(np.float32)
