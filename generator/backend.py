"""What a video model must offer to stand behind the gate.

A backend sees only what the gate has already allowed: a prompt, sizes, a seed, and the portraits of the
people who agreed. It never sees ids of other people, grants, URLs or paths chosen by a caller.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ledger.ids import CameoId, VideoId


@dataclass(frozen=True, slots=True)
class Portrait:
    """One consenting person's likeness, as enrolled.

    image: uint8 [h, w, 3], RGB, 0–255. face: (top, right, bottom, left) in pixels of `image`.
    """

    cameo_id: CameoId
    image: NDArray[np.uint8]
    face: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class RenderRequest:
    """One clip to make. The same request gives the same clip: `job_id` is the idempotency key.

    width, height: even, in pixels. seconds: whole, ≥ 1. fps: frames a second. seed: any 64-bit integer.
    """

    job_id: VideoId
    prompt: str
    width: int
    height: int
    seconds: int
    seed: int
    portraits: tuple[Portrait, ...] = ()
    fps: int = 24


class Backend(Protocol):
    """A video model. `name` and `version` go into the manifest and the ledger."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def closed(self) -> bool:
        """It draws nothing of its own: only scenes that come with it, and the portraits it is given."""
        ...

    def render(self, request: RenderRequest, out: Path, progress: Callable[[float], None]) -> None:
        """Write an MP4 (H.264, AAC) to `out`. `progress` takes 0.0–1.0 and may raise to cancel.

        Raises BackendFailed; then `out` holds nothing anyone may use.
        """
        ...
