"""The gate: nothing is made or shown without a recorded yes from everyone in it, and what cannot be checked is a no."""

import json
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from matplotlib import cbook
from numpy.typing import NDArray
from PIL import Image
from skimage import data as _samples
from sqlalchemy import text

import ill
from generator.backend import RenderRequest
from generator.pipeline import Pipeline
from generator.stamp import Stamper
from ledger.consent.registry import revoke
from ledger.errors import LedgerError, Unavailable
from ledger.ids import AppId, CameoId, GrantId, VideoId, new_id
from ledger.log.note import open_checkpoint
from ledger.provenance import media
from ledger.store.journal import About
from ledger.store.objects import Objects
from ledger.store.records import App
from safety import faces
from safety.chain import Allowed, Cleared, Permit, RawClip, raw_clip
from safety.errors import CheckUnavailable, InvalidInput
from safety.faces import enrol_portrait
from safety.gate import Denied, Gate, GenerationRequest
from safety.likeness import StoredLikeness
from safety.policy import cedar
from safety.policy.engine import Engine
from safety.prompt import CATEGORIES, Screening
from world import POLICIES, Fixed, Someone, World, zulu

Picture = NDArray[np.uint8]
SAMPLES: Any = _samples


def ids(answer: object) -> set[str]:
    assert isinstance(answer, Denied), answer
    assert all(reason.sentence and reason.remedy for reason in answer.reasons)
    return {reason.id for reason in answer.reasons}


def decide(world: World, request: GenerationRequest) -> Allowed | Denied:
    return world.gate.decide(request, at=world.at)


def refused(world: World, request: GenerationRequest) -> set[str]:
    """The reasons of a refusal; checked: it is recorded for the requester, and there is no job to render."""
    found = ids(decide(world, request))
    recorded = world.entries(request.app_id, "decision")[-1].body
    assert recorded["video_id"] == request.video_id
    assert recorded["allowed"] is False
    assert recorded["grant_ids"] == []
    assert {reason["id"] for reason in recorded["reasons"]} == found
    with world.ledger.reading() as tx:
        assert tx.video(request.video_id) is None
    return found


def index_of(world: World, kind: str, ref: str) -> int:
    with world.ledger.reading() as tx:
        place = tx.find(kind, ref)
    assert place is not None
    return place.index


def uses_of(world: World, someone: Someone, grant_id: GrantId) -> frozenset[VideoId]:
    with world.ledger.reading() as tx:
        return tx.standing(someone.person_id).grants[grant_id].uses


ERASED = pytest.mark.parametrize("keys", ["kept", "destroyed"])


def erase(world: World, someone: Someone, keys: str = "kept") -> None:
    about = [About(someone.person_id, "owner", {"cameo_id": someone.cameo_id})]
    world.ledger.transact(lambda tx: tx.append("erasure", someone.cameo_id, about, at=world.at))
    if keys == "destroyed":
        with world.ledger.database.writing() as session:
            gone = text("UPDATE subject_key SET wrapped = NULL WHERE subject_id = :person")
            session.execute(gone, {"person": someone.person_id})


def suspend(world: World, app: AppId) -> None:
    with world.ledger.database.writing() as session:
        session.execute(text("UPDATE app SET suspended = true WHERE id = :app"), {"app": app})


def end(world: World, permit: Permit, reason: str = "render.failed") -> None:
    reasons = [{"id": reason, "reason": "it stopped", "remedy": "try again"}]
    world.ledger.transact(lambda tx: tx.end_job(permit.video, "render", reasons, at=world.at))


def download(world: World, video_id: VideoId, viewer: AppId) -> Denied | None:
    with world.ledger.reading() as tx:
        video = tx.video(video_id)
        assert video is not None
        return world.gate.may_download(tx, video, viewer, at=world.at)


def at_once(workers: int, work: Callable[[int], Any]) -> list[Any]:
    """Run `work(0) … work(n-1)` in threads that start together."""
    together = threading.Barrier(workers)

    def run(number: int) -> Any:
        together.wait()
        return work(number)

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(run, range(workers)))


# ── the record ────────────────────────────────────────────────────────────────────────────────────────────


class Spy:
    """A model that looks, when it is called, at what the ledger holds by then."""

    name, version, closed = "countersign-reference", "1", True

    def __init__(self, world: World) -> None:
        self.world = world
        self.seen: list[tuple[VideoId, int, int]] = []

    def render(self, request: RenderRequest, out: Path, progress: Callable[[float], None]) -> None:
        signed = open_checkpoint(self.world.ledger.checkpoint(), self.world.ledger.verifier).checkpoint.size
        self.seen.append((request.job_id, index_of(self.world, "decision", request.job_id), signed))
        media.write_pattern(out)


def pipeline(world: World, spy: Spy) -> Pipeline:
    stamper = cast("Stamper", None)  # no stage here stamps
    objects = Objects.local(world.home / "objects")
    return Pipeline(world.gate, {spy.name: spy}, stamper, objects, world.home / "work", lambda: world.at)


def test_the_decision_is_signed_into_the_log_before_the_model_is_called(world: World) -> None:
    app, ada = world.app(), world.enrol()
    world.grant(ada, app)
    permit = world.allow(app, ada).permit
    spy = Spy(world)
    outcome = pipeline(world, spy).attempt("render", permit.video)
    assert outcome["reasons"] == []
    ((video_id, index, signed),) = spy.seen
    assert (video_id, index) == (permit.video_id, permit.decision_index)
    assert signed > index


def test_a_refused_request_reaches_no_model(world: World) -> None:
    app, ada = world.app(), world.enrol()
    request = world.request(app, ada)
    assert refused(world, request) == {"consent.no_grant"}
    spy = Spy(world)
    outcome = pipeline(world, spy).attempt("render", request.video_id)
    assert [reason["id"] for reason in outcome["reasons"]] == ["permit.used"]
    assert spy.seen == []


def test_a_refusal_is_recorded_for_the_requester_and_for_each_owner(world: World) -> None:
    app, ada, bob = world.app(), world.enrol(), world.enrol()
    request = world.request(app, ada, bob)
    refused(world, request)
    index = index_of(world, "decision", request.video_id)
    for someone in (ada, bob):
        (entry,) = world.entries(someone.person_id, "decision")
        assert entry.index == index
        assert entry.body["allowed"] is False
        assert entry.body["reasons"]


def test_an_owner_reads_of_their_own_grant_and_of_nobody_elses(world: World) -> None:
    app, ada, bob = world.app(), world.enrol(), world.enrol()
    hers, his = world.grant(ada, app), world.grant(bob, app)
    allowed = world.allow(app, ada, bob)
    end(world, allowed.permit)
    world.release(world.allow(app, ada, bob).permit)
    world.revoke(bob, his)
    refused(world, world.request(app, ada, bob))
    for someone, own, other in ((ada, hers, his), (bob, his, hers)):
        bodies = [entry.body for entry in world.entries(someone.person_id)]
        kinds = {body["kind"] for body in bodies}
        assert {"decision", "returned", "release"} <= kinds
        assert own in json.dumps(bodies)
        assert other not in json.dumps(bodies)
    (first, *_) = world.entries(app, "decision")
    assert first.body["grant_ids"] == [hers, his]


def test_a_record_says_under_which_policies_and_screen_it_was_decided(world: World) -> None:
    app, ada = world.app(), world.enrol()
    world.grant(ada, app)
    world.allow(app, ada)
    (entry,) = world.entries(app, "decision")
    assert entry.body["policy_set"] == cedar.set_hash(cedar.read(POLICIES))
    assert entry.body["policy_ids"] == ["permit.generate", "permit.use_likeness"]
    assert set(entry.body["scores"]) == set(CATEGORIES)
    assert entry.body["screening"]


def test_a_refusal_without_a_reason_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="at least one reason"):
        Denied((), "consent")


def test_one_video_is_decided_once_however_often_it_is_asked(world: World) -> None:
    app, ada = world.app(), world.enrol()
    grant = world.grant(ada, app)
    request = world.request(app, ada)

    def ask(_: int) -> Allowed | Denied | None:
        try:
            return decide(world, request)
        except LedgerError:
            return None

    answers = at_once(4, ask)
    assert sum(isinstance(answer, Allowed) for answer in answers) == 1
    assert answers.count(None) == 3
    assert len(world.entries(app, "decision")) == 1
    assert uses_of(world, ada, grant) == {request.video_id}
    assert ask(0) is None


# ── uses ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_eight_threads_never_get_more_than_the_grant_allows(world: World) -> None:
    app, ada = world.app(), world.enrol()
    grant = world.grant(ada, app, max_uses=5)
    answers = at_once(8, lambda _: [decide(world, world.request(app, ada)) for _ in range(2)])
    allowed = {a.permit.video_id for pair in answers for a in pair if isinstance(a, Allowed)}
    assert len(allowed) == 5
    assert uses_of(world, ada, grant) == allowed
    assert "consent.used_up" in refused(world, world.request(app, ada))


def test_a_refused_clip_spends_no_one_s_use(world: World) -> None:
    app, ada, bob = world.app(), world.enrol(), world.enrol()
    grant = world.grant(ada, app, max_uses=1)
    refused(world, world.request(app, ada, bob))
    assert uses_of(world, ada, grant) == frozenset()
    world.allow(app, ada)


def test_a_second_grant_is_used_when_the_first_is_spent(world: World) -> None:
    app, ada = world.app(), world.enrol()
    grants = [world.grant(ada, app, max_uses=1) for _ in range(2)]
    used = [world.allow(app, ada).permit.uses[0].grant_id for _ in grants]
    assert used == grants
    refused(world, world.request(app, ada))


def test_a_revocation_that_races_decisions_is_decided_by_the_order_of_the_log(world: World) -> None:
    app, ada = world.app(), world.enrol()
    grant = world.grant(ada, app, max_uses=1000)
    under_way = threading.Event()

    def work(number: int) -> list[Allowed | Denied]:
        if number == 0:
            under_way.wait(20)
            world.revoke(ada, grant)
            return []
        answers = []
        for _ in range(4):
            answers.append(decide(world, world.request(app, ada)))
            under_way.set()
        return answers

    answers = [answer for made in at_once(5, work) for answer in made]
    revoked = index_of(world, "revocation", grant)
    allowed = [answer.permit.decision_index for answer in answers if isinstance(answer, Allowed)]
    assert allowed
    assert max(allowed) < revoked
    for entry in world.entries(app, "decision"):
        assert entry.body["allowed"] is (entry.index < revoked)
    assert isinstance(decide(world, world.request(app, ada)), Denied)


# ── who must agree ────────────────────────────────────────────────────────────────────────────────────────


def test_no_grant_means_no_clip(world: World) -> None:
    app, ada = world.app(), world.enrol()
    assert refused(world, world.request(app, ada)) == {"consent.no_grant"}
    world.grant(ada, app)
    assert isinstance(decide(world, world.request(app, ada)), Allowed)


def test_everyone_named_must_agree(world: World) -> None:
    app, ada, bob = world.app(), world.enrol(), world.enrol()
    world.grant(ada, app)
    assert refused(world, world.request(app, ada, bob)) == {"consent.no_grant"}
    assert refused(world, world.request(app, bob, ada)) == {"consent.no_grant"}
    world.grant(bob, app)
    uses = world.allow(app, ada, bob).permit.uses
    assert [use.cameo_id for use in uses] == [ada.cameo_id, bob.cameo_id]


def test_a_suspended_app_gets_nothing(world: World) -> None:
    app, ada = AppId(new_id("app")), world.enrol()
    world.ledger.transact(lambda tx: tx.add_app(App(app, "Banned", created_at=0, suspended=True)))
    world.grant(ada, app)
    assert refused(world, world.request(app, ada)) == {"standing.suspended"}
    assert refused(world, world.request(app)) == {"standing.suspended"}


def test_an_app_that_does_not_exist_gets_nothing(world: World) -> None:
    ada = world.enrol()
    with pytest.raises(LedgerError):
        decide(world, world.request(AppId(new_id("app")), ada))


def test_a_grant_to_another_app_is_no_grant_and_is_not_told_of(world: World) -> None:
    app, other, ada = world.app(), world.app("Other"), world.enrol()
    world.grant(ada, other)
    assert refused(world, world.request(app, ada)) == {"consent.no_grant"}


def test_a_grant_holds_from_its_start_until_its_expiry(world: World) -> None:
    app, ada = world.app(), world.enrol()
    begins, ends = world.at.replace(hour=18), world.at.replace(hour=20)
    world.grant(ada, app, starts=zulu(begins), expires=zulu(ends))
    assert refused(world, world.request(app, ada)) == {"consent.not_started"}
    world.wait(hours=6)
    assert world.at == begins
    world.allow(app, ada)
    world.wait(hours=2)
    assert refused(world, world.request(app, ada)) == {"consent.expired"}


def test_a_likeness_nobody_enrolled_is_refused(world: World) -> None:
    request = world.request(world.app(), cameo_ids=(CameoId(new_id("cameo")),))
    assert refused(world, request) == {"consent.no_grant"}  # not even that there is no such person


@ERASED
def test_an_erased_likeness_is_refused_whatever_was_granted(world: World, keys: str) -> None:
    app, ada = world.app(), world.enrol()
    world.grant(ada, app)
    erase(world, ada, keys)
    # Once the keys are destroyed, nothing says any more that the app ever held a grant.
    said = "consent.no_grant" if keys == "destroyed" else "standing.erased"
    assert said in refused(world, world.request(app, ada))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"purpose": "dpv:CommercialPurpose"}, "consent.purpose"),
        ({"audience": "everyone"}, "consent.audience"),
        ({"modalities": frozenset({"face", "voice"})}, "consent.modality"),
        ({"prompt": "a politician at an election rally, vote for our party"}, "consent.context"),
    ],
)
def test_a_grant_allows_what_it_says_and_no_more(world: World, change: dict[str, Any], reason: str) -> None:
    app, ada = world.app(), world.enrol()
    world.grant(ada, app)
    assert refused(world, world.request(app, ada, **change)) == {reason}


# ── the words ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("a nude woman lies on a sofa", "prohibited.sexual"),
        ("a topless girl of 12 in a garden", "prohibited.sexual_minors"),
        ("a toddler learns to walk", "prohibited.child_likeness"),
        ("a \u202eedun\u202c woman on a sofa, n u d e", "prohibited.obfuscated"),
    ],
)
def test_forbidden_words_are_refused_before_a_model_sees_them(world: World, prompt: str, reason: str) -> None:
    app, ada = world.app(), world.enrol()
    world.grant(ada, app)
    request = world.request(app, ada, prompt=prompt)
    assert reason in refused(world, request)
    answer = decide(world, replace(request, video_id=VideoId(new_id("video"))))
    assert isinstance(answer, Denied)
    assert answer.kind == "content"


@pytest.mark.parametrize("prompt", ["", "  ", "a" * 100_000])
def test_a_prompt_nothing_can_read_is_turned_away_unrecorded(world: World, prompt: str) -> None:
    app, ada = world.app(), world.enrol()
    world.grant(ada, app)
    with pytest.raises(InvalidInput):
        decide(world, world.request(app, ada, prompt=prompt))
    assert world.entries(app, "decision") == []


# ── what does not work is a no ────────────────────────────────────────────────────────────────────────────

FAULTS: tuple[Exception, ...] = (
    CheckUnavailable("check.gone", "a check cannot run", "try again"),
    RuntimeError("a fault nobody foresaw"),
    MemoryError(),
)


def breaking(fault: Exception) -> Callable[..., Any]:
    def broken(*_: Any, **__: Any) -> Any:
        raise fault

    return broken


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_prompt_screen_that_does_not_work_refuses(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    app, ada = world.app(), world.enrol()
    world.grant(ada, app)
    monkeypatch.setattr("safety.gate.screen", breaking(fault))
    assert refused(world, world.request(app, ada)) == {"standing.classifiers"}
    assert refused(world, world.request(app)) == {"standing.classifiers"}
    assert world.entries(app, "decision")[-1].body["screening"] == "unavailable"


@pytest.mark.parametrize(
    "scores", [{}, {"sexual": 0}, dict.fromkeys(CATEGORIES, 1001), dict.fromkeys(CATEGORIES, -1)]
)
def test_scores_that_cannot_be_true_refuse(
    world: World, monkeypatch: pytest.MonkeyPatch, scores: dict[Any, int]
) -> None:
    app, ada = world.app(), world.enrol()
    world.grant(ada, app)
    screening = Screening("1", scores, frozenset(), "", ())
    monkeypatch.setattr("safety.gate.screen", lambda _: screening)
    assert refused(world, world.request(app, ada)) == {"standing.classifiers"}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_face_check_that_does_not_work_refuses(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    app, ada = world.app(), world.enrol()
    world.grant(ada, app)
    monkeypatch.setattr("safety.faces.search", breaking(fault))
    picture = np.zeros((64, 64, 3), np.uint8)
    assert refused(world, world.request(app, ada, reference=picture)) == {"standing.classifiers"}
    # The check is not needed where there is no picture.
    world.allow(app, ada)


def damaged(directory: Path, damage: str) -> Path:
    copy = directory / "policies"
    if damage != "missing":
        shutil.copytree(POLICIES, copy)
    if damage == "empty":
        for file in copy.glob("*.cedar"):
            file.unlink()
    if damage == "garbled":
        (copy / "consent.cedar").write_text("permit (principal, action, resource) when { maybe };")
    return copy


@pytest.mark.parametrize("damage", ["missing", "empty", "garbled"])
def test_policies_that_cannot_be_read_refuse_every_question(world: World, damage: str) -> None:
    app, ada = world.app(), world.enrol()
    world.grant(ada, app)
    shown, nobody = world.allow(app, ada), world.allow(app)
    unreleased = world.allow(app, ada)
    assert world.release(unreleased.permit) is None
    world.gate = Gate(world.ledger, Fixed(Engine.load(damaged(world.home, damage))), world.gate.sealer)
    unreadable = {"policy.unreadable"}
    assert refused(world, world.request(app, ada)) == unreadable
    assert refused(world, world.request(app)) == unreadable
    assert ids(world.release(shown.permit)) == unreadable
    assert ids(world.release(nobody.permit)) == unreadable
    assert ids(download(world, unreleased.permit.video, app)) == unreadable
    clip = world.home / "raw.mp4"
    media.write_pattern(clip)
    assert ids(world.gate.clear(raw_clip(nobody, clip, backend="x", version="1", closed=True))) == unreadable


@pytest.mark.parametrize("fault", ["closed", "garbled", "a table lost"])
def test_a_ledger_that_cannot_be_written_allows_nothing(world: World, fault: str) -> None:
    app, ada = world.app(), world.enrol()
    world.grant(ada, app)
    match fault:
        case "closed":
            world.ledger.close()
        case "garbled":
            world.ledger.database.close()
            for file in world.home.glob("ledger.db*"):
                file.unlink()
            (world.home / "ledger.db").write_bytes(b"not a database " * 1000)
        case "a table lost":
            with world.ledger.database.writing() as session:
                session.execute(text("DROP TABLE video_grant"))
    with pytest.raises(Unavailable):
        decide(world, world.request(app, ada))


def test_a_decision_that_cannot_be_recorded_whole_is_not_recorded_at_all(world: World) -> None:
    app, ada = world.app(), world.enrol()
    world.grant(ada, app)
    with world.ledger.database.writing() as session:
        session.execute(text("DROP TABLE video_grant"))
    with pytest.raises(Unavailable):
        decide(world, world.request(app, ada))
    assert world.entries(app, "decision") == []


# ── the finished pixels ───────────────────────────────────────────────────────────────────────────────────


def rendered(world: World, allowed: Allowed, picture: Picture | None = None) -> RawClip:
    """A short clip that shows `picture`, or a pattern."""
    raw = world.home / "raw.mp4"
    if picture is None:
        media.write_pattern(raw)
    else:
        height, width = (side // 2 * 2 for side in picture.shape[:2])
        media.write_pattern(world.home / "pattern.mp4", width=width, height=height, count=3)
        media.restamp(world.home / "pattern.mp4", raw, lambda _frame, _index: picture[:height, :width])
    return raw_clip(allowed, raw, backend="model", version="1", closed=True)


def test_a_clip_is_cleared_with_what_was_looked_at(world: World) -> None:
    answer = world.gate.clear(rendered(world, world.allow(world.app())))
    assert isinstance(answer, Cleared)
    # With lists of known pictures it would be compared with those as well: there are none.
    assert answer.checks == ("faces", "prompt", "nudity", "text", "speech", "voices")


def test_a_clip_that_cannot_be_read_is_refused(world: World) -> None:
    (world.home / "raw.mp4").write_bytes(b"not a video")
    raw = raw_clip(
        world.allow(world.app()), world.home / "raw.mp4", backend="model", version="1", closed=True
    )
    answer = world.gate.clear(raw)
    assert isinstance(answer, Denied)
    assert "clear.unreadable" in ids(answer)
    assert answer.kind == "output"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_clip_that_cannot_be_looked_at_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    raw = rendered(world, world.allow(world.app()))
    monkeypatch.setattr("safety.clearing.check_output", breaking(fault))
    assert "clear.faces_unchecked" in ids(world.gate.clear(raw))


# ── consent, asked again ──────────────────────────────────────────────────────────────────────────────────


def test_a_revocation_while_the_model_ran_wins(world: World) -> None:
    app, ada, bob = world.app(), world.enrol(), world.enrol()
    world.grant(ada, app)
    his = world.grant(bob, app)
    permit = world.allow(app, ada, bob).permit
    world.revoke(bob, his)
    assert ids(world.release(permit)) == {"consent.revoked"}
    assert ids(download(world, permit.video, app)) == {"download.unreleased"}


def test_a_grant_that_ran_out_while_the_model_ran_releases_nothing(world: World) -> None:
    app, ada = world.app(), world.enrol()
    world.grant(ada, app, expires=zulu(world.at.replace(hour=13)))
    permit = world.allow(app, ada).permit
    world.wait(hours=1)
    assert ids(world.release(permit)) == {"consent.expired"}


@ERASED
def test_a_likeness_erased_while_the_model_ran_releases_nothing(world: World, keys: str) -> None:
    app, ada, bob = world.app(), world.enrol(), world.enrol()
    world.grant(ada, app)
    his = world.grant(bob, app)
    permit = world.allow(app, ada, bob).permit
    erase(world, ada, keys)
    said = "consent.no_grant" if keys == "destroyed" else "standing.erased"
    assert said in ids(world.release(permit))
    # The job still ends, and whoever is left still gets their use back.
    end(world, permit)
    assert world.entries(app)[-1].kind == "returned"
    assert uses_of(world, bob, his) == frozenset()


@pytest.mark.parametrize("shown", [True, False])
def test_a_suspension_while_the_model_ran_releases_nothing(world: World, shown: bool) -> None:
    app, ada = world.app(), world.enrol()
    world.grant(ada, app)
    permit = world.allow(app, *([ada] if shown else [])).permit
    suspend(world, app)
    assert ids(world.release(permit)) == {"standing.suspended"}


def test_the_last_use_of_a_grant_can_still_be_released(world: World) -> None:
    app, ada = world.app(), world.enrol()
    world.grant(ada, app, max_uses=1)
    assert world.release(world.allow(app, ada).permit) is None


def test_a_release_needs_the_very_grant_the_permit_names(world: World) -> None:
    app, ada = world.app(), world.enrol()
    world.grant(ada, app, max_uses=1)
    world.allow(app, ada)
    second = world.grant(ada, app)
    permit = world.allow(app, ada).permit
    assert permit.uses[0].grant_id == second
    world.revoke(ada, second)
    world.grant(ada, app)
    # Grants before and after it still stand.
    assert ids(world.release(permit)) == {"consent.revoked"}


@pytest.mark.parametrize("change", [{"decision_index": 0}, {"uses": ()}, {"video_id": new_id("video")}])
def test_a_permit_that_is_not_what_the_ledger_decided_releases_nothing(
    world: World, change: dict[str, Any]
) -> None:
    app, ada = world.app(), world.enrol()
    world.grant(ada, app)
    permit = world.allow(app, ada).permit
    assert ids(world.release(permit.model_copy(update=change))) == {"release.unrecorded"}
    assert world.release(permit) is None


def test_why_one_person_is_not_in_a_clip_after_all_is_not_told_to_the_others(world: World) -> None:
    app, ada, bob = world.app(), world.enrol(), world.enrol()
    world.grant(ada, app)
    world.grant(bob, app)
    end(world, world.allow(app, ada, bob).permit, "consent.revoked")
    assert "consent.revoked" in json.dumps(world.entries(app, "returned")[0].body)
    for someone in (ada, bob):
        assert "consent.revoked" not in json.dumps(world.entries(someone.person_id, "returned")[0].body)


def released(world: World, app: AppId, someone: Someone, **grant: Any) -> tuple[Permit, GrantId]:
    grant_id = world.grant(someone, app, **grant)
    permit = world.allow(app, someone, audience=grant.get("audience", "requester")).permit
    assert world.release(permit) is None
    return permit, grant_id


@pytest.mark.parametrize(("effect", "shown"), [("withdraw_all", False), ("stop_new", True)])
def test_what_a_revocation_does_to_clips_already_out_is_what_the_grant_says(
    world: World, effect: str, shown: bool
) -> None:
    app, ada = world.app(), world.enrol()
    permit, grant = released(world, app, ada, revocation_effect=effect)
    assert download(world, permit.video, app) is None
    world.revoke(ada, grant)
    answer = download(world, permit.video, app)
    assert answer is None if shown else ids(answer) == {"download.withdrawn"}


def test_one_persons_withdrawal_takes_the_whole_clip_back(world: World) -> None:
    app, ada, bob = world.app(), world.enrol(), world.enrol()
    world.grant(ada, app)
    his = world.grant(bob, app, revocation_effect="withdraw_all")
    permit = world.allow(app, ada, bob).permit
    assert world.release(permit) is None
    world.revoke(bob, his)
    assert ids(download(world, permit.video, app)) == {"download.withdrawn"}


def test_a_clip_is_shown_to_its_own_app_only_unless_the_grant_says_everyone(world: World) -> None:
    app, other, ada, bob = world.app(), world.app("Other"), world.enrol(), world.enrol()
    private, _ = released(world, app, ada)
    public, _ = released(world, app, bob, audience="everyone")
    assert ids(download(world, private.video, other)) == {"download.audience"}
    assert download(world, public.video, other) is None


def test_a_suspended_app_is_shown_nothing_more(world: World) -> None:
    app, ada = world.app(), world.enrol()
    permit, _ = released(world, app, ada)
    suspend(world, app)
    assert ids(download(world, permit.video, app)) == {"standing.suspended"}


def test_a_clip_that_is_not_out_is_shown_to_nobody(world: World) -> None:
    app, ada = world.app(), world.enrol()
    world.grant(ada, app)
    for permit in (world.allow(app, ada).permit, world.allow(app).permit):
        assert ids(download(world, permit.video, app)) == {"download.unreleased"}


@ERASED
def test_a_clip_of_someone_erased_is_shown_no_more(world: World, keys: str) -> None:
    app, ada = world.app(), world.enrol()
    permit, _ = released(world, app, ada)
    erase(world, ada, keys)
    assert ids(download(world, permit.video, app)) & {"download.erased", "download.no_grant"}


def test_a_clip_that_was_taken_down_is_shown_no_more(world: World) -> None:
    app, ada = world.app(), world.enrol()
    permit, _ = released(world, app, ada)
    assert download(world, permit.video, app) is None
    with world.ledger.database.writing() as session:
        session.execute(text("UPDATE video SET taken_down_at = 1"))
    assert ids(download(world, permit.video, app)) == {"download.taken_down"}


def test_an_expired_grant_leaves_what_is_out(world: World) -> None:
    app, ada = world.app(), world.enrol()
    permit, _ = released(world, app, ada)
    world.wait(days=400)
    assert download(world, permit.video, app) is None


# ── real faces ────────────────────────────────────────────────────────────────────────────────────────────


def collins() -> Picture:
    return np.asarray(SAMPLES.astronaut(), dtype=np.uint8)


def hopper() -> Picture:
    with Image.open(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))) as image:
        return np.asarray(image.convert("RGB"))


def enrol_face(world: World, picture: Picture) -> Someone:
    enrolled = enrol_portrait(picture)
    return world.enrol(likeness=StoredLikeness(enrolled.likeness, picture, enrolled.face))


@pytest.mark.slow
def test_a_stranger_in_the_reference_picture_or_in_the_clip_is_refused(world: World) -> None:
    app, eileen = world.app(), enrol_face(world, collins())
    world.grant(eileen, app)
    # The picture sent.
    assert refused(world, world.request(app, eileen, reference=hopper())) == {"prohibited.unknown_face"}
    assert refused(world, world.request(app, reference=collins())) == {"prohibited.unknown_face"}
    allowed = world.allow(app, eileen, reference=collins())
    # The clip made.
    assert isinstance(world.gate.clear(rendered(world, allowed, collins())), Cleared)
    # Who that is only people can judge: it goes on, to be held for them.
    stranger = world.gate.clear(rendered(world, allowed, hopper()))
    assert isinstance(stranger, Cleared)
    assert stranger.review == ("clear.ungranted_face",)
    assert stranger.places


@pytest.mark.slow
def test_a_face_granted_for_one_clip_is_a_stranger_in_another(world: World) -> None:
    app, eileen = world.app(), enrol_face(world, collins())
    world.grant(eileen, app)
    found = world.gate.clear(rendered(world, world.allow(app), collins()))
    held = found.review if isinstance(found, Cleared) else ids(found)
    assert "clear.ungranted_face" in held


@pytest.mark.slow
@pytest.mark.parametrize("fault", [ill.no_engine, ill.crash])
def test_an_engine_that_crashes_refuses_that_request_and_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: Callable[..., object]
) -> None:
    app, eileen = world.app(), enrol_face(world, collins())
    world.grant(eileen, app)
    allowed = world.allow(app, eileen)
    with monkeypatch.context() as patched:
        # The question goes to a worker process, which comes to its end over it.
        patched.setattr(faces, "find_faces", fault)
        assert refused(world, world.request(app, eileen, reference=collins())) == {"standing.classifiers"}
        assert "clear.faces_unchecked" in ids(world.gate.clear(rendered(world, allowed, collins())))
    world.allow(app, eileen, reference=collins())
    assert isinstance(world.gate.clear(rendered(world, allowed, collins())), Cleared)


@pytest.mark.slow
def test_an_enrolled_stranger_is_refused_and_told_and_the_app_learns_nothing_of_it(world: World) -> None:
    app, eileen, grace = world.app(), enrol_face(world, collins()), enrol_face(world, hopper())
    world.grant(eileen, app)
    # In a picture sent: an unknown face as any other, for the app.
    request = world.request(app, eileen, reference=hopper())
    sent = world.gate._sent(request, world.gate._granting(request, world.at))
    assert sent is not None
    assert sent.enrolled == (grace.cameo_id,)
    assert refused(world, request) == {"prohibited.unknown_face"}
    # In the clip made: nobody can let that pass.
    allowed = world.allow(app, eileen)
    made = rendered(world, allowed, hopper())
    looked, ruling = world.gate._looked_at(allowed.permit, made.path, closed_model=True, at=world.at)
    assert looked.strangers == (grace.cameo_id,)
    assert "clear.enrolled_face" in ruling.policy_ids
    assert not ruling.reviewable
    # Whoever erased their likeness is nobody known, at once.
    world.ledger.transact(lambda tx: tx.erase_person(grace.person_id))
    looked, _ = world.gate._looked_at(allowed.permit, made.path, closed_model=True, at=world.at)
    assert looked.strangers == ()
    assert looked.facts.ungranted_faces == 1


# ── who attacked it ──


def renamed(changes: dict[str, str]) -> Engine:
    """The policies under other names: the gate must decide by answers, not by what a rule is called."""
    files = cedar.read(POLICIES)
    for old, new in changes.items():
        files = {
            name: data.replace(f'@id("{old}")'.encode(), f'@id("{new}")'.encode())
            for name, data in files.items()
        }
    return Engine.of(files)


def test_a_rule_that_takes_the_quorums_name_releases_nothing_it_forbids(world: World) -> None:
    app, ada = world.app(), world.enrol()
    world.grant(ada, app)
    permit = world.allow(app, ada).permit
    engine = renamed({"consent.quorum": "consent.everyone", "standing.suspended": "consent.quorum"})
    assert engine.policies is not None
    world.gate = Gate(world.ledger, Fixed(engine), world.gate.sealer)
    suspend(world, app)
    assert world.release(permit) is not None


def test_a_clip_whose_rows_lost_a_person_is_not_fetched(world: World) -> None:
    """With a hand in the database, a withdrawn clip could else be turned into one of nobody."""
    app, ada = world.app(), world.enrol()
    grant = world.grant(ada, app)
    permit = world.allow(app, ada).permit
    assert world.release(permit) is None
    assert download(world, permit.video, app) is None
    revoke(world.ledger, ada.person_id, grant, "withdraw_all", at=world.at)
    assert ids(download(world, permit.video, app)) == {"download.withdrawn"}
    with world.ledger.database.writing() as session:
        session.execute(text("DELETE FROM video_grant"))
    assert ids(download(world, permit.video, app)) == {"download.ledger"}


def test_one_person_is_not_told_why_another_one_is_not_in_the_clip_after_an_erasure(world: World) -> None:
    app, ada, bob = world.app(), world.enrol(), world.enrol()
    world.grant(ada, app)
    world.grant(bob, app)
    permit = world.allow(app, ada, bob).permit
    erase(world, bob, "destroyed")
    end(world, permit, "consent.no_grant")
    assert world.entries(ada.person_id, "returned")[-1].body["reasons"] == []


def test_an_app_that_asks_too_often_is_turned_away_although_the_logs_time_is_ahead(world: World) -> None:
    app, ada = world.app(), world.enrol()
    world.wait(minutes=30)
    world.grant(ada, app)
    world.wait(minutes=-30)
    minute = f"ask/{app}/60/{int(world.at.timestamp()) // 60}"
    assert isinstance(world.gate.decide(world.request(app), at=world.at), Allowed)
    with world.ledger.reading() as tx:
        assert tx.tally(minute, at=world.at) == 1
