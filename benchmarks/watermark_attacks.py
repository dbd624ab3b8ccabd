"""What befalls a marked clip between us and whoever asks about it, in real codecs; for `watermark.py`.

Every change of the picture is encoded again (H.264 at CRF 23 where nothing else is said), for that is how files arrive.
What an attack leaves to chance comes from a generator with a fixed seed.
"""

import io
import os
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Final, NamedTuple

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Frame = NDArray[np.uint8]
Clip = list[Frame]

FPS: Final = 24

os.environ.setdefault("SVT_LOG", "1")
av.logging.set_level(None)

_CODECS: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "h264": ("libx264", {"preset": "medium"}),
    "h265": ("libx265", {"preset": "fast", "x265-params": "log-level=error:pools=1:frame-threads=1"}),
    "vp9": ("libvpx-vp9", {"b": "0", "deadline": "good", "cpu-used": "4"}),
    "av1": ("libsvtav1", {"preset": "8"}),
}


class Attack(NamedTuple):
    """`group`: `promised` (99 %), `hard` (90 %) or `reported`. `quick`: whether a quick run includes it."""

    name: str
    group: str
    quick: bool
    run: Callable[[Clip], Clip]


# Codecs -------------------------------------------------------------------------------------------------------------


def read(source: io.BytesIO | str, limit: int | None = None, skip: int = 0) -> Clip:
    clip: Clip = []
    with av.open(source, "r") as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index < skip:
                continue
            clip.append(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
            if len(clip) == limit:
                break
    return clip


def coded(clip: Clip, crf: int, codec: str = "h264", fps: int = FPS) -> Clip:
    name, options = _CODECS[codec]
    out, pictures = io.BytesIO(), even(clip)
    with av.open(out, "w", format="matroska") as opened:
        container: Any = opened
        stream = container.add_stream(name, rate=Fraction(fps), options=options | {"crf": str(crf)})
        stream.height, stream.width, _ = pictures[0].shape
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        for frame in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    # Run by root, the AV1 encoder leaves the whole process with the highest real-time priority.
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    out.seek(0)
    return read(out)


def even(clip: Clip) -> Clip:
    height, width = (side - side % 2 for side in clip[0].shape[:2])
    return [np.ascontiguousarray(frame[:height, :width]) for frame in clip]


def jpeg_frame(clip: Clip) -> Clip:
    out = io.BytesIO()
    Image.fromarray(clip[len(clip) // 2]).save(out, "jpeg", quality=75)
    return [np.asarray(Image.open(out))]


# Geometry -----------------------------------------------------------------------------------------------------------


def resized(clip: Clip, width: int, height: int) -> Clip:
    if clip[0].shape[:2] == (height, width):
        return clip
    smaller = width * height < clip[0].shape[0] * clip[0].shape[1]
    how = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return [np.asarray(cv2.resize(frame, (width, height), interpolation=how), np.uint8) for frame in clip]


def to_lines(clip: Clip, lines: int) -> Clip:
    height, width, _ = clip[0].shape
    scale = lines / min(height, width)
    return resized(clip, round(width * scale / 2) * 2, round(height * scale / 2) * 2)


def half_and_back(clip: Clip) -> Clip:
    height, width, _ = clip[0].shape
    return resized(resized(clip, width // 4 * 2, height // 4 * 2), width, height)


def cropped(clip: Clip, share: float, across: float = 0.5, down: float = 0.35) -> Clip:
    height, width, _ = clip[0].shape
    h, w = int(height * share) // 2 * 2, int(width * share) // 2 * 2
    top, left = int((height - h) * down), int((width - w) * across)
    return [np.ascontiguousarray(frame[top : top + h, left : left + w]) for frame in clip]


def rotated(clip: Clip, degrees: float) -> Clip:
    """As editors do: what turns out of the picture is lost, what turns in is black."""
    height, width, _ = clip[0].shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    return warped(clip, np.vstack([turn, [0, 0, 1]]))


def warped(clip: Clip, turn: NDArray[Any], size: tuple[int, int] | None = None) -> Clip:
    height, width, _ = clip[0].shape
    return [
        np.asarray(cv2.warpPerspective(frame, turn, size or (width, height), flags=cv2.INTER_CUBIC), np.uint8)
        for frame in clip
    ]


def quarter(clip: Clip) -> Clip:
    return [np.ascontiguousarray(np.rot90(frame)) for frame in clip]


def mirrored(clip: Clip) -> Clip:
    return [np.ascontiguousarray(frame[:, ::-1]) for frame in clip]


def squeezed(clip: Clip) -> Clip:
    height, width, _ = clip[0].shape
    return resized(clip, round(width * 0.75 / 2) * 2, height)


def letterboxed(clip: Clip) -> Clip:
    """Into a square, with bars above and below."""
    height, width, _ = clip[0].shape
    side = max(height, width)
    square = np.zeros((side, side, 3), np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    out = []
    for frame in clip:
        square[top : top + height, left : left + width] = frame
        out.append(square.copy())
    return to_lines(out, 480)


# Tone and texture ---------------------------------------------------------------------------------------------------


def toned(clip: Clip, gain: float = 1.2, lift: float = 12.0, gamma: float = 1.0) -> Clip:
    """Contrast around grey, brightness, gamma."""
    levels = (np.arange(256) - 128) * gain + 128 + lift
    curve = np.rint(255 * (np.clip(levels, 0, 255) / 255) ** gamma).astype(np.uint8)
    return [curve[frame] for frame in clip]


def blurred(clip: Clip, sigma: float = 1.2) -> Clip:
    return [np.asarray(cv2.GaussianBlur(frame, (0, 0), sigma), np.uint8) for frame in clip]


def inverted(clip: Clip) -> Clip:
    return [255 - frame for frame in clip]


def overlaid(clip: Clip) -> Clip:
    """A caption, a logo and an opaque sticker."""
    height, width, _ = clip[0].shape
    out = []
    for frame in clip:
        picture = Image.fromarray(frame)
        pen = ImageDraw.Draw(picture)
        pen.rectangle((width * 0.1, height * 0.82, width * 0.9, height * 0.94), fill=(0, 0, 0))
        pen.text(
            (width * 0.15, height * 0.85), "and then nobody believed it", fill="white", font_size=height / 18
        )
        pen.ellipse((width * 0.8, height * 0.05, width * 0.95, height * 0.25), fill=(250, 200, 20))
        pen.rectangle((width * 0.03, height * 0.05, width * 0.2, height * 0.16), fill=(200, 30, 60))
        out.append(np.asarray(picture))
    return out


def screen_recorded(clip: Clip, askew: float = 0.5) -> Clip:
    """Filmed from a screen by hand: perspective, a scale of its own, tone, noise, a moving beat, blur, 30 a second.

    askew: 1 displaces the corners by up to 6 % of a side.
    """
    height, width, _ = clip[0].shape
    rng = np.random.default_rng(11)
    size = (round(width * 0.9 / 2) * 2, round(height * 0.9 / 2) * 2)
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    straight = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float32)
    held = np.array([(0.03, 0.04), (0.98, 0.01), (0.955, 0.97), (0.015, 0.94)], np.float32)
    seen = (straight + (held - straight) * np.float32(askew)) * np.array(size, np.float32)
    y, x = np.mgrid[0 : size[1], 0 : size[0]].astype(np.float32)
    out = []
    for index in range(len(clip) * 30 // FPS):
        shake = seen + np.float32(1.5) * np.sin(index / np.array([[7, 9], [8, 7], [9, 8], [7, 8]]))
        turn = cv2.getPerspectiveTransform(corners, shake.astype(np.float32))
        shot = warped([clip[index * FPS // 30]], turn, size)[0].astype(np.float32)
        beat = 1 + 0.03 * np.sin(2 * np.pi * (0.013 * x + 0.031 * y + 0.07 * index))
        shot = 255 * (np.clip(shot * 0.92 + 8, 0, 255) / 255) ** 1.08 * beat[..., None]
        shot = cv2.GaussianBlur(shot, (0, 0), 0.8) + rng.normal(0, 2.5, shot.shape)
        out.append(np.clip(shot, 0, 255).astype(np.uint8))
    return out


# Time ---------------------------------------------------------------------------------------------------------------


def dropped(clip: Clip) -> Clip:
    """A third of the frames, here and there."""
    kept = np.random.default_rng(7).random(len(clip)) > 1 / 3
    return [frame for frame, keep in zip(clip, kept, strict=True) if keep]


def at_fps(clip: Clip, fps: int) -> Clip:
    return [clip[index * FPS // fps] for index in range(len(clip) * fps // FPS)]


def faster(clip: Clip) -> Clip:
    return [frame for index, frame in enumerate(clip) if index % 5]


def second(clip: Clip) -> Clip:
    start = max(0, len(clip) // 3)
    return clip[start : start + FPS]


# The list -----------------------------------------------------------------------------------------------------------


def everything_at_once(clip: Clip) -> Clip:
    small = to_lines(cropped(rotated(clip, 4), 0.8), 360)
    return coded(at_fps(toned(small, 1.1, 8, 1.1), 15), 30, fps=15)


def generations(clip: Clip) -> Clip:
    return coded(coded(coded(clip, 23), 26), 28)


ATTACKS: Final = (
    Attack("untouched", "promised", True, lambda clip: clip),
    Attack("H.264 CRF 23", "promised", False, lambda clip: coded(clip, 23)),
    Attack("H.264 CRF 28", "promised", True, lambda clip: coded(clip, 28)),
    Attack("H.265 CRF 28", "promised", False, lambda clip: coded(clip, 28, "h265")),
    Attack("VP9 CRF 35", "promised", False, lambda clip: coded(clip, 35, "vp9")),
    Attack("AV1 CRF 40", "promised", False, lambda clip: coded(clip, 40, "av1")),
    Attack("half size and back", "promised", False, lambda clip: coded(half_and_back(clip), 23)),
    Attack("360 lines", "promised", True, lambda clip: coded(to_lines(clip, 360), 23)),
    Attack("crop 80 %", "promised", True, lambda clip: coded(cropped(clip, 0.8), 23)),
    Attack("crop 50 %", "promised", False, lambda clip: coded(cropped(clip, 0.5), 23)),
    Attack("rotation 2°", "promised", True, lambda clip: coded(rotated(clip, 2), 23)),
    Attack("rotation 10°", "promised", False, lambda clip: coded(rotated(clip, 10), 23)),
    Attack("rotation 90°", "promised", False, lambda clip: coded(quarter(clip), 23)),
    Attack("mirror", "promised", True, lambda clip: coded(mirrored(clip), 23)),
    Attack("squeeze to 75 %", "promised", False, lambda clip: coded(squeezed(clip), 23)),
    Attack("brightness, contrast", "promised", False, lambda clip: coded(toned(clip), 23)),
    Attack("gamma 1.4", "promised", False, lambda clip: coded(toned(clip, 1, 0, 1.4), 23)),
    Attack("blur", "promised", False, lambda clip: coded(blurred(clip), 23)),
    Attack("a third of frames dropped", "promised", False, lambda clip: coded(dropped(clip), 23)),
    Attack("15 frames a second", "promised", False, lambda clip: coded(at_fps(clip, 15), 23, fps=15)),
    Attack("1.25 times as fast", "promised", False, lambda clip: coded(faster(clip), 23)),
    Attack("one second", "promised", False, lambda clip: coded(second(clip), 23)),
    Attack("overlays", "promised", False, lambda clip: coded(overlaid(clip), 23)),
    Attack("letterbox", "promised", False, lambda clip: coded(letterboxed(clip), 23)),
    Attack("inversion", "promised", False, lambda clip: coded(inverted(clip), 23)),
    Attack(
        "crop 80 %, 360 lines, CRF 28", "promised", True, lambda clip: coded(to_lines(cropped(clip, 0.8), 360), 28)
    ),
    Attack("H.264 CRF 35", "hard", True, lambda clip: coded(clip, 35)),
    Attack("rotate, crop, 360 lines, tone, 15 fps, CRF 30", "hard", False, everything_at_once),
    Attack("screen recording", "hard", False, lambda clip: coded(screen_recorded(clip), 26, fps=30)),
    Attack(
        "screen filmed at an angle", "reported", False, lambda clip: coded(screen_recorded(clip, 1.0), 26, fps=30)
    ),
    Attack("three generations: CRF 23, 26, 28", "hard", False, generations),
    Attack("one JPEG 75 frame", "hard", True, jpeg_frame),
    Attack("H.264 CRF 40", "reported", False, lambda clip: coded(clip, 40)),
)  # fmt: skip
