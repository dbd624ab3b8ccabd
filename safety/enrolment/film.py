"""What there is to see and hear in a film of a person: measured once, judged elsewhere (:mod:`~safety.enrolment.checks`).

Everything is read in one pass over the file, frame by frame; kept are small pictures, points and numbers. This runs
in a worker process: the file is a stranger's. Nothing here says who anybody is but `templates`, which leave the
worker for the comparison with those enrolled, and are never written down.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ledger.provenance import media
from safety.faces import Box, find_faces, find_points

Picture = NDArray[np.uint8]
Numbers = NDArray[np.float64]
Sound = NDArray[np.float32]

MOST_S: Final = 60.0
RATE: Final = 16_000
"""Samples a second of what is heard."""
SAMPLED_S: Final = 1 / 15
"""Lips move four or five times a second: frames are looked at three times as often."""
SOUGHT_EVERY: Final = 4
RECOGNISED_S: Final = 1.5
"""How often the whole picture is searched for faces, and the one there is measured."""
_THUMB: Final = 48
_CROP: Final = 72
_SIDE: Final = 360
"""Pictures are tracked with a short side of this many pixels: landmarks are found to about one."""
_PATCH: Final = 256
_AWAY: Final = 0.09
_HELD: Final = 0.05
LEAST_PX: Final = 80
_POINTS: Final = 120
_FEW: Final = 16


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A film as numbers; n sampled frames, m frames in all. Times in seconds from its first frame."""

    seconds: float
    at_s: Numbers
    """[n]"""
    yaw: Numbers
    """[n] How far the nose stands from the middle between the eyes, in eye distances, towards the right of the
    picture: what a head turned to its own left does, unless the film is mirrored. Not a number where no face is."""
    mouth: Numbers
    """[n] How much the lower face moved, and is not as it mostly is, beyond what the upper did; each in its deviations."""
    skin: Numbers
    """[n, 3] The face's mean colour, RGB."""
    crowd: NDArray[np.int64]
    """[k] How many recognisable faces, of at least half the size of the largest, in each searched frame."""
    templates: Numbers = field(repr=False)
    """[j, 128] Of each frame with one face seen from the front."""
    depth: Numbers
    """[t] For each turn that could be followed: what no flat picture turned can explain, in eye distances."""
    changes: Numbers
    """[m - 1] How much the picture changed from each frame to the next, in grey levels."""
    steps_s: Numbers
    """[m - 1] The time between them."""
    again: float
    """The longest stretch that was shown twice, seconds."""
    light: Numbers
    """[m] Mean brightness of each frame."""
    peaks: float
    """How far the strongest fine periodic pattern stands above what is beside it; a moiré has one, skin has not."""
    edges: int
    """Of four straight edges around the picture in the picture, how many there are: a screen has them, or a print."""
    width_px: int
    """Of the face."""


def listen(path: Path) -> Sound:
    """What is heard: mono, from the first picture on; nothing where there is no sound. Raises MediaError."""
    heard = media.sound(path, rate_hz=RATE, max_seconds=MOST_S)
    if heard is None:
        return np.zeros(0, np.float32)
    # What is heard before the first picture goes; a late beginning is silence.
    start = round(heard.starts_s * RATE)
    middle = np.asarray(np.nan_to_num(heard.samples[0]), np.float32)
    if start < 0:
        return middle[-start:]
    return np.concatenate([np.zeros(min(start, round(MOST_S * RATE)), np.float32), middle])


def watch(path: Path) -> Seen:
    """Look at every frame once. Raises MediaError, CheckUnavailable."""
    eye = _Eye()
    for at_s, picture in media.frames(path):
        eye.take(at_s, picture)
    return eye.seen()


class _Eye:
    def __init__(self) -> None:
        self._at: list[float] = []
        self._times: list[float] = []
        self._thumbs: list[NDArray[np.float32]] = []
        self._light: list[float] = []
        self._greys: list[Picture] = []
        self._points: list[Numbers | None] = []
        self._skin: list[tuple[float, float, float]] = []
        self._crowd: list[int] = []
        self._templates: list[Numbers] = []
        self._spectra: list[Numbers] = []
        self._changes: list[float] = []
        self._box: Box | None = None
        self._width_px = 0
        self._sampled_due = self._search_due = 0.0

    def take(self, at_s: float, picture: Picture) -> None:
        grey = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)
        thumb = np.asarray(cv2.resize(grey, (_THUMB, _THUMB), interpolation=cv2.INTER_AREA), np.float32)
        self._light.append(float(thumb.mean()))
        if self._thumbs:
            self._changes.append(float(np.abs(thumb - self._thumbs[-1]).mean()))
        self._thumbs.append(thumb)
        self._times.append(at_s)
        if at_s + 1e-6 >= self._sampled_due:
            self._sampled_due = at_s + SAMPLED_S * 0.9
            self._sample(at_s, picture, grey)

    def _sample(self, at_s: float, picture: Picture, grey: Picture) -> None:
        scale = _SIDE / min(picture.shape[:2])
        small = np.asarray(
            cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
        )
        found = self._found(small)
        self._at.append(at_s)
        self._greys.append(np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8))
        if found is None:
            self._points.append(None)
            self._skin.append((np.nan,) * 3)
        else:
            self._box, points = found
            self._points.append(points)
            self._skin.append(_colour(small, self._box))
        if at_s + 1e-6 >= self._search_due:
            self._search_due = at_s + RECOGNISED_S
            self._search(picture, grey)

    def _found(self, small: Picture) -> tuple[Box, Numbers] | None:
        """Sought in every third sample; between those its points are only followed."""
        if self._box is not None and self._points[-1] is not None:
            sure = len(self._points) % SOUGHT_EVERY != 0
            found = find_points(small, self._box, sure=sure)
            if found is not None and sure:
                moved = np.rint((found[1] - self._points[-1])[:4].mean(axis=0)).astype(int)
                (top, right, bottom, left), points = found
                x, y = int(moved[0]), int(moved[1])
                return (top + y, right + x, bottom + y, left + x), points
            if found is not None:
                return found
        return find_points(small)

    def _search(self, picture: Picture, grey: Picture) -> None:
        """The whole picture, slowly."""
        faces = [one for one in find_faces(_at_most(picture, 720)) if one.recognisable]
        largest = max((one.width_px for one in faces), default=0)
        near = [one for one in faces if one.width_px * 2 >= largest]
        self._crowd.append(len(near))
        if len(near) == 1:
            self._width_px = max(self._width_px, near[0].width_px)
            if near[0].frontal:
                self._templates.append(near[0].template)
        self._spectra.append(_spectrum(grey))

    def seen(self) -> Seen:
        yaw = np.array([np.nan if one is None else _yaw(one) for one in self._points])
        return Seen(
            seconds=self._times[-1] if self._times else 0.0,
            at_s=np.array(self._at),
            yaw=yaw,
            mouth=self._mouth(),
            skin=np.array(self._skin, np.float64).reshape(-1, 3),
            crowd=np.array(self._crowd, np.int64),
            templates=np.array(self._templates, np.float64).reshape(-1, 128),
            depth=np.array(list(self._depths(yaw)), np.float64),
            changes=np.array(self._changes),
            steps_s=np.diff(np.array(self._times)),
            again=_again(np.array(self._thumbs), np.array(self._times)),
            light=np.array(self._light),
            peaks=_peak(self._spectra),
            edges=_edges(self._greys),
            width_px=self._width_px,
        )

    def _mouth(self) -> Numbers:
        """Of faces laid over each other, by their eyes and nose first, then by all of the upper face."""
        crops = [
            None if points is None else _straight(grey, points)
            for grey, points in zip(self._greys, self._points, strict=True)
        ]
        known = [one for one in crops if one is not None]
        if not known:
            return np.zeros(len(crops))
        usual = np.median(np.stack(known[:: max(1, len(known) // 60)]), axis=0).astype(np.float32)
        laid = [None if one is None else _laid_over(one, usual) for one in crops]
        moved, apart = np.zeros(len(laid)), np.zeros(len(laid))
        before: NDArray[np.float32] | None = None
        for place, now in enumerate(laid):
            if now is not None:
                apart[place] = _below(np.abs(now - usual))
                moved[place] = _below(np.abs(now - before)) if before is not None else 0.0
            before = now
        return moved / max(float(moved.std()), 1e-6) + apart / max(float(apart.std()), 1e-6)

    def _depths(self, yaw: Numbers) -> Iterator[float]:
        """Of the turns, by following points on the face from before each until it is widest."""
        steady = yaw - np.nanmedian(yaw) if np.isfinite(yaw).any() else yaw
        for first, last in _turns(steady):
            start, points = first, self._points[first]
            if points is None:
                continue
            moved = _followed(self._greys[start : last + 1], points)
            if moved is not None:
                yield moved


def _turns(yaw: Numbers) -> Iterator[tuple[int, int]]:
    """From the last frame that looks ahead to the one farthest away, for each time the head goes there."""
    place = 0
    while place < len(yaw):
        if not abs(yaw[place]) >= _AWAY:
            place += 1
            continue
        end = place
        while end + 1 < len(yaw) and not abs(yaw[end + 1]) < _HELD:
            end += 1
        ahead = [one for one in range(max(0, place - 12), place) if abs(yaw[one]) < _HELD]
        if ahead:
            away = np.where(np.isfinite(yaw[place : end + 1]), np.abs(yaw[place : end + 1]), 0)
            yield ahead[-1], place + int(away.argmax())
        place = end + 1


def _yaw(points: Numbers) -> float:
    one, other, nose = points[0:2].mean(axis=0), points[2:4].mean(axis=0), points[4]
    across = one - other
    return float(np.dot(nose - other, across) / max(np.dot(across, across), 1e-9)) - 0.5


def _colour(picture: Picture, box: Box) -> tuple[float, float, float]:
    """Of the cheeks and the nose: the middle of the face."""
    top, right, bottom, left = box
    height, width = bottom - top, right - left
    middle = picture[
        max(0, top + height * 4 // 10) : bottom - height * 2 // 10,
        max(0, left + width // 4) : right - width // 4,
    ]
    if not middle.size:
        return (np.nan,) * 3
    red, green, blue = middle.reshape(-1, 3).mean(axis=0)
    return float(red), float(green), float(blue)


# Lips ---------------------------------------------------------------------------------------------------

_LIPS: Final = np.s_[46:70, 20:52]
_UPPER: Final = np.s_[8:46, 10:62]
_MODEL: Final = np.array([[52.0, 24.0], [20.0, 24.0], [36.0, 42.0]])
"""Where the eyes and the nose come to lie in the crop."""


def _straight(grey: Picture, points: Numbers) -> NDArray[np.float32]:
    marks = np.stack([points[0:2].mean(axis=0), points[2:4].mean(axis=0), points[4]])
    move: Any = cv2.estimateAffinePartial2D(marks, _MODEL, method=cv2.LMEDS)[0]
    if move is None:
        return np.zeros((_CROP, _CROP), np.float32)
    crop = cv2.warpAffine(grey, move, (_CROP, _CROP), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.GaussianBlur(crop, (5, 5), 0), np.float32)


def _laid_over(crop: NDArray[np.float32], usual: NDArray[np.float32]) -> NDArray[np.float32]:
    """Points are found to about a pixel, which is as much as lips move: the rest is found from the pixels."""
    enough = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)
    try:
        move = cv2.findTransformECC(
            np.ascontiguousarray(usual[_UPPER]),
            np.ascontiguousarray(crop[_UPPER]),
            np.eye(2, 3, dtype=np.float32),
            cv2.MOTION_AFFINE,
            enough,
            None,  # type: ignore[arg-type]
            3,
        )[1]
    except cv2.error:  # too unlike, as a head turned away is
        return crop
    corner = np.array([_UPPER[1].start, _UPPER[0].start], np.float32)
    turn = np.asarray(move, np.float32)
    turn[:, 2] += corner - turn[:, :2] @ corner
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(crop, turn, (_CROP, _CROP), flags=flags, borderMode=cv2.BORDER_REPLICATE), np.float32
    )


def _below(change: NDArray[np.float32]) -> float:
    """How much more the lower face changed than the upper."""
    return float(change[_LIPS].mean() - change[_UPPER].mean())


# Depth --------------------------------------------------------------------------------------------------


def _followed(greys: list[Picture], points: Numbers) -> float | None:
    """What of the movement of points on a face is left when the best movement of a flat picture is taken away.

    The root mean square in eye distances; None where too few points could be followed.
    """
    one, other, nose = points[0:2].mean(axis=0), points[2:4].mean(axis=0), points[4]
    apart = float(np.hypot(*(one - other)))
    centre = (one + other) / 2 * 0.5 + nose * 0.5
    mask = np.zeros_like(greys[0])
    cv2.ellipse(
        mask,
        (round(centre[0]), round(centre[1] + apart * 0.15)),
        (max(1, round(apart * 0.95)), max(1, round(apart * 1.2))),
        0, 0, 360, 255, -1,
    )  # fmt: skip
    found = cv2.goodFeaturesToTrack(greys[0], _POINTS, 0.005, max(3, apart / 16), mask=mask)
    if found is None or len(found) < _FEW:
        return None
    start = there = found.reshape(-1, 1, 2).astype(np.float32)
    for before, after in itertools.pairwise(greys):
        there, kept = _step(before, after, there)
        start, there = start[kept], there[kept]
        if len(there) < _FEW:
            return None
    flat: Any = cv2.findHomography(start, there, 0)[0]
    if flat is None:
        return None
    left = cv2.perspectiveTransform(start, flat) - there
    away = np.sort(np.square(left).sum(axis=2).ravel())
    # A tenth slipped off the face, or along an edge.
    return float(np.sqrt(away[: max(_FEW, len(away) * 9 // 10)].mean()) / apart)


def _step(
    before: Picture, after: Picture, points: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Where the points are next, and which of them come back when followed backwards."""
    window = (15, 15)
    there, ok, _ = cv2.calcOpticalFlowPyrLK(before, after, points, points.copy(), winSize=window, maxLevel=2)
    back, _, _ = cv2.calcOpticalFlowPyrLK(after, before, there, there.copy(), winSize=window, maxLevel=2)
    kept = (np.abs(back - points).max(axis=2) < 0.7).ravel() & (ok.ravel() == 1)
    return np.asarray(there, np.float32), kept


# The camera ---------------------------------------------------------------------------------------------


def _again(thumbs: NDArray[np.float32], times_s: Numbers) -> float:
    """The longest stretch that was shown before, to the grain: no hand and no sensor does that. Seconds."""
    if len(thumbs) < 3:
        return 0.0
    step = max(1, len(thumbs) // 450)
    flat = thumbs[::step].reshape(-1, _THUMB * _THUMB)
    moving = np.abs(np.diff(flat, axis=0)).mean(axis=1)
    longest, seconds = 0, float(times_s[-1]) / max(1, len(flat) - 1)
    for lag in range(max(2, round(1 / max(seconds, 1e-6))), len(flat)):
        same = np.abs(flat[lag:] - flat[:-lag]).mean(axis=1) < 0.45 * np.maximum(
            np.append(moving, 0)[lag:], 0.5
        )
        longest = max(longest, _run(same & (np.append(moving, 0)[lag:] > 0.25)))
    return longest * seconds


def _run(marks: NDArray[np.bool_]) -> int:
    """The longest unbroken one."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], marks.astype(np.int8), [0]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _spectrum(grey: Picture) -> Numbers:
    """Of the middle of the picture at its own size: a screen's lines are as fine as the camera's."""
    side = min(_PATCH, *grey.shape)
    top, left = (grey.shape[0] - side) // 2, (grey.shape[1] - side) // 2
    patch = grey[top : top + side, left : left + side].astype(np.float64)
    fine = patch - cv2.GaussianBlur(patch, (0, 0), 3)
    window = np.outer(np.hanning(side), np.hanning(side))
    return np.asarray(np.abs(np.fft.fftshift(np.fft.fft2(fine * window))), np.float64)


def _peak(spectra: list[Numbers]) -> float:
    """The strongest place of the mean spectrum over the median around it, away from the axes, where codecs stand."""
    if not spectra:
        return 0.0
    mean = np.mean(spectra, axis=0)
    half = mean.shape[0] // 2
    y, x = np.mgrid[-half : mean.shape[0] - half, -half : mean.shape[1] - half]
    around = cv2.medianBlur(mean.astype(np.float32), 5)
    for _ in range(2):
        around = cv2.medianBlur(around, 5)
    ring = (np.hypot(x, y) > half * 0.2) & (np.hypot(x, y) < half * 0.95) & (np.abs(x) > 3) & (np.abs(y) > 3)
    # Codecs work in blocks of eight: their harmonics are no screen's.
    ratio = mean / np.maximum(around, np.median(mean[ring]) * 0.5)
    return float(ratio[ring].max())


def _edges(greys: list[Picture]) -> int:
    """Straight edges that stay where they are, around the face, with darkness outside."""
    if not greys or len({one.shape for one in greys}) != 1:
        return 0
    still = np.median(np.stack(greys[:: max(1, len(greys) // 15)]), axis=0).astype(np.float32)
    return sum(_bezel(side) for side in (still, still[::-1], still.T, still.T[::-1]))


def _bezel(picture: NDArray[np.float32]) -> bool:
    """Whether the picture's top is a dark, even border that ends in one straight line."""
    band = picture[: picture.shape[0] // 4]
    dark = (np.quantile(band, 0.8, axis=1) < 45) & (band.std(axis=1) < 14)
    if not dark[:2].all():
        return False
    ends = int(np.argmin(dark)) if not dark.all() else len(dark)
    if ends >= len(dark) - 1:
        return False
    below = picture[ends + 2 : ends + 8].mean(axis=0) - picture[max(0, ends - 4) : ends].mean(axis=0)
    return bool(np.mean(below > 6) > 0.6)


def _at_most(picture: Picture, short_px: int) -> Picture:
    scale = short_px / min(picture.shape[:2])
    if scale >= 1:
        return picture
    return np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
