"""A person's own words on what they would rather not be shown with, held against a prompt.

    "no alcohol" and "a toast with alcohol-free wine"  → against it: a word said is a word found

Every reading of the prompt counts, its disguises undone (:func:`safety.prompt.readings`), and every common ending of
a word: English ones always, German ones where the preference or the grant is in German. What is named by several
words is found where all of them are said. Words only: what is meant but not said is not seen here. So it errs towards
refusing, and the owner reads the prompt of every draft where they ask to approve it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from ledger.consent.preference import UNSPACED, telling, words
from safety.prompt import readings

VERSION = "words/1"
"""INVARIANT: another finding on any prompt and preference is another version, here or of the readings: a decision
is made again by the version that made it, or not at all."""

_COMPOUND, _LONG = 5, 18
_GERMAN = re.compile(r"[äöüß]|\b(?:kein\w*|ohne|nicht|nichts|nie|bitte|und|oder|der|das|mit|mich|mir|ich)\b")
_IRREGULAR = {
    "men": "man",
    "women": "woman",
    "children": "child",
    "mice": "mouse",
    "feet": "foot",
    "teeth": "tooth",
    "geese": "goose",
    "drank": "drink",
    "drunk": "drink",
    "drunken": "drink",
    "fought": "fight",
    "swam": "swim",
    "swum": "swim",
    "ate": "eat",
    "eaten": "eat",
    "rode": "ride",
    "ridden": "ride",
    "wore": "wear",
    "worn": "wear",
    "bled": "bleed",
    "bitten": "bite",
    "shaven": "shave",
    "slept": "sleep",
}


@dataclass(frozen=True, slots=True)
class _Said:
    """What a prompt says, in every reading of it."""

    words: frozenset[str]
    english: frozenset[str]
    german: frozenset[str]
    run: str
    """All of it, for what has no spaces between words."""


def against(prompt: str, preferences: Iterable[str], language: str = "en") -> bool:
    """Whether the prompt mentions what one of the preferences names. `language`: of the grant they are in."""
    for preference in preferences:
        named = telling(preference)
        german = language.startswith("de") or _GERMAN.search(preference.casefold()) is not None
        # INVARIANT: a preference that nothing can be looked for in is kept to by refusing.
        if not named or any(_mentioned(thing, _said(prompt), german=german) for thing in named):
            return True
    return False


@lru_cache(maxsize=256)
def _said(prompt: str) -> _Said:
    read = readings(prompt)
    said = frozenset(word for reading in read for word in words(reading))
    return _Said(
        said,
        frozenset(form for word in said for form in _english(word)),
        frozenset(map(_german, said)),
        "\n".join("".join(words(reading)) for reading in read),
    )


def _mentioned(thing: frozenset[str], said: _Said, *, german: bool) -> bool:
    return all(_found(word, said, german=german) for word in thing)


def _found(word: str, said: _Said, *, german: bool) -> bool:
    if UNSPACED.search(word):
        return word in said.run
    forms = _english(word)
    if word in said.words or forms & said.english:
        return True
    if german:
        stem = _german(word)
        # `Jagdhund` is a dog too. `Thunder` is none, and what only begins like one may be `hundert`.
        if stem in said.german or (len(stem) > 3 and any(one[3:].endswith(stem) for one in said.german)):
            return True
        forms |= {stem}
    return any(_within(form, one) for form in forms if len(form) >= _COMPOUND for one in said.words)


def _within(form: str, word: str) -> bool:
    """`alcohol` in `alcoholic`; and anywhere in what is too long for a word, written without any spaces."""
    return word.startswith(form) or (len(word) > _LONG and form in word)


# Endings -----------------------------------------------------------------------------------------------

_SYLLABLE = re.compile("[aeiouy]+[^aeiouy]")
_SHORT = re.compile("[^aeiou][aeiouy][^aeiouwxy]")


@lru_cache(maxsize=20_000)
def _english(word: str) -> frozenset[str]:
    """The forms it may be an inflection of, as Porter's algorithm (1980) has them, steps 1 and 5a."""
    word = _IRREGULAR.get(word, word)
    if word.endswith(("ses", "oes")) and len(word) > 4:
        return frozenset({_base(word[:-1]), _base(word[:-2])})
    return frozenset({_base(_singular(word))})


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith("ves") and len(word) > 4:
        return word[:-3] + "fe"
    if word.endswith(("ches", "shes", "xes", "zes", "sses")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
        return word[:-1]
    return word


def _base(word: str) -> str:
    if word.endswith("ied") and len(word) > 4:
        word = word[:-3] + "y"
    for ending in ("ing", "ed"):
        rest = word.removesuffix(ending)
        if rest != word and len(rest) > 1 and re.search("[aeiouy]", rest):
            word = _undoubled(rest)
            break
    if word.endswith("ve"):
        word = word[:-2] + "fe"
    rest = word.removesuffix("e")
    syllables = len(_SYLLABLE.findall(rest))
    return rest if syllables > 1 or (syllables == 1 and not _SHORT.search(rest[-3:])) else word


def _undoubled(rest: str) -> str:
    """`runn` is `run`, and `smok` is `smoke`."""
    if rest.endswith(("at", "bl", "iz")):
        return rest + "e"
    if len(rest) > 2 and rest[-1] == rest[-2] and rest[-1] not in "aeioulsz":
        return rest[:-1]
    if len(_SYLLABLE.findall(rest)) == 1 and _SHORT.search(rest[-3:]):
        return rest + "e"
    return rest


_VERBS = ("end", "st", "t")
_NOUNS = (("ern", 3), ("en", 3), ("em", 3), ("er", 3), ("es", 3), ("e", 3), ("n", 3), ("s", 4))
"""Endings, and how much must be left of a word without them."""


@lru_cache(maxsize=20_000)
def _german(word: str) -> str:
    for written, letter in (("ae", "a"), ("oe", "o"), ("ue", "u")):
        word = word.replace(written, letter)
    if word.endswith("innen"):
        word = word[:-3]
    for ending in _VERBS:
        if word.endswith(ending) and len(word) - len(ending) > 3 and not word.endswith("tt"):
            return word[: -len(ending)]
    while True:
        for ending, least in _NOUNS:
            if word.endswith(ending) and len(word) - len(ending) >= least and not word.endswith("ss"):
                word = word[: -len(ending)]
                break
        else:
            return word
