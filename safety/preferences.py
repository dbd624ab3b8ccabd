"""A person's own words on what they would rather not be shown with, held against a prompt.

    "no alcohol" and "a toast with alcohol-free wine"  → against it: a word said is a word found

Words only: what is meant but not said is not seen here. So it errs towards refusing, and the owner reads the prompt
of every draft where they ask to approve it.
"""

import re
from collections.abc import Iterable

from safety.prompt import normalised

_EMPTY = frozenset(
    re.findall(
        "[^ ]+",
        "no not never nothing none without any anything with or and of the a an in on my me i please dont don t"
        " do like showing shown show that is are be nobody",
    )
)
_WORD = re.compile(r"[^\W_]+")


def against(prompt: str, preferences: Iterable[str]) -> bool:
    """Whether the prompt holds every telling word of one of the preferences, in any order and any of its endings."""
    wanted = [_telling(one) for one in preferences]
    if not any(wanted):
        return False
    said = _telling(prompt, keep_all=True)
    return any(words and words <= said for words in wanted)


def _telling(text: str, *, keep_all: bool = False) -> frozenset[str]:
    words = _WORD.findall(normalised(text).casefold())
    return frozenset(_stem(word) for word in words if keep_all or word not in _EMPTY)


def _stem(word: str) -> str:
    """Without the common English endings, as far as three letters remain."""
    for ending in ("ing", "ies", "ed", "es", "s", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word
