"""A finished clip waits for the word of those it shows, goes out when the last has approved, and is gone otherwise."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from generator.stamp import Held, Released
from ledger.consent.approval import Answer, Decision, answer_draft
from ledger.consent.authority import Cosignature
from ledger.consent.grant import parse_grant
from ledger.consent.registry import SignedGrant, erase, record_grant
from ledger.consent.statement import GRANT_TAG, sign
from ledger.errors import InvalidStatement, LedgerError, NotFound, Unavailable
from ledger.ids import AppId, VideoId, new_id
from ledger.store.objects import Objects
from live import collins_picture, pixels, video_of
from safety import pdq
from safety.chain import Stamped
from safety.faces import Likeness, enrol_portrait
from safety.gate import DRAFT_LIFE, Denied
from safety.likeness import StoredLikeness
from studio import Studio
from test_known_bad import lines, put
from test_notices import registered
from world import Someone, World, zulu

pytestmark = pytest.mark.slow


@pytest.fixture
def studio(world: World) -> Studio:
    return Studio(world)


@pytest.fixture
def app(world: World) -> AppId:
    return world.app()


def asking(world: World, app: AppId, **changes: Any) -> Someone:
    """Somebody who granted the app their likeness, and wants to see each clip first."""
    someone = world.enrol()
    world.grant(someone, app, approval="before_release", **changes)
    return someone


def kinds(world: World, subject: str, video_id: VideoId) -> list[str]:
    return [one.kind for one in world.entries(subject) if one.body.get("video_id") == video_id]


# ── waiting ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_finished_clip_waits_marked_and_signed_and_nobody_else_can_have_it(
    studio: Studio, world: World, app: AppId
) -> None:
    ada = asking(world, app)
    clip = studio.make(app, ada)
    assert isinstance(studio.release(clip), Held)
    video = clip.permit.video
    assert (studio.state(video), studio.held(video), studio.stored()) == (("queued", None), True, 1)
    assert studio.may_download(video, app) == {"download.unreleased"}
    for subject in (app, ada.person_id):
        assert kinds(world, subject, video) == ["decision", "draft"]
    (draft,) = world.entries(ada.person_id, "draft")
    assert draft.body["sha256"] == clip.sha256
    assert draft.body["until"] == zulu(world.at + DRAFT_LIFE)
    with world.ledger.reading() as tx:
        held = tx.held_clip(video)
        # It costs the app none of the jobs that it may have at a time.
        assert tx.running_jobs(app) == 0
    assert held is not None
    assert clip.manifest_id in str(world.gate.sealer.open(held.stamped, type(clip), at=world.at))


def test_a_clip_waits_only_if_somebody_s_grant_says_so(studio: Studio, world: World, app: AppId) -> None:
    ada = world.enrol()
    world.grant(ada, app)
    assert isinstance(studio.release(studio.make(app, ada)), Released)
    assert isinstance(studio.release(studio.make(app)), Released)


@pytest.mark.parametrize("missing", ["revoked", "expired", "suspended"])
def test_a_clip_that_lacks_more_than_approval_does_not_wait(
    studio: Studio, world: World, app: AppId, missing: str
) -> None:
    ada, bob = asking(world, app), world.enrol()
    # Bob's grant asks for nothing: what it lacks is lacking for good.
    bobs = world.grant(bob, app, expires=zulu(world.at + timedelta(hours=2)))
    clip = studio.make(app, ada, bob)
    if missing == "revoked":
        world.revoke(bob, bobs)
    elif missing == "expired":
        world.wait(hours=3)
    else:
        world.ledger.transact(lambda tx: tx.set_suspended(app, True))
    if missing == "revoked":
        # The revocation ended the job: it is not even asked about.
        with pytest.raises(NotFound) as ended:
            world.ledger.transact(lambda tx: tx.take_job(clip.permit.video))
        assert ended.value.reason.id == "permit.used"
    answer = studio.release(clip)
    assert isinstance(answer, Denied)
    assert (studio.held(clip.permit.video), studio.stored()) == (False, 0)
    assert kinds(world, ada.person_id, clip.permit.video).count("draft") == 0


def test_holding_again_after_a_crash_changes_nothing(studio: Studio, world: World, app: AppId) -> None:
    ada = asking(world, app)
    clip = studio.make(app, ada)
    assert [type(studio.release(clip)) for _ in range(3)] == [Held] * 3
    assert kinds(world, ada.person_id, clip.permit.video) == ["decision", "draft"]
    assert studio.stored() == 1


def test_the_permit_lives_as_long_as_the_draft(studio: Studio, world: World, app: AppId) -> None:
    ada = asking(world, app)
    clip = studio.make(app, ada)
    world.wait(hours=23)  # the model took its time
    assert isinstance(studio.release(clip), Held)
    world.wait(days=6, hours=23)
    studio.say(clip.permit.video, ada, "approve")
    assert studio.state(clip.permit.video) == ("completed", None)


# ── the word ──────────────────────────────────────────────────────────────────────────────────────────────


def test_an_approval_releases_the_very_file_that_was_held(studio: Studio, world: World, app: AppId) -> None:
    ada = asking(world, app)
    video = studio.waiting(app, ada)
    with world.ledger.reading() as tx:
        held = tx.held_clip(video)
    assert held is not None
    studio.say(video, ada, "approve")
    assert (studio.video(video).object_key, studio.state(video)) == (held.object_key, ("completed", None))
    assert (studio.held(video), studio.stored(), studio.may_download(video, app)) == (False, 1, set())
    for subject in (app, ada.person_id):
        assert kinds(world, subject, video) == ["decision", "draft", "approval", "release"]
    (word,) = world.entries(ada.person_id, "approval")
    assert (word.body["approved"], word.body["role"]) == (True, "owner")
    # To the app, only that somebody approved.
    (told,) = world.entries(app, "approval")
    assert told.body.keys() == {"kind", "at", "video_id", "approved"}
    assert studio.told(ada).released == 1
    assert list((world.home / "work").iterdir()) == []


def test_everyone_who_asked_for_it_must_approve(studio: Studio, world: World, app: AppId) -> None:
    ada, bob, eve = asking(world, app), asking(world, app), world.enrol()
    world.grant(eve, app)
    video = studio.waiting(app, ada, bob, eve)
    studio.say(video, ada, "approve")
    assert (studio.state(video), studio.held(video)) == (("queued", None), True)
    with pytest.raises(NotFound):  # her grant asks for no approval, and hers would not be enough
        studio.say(video, eve, "approve")
    studio.say(video, bob, "approve")
    assert studio.state(video) == ("completed", None)
    assert [studio.told(one).released for one in (ada, bob, eve)] == [1, 1, 1]


@pytest.fixture
def shown(studio: Studio, world: World, app: AppId) -> tuple[Someone, VideoId]:
    """A person with a face, and a draft that shows it."""
    picture = pixels(collins_picture())
    enrolled = enrol_portrait([picture])
    ada = world.enrol(likeness=StoredLikeness(enrolled.likeness, picture, enrolled.face))
    world.grant(ada, app, approval="before_release")
    return ada, studio.waiting(app, ada, film=video_of(picture, world.home / "film.mp4"))


def test_a_face_that_was_registered_while_a_draft_waited_does_not_go_out(
    studio: Studio, world: World, shown: tuple[Someone, VideoId]
) -> None:
    ada, video = shown
    registered(world, enrol_portrait([pixels(collins_picture())]).likeness)
    studio.say(video, ada, "approve")
    assert studio.state(video) == ("failed", "clear.do_not_generate")
    assert (studio.held(video), studio.stored(), studio.uses(ada)) == (False, 0, 0)
    assert kinds(world, ada.person_id, video) == ["decision", "draft", "approval", "returned"]


def test_a_picture_that_came_on_a_list_while_a_draft_waited_does_not_go_out(
    studio: Studio, world: World, shown: tuple[Someone, VideoId]
) -> None:
    ada, video = shown
    hashes = pdq.hashed([pixels(collins_picture())]).hashes
    put(world, lines(*(one.astype(">u8").tobytes() for one in hashes)))
    studio.say(video, ada, "approve")
    assert studio.state(video) == ("failed", "clear.known_bad")
    assert (studio.held(video), studio.stored()) == (False, 0)


def test_a_draft_that_shows_nobody_who_was_registered_since_is_looked_at_and_goes_out(
    studio: Studio, world: World, shown: tuple[Someone, VideoId], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, video = shown
    looks, look = [0], world.gate.clear_again

    def looking(clip: Stamped, *, at: datetime) -> Stamped | Denied:
        answer = look(clip, at=at)
        if not looks[0]:
            # Somebody else is registered meanwhile: that is one look more, and then no other.
            registered(world, Likeness(np.full((1, 128), -3.0)))
        looks[0] += 1
        return answer

    monkeypatch.setattr(world.gate, "clear_again", looking)
    registered(world, Likeness(np.full((1, 128), 3.0)))
    studio.say(video, ada, "approve")
    assert (studio.state(video), looks) == (("completed", None), [2])


def test_what_can_not_be_looked_at_once_more_does_not_go_out(
    studio: Studio, world: World, app: AppId
) -> None:
    ada = asking(world, app)
    video = studio.waiting(app, ada)  # no film at all
    registered(world, Likeness(np.full((1, 128), 3.0)))
    studio.say(video, ada, "approve")
    assert studio.state(video) == ("failed", "clear.classifiers")


@pytest.mark.parametrize("decision", ["refuse", "refuse_and_block"])
def test_a_refusal_ends_the_job_gives_the_use_back_and_destroys_the_draft(
    studio: Studio, world: World, app: AppId, decision: Decision
) -> None:
    ada, bob = asking(world, app), asking(world, app)
    video = studio.waiting(app, ada, bob)
    studio.say(video, bob, "approve")
    assert (studio.uses(ada), studio.uses(bob)) == (1, 1)
    studio.say(video, ada, decision)
    assert studio.state(video) == ("failed", "approval.refused")
    assert (studio.uses(ada), studio.uses(bob)) == (0, 0)
    assert (studio.held(video), studio.stored()) == (False, 0)
    for one in (ada, bob):
        assert kinds(world, one.person_id, video)[-1] == "returned"
        assert studio.told(one).released == 0
    # Who it was is not for the other to read.
    assert world.entries(bob.person_id, "returned")[0].body["reasons"] == []
    with pytest.raises(InvalidStatement) as late:
        studio.say(video, bob, "refuse")
    assert late.value.reason.id == "approval.decided"
    with pytest.raises(InvalidStatement):
        studio.say(video, ada, "approve")


def test_refuse_and_block_shuts_the_app_out_whatever_a_grant_says(
    studio: Studio, world: World, app: AppId
) -> None:
    ada = asking(world, app)
    studio.say(studio.waiting(app, ada), ada, "refuse_and_block")
    with world.ledger.reading() as tx:
        assert list(tx.standing(ada.person_id).blocked) == [app]
    answer = world.gate.decide(world.request(app, ada), at=world.at)
    assert isinstance(answer, Denied)


def test_a_person_who_asked_is_blocked_rather_than_the_app_that_spoke_for_them(
    studio: Studio, world: World, app: AppId
) -> None:
    ada, asker = world.enrol(), world.enrol()
    world.grant(ada, app, approval="before_release", grantee={"type": "person", "id": asker.person_id})
    video = studio.waiting(app, ada, person=asker.person_id)
    studio.say(video, ada, "refuse_and_block")
    with world.ledger.reading() as tx:
        assert list(tx.standing(ada.person_id).blocked) == [asker.person_id]


def test_saying_the_same_again_is_harmless(studio: Studio, world: World, app: AppId) -> None:
    ada = asking(world, app)
    yes, no = studio.waiting(app, ada), studio.waiting(app, ada)
    for _ in range(3):
        studio.say(yes, ada, "approve")
        studio.say(no, ada, "refuse_and_block")
    assert kinds(world, ada.person_id, yes) == ["decision", "draft", "approval", "release"]
    assert kinds(world, ada.person_id, no) == ["decision", "draft", "approval", "returned"]
    assert len(world.entries(ada.person_id, "block")) == 1


def test_a_word_may_be_taken_back_while_others_have_not_spoken(
    studio: Studio, world: World, app: AppId
) -> None:
    ada, bob = asking(world, app), asking(world, app)
    video = studio.waiting(app, ada, bob)
    studio.say(video, ada, "approve")
    studio.say(video, ada, "refuse")
    assert studio.state(video) == ("failed", "approval.refused")


@pytest.mark.parametrize("who", ["stranger", "the requester's other app", "nobody's video"])
def test_nobody_else_has_a_word(studio: Studio, world: World, app: AppId, who: str) -> None:
    ada, stranger = asking(world, app), world.enrol()
    video = studio.waiting(app, ada)
    owner = ada if who == "nobody's video" else stranger
    wrong = VideoId(new_id("video")) if who == "nobody's video" else video
    before = world.ledger.checkpoint()
    with pytest.raises(NotFound) as unknown:
        studio.say(wrong, owner, "approve")
    assert unknown.value.reason.id == "approval.unknown"
    assert world.ledger.checkpoint() == before


def test_a_clip_that_is_out_or_was_never_held_waits_for_no_word(
    studio: Studio, world: World, app: AppId
) -> None:
    ada = world.enrol()
    world.grant(ada, app)
    running, out = world.allow(app, ada).permit.video, studio.out(app, ada)
    for video in (running, out):
        for decision in ("approve", "refuse"):
            with pytest.raises(NotFound):
                studio.say(video, ada, decision)
    assert studio.state(out) == ("completed", None)


# ── who speaks for somebody ───────────────────────────────────────────────────────────────────────────────


def minor(world: World, app: AppId) -> tuple[Someone, Someone]:
    """A child and their guardian, who both signed a grant to the app."""
    child, parent = world.enrol(date(2014, 3, 2)), world.enrol()
    world.guardian(child, parent)
    draft = world.draft(child, app, approval="before_release")
    signed = parse_grant(draft).signed_bytes()
    grant = SignedGrant(
        child.person_id,
        draft,
        sign(GRANT_TAG, signed, child.device),
        (Cosignature(guardian=parent.person_id, evidence=sign(GRANT_TAG, signed, parent.device)),),
    )
    record_grant(world.ledger, grant, at=world.at)
    return child, parent


def test_a_minor_s_clip_needs_the_guardian_s_word(studio: Studio, world: World, app: AppId) -> None:
    child, parent = minor(world, app)
    video = studio.waiting(app, child)
    with pytest.raises(InvalidStatement) as alone:
        studio.say(video, child, "approve")
    assert alone.value.reason.id == "approval.guardian"
    assert studio.state(video) == ("queued", None)
    studio.say(video, child, "approve", by=parent, role="guardian")
    assert studio.state(video) == ("completed", None)
    (word,) = world.entries(child.person_id, "approval")
    assert (word.body["role"], word.body["by"]) == ("guardian", parent.person_id)
    assert studio.told(child).released == 1


def test_a_yes_counts_only_of_who_is_a_guardian_when_it_is_recorded(
    studio: Studio, world: World, app: AppId
) -> None:
    child, parent = minor(world, app)
    other = world.enrol()
    world.guardian(child, other)
    video = studio.waiting(app, child)
    world.guardian(child, other, standing=False)  # after it was asked who they are
    with pytest.raises(InvalidStatement) as gone:
        studio.say(video, child, "approve", by=other, role="guardian")
    assert gone.value.reason.id == "approval.not_theirs"
    assert studio.state(video) == ("queued", None)
    studio.say(video, child, "approve", by=parent, role="guardian")
    assert studio.state(video) == ("completed", None)


def test_a_minor_may_say_no_by_themselves(studio: Studio, world: World, app: AppId) -> None:
    child, _ = minor(world, app)
    video = studio.waiting(app, child)
    studio.say(video, child, "refuse")
    assert studio.state(video) == ("failed", "approval.refused")


def test_an_executor_approves_for_somebody_who_has_died(studio: Studio, world: World, app: AppId) -> None:
    late, heir = asking(world, app), world.enrol()
    video = studio.waiting(app, late)
    world.executor(late, heir)
    with pytest.raises(InvalidStatement) as gone:  # whoever still holds their phone
        studio.say(video, late, "approve")
    assert gone.value.reason.id == "approval.not_theirs"
    studio.say(video, late, "approve", by=heir, role="executor")
    assert studio.state(video) == ("completed", None)
    assert studio.told(late).released == 1


# ── when it is over ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("grant_days", "until"),
    [(30, timedelta(days=7)), (3, timedelta(days=3))],
    ids=["a week", "the grant's end"],
)
def test_a_draft_nobody_approves_lapses(
    studio: Studio, world: World, app: AppId, grant_days: int, until: timedelta
) -> None:
    ada = asking(world, app, expires=zulu(world.at + timedelta(days=grant_days)))
    video, began = studio.waiting(app, ada), world.at
    world.at = began + until - timedelta(seconds=1)
    studio.drafts.sweep()
    assert studio.state(video) == ("queued", None)
    world.at = began + until
    studio.drafts.sweep()
    assert studio.state(video) == ("failed", "approval.lapsed")
    assert (studio.uses(ada), studio.held(video), studio.stored()) == (0, False, 0)
    studio.drafts.sweep()
    assert kinds(world, ada.person_id, video) == ["decision", "draft", "returned"]


def test_a_draft_that_lapsed_while_nothing_ran_is_ended_at_the_start(
    studio: Studio, world: World, app: AppId
) -> None:
    ada = asking(world, app)
    video = studio.waiting(app, ada)
    world.wait(days=8)
    studio.restart()
    studio.drafts.start()
    try:
        assert studio.state(video) == ("failed", "approval.lapsed")
    finally:
        studio.drafts.close()


def test_an_approval_whose_release_a_crash_prevented_is_made_good_at_the_start(
    studio: Studio, world: World, app: AppId
) -> None:
    ada = asking(world, app)
    video = studio.waiting(app, ada)
    answer = Answer(video, ada.person_id, ada.person_id, "owner", "approve")
    answer_draft(world.ledger, answer, at=world.at)
    assert studio.state(video) == ("queued", None)
    studio.restart()
    studio.drafts.start()
    try:
        assert (studio.state(video), studio.stored()) == (("completed", None), 1)
    finally:
        studio.drafts.close()


def test_a_refusal_whose_cleaning_up_a_crash_prevented_is_made_good_at_the_start(
    studio: Studio, world: World, app: AppId
) -> None:
    ada = asking(world, app)
    video = studio.waiting(app, ada)
    answer = Answer(video, ada.person_id, ada.person_id, "owner", "refuse")
    answer_draft(world.ledger, answer, at=world.at)
    assert (studio.state(video)[0], studio.stored()) == ("failed", 1)
    studio.restart()
    studio.drafts.start()
    try:
        assert (studio.stored(), studio.held(video)) == (0, False)
    finally:
        studio.drafts.close()


def test_a_revocation_takes_the_draft_with_it(studio: Studio, world: World, app: AppId) -> None:
    ada = world.enrol()
    grant = world.grant(ada, app, approval="before_release")
    video = studio.waiting(app, ada)
    answer = Answer(video, ada.person_id, ada.person_id, "owner", "approve")
    answer_draft(world.ledger, answer, at=world.at)  # approved, and then thought better of
    world.revoke(ada, grant)
    studio.drafts.settle(video)
    assert studio.state(video) == ("failed", "consent.revoked")
    assert (studio.held(video), studio.stored(), studio.uses(ada)) == (False, 0, 0)
    assert studio.told(ada).released == 0


def test_an_app_that_deletes_the_video_takes_the_draft_with_it(
    studio: Studio, world: World, app: AppId
) -> None:
    ada = asking(world, app)
    video = studio.waiting(app, ada)
    world.ledger.transact(lambda tx: tx.delete_video(video, at=world.at))
    studio.drafts.sweep()
    assert (studio.held(video), studio.stored(), studio.uses(ada)) == (False, 0, 0)


def test_an_erasure_ends_the_jobs_and_names_the_drafts_to_destroy(
    studio: Studio, world: World, app: AppId
) -> None:
    ada, bob = asking(world, app), asking(world, app)
    video = studio.waiting(app, ada, bob)
    running = world.allow(app, ada).permit.video
    gone = erase(world.ledger, ada.person_id, ada.cameo_id, at=world.at)
    assert len(gone.objects) == 1
    assert [studio.state(one) for one in (video, running)] == [("failed", "consent.erased")] * 2
    assert studio.uses(bob) == 0
    for key in gone.objects:
        studio.objects.delete(key)
    studio.drafts.sweep()
    assert (studio.held(video), studio.stored()) == (False, 0)


# ── faults ────────────────────────────────────────────────────────────────────────────────────────────────


def lose(_objects: Objects, path: Path) -> None:
    path.unlink()


def alter(_objects: Objects, path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "reason"), [(lose, "objects.missing"), (alter, "permit.file_changed")], ids=["lost", "altered"]
)
def test_a_draft_whose_file_is_not_the_one_that_was_checked_never_goes_out(
    studio: Studio, world: World, app: AppId, damage: Callable[[Objects, Path], None], reason: str
) -> None:
    ada = asking(world, app)
    video = studio.waiting(app, ada)
    (file,) = (path for path in (world.home / "objects" / "clips").rglob("*") if path.is_file())
    damage(studio.objects, file)
    studio.say(video, ada, "approve")
    assert studio.state(video) == ("failed", reason)
    assert (studio.uses(ada), studio.held(video), studio.stored()) == (0, False, 0)


@pytest.mark.parametrize("fault", ["not kept", "kept"])
def test_a_release_that_the_ledger_could_not_take_is_tried_again(
    studio: Studio, world: World, app: AppId, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = asking(world, app)
    video = studio.waiting(app, ada)
    answer_draft(world.ledger, Answer(video, ada.person_id, ada.person_id, "owner", "approve"), at=world.at)
    transact = world.ledger.transact

    def failing(operation: Callable[[Any], Any]) -> Any:
        if fault == "kept":
            transact(operation)
        raise Unavailable("store.unavailable", "the database is away", "try again")

    with monkeypatch.context() as away:
        away.setattr(world.ledger, "transact", failing)
        studio.drafts.settle(video)
    assert studio.state(video)[0] == ("completed" if fault == "kept" else "queued")
    studio.drafts.sweep()
    assert (studio.state(video), studio.stored()) == (("completed", None), 1)
    assert kinds(world, ada.person_id, video) == ["decision", "draft", "approval", "release"]


def test_a_refusal_is_recorded_whole_or_not_at_all(
    studio: Studio, world: World, app: AppId, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = asking(world, app)
    video = studio.waiting(app, ada)

    def full(*_: object, **__: object) -> None:
        raise Unavailable("store.unavailable", "the disk is full", "make room")

    with monkeypatch.context() as away:
        away.setattr("ledger.store.jobs.Jobs.end_job", full)
        with pytest.raises(LedgerError):
            studio.say(video, ada, "refuse_and_block")
    assert kinds(world, ada.person_id, video) == ["decision", "draft"]
    assert world.entries(ada.person_id, "block") == []
    studio.say(video, ada, "refuse_and_block")
    assert studio.state(video) == ("failed", "approval.refused")


def test_an_approval_that_races_a_refusal_never_leaves_both(studio: Studio, world: World, app: AppId) -> None:
    """By whichever comes first in the log: a refused clip is not out, and one that is out was not refused."""
    ada, bob = asking(world, app, max_uses=50), asking(world, app, max_uses=50)
    videos = [studio.waiting(app, ada, bob) for _ in range(6)]
    for video in videos:
        studio.say(video, bob, "approve")

    def speak(task: tuple[VideoId, Decision]) -> None:
        try:
            studio.say(task[0], ada, task[1])
        except LedgerError as error:
            assert error.reason.id in {"approval.decided", "approval.unknown"}  # noqa: PT017

    tasks: list[tuple[VideoId, Decision]] = [
        (video, decision) for video in videos for decision in ("approve", "refuse")
    ]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(speak, tasks))
    out = [video for video in videos if studio.state(video) == ("completed", None)]
    refused = [video for video in videos if studio.state(video) == ("failed", "approval.refused")]
    assert sorted(out + refused) == sorted(videos)
    assert studio.told(ada).released == studio.told(bob).released == len(out) == studio.stored()
    assert studio.uses(ada) == studio.uses(bob) == len(out)
