"""Clips as files: what is accepted, what the frames are, and the one form we sign.

Guarantees:
- :func:`probe` decodes every frame, so a clip that passed it plays to its end. A file that ends early, lies
  about its length or hides behind another extension is refused with one of the reasons
  `media.empty | not_video | truncated | too_large | too_long | codec | unreadable`.
- Only the MP4/MOV and Matroska/WebM demuxers ever see a caller's bytes, chosen by magic number. A playlist
  (HLS, DASH, concat) would make the demuxer open files and addresses of the caller's choosing.
- :func:`frames` and :func:`restamp` turn pixels upright and into RGB by the colour space the clip declares;
  what is undeclared is BT.709 from 720 lines up and BT.601 below, as players assume.
- :func:`sound` gives the very track that :func:`restamp` keeps, at one rate, with its place in time, within bounds that
  a track cannot lie its way past. What is played in two ears stays two: added up, sound in antiphase would vanish.
- :func:`restamp` writes the canonical form: H.264 4:2:0 8 bit BT.709, AAC, MP4 with `moov` first, no metadata
  from the source (none at all but what the caller gives), the same bytes for the same input on the same build of the codecs.
  One frame at a time is in memory.
  Sound that is AAC already is copied, unless it is to pass through something as well: then it is in one or two channels.
- With `any_container`, five more containers are read, none of which names other files; and any codec. For files of
  one's own, and behind the same bounds.

Left to others: high dynamic range is converted without tone mapping; captions, extra tracks and chapters are
dropped.
"""

import io
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol, Self, cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ledger.errors import MediaError

Transform = Callable[[NDArray[np.uint8], int], NDArray[np.uint8]]
"""frame: uint8 [h, w, 3], RGB, 0-255, and its index → a frame of the same shape."""


class Passing(Protocol):
    """What sound passes through, a piece at a time: float32 [n, channels], −1 to 1; in all as many as were fed."""

    def feed(self, samples: NDArray[np.float32]) -> NDArray[np.float32]: ...

    def finish(self) -> NDArray[np.float32]: ...


Through = Callable[[int, int], Passing]
"""rate in Hz and channels of a track → what it passes through."""

VIDEO_CODECS: Final = frozenset({"h264", "hevc", "vp9", "av1", "vp8", "mpeg4", "prores"})

_LOOKED_AT: Final = 72
"""Frames a picture of a clip is looked for in: three seconds at 24 a second."""
_GRID: Final = 90
"""Points across the short side of a frame that is seen in passing."""
_EIGHT_BITS_OF_BRIGHTNESS: Final = frozenset(
    {"yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p", "nv12", "gray"}
)
"""Formats of pixels whose first plane is brightness, a byte each."""
_DOTS: Final = 24
"""On the longer side of a blurred picture."""
_EVEN: Final = 8.0
"""A frame whose brightness (0-255) varies less than this shows nothing."""
_MATROSKA: Final = b"\x1aE\xdf\xa3"
_MP4_FIRST_BOXES: Final = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"})
_MORE_CONTAINERS: Final = {
    b"RIFF": "avi",
    b"FLV\x01": "flv",
    b"OggS": "ogg",
    b"\x30\x26\xb2\x75": "asf",
    b"\x00\x00\x01\xba": "mpeg",
}
_TRANSPORT_PACKET: Final = 188
_MAX_BOXES: Final = 100_000
_DURATION_SLACK_S: Final = 0.5
_SOUND_SLACK_S: Final = 0.05
"""Sound later than this after the last is after a pause; less is what a resampler holds back."""
_ENCODER_THREADS: Final = "2"
"""Fixed: x264 makes other bytes with other thread counts, and the canonical form must not depend on the machine."""
_BRANDS: Final = frozenset({"major_brand", "minor_version", "compatible_brands"})
_TRACK_TEXT: Final = frozenset({"und", "VideoHandler", "SoundHandler", "[0][0][0][0]"})
"""What the muxer itself writes of each track: no language, its kind, no vendor."""
_LONGEST_PAUSE_S: Final = 600.0
_AAC_BITS_A_CHANNEL: Final = 80_000
_AAC_RATES: Final = frozenset({16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000})
_SCALING: Final = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.BITEXACT
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one upload may cost. `max_pixels` is width x height of one frame."""

    max_bytes: int = 256 * 1024 * 1024
    max_seconds: float = 120.0
    max_pixels: int = 3840 * 2160
    max_fps: int = 120
    max_decoded: int = 6_000_000_000
    """Pixels of all frames together: two minutes of 1080p at 24 frames a second."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What decoding the whole clip showed. width, height: as displayed, after rotation."""

    width: int
    height: int
    fps: Fraction
    frames: int
    seconds: float
    video_codec: str
    audio_codec: str | None
    bytes: int


@dataclass(frozen=True, slots=True)
class Sound:
    """samples: float32 [2, n], -1 to 1: the middle and the side, (left ± right) / 2; of one channel the side is silent.

    starts_s: when the first sample is heard, in seconds from the first picture; less than zero is before it.
    """

    samples: NDArray[np.float32] = field(repr=False)
    rate_hz: int
    starts_s: float

    @property
    def seconds(self) -> float:
        return float(self.samples.shape[1] / self.rate_hz)


@dataclass(frozen=True, slots=True)
class Glimpse:
    """One frame, seen in passing. `grey`: uint8 [h, w], its brightness at every few pixels, not upright."""

    seconds: float
    grey: NDArray[np.uint8]
    _frame: VideoFrame

    def picture(self, *, short_side: int) -> NDArray[np.uint8]:
        """The frame upright, uint8 [h, w, 3] RGB 0-255, made smaller where its short side is over that many pixels."""
        return _rgb(self._frame, short_side)


@dataclass(frozen=True, slots=True)
class Box:
    """One top-level ISO base media box: `kind` and the bytes [start, end) it occupies, header included."""

    kind: bytes
    start: int
    end: int


# --- accepting -------------------------------------------------------------------------------------------------


def probe(
    path: Path,
    limits: Limits,
    each: Callable[[float, NDArray[np.uint8]], None] | None = None,
    *,
    any_container: bool = False,
) -> Probe:
    """Decode `path` to its end within `limits`, or raise MediaError.

    `each` is given every frame on the way, as :func:`frames` would: seconds from the first, uint8 [h, w, 3] RGB 0-255.
    """
    size = _size(path)
    if size == 0:
        raise MediaError("media.empty", "the file is empty", "send the clip again")
    if size > limits.max_bytes:
        raise _too_large(f"the file has `{size}` bytes and `{limits.max_bytes}` are allowed")
    if _demuxer(path, any_container=any_container) in {"mov", "matroska"}:
        _require_whole(path, size)
    with _open(path, any_container=any_container) as container:
        video, audio = _video(container, any_codec=any_container), _audio(container)
        declared = (container.duration or 0) / av.time_base
        if declared > limits.max_seconds:
            raise _too_long(declared, limits)
        if video.width * video.height > limits.max_pixels:
            raise _too_large(_pixels(video.width, video.height, limits))
        video.codec_context.options = {"max_pixels": str(limits.max_pixels)}
        tally = _decode_all(container, video, audio, limits, each)
        fps = video.average_rate or Fraction(tally.frames).limit_denominator(1001)
        seconds = tally.last_s - tally.first_s + float(1 / fps)
        if declared - tally.end_s > _DURATION_SLACK_S:
            raise _truncated(f"the file declares `{declared:.2f}` seconds and holds `{tally.end_s:.2f}`")
        return Probe(
            width=tally.width,
            height=tally.height,
            fps=fps,
            frames=tally.frames,
            seconds=seconds,
            video_codec=_codec(video),
            audio_codec=None if audio is None else _codec(audio),
            bytes=size,
        )


@dataclass(slots=True)
class _Tally:
    width: int = 0
    height: int = 0
    frames: int = 0
    decoded: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    end_s: float = 0.0


def _decode_all(
    container: InputContainer,
    video: VideoStream,
    audio: AudioStream | None,
    limits: Limits,
    each: Callable[[float, NDArray[np.uint8]], None] | None,
) -> _Tally:
    tally = _Tally()
    for packet in container.demux(*filter(None, (video, audio))):
        if packet.is_corrupt:
            raise _truncated("the file ends in the middle of a frame")
        if packet.pts is not None:
            tally.end_s = max(tally.end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        for frame in packet.decode():
            if not isinstance(frame, VideoFrame):
                continue
            _check_frame(frame, tally, limits)
            if not tally.frames:
                turned = frame.rotation % 180 != 0
                tally.width, tally.height = (
                    (frame.height, frame.width) if turned else (frame.width, frame.height)
                )
                tally.first_s = frame.time or 0.0
            tally.frames += 1
            tally.last_s = frame.time if frame.time is not None else tally.last_s
            if each is not None:
                each((frame.time or 0.0) - tally.first_s, _rgb(frame))
    if not tally.frames:
        raise MediaError(
            "media.not_video", "the file holds no picture that can be decoded", "send a video clip"
        )
    return tally


def _check_frame(frame: VideoFrame, tally: _Tally, limits: Limits) -> None:
    """The header's promises, held against each frame: a clip may change size or run on behind its header."""
    if frame.width * frame.height > limits.max_pixels:
        raise _too_large(_pixels(frame.width, frame.height, limits))
    tally.decoded += frame.width * frame.height
    if tally.decoded > limits.max_decoded:
        raise _too_large(f"the clip holds over `{limits.max_decoded // 10**9}` thousand million pixels")
    seconds = (frame.time or 0.0) - tally.first_s
    if seconds > limits.max_seconds or tally.frames >= limits.max_seconds * limits.max_fps:
        raise _too_long(max(seconds, tally.frames / limits.max_fps), limits)


def _require_whole(path: Path, size: int) -> None:
    """Hold the container's own sizes against the file's: the demuxer plays a shortened file without a word."""
    if _demuxer(path) == "mov":
        boxes(path)
        return
    with path.open("rb") as file:
        head = file.read(4096)
    _, header_bytes, at = _ebml_element(head, 0)
    kind, segment_bytes, at = _ebml_element(head, at + (header_bytes or 0))
    if kind == b"\x18\x53\x80\x67" and segment_bytes is not None and at + segment_bytes > size:
        raise _truncated(f"`{at + segment_bytes - size}` bytes are missing at the end")


def _ebml_element(data: bytes, at: int) -> tuple[bytes, int | None, int]:
    """(id, size or None when unknown, where the content starts) of the EBML element at `at` (RFC 8794 §5, §6)."""
    if at + 16 > len(data):
        raise _truncated("the file ends inside its header")
    id_bytes = 9 - data[at].bit_length()
    size_at = at + min(id_bytes, 4)
    size_bytes = 9 - data[size_at].bit_length()
    if size_bytes > 8:
        raise _truncated("the header is damaged")
    bits = 7 * size_bytes
    value = int.from_bytes(data[size_at : size_at + size_bytes], "big") & ((1 << bits) - 1)
    return data[at:size_at], None if value == (1 << bits) - 1 else value, size_at + size_bytes


# --- boxes -----------------------------------------------------------------------------------------------------


def boxes(path: Path) -> tuple[Box, ...]:
    """The top-level boxes (ISO/IEC 14496-12 §4.2). Raises MediaError unless they fill the file exactly."""
    size, at = _size(path), 0
    found: list[Box] = []
    with path.open("rb") as file:
        while at < size:
            file.seek(at)
            head = file.read(16)
            length, kind, header = int.from_bytes(head[:4], "big"), head[4:8], 8
            if length == 1:
                length, header = int.from_bytes(head[8:16], "big"), 16
            elif length == 0:
                length = size - at
            if length < header or at + length > size or len(found) == _MAX_BOXES:
                raise _truncated(f"the box at byte `{at}` does not fit the file")
            found.append(Box(kind, at, at + length))
            at += length
    return tuple(found)


def stray_samples(path: Path) -> int:
    """How many samples of an MP4 do not lie wholly inside a top-level `mdat`.

    A manifest may leave `free` and other boxes unhashed. Media parked there could be exchanged under a hard
    binding that still matches, so every sample of every track counts, hidden by an edit list or not, and a
    position the demuxer cannot name is stray. Raises MediaError when the file cannot be read as MP4.
    """
    if _demuxer(path) != "mov":
        raise _not_video()
    inside = [(box.start, box.end) for box in boxes(path) if box.kind == b"mdat"]
    stray = 0
    with _open(path, {"ignore_editlist": "1"}) as container:
        for packet in container.demux():
            if packet.size == 0 and packet.dts is None:
                continue  # the end-of-stream mark
            start = -1 if packet.pos is None else packet.pos
            stray += not any(low <= start and start + packet.size <= high for low, high in inside)
    return stray


# --- frames ----------------------------------------------------------------------------------------------------


def frames(
    path: Path, *, every_s: float | None = None, any_container: bool = False
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """(seconds from the first frame, uint8 [h, w, 3] RGB 0-255) in order; with `every_s`, at most one per period."""
    with _open(path, any_container=any_container) as container:
        first_s: float | None = None
        due_s = 0.0
        for frame in container.decode(_video(container, any_codec=any_container)):
            time_s = frame.time or 0.0
            first_s = time_s if first_s is None else first_s
            seconds = time_s - first_s
            if every_s is not None:
                if seconds + 1e-6 < due_s:
                    continue
                due_s = (seconds // every_s + 1) * every_s
            yield seconds, _rgb(frame)


def glimpses(path: Path) -> Iterator[Glimpse]:
    """Every frame in order, each to be looked at before the next is asked for."""
    with _open(path) as container:
        first_s: float | None = None
        for frame in container.decode(_video(container)):
            time_s = frame.time or 0.0
            first_s = time_s if first_s is None else first_s
            yield Glimpse(time_s - first_s, _grey(frame), frame)


def _grey(frame: VideoFrame) -> NDArray[np.uint8]:
    """Brightness at points of a grid: of what nearly every clip is, without touching the pixels between them."""
    step = max(1, min(frame.width, frame.height) // _GRID)
    if frame.format.name not in _EIGHT_BITS_OF_BRIGHTNESS:
        grey = frame.reformat(
            max(frame.width // step, 1),
            max(frame.height // step, 1),
            "gray",
            interpolation=Interpolation.AREA,
        )
        return grey.to_ndarray().astype(np.uint8, copy=False)
    plane = frame.planes[0]
    data: NDArray[np.uint8] = np.frombuffer(cast("bytes", plane), np.uint8)  # it lends its bytes, as they do
    return data.reshape(-1, plane.line_size)[: frame.height : step, : frame.width : step].copy()


def thumbnail(path: Path, *, longest: int = 480) -> bytes:
    """The first frame that shows something as a JPEG, its longer side at most `longest` pixels.

    Raises MediaError for a file without a frame.
    """
    picture, out = Image.fromarray(_telling(path)), io.BytesIO()
    picture.thumbnail((longest, longest))
    picture.save(out, "JPEG", quality=85)
    return out.getvalue()


def marked_frame(
    path: Path, at_s: float, boxes: Sequence[tuple[int, int, int, int]], *, blurred: bool, longest: int = 640
) -> bytes:
    """The frame shown at a moment as a JPEG, with a frame around each box (top, right, bottom, left in its pixels).

    `blurred`: so that nobody can be recognised in it, nor what is done; where something is can still be seen.
    """
    shown = next((frame for seconds, frame in frames(path) if seconds + 1e-3 >= at_s), None)
    picture, out = Image.fromarray(_first(path) if shown is None else shown), io.BytesIO()
    scale = longest / max(picture.size)
    if blurred:
        # Down to a few dots and up again: no sharpening brings back what is not there.
        few = picture.resize([max(1, side * _DOTS // max(picture.size)) for side in picture.size])
        picture = few.resize(picture.size, Image.Resampling.BICUBIC)
    picture = picture.resize([max(1, round(side * scale)) for side in picture.size])
    pen = ImageDraw.Draw(picture)
    for top, right, bottom, left in boxes:
        corners = [round(side * scale) for side in (left, top, right, bottom)]
        pen.rectangle(corners, outline=(0, 0, 0), width=5)
        pen.rectangle(corners, outline=(255, 204, 0), width=3)
    picture.save(out, "JPEG", quality=85)
    return out.getvalue()


def _telling(path: Path) -> NDArray[np.uint8]:
    """The first frame that is not black, white or a fade; of a clip that only is, its first."""
    first: NDArray[np.uint8] | None = None
    for _, frame in islice(frames(path), _LOOKED_AT):
        if frame.mean(axis=2).std() >= _EVEN:
            return frame
        first = frame if first is None else first
    if first is None:
        raise MediaError(
            "media.not_video", "the file holds no picture that can be decoded", "send a video clip"
        )
    return first


def _rgb(frame: VideoFrame, short_side: int | None = None) -> NDArray[np.uint8]:
    """Upright pixels with even sides: 4:2:0 cannot carry an odd one. No smaller than it is, without `short_side`."""
    short = min(frame.width, frame.height)
    scale = 1.0 if short_side is None else min(short_side / short, 1.0)
    space = frame.colorspace
    if space not in set(Colorspace):
        space = Colorspace.ITU709 if frame.height >= 720 else Colorspace.ITU601
    picture = frame.reformat(
        width=max(round(frame.width * scale), 1),
        height=max(round(frame.height * scale), 1),
        format="rgb24",
        src_colorspace=space,
        dst_color_range=ColorRange.JPEG,
        interpolation=_SCALING,
    ).to_ndarray()
    upright = np.rot90(picture.astype(np.uint8, copy=False), frame.rotation // 90)
    height, width = (side - side % 2 for side in upright.shape[:2])
    return np.ascontiguousarray(upright[:height, :width])


def _yuv(picture: NDArray[np.uint8]) -> VideoFrame:
    frame = VideoFrame.from_ndarray(picture, format="rgb24").reformat(
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        interpolation=_SCALING,
    )
    frame.colorspace = Colorspace.ITU709
    frame.color_range = ColorRange.MPEG
    frame.color_primaries = ColorPrimaries.BT709
    frame.color_trc = ColorTrc.BT709
    return frame


# --- sound -----------------------------------------------------------------------------------------------------


def sound(
    path: Path, *, rate_hz: int = 16_000, max_seconds: float = 120.0, any_container: bool = False
) -> Sound | None:
    """The sound of a clip, resampled; None where it has no track of sound. Raises MediaError, also for one too long.

    Where the track pauses there is silence, so that what is heard at a time is what was played then.
    """
    most = int(max_seconds * rate_hz)
    with _open(path, any_container=any_container) as container:
        track, picture = _audio(container), container.streams.best("video")
        if track is None:
            return None
        parts: list[NDArray[np.float32]] = []
        layout = "mono" if track.channels == 1 else "stereo"
        resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate_hz)
        first_s, count = None, 0
        for frame in container.decode(track):
            at_s = frame.time if frame.time is not None else (first_s or 0.0) + count / rate_hz
            first_s = at_s if first_s is None else first_s
            pause = round((at_s - first_s) * rate_hz) - count
            if pause > _SOUND_SLACK_S * rate_hz:
                _check_sound(count + pause, most, rate_hz)
                parts.append(np.zeros((1 if layout == "mono" else 2, pause), np.float32))
                count += pause
            for out in _resampled(resampler, frame):
                parts.append(out.to_ndarray().astype(np.float32))
                count += out.samples
                _check_sound(count, most, rate_hz)
        if first_s is None:
            return None
        parts += [out.to_ndarray().astype(np.float32) for out in resampler.resample(None)]
    ears = np.concatenate(parts, axis=1)
    return Sound(_middle_and_side(ears[0], ears[-1]), rate_hz, first_s - _starts_s(picture))


def _resampled(resampler: av.AudioResampler, frame: AudioFrame) -> list[AudioFrame]:
    try:
        return resampler.resample(frame)
    except ValueError as error:  # the track changed its rate or channels on the way
        raise _damaged_sound() from error


def _check_sound(count: int, most: int, rate_hz: int) -> None:
    if count > most:
        raise MediaError(
            "media.too_long",
            f"the sound runs over `{most / rate_hz:g}` seconds",
            "send a shorter clip",
        )


def _middle_and_side(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    both = np.stack([(left + right) / 2, (left - right) / 2])
    if not np.isfinite(both).all():
        raise _damaged_sound()
    return np.clip(both, -1, 1).astype(np.float32, copy=False)


def _damaged_sound() -> MediaError:
    return MediaError("media.damaged_sound", "the sound is damaged", "export the clip again")


def _starts_s(stream: object) -> float:
    """When a track starts, by the container's clock; zero where it does not say."""
    start, base = getattr(stream, "start_time", None), getattr(stream, "time_base", None)
    return float(start * base) if start is not None and base is not None else 0.0


# --- writing ---------------------------------------------------------------------------------------------------


def restamp(
    src: Path,
    dst: Path,
    transform: Transform,
    *,
    through: Through | None = None,
    crf: int = 18,
    any_container: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> int:
    """Write `src`, each frame passed through `transform`, to `dst` in the canonical form; `dst` whole or not at all.

    through: what the sound, where there is any, passes through. metadata: keys and values for the file's own index, and
    the only ones it will have. Returns how many pictures were written.
    """
    with _open(src, any_container=any_container) as source, _create(dst, metadata) as target:
        height, width, _ = _first(src, any_container=any_container).shape
        video = _video(source, any_codec=any_container)
        picture = _Picture.add(target, (width, height), video, transform, crf)
        track = _audio(source)
        sound: _Sound | _PassingSound | None
        if track is None or through is None:
            sound = _Sound.add(target, track)
        else:
            sound = _PassingSound.add(target, track, through)
        tracks: dict[int, _Picture | _Sound | _PassingSound] = {picture.source.index: picture}
        if sound is not None:
            tracks[sound.source.index] = sound
        for one in tracks.values():
            # What a source calls its tracks is its own: anything could be written there.
            one.out.metadata.clear()
        for packet in source.demux([track.source for track in tracks.values()]):
            tracks[packet.stream.index].take(target, packet)
        for one in tracks.values():
            one.finish(target)
        return picture.index


def metadata(path: Path) -> dict[str, str]:
    """What the file's own index says in keys and values, but for its brands."""
    with _open(path) as container:
        return {name: text for name, text in container.metadata.items() if name not in _BRANDS}


def require_canonical(path: Path, *, frames: int, metadata: Mapping[str, str] | None = None) -> None:
    """Raise MediaError unless `path` is what :func:`restamp` writes: asked of a file before it is signed.

    `ftyp`, `moov`, at most one empty `free`, `mdat`, in that order; every sample in `mdat`; one picture track of `frames`
    frames, none of them hidden by an edit list, from zero on; at most one of sound; no text but `metadata`.
    """
    found = boxes(path)
    order = [box.kind for box in found if box.kind != b"free"]
    room = [box for box in found if box.kind == b"free"]
    if order != [b"ftyp", b"moov", b"mdat"] or len(room) > 1 or any(b.end - b.start > 8 for b in room):
        raise _not_canonical("its boxes are not `ftyp`, `moov`, `mdat`")
    if stray_samples(path):
        raise _not_canonical("samples lie outside of `mdat`")
    with _open(path) as shown, _open(path, {"ignore_editlist": "1"}) as held:
        kinds = sorted(stream.type for stream in shown.streams)
        if kinds not in (["video"], ["audio", "video"]):
            raise _not_canonical("it has other tracks than one of pictures and one of sound")
        said = {name: text for name, text in shown.metadata.items() if name not in _BRANDS}
        if said != dict(metadata or {}) or any(
            text not in _TRACK_TEXT for stream in shown.streams for text in stream.metadata.values()
        ):
            raise _not_canonical("it carries text that nobody asked for")
        counted = [
            sum(packet.pts is not None and not packet.is_discard for packet in one.demux(_video(one)))
            for one in (shown, held)
        ]
        if counted != [frames, frames] or _starts_s(_video(shown)) != 0:
            raise _not_canonical(
                f"of `{frames}` pictures `{counted[0]}` are shown and `{counted[1]}` are held"
            )


def remux(src: Path, dst: Path) -> None:
    """Copy picture and sound packet by packet to a fresh MP4: what is left of a clip once a platform strips it."""
    with _open(src) as source, _create(dst) as target:
        tracks = {
            stream.index: target.add_stream_from_template(stream)
            for stream in (_video(source), _audio(source))
            if stream is not None
        }
        for packet in source.demux(*(source.streams[index] for index in tracks)):
            if packet.dts is not None:
                packet.stream = tracks[packet.stream.index]
                target.mux(packet)


def write_pattern(dst: Path, *, width: int = 64, height: int = 64, count: int = 5, fps: int = 24) -> None:
    """A small moving picture drawn on the spot, without sound: something real to sign when the service starts."""
    rows, columns = np.mgrid[:height, :width]
    with _create(dst) as target:
        stream = target.add_stream("libx264", rate=fps, options={"threads": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(count):
            drawn = np.stack([rows * 7 + index * 9, columns * 5, rows * columns + index], axis=-1)
            target.mux(stream.encode(_yuv((drawn % 256).astype(np.uint8))))
        target.mux(stream.encode())


@dataclass(slots=True)
class _Picture:
    """The picture on its way from one file to the other."""

    source: VideoStream
    out: VideoStream
    transform: Transform
    index: int = 0
    last_pts: int = -(1 << 62)

    @classmethod
    def add(
        cls,
        target: OutputContainer,
        size: tuple[int, int],
        source: VideoStream,
        transform: Transform,
        crf: int,
    ) -> Self:
        width, height = size
        rate = source.average_rate or Fraction(25)
        # mbtree off: with it, this encoder's AVX-512 code was seen to write the same frames in two ways.
        options = {"crf": str(crf), "preset": "medium", "threads": _ENCODER_THREADS, "mbtree": "0"}
        out = target.add_stream("libx264", rate=rate, options=options)
        out.width, out.height, out.pix_fmt = width, height, "yuv420p"
        context = out.codec_context
        context.time_base = source.time_base or 1 / rate
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        return cls(source, out, transform)

    def take(self, target: OutputContainer, packet: "av.Packet[Any]") -> None:
        for frame in self.source.decode(packet):
            rgb = _rgb(frame)
            marked = self.transform(rgb, self.index)
            if marked.shape != rgb.shape:
                raise ValueError(f"the transform changed the frame from {rgb.shape} to {marked.shape}")
            out = _yuv(marked)
            # Two frames on one instant would stop the encoder; the second moves by one tick.
            self.last_pts = max(self.index if frame.pts is None else frame.pts, self.last_pts + 1)
            out.pts = self.last_pts
            if self.source.time_base is not None:
                out.time_base = self.source.time_base
            target.mux(self.out.encode(out))
            self.index += 1

    def finish(self, target: OutputContainer) -> None:
        target.mux(self.out.encode())


@dataclass(frozen=True, slots=True)
class _Sound:
    """The sound: AAC packet by packet, anything else decoded and encoded again."""

    source: AudioStream
    out: AudioStream
    copied: bool

    @classmethod
    def add(cls, target: OutputContainer, source: AudioStream | None) -> Self | None:
        if source is None:
            return None
        if _codec(source) == "aac":
            return cls(source, target.add_stream_from_template(source), copied=True)
        return cls(source, _aac(target, source), copied=False)

    def take(self, target: OutputContainer, packet: "av.Packet[Any]") -> None:
        if not self.copied:
            for frame in self.source.decode(packet):
                target.mux(self.out.encode(frame))
        elif packet.dts is not None:
            packet.stream = self.out
            target.mux(packet)

    def finish(self, target: OutputContainer) -> None:
        if not self.copied:
            target.mux(self.out.encode())


@dataclass(slots=True)
class _PassingSound:
    """The sound, decoded, passed through something, and encoded again; in time with what it was."""

    source: AudioStream
    out: AudioStream
    resampler: av.AudioResampler
    passing: Passing
    fed: int = 0
    written: int = 0
    first_s: float | None = None

    @classmethod
    def add(cls, target: OutputContainer, source: AudioStream, through: Through) -> Self:
        out = _aac(target, source)
        out.bit_rate = _AAC_BITS_A_CHANNEL * out.channels
        resampler = av.AudioResampler(format="fltp", layout=out.layout.name, rate=out.rate)
        return cls(source, out, resampler, through(out.rate, out.channels))

    def take(self, target: OutputContainer, packet: "av.Packet[Any]") -> None:
        try:
            heard = self.source.decode(packet)
        except av.FFmpegError:
            return  # as players do: what cannot be decoded is a pause
        for frame in heard:
            self._pause(target, frame)
            for piece in _resampled(self.resampler, frame):
                self._feed(target, piece.to_ndarray())

    def finish(self, target: OutputContainer) -> None:
        for piece in self.resampler.resample(None) if self.fed else ():
            self._feed(target, piece.to_ndarray())
        self._write(target, self.passing.finish())
        target.mux(self.out.encode())

    def _pause(self, target: OutputContainer, frame: AudioFrame) -> None:
        at_s = frame.time
        if self.first_s is None:
            self.first_s = at_s or 0.0
        if at_s is None:
            return
        pause_s = at_s - self.first_s - self.fed / self.out.rate
        if pause_s > _LONGEST_PAUSE_S:
            raise _damaged_sound()
        if pause_s > _SOUND_SLACK_S:
            self._feed(target, np.zeros((self.out.channels, round(pause_s * self.out.rate)), np.float32))

    def _feed(self, target: OutputContainer, planes: NDArray[Any]) -> None:
        if not np.isfinite(planes).all():
            raise _damaged_sound()
        self.fed += planes.shape[1]
        samples = np.ascontiguousarray(np.clip(planes.T, -1.0, 1.0), np.float32)
        self._write(target, self.passing.feed(samples))

    def _write(self, target: OutputContainer, samples: NDArray[np.float32]) -> None:
        if not len(samples):
            return
        planes = np.ascontiguousarray(samples.T)
        frame = AudioFrame.from_ndarray(planes, format="fltp", layout=self.out.layout.name)
        frame.sample_rate, frame.time_base = self.out.rate, Fraction(1, self.out.rate)
        frame.pts = round((self.first_s or 0.0) * self.out.rate) + self.written
        self.written += len(samples)
        target.mux(self.out.encode(frame))


def _aac(target: OutputContainer, source: AudioStream) -> AudioStream:
    rate = source.rate if source.rate in _AAC_RATES else 48_000
    return target.add_stream("aac", rate=rate, layout="mono" if source.channels == 1 else "stereo")


def _first(path: Path, *, any_container: bool = False) -> NDArray[np.uint8]:
    for _, picture in frames(path, any_container=any_container):
        return picture
    raise _not_video()


# --- opening ---------------------------------------------------------------------------------------------------


@contextmanager
def _open(
    path: Path, options: dict[str, str] | None = None, *, any_container: bool = False
) -> Iterator[InputContainer]:
    demuxer = _demuxer(path, any_container=any_container)
    try:
        with av.open(
            f"file:{path.absolute()}",
            format=demuxer,
            options={"protocol_whitelist": "file"} | (options or {}),
            metadata_errors="replace",
        ) as container:
            yield container
    except av.FFmpegError as error:
        raise _truncated("the file is damaged or ends early") from error


@contextmanager
def _create(dst: Path, metadata: Mapping[str, str] | None = None) -> Iterator[OutputContainer]:
    descriptor, name = tempfile.mkstemp(prefix=f".{dst.name}.", suffix=".mp4", dir=dst.parent)
    os.close(descriptor)
    draft = Path(name)
    try:
        # Keys that MP4 has no name of its own for are dropped without that flag.
        keys = "+use_metadata_tags" if metadata else ""
        options = {"movflags": f"+faststart{keys}", "fflags": "+bitexact"}
        with av.open(str(draft), "w", format="mp4", options=options) as container:
            container.metadata.update(metadata or {})
            yield container
        draft.replace(dst)
    finally:
        draft.unlink(missing_ok=True)


def _demuxer(path: Path, *, any_container: bool = False) -> str:
    try:
        with path.open("rb") as file:
            head = file.read(8)
            file.seek(_TRANSPORT_PACKET)
            synchronous = head[:1] == b"G" == file.read(1)
    except OSError as error:
        raise _unreadable(path) from error
    if head[:4] == _MATROSKA:
        return "matroska"
    if head[4:] in _MP4_FIRST_BOXES:
        return "mov"
    if any_container and (synchronous or head[:4] in _MORE_CONTAINERS):
        return "mpegts" if synchronous else _MORE_CONTAINERS[head[:4]]
    raise _not_video()


def _video(container: InputContainer, *, any_codec: bool = False) -> VideoStream:
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream):
        raise _not_video()
    if stream.codec_context is None or not (any_codec or _codec(stream) in VIDEO_CODECS):
        raise MediaError(
            "media.codec",
            "the picture is in a format that is not accepted",
            f"send one of `{'`, `'.join(sorted(VIDEO_CODECS))}`",
        )
    stream.thread_type = "AUTO"
    return stream


def _audio(container: InputContainer) -> AudioStream | None:
    stream = container.streams.best("audio")
    return stream if isinstance(stream, AudioStream) and stream.codec_context is not None else None


def _codec(stream: VideoStream | AudioStream) -> str:
    return str(stream.codec_context.codec.canonical_name)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise _unreadable(path) from error


def _unreadable(path: Path) -> MediaError:
    return MediaError("media.unreadable", f"`{path.name}` cannot be read", "check that the file exists")


def _not_video() -> MediaError:
    return MediaError(
        "media.not_video", "the file is not an MP4, MOV, WebM or Matroska video", "send a video clip"
    )


def _truncated(sentence: str) -> MediaError:
    return MediaError(
        "media.truncated", sentence, "export or download the clip again and send the whole file"
    )


def _not_canonical(sentence: str) -> MediaError:
    return MediaError(
        "media.not_canonical", f"the clip is not in canonical form: {sentence}", "render it again"
    )


def _pixels(width: int, height: int, limits: Limits) -> str:
    return f"a frame has `{width}`x`{height}` pixels and `{limits.max_pixels}` in all are allowed"


def _too_large(sentence: str) -> MediaError:
    return MediaError("media.too_large", sentence, "send a smaller clip")


def _too_long(seconds: float, limits: Limits) -> MediaError:
    return MediaError(
        "media.too_long",
        f"the clip runs `{seconds:.1f}` seconds and `{limits.max_seconds:g}` are allowed, "
        f"at up to `{limits.max_fps}` frames a second",
        "send a shorter clip",
    )
