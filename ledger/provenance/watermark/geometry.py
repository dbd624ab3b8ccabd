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
_CANDIDATES: Final = 24
_LOUDEST: Final = 6.0
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
    """The zero-padded spectra of a few pictures, complex64 [g, n, n/2+1], and the whitened energy of all, [n, n/2+1]."""

    each: lattice.Phasors
    energy: lattice.Reals
    size: int
    centre: tuple[float, float]

    @classmethod
    def of(cls, pictures: lattice.Reals) -> "Spectra":
        _, height, width = pictures.shape
        size = 1 << (2 * max(height, width) - 1).bit_length() - 1
        taper = _taper(height)[:, None] * _taper(width)
        each = np.stack([np.fft.rfft2(picture * taper, (size, size)) for picture in pictures])
        energy = np.zeros(each.shape[1:], np.float32)
        for spectrum in each:
            power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
            around = cv2.blur(np.pad(power, ((16, 16), (0, 0)), mode="wrap"), (33, 33))[16:-16]
            energy += np.minimum(power / (around + 1e-9), _LOUDEST) - 1.0
        return cls(each.astype(np.complex64), energy, size, ((width - 1) / 2, (height - 1) / 2))

    def scores(self, moves: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64 [m]: how much energy lies on the lattice under each of `moves` [m, 2, 2], in deviations."""
        waves = lattice.waves()
        k = np.stack([waves.kx, waves.ky]).astype(np.float64)
        scores = np.empty(len(moves))
        for start in range(0, len(moves), 1024):
            part = slice(start, start + 1024)
            cells = np.swapaxes(np.linalg.inv(moves[part]), 1, 2) @ k * (self.size / lattice.PERIOD)
            inside = (np.abs(cells) < 0.47 * self.size).all(1)
            values = np.where(inside, self.energy[self._places(cells)[:2]], 0.0)
            scores[part] = values.sum(1) / np.sqrt(np.maximum(inside.sum(1), 0.5 * k.shape[1]))
        return scores

    def at(self, move: Move, symmetry: NDArray[np.intp] | None = None) -> lattice.Phasors:
        """complex64 [g, n]: the waves of each picture under `move`, phases counted from the picture's centre."""
        waves = lattice.waves()
        k = np.stack([waves.kx, waves.ky]).astype(np.float64)
        if symmetry is not None:
            k = symmetry @ k
        cells = np.linalg.inv(move).T @ k * (self.size / lattice.PERIOD)
        rows, columns, flipped = self._places(cells[None])
        values = self.each[:, rows[0], columns[0]]
        values = np.where(flipped[0], values.conj(), values)
        x, y = np.rint(cells)
        return np.asarray(
            values * np.exp(2j * np.pi / self.size * (x * self.centre[0] + y * self.centre[1])), np.complex64
        )

    def _places(
        self, cells: NDArray[np.float64]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
        """Row and column of each cell [m, 2, n] in the half spectrum, and whether its conjugate stands there."""
        x, y = (np.rint(cells[:, axis]).astype(np.intp) for axis in (0, 1))
        flipped = x < 0
        sign = np.where(flipped, -1, 1)
        return sign * y % self.size, np.minimum(np.abs(x), self.size // 2), flipped


def move_of(units: float, angle: float, stretch: float, shear: float = 0.0) -> Move:
    """The move to pixels `units` wide, stretched e^`stretch` times in width against height, then turned by `angle`."""
    return np.asarray(_moves(np.log([units]), *(np.array([v]) for v in (angle, stretch, shear)))[0])


def likely(spectra: Spectra, units: float) -> list[Move]:
    """The moves under which most energy lies on the lattice, best first, no two alike."""
    lows, highs = np.log(units * SCALES[0]), np.log(units * SCALES[1])
    scales = np.arange(lows, highs, _STEP)
    turned = _grid(scales, np.arange(-_ANGLE, _ANGLE, _STEP), np.zeros(1))
    stretched = _grid(scales, np.zeros(1), np.arange(-_STRETCH, _STRETCH + _STEP, _STEP))
    guesses = np.concatenate([turned, stretched])
    scores = spectra.scores(_moves(*guesses.T, np.zeros(len(guesses))))
    chosen: list[NDArray[np.float64]] = []
    for index in np.argsort(scores)[::-1][:2000]:
        guess = np.append(guesses[index], 0.0)
        if all(np.abs(guess - other).max() > 2.5 * _STEP for other in chosen):
            chosen.append(guess)
            if len(chosen) == _CANDIDATES:
                break
    refined = [_refined(spectra, guess) for guess in chosen]
    refined.sort(key=lambda pair: -pair[0])
    distinct: list[NDArray[np.float64]] = []
    for _, guess in refined:
        if all(np.abs(guess - other).max() > 0.5 * _STEP for other in distinct):
            distinct.append(guess)
    return [_moves(*guess[:, None])[0] for guess in distinct]


def symmetries() -> tuple[NDArray[np.intp], ...]:
    return _TURNS


def _refined(spectra: Spectra, guess: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    around = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=4)))
    best, step = -np.inf, _STEP / 2
    for _ in range(8):
        tried = guess + step * around
        scores = spectra.scores(_moves(*tried.T))
        winner = int(np.argmax(scores))
        best, guess = float(scores[winner]), tried[winner]
        if not around[winner].any():
            step /= 2
            if step < _STEP / 16:
                break
    return best, guess


def _grid(*axes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)


def _moves(
    log_units: NDArray[np.float64],
    angle: NDArray[np.float64],
    stretch: NDArray[np.float64],
    shear: NDArray[np.float64],
) -> NDArray[np.float64]:
    scale = np.exp(-log_units)
    wide, tall = scale * np.exp(stretch / 2), scale * np.exp(-stretch / 2)
    c, s = np.cos(angle), np.sin(angle)
    slant = shear * scale
    return np.stack(
        [np.stack([c * wide, c * slant - s * tall], -1), np.stack([s * wide, s * slant + c * tall], -1)], 1
    )


def _taper(length: int) -> lattice.Reals:
    edge = max(2, length // 16)
    ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(edge) + 0.5) / edge)
    return np.concatenate([ramp, np.ones(length - 2 * edge), ramp[::-1]]).astype(np.float32)
