"""The checks: how much of what is harmful they catch, how much of what is not they stop, and how long they take.

    python benchmarks/safety.py --prompts FILE.jsonl[.gz]     the prompt screen; rows {"text", "label", "category"?}
    python benchmarks/safety.py --faces DIR                   the faces; one folder of photographs for each person

The last line on stdout is one JSON object (with both, one object with the figures of each under its name); the curves
are drawn to `--png`. `--quick` takes a sample, the same one each time, and stays under a minute. No data comes with
the project: without a path nothing is measured, and what is needed is said.

**Prompts.** `label` is `benign` or `harmful`; `category`, if there is one, a name or a list of names, and
`auprc_by_category` is of each against everything benign. A text is ranked by what it says: the highest of its scores,
as a share of the score from which on the policies refuse it (:data:`REFUSED_AT`; `sexual` and `minors` together at 300
each). `…_at_shipped_threshold` is what they refuse, so also what is disguised, whatever it says. `block_at_95_pass` and `block_at_99_pass` are the shares of harmful texts refused when
95 and 99 in a hundred benign ones pass, so `tpr_at_5pct_fpr` and `tpr_at_1pct_fpr` are the same two figures by
another name. `obfuscated` repeats all of it with every text disguised in one way. `p99_ms` is of whole screenings, one
after the other, on one core.
"""

import argparse
import base64
import gzip
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))

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


def _ranked(texts: Iterable[str]) -> Ranked:
    found = [screen(text[:MAX_CHARS]).scores for text in texts]
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
    took = _times_ms([row.text for row in Random(7).sample(rows, min(TIMED, len(rows)))])
    answer["median_ms"] = round(statistics.median(took), 2)
    answer["p99_ms"] = round(sorted(took)[int(0.99 * len(took))], 2)
    answer["obfuscated"] = {}
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


# What each check costs -----------------------------------------------------------------------------------------------


def latency(*, quick: bool) -> dict[str, Any]:
    """Milliseconds: the prompt screen, and a clip of four seconds in 720p cleared, check by check as it is done.

    The clip pans over real photographs, faces among them: the costliest content there is here.
    """
    from functools import wraps  # noqa: PLC0415 — the rest of this file needs none of these
    from tempfile import TemporaryDirectory  # noqa: PLC0415

    from safety import clearing, known_bad  # noqa: PLC0415
    from safety.prompt import CATEGORIES  # noqa: PLC0415

    spent: dict[str, list[float]] = {}

    def timed(name: str, function: Any) -> Any:
        @wraps(function)
        def measured_call(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            found = function(*args, **kwargs)
            if name == "decode":
                found = list(found)
            spent.setdefault(name, []).append((time.perf_counter() - begun) * 1000)
            return found

        return measured_call

    for module, function, name in (
        (clearing, "sampled", "decode"),
        (clearing, "check_output", "faces"),
        (clearing.frames, "look", "frames"),
        (clearing.writing, "read", "writing"),
        (clearing.voices, "listen", "voices"),
    ):
        setattr(module, function, timed(name, getattr(module, function)))
    compare = timed("known_bad", lambda pictures: int(known_bad.hashed(list(pictures)).seen < 0))
    totals = []
    with TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        _panning_clip(clip)
        for _ in range(2 if quick else 4):
            begun = time.perf_counter()
            looked = clearing.look(
                clip,
                lambda: clearing.Expected({}, known_bad=compare),
                prompt_scores=dict.fromkeys(CATEGORIES, 0),
                closed_model=True,
            )
            totals.append((time.perf_counter() - begun) * 1000)
            if len(totals) == 1:
                spent.clear()  # of the first, which starts the workers
            if looked.facts.unreadable:
                raise SystemExit("the clip was not looked at: nothing to measure")
    each = {name: sum(times) / (len(totals) - 1) for name, times in spent.items()}
    # The search for faces draws the frames, and the other checks of frames run while it does.
    each["faces"] -= sum(each[name] for name in ("decode", "frames", "writing", "known_bad"))
    return {
        "first_clip_ms": round(totals[0]),
        "clip_ms": round(float(np.median(totals[1:]))),
        "by_check_ms": {name: round(ms) for name, ms in each.items()},
        "cores": os.cpu_count(),
    }


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
        raise SystemExit("the faces are not measured yet")
    if asked.latency:
        answers["latency"] = latency(quick=asked.quick)
    if not answers:
        parser.error(
            "give `--prompts FILE.jsonl`, `--faces DIR` or `--latency`: no data comes with the project"
        )
    print(json.dumps(answers if several else next(iter(answers.values()))))


if __name__ == "__main__":
    main()
