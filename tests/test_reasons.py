"""Why something was refused is told in the reader's language, for every reason a policy can have."""

import json
import re
from typing import Any

import pytest

from gateway.owners import reasons
from gateway.owners.reasons import told
from gateway.owners.telling import Teller
from gateway.site.words import CATALOGUES
from ledger.ids import Digest, LeafIndex
from ledger.log.leaf import Opening
from ledger.store.journal import Opened
from safety.policy.cedar import Policies, read
from world import POLICIES

GERMAN: dict[str, list[str]] = json.loads((CATALOGUES / "reasons.de.json").read_text())
NOT_OF_ONES_LIKENESS = ("permit.", "access.", "operator.")
"""Beginnings of the ids of policies that stand in nobody's list: what permits, and who may read or give orders."""
POLICY_IDS = [
    policy.id for policy in Policies(read(POLICIES)).all if not policy.id.startswith(NOT_OF_ONES_LIKENESS)
]


def reason(policy_id: str) -> dict[str, str]:
    return {"id": policy_id, "reason": f"a sentence of `{policy_id}` in English", "remedy": "a remedy"}


@pytest.mark.parametrize("policy_id", POLICY_IDS)
def test_every_policy_about_a_likeness_has_a_german_sentence(policy_id: str) -> None:
    (one,) = told([reason(policy_id)], "de")
    assert one["id"] == policy_id
    assert one["reason"] == GERMAN[policy_id][0]
    for text in (one["reason"], one["remedy"]):
        assert re.fullmatch(r"[A-ZÄÖÜ].*[.]", text), text
        assert not set("`{}") & set(text)


@pytest.mark.parametrize("check", ["face", "person", "turns", "digits", "lips", "camera", "pace"])
def test_whatever_a_film_is_refused_for_has_a_german_sentence_and_what_to_do_better(check: str) -> None:
    (one,) = told([reason(f"enrolment.film.{check}")], "de")
    assert "English" not in one["reason"]
    assert one["remedy"] not in {"", "a remedy", GERMAN[""][1]}


def test_in_english_a_reason_is_told_as_it_was_recorded() -> None:
    given = [reason("consent.expired"), reason("clear.minor")]
    assert told(given, "en") == given
    assert told(given, "fr") == given


def test_a_reason_that_we_have_no_words_for_is_told_as_it_was_recorded() -> None:
    assert told([reason("test.from_another_set")], "de") == [reason("test.from_another_set")]


def test_the_same_sentence_is_told_once() -> None:
    """To the person it is about, a face that is enrolled and one that is not say the same."""
    assert len(told([reason("consent.expired"), reason("consent.expired")], "de")) == 1


def test_why_a_clip_was_not_made_is_told_in_both_languages() -> None:
    body: dict[str, Any] = {"video_id": "v", "grant_ids": [], "stage": "clear"}
    body["reasons"] = [reason("minors.beside_a_stranger"), reason("clear.ungranted_face")]
    entry = Opened(LeafIndex(1), "returned", body, Opening(bytes(32), "depicted", 0, Digest(bytes(32))))
    said = {
        language: Teller(language, lambda _: None, lambda _: None).tell(entry, app="Film Club", prompt=None)
        for language in ("en", "de")
    }
    assert said["de"] == (
        "Ein Video mit dir ist nicht entstanden",
        f"{GERMAN['minors.beside_a_stranger'][0]} {GERMAN['clear.ungranted_face'][0]}",
    )
    assert said["en"][1] == (
        "A sentence of minors.beside_a_stranger in English. A sentence of clear.ungranted_face in English."
    )


def test_no_sentence_is_left_over_from_a_policy_that_is_gone() -> None:
    ours = ("clear.", "consent.", "minors.", "prohibited.", "release.", "download.", "standing.")
    by_job = {"consent.erased", "clear.failed", "release.failed"}
    assert {one for one in GERMAN if one.startswith(ours)} - by_job == set(POLICY_IDS)
    assert reasons._words("en") == {}
