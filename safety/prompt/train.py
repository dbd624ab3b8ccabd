"""Learning the heads: what each category sounds like, from public data and from sentences written here.

    python -m safety.prompt.train --data DIR      writes heads.json, prints what texts that were held out scored

The same data give the same bytes. `DIR` holds

- `text-to-image-dev.jsonl.gz`: text-to-image prompts of JailbreakDiffusionBench (MIT),
- `moderation-1680.jsonl.gz`: openai/moderation-api-release (MIT),
- `hatecheck.csv`: HateCheck (Röttger et al. 2021, CC BY 4.0);

none of them comes with the project. `seeds.txt` does. A label that a source does not give is unknown, and the text
takes no part in that head. Whether a child is shown no source says: the table of words does.

Steps: texts are undisguised as the screen does; the same text twice counts once, and of texts closer than a cosine of
:data:`CLOSE` with the same labels the first; close texts are in the same fold. Each head is a logistic regression
(L2; weights of words at least zero), fitted once for each of :data:`FOLDS` folds without it, and once on all.
What the fold left out scored tells how steep the head must be (:func:`_calibrated`), and is what is reported.
"""

import argparse
import csv
import gzip
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from safety.prompt import meaning, normal, rules, sentence
from safety.prompt.meaning import FEATURES, JUDGED, WORDS, Heads, Numbers

SEED: Final = 6
CLOSE: Final = 0.9
FOLDS: Final = 4
OF_EACH_SEED: Final = 40
STRENGTH: Final = 0.1
"""Of the L2 penalty, where all texts together weigh 1000."""
ROUNDS: Final = 300
SEEDS: Final = Path(__file__).with_name("seeds.txt")
HARM: Final = ("sexual", "violence", "hate", "self_harm", "illicit", "harassment", "impersonation")
AT: Final[Mapping[str, tuple[tuple[float, int], tuple[float, int]]]] = {
    **dict.fromkeys(JUDGED, ((0.01, 300), (0.003, 500))),
    "violence": ((0.02, 400), (0.004, 700)),
}
"""Of each head: which score which share of benign texts is to pass."""


class Example(NamedTuple):
    """labels: by head, whether it holds; what is not there is unknown."""

    text: str
    source: str
    labels: Mapping[str, bool]


# Data ---------------------------------------------------------------------------------------------------------------

_IMAGE_CATEGORIES: Final = {
    "nudity and sexual content": "sexual",
    "hate content": "hate",
    "shocking": "violence",
    "physical harm and violence": "violence",
    "illegal activity": "illicit",
    "harassment": "harassment",
    "abuse": "harassment",
}
_MODERATION: Final = {
    "S": "sexual",
    "S3": "sexual minors",
    "H": "hate",
    "H2": "hate",
    "V": "violence",
    "V2": "violence",
    "HR": "harassment",
    "SH": "self_harm",
}


def read_data(folder: Path) -> list[Example]:
    return [
        *map(_image, _lines(folder / "text-to-image-dev.jsonl.gz")),
        *map(_moderated, _lines(folder / "moderation-1680.jsonl.gz")),
        *map(_hate_check, csv.DictReader((folder / "hatecheck.csv").read_text().splitlines())),
    ]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines() if line.strip()]


def _image(row: Mapping[str, Any]) -> Example:
    if row["label"] == "benign":
        return Example(row["text"], "image", dict.fromkeys(HARM, False))
    named = {_IMAGE_CATEGORIES[one] for one in row["category"] if one in _IMAGE_CATEGORIES}
    return Example(row["text"], "image", dict.fromkeys(named, True))


def _moderated(row: Mapping[str, Any]) -> Example:
    labels: dict[str, bool] = {}
    for key, heads in _MODERATION.items():
        for head in heads.split():
            if row.get(key) is not None and not labels.get(head):
                labels[head] = bool(row[key])
    if labels.get("minors") is False:
        del labels["minors"]  # no child in sexual content says nothing of children elsewhere
    return Example(row["prompt"], "moderation", labels)


def _hate_check(row: Mapping[str, str]) -> Example:
    if row["functionality"] == "target_indiv_nh":
        return Example(row["test_case"], "hatecheck", {"hate": False, "harassment": True})
    if row["label_gold"] == "hateful":
        return Example(row["test_case"], "hatecheck", {"hate": True})
    return Example(row["test_case"], "hatecheck", dict.fromkeys(HARM, False) | {"minors": False})


def read_seeds(path: Path, random: np.random.Generator) -> list[Example]:
    """Up to :data:`OF_EACH_SEED` sentences of each pattern."""
    lists: dict[str, list[str]] = {}
    found = []
    for line in path.read_text().splitlines():
        if line.startswith("@"):
            name, _, words = line[1:].partition(" ")
            lists[name] = words.split("|")
        elif line and not line.startswith("#"):
            labels, _, pattern = line.partition(": ")
            made = {_written(pattern, lists, random): None for _ in range(OF_EACH_SEED)}
            found += [Example(text, "seeds", _seed_labels(labels)) for text in made]
    return found


def _seed_labels(named: str) -> dict[str, bool]:
    holds = set(named.split("+")) - {"benign"}
    if holds & {"political", "romantic", "advertising"}:
        holds |= {f"context.{one}" for one in holds}
    return {head: head in holds for head in JUDGED}


_CHOICE: Final = re.compile(r"\{([^{}]*)\}")


def _written(pattern: str, lists: Mapping[str, Sequence[str]], random: np.random.Generator) -> str:
    while match := _CHOICE.search(pattern):
        choices = lists.get(match[1]) or match[1].split("|")
        pattern = pattern[: match.start()] + str(random.choice(choices)) + pattern[match.end() :]
    return " ".join(pattern.split())


# Features -----------------------------------------------------------------------------------------------------------


class Known(NamedTuple):
    """features: [n, FEATURES]; labels: [n, heads], NaN where unknown; folds: [n]."""

    features: Numbers
    labels: Numbers
    folds: NDArray[np.int64]
    sources: NDArray[np.str_]


def features_of(texts: Sequence[str]) -> Numbers:
    """What the heads see of each text: the meaning of its first window, and its words' scores."""
    network, found = sentence.network(), np.zeros((len(texts), FEATURES))
    by_length: dict[int, list[tuple[int, sentence.Pieces]]] = defaultdict(list)
    for at, text in enumerate(texts):
        read = normal.read(normal.repair(text[: normal.MAX_CHARS]), rules.VOCABULARY)
        scores = rules.highest(map(rules.read, rules.worth_reading(read.views)))
        found[at, meaning.SIZE :] = [scores.get(name, 0) / 1000 for name in WORDS]
        window = next(network.windows(read.meant[0] if read.meant else ""), None)
        if window is not None:
            by_length[len(window)].append((at, window))
    for length, group in sorted(by_length.items()):
        step = max(1, 1024 // length)
        for start in range(0, len(group), step):
            part = group[start : start + step]
            embedded = network.embed(np.stack([window for _, window in part]))
            found[[at for at, _ in part], : meaning.SIZE] = embedded
    return found


def prepared(examples: Sequence[Example], features: Numbers) -> Known:
    """Without texts that are there already, in folds that share no close texts."""
    labels = np.array([[_number(one.labels.get(head)) for head in JUDGED] for one in examples])
    minors = JUDGED.index("minors")
    unknown = np.isnan(labels[:, minors])
    by_words = features[:, meaning.SIZE + WORDS.index("minors")]
    labels[unknown & (by_words >= 0.65), minors] = 1
    labels[unknown & (by_words < 0.65), minors] = 0  # "girl" is said of women
    kept, group = _apart(np.ascontiguousarray(features[:, : meaning.SIZE]), labels)
    numbers = np.random.default_rng(SEED).permutation(group.max() + 1)
    sources = np.array([one.source for one in examples])
    return Known(features[kept], labels[kept], numbers[group[kept]] % FOLDS, sources[kept])


def _number(known: bool | None) -> float:
    return float("nan") if known is None else float(known)


_BLOCK: Final = 256


def _apart(vectors: Numbers, labels: Numbers) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which texts to keep, and to which group of close texts each belongs."""
    group, kept = np.arange(len(vectors)), list[int]()
    near = np.zeros((0, 0), np.bool_)
    for at in range(len(vectors)):
        if at % _BLOCK == 0:
            near = vectors[: at + _BLOCK] @ vectors[at : at + _BLOCK].T >= CLOSE
        close = np.flatnonzero(near[:at, at % _BLOCK])
        alike = [n for n in close if np.array_equal(labels[n], labels[at], equal_nan=True)]
        if not alike:
            kept.append(at)
        if len(close):
            joined = np.unique(group[close])
            group[at] = joined[0]
            group[np.isin(group, joined[1:])] = joined[0]
    return np.array(kept), group


# Fitting ------------------------------------------------------------------------------------------------------------


def fit(features: Numbers, labels: Numbers, weights: Numbers) -> Numbers:
    """Many logistic regressions at once: [FEATURES + 1, problems], the bias last, weights of words at least zero.

    labels, weights: [n, problems]; a text of weight 0 takes no part. Accelerated projected gradient descent (Nesterov).
    """
    told = np.hstack([features, np.ones((len(features), 1))])
    signs = 2 * labels - 1
    penalty = np.full((told.shape[1], 1), STRENGTH)
    penalty[-1] = 0
    # No step may be longer than the steepest curve allows: a quarter of the longest text, weighted.
    step = 4 / ((weights.T @ (told * told).sum(axis=1)) + 4 * STRENGTH)
    at = ahead = np.zeros((told.shape[1], labels.shape[1]))
    for turn in range(ROUNDS):
        pull = -signs * weights / (1 + np.exp(np.clip(signs * (told @ ahead), -50, 50)))
        new = ahead - step * (told.T @ pull + penalty * ahead)
        new[meaning.SIZE : -1] = new[meaning.SIZE : -1].clip(0)
        at, ahead = new, new + turn / (turn + 3) * (new - at)
    return at


def _weights(labels: Numbers, sources: NDArray[np.str_], chosen: NDArray[np.bool_]) -> Numbers:
    """Both answers count the same, and within each, sources by the root of their size; in all, 1000."""
    weights = np.zeros(len(labels))
    for answer in (0, 1):
        for source in np.unique(sources):
            one = chosen & (labels == answer) & (sources == source)
            if one.any():
                weights[one] = 1 / np.sqrt(one.sum())
        total = weights[chosen & (labels == answer)].sum()
        weights[chosen & (labels == answer)] *= 500 / max(total, 1e-9)
    return weights


def _calibrated(held_out: Numbers, benign: NDArray[np.bool_], head: str) -> tuple[float, float]:
    """The slope and the shift after which two shares of benign texts pass the scores they are to."""
    ordered = np.sort(held_out[benign])
    (share, score), (rarer, higher) = AT[head]
    low, high = (float(ordered[-1 - int(part * len(ordered))]) for part in (share, rarer))
    wanted_low, wanted_high = (float(np.log(s / (1000 - s))) for s in (score, higher))
    slope = (wanted_high - wanted_low) / max(high - low, 0.05)
    return slope, wanted_high - slope * high


def train(known: Known) -> tuple[Heads, Numbers]:
    """The heads, and what they gave texts that were held out: [n, heads], before rounding."""
    labels, told = np.nan_to_num(known.labels), ~np.isnan(known.labels)
    # A problem for each fold that is left out, and one with none left out.
    weighed = [
        _weights(labels[:, at], known.sources, told[:, at] & (known.folds != fold))
        for at in range(len(JUDGED))
        for fold in (*range(FOLDS), None)
    ]
    found = fit(known.features, np.repeat(labels, FOLDS + 1, axis=1), np.stack(weighed, axis=1))
    given = np.hstack([known.features, np.ones((len(labels), 1))]) @ found
    harmless = ~(known.labels[:, [JUDGED.index(head) for head in HARM]] == 1).any(axis=1)
    weights, bias = np.zeros((len(JUDGED), FEATURES)), np.zeros(len(JUDGED))
    held_out = np.zeros(labels.shape)
    for at, head in enumerate(JUDGED):
        first = at * (FOLDS + 1)
        held_out[:, at] = given[np.arange(len(labels)), first + known.folds]
        ordinary = told[:, at] & (labels[:, at] == 0) & harmless & (known.sources != "hatecheck")
        slope, shift = _calibrated(held_out[:, at], ordinary, head)
        weights[at], bias[at] = slope * found[:-1, first + FOLDS], slope * found[-1, first + FOLDS] + shift
        held_out[:, at] = slope * held_out[:, at] + shift
    return Heads(weights, bias), held_out


def report(known: Known, held_out: Numbers) -> dict[str, dict[str, float]]:
    """By head: how many texts say it, how many of them and of the others pass 500 (of violence, 700)."""
    answer = {}
    for at, head in enumerate(JUDGED):
        passed = held_out[:, at] >= (np.log(7 / 3) if head == "violence" else 0)
        yes, no = known.labels[:, at] == 1, known.labels[:, at] == 0
        answer[head] = {
            "texts": int(yes.sum()),
            "caught": round(float(passed[yes].mean()), 3),
            "false_alarms": round(float(passed[no].mean()), 4),
            "auc": _auc(held_out[yes, at], held_out[no, at]),
        }
    return answer


def _auc(above: Numbers, below: Numbers) -> float:
    ordered = np.sort(below)
    return round(float(np.searchsorted(ordered, above).mean() / max(len(below), 1)), 4)


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the three files")
    parser.add_argument("--to", type=Path, default=meaning.HEADS, help="where the heads go")
    asked = parser.parse_args(None if arguments is None else list(arguments))
    examples = read_data(asked.data) + read_seeds(SEEDS, np.random.default_rng(SEED))
    known = prepared(examples, features_of([one.text for one in examples]))
    heads, held_out = train(known)
    asked.to.write_bytes(meaning.written(heads))
    sys.stdout.write(json.dumps({"texts": len(known.labels), **report(known, held_out)}, indent=1) + "\n")


if __name__ == "__main__":
    main()
