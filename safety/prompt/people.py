"""Who is named in a text: people whom everybody knows, and what to ask to find those who are enrolled here.

Guarantees

- Somebody in `figures.txt` is found by their full name in every reading of the text (:mod:`safety.prompt.normal`), with
  its blanks left out, and as it sounds ("tailor swyft"); in the scripts that the list has; with the endings of a
  genitive or plural. By one name alone only where the list says that nobody else is meant.
- A first name, or a name that everybody could have, names nobody.
- :func:`keys` are what names of people enrolled here are looked up by: two to four words in a row, or one of at least
  eight letters, as in a handle. Somebody whose whole name is one word, or nothing but ordinary words, is never found:
  otherwise an account named "Golden Light" would stop everyone's clips. :func:`key` is that of such a name.

Left to others: who is enrolled (`ledger/store`), and what follows, which is the policies'.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from safety.prompt import normal, rules
from safety.prompt.normal import WORD, fold

_NO_BLANKS: Final = 0x2E80
"""Scripts from here on are written without blanks between words."""
_LIST: Final = Path(__file__).with_name("figures.txt")
_SEEDS: Final = Path(__file__).with_name("seeds.txt")
FEWEST_LETTERS: Final = 8
"""Of a name written as one word, as a handle is."""
MOST_WORDS: Final = 4
_NEAR: Final = 3
"""A word may be misspelt by one letter in as many."""
_ENDINGS: Final = ("s", "es", "en", "'s")
_NO_NAME_AFTER: Final = frozenset(
    ["to", "can", "will", "would", "could", "should", "might", "may", "must", "not", "no", "a", "an", "of"]
)
_NO_NAME_BEFORE: Final = frozenset(
    [
        "a",
        "an",
        "the",
        "his",
        "her",
        "their",
        "its",
        "this",
        "that",
        "some",
        "card",
        "cards",
        "suit",
        "trick",
        "tower",
    ]
)
_ORDINARY_ALONE: Final = frozenset(
    # Full names that are sentences, too.
    {
        ("will", "smith"),
        ("jack", "black"),
        ("tom", "hardy"),
        ("rose", "leslie"),
        ("ice", "cube"),
        ("dan", "brown"),
    }
)


class _Figures(NamedTuple):
    by_words: dict[tuple[str, ...], int]
    run_together: dict[str, int]
    by_sound: dict[tuple[str, ...], list[tuple[tuple[str, ...], int]]]
    other_scripts: dict[str, int]
    makers: set[int]
    first: frozenset[str]
    first_sounds: frozenset[str]


def figures(views: Iterable[str]) -> frozenset[int]:
    """Those of the list who are named in these readings of one text, by their places in it."""
    known = _figures()
    return frozenset(person for view in dict.fromkeys(views) for person in _named(view, known))


def keys(views: Iterable[str]) -> frozenset[str]:
    """What to look people up by who are enrolled here: every name that the readings of a text could hold."""
    found = set()
    for view in views:
        words = WORD.findall(view)
        for length in range(1, MOST_WORDS + 1):
            for at in range(len(words) - length + 1):
                joined = "".join(words[at : at + length])
                if len(joined) >= (FEWEST_LETTERS if length == 1 else 5) and not joined.isdigit():
                    found.add(joined)
                    if joined.endswith("s"):
                        found.add(joined[:-1])
    return frozenset(found)


def key(name: str) -> str | None:
    """What a display name is looked up by. None: it is one that could not be told from ordinary words."""
    words = WORD.findall(fold(normal.repair(name)))
    if len(words) < 2 or len(words) > MOST_WORDS or all(word in _ordinary() for word in words):
        return None
    joined = "".join(words)
    return joined if len(joined) >= FEWEST_LETTERS else None


@cache
def _ordinary() -> frozenset[str]:
    """Words that films are described in."""
    return frozenset(WORD.findall(_SEEDS.read_text().lower())) | rules.VOCABULARY


# The list -----------------------------------------------------------------------------------------------------------


@cache
def _figures() -> _Figures:
    made = _Figures({}, {}, {}, {}, set(), frozenset(), frozenset())
    lines = [line for line in _LIST.read_text().splitlines() if line and not line.startswith("#")]
    makers = {entry for line in lines if line.startswith("&") for entry in line.split(",")}
    for person, names in enumerate(entry for line in lines for entry in line.split(",")):
        for name in names.removeprefix("&").split("="):
            _enter(made, fold(name.strip()), person)
        if names in makers:
            made.makers.add(person)
    return made._replace(
        first=frozenset(words[0] for words in made.by_words),
        first_sounds=frozenset(sounds[0] for sounds in made.by_sound),
    )


def _enter(made: _Figures, name: str, person: int) -> None:
    words = tuple(WORD.findall(name))
    joined = "".join(words)
    if not name.isascii() and not all(ord(c) < 0x250 for c in joined):
        made.other_scripts[name] = person
        return
    made.by_words[words] = person
    if len(joined) >= FEWEST_LETTERS and len(words) > 1:
        made.run_together[joined] = person
    if len(words) > 1 and min(map(len, words)) > 2:
        made.by_sound.setdefault(tuple(map(_sound, words)), []).append((words, person))


_AS_MAKER: Final = re.compile(r"(?:by|style of|inspired by|and|manner of|a la|film of)$")

# Finding ------------------------------------------------------------------------------------------------------------


def _named(view: str, known: _Figures) -> Iterator[int]:
    view = fold(view)
    words = WORD.findall(view)
    at = 0
    while at < len(words):
        person, length = _starting(words, at, known)
        if person is not None and not (
            person in known.makers and _AS_MAKER.search(" ".join(words[max(0, at - 3) : at]))
        ):
            yield person
        at += length
    if not view.isascii():
        for name, person in known.other_scripts.items():
            if name in view and (ord(name[0]) > _NO_BLANKS or re.search(rf"(?<!\w){re.escape(name)}", view)):
                yield person


def _starting(words: list[str], at: int, known: _Figures) -> tuple[int | None, int]:
    """Whose name starts at a word, and how many words it has."""
    if words[at] not in known.first and _sound(words[at]) not in known.first_sounds:
        return known.run_together.get(words[at]), 1
    for length in range(min(MOST_WORDS + 1, len(words) - at), 0, -1):
        person = _written(tuple(words[at : at + length]), words, at, known)
        if person is not None:
            return person, length
    return known.run_together.get(words[at]), 1


def _written(said: tuple[str, ...], words: list[str], at: int, known: _Figures) -> int | None:
    for last in _stems(said[-1]):
        person = known.by_words.get((*said[:-1], last))
        if person is not None and not _is_a_sentence((*said[:-1], last), words, at):
            return person
    if len(said) > 1:
        for name, person in known.by_sound.get(tuple(map(_sound, said)), ()):
            if all(_near(one, other) for one, other in zip(said, name, strict=True)):
                return person if not _is_a_sentence(name, words, at) else None
    return None


def _stems(word: str) -> Iterator[str]:
    yield word
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) > 3:
            yield word[: -len(ending)]


def _is_a_sentence(name: tuple[str, ...], words: list[str], at: int) -> bool:
    """Whether words that are a name stand where they are none: "nothing can trump this", "he will smith a sword"."""
    if len(name) > 1 and name not in _ORDINARY_ALONE:
        return False
    before = words[at - 1] if at else ""
    after = words[at + len(name)] if at + len(name) < len(words) else ""
    if len(name) == 1 and name[0] != "trump":
        return False
    return before in _NO_NAME_AFTER | {"he", "she", "they", "who", "it"} or after in _NO_NAME_BEFORE


_SOUNDS: Final = (
    ("ph", "f"),
    ("sch", "s"),
    ("sh", "s"),
    ("ck", "k"),
    ("q", "k"),
    ("x", "ks"),
    ("wh", "w"),
    ("gh", "g"),
    ("th", "t"),
    ("kn", "n"),
    ("c(?=[eiy])", "s"),
    ("c", "k"),
    ("z", "s"),
    ("^[aeiouy]+", "a"),
    ("(?<!^)[aeiouyhw]+", ""),
    (r"(.)\1+", r"\1"),
)


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(pattern), with_) for pattern, with_ in _SOUNDS)


def _sound(word: str) -> str:
    """Roughly how a word sounds: its consonants, each spelt one way."""
    for pattern, sound in _patterns():
        word = pattern.sub(sound, word)
    return word


def _near(one: str, other: str) -> bool:
    """Whether a word is another, but for one letter in three."""
    most = len(other) // _NEAR
    if abs(len(one) - len(other)) > most:
        return False
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1] <= most
