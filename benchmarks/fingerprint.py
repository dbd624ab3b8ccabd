"""Fingerprints: which changes of a clip they survive, what they take for the same that is not, and how fast a million are.

    python benchmarks/fingerprint.py [--quick] [--clips DIR]

Without `--clips`: a camera moving over the photographs that come with scikit-image. For each change, of how many clips
the index named the right one and no other. Then an index of a million hashes beside a plain scan in numpy, and beside
the flat and (not with `--quick`) the multi-hash binary index of `faiss-cpu`, if that is installed (it is not needed
otherwise). The last line on stdout is one JSON object.
"""

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

# Before numpy: what is compared runs on one core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
from skimage import data as _samples

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ledger.errors import LedgerError
from ledger.ids import VideoId
from ledger.provenance import fingerprint, known_clips, media, pdq
from ledger.provenance.fingerprint import Fingerprint
from ledger.provenance.pdq import Hashes, Picture

Clip = list[tuple[float, Picture]]
SAMPLES: Any = _samples
PHOTOS = ("astronaut", "coffee", "chelsea", "rocket", "hubble_deep_field", "immunohistochemistry")
FPS, MILLION = 25, 1_000_000


def moving(photo: Picture, seconds: float) -> Clip:
    """A camera that moves over a photograph and comes nearer."""
    height, width = photo.shape[:2]
    frames = []
    for number in range(round(seconds * FPS)):
        way = number / (seconds * FPS)
        side = 0.8 - 0.3 * way
        top, left = round(height * (1 - side) * way), round(width * (1 - side) * (1 - way))
        seen = photo[top : top + round(height * side), left : left + round(width * side)]
        frames.append((number / FPS, _scaled(seen, 640, 360)))
    return frames


def footage(folder: Path | None, seconds: float) -> dict[str, Clip]:
    if folder is None:
        return {name: moving(getattr(SAMPLES, name)(), seconds) for name in PHOTOS}
    found = {}
    for path in sorted(folder.iterdir()):
        try:
            found[path.name] = [one for one in _until(media.frames(path), seconds) if one]
        except LedgerError as error:
            print(f"{path.name}: {error}", file=sys.stderr)
    return {name: clip for name, clip in found.items() if clip}


def _until(frames: Iterator[tuple[float, Picture]], seconds: float) -> Iterator[tuple[float, Picture]]:
    for at, frame in frames:
        if at >= seconds:
            return
        scale = 640 / max(frame.shape[:2])
        small = _scaled(frame, *(round(side * scale) for side in frame.shape[1::-1])) if scale < 1 else frame
        yield at, small


# Changes ----------------------------------------------------------------------------------------------------


def _scaled(picture: Picture, width: int, height: int) -> Picture:
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _cropped(picture: Picture, part: float, down: float = 0.5, right: float = 0.5) -> Picture:
    height, width = (round(side * part) for side in picture.shape[:2])
    top, left = round((picture.shape[0] - height) * down), round((picture.shape[1] - width) * right)
    return picture[top : top + height, left : left + width]


def _turned(picture: Picture, degrees: float) -> Picture:
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    return np.asarray(cv2.warpAffine(picture, matrix, (width, height)), np.uint8)


def _overlaid(picture: Picture) -> Picture:
    changed = picture.copy()
    height, width = changed.shape[:2]
    changed[height * 4 // 5 : height * 19 // 20, width // 10 : width * 9 // 10] = 255
    return changed


def _each(change: Callable[[Picture], Picture]) -> Callable[[Clip], Clip]:
    return lambda clip: [(at, np.ascontiguousarray(change(frame))) for at, frame in clip]


def _encoded(clip: Clip, crf: int) -> Clip:
    """As H.264, through the package's own writer."""
    with tempfile.TemporaryDirectory() as folder:
        blank, out = Path(folder) / "blank.mp4", Path(folder) / "out.mp4"
        height, width = (side - side % 2 for side in clip[0][1].shape[:2])
        media.write_pattern(blank, width=width, height=height, count=len(clip), fps=FPS)
        frames = iter(clip)
        media.restamp(blank, out, lambda *_: np.ascontiguousarray(next(frames)[1][:height, :width]), crf=crf)
        return list(media.frames(out))


def _excerpt(clip: Clip, seconds: float) -> Clip:
    begin = clip[len(clip) * 2 // 5][0]
    return [(at - begin, frame) for at, frame in clip if begin <= at < begin + seconds]


CHANGES: dict[str, Callable[[Clip], Clip]] = {
    "as it is": lambda clip: clip,
    "H.264 CRF 28": lambda clip: _encoded(clip, 28),
    "H.264 CRF 40": lambda clip: _encoded(clip, 40),
    "320 pixels wide, CRF 35": lambda clip: _encoded(_each(lambda one: _scaled(one, 320, 180))(clip), 35),
    "squeezed to a square": _each(lambda one: _scaled(one, 360, 360)),
    "mirrored": _each(lambda one: one[:, ::-1]),
    "turned by a quarter": _each(np.rot90),
    "blurred": _each(lambda one: np.asarray(cv2.GaussianBlur(one, (0, 0), 5), np.uint8)),
    "brighter, more contrast": _each(lambda one: np.clip(one * 1.2 + 10, 0, 255).astype(np.uint8)),
    "letterbox": _each(lambda one: np.pad(one, ((60, 60), (0, 0), (0, 0)))),
    "cropped to 95 %": _each(lambda one: _cropped(one, 0.95)),
    "cropped to 80 %": _each(lambda one: _cropped(one, 0.8)),
    "cropped to 65 %, CRF 28": lambda clip: _encoded(_each(lambda one: _cropped(one, 0.65))(clip), 28),
    "cropped to 50 %": _each(lambda one: _cropped(one, 0.5)),
    "15 frames a second": lambda clip: [one for number, one in enumerate(clip) if number % 5 in {0, 2, 4}],
    "1.25 times as fast": lambda clip: [(at / 1.25, frame) for at, frame in clip],
    "one second": lambda clip: _excerpt(clip, 1.0),
    "half a second": lambda clip: _excerpt(clip, 0.5),
    "one second, mirrored, 85 %, CRF 28": lambda clip: _encoded(
        _each(lambda one: _cropped(one, 0.85)[:, ::-1])(_excerpt(clip, 1.0)), 28
    ),
    "one frame as JPEG": lambda clip: [
        (0.0, np.asarray(cv2.imdecode(cv2.imencode(".jpg", clip[len(clip) // 2][1])[1], 1), np.uint8))
    ],
    "turned by 2 degrees": _each(lambda one: _turned(one, 2)),
    "an overlay across the foot": _each(_overlaid),
    "a corner of 90 %": _each(lambda one: _cropped(one, 0.9, 0, 0)),
    "turned by 10 degrees": _each(lambda one: _turned(one, 10)),
}
QUICK = {
    "H.264 CRF 28",
    "320 pixels wide, CRF 35",
    "mirrored",
    "cropped to 80 %",
    "one second, mirrored, 85 %, CRF 28",
    "turned by 2 degrees",
    "a corner of 90 %",
}


# A million ----------------------------------------------------------------------------------------------------


class Rows:
    """Fingerprints as a transaction hands them out."""

    def __init__(self, kept: dict[str, Fingerprint]) -> None:
        self._rows = [(n, VideoId(name), one.to_bytes()) for n, (name, one) in enumerate(kept.items(), 1)]

    def fingerprints_after(self, seq: int, limit: int) -> list[tuple[int, VideoId, bytes]]:
        return self._rows[seq : seq + limit]


def drawn(count: int, seed: int = 7) -> Hashes:
    return np.random.default_rng(seed).integers(0, 2**64, (count, 4), np.uint64, endpoint=False)


def crowd(count: int) -> dict[str, Fingerprint]:
    """Clips of ten seconds that nobody filmed, with as many hashes as a real one has."""
    at_ms = np.repeat(np.arange(20) * 500, [4, 1] * 10).astype(np.uint32)
    view = np.tile([64, 65, 66, 67, 64], 10).astype(np.uint8)
    hashes = drawn(count).reshape(-1, 50, 4)
    return {f"drawn {n}": Fingerprint(at_ms, view, rows) for n, rows in enumerate(hashes)}


def timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def engines(held: Hashes, asked: Hashes, *, quick: bool) -> Iterator[tuple[str, float, float, int]]:
    """(name, seconds to build, milliseconds for each hash asked about, pairs found)."""
    index: Any = None

    def build() -> None:
        nonlocal index
        index = pdq.Index(held)

    built = timed(build)
    ours = timed(lambda: index.within(asked)) / len(asked)
    yield "countersign", built, ours * 1e3, len(index.within(asked)[0])
    few = asked[:5]
    scan = timed(lambda: [_scan(held, one) for one in few]) / len(few)
    yield "numpy scan", 0.0, scan * 1e3, len(index.within(asked)[0])
    try:
        faiss = importlib.import_module("faiss")
    except ImportError:
        return
    faiss.omp_set_num_threads(1)
    held_bytes, asked_bytes = (
        np.ascontiguousarray(rows.astype(">u8")).view(np.uint8).reshape(-1, 32) for rows in (held, asked)
    )
    peers = {"faiss flat": faiss.IndexBinaryFlat(pdq.BITS)}
    if not quick:
        peers["faiss multi-hash"] = faiss.IndexBinaryMultiHash(pdq.BITS, 16, 16)
        peers["faiss multi-hash"].nflip = 1
    for name, peer in peers.items():
        built = timed(partial(peer.add, held_bytes))
        began = time.perf_counter()
        found = peer.range_search(asked_bytes, pdq.MOST_BITS + 1)
        yield name, built, (time.perf_counter() - began) / len(asked) * 1e3, int(found[0][-1])


def _scan(held: Hashes, one: Hashes) -> Any:
    return np.flatnonzero(np.bitwise_count(held ^ one).sum(axis=1, dtype=np.uint16) <= pdq.MOST_BITS)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer changes; under a minute")
    parser.add_argument("--clips", type=Path, metavar="DIR", help="footage to use instead of the photographs")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    clips = footage(options.clips, 3.0 if options.quick else 10.0)
    clips = dict(list(clips.items())[: 4 if options.quick else None])
    kept = {name: fingerprint.of(clip).kept() for name, clip in clips.items()}
    everything = {**crowd(MILLION), **kept}
    rows: Any = Rows(everything)
    index = known_clips.Index()
    loading = timed(lambda: index.matches(rows, fingerprint.of([])))
    held = np.concatenate([one.hashes for one in everything.values()])

    recovered, wrong, looked_s, asked_s, files = dict[str, str](), 0, 0.0, 0.0, 0
    for name, change in CHANGES.items():
        if options.quick and name not in QUICK:
            continue
        right = 0
        for clip_name, clip in clips.items():
            changed, began = change(clip), time.perf_counter()
            file = fingerprint.of(changed)
            looked_s, began, files = looked_s + time.perf_counter() - began, time.perf_counter(), files + 1
            found = [one.video_id for one in index.matches(rows, file)]
            asked_s += time.perf_counter() - began
            right += clip_name in found
            wrong += len(set(found) - {clip_name})
        recovered[name] = f"{right}/{len(clips)}"
        print(f"{name:40} {recovered[name]}")

    apart = _apart(clips)
    print(f"pictures of different clips: {apart['pairs']} pairs, nearest {apart['nearest_bits']} bits")
    speed = {}
    asked = np.concatenate([drawn(150, seed=8), held[-150:]])
    for name, built, asking, pairs in engines(held, asked, quick=options.quick):
        speed[name] = {"build_s": round(built, 2), "ask_ms": round(asking, 3), "pairs": pairs}
        print(f"{name:20} builds in {built:6.2f} s, {asking:7.3f} ms a hash, {pairs} pairs")
    said = {
        "clips": len(clips),
        "recovered": recovered,
        "wrong_clips": wrong,
        **apart,
        "hashes": len(held),
        "load_s": round(loading, 2),
        "memory_mib": round(index.bytes / 2**20),
        "look_s": round(looked_s / files, 2),
        "search_s": round(asked_s / files, 2),
        "engines": speed,
    }
    print(json.dumps(said))


def _apart(clips: dict[str, Clip]) -> dict[str, int]:
    """How near pictures of different clips come, in every view asked about and kept."""
    prints = [fingerprint.of(clip) for clip in clips.values()]
    nearest, pairs = pdq.BITS, 0
    for one in prints:
        for other in prints:
            if one is not other and (found := fingerprint.like(one, other)) is not None:
                nearest = min(nearest, found.nearest)
                pairs += len(one.asked()) * len(other.kept())
    return {"pairs": pairs, "nearest_bits": nearest}


if __name__ == "__main__":
    main()
