"""What a text means, as scores: a network reads it (`sentence.py`), and for each category a learned head judges.

A head is one weight for each of the network's numbers and for what the table of words made of the text, all of
the latter at least zero: a word that counts against a text never speaks for it. Heads are calibrated so that 500 is
passed by about one benign text in a thousand for each category (of violence 700), 300 by one in a hundred.

Guarantees: whole numbers, the same on every machine. :func:`digest` changes with the heads. Heads that are missing,
damaged or not numbers raise :class:`CheckUnavailable`. Heads come from :mod:`safety.prompt.train`, which says what
they were learned from.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from safety.errors import CheckUnavailable

HEADS: Final = Path(__file__).with_name("heads.json")
JUDGED: Final = (
    "sexual",
    "minors",
    "violence",
    "hate",
    "self_harm",
    "illicit",
    "harassment",
    "impersonation",
    "political",
    "context.political",
    "context.romantic",
    "context.advertising",
)
"""What there is a head for."""
WORDS: Final = ("sexual", "minors", "violence", "hate", "self_harm", "illicit")
"""Categories of the table of words, whose scores the heads weigh."""
SIZE: Final = 384
"""Numbers that the network gives."""
FEATURES: Final = SIZE + len(WORDS)
MOST_WINDOWS: Final = 8
"""Read of one text: as many as fit in the longest prompt in plain English."""
_PRECISION: Final = 10_000

if TYPE_CHECKING:
    from safety.prompt.sentence import Network

Numbers = NDArray[np.float64]


class Heads(NamedTuple):
    weights: Numbers
    """[len(JUDGED), FEATURES]"""
    bias: Numbers


class Meaning(NamedTuple):
    """whole: everything was read."""

    scores: Mapping[str, int]
    whole: bool


def judge(said: Iterable[str], words: Mapping[str, int], heads: Heads | None = None) -> Meaning:
    """The highest score of each head over every window of every text. Raises CheckUnavailable."""
    network, heads = _network(), heads or shipped()
    windows = [window for text in said for window in network.windows(text)]
    if not windows:
        return Meaning(dict.fromkeys(JUDGED, 0), whole=True)
    beside = np.array([words.get(name, 0) / 1000 for name in WORDS])
    highest = np.zeros(len(JUDGED), np.int64)
    for window in windows[:MOST_WINDOWS]:
        features = np.concatenate([network.embed(window[None])[0], beside])
        highest = np.maximum(highest, scored(features, heads))
    scores = dict(zip(JUDGED, highest.tolist(), strict=True))
    return Meaning(scores, whole=len(windows) <= MOST_WINDOWS)


def scored(features: Numbers, heads: Heads) -> NDArray[np.int64]:
    """[FEATURES] → one score for each head."""
    # Summed exactly, in no order: a product of matrices is not the same everywhere.
    sums = [math.fsum(products) for products in heads.weights * features]
    if not all(map(math.isfinite, sums)):
        raise _unusable("what it gives is no number")
    return np.array(
        [round(1000 / (1 + math.exp(-_within(s + b)))) for s, b in zip(sums, heads.bias, strict=True)]
    )


def _within(logit: float) -> float:
    return max(-30.0, min(30.0, float(logit)))


def pieces(text: str) -> int:
    """How many word pieces a text is: many, where it is not made of English words. Raises CheckUnavailable."""
    return _network().count(text)


def _network() -> "Network":
    from safety.prompt.sentence import network  # noqa: PLC0415 — torch is loaded where something is screened

    return network()


@cache
def shipped() -> Heads:
    """The heads in the package."""
    return read(HEADS)


def read(path: Path) -> Heads:
    try:
        held = json.loads(path.read_bytes())
        weights = np.array(held["weights"], np.float64) / _PRECISION
        bias = np.array(held["bias"], np.float64) / _PRECISION
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unusable("its heads can not be read") from error
    if (
        tuple(held.get("judged", ())) != JUDGED
        or weights.shape != (len(JUDGED), FEATURES)
        or bias.shape != (len(JUDGED),)
        or not (np.isfinite(weights).all() and np.isfinite(bias).all())
    ):
        raise _unusable("its heads are damaged")
    return Heads(weights, bias)


def written(heads: Heads) -> bytes:
    """As :func:`read` reads them: whole numbers, so that the same training gives the same bytes."""
    held = {
        "judged": list(JUDGED),
        "bias": _whole(heads.bias),
        "weights": [_whole(row) for row in heads.weights],
    }
    return json.dumps(held, separators=(",", ":")).replace("],[", "],\n[").encode() + b"\n"


def _whole(numbers: Numbers) -> list[int]:
    return cast("list[int]", np.rint(numbers * _PRECISION).astype(np.int64).tolist())


@cache
def digest() -> str:
    """Of the heads in the package: eight digits. Of a file that can not be read, `none`."""
    try:
        return hashlib.sha256(HEADS.read_bytes()).hexdigest()[:8]
    except OSError:
        return "none"


def _unusable(why: str) -> CheckUnavailable:
    return CheckUnavailable(
        "check.meaning", f"what a prompt means can not be judged: {why}", "install the service once more"
    )
