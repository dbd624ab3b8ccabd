"""The prompt screen: what a text asks to depict, as integers a policy can compare.

Guarantees

- Scores are integers 0 to 1000 for each of :data:`CATEGORIES`; 500 and above means "depicts it" (of violence, 700:
  films show fights). The same text always gives the same scores, on any machine, under the same :data:`VERSION`;
  nothing is fetched and nothing is remembered.
- Two voters read every *reading* of the text — as typed, and with its disguises undone (`normal.py`): a table of words
  (`rules.py`), and a network that reads what no single word says (`meaning.py`). Each category takes the highest.
  Disguise can therefore only raise a score. Text that scores far higher undisguised than as typed is `obfuscated`.
- Where a voter can not be asked there is no score: :class:`CheckUnavailable`, which denies.

Left to others: the decision, and who of those named is enrolled here. Who is named is `people.py`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, get_args

from ledger.consent.grant import Context
from safety.errors import InvalidInput
from safety.policy.facts import Category
from safety.prompt import meaning, normal, people, rules
from safety.prompt.normal import MAX_CHARS, MAX_FOLDED

__all__ = ["CATEGORIES", "MAX_CHARS", "VERSION", "Screening", "readings", "screen", "warm"]

VERSION: Final = f"prompt/2+{meaning.digest()}"
"""Of the tables and the way through them, and of the heads."""
CATEGORIES: Final[tuple[Category, ...]] = get_args(Category)
SEXUAL_CONTEXT, VIOLENT_CONTEXT = 300, 200
"""A grant may forbid a whole context, so a context is named well below the score that calls it harmful: one
swimsuit, one battle."""
_HEARD_OF: Final[tuple[Context, ...]] = ("political", "romantic", "advertising")
"""Contexts that there is a head for; the others follow from scores."""
_TURNED: Final = 0.8
"""Text that takes so many fewer word pieces once it is turned ran the wrong way."""


@dataclass(frozen=True, slots=True)
class Screening:
    """What the screen saw. `scores` has every one of :data:`CATEGORIES`; `matched` is (category, text as read)."""

    version: str
    scores: Mapping[Category, int]
    contexts: frozenset[Context]
    normalised: str
    matched: tuple[tuple[str, str], ...]
    figures: frozenset[int] = frozenset()
    """People whom everybody knows and whom the text names: places in the list."""
    name_keys: frozenset[str] = field(default=frozenset(), repr=False)
    """What to look up people by who are enrolled here and may be named."""


def screen(text: str) -> Screening:
    """Score `text`. Raises InvalidInput (`prompt.empty`, `prompt.too_long`), or CheckUnavailable."""
    if not text.strip():
        raise InvalidInput("prompt.empty", "the prompt is empty", "describe the clip to make")
    if len(text) > MAX_CHARS:
        raise InvalidInput(
            "prompt.too_long",
            f"the prompt has `{len(text)}` characters; at most `{MAX_CHARS}` are read",
            "shorten the prompt",
        )
    typed = rules.read(normal.join_digits(normal.fold(text)))
    repaired = normal.repair(text)
    found = normal.read(repaired[:MAX_FOLDED], rules.VOCABULARY)
    views = [*rules.worth_reading(found.views)]
    obfuscated = normal.signs_of_disguise(text, repaired)
    said, plainly = list(found.meant), [*found.meant, *found.views]
    for other, sign in _other_texts(text, found.plain):
        read = normal.read(normal.repair(other)[:MAX_FOLDED], rules.VOCABULARY)
        views += rules.worth_reading(read.views)
        said = [*read.meant[:1], *said]
        plainly += [*read.meant, *read.views]
        obfuscated = max(obfuscated, sign)

    seen = [typed, *map(rules.read, views)]
    words = rules.highest(seen)
    meant = meaning.judge(said, words)
    leap = max(words.get(c, 0) - typed.scores.get(c, 0) for c in CATEGORIES)
    _weigh_together(words)
    scores = {c: max(words.get(c, 0), meant.scores.get(c, 0)) for c in CATEGORIES}
    unread = 0 if meant.whole else 600
    scores["obfuscated"] = max(obfuscated, unread, 700 if leap >= 300 else 0)
    contexts = {context for reading in seen for context in reading.contexts}
    contexts |= {context for context in _HEARD_OF if meant.scores[f"context.{context}"] >= 500}
    if words.get("sexual", 0) >= SEXUAL_CONTEXT or scores["sexual"] >= 500:
        contexts.add("sexual")
    if words.get("violence", 0) >= VIOLENT_CONTEXT or scores["violence"] >= 500:
        contexts.add("violent")
    matched = tuple(dict.fromkeys(match for reading in seen for match in reading.matched))
    normalised = " ".join(found.plain.split())
    return Screening(
        VERSION,
        MappingProxyType(scores),
        frozenset(contexts),
        normalised,
        matched,
        people.figures(plainly),
        people.keys(plainly),
    )


def warm() -> None:
    """Load what :func:`screen` needs, so that the first prompt does not wait. Raises CheckUnavailable."""
    screen("a lighthouse at dawn")


def readings(text: str) -> tuple[str, ...]:
    """`text` in plain, lower-case letters, its disguises undone: every way it can be read, the plainest first."""
    return normal.read(normal.repair(text)[:MAX_FOLDED], rules.VOCABULARY).views


def _other_texts(text: str, plain: str) -> Iterator[tuple[str, int]]:
    """What else the text says where it is written in a code, and how sure a sign of disguise that is."""
    for hidden in normal.hidden(text):
        yield hidden, 900
    as_is = meaning.pieces(plain)
    for turned in (normal.backwards(plain), normal.rot13(plain)):
        if meaning.pieces(turned) < _TURNED * as_is:
            yield turned, 800


def _weigh_together(words: dict[str, int]) -> None:
    """Sexual content and youth are judged side by side: each makes the other's doubtful signs count."""
    sexual, minors = words.get("sexual", 0), words.get("minors", 0)
    if sexual >= 500 and minors >= 300:
        words["minors"] = max(minors, 600)
    if minors >= 500 and sexual >= 300:
        words["sexual"] = max(sexual, 600)
