"""The verdict: what a file, its pixels and the ledger say, side by side, and never more than they say."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from datetime import date
from pathlib import Path
from typing import Any, get_args

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import data
from sqlalchemy import text

from ledger.consent.registry import revoke
from ledger.errors import MediaError
from ledger.ids import AppId, VideoId, new_id
from ledger.provenance import fingerprint, media, tsa, watermark
from ledger.provenance.known_clips import Index
from ledger.provenance.look import Seen
from ledger.provenance.manifest import ManifestFinding, Signer
from ledger.provenance.manifest import State as ManifestState
from ledger.provenance.pki import Authority
from ledger.provenance.schemas import schema
from ledger.provenance.sentences import SENTENCES, STANDS, STATES, State
from ledger.provenance.standing import ClipStanding, ConsentNow, clip_standing
from ledger.provenance.trust import Revoked, TrustedBy
from ledger.provenance.verdict import (
    Alike,
    Evidence,
    Found,
    Mark,
    Verdict,
    found_marks,
    gathered,
    judge,
)
from ledger.store.journal import About
from stamped import KEY, Clip, film
from world import START, Someone, World, zulu

pytest_plugins = ["stamped"]

ORIGIN = "test.example/log"
PUBLISHED = jsonschema.Draft202012Validator(schema("verdict"))


def published(verdict: Verdict) -> dict[str, Any]:
    """The verdict as it is sent, once it follows the published form."""
    sent: dict[str, Any] = json.loads(json.dumps(verdict.as_json()))
    PUBLISHED.validate(sent)
    return sent


# ── one real file for each state ──────────────────────────────────────────────────────────────────────────


@pytest.fixture
def there(world: World, stamped: Clip) -> World:
    """A ledger in which the clip is released, showing one person."""
    stamped.release(world, world.enrol())
    return world


def as_it_is(clip: Clip, _place: Path) -> Path:
    return clip.file


def stripped(clip: Clip, place: Path) -> Path:
    media.remux(clip.file, place / "stripped.mp4")
    return place / "stripped.mp4"


def saved_again(clip: Clip, place: Path) -> Path:
    """Bytes were added by something that knows nothing of manifests."""
    (place / "altered.mp4").write_bytes(clip.file.read_bytes() + b"\x00\x00\x00\x08free")
    return place / "altered.mp4"


def nothing_of_ours(clip: Clip, _place: Path) -> Path:
    return clip.other


def signed_over_other_footage(clip: Clip, place: Path) -> Path:
    """By somebody who holds our key: the clip's number stands in clear in its manifest."""
    clip.signer.sign(clip.other, place / "forged.mp4", clip.claim)
    return place / "forged.mp4"


def signed_by_a_stranger(clip: Clip, place: Path) -> Path:
    authority = Authority.open(place / "stranger", at=START)
    with tsa.serve(authority, lambda: START) as url:
        Signer(authority, url).sign(clip.other, place / "strange.mp4", clip.claim)
    return place / "strange.mp4"


def of_a_stranger_and_changed(clip: Clip, place: Path) -> Path:
    path = signed_by_a_stranger(clip, place)
    path.write_bytes(path.read_bytes() + b"\x00\x00\x00\x08free")
    return path


def by_hand(statement: str) -> Callable[[World], None]:
    """A row as other parts of the service leave it."""

    def change(world: World) -> None:
        with world.ledger.database.writing() as session:
            session.execute(text(statement))

    return change


ROWS: dict[State, tuple[Callable[[Clip, Path], Path], Callable[[World], None] | None]] = {
    "intact": (as_it_is, None),
    "recovered": (stripped, None),
    "altered": (saved_again, None),
    "taken_down": (stripped, by_hand("UPDATE video SET taken_down_at = 1800000000")),
    "consent_unknown": (as_it_is, by_hand("UPDATE video SET parent_id = 'video_gone'")),
    "contradiction": (signed_over_other_footage, None),
    "unknown_signer": (signed_by_a_stranger, None),
    "broken_manifest": (of_a_stranger_and_changed, None),
    "no_evidence": (nothing_of_ours, None),
}


@pytest.mark.parametrize("state", ROWS)
def test_a_file_in_each_state(there: World, stamped: Clip, tmp_path: Path, state: State) -> None:
    make, then = ROWS[state]
    file = make(stamped, tmp_path)
    if then is not None:
        then(there)
    before = file.read_bytes()
    verdict = stamped.verdict(there, file)
    sent = published(verdict)
    assert (sent["state"], sent["sentence"]) == (state, STATES[state])
    assert sent["stands"] is (state in STANDS)
    assert file.read_bytes() == before
    held = {"intact", "recovered", "altered", "taken_down", "consent_unknown"}
    assert sent["released"] is (state in held)
    assert sent["video_id"] == (stamped.video_id if state in held else None)
    assert sent["checks"] == (["faces", "prompt"] if state in held else None)
    assert {one["about"] for one in sent["reasons"]} >= {"manifest_trusted", "asset_bound", "recovered_via"}


@pytest.mark.parametrize(("make", "via"), [(as_it_is, "embedded"), (stripped, "watermark")])
def test_consent_taken_back_reaches_the_file_however_it_is_found(
    world: World, stamped: Clip, tmp_path: Path, make: Callable[[Clip, Path], Path], via: str
) -> None:
    ada = world.enrol()
    grant = stamped.release(world, ada)
    assert grant is not None
    revoke(world.ledger, ada.person_id, grant, "withdraw_all", at=world.at)
    verdict = stamped.verdict(world, make(stamped, tmp_path))
    assert (verdict.state, verdict.recovered_via, verdict.stands) == ("consent_withdrawn", via, False)
    assert published(verdict)["consent_changed_at"] == zulu(world.at)


@pytest.mark.parametrize(
    ("make", "state"),
    [(as_it_is, "trusted_elsewhere"), (stripped, "mark_without_match"), (saved_again, "altered")],
)
def test_a_ledger_that_did_not_release_it_vouches_for_nothing(
    world: World, stamped: Clip, tmp_path: Path, make: Callable[[Clip, Path], Path], state: State
) -> None:
    sent = published(stamped.verdict(world, make(stamped, tmp_path)))
    assert (sent["state"], sent["released"], sent["clips"], sent["log"]) == (state, False, [], None)


def test_a_file_found_by_its_mark_is_offered_the_manifest_of_the_clip(
    there: World, stamped: Clip, tmp_path: Path
) -> None:
    verdict = stamped.verdict(there, stripped(stamped, tmp_path))
    assert verdict.manifest == f"/v1/manifests/{stamped.manifest_id}"
    (mark,) = verdict.marks
    assert (mark.payload, mark.medium) == (stamped.payload, "picture")
    assert "what else it shows is not covered" in verdict.sentence


def test_our_mark_on_other_footage_is_called_a_contradiction(
    there: World, stamped: Clip, tmp_path: Path
) -> None:
    """As somebody would lay it there who has learned it: the numbers agree, the pictures do not."""
    plain, copied = tmp_path / "plain.mp4", tmp_path / "copied.mp4"
    film(plain, data.coffee())  # type: ignore[no-untyped-call]
    embed = watermark.Embedder(KEY, bytes.fromhex(stamped.payload), width=640, height=360)
    media.restamp(plain, copied, embed)
    sent = published(stamped.verdict(there, copied))
    assert (sent["state"], sent["released"], sent["clips"]) == ("contradiction", False, [stamped.video_id])
    assert [one["id"] for one in sent["contradictions"]] == ["contradiction.looks"]


def test_a_withdrawn_clip_that_somebody_else_signed_is_known_by_its_mark(
    world: World, stamped: Clip, tmp_path: Path
) -> None:
    """Whoever has a signer on the public list could otherwise wash any clip with it."""
    ada = world.enrol()
    grant = stamped.release(world, ada)
    assert grant is not None
    revoke(world.ledger, ada.person_id, grant, "withdraw_all", at=world.at)
    other, washed = Authority.open(tmp_path / "other", at=START), tmp_path / "washed.mp4"
    with tsa.serve(other, lambda: START) as url:
        Signer(other, url).sign(stripped(stamped, tmp_path), washed, replace(stamped.claim, consent={}))
    believed = replace(stamped.authority.anchors, others_pem=other.root_pem)
    verdict = replace(stamped.verifier(world), anchors=lambda: believed).verify(washed, at=world.at)
    sent = published(verdict)
    assert (sent["trusted_by"], sent["manifest_trusted"], sent["asset_bound"]) == ("elsewhere", True, True)
    assert (sent["state"], sent["recovered_via"]) == ("consent_withdrawn", "watermark")


@pytest.mark.parametrize(("by", "count"), [("ours", 1), ("elsewhere", 0)])
def test_the_name_of_our_clip_in_what_somebody_else_signed_leads_nowhere(
    there: World, stamped: Clip, by: TrustedBy, count: int
) -> None:
    """Anyone on the public list can copy a clip's number and its manifest's id: both are public."""
    found = replace(
        OURS,
        manifest_id=stamped.manifest_id,
        consent={"video_id": stamped.video_id},
        soft_binding=stamped.payload,
        trusted_by=by,
    )
    with there.ledger.reading() as tx:
        evidence = gathered(Seen(found), (), tx, Index(), at=there.at)
    assert (len(evidence.clips), len(evidence.claimed)) == (count, count)
    assert judge(evidence, ORIGIN).state == ("intact" if count else "trusted_elsewhere")


@pytest.mark.parametrize(
    ("pictures", "media_of_marks", "state"),
    [
        ("other", ("sound",), "contradiction"),
        ("file", ("sound",), "recovered"),
        ("other", ("picture", "sound"), "recovered"),
    ],
)
def test_the_sound_of_a_clip_under_other_pictures_does_not_make_them_the_clip(
    there: World, stamped: Clip, pictures: str, media_of_marks: tuple[Any, ...], state: State
) -> None:
    """The track is copied with one command. With a mark found in moved pictures, looks say nothing against it."""
    prints = fingerprint.of(media.frames(getattr(stamped, pictures)))
    marks = tuple(Mark(stamped.payload, medium, 0.9, "cropped to 60 %") for medium in media_of_marks)
    with there.ledger.reading() as tx:
        evidence = gathered(Seen(UNSIGNED, prints=prints), marks, tx, Index(), at=there.at)
    verdict = judge(evidence, ORIGIN)
    assert (verdict.state, verdict.stands) == (state, state == "recovered")


def test_every_state_has_a_row_here() -> None:
    told = {*ROWS, "consent_withdrawn", "trusted_elsewhere", "mark_without_match"}
    assert told == set(STATES) == set(get_args(State))


def test_what_is_no_video_gets_no_verdict(world: World, stamped: Clip, tmp_path: Path) -> None:
    (tmp_path / "half.mp4").write_bytes(stamped.file.read_bytes()[:-2_000])
    (tmp_path / "text.mp4").write_bytes(b"a video\n" * 100)
    for name in ("half.mp4", "text.mp4", "none.mp4"):
        with pytest.raises(MediaError):
            stamped.verdict(world, tmp_path / name)


@pytest.mark.parametrize(
    "picture",
    [
        "text",
        watermark.Sampled("x", None, 1, 2, 3, 4, 5),  # type: ignore[arg-type]
        watermark.Sampled(np.zeros(0, np.int8), np.zeros(0, np.intp), np.zeros(0, np.intp), 0, 0, 0, None),
    ],
)
def test_samples_that_are_none_are_a_refusal_and_no_fault(picture: Any) -> None:
    """As a decoder that the file has taken over may send them."""
    with pytest.raises(MediaError):
        found_marks(picture, None, KEY)


# ── findings side by side ─────────────────────────────────────────────────────────────────────────────────

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
ALTERED = replace(OURS, state="invalid", asset_bound=False, failures=("assertion.bmffHash.mismatch",))
ELSEWHERE = ManifestFinding(state="valid", asset_bound=True)
UNSIGNED = ManifestFinding(state="none")
MARK = Mark("0011223344556677", "picture", 0.9)
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
    checks=("faces",),
    line=("video_one",),
)
OTHER = replace(STANDING, video_id="video_two", manifest_id="urn:c2pa:two", line=("video_two",))


def marked(standing: ClipStanding, **changes: Any) -> Found:
    return replace(Found(standing, "watermark", MARK), **changes)


def judged(
    manifest: ManifestFinding, *clips: Found, claimed: tuple[str, ...] = ("video_one",), **more: Any
) -> Verdict:
    verdict = judge(
        Evidence(manifest, clips, claimed=claimed if manifest.manifest_trusted else (), **more), ORIGIN
    )
    published(verdict)
    return verdict


def ids(verdict: Verdict) -> set[str]:
    return {one.id for one in (*verdict.reasons, *verdict.contradictions)}


def test_a_manifest_copied_onto_another_clip_makes_neither_believed() -> None:
    verdict = judged(ALTERED, marked(OTHER))
    assert verdict.state == "contradiction"
    assert ids(verdict) >= {"contradiction.clips", "via.none"}
    assert (verdict.released, verdict.consent_then, verdict.consent_now) == (False, False, "unknown")
    assert (verdict.video_id, verdict.log, verdict.released_at, verdict.checks) == (None, None, None, None)
    assert verdict.clips == ("video_two",), "which clip it was is named, and not believed"


@pytest.mark.parametrize(
    ("claimed", "line"),
    [(("video_one", "video_two"), ("video_two",)), (("video_one",), ("video_two", "video_one"))],
)
def test_the_mark_of_what_a_clip_was_made_from_contradicts_nothing(
    claimed: tuple[str, ...], line: tuple[str, ...]
) -> None:
    assert judged(ALTERED, marked(replace(OTHER, line=line)), claimed=claimed).state == "altered"


def test_a_manifest_signed_as_we_would_over_other_footage_is_not_believed() -> None:
    verdict = judged(replace(OURS, manifest_id="urn:c2pa:forged"), Found(STANDING, "embedded"))
    assert (verdict.state, verdict.released) == ("contradiction", False)


def test_a_mark_copied_onto_footage_that_looks_otherwise_is_not_believed() -> None:
    verdict = judged(UNSIGNED, marked(STANDING, alike=False))
    assert (verdict.state, verdict.released, verdict.recovered_via) == ("contradiction", False, "none")
    assert ids(verdict) >= {"contradiction.looks"}
    assert judged(UNSIGNED, marked(STANDING, alike=Alike(4, 4))).state == "recovered"


def test_what_an_untrusted_manifest_names_contradicts_nothing() -> None:
    """Anyone can write any clip's name into a manifest of their own, and would void our word on it."""
    verdict = judged(replace(ELSEWHERE, consent={"video_id": "video_two"}), marked(STANDING))
    assert (verdict.state, verdict.contradictions) == ("recovered", ())
    assert "manifest.unknown" in ids(verdict)


def test_of_several_clips_in_one_file_the_one_that_least_may_be_shown_is_told_of() -> None:
    down = replace(OTHER, consent_now="withdrawn", consent_changed_at="2026-03-02T08:00:00Z")
    verdict = judged(UNSIGNED, marked(STANDING), marked(down, mark=replace(MARK, medium="sound")))
    assert (verdict.state, verdict.video_id) == ("consent_withdrawn", "video_two")
    assert verdict.clips == ("video_one", "video_two")
    assert "clips.several" in ids(verdict)


def test_a_name_with_braces_in_it_is_only_a_name() -> None:
    verdict = judged(replace(OURS, signer="{at} {signer}"), Found(STANDING, "embedded"))
    assert any("{at} {signer}" in one.sentence or "{signer}" in one.sentence for one in verdict.reasons)


@pytest.mark.parametrize("now", get_args(ConsentNow))
@pytest.mark.parametrize("changed", [None, "2026-03-02T08:00:00Z"])
def test_what_became_of_consent_is_said_in_words(now: ConsentNow, changed: str | None) -> None:
    verdict = judged(OURS, Found(replace(STANDING, consent_now=now, consent_changed_at=changed), "embedded"))
    (said,) = [one for one in verdict.reasons if one.about == "consent_now"]
    assert said.id == f"now.{now}"
    assert "{" not in said.sentence
    assert ("2 March 2026, 08:00 UTC" in said.sentence) is (
        changed is not None and "{at}" in SENTENCES[said.id]
    )
    assert verdict.released, "it was released, whatever happened since"
    assert verdict.stands is (now in {"standing", "expired", "revoked", "nobody_shown"})


def every_evidence() -> Iterator[Evidence]:
    """Cases that between them come to every state, and say every sentence there is."""
    yield Evidence(OURS, (Found(STANDING, "embedded"),), claimed=("video_one",))
    yield Evidence(ALTERED)
    yield Evidence(UNSIGNED)
    yield Evidence(UNSIGNED, unmatched=(MARK,))
    yield Evidence(ELSEWHERE)
    down = replace(STANDING, taken_down_at="2026-03-02T08:00:00Z", checks=None)
    yield Evidence(OURS, (Found(down, "embedded"),), claimed=("video_one",))
    yield Evidence(replace(OURS, signed_at=None, failures=("ingredient.manifest.mismatch",)))
    yield Evidence(replace(OURS, manifest_id="x"), (Found(STANDING, "embedded"),))
    yield Evidence(ALTERED, (marked(OTHER),), claimed=("video_one",))
    yield Evidence(UNSIGNED, (marked(STANDING, alike=False),))
    yield Evidence(UNSIGNED, (marked(STANDING, alike=Alike(3, 4)), marked(OTHER)), (MARK,))
    yield Evidence(
        UNSIGNED, (marked(replace(STANDING, consent_then=False), mark=replace(MARK, medium="sound")),)
    )
    yield Evidence(ELSEWHERE, (Found(STANDING, "fingerprint", alike=Alike(3, 4)),))
    yield Evidence(ManifestFinding("invalid"))
    yield Evidence(ManifestFinding("invalid", revoked=Revoked("00", START, "keyCompromise")))
    yield Evidence(replace(OURS, trusted_by="ours", development=True))
    for now in get_args(ConsentNow):
        yield Evidence(UNSIGNED, (marked(replace(STANDING, consent_now=now)),))


def test_every_sentence_is_said_by_some_evidence() -> None:
    said = set[str]()
    for evidence in every_evidence():
        verdict = judge(evidence, ORIGIN)
        published(verdict)
        said |= ids(verdict)
    assert said == set(SENTENCES)


findings = st.builds(
    ManifestFinding,
    state=st.sampled_from(get_args(ManifestState)),
    manifest_trusted=st.booleans(),
    asset_bound=st.booleans(),
    manifest_id=st.sampled_from([None, "urn:c2pa:one", "urn:c2pa:two"]),
    signer=st.none() | st.just("Someone"),
    signed_at=st.none() | st.just(START),
    consent=st.none() | st.just({"video_id": "video_one"}),
    soft_binding=st.none() | st.just(MARK.payload),
    failures=st.sampled_from([(), ("assertion.bmffHash.mismatch",), ("ingredient.x",)]),
)
standings = st.builds(
    replace,
    st.sampled_from([STANDING, OTHER]),
    consent_then=st.booleans(),
    consent_now=st.sampled_from(get_args(ConsentNow)),
    consent_changed_at=st.none() | st.just("2026-03-02T08:00:00Z"),
    taken_down_at=st.none() | st.just("2026-03-03T08:00:00Z"),
    checks=st.sampled_from([None, (), ("faces",)]),
)
clips = st.builds(
    Found,
    standings,
    st.sampled_from(["watermark", "fingerprint"]),
    st.none() | st.just(MARK),
    st.sampled_from([None, False, Alike(2, 3)]),
)
evidences = st.one_of(
    st.builds(
        Evidence,
        findings.filter(lambda one: not (one.manifest_trusted and one.asset_bound)),
        st.lists(clips, max_size=3).map(tuple),
        st.sampled_from([(), (MARK,)]),
        st.sampled_from([(), ("video_one",), ("video_three",)]),
    ),
    st.builds(
        Evidence,
        findings.map(lambda one: replace(one, state="trusted", manifest_trusted=True, asset_bound=True)),
        st.lists(st.builds(Found, standings, st.just("embedded")), max_size=1).map(tuple),
        st.just(()),
        st.sampled_from([(), ("video_one",), ("video_two",)]),
    ),
)


@given(evidences)
def test_a_verdict_claims_no_more_than_was_found(evidence: Evidence) -> None:
    verdict = judge(evidence, ORIGIN)
    sent = published(verdict)
    said = " ".join(
        (verdict.sentence, *(one.sentence for one in (*verdict.reasons, *verdict.contradictions)))
    )
    assert not re.search(r"\b(true|truth|authentic|genuine|verified|fake|false|safe)\b", said, re.IGNORECASE)
    assert "{" not in said
    assert set(sent) == {"schema"} | {field.name for field in fields(Verdict)}
    found = evidence.manifest
    assert (verdict.manifest_trusted, verdict.asset_bound) == (found.manifest_trusted, found.asset_bound)
    if verdict.released:
        (clip, *_) = [one for one in evidence.clips if one.standing.video_id == verdict.video_id]
        assert not verdict.contradictions
        assert not any(one.mark and one.alike is False for one in evidence.clips)
        if verdict.recovered_via == "embedded":
            assert clip.standing.manifest_id == found.manifest_id
            assert found.manifest_trusted
            assert found.asset_bound
    if verdict.stands:
        assert verdict.released
        assert verdict.consent_then
        for one in evidence.clips:
            assert one.standing.taken_down_at is None
            assert one.standing.consent_now in {"standing", "expired", "revoked", "nobody_shown"}
        assert verdict.state != "intact" or verdict.recovered_via == "embedded"
        assert found.manifest_trusted == found.asset_bound or not found.manifest_trusted


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
