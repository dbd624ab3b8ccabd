"""Laying the mark over frames: as strong as the picture around hides it, never stronger.

Strength is set per cell of 8×8 canonical units: a floor for smooth areas, growing with the root of the local activity
(mean distance from a local mean, so gradients count as smooth), taken from the calmest neighbouring cell so that no
grain spills from an edge into a flat wall, lowered towards black and white, and scaled down where a whole frame would
exceed the overall limit. The same grey step goes to R, G and B: colour stays untouched.

The pattern changes every 24 frames and fades into the next over the last six, so that nothing pops. Order and sign of
the patterns depend on the payload.
"""

import hashlib
import hmac
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ledger.errors import MediaError, ProvenanceError
from ledger.provenance.watermark import ecc, lattice

MIN_SIDE: Final = 144
MAX_ASPECT: Final = 4.0
SEGMENT_FRAMES: Final = 24
_FADE_FRAMES: Final = 6

_FLOOR: Final = 0.56
_SLOPE: Final = 0.7
_QUIET_ACTIVITY: Final = 0.2
_RMS_LIMIT: Final = 1.39
_SHARE: Final = 1.3
_CELL: Final = 8
_AROUND: Final = np.ones((3, 3), np.uint8)

Frame = NDArray[np.uint8]
"""uint8 [h, w, 3], RGB, 0–255."""


class Embedder:
    """Marks the frames of one clip with `payload`. `index` is a frame's place in the clip.

    A frame depends on nothing but itself and its index; the patterns of the current segment are kept, so frames in order
    are cheap. Not to be shared between threads.
    """

    def __init__(self, key: bytes, payload: bytes, *, width: int, height: int) -> None:
        check_key(key)
        if len(payload) != ecc.PAYLOAD_BYTES:
            raise ProvenanceError(
                "watermark.payload",
                f"a payload has `{ecc.PAYLOAD_BYTES}` bytes; this one has `{len(payload)}`",
            )
        if (reason := unfit(width, height)) is not None:
            raise MediaError("watermark.size", reason, "render at a size the watermark can hold")
        signs = ecc.encode(payload, key)
        patterns = lattice.patterns(key)
        order, sign = arrangement(key, payload)
        self._shape = (height, width, 3)
        self._coefficients = [np.complex64(sign) * patterns[i].coefficients(signs) for i in order]
        self._fields: dict[int, lattice.Reals] = {}

    def __call__(self, frame: Frame, index: int) -> Frame:
        check_frame(frame)
        if frame.shape != self._shape:
            raise MediaError(
                "watermark.frame", f"a frame is `{frame.shape}`; this clip's frames are `{self._shape}`"
            )
        if index < 0:
            raise MediaError("watermark.frame", f"frame index `{index}` is negative")
        step = strength(luma(frame))
        step *= self._field(index)
        grey = np.rint(step, out=step).astype(np.int16)
        return np.asarray(cv2.add(frame, cv2.merge([grey, grey, grey]), dtype=cv2.CV_8U), np.uint8)

    def _field(self, index: int) -> lattice.Reals:
        segment, place = divmod(index, SEGMENT_FRAMES)
        now = self._pattern(segment % lattice.PATTERNS)
        faded = place - (SEGMENT_FRAMES - _FADE_FRAMES) + 1
        if faded <= 0:
            return now
        angle = np.pi / 2 * faded / (_FADE_FRAMES + 1)
        after = self._pattern((segment + 1) % lattice.PATTERNS)
        return np.asarray(cv2.addWeighted(now, np.cos(angle), after, np.sin(angle), 0.0), np.float32)

    def _pattern(self, which: int) -> lattice.Reals:
        if which not in self._fields:
            if len(self._fields) == 2:
                self._fields.pop(next(iter(self._fields)))
            height, width, _ = self._shape
            self._fields[which] = lattice.field(self._coefficients[which], height, width)
        return self._fields[which]


def arrangement(key: bytes, payload: bytes) -> tuple[list[int], int]:
    """The order of the patterns in this clip, and their sign.

    Were they the same in all clips, the first seconds of many could be averaged; with the sign they add up to nothing.
    """
    draws = hmac.digest(key, b"countersign/watermark/v2/order\x00" + payload, hashlib.sha256)
    order = sorted(range(lattice.PATTERNS), key=lambda i: (draws[i], i))
    return order, 1 - 2 * (draws[lattice.PATTERNS] & 1)


def unfit(width: int, height: int, *, least: int = MIN_SIDE) -> str | None:
    """Why a picture of this size cannot carry the mark, or None."""
    if min(width, height) < least:
        return f"`{width}×{height}` is too small: the short side needs `{least}` pixels"
    if max(width, height) > MAX_ASPECT * min(width, height):
        return f"`{width}×{height}` is too narrow: at most `{MAX_ASPECT:g}` to 1"
    return None


def check_key(key: bytes) -> None:
    if len(key) != lattice.KEY_BYTES:
        raise ProvenanceError(
            "watermark.key", f"a watermark key has `{lattice.KEY_BYTES}` bytes; this one has `{len(key)}`"
        )


def check_frame(frame: Frame) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise MediaError(
            "watermark.frame", f"a frame must be uint8 [h, w, 3], not `{frame.dtype}` `{list(frame.shape)}`"
        )


def luma(frame: Frame) -> NDArray[np.uint8]:
    """uint8 [h, w]."""
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8)


def strength(picture: NDArray[np.uint8]) -> lattice.Reals:
    """float32 [h, w]: the mark's deviation in grey levels at each pixel of a greyscale `picture`."""
    height, width = picture.shape
    scale = lattice.CANONICAL_SIDE / min(picture.shape)
    rows, columns = (max(1, round(side * scale / _CELL)) for side in picture.shape)
    level = cv2.resize(
        picture,
        (columns * _CELL, rows * _CELL),
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
    )
    detail = cv2.absdiff(level, cv2.blur(level, (9, 9)))
    activity = cv2.erode(_cells(detail, rows, columns), _AROUND)
    activity = cv2.blur(np.maximum(activity - _QUIET_ACTIVITY, 0.0), (3, 3))
    mean = _cells(level, rows, columns)
    lively = _SLOPE * np.sqrt(activity)
    # What a calm picture leaves of the overall limit goes where it is not calm.
    room = (_RMS_LIMIT**2 - _FLOOR**2) / (float(np.mean((_FLOOR + lively) ** 2)) - _FLOOR**2 + 1e-6)
    lively *= np.clip(np.sqrt(room), 1.0, _SHARE)
    gain = (_FLOOR + lively) * np.minimum(1.0, 0.6 + np.minimum(mean, 255.0 - mean) / 60.0)
    gain *= min(1.0, _RMS_LIMIT / float(np.sqrt(np.mean(gain**2))))
    return np.asarray(
        cv2.resize(gain.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR), np.float32
    )


def _cells(pixels: NDArray[Any], rows: int, columns: int) -> lattice.Reals:
    """float32 [rows, columns]: the mean of each cell."""
    means = cv2.resize(pixels.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(means, np.float32)
