"""Filming, scoring and encoding: from a request to an MP4, frame after frame."""

from collections.abc import Generator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from generator.backend import RenderRequest
from generator.reference import camera, scene, sound, stage

_MOVFLAGS = {"movflags": "+faststart", "fflags": "+bitexact"}
# Two threads always: x264's output depends on how many there are. No macroblock tree: its AVX-512 code was seen to
# give a different clip about once in fifteen from the same frames.
_X264 = {"crf": "12", "preset": "veryfast", "threads": "2", "mbtree": "0"}


def filmed(request: RenderRequest, draft: Path) -> Generator[float, None, None]:
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
