"""Finding the mark: sample, whiten, correlate with the key's templates, weigh, decode.

1. **Sample.** Bursts of 4 consecutive frames, at most 12 of them, spread over however long the clip is by doubling
   the distance between bursts and forgetting every other one: memory is bounded, and no burst is longer than a
   segment of the mark.
2. **Whiten.** Luma at 240 lines, minus its local mean, over its local deviation^1.5: where the picture is loud the
   mark is hidden, so those pixels count little.
3. **Correlate.** The lattice waves are measured, brought to unit noise ring by ring, and each burst is compared with
   the four templates at every translation (one FFT). A translation's score adds up, over the bursts, how well *some*
   pattern fits: the detector need not know where in the cycle an excerpt begins.
4. **Weigh and decode.** Each frame counts with the amplitude of its template, so key frames speak louder than the
   frames an encoder starved. First with almost no translation, then with the best one; then at the scales a crop
   produces.

The number of decodings is at most :data:`MAX_ATTEMPTS`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ledger.errors import MediaError
from ledger.provenance.watermark import ecc, lattice
from ledger.provenance.watermark.embed import Frame, check_frame, check_key, luma, unfit

BURST_FRAMES: Final = 4
MAX_BURSTS: Final = 12
_WORKING_SIDE: Final = 240
_LOCAL_RADIUS: Final = 3
_DEVIATION_FLOOR: Final = 1.0
_LOUDEST: Final = 2.5
"""A wave louder than this many deviations belongs to the picture (a fence, a line of text) and is held down."""
_SCALES: Final = tuple(1.008**-step for step in range(1, 84))
"""Cropping to a share c of the short side makes the picture's units c times as wide: down to about one half."""
_SCALES_TRIED: Final = 3
MAX_ATTEMPTS: Final = 2 + _SCALES_TRIED


@dataclass(frozen=True, slots=True)
class Detected:
    """A payload whose 40 check bits match.

    `confidence` is the share of the soft evidence that agrees with the decoded word, 0–1: pure noise would score
    about 0.7, a fresh mark nearly 1. It says how worn the mark is, not how likely the payload is wrong.
    """

    payload: bytes
    confidence: float


@dataclass(frozen=True, slots=True)
class NotDetected:
    reason: str


@dataclass(frozen=True, slots=True)
class Sampled:
    """What is left of a clip to look for any mark in. bursts: the burst of each picture, int [t]; residuals: the
    whitened pictures, float32 [t, h, w].
    """

    bursts: NDArray[np.intp]
    residuals: lattice.Reals


def detect(frames: Iterable[Frame], key: bytes) -> Detected | NotDetected:
    """The payload marked into `frames` under `key`, if there is one. Raises MediaError on what are not frames."""
    check_key(key)
    return find(sample(frames), key)


def find(sampled: Sampled | NotDetected, key: bytes) -> Detected | NotDetected:
    """The payload marked under `key` into what was sampled, if there is one."""
    check_key(key)
    if isinstance(sampled, NotDetected):
        return sampled
    bursts, residuals = sampled.bursts, sampled.residuals
    patterns = lattice.patterns(key)
    units = lattice.CANONICAL_SIDE / _WORKING_SIDE

    view = _View.of(residuals, bursts, units)
    score = view.scores(patterns, lattice.PERIOD)
    for shift in (_best_near_origin(score), _best(score)):
        if (found := view.decode(patterns, shift, key)) is not None:
            return found
    for scale in _likely_scales(residuals, bursts, patterns, units):
        view = _View.of(residuals, bursts, units * scale)
        shift = _best(view.scores(patterns, lattice.PERIOD))
        if (found := view.decode(patterns, shift, key)) is not None:
            return found
    return NotDetected(f"no payload's check bits matched in `{len(residuals)}` sampled frames")


def sample(frames: Iterable[Frame]) -> Sampled | NotDetected:
    """What any key's mark can be looked for in. Needs no key. Raises MediaError on what are not frames."""
    kept: dict[int, list[lattice.Reals]] = {}
    spacing, shape = BURST_FRAMES, None
    for index, frame in enumerate(frames):
        check_frame(frame)
        if shape is None:
            shape = frame.shape
            if (reason := unfit(shape[1], shape[0])) is not None:
                return NotDetected(reason)
        if frame.shape != shape:
            raise MediaError("watermark.frame", f"frame `{index}` is `{frame.shape}` in a clip of `{shape}`")
        if index % spacing >= BURST_FRAMES:
            continue
        if index % spacing == 0:
            if len(kept) == MAX_BURSTS:
                spacing *= 2
                kept = {start: burst for start, burst in kept.items() if start % spacing == 0}
                if index % spacing:
                    continue
            kept[index] = []
        kept[index - index % spacing].append(_residual(frame))
    if not kept:
        return NotDetected("there are no frames")
    bursts = np.repeat(np.arange(len(kept)), [len(burst) for burst in kept.values()])
    return Sampled(bursts, np.stack([picture for burst in kept.values() for picture in burst]))


def _residual(frame: Frame) -> lattice.Reals:
    """float32 [h, w]: the whitened luma, its short side 240 pixels."""
    picture = Image.fromarray(np.asarray(luma(frame), np.float32))
    scale = _WORKING_SIDE / min(picture.size)
    width, height = (round(side * scale) for side in picture.size)
    level = np.asarray(picture.resize((width, height), Image.Resampling.HAMMING))
    detail = level - _local_mean(level)
    power = _local_mean(detail * detail) + _DEVIATION_FLOOR**2
    return np.asarray(detail * power**-0.75, np.float32)


def _local_mean(pixels: lattice.Reals) -> lattice.Reals:
    """The mean of the (2r+1)² pixels around each."""
    r, size = _LOCAL_RADIUS, 2 * _LOCAL_RADIUS + 1
    for _ in range(2):
        padded = np.pad(pixels, ((r, r), (0, 0)), mode="edge")
        total = padded[: len(pixels)].copy()
        for offset in range(1, size):
            total += padded[offset : offset + len(pixels)]
        pixels = np.ascontiguousarray(total.T)
    return pixels / np.float32(size * size)


@dataclass(frozen=True, slots=True)
class _View:
    """The waves of the sampled frames at one assumed scale: complex64 [t, n], unit noise; and each frame's burst."""

    waves: lattice.Phasors
    bursts: NDArray[np.intp]

    @classmethod
    def of(cls, residuals: lattice.Reals, bursts: NDArray[np.intp], units: float) -> "_View":
        measured = lattice.measure(residuals, units)
        rings = lattice.radii()
        power = np.bincount(rings, np.mean(np.abs(measured) ** 2, axis=0)) / np.maximum(np.bincount(rings), 1)
        waves = measured / np.sqrt(power[rings] + 1e-12)
        waves *= np.minimum(1.0, _LOUDEST / (np.abs(waves) + 1e-9))
        return cls(waves.astype(np.complex64), bursts)

    def correlate(self, patterns: tuple[lattice.Pattern, ...], grid: int) -> lattice.Reals:
        """float32 [burst, pattern, grid, grid]: each template's fit at each translation, in deviations of the map."""
        k = lattice.waves()
        sums = np.zeros((self.bursts[-1] + 1, len(k)), np.complex64)
        np.add.at(sums, self.bursts, self.waves)
        spectra = np.zeros((len(sums), len(patterns), grid, grid // 2 + 1), np.complex64)
        for index, pattern in enumerate(patterns):
            t = pattern.template
            spectra[:, index, k.ky[t] % grid, k.kx[t]] = sums[:, t] * pattern.phases[t].conj()
        spectra[..., 0] *= 2.0  # the real transform halves nothing in its first column
        fits = np.fft.irfft2(spectra, s=(grid, grid))
        return np.asarray(fits / (fits.std(axis=(2, 3), keepdims=True) + 1e-12), np.float32)

    def scores(self, patterns: tuple[lattice.Pattern, ...], grid: int) -> lattice.Reals:
        """float32 [grid, grid]: the log-likelihood of each translation, whichever pattern each burst shows."""
        fits = self.correlate(patterns, grid)
        return np.asarray(np.log(np.exp(np.minimum(fits, 60.0)).mean(axis=1)).sum(axis=0), np.float32)

    def decode(
        self, patterns: tuple[lattice.Pattern, ...], shift: tuple[int, int], key: bytes
    ) -> Detected | None:
        """One decoding, with the picture moved back by `shift` units."""
        k = lattice.waves()
        aligned = self.waves * np.exp(2j * np.pi / lattice.PERIOD * (k.ky * shift[0] + k.kx * shift[1]))
        # fits[t, p]: frame t's agreement with template p; pure noise has deviation 1.
        fits = np.stack(
            [(aligned[:, p.template] * p.phases[p.template].conj()).real.sum(1) for p in patterns], 1
        )
        fits /= np.sqrt(lattice.TEMPLATE_WAVES / 2)
        shown = np.zeros((self.bursts[-1] + 1, len(patterns)))
        np.add.at(shown, self.bursts, fits)
        shown /= np.sqrt(np.bincount(self.bursts))[:, None]
        shown = np.exp(shown - shown.max(axis=1, keepdims=True))
        shown /= shown.sum(axis=1, keepdims=True)
        weights = shown[self.bursts] * np.maximum(fits, 0.0)
        evidence = sum(
            (pattern.evidence(weights[:, index] @ aligned) for index, pattern in enumerate(patterns)),
            start=np.zeros(ecc.CODED_BITS, np.float32),
        )
        payload = ecc.decode(evidence, key)
        if payload is None:
            return None
        agrees = evidence * ecc.encode(payload, key) > 0
        return Detected(payload, float(np.abs(evidence[agrees]).sum() / (np.abs(evidence).sum() + 1e-12)))


def _likely_scales(
    residuals: lattice.Reals, bursts: NDArray[np.intp], patterns: tuple[lattice.Pattern, ...], units: float
) -> list[float]:
    """The crops whose templates fit best, looked for in the sum of each burst."""
    sums = np.stack([residuals[bursts == burst].sum(0) for burst in range(bursts[-1] + 1)])
    each = np.arange(len(sums))
    best = [
        _View.of(sums, each, units * scale).scores(patterns, lattice.PERIOD // 2).max() for scale in _SCALES
    ]
    return [_SCALES[index] for index in np.argsort(best)[::-1][:_SCALES_TRIED]]


def _best(score: lattice.Reals) -> tuple[int, int]:
    y, x = np.unravel_index(int(np.argmax(score)), score.shape)
    return int(y), int(x)


def _best_near_origin(score: lattice.Reals, reach: int = 2) -> tuple[int, int]:
    near = np.arange(-reach, reach + 1)
    y, x = _best(score[np.ix_(near, near)])
    return y - reach, x - reach
