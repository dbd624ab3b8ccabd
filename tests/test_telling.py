"""Every kind of entry is told in both languages, and what others wrote can not pass for our words."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.owners import telling
from gateway.owners.telling import Teller
from ledger.consent.words import LANGUAGES
from ledger.ids import Digest, LeafIndex
from ledger.log.kinds import KINDS
from ledger.log.leaf import Opening
from ledger.store.journal import Opened
from test_words import FIXED

GOLDEN = json.loads((Path(__file__).parent / "golden" / "kinds.json").read_text())["entries"]
BODIES: Mapping[str, Mapping[str, Any]] = {one["name"]: one["body"] for one in GOLDEN}
ABOUT_PEOPLE = [kind for kind in KINDS if kind.name not in {"standing", "register", "hash_list", "manifest"}]
"""The others are about apps, people without an account, lists of pictures, and files that anyone may read."""
GUARDIANSHIP = {"guardian": "person_g", "ward": "person_w"}
FULL: Mapping[str, Mapping[str, Any]] = {
    "enrolment": {"enrolment": {"operator": "the office"}},
    "grant": {"grant": FIXED},
    "decision": {"prompt": "a walk", "reasons": []},
    "guardian": {"guardianship": GUARDIANSHIP},
    "estate": {"person_id": "person_w"},
}
NAMES = {"person_g": "Grace Hopper", "person_w": "Ada Lovelace"}


def entry(kind: str, role: str, /, **changes: Any) -> Opened:
    body = {"kind": kind, "at": "2026-03-01T12:00:00Z", **BODIES[kind], **FULL.get(kind, {}), **changes}
    return Opened(LeafIndex(1), kind, body, Opening(bytes(32), role, 0, Digest(bytes(32))))


def told(
    one: Opened, language: str = "en", *, app: str = "Film Club", prompt: str = "a walk"
) -> tuple[str, str]:
    teller = Teller(language, lambda _: None, lambda found: NAMES.get(found, "Somebody Else"))
    return teller.tell(one, app=app, prompt=prompt)


@pytest.mark.parametrize("kind", ABOUT_PEOPLE, ids=lambda kind: kind.name)
def test_every_kind_is_told_in_both_languages(kind: Any) -> None:
    for role in kind.roles - {"requester", "notifier", "delegate"}:
        said = [told(entry(kind.name, role), language) for language in LANGUAGES]
        general = {telling._TEXTS[language][""][0] for language in LANGUAGES}
        assert said[0][0] != said[1][0]
        assert not {title for title, _ in said} & general, "it has words of its own"
        assert not any("{" in text for one in said for text in one)


def test_both_languages_say_the_same_things() -> None:
    english, german = (telling._TEXTS[language] for language in LANGUAGES)
    assert english.keys() == german.keys()
    for key in english:
        for one, other in zip(english[key], german[key], strict=True):
            assert set(re.findall(r"{(\w+)}", one)) == set(re.findall(r"{(\w+)}", other)), key
            assert bool(one) == bool(other), key


@pytest.mark.parametrize(
    ("kind", "role", "changes", "words"),
    [
        ("decision", "depicted", {"allowed": False}, "was refused"),
        ("approval", "depicted", {"approved": True, "role": "guardian"}, "By your guardian"),
        ("device", "owner", {"change": "removed", "how": "recovery"}, "With a recovery code"),
        ("guardian", "owner", {"standing": True}, "Grace Hopper answers for you"),
        ("guardian", "guardian", {"standing": False}, "You no longer answer for Ada Lovelace"),
        ("estate", "executor", {"standing": True}, "You look after the likeness of Ada Lovelace"),
        ("revocation", "grantor", {"effect": "withdraw_all"}, "everything made with it is withdrawn"),
        ("takedown", "depicted", {"action": "held"}, "held back"),
        ("audit", "depicted", {"auditor": "press council", "asked": "uses"}, "everything recorded about you"),
        ("deletion", "owner", {"what": "film", "count": 2}, "The film of an enrolment: 2"),
        ("draft", "depicted", {"until": "2026-03-04T12:00:00Z"}, "4 March 2026"),
    ],
)
def test_what_is_told_is_what_the_entry_says(
    kind: str, role: str, changes: dict[str, Any], words: str
) -> None:
    assert words in " — ".join(told(entry(kind, role, **changes)))


def test_what_others_wrote_stays_between_quotation_marks() -> None:
    title, detail = told(
        entry("decision", "depicted"), app="Ada, approved by you\u202e", prompt="x”. You agreed {app}\n"
    )
    assert title.startswith("“Ada, approved by you” may make")
    assert detail == "“x\\u201d. You agreed {app}\\u000a”"
    _, asked = told(entry("audit", "depicted", asked="{auditor}\u202e”"))
    assert asked == "Asked for: “{auditor}\\u202e\\u201d”"
