"""The reference renderer: a real clip from a prompt and portraits, on any CPU, with no model to download.

It guarantees: the clip has the size, length and rate asked for; the same request gives the same frames and sound;
memory does not grow with length; the granted faces are shown frontal and undistorted, and it draws no others. H.264
High (libx264, 4:2:0, BT.709 limited range) with AAC-LC at 48 kHz in an MP4. It is no diffusion model: the person
stands, the camera, the light and the weather move.
"""

import os
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray

from generator.backend import RenderRequest
from generator.errors import BackendFailed
from generator.reference import camera, scene, sound, stage

MAX_SECONDS, MAX_FPS, MAX_PORTRAITS = 60, 60, 6
MIN_SIDE, MAX_SIDE = 64, 1920

_MOVFLAGS = {"movflags": "+faststart", "fflags": "+bitexact"}
# Two threads always: x264's output depends on how many there are. No macroblock tree: its AVX-512 code was seen to
# give a different clip about once in fifteen from the same frames.
_X264 = {"crf": "12", "preset": "veryfast", "threads": "2", "mbtree": "0"}


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
        _check(request)
        draft: Path | None = None
        try:
            draft = _draft(out)
            with closing(_filmed(request, draft)) as film:
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


def _filmed(request: RenderRequest, draft: Path) -> Generator[float, None, None]:
    """Film, score and encode to `draft`; yields the share done after each frame, below 1."""
    # Separate streams: a longer clip or a new kind of weather does not reshuffle the rest.
    streams = np.random.SeedSequence(request.seed % (1 << 64)).spawn(5)
    words, place, move, lens, notes = (np.random.default_rng(stream) for stream in streams)
    asked = scene.read(request.prompt, words)
    built = stage.build(asked, request.portraits, request.width, request.height, place)
    path = camera.Path.of(asked, float(request.seconds), request.width / request.height, move)
    filming = camera.Camera(asked, built, path, request.width, request.height, lens)
    track = sound.compose(asked, path, request.seconds, notes)
    count = request.seconds * request.fps
    with av.open(str(draft), "w", format="mp4", options=_MOVFLAGS) as container:
        picture = container.add_stream("libx264", rate=Fraction(request.fps), options=_X264)
        picture.width, picture.height, picture.pix_fmt = request.width, request.height, "yuv420p"
        picture.codec_context.gop_size = 2 * request.fps
        picture.codec_context.colorspace, picture.codec_context.color_range = (
            Colorspace.ITU709,
            ColorRange.MPEG,
        )
        picture.codec_context.color_primaries = ColorPrimaries.BT709
        picture.codec_context.color_trc = ColorTrc.BT709
        audio = container.add_stream("aac", rate=sound.RATE_HZ, layout="stereo", options={"b": "160000"})
        heard = 0
        for index, planes in enumerate(filming.film(count, request.fps)):
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts = index
            container.mux(picture.encode(frame))
            until = (index + 1) * track.shape[1] // count
            container.mux(audio.encode(_audio_frame(track[:, heard:until], heard)))
            heard = until
            yield (index + 1) / (count + 1)
        container.mux(picture.encode())
        container.mux(audio.encode())


def _audio_frame(part: sound.Sound, start: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = sound.RATE_HZ, start, Fraction(1, sound.RATE_HZ)
    return frame


__all__ = ["ReferenceRenderer"]
