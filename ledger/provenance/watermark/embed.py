"""Laying the mark over frames: as strong as the picture around hides it, never stronger.

Strength is set per cell of 8×8 canonical units: a floor for smooth areas, growing with the root of the local activity
(mean distance from a local mean, so gradients count as smooth), taken from the calmest neighbouring cell so that no
grain spills from an edge into a flat wall, lowered towards black and white, and scaled down where a whole frame would
exceed the overall limit. The same grey step goes to R, G and B: colour stays untouched.
"""

import hashlib
import hmac
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ledger.errors import MediaError, ProvenanceError
from ledger.provenance.watermark import ecc, lattice

MIN_SIDE: Final = 144
MAX_ASPECT: Final = 4.0
SEGMENT_FRAMES: Final = 24

_FLOOR: Final = 0.55
_SLOPE: Final = 0.55
_QUIET_ACTIVITY: Final = 0.2
_RMS_LIMIT: Final = 1.4
_CELL: Final = 8

Frame = NDArray[np.uint8]
"""uint8 [h, w, 3], RGB, 0–255."""


class Embedder:
    """Marks the frames of one clip with `payload`. Frames may come in any order; `index` is their place in the clip.

    Not to be shared between threads: it keeps the pattern of the current segment.
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
        self._shape = (height, width, 3)
        self._coefficients = [patterns[i].coefficients(signs) for i in _order(key, payload)]
        self._current: tuple[int, lattice.Reals] | None = None

    def __call__(self, frame: Frame, index: int) -> Frame:
        check_frame(frame)
        if frame.shape != self._shape:
            raise MediaError(
                "watermark.frame", f"a frame is `{frame.shape}`; this clip's frames are `{self._shape}`"
            )
        if index < 0:
            raise MediaError("watermark.frame", f"frame index `{index}` is negative")
        step = strength(luma(frame)) * self._field(index // SEGMENT_FRAMES % lattice.PATTERNS)
        np.rint(step, out=step)
        marked = frame + step.astype(np.int16)[..., None]
        return np.clip(marked, 0, 255, out=marked).astype(np.uint8)

    def _field(self, which: int) -> lattice.Reals:
        if self._current is None or self._current[0] != which:
            height, width, _ = self._shape
            self._current = which, lattice.field(self._coefficients[which], height, width)
        return self._current[1]


def _order(key: bytes, payload: bytes) -> list[int]:
    """The order of the patterns in this clip: were it the same in all, their first seconds could be averaged."""
    draws = hmac.digest(key, b"countersign/watermark/v1/order\x00" + payload, hashlib.sha256)[
        : lattice.PATTERNS
    ]
    return sorted(range(lattice.PATTERNS), key=lambda i: (draws[i], i))


def unfit(width: int, height: int) -> str | None:
    """Why a picture of this size cannot carry the mark, or None."""
    if min(width, height) < MIN_SIDE:
        return f"`{width}×{height}` is too small: the short side needs `{MIN_SIDE}` pixels"
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


def luma(frame: Frame) -> Image.Image:
    return Image.fromarray(frame).convert("L")


def strength(picture: Image.Image) -> lattice.Reals:
    """float32 [h, w]: the mark's deviation in grey levels at each pixel of a greyscale `picture`."""
    scale = lattice.CANONICAL_SIDE / min(picture.size)
    width, height = (max(_CELL, round(side * scale / _CELL) * _CELL) for side in picture.size)
    canonical = picture.resize(
        (width, height), Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    )
    level = np.asarray(canonical, np.int16)
    detail = np.abs(level - np.asarray(canonical.filter(ImageFilter.BoxBlur(4)), np.int16))
    activity = _neighbours(_cells(detail)).min(0)
    activity = _neighbours(np.maximum(activity - _QUIET_ACTIVITY, 0.0)).mean(0)
    mean = _cells(level)
    gain = (_FLOOR + _SLOPE * np.sqrt(activity)) * np.minimum(
        1.0, 0.6 + np.minimum(mean, 255.0 - mean) / 60.0
    )
    gain *= min(1.0, _RMS_LIMIT / float(np.sqrt(np.mean(gain**2))))
    return np.array(Image.fromarray(gain.astype(np.float32)).resize(picture.size, Image.Resampling.BILINEAR))


def _cells(pixels: NDArray[np.int16]) -> lattice.Reals:
    """The mean of each cell."""
    height, width = pixels.shape
    rows = pixels.reshape(height // _CELL, _CELL, width).sum(1, dtype=np.float32)
    return np.asarray(rows.reshape(height // _CELL, width // _CELL, _CELL).sum(2) / _CELL**2, np.float32)


def _neighbours(cells: lattice.Reals) -> lattice.Reals:
    """float32 [9, h, w]: each cell's 3×3 neighbourhood."""
    padded = np.pad(cells, 1, mode="edge")
    height, width = cells.shape
    return np.stack([padded[y : y + height, x : x + width] for y in range(3) for x in range(3)])
