"""The checks: how much of what is harmful they catch, how much of what is not they stop, and how long they take.

    python benchmarks/safety.py --prompts FILE.jsonl[.gz]     the prompt screen; rows {"text", "label", "category"?}
    python benchmarks/safety.py --faces DIR                   the faces; one folder of photographs for each person
    python benchmarks/safety.py --latency                     a clip and prompts, in processor time

The last line on stdout is one JSON object (with both, one object with the figures of each under its name); the curves
are drawn to `--png`. `--quick` takes a sample, the same one each time, and stays under a minute. No data comes with
the project: without a path nothing is measured, and what is needed is said.

**Prompts.** `label` is `benign` or `harmful`; `category`, if there is one, a name or a list of names, and
`auprc_by_category` is of each against everything benign. A text is ranked by what it says: the highest of its scores,
as a share of the score from which on the policies refuse it (:data:`REFUSED_AT`; `sexual` and `minors` together at 300
each). `…_at_shipped_threshold` is what they refuse, so also what is disguised, whatever it says. `block_at_95_pass` and `block_at_99_pass` are the shares of harmful texts refused when
95 and 99 in a hundred benign ones pass, so `tpr_at_5pct_fpr` and `tpr_at_1pct_fpr` are the same two figures by
another name. `obfuscated` repeats all of it with texts disguised in one way, of a sample of 300 rows of either label. `p99_ms` is of whole screenings, one
after the other, on one core.

**Faces.** Every photograph with exactly one recognisable face gives a template, in a worker process as in the service.
`fmr` is the share of pairs of different people within the distance that a grant needs, `fnmr` that of pairs of one
person beyond it; the curve is of all distances. `limits` is, for galleries of each size, the distance that the service
uses and what the same model fitted to these photographs would, and how many pairs of one person are beyond it. Rates
below one in the number of pairs are not measured. `gallery_ms` is one search among so many made-up templates that
spread as these do (as the service's constants say, of fewer than thirty), beside a plain scan with BLAS.
"""

import argparse
import base64
import contextlib
import gzip
import json
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))

from ledger.errors import LedgerError
from ledger.ids import CameoId
from safety import faces, gallery
from safety.enrolment.vouching import decode_picture
from safety.errors import SafetyError
from safety.faces import Template
from safety.prompt import MAX_CHARS, screen

REFUSED_AT = {
    "sexual": 500,
    "violence": 700,
    "hate": 500,
    "harassment": 500,
    "self_harm": 500,
    "illicit": 500,
    "impersonation": 500,
}
"""The score of each category from which on the policies that come with the service refuse it by itself."""
TOGETHER = ("sexual", "minors", 300)
DISGUISED_AT = 500
TIMED = 400
DISGUISED, QUICK_DISGUISED = 300, 15
"""Rows of either label that every disguise is tried on."""
QUICK = 300
Scores = NDArray[np.float64]


class Row(NamedTuple):
    text: str
    harmful: bool
    categories: tuple[str, ...]


# Prompts ------------------------------------------------------------------------------------------------------------

_LEET = str.maketrans("aeiostAEIOST", "431057431057")
_CYRILLIC = str.maketrans("aceopxyiskABCEHKMOPTX", "асеорхуіѕкАВСЕНКМОРТХ")
_ZERO_WIDTH = "\u200b"
_EMOJI = {
    "sex": "🍆💦", "sexy": "🔥", "naked": "🍑", "nude": "🍑", "penis": "🍆", "ass": "🍑", "breasts": "🍒", "gun": "🔫",
    "bomb": "💣", "knife": "🔪", "blood": "🩸", "kill": "🔪", "drugs": "💊", "dead": "💀", "fire": "🔥", "woman": "👩",
    "girl": "👧", "man": "👨", "boy": "👦", "child": "🧒", "baby": "👶", "dog": "🐶", "cat": "🐱", "sun": "☀️", "house": "🏠",
}  # fmt: skip


def _emoji(text: str) -> str:
    """Words that an emoji stands for are written as one, and the letters of the others are enclosed ones."""
    return " ".join(_EMOJI.get(word.lower().strip(".,!?"), _enclosed(word)) for word in text.split())


def _enclosed(word: str) -> str:
    return "".join(chr(0x1F170 + ord(c.lower()) - 97) if c.isascii() and c.isalpha() else c for c in word)


DISGUISES: Mapping[str, Callable[[str], str]] = {
    "leet": lambda text: text.translate(_LEET),
    "full_width": lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
    "spaced": lambda text: "   ".join(" ".join(word) for word in text.split()),
    "dotted": lambda text: " ".join(".".join(word) for word in text.split()),
    "zero_width": _ZERO_WIDTH.join,
    "cyrillic": lambda text: text.translate(_CYRILLIC),
    "struck": lambda text: "".join(c + "\u0336" for c in text),
    "reversed": lambda text: text[::-1],
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "hex": lambda text: text.encode().hex(),
    "emoji": _emoji,
}


def read_rows(path: Path) -> list[Row]:
    whole = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rows = []
    for line in filter(None, whole.decode().split("\n")):
        row = json.loads(line)
        named = row.get("category") or ()
        if row["label"] not in {"benign", "harmful"}:
            raise SystemExit(f"the label `{row['label']}` is neither `benign` nor `harmful`")
        if row["text"].strip():
            categories = (named,) if isinstance(named, str) else tuple(named)
            rows.append(Row(row["text"], row["label"] == "harmful", categories))
    return rows


class Ranked(NamedTuple):
    """Of each text: how far towards a refusal what it says scores, 1 being refused; and whether it is refused."""

    danger: Scores
    refused: NDArray[np.bool_]


def danger(scores: Mapping[Any, int]) -> float:
    """How far towards a refusal these scores are, disguise apart."""
    alone = max(scores[category] / most for category, most in REFUSED_AT.items())
    one, other, most = TOGETHER
    return max(alone, min(scores[one], scores[other]) / most)


@lru_cache(maxsize=1)
def _processes() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(os.cpu_count(), get_context("spawn"))


def _scored(text: str) -> dict[str, int]:
    return {str(category): score for category, score in screen(text[:MAX_CHARS]).scores.items()}


def _ranked(texts: Iterable[str]) -> Ranked:
    found = list(_processes().map(_scored, texts, chunksize=4))
    dangers = np.array([danger(scores) for scores in found])
    disguised = np.array([scores["obfuscated"] >= DISGUISED_AT for scores in found])
    return Ranked(dangers, (dangers >= 1) | disguised)


def measured(harmful: Ranked, benign: Ranked) -> dict[str, float]:
    """How well they are told apart. Ties count half, and a threshold stands above every tie."""
    at_1, at_5 = (_caught(harmful.danger, benign.danger, share) for share in (0.01, 0.05))
    return {
        "auc": _auc(harmful.danger, benign.danger),
        "ap": _ap(harmful.danger, benign.danger),
        "tpr_at_1pct_fpr": at_1,
        "tpr_at_5pct_fpr": at_5,
        "tpr_at_shipped_threshold": _share(harmful.refused),
        "fpr_at_shipped_threshold": _share(benign.refused),
        "block_at_99_pass": at_1,
        "block_at_95_pass": at_5,
    }


def _share(of: NDArray[np.bool_]) -> float:
    return round(float(of.mean()), 4)


def _caught(harmful: Scores, benign: Scores, stopped: float) -> float:
    """The share of harmful texts above the lowest threshold that stops at most this share of benign ones."""
    ordered = np.sort(benign)[::-1]
    threshold = ordered[min(int(stopped * len(ordered)), len(ordered) - 1)]
    return _share(harmful > threshold)


def _auc(harmful: Scores, benign: Scores) -> float:
    ordered = np.sort(benign)
    below, upto = np.searchsorted(ordered, harmful, "left"), np.searchsorted(ordered, harmful, "right")
    return round(float((below + upto).mean() / 2 / len(benign)), 4)


def _ap(harmful: Scores, benign: Scores) -> float:
    """Average precision; texts with the same score are one step."""
    scores = np.concatenate([harmful, benign])
    true = np.concatenate([np.ones(len(harmful)), np.zeros(len(benign))])
    order = np.argsort(-scores, kind="stable")
    scores, found = scores[order], np.cumsum(true[order])
    last = np.flatnonzero(np.append(np.diff(scores) != 0, True))
    recall = found[last] / len(harmful)
    precision = found[last] / (last + 1)
    return round(float(np.sum(np.diff(recall, prepend=0) * precision)), 4)


def _times_ms(texts: Sequence[str]) -> list[float]:
    """Of whole screenings, on one core, once everything is loaded."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        screen(texts[0][:MAX_CHARS])
        took = []
        for text in texts:
            begun = time.perf_counter_ns()
            screen(text[:MAX_CHARS])
            took.append((time.perf_counter_ns() - begun) / 1e6)
    finally:
        os.sched_setaffinity(0, cores)
    return took


def prompts(path: Path, *, quick: bool) -> tuple[dict[str, Any], dict[str, tuple[Ranked, Ranked]]]:
    rows = read_rows(path)
    if quick:
        rows = Random(6).sample(rows, min(QUICK, len(rows)))
    bad, good = [row for row in rows if row.harmful], [row for row in rows if not row.harmful]
    if not bad or not good:
        raise SystemExit("both labels are needed: rows that are `benign`, and rows that are `harmful`")
    harmful, benign = _ranked(row.text for row in bad), _ranked(row.text for row in good)
    curves = {"plain": (harmful, benign)}
    answer: dict[str, Any] = {"rows": len(rows), "harmful": len(bad), **measured(harmful, benign)}
    print(json.dumps({"plain": answer}), flush=True)
    named = sorted({category for row in bad for category in row.categories})
    answer["auprc_by_category"] = {
        category: _ap(harmful.danger[[category in row.categories for row in bad]], benign.danger)
        for category in named
    }
    took = _times_ms(
        [row.text for row in Random(7).sample(rows, min(TIMED // (4 if quick else 1), len(rows)))]
    )
    answer["median_ms"] = round(statistics.median(took), 2)
    answer["p99_ms"] = round(sorted(took)[int(0.99 * len(took))], 2)
    answer["obfuscated"] = {}
    most = QUICK_DISGUISED if quick else DISGUISED
    bad, good = (Random(8).sample(some, min(most, len(some))) for some in (bad, good))
    for name, disguise in DISGUISES.items():
        curves[name] = (
            _ranked(disguise(row.text) for row in bad),
            _ranked(disguise(row.text) for row in good),
        )
        answer["obfuscated"][name] = measured(*curves[name])
        print(json.dumps({name: answer["obfuscated"][name]}), flush=True)
    return answer, curves


def _draw_prompts(curves: Mapping[str, tuple[Ranked, Ranked]], path: Path) -> None:
    plt = _plots()
    figure, axis = plt.subplots(figsize=(6, 4.4), layout="constrained")
    for name, (harmful, benign) in curves.items():
        at = np.unique(np.concatenate([harmful.danger, benign.danger]))[::-1]
        stopped = [float((benign.danger >= t).mean()) for t in at]
        caught = [float((harmful.danger >= t).mean()) for t in at]
        axis.plot(stopped, caught, label=name, linewidth=2.5 if name == "plain" else 1)
    axis.set(xscale="symlog", xlim=(0, 1), ylim=(0, 1), xlabel="benign stopped", ylabel="harmful stopped")
    axis.set_xscale("symlog", linthresh=0.01)
    axis.legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


# Faces --------------------------------------------------------------------------------------------------------------


class Compared(NamedTuple):
    """Distances of pairs of photographs."""

    same: Scores
    different: Scores


def faces_of(folder: Path, *, quick: bool) -> tuple[dict[str, list[Template]], Counter[str], list[float]]:
    """Templates by person; how many photographs were left out, and why; how long each search took."""
    people: dict[str, list[Template]] = {}
    left_out, times = Counter[str](), list[float]()
    for person in sorted(one for one in folder.iterdir() if one.is_dir()):
        photographs = sorted(path for path in person.iterdir() if path.is_file())
        for path in photographs[: 4 if quick else None]:
            try:
                picture = decode_picture(path.read_bytes())
                began = time.perf_counter()
                ((*found,),) = faces.search([picture])
                times.append((time.perf_counter() - began) * 1000)
            except (SafetyError, LedgerError) as error:
                left_out[error.reason.id] += 1
                continue
            known = [face for face in found if face.recognisable]
            if len(known) == 1:
                people.setdefault(person.name, []).append(known[0].template)
            else:
                left_out["no face" if not known else "several faces"] += 1
    return people, left_out, times


def measure_faces(folder: Path, *, quick: bool) -> tuple[dict[str, Any], Compared]:
    people, left_out, times = faces_of(folder, quick=quick)
    templates = [(name, one) for name, several in people.items() for one in several]
    pairs = [
        (name == other, float(np.linalg.norm(one - another)))
        for n, (name, one) in enumerate(templates)
        for other, another in templates[:n]
    ]
    compared = Compared(*(np.sort([d for same, d in pairs if same is kind]) for kind in (True, False)))
    if not len(compared.same) or not len(compared.different):
        raise SystemExit(
            f"no pairs to compare in `{folder}`: give a folder of photographs for each of several people"
        )
    apart, spread = float(compared.different.mean()), float(compared.different.std())
    limits = {
        str(rows): {
            "shipped": round(gallery.limit(rows), 3),
            "fitted": round(apart + spread * statistics.NormalDist().inv_cdf(gallery.WRONG / rows), 3),
            "fnmr": _share(compared.same > gallery.limit(rows)),
        }
        for rows in (10**3, 10**4, 10**5, 10**6)
    }
    answer = {
        "people": len(people),
        "photographs": len(templates),
        "left_out": dict(left_out),
        "pairs_same": len(compared.same),
        "pairs_different": len(compared.different),
        "threshold": faces.GRANT_DISTANCE,
        "fmr": _share(compared.different <= faces.GRANT_DISTANCE),
        "fnmr": _share(compared.same > faces.GRANT_DISTANCE),
        "fmr_outer": _share(compared.different <= faces.STRANGER_DISTANCE),
        "fnmr_outer": _share(compared.same > faces.STRANGER_DISTANCE),
        "equal_error": _equal_error(compared),
        "different_mean": round(apart, 4),
        "different_deviation": round(spread, 4),
        "limits": limits,
        "search_ms": {"median": round(statistics.median(times), 1), "worst": round(max(times), 1)},
        "gallery_ms": _gallery_ms(np.stack([one for _, one in templates]), 10**5 if quick else 10**6),
    }
    return answer, compared


def _equal_error(compared: Compared) -> float:
    steps = np.unique(np.concatenate(compared))
    missed = 1 - np.searchsorted(compared.same, steps, side="right") / len(compared.same)
    wrong = np.searchsorted(compared.different, steps, side="right") / len(compared.different)
    best = int(np.abs(missed - wrong).argmin())
    return round(float(missed[best] + wrong[best]) / 2, 4)


def _gallery_ms(templates: NDArray[np.float64], count: int) -> dict[str, float]:
    """One search, exactly, and the same by a plain scan."""
    rng = np.random.default_rng(1)
    centred = templates - templates.mean(axis=0)
    # Too few photographs have too few directions: a fifth of the spread goes everywhere.
    made = rng.normal(size=(count, len(centred))).astype(np.float32) @ (centred / len(centred) ** 0.5).astype(
        np.float32
    )
    made *= 0.8**0.5
    made += rng.normal(scale=(0.2 * centred.var(axis=0).sum() / 128) ** 0.5, size=made.shape).astype(
        np.float32
    )
    made += templates.mean(axis=0).astype(np.float32)
    rows = gallery.Rows()
    for start in range(0, count, 10):
        rows.put(CameoId(str(start)), faces.Likeness(made[start : start + 10]))
    squares, within = (made**2).sum(axis=1), gallery.limit(count)
    ours, plain = [], []
    for place in rng.integers(count, size=30):
        template = made[place].astype(np.float64) + rng.normal(size=128) * 0.3 / 128**0.5
        began = time.perf_counter()
        hit = rows.nearest(template, within)
        ours.append((time.perf_counter() - began) * 1000)
        began = time.perf_counter()
        distances = squares - 2 * (made @ template.astype(np.float32))
        nearest = int(distances.argmin())
        plain.append((time.perf_counter() - began) * 1000)
        if hit is None or hit.distance > float(np.linalg.norm(made[nearest] - template)) + 1e-6:
            raise SystemExit("the gallery missed somebody")
    return {
        "templates": count,
        "median": round(statistics.median(ours), 2),
        "best": round(min(ours), 2),
        "plain_median": round(statistics.median(plain), 2),
        "plain_best": round(min(plain), 2),
    }


def _draw_faces(compared: Compared, path: Path) -> None:
    plt = _plots()
    steps = np.unique(np.concatenate(compared))
    missed = 1 - np.searchsorted(compared.same, steps, side="right") / len(compared.same)
    wrong = np.searchsorted(compared.different, steps, side="right") / len(compared.different)
    figure, axis = plt.subplots(figsize=(6, 5))
    axis.step(np.maximum(wrong, 0.3 / len(compared.different)), np.maximum(missed, 0.3 / len(compared.same)))
    for distance in (faces.GRANT_DISTANCE, gallery.FARTHEST, faces.STRANGER_DISTANCE):
        at = float(np.mean(compared.different <= distance)), float(np.mean(compared.same > distance))
        axis.plot(max(at[0], 0.3 / len(compared.different)), max(at[1], 0.3 / len(compared.same)), "o")
        axis.annotate(f"{distance:.2f}", at, xytext=(4, 4), textcoords="offset points")
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="different people taken for one",
        ylabel="one person not recognised",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)


# What each check costs -----------------------------------------------------------------------------------------------


def latency(*, quick: bool) -> dict[str, Any]:
    """Milliseconds of processor time, of this process and its workers together, so that what else runs here counts
    little: the prompt screen, and a clip of four seconds in 720p cleared; `clip_wall_ms` is by the clock.

    The clip pans over real photographs, faces among them: the costliest content there is here.
    """
    from tempfile import TemporaryDirectory  # noqa: PLC0415 — the rest of this file needs none of these

    from safety import clearing, faces, frames, known_bad, voices, writing  # noqa: PLC0415
    from safety.prompt import CATEGORIES  # noqa: PLC0415

    expected = clearing.Expected({}, known_bad=lambda pictures: int(known_bad.hashed([*pictures]).seen < 0))
    cost, wall = [], []
    with TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        _panning_clip(clip)
        for _ in range(2 if quick else 4):
            begun, spent = time.perf_counter(), _processor_ms()
            looked = clearing.look(
                clip, lambda: expected, prompt_scores=dict.fromkeys(CATEGORIES, 0), closed_model=True
            )
            cost.append(_processor_ms() - spent)
            wall.append((time.perf_counter() - begun) * 1000)
            if looked.facts.unreadable:
                raise SystemExit("the clip was not looked at: nothing to measure")
        seen: list[Any] = []
        each: dict[str, float] = {}
        for name, check in (
            ("decode", lambda: seen.extend(clearing.sampled(clip))),
            ("faces", lambda: faces.check_output(seen, {})),
            ("frames", lambda: frames.look([picture for _, picture in seen])),
            ("writing", lambda: writing.read([picture for _, picture in seen])),
            ("known_bad", lambda: expected.known_bad(picture for _, picture in seen)),
            ("voices", lambda: voices.listen(clip, {}, {})),
        ):
            spent = _processor_ms()
            check()
            each[name] = _processor_ms() - spent
    return {
        "prompts": _prompt_cost(quick=quick),
        "first_clip_ms": round(cost[0]),
        "clip_ms": round(float(np.median(cost[1:]))),
        "clip_wall_ms": round(float(np.median(wall[1:]))),
        "frames": len(seen),
        "by_check_ms": {name: round(ms) for name, ms in each.items()},
        "cores": os.cpu_count(),
    }


def _processor_ms() -> float:
    """Spent so far by this process and by its children that run. Workers are expected to stay."""
    here = time.process_time()
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                ticks += int(fields[11]) + int(fields[12])
    return 1000 * (here + ticks / os.sysconf("SC_CLK_TCK"))


def _prompt_cost(*, quick: bool) -> dict[str, float]:
    """Of prompts as apps send them, 8 to 90 words; every tenth is disguised."""
    from safety import prompt  # noqa: PLC0415

    words = [
        "a",
        "lighthouse",
        "at",
        "dawn",
        "with",
        "gulls",
        "over",
        "the",
        "sea",
        "while",
        "an",
        "old",
        "man",
        "walks",
        "his",
        "dog",
        "slowly",
        "along",
        "the",
        "shore",
        "and",
        "thinks",
        "about",
        "his",
        "life",
        "as",
        "a",
        "young",
        "sailor",
        "far",
        "from",
        "home",
        "under",
        "bright",
        "stars",
        "in",
        "cold",
        "clear",
        "winter",
        "nights",
    ]
    drawn = Random(1)
    prompt.warm()
    spent = []
    for number in range(100 if quick else 1_000):
        text = " ".join(drawn.choices(words, k=drawn.randint(8, 90)))
        if number % 10 == 0:
            text = text[:100].replace("a", "4").replace("e", "3").replace("o", "0")
        begun = time.thread_time()
        prompt.screen(text)
        spent.append((time.thread_time() - begun) * 1000)
    return {f"p{at}_ms": round(float(np.percentile(spent, at)), 1) for at in (50, 99)}


def _panning_clip(path: Path) -> None:
    """Four seconds of 1280x720 at 24 frames a second, H.264."""
    import av  # noqa: PLC0415
    from skimage import data  # noqa: PLC0415

    scenes = [np.asarray(Image.fromarray(one()).resize((1480, 920))) for one in (data.astronaut, data.coffee)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        for number in range(96):
            scene, step = scenes[number // 48], number % 48 * 4
            view = np.ascontiguousarray(scene[step : step + 720, step : step + 1280])
            for packet in stream.encode(av.VideoFrame.from_ndarray(view, "rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


# The whole ----------------------------------------------------------------------------------------------------------


def _plots() -> Any:
    import matplotlib as mpl  # noqa: PLC0415 — worker processes import this module, and draw nothing

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    return plt


def _beside(png: Path, suite: str, *, several: bool) -> Path:
    return png.with_stem(f"{png.stem}-{suite}") if several else png


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--prompts", type=Path, metavar="FILE.jsonl[.gz]", help="texts and their labels")
    parser.add_argument("--faces", type=Path, metavar="DIR", help="one folder of photographs per person")
    parser.add_argument("--latency", action="store_true", help="what a clip costs, check by check")
    parser.add_argument("--quick", action="store_true", help="a sample; under a minute")
    parser.add_argument("--png", type=Path, default=Path("var/benchmarks/safety.png"), help="the curves")
    asked = parser.parse_args()
    several = asked.prompts is not None and asked.faces is not None
    answers: dict[str, dict[str, Any]] = {}
    if asked.prompts is not None:
        answers["prompts"], curves = prompts(asked.prompts, quick=asked.quick)
        _draw_prompts(curves, _beside(asked.png, "prompts", several=several))
    if asked.faces is not None:
        answers["faces"], compared = measure_faces(asked.faces, quick=asked.quick)
        _draw_faces(compared, _beside(asked.png, "faces", several=several))
    if asked.latency:
        answers["latency"] = latency(quick=asked.quick)
    if not answers:
        parser.error(
            "give `--prompts FILE.jsonl`, `--faces DIR` or `--latency`: no data comes with the project"
        )
    print(json.dumps(answers if several else next(iter(answers.values()))))


if __name__ == "__main__":
    main()
