"""Notices, the register and the out-box beneath the web, on SQLite and on a real PostgreSQL."""

import smtplib
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from email.message import EmailMessage
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from gateway.notices.clocks import CLOCKS, OWN, clock_of
from gateway.notices.mail import MOST_TRIES, Letter, Postman, post, transport
from gateway.settings import Settings
from ledger.consent.notices import (
    Action,
    Form,
    Side,
    appeal,
    confirm,
    decide,
    forget_closed,
    given_by,
    lapse,
    lodge,
    opened,
    withdraw,
)
from ledger.consent.statement import ENROLMENT_TAG, encode_key, parse_enrolment, sign
from ledger.errors import InvalidStatement, LedgerError, NotFound, Unavailable
from ledger.ids import AppId, CameoId, NoticeId, VideoId, new_id
from ledger.provenance.standing import clip_standing
from ledger.store import keeping
from ledger.store.records import Notice, Webhook
from ledger.store.transaction import Transaction
from live import collins_picture, hopper_picture, pixels
from safety import faces, register
from safety.enrolment import enrol_vouched
from safety.errors import Refused
from safety.faces import Face, Likeness, enrol_portrait
from safety.gate import Denied, WouldAllow
from safety.likeness import StoredLikeness
from test_store import (  # noqa: F401 — fixtures
    postgres,
    url,
)
from world import Someone, World, check_log, open_ledger, zulu

pytestmark = pytest.mark.slow

TOKEN = "the token that was mailed"
FORM = Form(
    kind="takedown",
    name="Maud Tester",
    email="maud@example.org",
    shown="Maud Tester",
    relation="self",
    good_faith=True,
    signature="Maud Tester",
    country="DE",
    reason="I never agreed to this.",
)
FACE = FORM.model_copy(update={"kind": "do_not_generate"})


@pytest.fixture
def town(tmp_path: Path, url: str) -> Iterator[World]:  # noqa: F811 — the fixture
    ledger, keyring = open_ledger(tmp_path, database_url=url)
    yield World(ledger, keyring, tmp_path)
    ledger.close()


def released(town: World, app: AppId, *people: Someone) -> VideoId:
    for person in people:
        town.grant(person, app)
    permit = town.allow(app, *people).permit
    assert town.release(permit) is None
    return permit.video


def finished(town: World, video: VideoId, clip: dict[str, Any], key: str, tx: Transaction) -> None:
    tx.finish_job(video, clip, key, at=town.at)


def noticed(town: World, video: VideoId | None, *, intimate: bool = False) -> Notice:
    """A notice that nobody has confirmed."""
    form = (FORM if video else FACE).model_copy(update={"intimate": intimate})
    return town.ledger.transact(lambda tx: lodge(tx, form, video, TOKEN, at=town.at))


def started(town: World, notice: Notice, *resembles: str) -> Notice:
    def operation(tx: Transaction) -> Notice:
        mine = given_by(tx, notice.id, TOKEN, at=town.at)
        return confirm(tx, mine, 48, "the law", resembles, at=town.at)

    return town.ledger.transact(operation)


def ruled(town: World, notice: Notice, operator: str, action: Action, note: str = "So.") -> Notice:
    return town.ledger.transact(lambda tx: decide(tx, notice.id, operator, action, note, at=town.at))


def appealed(town: World, notice: Notice, side: Side) -> Notice:
    def operation(tx: Transaction) -> Notice:
        return appeal(tx, _there(tx.notice(notice.id)), side, "No.", at=town.at)

    return town.ledger.transact(operation)


def taken_back(town: World, notice: Notice) -> Notice:
    return town.ledger.transact(lambda tx: withdraw(tx, _there(tx.notice(notice.id)), at=town.at))[0]


def _there(notice: Notice | None) -> Notice:
    assert notice is not None
    return notice


def is_down(town: World, video: VideoId, app: AppId) -> bool:
    with town.ledger.reading() as tx:
        found = tx.video(video)
        assert found is not None
        denied = town.gate.may_download(tx, found, app, at=town.at)
    down = found.taken_down_at is not None
    assert (denied is not None and "download.taken_down" in {one.id for one in denied.reasons}) == down
    return down


# ── notices ───────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_done_is_told_to_everyone_it_concerns_and_names_nobody(town: World) -> None:
    app, one, two = town.app(), town.enrol(), town.enrol()
    video = released(town, app, one, two)
    notice = started(town, noticed(town, video))
    ruled(town, notice, "dana", "removed", "She never agreed.")
    for subject, role in (
        (notice.id, "notifier"),
        (app, "app"),
        (one.person_id, "one"),
        (two.person_id, "two"),
    ):
        told = town.entries(subject, "takedown")
        assert [entry.body["action"] for entry in told] == ["received", "removed"], role
        assert [entry.opening.label for entry in told] == [
            {"one": "depicted", "two": "depicted", "app": "requester"}.get(role, role)
        ] * 2
        assert {entry.body["video_id"] for entry in told} == {video}
        assert {entry.body["notice"] for entry in told} == {notice.id}
        assert told[1].body["note"] == "She never agreed."
        assert "Maud" not in str(told)
        assert "maud" not in str(told)
    (mine,) = (
        entry.body for entry in town.entries(one.person_id, "takedown") if entry.body["action"] == "removed"
    )
    assert mine["cameo_id"] == one.cameo_id
    assert two.cameo_id not in str(mine), "who else is shown is not for each of them to read"
    remedies = {
        subject: town.entries(subject, "takedown")[1].body["reasons"][0]["remedy"]
        for subject in (app, one.person_id)
    }
    assert "appeal" in remedies[app]
    assert "appeal" not in remedies[one.person_id]
    check_log(town.ledger)


def test_whoever_was_erased_is_told_nothing_and_the_clip_still_goes(town: World) -> None:
    app, one, two = town.app(), town.enrol(), town.enrol()
    video = released(town, app, one, two)
    town.ledger.transact(lambda tx: tx.erase_person(two.person_id))
    notice = started(town, noticed(town, video, intimate=True))
    assert is_down(town, video, app)
    assert [entry.body["action"] for entry in town.entries(one.person_id, "takedown")] == ["held"]
    ruled(town, notice, "dana", "removed")
    assert is_down(town, video, app)


def test_identical_copies_go_and_come_back_together(town: World) -> None:
    app, someone = town.app(), town.enrol()
    town.grant(someone, app, max_uses=10)
    videos = []
    for number, key in enumerate(("clips/same", "clips/same", "clips/other")):
        permit = town.allow(app, someone).permit
        clip = {
            "sha256": "0" * 64,
            "manifest_id": f"urn:c2pa:{permit.video_id}",
            "payload": f"{number:016x}",
            "backend": "b",
            "checks": [],
        }
        town.ledger.transact(partial(finished, town, permit.video, clip, key))
        videos.append(permit.video)
    notice = started(town, noticed(town, videos[0]))
    ruled(town, notice, "dana", "removed")
    assert [is_down(town, video, app) for video in videos] == [True, True, False]
    removed = [e.body["video_id"] for e in town.entries(app, "takedown") if e.body["action"] == "removed"]
    assert sorted(removed) == sorted(videos[:2])
    appealed(town, notice, "app")
    ruled(town, notice, "erin", "restored")
    assert [is_down(town, video, app) for video in videos] == [False] * 3


OPERATIONS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.one_of(
            st.just(("confirm",)),
            st.just(("withdraw",)),
            st.tuples(st.just("appeal"), st.sampled_from(("app", "notifier"))),
            st.tuples(
                st.just("decide"),
                st.sampled_from(("dana", "erin", "finn")),
                st.sampled_from(("removed", "kept", "restored", "registered")),
            ),
        ),
    ),
    max_size=14,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.tuples(*[st.booleans()] * 3), OPERATIONS)
def test_a_clip_is_down_exactly_while_a_notice_has_it_down(
    town: World, intimate: tuple[bool, ...], operations: list[tuple[int, Any]]
) -> None:
    """Whatever three notices about one clip go through; and nobody ever decides twice on one."""
    app, someone = town.app(), town.enrol()
    video = released(town, app, someone)
    notices = [noticed(town, video, intimate=one) for one in intimate]
    model = {
        notice.id: ("unconfirmed", False) for notice in notices
    }  # (status, whether it has the clip down)
    deciders: dict[str, list[str]] = {notice.id: [] for notice in notices}
    for number, (what, *rest) in operations:
        notice = notices[number]
        status, down = model[notice.id]
        try:
            if what == "confirm":
                started(town, notice)
                assert status == "unconfirmed"
                model[notice.id] = ("open", intimate[number])
            elif what == "withdraw":
                taken_back(town, notice)
                assert status == "open"
                assert not deciders[notice.id]
                model[notice.id] = ("withdrawn", False)
            elif what == "appeal":
                appealed(town, notice, rest[0])
                assert status == "decided"
                assert down == (rest[0] == "app")
                model[notice.id] = ("open", down)
            else:
                ruled(town, notice, rest[0], rest[1])
                assert status == "open"
                deciders[notice.id].append(rest[0])
                assert rest[1] != "registered"
                model[notice.id] = ("decided", rest[1] == "removed")
        except (InvalidStatement, NotFound):
            assert model[notice.id] == (status, down)
        assert is_down(town, video, app) == any(one for _, one in model.values())
    assert all(len(set(names)) == len(names) for names in deciders.values())
    actions = [entry.body["action"] for entry in town.entries(someone.person_id, "takedown")]
    assert [entry.body["action"] for entry in town.entries(app, "takedown")] == actions


def test_taking_a_notice_back_destroys_what_says_whose_it_was(town: World) -> None:
    app, someone = town.app(), town.enrol()
    video = released(town, app, someone)
    notice = started(town, noticed(town, video, intimate=True))
    town.ledger.transact(lambda tx: post(tx, notice.id, Letter("maud@example.org", "S", "T"), at=town.at))
    gone = taken_back(town, notice)
    assert (gone.status, gone.sealed, gone.held) == ("withdrawn", None, False)
    assert not is_down(town, video, app)
    with town.ledger.reading() as tx:
        assert tx.notice(notice.id) == gone
        assert tx.due_mail(at=2**40, limit=9) == []
        for read in (lambda: tx.held(notice.id), lambda: opened(tx, notice), lambda: tx.entries(notice.id)):
            with pytest.raises(NotFound):
                read()
    # That it was there, and ended, the others may still read.
    assert [e.body["action"] for e in town.entries(app, "takedown")] == ["held", "withdrawn"]
    check_log(town.ledger)


def test_what_is_never_confirmed_is_destroyed(town: World) -> None:
    app, someone = town.app(), town.enrol()
    video = released(town, app, someone)
    late, kept = noticed(town, video), noticed(town, video)
    started(town, kept)
    town.wait(hours=71, minutes=59)
    assert town.ledger.transact(lambda tx: lapse(tx, at=town.at)) == 0
    fresh = noticed(town, video)
    town.wait(minutes=1)
    with pytest.raises(NotFound, match="not confirmed within 72 hours"):
        started(town, late)
    assert town.ledger.transact(lambda tx: lapse(tx, at=town.at)) == 1
    assert town.ledger.transact(lambda tx: lapse(tx, at=town.at)) == 0
    with town.ledger.reading() as tx:
        states = [_there(tx.notice(one.id)).status for one in (late, kept, fresh)]
        assert tx.erased(late.id)
        with pytest.raises(NotFound, match="not confirmed within 72 hours"):
            given_by(tx, late.id, TOKEN, at=town.at)
    assert states == ["lapsed", "open", "unconfirmed"]


def test_who_gave_notice_is_forgotten_in_time_and_the_decision_stands(town: World) -> None:
    app, someone = town.app(), town.enrol()
    video = released(town, app, someone)
    notice, waiting = started(town, noticed(town, video)), started(town, noticed(town, video))
    ruled(town, notice, "dana", "removed")
    likeness = Likeness(np.zeros((1, 128)))
    registered(town, likeness)
    assert town.ledger.transact(lambda tx: forget_closed(tx, before=town.at - timedelta(seconds=1))) == 0
    assert town.ledger.transact(lambda tx: forget_closed(tx, before=town.at)) == 1
    assert is_down(town, video, app)
    with town.ledger.reading() as tx:
        mine = given_by(tx, notice.id, TOKEN, at=town.at)
        assert (mine.status, mine.outcome, mine.sealed) == ("decided", "removed", None)
        assert tx.erased(notice.id)
        assert opened(tx, _there(tx.notice(waiting.id))).form.name == "Maud Tester"
    assert listed(town, register.Register(), likeness.templates[0])
    with pytest.raises(NotFound):
        appealed(town, notice, "app")
    with pytest.raises(InvalidStatement):
        taken_back(town, notice)


def test_apps_are_told_when_a_clip_goes_and_comes_back(town: World) -> None:
    app, someone = town.app(), town.enrol()
    video = released(town, app, someone)
    hook = Webhook(new_id("webhook"), app, "https://app.example/", created_at=0)
    town.ledger.transact(lambda tx: tx.add_webhook(hook, b"\0" * 32))
    notice = started(town, noticed(town, video, intimate=True))
    ruled(town, notice, "dana", "removed")
    appealed(town, notice, "app")
    ruled(town, notice, "erin", "restored")
    with town.ledger.reading() as tx:
        told = sorted((one.type, one.payload) for one in tx.deliveries(hook.id))
    assert [kind for kind, _ in told] == ["video.restored", "video.taken_down"]
    assert all(video in payload and notice.id in payload and "aud" not in payload for _, payload in told)


def test_what_was_made_from_a_clip_goes_with_it(town: World) -> None:
    app, someone = town.app(), town.enrol()
    first, second = released(town, app, someone), released(town, app, someone)
    with town.ledger.database._writing.begin() as connection:
        where = {"above": first, "id": second}
        connection.execute(text("UPDATE video SET parent_id = :above WHERE id = :id"), where)
    notice = started(town, noticed(town, first))
    ruled(town, notice, "dana", "removed")
    with town.ledger.reading() as tx:
        child = tx.video(second)
        assert child is not None
        assert child.taken_down_at is None
        denied = town.gate.may_download(tx, child, app, at=town.at)
        standing = clip_standing(tx, second, at=town.at)
    assert denied is not None
    assert "download.taken_down" in {one.id for one in denied.reasons}
    assert standing is not None
    assert standing.taken_down_at is not None


def test_the_law_named_gives_the_time() -> None:
    assert clock_of("IN", intimate=True).hours == 2
    assert clock_of("US", intimate=True).hours == OWN.hours == 48
    assert "TAKE IT DOWN" in clock_of("US", intimate=True).law
    assert clock_of("US", intimate=False) == clock_of("FR", intimate=True) == OWN
    assert all(clock.hours <= OWN.hours for clock in CLOCKS.values())


# ── the register ──────────────────────────────────────────────────────────────────────────────────────────


def face(template: Any) -> Face:
    return Face((0, 90, 90, 0), np.asarray(template, np.float64), 1.0, 100.0, frontal=True, recognisable=True)


def registered(town: World, likeness: Likeness) -> Notice:
    notice = noticed(town, None)
    town.ledger.transact(lambda tx: register.keep(tx, notice.id, likeness))
    return started(town, notice)


def listed(town: World, one: register.Register, template: Any) -> bool:
    with town.ledger.reading() as tx:
        return one.listed(tx)(face(template))


def test_every_face_within_the_distance_is_listed_and_no_other(town: World) -> None:
    random = np.random.default_rng(3)
    likeness = Likeness(random.normal(0, 0.1, (3, 128)))
    seen = register.Register()
    assert not listed(town, seen, likeness.templates[0])
    registered(town, likeness)
    away = random.normal(0, 1, 128)
    away /= np.linalg.norm(away)
    assert all(listed(town, seen, row) for row in likeness.templates)
    assert listed(town, seen, likeness.templates[1] + away * (register.MATCH_DISTANCE - 1e-6))
    alone = Likeness(np.zeros((1, 128)))
    registered(town, alone)
    assert listed(town, seen, away * (register.MATCH_DISTANCE - 1e-6))
    assert not listed(town, seen, away * (register.MATCH_DISTANCE + 1e-2))
    assert not listed(town, seen, np.full(128, np.nan))
    assert "0." not in repr(seen)


def test_nobody_enrols_a_face_that_is_registered(town: World, tmp_path: Path) -> None:
    operator, person = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    town.ledger.transact(lambda tx: tx.register_operator("dana", encode_key(operator.public_key())))

    def enrol(picture: bytes, key: Ed25519PrivateKey = person) -> CameoId:
        path = tmp_path / "portrait"
        path.write_bytes(picture)
        said = {
            "schema": "countersign/enrolment/v1",
            "path": "vouched",
            "operator": "dana",
            "display_name": "Grace Hopper",
            "device_key": encode_key(key.public_key()),
            "born_on": "1906-12-09",
            "portrait_sha256": sha256(picture).hexdigest(),
            "issued": zulu(town.at),
        }
        evidence = sign(ENROLMENT_TAG, parse_enrolment(said).signed_bytes(), operator)
        return enrol_vouched(
            town.ledger, town.gate.register, town.gate.gallery, said, evidence, path, at=town.at
        )[1]

    hopper = hopper_picture()
    notice = registered(town, enrol_portrait([pixels(hopper)]).likeness)
    before = town.ledger.checkpoint()
    with pytest.raises(Refused) as refused:
        enrol(hopper)
    assert refused.value.reason.id == "enrolment.registered"
    assert "withdraw" in refused.value.reason.remedy
    assert town.ledger.checkpoint() == before
    assert enrol(collins_picture(), Ed25519PrivateKey.generate())
    taken_back(town, notice)
    assert enrol(hopper)


def test_another_process_sees_a_face_come_and_go(town: World, url: str) -> None:  # noqa: F811
    other = World(*open_ledger(town.home, database_url=url), town.home)
    likeness = Likeness(np.random.default_rng(4).normal(0, 0.1, (1, 128)))
    here, there = register.Register(), register.Register()
    row = likeness.templates[0]
    assert not listed(other, there, row)
    first = registered(town, likeness)
    assert listed(town, here, row)
    assert listed(other, there, row)
    # One goes and one comes between two looks: as many as before, and not the same.
    taken_back(town, first)
    again = registered(town, Likeness(likeness.templates + 5))
    assert not listed(other, there, row)
    assert listed(other, there, row + 5)
    taken_back(other, again)
    assert not listed(town, here, row + 5)
    with town.ledger.database.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM do_not_generate")).scalar_one() == 0
    other.ledger.close()


def test_a_register_that_cannot_be_read_refuses(town: World, tmp_path: Path) -> None:
    picture = pixels(collins_picture())
    enrolled = enrol_portrait([picture])
    app = town.app()
    someone = town.enrol(likeness=StoredLikeness(enrolled.likeness, picture, enrolled.face))
    town.grant(someone, app)
    wanted = town.request(app, someone, reference=picture)
    assert isinstance(town.gate.precheck(wanted, at=town.at), WouldAllow)
    hopper = enrol_portrait([pixels(hopper_picture())]).likeness
    one, two = registered(town, hopper), registered(town, Likeness(hopper.templates + 1))
    assert isinstance(town.gate.precheck(wanted, at=town.at), WouldAllow)

    def written(**sealed: bytes) -> None:
        with town.ledger.database._writing.begin() as connection:
            for notice_id, value in sealed.items():
                connection.execute(
                    text(
                        "UPDATE do_not_generate SET sealed = :sealed, since = since + 1000 WHERE notice_id = :id"
                    ),
                    {"sealed": value, "id": notice_id},
                )

    with town.ledger.reading() as tx:
        whole = dict(tx.faces_in_force())
    swapped = {one.id: whole[two.id], two.id: whole[one.id]}
    for damaged in ({one.id: whole[one.id][:-1]}, {one.id: b""}, swapped):
        written(**{**whole, **damaged})
        answer = town.gate.precheck(wanted, at=town.at)
        assert isinstance(answer, Denied)
        assert [one.id for one in answer.reasons] == ["standing.classifiers"]
        with pytest.raises((Unavailable, LedgerError)), town.ledger.reading() as tx:
            town.gate.register.listed(tx)
    written(**whole)
    assert isinstance(town.gate.precheck(wanted, at=town.at), WouldAllow)
    # A key that was destroyed without its face.
    town.ledger.transact(lambda tx: tx.erase_list(two.id))
    written(**whole)
    assert isinstance(town.gate.precheck(wanted, at=town.at), Denied)
    # And a finished clip is not let through on what cannot be read, either.
    with town.ledger.reading() as tx, pytest.raises(NotFound):
        town.gate.register.listed(tx)


def test_a_likeness_that_was_destroyed_keeps_nobody_off_the_register(town: World) -> None:
    grown = town.enrol()
    town.ledger.transact(lambda tx: keeping.forget_likeness(tx, grown.person_id))
    notice = noticed(town, None)
    face = Likeness(np.random.default_rng(1).normal(0, 0.1, (1, 128)))
    town.ledger.transact(lambda tx: register.keep(tx, notice.id, face))
    with town.ledger.reading() as tx:
        assert register.resembles(tx, notice.id) == ()
    assert started(town, notice).outcome == "registered"


def test_the_face_of_somebody_enrolled_is_noticed(town: World) -> None:
    random = np.random.default_rng(5)
    base = random.normal(0, 0.1, (1, 128))
    near = town.enrol(
        likeness=StoredLikeness(Likeness(base), np.zeros((64, 64, 3), np.uint8), (8, 56, 56, 8))
    )
    town.enrol(likeness=StoredLikeness(Likeness(base + 1), np.zeros((64, 64, 3), np.uint8), (8, 56, 56, 8)))
    notice = noticed(town, None)
    step = np.full(128, 0.59 / np.sqrt(128))
    town.ledger.transact(lambda tx: register.keep(tx, notice.id, Likeness(base + step)))
    with town.ledger.reading() as tx:
        assert register.resembles(tx, notice.id) == (near.cameo_id,)
    seen = register.Register()
    waiting = started(town, notice, near.cameo_id)
    assert (waiting.status, waiting.outcome) == ("open", None)
    assert not listed(town, seen, base[0] + step)
    ruled(town, waiting, "dana", "refused")
    appealed(town, waiting, "notifier")
    with pytest.raises(InvalidStatement, match="you decided on this notice before"):
        ruled(town, waiting, "dana", "registered")
    ruled(town, waiting, "erin", "refused")
    with town.ledger.reading() as tx:
        assert tx.face(waiting.id) is None, "nothing is left to appeal, so the face is not kept"


def test_faces_shown_in_a_clip_are_asked_about_one_by_one() -> None:
    """The register is asked about granted and ungranted faces alike."""
    both = np.concatenate([pixels(collins_picture())[:512, :512], np.zeros((512, 64, 3), np.uint8)], axis=1)
    granted = enrol_portrait([pixels(collins_picture())]).likeness
    found = faces.check_output([(0.0, both), (0.5, both)], {"cameo_a": granted}, lambda _: True)  # type: ignore[dict-item]
    assert found.ungranted == ()
    assert [t_s for t_s, _ in found.listed] == [0.0, 0.5]
    assert faces.check_output([(0.0, both)], {"cameo_a": granted}).listed == ()  # type: ignore[dict-item]


# ── letters ───────────────────────────────────────────────────────────────────────────────────────────────


class Box:
    """A mail server's other side. `deaf`: it takes nothing."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.deaf = False

    def __call__(self, message: EmailMessage) -> None:
        if self.deaf:
            raise smtplib.SMTPServerDisconnected("no")
        self.messages.append(message)


def posted(town: World, subject: str = "Confirm") -> NoticeId:
    app, someone = town.app(), town.enrol()
    notice = noticed(town, released(town, app, someone))
    letter = Letter("maud@example.org", subject, "Grüße, and a token\n")
    town.ledger.transact(lambda tx: post(tx, notice.id, letter, at=town.at))
    return notice.id


def test_a_letter_is_sent_once_however_many_send(town: World) -> None:
    posted(town)
    box = Box()
    postmen = [Postman(town.ledger, box, "us@example.net", lambda: town.at) for _ in range(3)]
    threads = [threading.Thread(target=postman.deliver) for postman in postmen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (message,) = box.messages
    assert (message["To"], message["From"], message["Subject"]) == (
        "maud@example.org",
        "us@example.net",
        "Confirm",
    )
    assert message.get_content() == "Grüße, and a token\n"
    assert postmen[0].deliver() == 0


def test_a_letter_of_a_transaction_that_failed_is_never_sent(town: World) -> None:
    app, someone = town.app(), town.enrol()
    notice = noticed(town, released(town, app, someone))

    def operation(tx: Transaction) -> None:
        post(tx, notice.id, Letter("maud@example.org", "S", "T"), at=town.at)
        raise InvalidStatement("test", "no")

    with pytest.raises(InvalidStatement):
        town.ledger.transact(operation)
    assert Postman(town.ledger, (box := Box()), "us@example.net", lambda: town.at).deliver() == 0
    assert box.messages == []


def test_a_letter_nobody_takes_is_tried_again_and_in_the_end_given_up(
    town: World, caplog: pytest.LogCaptureFixture
) -> None:
    posted(town)
    box = Box()
    postman = Postman(town.ledger, box, "us@example.net", lambda: town.at)
    box.deaf = True
    assert [postman.deliver(), postman.deliver()] == [0, 0]
    town.wait(seconds=61)
    box.deaf = False
    assert postman.deliver() == 1
    posted(town)
    box.deaf = True
    for _ in range(MOST_TRIES + 3):
        postman.deliver()
        town.wait(hours=7)
    box.deaf = False
    assert postman.deliver() == 0
    assert len(box.messages) == 1
    assert "maud" not in caplog.text
    assert "given up" in caplog.text


def test_a_postman_who_died_is_followed_by_one_who_sends_the_same_letter(town: World) -> None:
    posted(town)

    class Killed(BaseException):
        pass

    box = Box()

    def dying(message: EmailMessage) -> None:
        box(message)
        raise Killed

    with pytest.raises(Killed):
        Postman(town.ledger, dying, "us@example.net", lambda: town.at).deliver()
    town.wait(seconds=61)
    assert Postman(town.ledger, box, "us@example.net", lambda: town.at).deliver() == 1
    first, second = box.messages
    assert first["Message-ID"] == second["Message-ID"]
    assert first.get_content() == second.get_content()


class _Smtp(socketserver.StreamRequestHandler):
    """RFC 5321, as little of it as a client needs."""

    def handle(self) -> None:
        self.wfile.write(b"220 mail.example ESMTP\r\n")
        while line := self.rfile.readline():
            verb = line.split()[0].upper()
            self.server.heard.append(line.decode().strip())  # type: ignore[attr-defined]
            if verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                body = b""
                while (part := self.rfile.readline()) != b".\r\n":
                    body += part
                self.server.mails.append(body)  # type: ignore[attr-defined]
            self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
            if verb == b"QUIT":
                return


@contextmanager
def smtp_server() -> Iterator[Any]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Smtp) as server:
        vars(server).update(heard=[], mails=[])
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_letters_go_over_smtp(tmp_path: Path) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "us@example.net", "maud@example.org", "Confirm"
    message.set_content("Token: abc\n")
    with smtp_server() as server:
        host, port = server.server_address
        transport(Settings(home=tmp_path, mail=f"smtp://{host}:{port}"))(message)
        assert "RCPT TO:<maud@example.org>" in {line.replace("rcpt", "RCPT") for line in server.heard} | {
            line.upper().replace("MAUD@EXAMPLE.ORG", "maud@example.org") for line in server.heard
        }
        (sent,) = server.mails
    assert b"Token: abc" in sent
    with pytest.raises(OSError, match="refused"):
        transport(Settings(home=tmp_path, mail=f"smtp://127.0.0.1:{port}"))(message)
    for wrong in ("maildir:/tmp/x", "smtp://", "localhost:25"):
        with pytest.raises(ValueError, match="COUNTERSIGN_MAIL"):
            transport(Settings(home=tmp_path, mail=wrong))


def test_a_password_never_goes_in_the_clear(tmp_path: Path) -> None:
    message = EmailMessage()
    message["From"], message["To"] = "us@example.net", "maud@example.org"
    with smtp_server() as server:
        port = server.server_address[1]
        send = transport(Settings(home=tmp_path, mail=f"smtp://me:secret@localhost.localdomain:{port}"))
        with pytest.MonkeyPatch.context() as patch:
            original = smtplib.SMTP.connect
            patch.setattr(
                smtplib.SMTP, "connect", lambda self, host, number, *rest: original(self, "127.0.0.1", number)
            )
            with pytest.raises(smtplib.SMTPNotSupportedError):
                send(message)
        assert not any("AUTH" in line.upper() or "secret" in line for line in server.heard)


def test_without_a_server_letters_are_files_only_we_may_read(tmp_path: Path) -> None:
    message = EmailMessage()
    message["To"], message["Message-ID"] = "maud@example.org", "<mail_1@example.net>"
    message.set_content("Token: abc\n")
    transport(Settings(home=tmp_path))(message)
    (path,) = (tmp_path / "mail").iterdir()
    assert path.name == "mail_1.eml"
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert b"Token: abc" in path.read_bytes()


def test_a_notice_that_was_taken_back_gets_no_more_letters(town: World) -> None:
    notice_id = posted(town)
    with town.ledger.reading() as tx:
        (mail,) = tx.due_mail(at=int(town.at.timestamp()), limit=5)
        notice = _there(tx.notice(notice_id))
    box = Box()
    postman = Postman(town.ledger, box, "us@example.net", lambda: town.at)
    gone = replace(notice, status="lapsed", sealed=None)
    town.ledger.transact(lambda tx: tx.forget_notice(gone))
    assert not postman._deliver(mail), "somebody had read it before it was destroyed"
    assert box.messages == []
