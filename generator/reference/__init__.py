"""The reference renderer: a real clip from a prompt and portraits, on any CPU, with no model to download.

It guarantees: the clip has the size, length and rate asked for; the same request gives the same frames and sound;
memory does not grow with length; the granted faces are shown frontal and undistorted, and it draws no others. H.264
High (libx264, 4:2:0, BT.709 limited range) with AAC-LC at 48 kHz in an MP4. It is no diffusion model: the person
stands, the camera, the light and the weather move.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from generator.backend import RenderRequest
from generator.errors import BackendFailed

MAX_SECONDS, MAX_FPS, MAX_PORTRAITS = 60, 60, 6
MIN_SIDE, MAX_SIDE = 64, 1920


class ReferenceRenderer:
    """A Backend (see generator.backend)."""

    @property
    def name(self) -> str:
        return "countersign-reference"

    @property
    def version(self) -> str:
        return "1"

    @property
    def closed(self) -> bool:
        return True

    def render(self, request: RenderRequest, out: Path, progress: Callable[[float], None]) -> None:
        """Raises BackendFailed, or what `progress` raised; then nothing is left at `out` or beside it."""
        from generator.reference.film import filmed  # noqa: PLC0415 — torch, which takes a second of every command

        _check(request)
        draft: Path | None = None
        try:
            draft = _draft(out)
            with closing(filmed(request, draft)) as film:
                while (done := _next(film)) is not None:
                    progress(done)
            progress(1.0)
            draft.replace(out)
        except BaseException:
            out.unlink(missing_ok=True)
            raise
        finally:
            if draft is not None:
                draft.unlink(missing_ok=True)


def _draft(out: Path) -> Path:
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{out.name}.", suffix=".mp4", dir=out.parent)
    except OSError as error:
        raise BackendFailed(
            "backend.disk", "the clip cannot be written", "check the space and rights of the work folder"
        ) from error
    os.close(descriptor)
    return Path(name)


def _next(film: Iterator[float]) -> float | None:
    """The next step; the renderer's own failures become BackendFailed here, those of `progress` never pass here."""
    try:
        return next(film, None)
    except Exception as error:
        raise BackendFailed(
            "backend.render",
            "the reference renderer could not finish the clip",
            "try again, or with another prompt",
        ) from error


def _check(request: RenderRequest) -> None:
    sides = (request.width, request.height)
    if any(side % 2 or not MIN_SIDE <= side <= MAX_SIDE for side in sides):
        raise BackendFailed(
            "backend.size",
            f"the size `{request.width}x{request.height}` cannot be rendered",
            f"use even sides from `{MIN_SIDE}` to `{MAX_SIDE}` pixels",
        )
    if not 1 <= request.seconds <= MAX_SECONDS or not 1 <= request.fps <= MAX_FPS:
        raise BackendFailed(
            "backend.length",
            f"`{request.seconds}` seconds at `{request.fps}` frames a second cannot be rendered",
            f"ask for 1 to `{MAX_SECONDS}` seconds at 1 to `{MAX_FPS}` frames a second",
        )
    if len(request.portraits) > MAX_PORTRAITS:
        raise BackendFailed(
            "backend.people",
            f"`{len(request.portraits)}` people do not fit one frame",
            f"name at most `{MAX_PORTRAITS}` people",
        )
    for portrait in request.portraits:
        _check_portrait(portrait.image, portrait.face)


def _check_portrait(image: NDArray[np.uint8], face: tuple[int, int, int, int]) -> None:
    top, right, bottom, left = face
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise BackendFailed(
            "backend.portrait", "a portrait is not an RGB picture", "enrol the portrait again"
        )
    if min(top, left) < 0 or bottom > image.shape[0] or right > image.shape[1]:
        raise BackendFailed(
            "backend.portrait", "a portrait's face lies outside it", "enrol the portrait again"
        )
    if bottom - top < 4 or right - left < 4:
        raise BackendFailed(
            "backend.portrait", "the face in a portrait is too small", "enrol a larger portrait"
        )


__all__ = ["ReferenceRenderer"]
