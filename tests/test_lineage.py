"""What is made of a clip shares its fate: it needs the same people's consent, and goes when they take it back."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text

from generator.backend import RenderRequest
from generator.pipeline import Pipeline
from generator.stamp import Released, Stamper
from ledger.consent.grant import parse_grant
from ledger.consent.registry import SignedGrant, record_grant, revoke
from ledger.consent.statement import GRANT_TAG, encode_key, sign
from ledger.ids import AppId, GrantId, VideoId, new_id
from ledger.provenance import media
from ledger.provenance.standing import clip_standing
from safety.chain import Allowed
from safety.errors import InvalidInput
from safety.gate import Denied
from safety.policy.activation import Activated
from safety.replay import Lost, redecide
from studio import Studio
from world import Someone, World

pytestmark = pytest.mark.slow

EVERYTHING = ["generate", "remix", "edit", "extend"]


@pytest.fixture
def studio(world: World) -> Studio:
    return Studio(world)


@pytest.fixture
def app(world: World) -> AppId:
    return world.app()


def willing(world: World, app: AppId, **changes: Any) -> tuple[Someone, GrantId]:
    """Somebody who lets the app do everything, and takes all of it back together with the grant."""
    someone = world.enrol()
    allowed = {"actions": EVERYTHING, "revocation_effect": "withdraw_all", "max_uses": 1000, **changes}
    return someone, world.grant(someone, app, **allowed)


def remix(parent: VideoId, **changes: Any) -> dict[str, Any]:
    return {"action": "remix", "parent": parent, **changes}


def asked(world: World, app: AppId, parent: VideoId, *people: Someone, **changes: Any) -> Allowed | Denied:
    return world.gate.decide(world.request(app, *people, **remix(parent, **changes)), at=world.at)


def ids(answer: object) -> set[str]:
    assert isinstance(answer, Denied), answer
    return {reason.id for reason in answer.reasons}


def consent_now(world: World, video: VideoId) -> str:
    with world.ledger.reading() as tx:
        standing = clip_standing(tx, video, at=world.at)
    assert standing is not None
    return standing.consent_now


# ── making it ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("action", ["remix", "edit", "extend"])
def test_everyone_in_the_clip_is_named_by_it_and_asked_for_this_action(
    studio: Studio, world: World, app: AppId, action: str
) -> None:
    ada, grant = willing(world, app)
    bob, _ = willing(world, app, actions=["generate"])
    alone, both = studio.out(app, ada), studio.out(app, ada, bob)
    allowed = asked(world, app, alone, action=action)
    assert isinstance(allowed, Allowed)
    permit = allowed.permit
    assert [use.ids for use in permit.uses] == [(ada.person_id, ada.cameo_id, grant)]
    assert permit.parent is not None
    assert (permit.action, permit.parent.video_id) == (action, alone)
    assert permit.parent.manifest_id == studio.video(alone).manifest_id
    video = studio.video(permit.video)
    assert (video.action, video.parent_id) == (action, alone)
    for subject in (app, ada.person_id):
        decision = world.entries(subject, "decision")[-1].body
        assert (decision["action"], decision["parent_id"]) == (action, alone)
    assert ids(asked(world, app, both, action=action)) == {"consent.action"}
    assert studio.told(ada).allowed == 3


def test_somebody_new_may_be_added_with_their_own_grant(studio: Studio, world: World, app: AppId) -> None:
    (ada, _), (bob, _), eve = willing(world, app), willing(world, app), world.enrol()
    parent = studio.out(app, ada)
    allowed = asked(world, app, parent, bob, ada)
    assert isinstance(allowed, Allowed)
    assert [use.person_id for use in allowed.permit.uses] == [ada.person_id, bob.person_id]
    assert ids(asked(world, app, parent, eve)) == {"consent.no_grant"}


def test_no_more_people_fit_in_with_those_who_are_there(studio: Studio, world: World, app: AppId) -> None:
    people = [willing(world, app)[0] for _ in range(5)]
    parent = studio.out(app, *people[:3])
    assert isinstance(asked(world, app, parent, people[0], people[3]), Allowed)
    with pytest.raises(InvalidInput) as full:
        asked(world, app, parent, *people[3:])
    assert full.value.reason.id == "request.characters"


def test_an_app_starts_from_its_own_clip_or_from_one_for_everyone(
    studio: Studio, world: World, app: AppId
) -> None:
    other, ada = world.app(), world.enrol()
    for holder in (app, other):
        world.grant(ada, holder, actions=EVERYTHING, audience="everyone", max_uses=9)
    private, public = studio.out(app, ada), studio.out(app, ada, audience="everyone")
    nobodys = studio.out(app)
    before = world.ledger.checkpoint()
    assert ids(asked(world, other, private)) == {"parent.unknown"}
    assert ids(asked(world, other, nobodys)) == {"parent.unknown"}
    assert ids(asked(world, other, VideoId(new_id("video")))) == {"parent.unknown"}
    assert world.ledger.checkpoint() == before  # nothing anybody could read was asked for
    allowed = asked(world, other, public, audience="everyone")
    assert isinstance(allowed, Allowed)
    below = studio.make(other, ada, **remix(public))
    assert isinstance(studio.release(below), Released)
    assert studio.may_download(below.permit.video, other) == set()


def test_a_clip_that_is_not_out_or_not_any_more_is_no_start(studio: Studio, world: World, app: AppId) -> None:
    (ada, grant), (bob, _) = willing(world, app), willing(world, app)
    running, withdrawn, deleted = (
        world.allow(app, bob).permit.video,
        studio.out(app, ada),
        studio.out(app, bob),
    )
    world.ledger.transact(lambda tx: tx.delete_video(deleted, at=world.at))
    world.revoke(ada, grant)
    world.grant(ada, app, actions=EVERYTHING)  # a new grant does not bring back the clip
    assert ids(asked(world, app, running)) == {"download.unreleased"}
    assert ids(asked(world, app, deleted)) == {"download.unreleased"}
    assert ids(asked(world, app, withdrawn)) == {"download.withdrawn"}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE video SET parent_id = NULL WHERE id = :below",
        "UPDATE video SET parent_id = :other WHERE id = :below",
        "DELETE FROM video_grant WHERE video_id = :above",
        "UPDATE video SET parent_id = 'video_gone' WHERE id = :above",
    ],
    ids=["parent forgotten", "another parent", "people forgotten", "parent missing"],
)
def test_rows_that_are_not_what_was_released_are_no_ground_to_show_anything(
    studio: Studio, world: World, app: AppId, change: str
) -> None:
    (ada, grant), (bob, _) = willing(world, app), willing(world, app)
    above, other = studio.out(app, ada), studio.out(app, bob)
    # Under a grant of her own the child would stand by itself, if nobody remembered its parent.
    world.revoke(ada, grant)
    world.grant(ada, app, actions=EVERYTHING)
    again = willing(world, app)[0]
    above = studio.out(app, again)
    below = studio.out(app, again, **remix(above))
    assert studio.may_download(below, app) == set()
    with world.ledger.database.writing() as session:
        session.execute(text(change), {"above": above, "below": below, "other": other} | {})
    assert studio.may_download(below, app) == {"download.ledger"}
    assert ids(asked(world, app, below)) == {"download.ledger"}


def test_a_remix_is_decided_again_byte_for_byte(studio: Studio, world: World, app: AppId) -> None:
    ada, _ = willing(world, app)
    parent = studio.out(app, ada)
    refused = world.request(app, world.enrol(), **remix(parent))
    allowed = asked(world, app, parent)
    world.gate.decide(refused, at=world.at)
    assert isinstance(allowed, Allowed)

    class Held(Activated):
        def of(self, tx: Any, _sha256: str) -> Any:
            return world.gate.sets.engine(tx)

    for video, answer in ((allowed.permit.video, True), (refused.video_id, False)):
        with world.ledger.reading() as tx:
            again = redecide(tx, Held(), video, facts_key=world.keyring.facts_key)
        assert not isinstance(again, Lost), again
        assert again.decision.allowed is answer
        # No set was put in force in this world by a leaf; everything else is what was recorded.
        assert again.differs == ("the log says that another policy set was in force",)


# ── taking it back ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("effect", ["withdraw_all", "stop_new"])
def test_a_withdrawal_reaches_everything_made_of_the_clip_at_any_depth(
    studio: Studio, world: World, app: AppId, effect: Any
) -> None:
    ada = world.enrol()
    first = world.grant(ada, app, actions=["generate"], revocation_effect=effect, max_uses=1)
    line = [studio.out(app, ada)]
    # The rest is made under another grant, which goes on standing.
    second = world.grant(ada, app, actions=EVERYTHING, max_uses=100)
    for action in ("remix", "edit", "extend"):
        line.append(studio.out(app, ada, **remix(line[-1], action=action)))
    beside = studio.out(app, ada)
    world.ledger.transact(lambda tx: tx.delete_video(line[1], at=world.at))  # a link that its app let go of
    running = world.allow(app, ada, **remix(line[3]))
    waiting_app = running.permit.video
    world.revoke(ada, first)
    gone = effect == "withdraw_all"
    for video in (line[0], line[2], line[3]):
        assert studio.may_download(video, app) == ({"download.withdrawn"} if gone else set())
    assert consent_now(world, line[0]) == ("withdrawn" if gone else "revoked")
    assert [consent_now(world, one) for one in line[1:]] == ["withdrawn" if gone else "standing"] * 3
    assert (studio.may_download(beside, app), consent_now(world, beside)) == (set(), "standing")
    assert studio.state(waiting_app) == (("failed", "consent.revoked") if gone else ("queued", None))
    with world.ledger.reading() as tx:
        held = tx.standing(ada.person_id).grants[second]
    assert (waiting_app in held.uses) is not gone
    assert studio.told(ada).released == 5


def test_a_revocation_ends_in_its_own_transaction_what_is_being_made_under_the_grant(
    studio: Studio, world: World, app: AppId
) -> None:
    (ada, grant), (bob, bobs) = willing(world, app, revocation_effect="stop_new"), willing(world, app)
    both, alone = world.allow(app, ada, bob).permit.video, world.allow(app, bob).permit.video
    ends = revoke(world.ledger, ada.person_id, grant, None, at=world.at)
    assert studio.state(both) == ("failed", "consent.revoked")
    assert studio.state(alone) == ("queued", None)
    with world.ledger.reading() as tx:
        assert tx.standing(bob.person_id).grants[bobs].uses == {alone}
        returned = tx.find("returned", both)
        assert returned is not None
        assert returned.index == ends + 1
        # Nothing that anybody signed stands between the two.
        assert len(list(tx.leaves(ends + 1, ends + 3))) == 2
    assert world.entries(bob.person_id, "returned")[0].body["reasons"] == []
    assert studio.told(ada).released == 0


def test_widening_a_revocation_withdraws_what_it_had_left(studio: Studio, world: World, app: AppId) -> None:
    ada, grant = willing(world, app, revocation_effect="stop_new")
    above = studio.out(app, ada)
    world.grant(ada, app, actions=EVERYTHING, max_uses=10)
    revoke(world.ledger, ada.person_id, grant, "stop_new", at=world.at)
    below = studio.out(app, ada, **remix(above))
    running = world.allow(app, ada, **remix(below)).permit.video
    assert studio.may_download(below, app) == set()
    revoke(world.ledger, ada.person_id, grant, "withdraw_all", at=world.at)
    assert studio.may_download(below, app) == {"download.withdrawn"}
    assert studio.state(running) == ("failed", "consent.revoked")
    size = world.ledger.checkpoint()
    revoke(world.ledger, ada.person_id, grant, "withdraw_all", at=world.at)
    assert world.ledger.checkpoint() == size


def test_what_was_passed_on_ends_with_the_grant_it_came_from(
    studio: Studio, world: World, app: AppId
) -> None:
    agent, ada, other = Ed25519PrivateKey.generate(), world.enrol(), world.app()
    grant = world.grant(ada, app, delegate_key=encode_key(agent.public_key()), max_uses=9)
    draft = world.draft(ada, other, parent=grant, max_uses=3)
    evidence = sign(GRANT_TAG, parse_grant(draft).signed_bytes(), agent)
    record_grant(world.ledger, SignedGrant(ada.person_id, draft, evidence), at=world.at)
    running = world.allow(other, ada).permit.video
    world.revoke(ada, grant)
    assert studio.state(running) == ("failed", "consent.revoked")
    assert studio.told(ada).allowed == 1


def test_a_clip_finished_after_its_parent_was_withdrawn_goes_nowhere(
    studio: Studio, world: World, app: AppId
) -> None:
    """Even when nothing ended its job: the release asks for itself."""
    ada = world.enrol()
    first = world.grant(ada, app, revocation_effect="withdraw_all")
    above = studio.out(app, ada)
    world.grant(ada, app, actions=EVERYTHING)
    clip = studio.make(app, ada, **remix(above))
    world.revoke(ada, first)
    with world.ledger.database.writing() as session:
        session.execute(
            text("UPDATE video SET status = 'in_progress' WHERE id = :id"), {"id": clip.permit.video}
        )
    answer = studio.release(clip)
    assert ids(answer) == {"download.withdrawn"}
    assert studio.stored() == 1


def test_an_app_that_lets_go_of_the_first_clip_may_finish_what_it_made_of_it(
    studio: Studio, world: World, app: AppId
) -> None:
    ada, _ = willing(world, app)
    above = studio.out(app, ada)
    clip = studio.make(app, ada, **remix(above))
    world.ledger.transact(lambda tx: tx.delete_video(above, at=world.at))
    assert isinstance(studio.release(clip), Released)


def test_a_circle_of_clips_which_no_request_can_make_ends_nothing_but_the_walk(
    studio: Studio, world: World, app: AppId
) -> None:
    ada, grant = willing(world, app)
    one = studio.out(app, ada)
    two = studio.out(app, ada, **remix(one))
    with world.ledger.database.writing() as session:
        session.execute(text("UPDATE video SET parent_id = :two WHERE id = :one"), {"one": one, "two": two})
    assert studio.may_download(two, app) == {"download.ledger"}
    assert consent_now(world, two) == "unknown"
    with world.ledger.reading() as tx:
        assert tx.descendants([one]) == [tx.video(two)]
    world.revoke(ada, grant)
    assert studio.may_download(one, app) >= {"download.withdrawn"}


# ── while it is being made ────────────────────────────────────────────────────────────────────────────────


class Interrupted:
    """A model during whose work something happens. `heeds`: whether it reports progress."""

    name, version, closed = "countersign-reference", "1", True

    def __init__(self, happens: Callable[[], None], *, heeds: bool) -> None:
        self.happens, self.heeds, self.finished = happens, heeds, False

    def render(self, request: RenderRequest, out: Path, progress: Callable[[float], None]) -> None:
        progress(0.1)
        self.happens()
        if self.heeds:
            progress(0.5)
        media.write_pattern(out)
        self.finished = True


def line_of(studio: Studio, world: World, *models: Interrupted) -> Pipeline:
    stamper = cast("Stamper", None)  # nothing here is stamped
    backends = {model.name: model for model in models}
    return Pipeline(world.gate, backends, stamper, studio.objects, world.home / "work", lambda: world.at)


@pytest.mark.parametrize("heeds", [True, False])
def test_a_model_is_told_to_stop_and_what_it_makes_all_the_same_goes_nowhere(
    studio: Studio, world: World, app: AppId, heeds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, grant = willing(world, app)
    permit = world.allow(app, ada).permit
    model = Interrupted(lambda: world.revoke(ada, grant), heeds=heeds)
    line = line_of(studio, world, model)
    monkeypatch.setattr(line.gate, "clear", lambda _: pytest.fail("it was looked at"))
    monkeypatch.setattr(Pipeline, "_portraits", lambda *_: ())
    outcome = line.attempt("render", permit.video)
    assert model.finished is not heeds
    if not heeds:
        assert outcome["reasons"] == []
        outcome = line.attempt("clear", outcome["sealed"])
    assert [reason["id"] for reason in outcome["reasons"]] == ["job.ended"]
    line.fail(permit.video, "render", outcome["reasons"])
    assert studio.state(permit.video) == ("failed", "consent.revoked")
    assert [one.kind for one in world.entries(app) if one.body.get("video_id") == permit.video] == [
        "decision",
        "returned",
    ]


def test_progress_is_looked_at_although_no_tenth_is_reached(studio: Studio, world: World, app: AppId) -> None:
    permit = world.allow(app).permit
    line = line_of(studio, world)
    report = line._progress(permit.video)
    report(0.11)
    world.ledger.transact(lambda tx: tx.delete_video(permit.video, at=world.at))
    report(0.12)  # not every frame is a question
    world.wait(seconds=1)
    with pytest.raises(Exception, match="this job ended"):
        report(0.13)


# ── races ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_revocation_that_races_decisions_and_releases_is_decided_by_the_order_of_the_log(
    studio: Studio, world: World, app: AppId
) -> None:
    """Whatever stands before it in the log may be out and is withdrawn; nothing that stands after it is."""
    ada, grant = willing(world, app)
    parent = studio.out(app, ada)
    ready = [studio.make(app, ada, **remix(parent)) for _ in range(6)]
    together = threading.Barrier(14)

    def decide(_: int) -> Allowed | Denied:
        together.wait()
        return asked(world, app, parent)

    def finish(number: int) -> object:
        together.wait()
        try:
            return studio.release(ready[number])
        except Exception as error:  # noqa: BLE001 — that the job has ended is an answer, too
            return error

    def take_back(_: int) -> int:
        together.wait()
        return revoke(world.ledger, ada.person_id, grant, None, at=world.at)

    with ThreadPoolExecutor(14) as pool:
        decisions = [pool.submit(decide, n) for n in range(7)]
        releases = [pool.submit(finish, n) for n in range(6)]
        revoked = pool.submit(take_back, 0).result()
        answers = [one.result() for one in decisions]
        outcomes = [one.result() for one in releases]
    story = studio.told(ada)  # rule 4 and 5: no decision and no release under it after the revocation
    for answer in answers:
        if isinstance(answer, Allowed):
            assert answer.permit.decision_index < revoked
            assert studio.state(answer.permit.video) == ("failed", "consent.revoked")
        else:
            # Refused for want of consent, or because the clip it starts from is withdrawn.
            assert ids(answer) <= {"consent.revoked", "download.withdrawn"}
    out = [one for one in outcomes if isinstance(one, Released)]
    assert all(one.index < revoked for one in out)
    assert story.released == 1 + len(out) == studio.stored()
    for clip in ready:
        released = studio.video(clip.permit.video).object_key is not None
        assert studio.may_download(clip.permit.video, app) >= {"download.withdrawn"}
        assert studio.state(clip.permit.video)[0] == ("completed" if released else "failed")
    with world.ledger.reading() as tx:
        held = tx.standing(ada.person_id).grants[grant]
        # Every use of what is not out was given back.
        assert len(held.uses) == 1 + len(out)
        assert tx.unfinished_jobs() == []
