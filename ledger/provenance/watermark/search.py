"""Finding the mark in what was sampled: in place first, then wherever the lattice's energy says the picture went.

1. **In place.** The lattice waves of every frame are measured and brought to unit noise, and each burst is compared
   with the four templates at every translation (one FFT). A translation's score adds up, over the bursts, how well
   *some* pattern fits: the detector need not know where in the cycle an excerpt begins.
2. **Moved.** :mod:`.geometry` names the likeliest moves, without the key. Each is tried in its eight symmetries at
   every translation against the templates; the best are aligned finely, perspective included, by the phases of the
   template in parts of the picture, and the frames are brought back to canonical coordinates.
3. **Weigh and decode.** Each frame counts with the amplitude of its template, so key frames speak louder than the
   frames an encoder starved; so does each range of wave numbers. An inverted picture is a mark of the other sign.

The number of decodings is at most :data:`MAX_ATTEMPTS`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ledger.provenance.watermark import ecc, geometry, lattice
from ledger.provenance.watermark.embed import Frame, arrangement, check_key
from ledger.provenance.watermark.sampling import NotDetected, Sampled, sample

_LOUDEST: Final = 2.5
"""A wave louder than this many deviations belongs to the picture (a fence, a line of text) and is held down."""
_GRID: Final = 64
_MOVES_TRIED: Final = 8
MAX_ATTEMPTS: Final = 2 * (2 + _MOVES_TRIED)
"""In place, at the best translation and at the best moves, each with two ways of weighing the frames."""
_ROUNDS: Final = 2
_GROUPS: Final = 12
_BLOCK: Final = 120.0
_UNITS: Final = (0.8, 2.0)
_BAND: Final = 3.0

Homography = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Detected:
    """A payload whose 40 check bits match.

    `confidence` is the share of the soft evidence that agrees with the decoded word, 0–1: pure noise would score
    about 0.7, a fresh mark nearly 1. It says how worn the mark is, not how likely the payload is wrong. `where` says in
    words how the picture was moved and which part of the clip was looked at.
    """

    payload: bytes
    confidence: float
    where: str


def find(sampled: Sampled | NotDetected, key: bytes) -> Detected | NotDetected:
    """The payload marked under `key` into what was sampled, if there is one."""
    check_key(key)
    if isinstance(sampled, NotDetected):
        return sampled
    patterns = lattice.patterns(key)
    _, height, width = sampled.residuals.shape
    side = lattice.CANONICAL_SIDE / min(sampled.width, sampled.height)
    units = side * sampled.height / height, side * sampled.width / width
    pictures = sampled.residuals.astype(np.float32)

    view = _View.of(pictures, sampled.bursts, units)
    score = view.scores(patterns)
    for shift in (_best_near_origin(score), _best(score)):
        if (found := view.decode(patterns, shift, key)) is not None:
            return _told(
                found, key, sampled, "in place" if max(abs(shift[1]), abs(shift[2])) <= 1 else "shifted"
            )
    groups = sampled.bursts // (sampled.bursts[-1] // _GROUPS + 1)
    sums = np.stack([pictures[groups == group].sum(0) for group in range(groups[-1] + 1)])
    for candidate in _candidates(sums, pictures[0], patterns, units[0]):
        placed = candidate.refined(sums, patterns)
        view = _View.of(placed.brought_back(pictures), sampled.bursts, (placed.units,) * 2)
        shift = _best_near_origin(view.scores(patterns))
        if (found := view.decode(patterns, shift, key)) is not None:
            return _told(found, key, sampled, placed.said(units[0]))
    return NotDetected(f"no payload's check bits matched in `{len(pictures)}` sampled frames")


def detect(frames: Iterable[Frame], key: bytes, *, fps: float | None = None) -> Detected | NotDetected:
    """:func:`find` in what :func:`sample` kept of `frames`. Raises MediaError on what are not frames."""
    check_key(key)
    return find(sample(frames, fps=fps), key)


@dataclass(frozen=True, slots=True)
class _Evidence:
    payload: bytes
    confidence: float
    sign: int


def _told(found: _Evidence, key: bytes, sampled: Sampled, moved: str) -> Detected:
    words = [moved]
    if found.sign != arrangement(key, found.payload)[1]:
        words.append("inverted")
    first, last = int(sampled.indices[0]), int(sampled.indices[-1])
    if sampled.fps:
        words.append(f"seconds {first / sampled.fps:.1f} to {(last + 1) / sampled.fps:.1f}")
    else:
        words.append(f"frames {first} to {last}")
    return Detected(found.payload, found.confidence, ", ".join(words))


@dataclass(frozen=True, slots=True)
class _View:
    """The waves of the sampled frames under one assumed move: complex64 [t, n], unit noise; and each frame's burst."""

    waves: lattice.Phasors
    bursts: NDArray[np.intp]

    @classmethod
    def of(cls, pictures: lattice.Reals, bursts: NDArray[np.intp], units: tuple[float, float]) -> "_View":
        return cls(_normalised(lattice.measure(pictures, units)), bursts)

    def scores(self, patterns: tuple[lattice.Pattern, ...]) -> lattice.Reals:
        """float32 [2, 160, 160]: the log-likelihood of each sign and translation, whichever pattern each burst shows."""
        return _likelihoods(_summed(self.waves, self.bursts), patterns, lattice.PERIOD)

    def decode(
        self, patterns: tuple[lattice.Pattern, ...], place: tuple[int, int, int], key: bytes
    ) -> _Evidence | None:
        """At most two decodings, with the picture moved back by `place` = sign, y, x."""
        k = lattice.waves()
        sign = 1 - 2 * place[0]
        aligned = (
            sign * self.waves * np.exp(2j * np.pi / lattice.PERIOD * (k.ky * place[1] + k.kx * place[2]))
        )
        weights = _weights(aligned, self.bursts, patterns)
        total = _evidence(aligned, weights, patterns)
        found = _decoded(total, key, sign)
        if found is not None:
            return found
        for _ in range(_ROUNDS):
            weights = _weights_again(aligned, self.bursts, patterns, total)
            total = _evidence(aligned, weights, patterns)
        return _decoded(total, key, sign)


def _decoded(total: ecc.Signs, key: bytes, sign: int) -> _Evidence | None:
    payload = ecc.decode(total, key)
    if payload is None:
        return None
    agrees = total * ecc.encode(payload, key) > 0
    confidence = float(np.abs(total[agrees]).sum() / (np.abs(total).sum() + 1e-12))
    return _Evidence(payload, confidence, sign)


def _evidence(
    aligned: lattice.Phasors, weights: NDArray[np.float64], patterns: tuple[lattice.Pattern, ...]
) -> ecc.Signs:
    """float32 [512]: what all frames together say of each bit."""
    seen = [weights[:, index] @ aligned for index in range(len(patterns))]
    heard = _heard(seen, patterns)
    total = np.zeros(ecc.CODED_BITS, np.float32)
    for pattern, waves in zip(patterns, seen, strict=True):
        total += pattern.evidence(waves * heard)
    return total


def _weights_again(
    aligned: lattice.Phasors,
    bursts: NDArray[np.intp],
    patterns: tuple[lattice.Pattern, ...],
    total: ecc.Signs,
) -> NDArray[np.float64]:
    """float64 [t, p]: the same by all waves, taking the bits as far as they are known; what frames have in common, the
    picture standing still, counts against them.
    """
    bits = np.tanh(total / (np.sqrt(np.mean(total**2)) + 1e-12)).astype(np.float32)
    full = np.stack([p.coefficients(bits) / p.amplitudes for p in patterns]).conj()
    fits = (aligned @ full.T).real / np.sqrt((np.abs(full) ** 2).sum(1) / 2)
    alike = (aligned @ aligned.conj().T).real / aligned.shape[1]
    return np.asarray(np.linalg.solve(alike + np.eye(len(alike)), _told_apart(fits.astype(float), bursts)))


def _normalised(measured: lattice.Phasors) -> lattice.Phasors:
    """Unit noise ring by ring, and nothing louder than that allows."""
    rings = lattice.rings()
    power = np.bincount(rings, np.mean(np.abs(measured) ** 2, axis=0)) / np.maximum(np.bincount(rings), 1)
    waves = measured / np.sqrt(power[rings] + 1e-12)
    waves *= np.minimum(1.0, _LOUDEST / (np.abs(waves) + 1e-9))
    return np.asarray(waves, np.complex64)


def _summed(waves: lattice.Phasors, bursts: NDArray[np.intp]) -> lattice.Phasors:
    sums = np.zeros((bursts[-1] + 1, waves.shape[1]), np.complex64)
    np.add.at(sums, bursts, waves)
    return sums


def _likelihoods(sums: lattice.Phasors, patterns: tuple[lattice.Pattern, ...], grid: int) -> lattice.Reals:
    """float32 [2, grid, grid]: how well the bursts' waves [g, n] fit, by sign and translation."""
    k = lattice.waves()
    t = patterns[0].template
    spectra = np.zeros((len(sums), len(patterns), grid, grid // 2 + 1), np.complex64)
    for index, pattern in enumerate(patterns):
        spectra[:, index, k.ky[t] % grid, k.kx[t]] = sums[:, t] * pattern.phases[t].conj()
    fits = np.fft.irfft2(spectra, s=(grid, grid)).astype(np.float32)
    fits /= fits.std(axis=(2, 3), keepdims=True) + 1e-12
    np.clip(fits, -60.0, 60.0, out=fits)
    return np.stack([np.log(np.exp(sign * fits).mean(axis=1)).sum(axis=0) for sign in (1, -1)])


def _weights(
    aligned: lattice.Phasors, bursts: NDArray[np.intp], patterns: tuple[lattice.Pattern, ...]
) -> NDArray[np.float64]:
    """float64 [t, p]: how loudly each frame shows each pattern."""
    t = patterns[0].template
    fits = np.stack([(aligned[:, t] * p.phases[t].conj()).real.sum(1) for p in patterns], 1).astype(float)
    fits /= np.sqrt(len(t) / 2)
    return _told_apart(fits, bursts)


def _told_apart(fits: NDArray[np.float64], bursts: NDArray[np.intp]) -> NDArray[np.float64]:
    """float64 [t, p]: `fits`, in deviations, where their burst shows that pattern rather than another."""
    shown = np.zeros((bursts[-1] + 1, fits.shape[1]))
    np.add.at(shown, bursts, fits)
    shown /= np.sqrt(np.bincount(bursts))[:, None]
    shown = np.exp(shown - shown.max(axis=1, keepdims=True))
    shown /= shown.sum(axis=1, keepdims=True)
    return np.asarray(shown[bursts] * np.maximum(fits, 0.0))


def _heard(seen: list[lattice.Phasors], patterns: tuple[lattice.Pattern, ...]) -> lattice.Reals:
    """float32 [n]: how loudly each wave still speaks, judged by the template waves of about its number."""
    t = patterns[0].template
    said = sum(
        ((w[t] * p.phases[t].conj()).real for w, p in zip(seen, patterns, strict=True)),
        start=np.zeros(len(t)),
    )
    radius = lattice.waves().radius
    near = np.exp(-(((radius[:, None] - radius[t]) / _BAND) ** 2))
    level = (near @ said) / near.sum(1)
    return np.asarray(np.maximum(level, 0.15 * max(float(level.max()), 1e-12)), np.float32)


def _candidates(
    sums: lattice.Reals, first: lattice.Reals, patterns: tuple[lattice.Pattern, ...], units: float
) -> list["_Placed"]:
    """The moves whose templates fit best, best first."""
    spectra = geometry.Spectra.of(sums, first)
    tried: list[tuple[float, _Placed]] = []
    height, width = sums.shape[1:]
    for move in geometry.likely(spectra, units):
        for turn in geometry.symmetries():
            score = _likelihoods(_normalised(spectra.at(move, turn)), patterns, _GRID)
            _, y, x = _best(score)
            middle = -np.array([x, y]) * (lattice.PERIOD / _GRID)
            tried.append((float(score.max()), _Placed.of(move @ turn, middle, width, height)))
    tried.sort(key=lambda pair: -pair[0])
    return [placed for _, placed in tried[:_MOVES_TRIED]]


@dataclass(frozen=True, slots=True)
class _Placed:
    """Where canonical coordinates are thought to lie in the sampled pictures.

    `back` takes a pixel of a canvas in canonical coordinates, `units` wide, to a pixel of the picture.
    """

    back: Homography
    units: float
    canvas: tuple[int, int]
    width: int
    height: int

    @classmethod
    def of(cls, move: geometry.Move, middle: NDArray[np.float64], width: int, height: int) -> "_Placed":
        """By `move`, with the picture's centre at `middle` in canonical units."""
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        corners = np.array([(x, y) for x in (0, width - 1) for y in (0, height - 1)])
        spread = (corners - centre) @ np.linalg.inv(move).T + middle
        low = np.floor(spread.min(0) / lattice.PERIOD) * lattice.PERIOD
        units = float(np.clip(abs(np.linalg.det(move)) ** -0.5, *_UNITS))
        columns, rows = np.ceil((spread.max(0) - low) / units).astype(int)
        back = np.eye(3)
        back[:2, :2] = move * units
        back[:2, 2] = move @ (low + units / 2 - middle) + centre
        return cls(back, units, (int(rows), int(columns)), width, height)

    def brought_back(self, pictures: lattice.Reals) -> lattice.Reals:
        """float32 [t, rows, columns]: the pictures in canonical coordinates, nothing where they did not reach."""
        size = self.canvas[::-1]
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        return np.stack([cv2.warpPerspective(picture, self.back, size, flags=flags) for picture in pictures])

    def refined(self, sums: lattice.Reals, patterns: tuple[lattice.Pattern, ...]) -> "_Placed":
        placed = self
        for degrees in (6, 8):
            placed = placed._moved(_drift(placed, sums, patterns, degrees))
        return placed

    def _moved(self, drift: NDArray[np.float64]) -> "_Placed":
        rows, columns = self.canvas
        corners = np.array([(x, y) for x in (0.0, columns - 1.0) for y in (0.0, rows - 1.0)])
        there = corners - _displacement(drift, self.normal(corners)) / self.units
        turn = cv2.getPerspectiveTransform(corners.astype(np.float32), there.astype(np.float32))
        return _Placed(self.back @ turn, self.units, self.canvas, self.width, self.height)

    def normal(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        """`pixels` of the canvas, [b, 2], from its middle, its longer side from −1 to 1."""
        rows, columns = self.canvas
        return np.asarray((pixels - np.array([columns, rows]) / 2) / (max(rows, columns) / 2))

    def said(self, units: float) -> str:
        """How the picture was moved, in words; `units` is how wide its pixels would be unmoved."""
        move = self.back[:2, :2] / self.units * units
        words = []
        mirrored = np.linalg.det(move) < 0
        if mirrored:
            words.append("mirrored")
            move = move @ np.diag([-1.0, 1.0])
        angle = np.degrees(np.arctan2(move[1, 0] - move[0, 1], move[0, 0] + move[1, 1]))
        quarters = round(angle / 90) % 4
        if quarters:
            words.append(f"turned {90 * quarters}°")
        rest = (angle + 45) % 90 - 45
        if abs(rest) >= 0.25:
            words.append(f"rotated {rest:.1f}°")
        wide, tall = np.linalg.norm(move, axis=0)
        if abs(np.log(wide / tall)) > 0.02:
            words.append(f"stretched {wide / tall:.2f} times")
        scale = float(np.sqrt(wide * tall))
        if abs(scale - 1) > 0.01:
            words.append(f"enlarged {scale:.2f} times" if scale > 1 else f"reduced to {100 * scale:.0f} %")
        return ", ".join(words) or "shifted"


def _drift(
    placed: _Placed, sums: lattice.Reals, patterns: tuple[lattice.Pattern, ...], degrees: int
) -> NDArray[np.float64]:
    """The move that is still missing, by the template's phases in blocks of the picture."""
    pictures = placed.brought_back(sums)
    heard, centres, shift = _blocks(pictures, placed.units, patterns)
    k, t = lattice.waves(), patterns[0].template
    turns = 2 * np.pi / lattice.PERIOD * np.stack([k.kx[t], k.ky[t]], 1)
    basis = _basis(placed.normal(centres), degrees)
    # slopes[b, n, d]: how fast the phase of wave n in block b turns with each degree of freedom.
    slopes = np.einsum("nc,bcd->bnd", turns, basis)
    drift = np.zeros(degrees)
    drift[:2] = shift
    for _ in range(12):
        turned = heard * np.exp(-1j * (slopes @ drift))
        gradient = np.einsum("bn,bnd->d", turned.imag, slopes)
        bend = np.einsum("bn,bnd,bne->de", np.abs(turned), slopes, slopes)
        firm = bend + (0.02 * np.trace(bend) / degrees + 1e-9) * np.eye(degrees)
        drift = drift + np.linalg.solve(firm, gradient)
    return drift


def _blocks(
    pictures: lattice.Reals, units: float, patterns: tuple[lattice.Pattern, ...]
) -> tuple[NDArray[np.complex128], NDArray[np.float64], NDArray[np.float64]]:
    """What each block says of the template, complex128 [b, template]; the blocks' centres in pixels; a first guess."""
    k, t = lattice.waves(), patterns[0].template
    whole = _normalised(lattice.measure(pictures, (units, units)))
    sign, y, x = _best_near_origin(_likelihoods(whole, patterns, lattice.PERIOD))
    shift = np.exp(2j * np.pi / lattice.PERIOD * (k.ky * y + k.kx * x))
    weights = _weights((1 - 2 * sign) * whole * shift, np.arange(len(pictures)), patterns)
    _, rows, columns = pictures.shape
    down, across = (max(1, round(side * units / _BLOCK)) for side in (rows, columns))
    heard, centres = [], []
    for top, bottom in _cuts(rows, down):
        for left, right in _cuts(columns, across):
            part = np.ascontiguousarray(pictures[:, top:bottom, left:right])
            waves = lattice.measure(part, (units, units))
            waves = waves * np.exp(-2j * np.pi / lattice.PERIOD * units * (k.ky * top + k.kx * left))
            said = sum(
                (weights[:, i] @ waves[:, t] * p.phases[t].conj() for i, p in enumerate(patterns)),
                start=np.zeros(len(t), np.complex128),
            )
            heard.append((1 - 2 * sign) * said)
            centres.append(((left + right - 1) / 2, (top + bottom - 1) / 2))
    every = np.array(heard)
    every /= np.sqrt(np.mean(np.abs(every) ** 2, axis=0)) + 1e-12
    return every, np.array(centres), np.array([-x, -y], np.float64)


def _cuts(length: int, parts: int) -> list[tuple[int, int]]:
    edges = np.linspace(0, length, parts + 1).astype(int)
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))


def _basis(places: NDArray[np.float64], degrees: int) -> NDArray[np.float64]:
    """float64 [b, 2, degrees]: displacement at `places` [b, 2] by shift, affine and perspective parts."""
    x, y = places.T
    one, none = np.ones_like(x), np.zeros_like(x)
    across = [one, none, x, y, none, none, x * x, x * y]
    down = [none, one, none, none, x, y, x * y, y * y]
    return np.stack([np.stack(across[:degrees], -1), np.stack(down[:degrees], -1)], axis=1)


def _displacement(drift: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 [b, 2], canonical units."""
    return np.asarray(_basis(places, len(drift)) @ drift)


def _best(score: lattice.Reals) -> tuple[int, int, int]:
    sign, y, x = np.unravel_index(int(np.argmax(score)), score.shape)
    return int(sign), int(y), int(x)


def _best_near_origin(score: lattice.Reals, reach: int = 2) -> tuple[int, int, int]:
    near = np.arange(-reach, reach + 1)
    sign, y, x = _best(score[np.ix_(np.arange(2), near, near)])
    return sign, y - reach, x - reach
