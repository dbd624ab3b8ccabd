"""Which frames of a clip are looked at: the first of every scene, one in every 0.4 s, and more wherever it changes.

Guarantees

- What differs visibly from the frame that was looked at last, over a patch as large as the smallest face that can be
  found, is looked at within :data:`CLOSEST_S` of its coming, if it stays that long: nothing that is shown for three
  frames at 24 a second lies between two looks. Change is measured against the last frame *looked at*, so that a slow
  fade or morph adds up.
- The frame after a cut is looked at, however soon; and one that claims to come no later than the one before it: the
  canonical form shows it after that.
- One frame is in memory, and one pass over the file is enough.

A change shorter than :data:`CLOSEST_S` within a picture that moves as a whole can be missed; a cut there is not.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ledger.provenance import media

APART_S: Final = 0.4
CLOSEST_S: Final = 0.12
"""Just below three frames at 25 a second."""
CHANGED: Final = 10.0
"""Mean difference in brightness (0-255) of the patch that changed most. Noise of a coded still picture is below 4."""
CUT: Final = 24.0
"""The same over the whole picture, from one frame to the next."""
SHORT_SIDE: Final = 1080
"""Frames are looked at with a short side of at most so many pixels: a tenth of it is a face that can be found."""
_PATCH: Final = 8
"""Points of the grid across a patch: a tenth of the picture's short side."""


def sampled(clip: Path) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """(seconds from the first frame, uint8 [h, w, 3] RGB) of the frames to look at, in order. Raises MediaError."""
    last_s = before_s = 0.0
    last: NDArray[np.uint8] | None = None
    before: NDArray[np.uint8] | None = None
    for glimpse in media.glimpses(clip):
        grey = glimpse.grey
        # What takes no time by the file's clock takes some once the clip is written anew.
        if (
            last is None
            or before is None
            or not glimpse.seconds > before_s
            or _due(glimpse.seconds - last_s, grey, last, before)
        ):
            last_s, last = glimpse.seconds, grey
            yield glimpse.seconds, glimpse.picture(short_side=SHORT_SIDE)
        before, before_s = grey, glimpse.seconds


def _due(since_s: float, grey: NDArray[np.uint8], last: NDArray[np.uint8], before: NDArray[np.uint8]) -> bool:
    # Time that runs backwards, or a picture of another size, is no reason to look away.
    if not 0 <= since_s < APART_S - 1e-6 or not grey.shape == last.shape == before.shape:
        return True
    if float(np.abs(grey.astype(np.int16) - before).mean()) >= CUT:
        return True
    return since_s >= CLOSEST_S - 1e-6 and _most_changed(grey, last) >= CHANGED


def _most_changed(grey: NDArray[np.uint8], last: NDArray[np.uint8]) -> float:
    """The largest mean difference over any patch; patches at the far edges reach less far."""
    apart = np.abs(grey.astype(np.int16) - last)
    rows, columns = (np.arange(0, side, _PATCH) for side in apart.shape)
    total = np.add.reduceat(np.add.reduceat(apart, rows, axis=0, dtype=np.int64), columns, axis=1)
    sizes = np.outer(np.diff(rows, append=apart.shape[0]), np.diff(columns, append=apart.shape[1]))
    return float((total / sizes).max())
