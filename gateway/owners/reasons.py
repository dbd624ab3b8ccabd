"""Why something was refused, as the person it is about reads it, in their own language.

What was recorded is a policy's sentence in English, and stays as it is: in the list, in the export, in every proof.
Here it is told in the reader's language by the policy's id. An id that we have no words for is told as recorded.
"""

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from gateway.site.words import CATALOGUES
from ledger.consent.words import language_of

Told = Mapping[str, str]
"""As reasons are recorded: id, reason, remedy."""


def told(reasons: Iterable[Told], language: str) -> list[dict[str, str]]:
    """Each reason in the reader's language, each once."""
    words = _words(language_of(language))
    found: dict[tuple[str, str], dict[str, str]] = {}
    for one in reasons:
        said = words.get(one["id"])
        made = dict(one) if said is None else {**one, "reason": said[0], "remedy": said[-1]}
        found.setdefault((made["id"], made["reason"]), made)
    return list(found.values())


@cache
def _words(language: str) -> Mapping[str, tuple[str, str]]:
    """By id: a sentence, and what to do. None in English: that is how reasons are recorded."""
    path = Path(CATALOGUES) / f"reasons.{language}.json"
    if language == "en":
        return {}
    catalogue: Mapping[str, list[Any]] = json.loads(path.read_text("utf-8"))
    nothing_to_do = catalogue[""][1]
    return {
        name: (said[0], said[1] if len(said) > 1 else nothing_to_do)
        for name, said in catalogue.items()
        if name
    }
