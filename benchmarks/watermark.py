"""The invisible watermark against attacks, beside the `invisible-watermark` package (its `dwtDctSvd` method).

    python benchmarks/watermark.py --quick            under 50 s: a moving photo and a synthetic scene, 1.5 s each
    python benchmarks/watermark.py --clips DIR        your own footage (first 4 s of every video in DIR)

The last line on stdout is one JSON object. Each attack is one payload to recover; a payload recovered wrongly ends the
run with an error. The peer carries the same 64 bits without check bits, so it is given the benefit of the doubt: its
bits are voted over 8 frames and compared with the truth. Where it is not installed, `peer_recovered` is null.
"""

import argparse
import functools
import importlib
import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))

from ledger.provenance.watermark import Detected, Embedder, detect

Frame = NDArray[np.uint8]
Clip = list[Frame]

KEY = bytes(range(32))
PAYLOAD = bytes.fromhex("5eed0123456789ab")
FPS = 24


# Footage ------------------------------------------------------------------------------------------------------------


def photo_move(name: str, frames: int, width: int = 854, height: int = 480) -> Clip:
    picture = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
    scale = 1.2 * max(width / picture.width, height / picture.height)
    picture = picture.resize(
        (round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC
    )
    clip = []
    for t in np.linspace(0, 1, frames):
        w, h = width * (1 - 0.1 * t), height * (1 - 0.1 * t)
        x, y = (picture.width - width) * t * 0.5, (picture.height - height) * t * 0.5
        clip.append(
            np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC, box=(x, y, x + w, y + h)))
        )
    return clip


def soft_lights(frames: int, width: int = 854, height: int = 480) -> Clip:
    """Out-of-focus lights drifting over a dark wall: nothing here hides a mark."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / np.float32(height)
    lights = np.random.default_rng(5).uniform(0, 1, (4, 6)).astype(np.float32)
    clip = []
    for t in range(frames):
        frame = np.stack([30 + 20 * y, 28 + 24 * y, 44 + 10 * x], -1)
        for px, py, size, *colour in lights:
            distance = (x - 1.8 * px - 0.002 * t) ** 2 + (y - py) ** 2
            frame += np.exp(-distance / (0.02 + 0.08 * size))[..., None] * (np.asarray(colour) * 90)
        clip.append(np.clip(frame, 0, 255).astype(np.uint8))
    return clip


def read(source: io.BytesIO | str, limit: int | None = None) -> Clip:
    clip: Clip = []
    with av.open(source, "r") as container:
        for frame in container.decode(video=0):
            clip.append(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
            if len(clip) == limit:
                break
    return clip


def footage(directory: Path | None, *, quick: bool) -> dict[str, Clip]:
    frames = FPS * 3 // 2 if quick else FPS * 4
    if directory is None:
        photos = ("astronaut",) if quick else ("astronaut", "coffee", "chelsea", "camera")
        return {name: photo_move(name, frames) for name in photos} | {"soft lights": soft_lights(frames)}
    files = sorted(p for p in directory.iterdir() if p.suffix in {".mp4", ".mkv", ".webm", ".mov"})
    if not files:
        sys.exit(f"no videos in `{directory}`")
    return {path.name: fitted(read(str(path), frames)) for path in files}


def fitted(clip: Clip) -> Clip:
    """At most 480 lines, even sides; small footage stays as it is."""
    height, width, _ = clip[0].shape
    scale = min(1.0, 480 / min(height, width))
    return resized(clip, round(width * scale / 2) * 2, round(height * scale / 2) * 2)


# Attacks ------------------------------------------------------------------------------------------------------------


def h264(clip: Clip, crf: int) -> Clip:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS), options={"crf": str(crf)})
        stream.height, stream.width, _ = clip[0].shape
        stream.pix_fmt = "yuv420p"
        for frame in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    out.seek(0)
    return read(out)


def resized(clip: Clip, width: int, height: int) -> Clip:
    if clip[0].shape[:2] == (height, width):
        return clip
    return [np.asarray(Image.fromarray(f).resize((width, height), Image.Resampling.BICUBIC)) for f in clip]


def to_360_lines(clip: Clip) -> Clip:
    height, width, _ = clip[0].shape
    scale = 360 / min(height, width)
    return resized(clip, round(width * scale / 2) * 2, round(height * scale / 2) * 2)


def cropped(clip: Clip, share: float) -> Clip:
    height, width, _ = clip[0].shape
    h, w = int(height * share) // 2 * 2, int(width * share) // 2 * 2
    top, left = (height - h) // 3, (width - w) // 2
    return [np.ascontiguousarray(f[top : top + h, left : left + w]) for f in clip]


def toned(clip: Clip) -> Clip:
    return [np.clip(f * 0.85 + 10, 0, 255).astype(np.uint8) for f in clip]


def jpeg_frame(clip: Clip) -> Clip:
    out = io.BytesIO()
    Image.fromarray(clip[len(clip) // 2]).save(out, "jpeg", quality=75)
    return [np.asarray(Image.open(out))]


def attacks(marked: Clip, *, quick: bool) -> Iterator[tuple[str, Clip]]:
    height, width, _ = marked[0].shape
    at_23 = h264(marked, 23)
    at_28 = h264(marked, 28)
    yield "untouched", marked
    yield "crf 23", at_23
    yield "crf 28", at_28
    yield "360 lines, crf 28", h264(to_360_lines(marked), 28)
    yield "360 lines and back", resized(to_360_lines(marked), width, height)
    yield "half the frames, crf 23", at_23[::2]
    yield "one second, crf 23", at_23[len(at_23) // 3 :][:FPS]
    yield "tone, crf 23", h264(toned(marked), 23)
    yield "one JPEG 75 frame", jpeg_frame(marked)
    yield "crop 80 %, crf 23", h264(cropped(marked, 0.8), 23)
    if quick:
        return
    yield "one second, crf 28", at_28[len(at_28) // 3 :][:FPS]
    yield "crf 33", h264(marked, 33)
    yield "crop 55 %, crf 23", h264(cropped(marked, 0.55), 23)
    yield "crf 23 three times", functools.reduce(h264, (23, 23), at_23)


# The peer -----------------------------------------------------------------------------------------------------------


class Peer:
    """`invisible-watermark`, frame by frame: 64 bits, no check bits."""

    def __init__(self, module: Any) -> None:
        self._encoder = module.WatermarkEncoder()
        self._encoder.set_watermark("bytes", PAYLOAD)
        self._decoder = module.WatermarkDecoder("bytes", 8 * len(PAYLOAD))

    @classmethod
    def installed(cls) -> "Peer | None":
        try:
            return cls(importlib.import_module("imwatermark"))
        except ImportError as error:
            print(
                f"the peer `invisible-watermark` is not installed ({error}): its column is null",
                file=sys.stderr,
            )
            return None

    def mark(self, clip: Clip) -> Clip:
        return [
            np.ascontiguousarray(
                self._encoder.encode(np.ascontiguousarray(f[..., ::-1]), "dwtDctSvd")[..., ::-1]
            )
            for f in clip
        ]

    def recovers(self, clip: Clip) -> bool:
        picked = [clip[i] for i in sorted({int(i) for i in np.linspace(0, len(clip) - 1, 8)})]
        read_bits = [
            np.unpackbits(
                np.frombuffer(self._decoder.decode(np.ascontiguousarray(f[..., ::-1]), "dwtDctSvd"), np.uint8)
            )
            for f in picked
        ]
        return np.packbits(np.mean(read_bits, axis=0) > 0.5).tobytes() == PAYLOAD


# The run ------------------------------------------------------------------------------------------------------------


def mark(clip: Clip) -> Clip:
    height, width, _ = clip[0].shape
    embed = Embedder(KEY, PAYLOAD, width=width, height=height)
    return [embed(frame, index) for index, frame in enumerate(clip)]


def recovers(clip: Clip) -> bool:
    found = detect(clip, KEY)
    if isinstance(found, Detected) and found.payload != PAYLOAD:
        sys.exit("a wrong payload passed its check bits")
    return isinstance(found, Detected)


def timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def luma_psnr_db(before: Clip, after: Clip) -> float:
    weights = np.array([0.299, 0.587, 0.114])
    errors = [
        np.mean(((a.astype(float) - b) @ weights) ** 2) for a, b in zip(before[::6], after[::6], strict=True)
    ]
    return float(10 * np.log10(255**2 / np.mean(errors)))


def embed_fps_720p() -> float:
    clip = photo_move("coffee", 24, 1280, 720)
    return len(clip) / timed(lambda: mark(clip))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer frames and attacks")
    parser.add_argument(
        "--clips", type=Path, metavar="DIR", help="footage to use instead of the built-in scenes"
    )
    options = parser.parse_args()

    clips = footage(options.clips, quick=options.quick)
    peer = Peer.installed()
    tally: dict[str, list[int]] = {}
    psnr, peer_hits, unmarked_s, unaltered_s = [], 0, [], []
    for name, clip in clips.items():
        marked = mark(clip)
        psnr.append(luma_psnr_db(clip, marked))
        for attack, frames in attacks(marked, quick=options.quick):
            tally.setdefault(attack, []).append(recovers(frames))
        if peer is not None:
            peer_hits += sum(
                peer.recovers(frames) for _, frames in attacks(peer.mark(clip), quick=options.quick)
            )
        four_seconds = (marked * 3)[: 4 * FPS]
        unaltered_s.append(timed(functools.partial(detect, four_seconds, KEY)))
        unmarked_s.append(timed(functools.partial(detect, (clip * 3)[: 4 * FPS], KEY)))
        print(
            f"{name}: {sum(hits[-1] for hits in tally.values())} of {len(tally)}, {psnr[-1]:.2f} dB",
            file=sys.stderr,
        )
    by_attack = {attack: f"{sum(hits)}/{len(hits)}" for attack, hits in tally.items()}
    result = {
        "recovered": sum(sum(hits) for hits in tally.values()),
        "of": sum(len(hits) for hits in tally.values()),
        "by_attack": by_attack,
        "psnr_y_db": round(min(psnr), 2),
        "embed_fps_720p": round(embed_fps_720p(), 1),
        "detect_s_unaltered": round(max(unaltered_s), 2),
        "detect_s_unmarked_max": round(max(unmarked_s), 2),
        "peer_recovered": None if peer is None else peer_hits,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
