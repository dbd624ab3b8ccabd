"""What a detector keeps of a clip: small whitened pictures. No key is needed here, and none may be present.

Bursts of 4 consecutive frames, at most 24 of them, spread over however long the clip is by doubling the distance
between bursts and forgetting every other one: memory is bounded, and no burst is longer than a segment of the mark.
Each frame is kept as its luma at 150,000 pixels, minus its local mean, over its local deviation^1.5: where the picture
is loud the mark is hidden, so those pixels count little.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ledger.errors import MediaError
from ledger.provenance.watermark.embed import Frame, check_frame, luma, unfit

MIN_SIDE: Final = 96
"""Less than is marked: a picture may have been cut since."""
BURST_FRAMES: Final = 4
MAX_BURSTS: Final = 24
_LEVELS: Final = 48
"""Steps of a kept residual to one deviation."""
_PIXELS: Final = 150_000
_LOCAL: Final = (7, 7)
_DEVIATION_FLOOR: Final = 1.0


@dataclass(frozen=True, slots=True)
class Sampled:
    """The whitened frames of a clip, int8 [t, h, w]; the index of each in the clip, [t], and the burst it is of, [t].

    `width` and `height` are the clip's; `frames` counts all of its frames; `fps` is what the caller said, or None.
    """

    residuals: NDArray[np.int8]
    indices: NDArray[np.intp]
    bursts: NDArray[np.intp]
    width: int
    height: int
    frames: int
    fps: float | None


@dataclass(frozen=True, slots=True)
class NotDetected:
    reason: str


def sample(frames: Iterable[Frame], *, fps: float | None = None) -> Sampled | NotDetected:
    """Look through a clip once. Raises MediaError on what are not frames of one clip."""
    kept: dict[int, list[NDArray[np.int8]]] = {}
    spacing, shape, count = BURST_FRAMES, None, 0
    for index, frame in enumerate(frames):
        check_frame(frame)
        if shape is None:
            shape = frame.shape
            if (reason := unfit(shape[1], shape[0], least=MIN_SIDE)) is not None:
                return NotDetected(reason)
        if frame.shape != shape:
            raise MediaError("watermark.frame", f"frame `{index}` is `{frame.shape}` in a clip of `{shape}`")
        count += 1
        if index % spacing >= BURST_FRAMES:
            continue
        if index % spacing == 0:
            if len(kept) == MAX_BURSTS:
                spacing *= 2
                kept = {start: burst for start, burst in kept.items() if start % spacing == 0}
                if index % spacing:
                    continue
            kept[index] = []
        kept[index - index % spacing].append(residual(frame))
    if shape is None:
        return NotDetected("there are no frames")
    return Sampled(
        np.stack([picture for burst in kept.values() for picture in burst]),
        np.array([start + place for start, burst in kept.items() for place in range(len(burst))], np.intp),
        np.repeat(np.arange(len(kept)), [len(burst) for burst in kept.values()]),
        shape[1],
        shape[0],
        count,
        fps,
    )


def residual(frame: Frame) -> NDArray[np.int8]:
    """int8 [h, w]: the whitened luma of a frame, at most 150,000 pixels."""
    height, width, _ = frame.shape
    scale = min(1.0, (_PIXELS / (height * width)) ** 0.5)
    size = (round(width * scale), round(height * scale))
    level = np.asarray(
        cv2.resize(luma(frame).astype(np.float32), size, interpolation=cv2.INTER_AREA), np.float32
    )
    level -= cv2.blur(level, _LOCAL)
    power = cv2.blur(level * level, _LOCAL) + _DEVIATION_FLOOR**2
    level *= power**-0.75
    return np.clip(np.rint(level * _LEVELS), -127, 127).astype(np.int8)
