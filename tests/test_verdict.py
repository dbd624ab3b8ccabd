"""The verdict: what a file, its pixels and the ledger say, side by side, and never more than they say."""

import json
import re
from dataclasses import fields, replace
from datetime import date
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from ledger.consent.registry import revoke
from ledger.ids import AppId, VideoId, new_id
from ledger.provenance import media
from ledger.provenance.manifest import ManifestFinding, State
from ledger.provenance.pki import Authority
from ledger.provenance.verdict import (
    ClipStanding,
    ConsentNow,
    Verdict,
    Verifier,
    _compile,
    clip_standing,
)
from ledger.store.journal import About
from world import START, Someone, World, zulu

ORIGIN = "test.example/log"
OURS = ManifestFinding(
    state="trusted",
    manifest_trusted=True,
    asset_bound=True,
    manifest_id="urn:c2pa:one",
    signer="Countersign",
    signed_at=START,
    consent={"video_id": "video_one"},
    soft_binding="0011223344556677",
)
ALTERED = replace(OURS, state="invalid", asset_bound=False)
ELSEWHERE = ManifestFinding(state="valid", asset_bound=True)
BROKEN = ManifestFinding(state="invalid", failures=("claimSignature.mismatch",))
UNSIGNED = ManifestFinding(state="none")
MARK = "0011223344556677"
STANDING = ClipStanding(
    video_id="video_one",
    released=True,
    released_at="2026-03-01T12:05:00Z",
    manifest_id="urn:c2pa:one",
    decision_index=4,
    release_index=5,
    people=1,
    consent_then=True,
    consent_now="standing",
    consent_changed_at=None,
)


def compiled(found: ManifestFinding, mark: str | None, standing: ClipStanding | None) -> Verdict:
    embedded = found.manifest_trusted and found.asset_bound
    return _compile(found, mark, standing, ORIGIN, embedded=embedded)


# ── findings side by side ─────────────────────────────────────────────────────────────────────────────────


def test_an_intact_clip_of_ours() -> None:
    verdict = compiled(OURS, None, STANDING)
    assert verdict.summary == (
        "Its signed manifest is intact: an AI-generated clip, released on 1 March 2026, 12:05 UTC. "
        "Everyone shown agreed, and still does."
    )
    assert (verdict.recovered_via, verdict.released, verdict.consent_then) == ("embedded", True, True)
    assert verdict.log == {"origin": ORIGIN, "decision": 4, "release": 5}
    assert verdict.watermark == OURS.soft_binding
    assert verdict.signed_at == "2026-03-01T12:00:00Z"
    assert verdict.notes == verdict.contradictions == ()


def test_a_clip_whose_manifest_is_gone_is_found_by_its_mark_and_vouched_for_no_further() -> None:
    verdict = compiled(UNSIGNED, MARK, STANDING)
    assert verdict.summary.startswith("No intact manifest, but it carries the mark of an AI-generated clip")
    assert "Everyone shown" not in verdict.summary
    assert (verdict.recovered_via, verdict.manifest_trusted, verdict.asset_bound) == (
        "watermark",
        False,
        False,
    )
    assert verdict.released
    assert any("what else the file shows is not covered" in note for note in verdict.notes)


def test_our_manifest_over_altered_bytes_says_that_they_were_altered() -> None:
    verdict = compiled(ALTERED, MARK, STANDING)
    assert (verdict.recovered_via, verdict.manifest_trusted, verdict.asset_bound) == (
        "watermark",
        True,
        False,
    )
    assert any("over other bytes" in note for note in verdict.notes)
    lost = compiled(ALTERED, None, None)
    assert (lost.recovered_via, lost.released, lost.video_id) == ("none", False, None)
    assert any("over other bytes" in note for note in lost.notes)


def test_a_manifest_copied_onto_another_clip_makes_neither_believed() -> None:
    other = replace(STANDING, video_id="video_two", consent_changed_at="2026-03-02T00:00:00Z")
    verdict = compiled(ALTERED, MARK, other)
    assert verdict.contradictions
    assert verdict.summary.startswith("This file contradicts itself")
    assert (verdict.released, verdict.consent_then, verdict.consent_now) == (False, False, "unknown")
    assert (verdict.recovered_via, verdict.video_id, verdict.log, verdict.consent_changed_at) == (
        "none",
        None,
        None,
        None,
    )
    assert not any("pixels of that clip" in note or "knows no" in note for note in verdict.notes)


def test_a_manifest_of_ours_that_names_two_clips_is_not_believed() -> None:
    assert compiled(OURS, None, replace(STANDING, video_id="video_two")).contradictions


def test_a_manifest_signed_as_we_would_over_other_footage_is_not_believed() -> None:
    """The clip's number stands in clear in its manifest: whoever holds the signing key can copy it."""
    forged = replace(OURS, manifest_id="urn:c2pa:forged")
    verdict = compiled(forged, None, STANDING)
    assert verdict.contradictions
    assert (verdict.released, verdict.consent_now) == (False, "unknown")


def test_what_an_untrusted_manifest_names_contradicts_nothing() -> None:
    """Anyone can write any clip's name into a manifest of their own, and would void our word on it."""
    forged = replace(ELSEWHERE, consent={"video_id": "video_two"})
    verdict = compiled(forged, MARK, STANDING)
    assert verdict.contradictions == ()
    assert verdict.released
    assert any("not one we trust (`valid`)" in note for note in verdict.notes)


def test_a_mark_that_matches_nothing_is_told_and_proves_nothing() -> None:
    verdict = compiled(UNSIGNED, MARK, None)
    assert (verdict.recovered_via, verdict.released, verdict.consent_now) == ("none", False, "unknown")
    assert verdict.watermark == MARK
    assert verdict.notes == ("a mark was found, but the ledger knows no released clip by it",)


def test_a_file_with_nothing_is_neither_cleared_nor_accused() -> None:
    verdict = compiled(UNSIGNED, None, None)
    assert verdict.summary == (
        "No evidence of where this file comes from was found. That does not mean it is real, or that it is not."
    )
    assert verdict.notes == ()
    assert (verdict.watermark, verdict.log, verdict.signer) == (None, None, None)


@pytest.mark.parametrize("found", [ELSEWHERE, replace(OURS, consent=None, soft_binding=None)])
def test_a_file_signed_by_others_is_not_ours(found: ManifestFinding) -> None:
    verdict = compiled(found, None, None)
    assert verdict.summary == "This file is signed, but it is not a clip this ledger released."
    assert not verdict.released


def test_a_broken_manifest_is_believed_in_nothing() -> None:
    verdict = compiled(BROKEN, None, None)
    assert verdict.summary.startswith("No evidence")
    assert any("not one we trust (`invalid`)" in note for note in verdict.notes)


@pytest.mark.parametrize(
    ("now", "says"),
    [
        ("standing", "agreed, and still does"),
        ("expired", "agreed then; the grant ended on 2 March 2026, 08:00 UTC"),
        ("revoked", "agreed then; consent for anything new was withdrawn on 2 March 2026, 08:00 UTC"),
        ("withdrawn", "withdrawn on 2 March 2026, 08:00 UTC, and the clip should no longer be shown"),
        ("erased", "someone has since had their likeness erased"),
        ("nobody_shown", "nobody's enrolled likeness"),
        ("unknown", "cannot be told"),
    ],
)
def test_what_became_of_consent_is_said_in_words(now: ConsentNow, says: str) -> None:
    changed = "2026-03-02T08:00:00Z" if now in {"expired", "revoked", "withdrawn"} else None
    verdict = compiled(OURS, None, replace(STANDING, consent_now=now, consent_changed_at=changed))
    assert says in verdict.summary
    assert (verdict.consent_now, verdict.consent_changed_at) == (now, changed)
    assert verdict.released, "it was released, whatever happened since"
    assert ("still does" in verdict.summary) is (now == "standing")


findings = st.builds(
    ManifestFinding,
    state=st.sampled_from(get_args(State)),
    manifest_trusted=st.booleans(),
    asset_bound=st.booleans(),
    signer=st.none() | st.just("Someone"),
    signed_at=st.none() | st.just(START),
    consent=st.none()
    | st.fixed_dictionaries({}, optional={"video_id": st.sampled_from(["video_one", "video_two"])}),
    soft_binding=st.none() | st.just(MARK),
)
standings = st.builds(
    replace,
    st.just(STANDING),
    video_id=st.sampled_from(["video_one", "video_two"]),
    consent_now=st.sampled_from(get_args(ConsentNow)),
    consent_changed_at=st.none() | st.just("2026-03-02T08:00:00Z"),
)


@given(findings, st.none() | st.just(MARK), st.none() | standings)
def test_a_verdict_claims_no_more_than_was_found(
    found: ManifestFinding, mark: str | None, standing: ClipStanding | None
) -> None:
    verdict = compiled(found, mark, standing)
    said = " ".join((verdict.summary, *verdict.notes, *verdict.contradictions))
    assert not re.search(r"\b(true|truth|authentic|genuine|verified|fake|false|safe)\b", said, re.IGNORECASE)
    assert (verdict.manifest_trusted, verdict.asset_bound) == (found.manifest_trusted, found.asset_bound)
    assert verdict.released == (standing is not None and not verdict.contradictions)
    assert verdict.released == (verdict.recovered_via != "none") == (verdict.video_id is not None)
    assert verdict.released or (verdict.consent_then, verdict.consent_now) == (False, "unknown")
    if verdict.recovered_via == "embedded":
        assert found.manifest_trusted
        assert found.asset_bound
    sent = json.loads(json.dumps(verdict.as_json()))
    assert set(sent) == {"schema"} | {field.name for field in fields(Verdict)}


# ── the ledger's word ─────────────────────────────────────────────────────────────────────────────────────


def released(world: World, app: AppId, *people: Someone) -> VideoId:
    permit = world.allow(app, *people).permit
    assert world.release(permit) is None
    return permit.video


def now(world: World, video_id: VideoId) -> tuple[ConsentNow, str | None]:
    with world.ledger.reading() as tx:
        standing = clip_standing(tx, video_id, at=world.at)
    assert standing is not None
    assert standing.released
    assert standing.consent_then
    return standing.consent_now, standing.consent_changed_at


def test_a_clip_that_was_never_released_is_no_clip_of_this_ledger(world: World) -> None:
    app, ada = world.app(), world.enrol()
    world.grant(ada, app)
    allowed, refused = world.allow(app, ada), world.request(app, ada, purpose="dpv:Advertising")
    world.gate.decide(refused, at=world.at)
    with world.ledger.reading() as tx:
        for video_id in (allowed.permit.video, refused.video_id, VideoId(new_id("video"))):
            assert clip_standing(tx, video_id, at=world.at) is None


def test_the_word_on_a_clip_names_nobody(world: World) -> None:
    app, ada = world.app(), world.enrol()
    grant = world.grant(ada, app)
    with world.ledger.reading() as tx:
        standing = clip_standing(tx, released(world, app, ada), at=world.at)
    for name in (ada.person_id, ada.cameo_id, grant, app):
        assert name not in repr(standing)


def test_consent_stands_until_the_grant_ends(world: World) -> None:
    app, ada = world.app(), world.enrol()
    ends = world.at.replace(hour=20)
    world.grant(ada, app, expires=zulu(ends))
    video = released(world, app, ada)
    world.wait(hours=7.99)
    assert now(world, video) == ("standing", None)
    world.wait(hours=0.01)
    assert now(world, video) == ("expired", zulu(ends))


@pytest.mark.parametrize(("effect", "word"), [("stop_new", "revoked"), ("withdraw_all", "withdrawn")])
def test_a_revocation_is_told_with_its_effect_and_its_time(world: World, effect: Any, word: str) -> None:
    app, ada = world.app(), world.enrol()
    grant = world.grant(ada, app)
    video = released(world, app, ada)
    world.wait(hours=1)
    revoke(world.ledger, ada.person_id, grant, effect, at=world.at)
    revoked_at = zulu(world.at)
    world.wait(days=365)
    assert now(world, video) == (word, revoked_at), "a grant that also expired is no less revoked"


def test_the_worst_of_everyone_shown_is_the_clips(world: World) -> None:
    app, ada, bob = world.app(), world.enrol(), world.enrol()
    hers, his = world.grant(ada, app), world.grant(bob, app)
    video = released(world, app, ada, bob)
    assert now(world, video) == ("standing", None)
    world.wait(hours=1)
    revoke(world.ledger, bob.person_id, his, "stop_new", at=world.at)
    assert now(world, video) == ("revoked", zulu(world.at))
    world.wait(hours=1)
    revoke(world.ledger, ada.person_id, hers, "withdraw_all", at=world.at)
    assert now(world, video) == ("withdrawn", zulu(world.at))


@pytest.mark.parametrize("keys", ["kept", "destroyed"])
def test_an_erased_likeness_is_told_without_a_word_about_whom(world: World, keys: str) -> None:
    app, ada = world.app(), world.enrol(date(1990, 5, 5))
    world.grant(ada, app)
    video = released(world, app, ada)
    about = [About(ada.person_id, "owner", {"cameo_id": ada.cameo_id})]
    world.ledger.transact(lambda tx: tx.append("erasure", ada.cameo_id, about, at=world.at))
    if keys == "destroyed":
        with world.ledger.database.writing() as session:
            gone = text("UPDATE subject_key SET wrapped = NULL WHERE subject_id = :person")
            session.execute(gone, {"person": ada.person_id})
    assert now(world, video) == ("erased", None)


def test_a_clip_of_nobody_needs_nobodys_consent(world: World) -> None:
    assert now(world, released(world, world.app())) == ("nobody_shown", None)


def test_a_plain_video_gets_the_plain_verdict(world: World, tmp_path: Path) -> None:
    media.write_pattern(tmp_path / "plain.mp4", width=128, height=128)
    anchors = Authority.open(tmp_path / "pki", at=world.at).anchors
    verifier = Verifier(world.ledger, lambda: anchors, world.keyring.watermark, media.Limits())
    verdict = verifier.verify(tmp_path / "plain.mp4", at=world.at)
    assert verdict == compiled(UNSIGNED, None, None)
