"""A clip that only people can judge waits for two of them; one may refuse it, and others hear the app's appeal."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal

import pytest

from generator.stamp import Held
from ledger.consent import held as words
from ledger.consent.held import APPEAL_LIFE, Case, Reviewer, case_of
from ledger.consent.registry import erase
from ledger.errors import InvalidStatement, NotFound
from ledger.ids import AppId, VideoId
from ledger.store import keeping
from ledger.store.records import HeldClip
from ledger.store.transaction import Transaction
from live import hopper_picture, pixels, video_of
from safety.chain import Permit, raw_clip
from safety.clearing import Looked
from safety.faces import enrol_portrait
from safety.gate import DRAFT_LIFE, Denied
from safety.policy import cedar
from safety.policy.engine import Engine
from safety.policy.facts import OutputFacts, from_json
from studio import Studio
from test_notices import registered
from world import POLICIES, Fixed, Someone, World

FACE = ("clear.ungranted_face",)


@pytest.fixture
def studio(world: World) -> Studio:
    return Studio(world)


@pytest.fixture
def app(world: World) -> AppId:
    return world.app()


@pytest.fixture(autouse=True)
def looked(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> dict[str, int | frozenset[str]]:
    """What the machine finds when it looks at the clip once more: a stranger's face, unless a test says otherwise."""
    found: dict[str, int | frozenset[str]] = {"ungranted_faces": 1}
    if request.node.get_closest_marker("slow") is None:
        monkeypatch.setattr(
            "safety.gate.look", lambda *_, reviewed, **__: Looked(seen(found, reviewed=reviewed))
        )
    return found


def seen(found: dict[str, int | frozenset[str]], *, reviewed: bool) -> OutputFacts:
    """A clip in which nothing is wrong but what was `found`."""
    sound = json.loads((POLICIES / "cases.json").read_text())["bases"]["adult"]["output"]
    facts: OutputFacts = from_json(
        OutputFacts, {**sound, "granted_faces_seen": 0, "reviewed": reviewed, **found}
    )
    return facts


def one(world: World, name: str) -> Reviewer:
    world.ledger.transact(lambda tx: tx.register_operator(name, f"key of {name}"))
    return Reviewer(name, f"pseudonym of {name}")


def say(
    studio: Studio,
    video: VideoId,
    who: Reviewer,
    action: Literal["passed", "refused"],
    *,
    final: bool = False,
) -> None:
    """A reviewer looks, and says something; what follows is settled. `final`: as the policies would say."""
    world = studio.world

    def operation(tx: Transaction) -> None:
        waits = words.waiting_for_review(tx, video, at=world.at)
        words.note_look(tx, waits, who, at=world.at)
        words.say(tx, waits, who, action, "as I see it", final=final, at=world.at)

    world.ledger.transact(operation)
    studio.drafts.settle(video)


def held(studio: Studio, app: AppId, *people: Someone) -> VideoId:
    """A clip that waits for reviewers."""
    clip = studio.make(app, *people, review=FACE)
    answer = studio.release(clip)
    assert isinstance(answer, Held), answer
    clip.path.unlink()
    return clip.permit.video


def row(studio: Studio, video: VideoId) -> HeldClip:
    with studio.world.ledger.reading() as tx:
        found = tx.held_clip(video)
    assert found is not None
    return found


def case(studio: Studio, video: VideoId) -> Case:
    with studio.world.ledger.reading() as tx:
        return case_of(tx, video)


def granted(world: World, app: AppId, **changes: Any) -> Someone:
    someone = world.enrol()
    world.grant(someone, app, **changes)
    return someone


def kinds(world: World, subject: str, video: VideoId) -> list[str]:
    found = [entry.body for entry in world.entries(subject) if entry.body.get("video_id") == video]
    return [body["kind"] if body["kind"] != "review" else body["action"] for body in found]


def test_a_held_clip_is_seen_by_nobody_and_waits_longer_than_its_permit(
    studio: Studio, world: World, app: AppId
) -> None:
    ada = granted(world, app, approval="before_release")
    video = held(studio, app, ada)
    assert (studio.state(video), studio.stored()) == (("queued", None), 1)
    assert studio.may_download(video, app) == {"download.unreleased"}
    with world.ledger.reading() as tx:
        assert tx.held_clips_of(ada.person_id) == [], "the owner is asked before reviewers have looked"
        assert keeping.clip_object(tx, video) is None, "a picture of it is on the timeline"
        assert tx.running_jobs(app) == 0
        assert keeping.named_objects(tx, [row(studio, video).object_key]), "the sweep destroys it"
    assert row(studio, video).expires_at == int((world.at + DRAFT_LIFE).timestamp())
    for subject in (app, ada.person_id):
        assert kinds(world, subject, video) == ["decision", "held"]
    world.wait(hours=25)
    studio.drafts.sweep()
    assert studio.state(video) == ("queued", None)


def test_one_reviewer_is_not_enough_and_two_are(studio: Studio, world: World, app: AppId) -> None:
    ada = granted(world, app)
    video = held(studio, app, ada)
    world.wait(days=3)  # longer than the permit stands
    say(studio, video, one(world, "alice"), "passed")
    assert (studio.state(video), studio.held(video)) == (("queued", None), True)
    say(studio, video, one(world, "bob"), "passed", final=True)
    assert studio.state(video) == ("completed", None)
    assert (studio.held(video), studio.stored(), studio.may_download(video, app)) == (False, 1, set())
    said = ["decision", "held", "looked", "passed", "looked", "passed", "release"]
    assert kinds(world, app, video) == kinds(world, ada.person_id, video) == said
    assert studio.told(ada).released == 1


def test_who_looked_is_told_to_those_shown_and_not_to_the_app(
    studio: Studio, world: World, app: AppId
) -> None:
    ada = granted(world, app)
    video = held(studio, app, ada)
    say(studio, video, one(world, "alice"), "passed")
    mine, theirs = (world.entries(subject, "review")[-1].body for subject in (app, ada.person_id))
    assert "alice" not in str({**mine, "reviewer": ""})
    assert (mine["reviewer"], theirs["operator"]) == ("pseudonym of alice", "alice")
    assert (mine["note"], mine["sha256"]) == ("as I see it", row(studio, video).sha256)


def test_nobody_lets_a_clip_pass_twice_or_unseen(studio: Studio, world: World, app: AppId) -> None:
    video, alice = held(studio, app), one(world, "alice")
    with pytest.raises(InvalidStatement) as unseen:
        world.ledger.transact(
            lambda tx: words.say(tx, row(studio, video), alice, "passed", "yes", final=True, at=world.at)
        )
    assert unseen.value.reason.id == "review.not_looked_at"
    say(studio, video, alice, "passed")
    with pytest.raises(InvalidStatement) as again:
        say(studio, video, alice, "passed", final=True)
    assert again.value.reason.id == "review.same_operator"
    assert studio.state(video) == ("queued", None)


def test_the_owner_is_asked_once_reviewers_let_it_pass(studio: Studio, world: World, app: AppId) -> None:
    ada = granted(world, app, approval="before_release")
    video = held(studio, app, ada)
    world.wait(days=6)
    for name in ("alice", "bob"):
        say(studio, video, one(world, name), "passed", final=name == "bob")
    assert (studio.state(video), row(studio, video).waits_for) == (("queued", None), "approval")
    with world.ledger.reading() as tx:
        assert [clip.video_id for clip, _, _ in tx.held_clips_of(ada.person_id)] == [video]
    world.wait(days=6)  # the permit stood for eight days
    studio.say(video, ada, "approve")
    assert studio.state(video) == ("completed", None)
    assert kinds(world, ada.person_id, video)[-3:] == ["draft", "approval", "release"]


@pytest.mark.parametrize(
    ("fact", "reason"),
    [
        ("enrolled_faces", "policy.default_deny"),
        ("apparent_minors", "clear.minor"),
        ("do_not_generate_matches", "clear.do_not_generate"),
        ("known_bad_matches", "clear.known_bad"),
        ("enrolled_voices", "policy.default_deny"),
    ],
)
def test_the_policies_have_the_last_word_whatever_reviewers_said(
    studio: Studio, world: World, app: AppId, looked: dict[str, int], fact: str, reason: str
) -> None:
    ada = granted(world, app)
    video = held(studio, app, ada)
    looked[fact] = 1
    for name in ("alice", "bob"):
        say(studio, video, one(world, name), "passed", final=name == "bob")
    assert studio.state(video) == ("failed", reason)
    assert (studio.held(video), studio.stored(), studio.uses(ada)) == (False, 0, 0)


def test_reviewers_excuse_nothing_that_the_clip_was_not_held_for(
    studio: Studio, world: World, app: AppId, looked: dict[str, int]
) -> None:
    """They looked at a face. That a stranger speaks as well was found only afterwards."""
    video = held(studio, app)
    looked["ungranted_voices"] = 1
    for name in ("alice", "bob"):
        say(studio, video, one(world, name), "passed", final=name == "bob")
    assert studio.state(video)[0] == "failed"


def test_what_a_picture_showed_counts_when_an_appeal_is_decided(
    studio: Studio, world: World, app: AppId
) -> None:
    video = held(studio, app)
    permit = world.gate.sealer.permit(row(studio, video).stamped)
    scores = {**permit.scores, "violence": 900}

    def anew(tx: Transaction, permit: Permit) -> Denied | None:
        found = tx.video(video)
        assert found is not None
        return world.gate.decide_anew(tx, found, permit, at=world.at)

    denied = world.ledger.transact(lambda tx: anew(tx, permit.model_copy(update={"scores": scores})))
    assert isinstance(denied, Denied)


def test_a_policy_that_does_not_hear_reviewers_refuses_and_asks_them_only_once(
    studio: Studio, world: World, app: AppId
) -> None:
    files = cedar.read(POLICIES)
    heard = b"context.output.ungranted_faces > 0 && !context.output.reviewed"
    assert heard in files["clear.cedar"]
    files["clear.cedar"] = files["clear.cedar"].replace(heard, b"context.output.ungranted_faces > 0")
    world.gate.sets = Fixed(Engine.of(files))
    video = held(studio, app)
    for name in ("alice", "bob"):
        say(studio, video, one(world, name), "passed", final=name == "bob")
    assert studio.state(video) == ("failed", "clear.ungranted_face")


def test_a_word_about_another_file_lets_nothing_pass(studio: Studio, world: World, app: AppId) -> None:
    video = held(studio, app)
    other = replace(row(studio, video), object_key=f"clips/00/{'0' * 64}")
    for who in (one(world, "alice"), one(world, "bob")):

        def operation(tx: Transaction, who: Reviewer = who) -> None:
            words.note_look(tx, other, who, at=world.at)
            words.say(tx, other, who, "passed", "yes", final=True, at=world.at)

        world.ledger.transact(operation)
    studio.drafts.settle(video)
    assert studio.state(video) == ("queued", None)


def test_a_refusal_ends_the_job_and_keeps_the_file_for_an_appeal(
    studio: Studio, world: World, app: AppId
) -> None:
    ada = granted(world, app)
    video = held(studio, app, ada)
    say(studio, video, one(world, "alice"), "refused", final=True)
    assert studio.state(video) == ("failed", "review.refused")
    assert (studio.uses(ada), studio.held(video), studio.stored()) == (0, True, 1)
    with world.ledger.reading() as tx:
        assert keeping.drafts_over(tx, at=world.at) == []
        assert keeping.named_objects(tx, [row(studio, video).object_key])
        assert tx.clips_for_review(at=world.at) != []
    world.wait(days=13)
    studio.drafts.sweep()
    assert studio.stored() == 1
    world.at += APPEAL_LIFE - timedelta(days=13)
    studio.drafts.sweep()
    assert (studio.held(video), studio.stored()) == (False, 0)
    assert world.entries(ada.person_id, "deletion")[-1].body["what"] == "draft"


def test_a_revocation_while_it_waits_ends_it(studio: Studio, world: World, app: AppId) -> None:
    ada = world.enrol()
    grant = world.grant(ada, app)
    video = held(studio, app, ada)
    say(studio, video, one(world, "alice"), "passed")
    world.revoke(ada, grant)
    with pytest.raises(NotFound):
        say(studio, video, one(world, "bob"), "passed", final=True)
    studio.drafts.settle(video)
    assert studio.state(video) == ("failed", "consent.revoked")
    assert (studio.held(video), studio.stored()) == (False, 0)


@pytest.mark.parametrize("how", ["revoked", "erased", "deleted"])
def test_nothing_is_kept_for_an_appeal_that_somebody_stands_against(
    studio: Studio, world: World, app: AppId, how: str
) -> None:
    ada = world.enrol()
    grant = world.grant(ada, app)
    video = held(studio, app, ada)
    say(studio, video, one(world, "alice"), "refused", final=True)
    if how == "revoked":
        world.revoke(ada, grant)
    elif how == "erased":
        for key in erase(world.ledger, ada.person_id, ada.cameo_id, at=world.at).objects:
            studio.objects.delete(key)
    else:
        world.ledger.transact(lambda tx: tx.delete_video(video, at=world.at))
    studio.drafts.sweep()
    assert (studio.held(video), studio.stored()) == (False, 0)


def test_what_nobody_looks_at_lapses(studio: Studio, world: World, app: AppId) -> None:
    ada = granted(world, app)
    video = held(studio, app, ada)
    world.at += DRAFT_LIFE
    studio.drafts.sweep()
    assert studio.state(video) == ("failed", "review.lapsed")
    assert (studio.uses(ada), studio.held(video), studio.stored()) == (0, False, 0)


def test_a_word_whose_release_a_crash_prevented_is_made_good_at_the_start(
    studio: Studio, world: World, app: AppId, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = held(studio, app)
    say(studio, video, one(world, "alice"), "passed")
    with monkeypatch.context() as dead:
        dead.setattr(studio.drafts, "settle", lambda _: None)
        say(studio, video, one(world, "bob"), "passed", final=True)
    assert studio.state(video) == ("queued", None)
    studio.restart()
    studio.drafts.start()
    try:
        assert (studio.state(video), studio.stored()) == (("completed", None), 1)
    finally:
        studio.drafts.close()


def test_holding_again_after_a_crash_changes_nothing(studio: Studio, world: World, app: AppId) -> None:
    clip = studio.make(app, review=FACE)
    assert [type(studio.release(clip)) for _ in range(3)] == [Held] * 3
    assert kinds(world, app, clip.permit.video) == ["decision", "held"]


def test_a_clip_whose_consent_is_gone_is_not_held(studio: Studio, world: World, app: AppId) -> None:
    ada = granted(world, app)
    clip = studio.make(app, ada, review=FACE)
    world.ledger.transact(lambda tx: tx.set_suspended(app, True))
    assert isinstance(studio.release(clip), Denied)
    assert (studio.held(clip.permit.video), studio.stored()) == (False, 0)


# ── with faces that the machine really looks for ──────────────────────────────────────────────────────────


@pytest.mark.slow
def test_a_stranger_s_face_is_held_with_its_place_and_a_registered_one_never_goes_out(
    studio: Studio, world: World, app: AppId
) -> None:
    film = video_of(pixels(hopper_picture()), world.home / "film.mp4")
    allowed = world.allow(app)

    path = world.home / "raw.mp4"
    path.write_bytes(film)
    found = world.gate.clear(raw_clip(allowed, path, backend="b", version="1", closed=True))
    assert not isinstance(found, Denied)
    assert found.review == FACE
    assert found.places
    video = studio.make(app, film=film, review=FACE)
    assert isinstance(studio.release(video), Held)
    registered(world, enrol_portrait([pixels(hopper_picture())]).likeness)
    for name in ("alice", "bob"):
        say(studio, video.permit.video, one(world, name), "passed", final=name == "bob")
    assert studio.state(video.permit.video) == ("failed", "clear.do_not_generate")
    assert studio.stored() == 0
