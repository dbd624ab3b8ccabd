"""What is over is destroyed, once, with an entry that says so; and what a crash left is found."""

import json
import os
import re
import threading
import time
from collections.abc import Iterator
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import pytest

from command import countersign
from gateway import retention
from gateway.retention import SCHEDULE, run, sweep
from gateway.service import Service, open_service
from gateway.settings import Settings
from ledger.consent import certificate
from ledger.consent.notices import Form, confirm, decide, lodge
from ledger.consent.registry import certificate as erasure_certificate
from ledger.consent.registry import deletion_certificate, erase
from ledger.errors import LogError, NotFound
from ledger.ids import NoticeId, VideoId, new_id
from ledger.log.policy import Policy
from ledger.store import keeping
from ledger.store.captures import Capture
from ledger.store.objects import Objects, clip_of, thumbnail_of
from ledger.store.transaction import Transaction
from world import START, Someone, World

pytest_plugins = ["test_store"]
pytestmark = pytest.mark.slow
DAY = 86_400


class Kept(World):
    """A world inside a whole service, whose clock is the world's."""

    service: Service


@pytest.fixture
def kept(tmp_path: Path, url: str) -> Iterator[Kept]:
    """On both databases."""
    settings = Settings(home=tmp_path / "home", database_url="" if url.startswith("sqlite") else url)
    holder: list[Kept] = []
    with open_service(settings, clock=lambda: holder[0].at if holder else START) as service:
        world = Kept(service.ledger, service.keyring, tmp_path)
        world.service = service
        holder.append(world)
        settings.uploads.mkdir(parents=True, exist_ok=True)
        yield world


def film(kept: Kept, who: Someone, *, status: str = "pending_review", days: float = 30) -> Capture:
    """An enrolment with a film, as `gateway.owners.enrolment` leaves it."""
    content = os.urandom(64)
    path = kept.home / "film"
    path.write_bytes(content)
    key = kept.service.objects.put(path)
    now = int(kept.at.timestamp())
    capture = Capture(
        new_id("capture"),
        who.person_id,
        status,
        b"sealed",
        now,
        now + int(days * DAY),
        key,
        sha256(content).hexdigest(),
    )
    kept.ledger.transact(lambda tx: tx.add_capture(capture))
    return capture


def deletions(kept: Kept, who: Someone) -> list[dict[str, Any]]:
    return [dict(one.body) for one in kept.entries(who.person_id, "deletion")]


def there(kept: Kept, key: str) -> bool:
    try:
        kept.service.objects.size(key)
    except NotFound:
        return False
    return True


def age(kept: Kept, key: str, *, days: float) -> None:
    """As if the file had been written so long ago."""
    long_ago = kept.at.timestamp() - days * DAY
    os.utime(kept.home / "home" / "objects" / key, (long_ago, long_ago))


def test_a_film_that_waited_too_long_goes_and_the_person_can_show_that_it_did(kept: Kept) -> None:
    ada = kept.enrol()
    capture = film(kept, ada)
    assert run(kept.service).destroyed["captures"] == 0
    assert there(kept, capture.object_key or "")
    kept.wait(days=31)
    assert run(kept.service).destroyed["captures"] == 1
    assert not there(kept, capture.object_key or "")
    with kept.ledger.reading() as tx:
        assert tx.capture(capture.id) is None
    (said,) = deletions(kept, ada)
    assert (said["rule"], said["count"], said["sha256s"]) == ("captures", 1, [capture.sha256])
    # Once: a second run finds nothing, and says nothing.
    assert run(kept.service).total == 0
    assert len(deletions(kept, ada)) == 1

    (entry,) = kept.entries(ada.person_id, "deletion")
    made = deletion_certificate(kept.ledger, ada.person_id, entry.index)
    trusted = Policy.alone(kept.ledger.verifier)
    assert certificate.verify(made, trusted).body["sha256s"] == [capture.sha256]
    path = kept.home / "deletion.json"
    path.write_text(json.dumps(made))
    asked: tuple[str | Path, ...] = ("audit", "verify", path, "--memory", kept.home / "seen.json")
    told = countersign(kept.home, *asked, "--log-key", str(kept.ledger.verifier))
    assert told.status == 0, told.text
    assert "destroyed: 1 of `film`, by the rule `captures`" in told.text
    assert f"SHA-256: {capture.sha256}" in told.text
    assert countersign(kept.home, *asked).status == 2  # it names no key: whose word would that be?
    spoilt: list[dict[str, Any]] = [
        {"count": 2},
        {"sha256s": []},
        {"rule": "drafts"},
        {"n": made["n"] + 1},
        {"index": made["index"] - 1},
        {"body": made["body"] | {"count": 2}},
        {"body": made["body"] | {"kind": "erasure"}},
        {"schema": "countersign/erasure/v1"},
        {"commitments": []},
        {"secret": made["secret"][:-4]},
        {"proof": None},
        {"more": 1},
    ]
    for spoil in spoilt:
        with pytest.raises(LogError):
            certificate.verify(made | spoil, trusted)


def test_the_operator_runs_it_and_reads_the_schedule(tmp_path: Path) -> None:
    shown = countersign(tmp_path, "retention", "show")
    assert shown.status == 0
    assert all(f"{rule.id}: " in shown.text and rule.law in shown.text for rule in SCHEDULE)
    orphan = tmp_path / "objects" / "clips" / "00" / ("0" * 64)
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"what a crash left")
    for count in (0, 1, 0):
        done = countersign(tmp_path, "retention", "run")
        assert (done.status, f"{count:>6}  files" in done.text) == (0, True), done.text
        if orphan.exists():
            os.utime(orphan, (0, 0))
    assert not orphan.exists()


def test_an_erasure_is_certified_the_same_way(kept: Kept) -> None:
    ada = kept.enrol()
    capture = film(kept, ada)
    erased = erase(kept.ledger, ada.person_id, ada.cameo_id, at=kept.at)
    assert capture.object_key in erased.objects
    made = erasure_certificate(kept.ledger, erased)
    trusted = Policy.alone(kept.ledger.verifier)
    assert certificate.verify(made, trusted).body["cameo_id"] == ada.cameo_id
    with pytest.raises(LogError):
        certificate.verify(made | {"records_destroyed": 1}, trusted)


def test_the_words_of_a_failed_request_go_from_the_jobs_and_stay_on_the_list(kept: Kept) -> None:
    ada, app = kept.enrol(), kept.app()
    kept.grant(ada, app)
    failed, running = kept.allow(app, ada), kept.allow(app, ada)
    reasons = [{"id": "render.failed", "reason": "the clip could not be made", "remedy": "try again"}]
    video = failed.permit.video
    kept.ledger.transact(lambda tx: tx.end_job(video, "render", reasons, at=kept.at))
    kept.wait(days=89)
    assert run(kept.service).destroyed["prompts"] == 0
    kept.wait(days=2)
    assert run(kept.service).destroyed["prompts"] == 1
    with kept.ledger.reading() as tx:
        gone, still = tx.video(video), tx.video(running.permit.video)
    assert gone is not None
    assert still is not None
    assert (gone.prompt, still.prompt) == ("", "a portrait in golden light")
    (said,) = deletions(kept, ada)
    assert said["sha256s"] == [sha256(b"a portrait in golden light").hexdigest()]
    decision = kept.entries(ada.person_id, "decision")[0]
    assert decision.body["prompt"] == "a portrait in golden light"
    assert run(kept.service).total == 0


def test_challenges_sessions_and_tokens_go_when_they_are_over(kept: Kept) -> None:
    ada = kept.enrol()
    now = int(kept.at.timestamp())

    def operation(tx: Transaction) -> None:
        for number, life_s in enumerate((60, 7 * DAY)):
            tx.add_nonce(f"nonce{number}", ada.person_id, at=now, expires_at=now + life_s)
            tx.count(f"tally{number}", at=kept.at, life_s=life_s)

    kept.ledger.transact(operation)
    kept.wait(hours=1)
    assert run(kept.service).destroyed["challenges"] == 2
    assert run(kept.service).total == 0
    kept.wait(days=7)
    assert run(kept.service).destroyed["challenges"] == 2


def test_the_likeness_of_a_child_who_came_of_age_goes_only_after_they_were_told(kept: Kept) -> None:
    child, mother = kept.enrol(date(2008, 4, 1)), kept.enrol()
    kept.guardian(child, mother)
    assert run(kept.service).announced == 0  # a minor still
    kept.wait(days=60)
    assert run(kept.service).announced == 1
    assert run(kept.service).announced == 0
    (told,) = kept.entries(child.person_id, "announcement")
    assert told.body["until"] == "2026-06-30T00:00:00Z"  # 90 days after 1 April 2026
    kept.wait(days=60)
    assert run(kept.service).destroyed.get("likeness_of_age", 0) == 0
    kept.wait(days=2)
    assert run(kept.service).destroyed["likeness_of_age"] == 1
    (said,) = deletions(kept, child)
    assert (said["rule"], said["count"]) == ("likeness_of_age", 1)
    assert run(kept.service).total == 0
    with kept.ledger.reading() as tx:
        cameo, person = tx.cameo(child.cameo_id), tx.person(child.person_id)
        assert tx.standing(child.person_id).in_use(kept.at) is False
    assert cameo is not None
    assert (cameo.likeness, cameo.portrait) == (b"", b"")
    assert person is not None  # the account and its list stay theirs
    assert not deletions(kept, mother)


def test_whoever_was_told_late_has_time_to_answer_and_whoever_takes_over_keeps_it(kept: Kept) -> None:
    child, mother = kept.enrol(date(2007, 1, 1)), kept.enrol()
    kept.guardian(child, mother)
    assert run(kept.service).announced == 1
    (told,) = kept.entries(child.person_id, "announcement")
    assert told.body["until"] == f"{kept.at + retention.TOLD_BEFORE:%Y-%m-%dT%H:%M:%SZ}"
    kept.tell(child, "handover", cameo_id=child.cameo_id, statement={}, evidence={})
    kept.wait(days=200)
    assert run(kept.service).destroyed.get("likeness_of_age", 0) == 0
    with kept.ledger.reading() as tx:
        cameo = tx.cameo(child.cameo_id)
    assert cameo is not None
    assert cameo.likeness


class Killed(BaseException):
    """Not an error that anything handles: the process is gone."""


def test_a_kill_between_the_rows_and_the_files_leaves_nothing(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = kept.enrol()
    capture = film(kept, ada)
    key = capture.object_key or ""
    kept.wait(days=31)

    def dies(_objects: Objects, _key: str) -> None:
        raise Killed

    with monkeypatch.context() as broken:
        broken.setattr(Objects, "delete", dies)
        with pytest.raises(Killed):
            run(kept.service)
    # The rows are gone and the entry is there; the file is still there, and no row names it.
    assert [one["count"] for one in deletions(kept, ada)] == [1]
    assert there(kept, key)
    age(kept, key, days=1)
    assert run(kept.service).destroyed["files"] == 1
    assert not there(kept, key)
    assert len(deletions(kept, ada)) == 1


def test_a_kill_before_the_commit_destroys_nothing(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = kept.enrol()
    capture = film(kept, ada)
    kept.wait(days=31)

    def dies(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as broken:
        broken.setattr(keeping, "record_deletions", dies)
        with pytest.raises(Killed):
            run(kept.service)
    assert there(kept, capture.object_key or "")
    with kept.ledger.reading() as tx:
        assert tx.capture(capture.id) is not None
    assert not deletions(kept, ada)
    assert run(kept.service).destroyed["captures"] == 1


def test_the_sweep_spares_what_is_named_young_or_being_made(kept: Kept) -> None:
    ada, app = kept.enrol(), kept.app()
    kept.grant(ada, app)
    kept.at = kept.at.fromtimestamp(time.time(), kept.at.tzinfo)  # files bear the machine's own time
    named = film(kept, ada).object_key or ""

    def orphan() -> str:
        path = kept.home / "orphan"
        path.write_bytes(os.urandom(32))
        return kept.service.objects.put(path)

    young, old = orphan(), orphan()
    picture = thumbnail_of(old)
    kept.service.objects.keep(picture, b"jpeg")
    for key in (named, old, picture):
        age(kept, key, days=2)
    assert sweep(kept.service) == 1  # the picture goes with what it shows
    assert [there(kept, key) for key in (named, young, old, picture)] == [True, True, False, False]

    # A job that began before the file was written may be about to release it.
    older = orphan()
    kept.wait(days=-3)
    kept.grant(ada, app)
    job = kept.allow(app, ada)
    kept.wait(days=3)
    age(kept, older, days=2)
    assert sweep(kept.service) == 0
    reasons = [{"id": "render.failed", "reason": "no", "remedy": "no"}]
    kept.ledger.transact(lambda tx: tx.end_job(job.permit.video, "render", reasons, at=kept.at))
    assert sweep(kept.service) == 1


def test_who_gave_notice_is_forgotten_a_year_after_the_last_word_and_the_clip_stays_down(kept: Kept) -> None:
    form = Form(
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
    ada, app = kept.enrol(), kept.app()
    kept.grant(ada, app)
    permit = kept.allow(app, ada).permit
    assert kept.release(permit) is None

    def lodged(tx: Transaction) -> NoticeId:
        notice = lodge(tx, form, permit.video, "token", at=kept.at)
        return confirm(tx, notice, 48, "the law", at=kept.at).id

    notice_id = kept.ledger.transact(lodged)
    kept.wait(days=200)
    assert run(kept.service).destroyed["notices"] == 0  # it waits for an answer, however long
    kept.ledger.transact(lambda tx: decide(tx, notice_id, "operator", "removed", "So.", at=kept.at))
    kept.wait(days=364)
    assert run(kept.service).destroyed["notices"] == 0
    kept.wait(days=2)
    assert run(kept.service).destroyed["notices"] == 1
    assert run(kept.service).destroyed["notices"] == 0
    with kept.ledger.reading() as tx:
        notice, video = tx.notice(notice_id), tx.video(permit.video)
        assert tx.erased(notice_id)
    assert notice is not None
    assert (notice.sealed, notice.outcome) == (None, "removed")
    assert video is not None
    assert video.taken_down_at is not None


def test_what_shows_that_somebody_died_is_not_swept_up(kept: Kept) -> None:
    ada = kept.enrol()
    path = kept.home / "evidence"
    path.write_bytes(b"a certificate, sealed")
    key = kept.service.objects.put(path)
    said = {"executor": "x", "evidence_sha256": "e" * 64, "object_key": key}
    kept.ledger.transact(
        lambda tx: tx.add_review("estate", ada.person_id, said, at=kept.at, status="accepted")
    )
    age(kept, key, days=9)
    assert sweep(kept.service) == 0
    assert there(kept, key)
    erase(kept.ledger, ada.person_id, ada.cameo_id, at=kept.at)
    assert sweep(kept.service) == 1


def test_a_picture_of_a_clip_that_is_named_stays(kept: Kept) -> None:
    ada = kept.enrol()
    key = film(kept, ada).object_key or ""
    kept.service.objects.keep(thumbnail_of(key), b"jpeg")
    kept.at = kept.at.fromtimestamp(time.time(), kept.at.tzinfo)
    age(kept, thumbnail_of(key), days=9)
    assert sweep(kept.service) == 0
    lone = thumbnail_of(f"clips/00/{'0' * 64}")
    kept.service.objects.keep(lone, b"jpeg")
    age(kept, lone, days=9)
    assert sweep(kept.service) == 1
    assert not there(kept, lone)
    assert clip_of(thumbnail_of(key)) == key


def test_what_a_page_reads_does_not_grow_with_the_list(kept: Kept) -> None:
    ada = kept.enrol()
    for number in range(30):
        kept.tell(ada, "audit", "depicted", auditor=f"a{number}", asked="uses")
    with kept.ledger.reading() as tx:
        whole = tx.entries(ada.person_id)[::-1]
        pages, before = [], 1 << 40
        while page := tx.newest_entries(ada.person_id, 7, before=before):
            pages += page
            before = page[-1].index
        assert [one.index for one in pages] == [one.index for one in whole]
        assert tx.recorded(ada.person_id, whole[5].index) == whole[5]
        between = set(range(whole[-1].index, whole[0].index)) - {one.index for one in whole}
        assert all(tx.recorded(ada.person_id, index) is None for index in between)
        assert tx.newest_entries(ada.person_id, 7, before=0) == []
        assert keeping.clip_object(tx, VideoId(new_id("video"))) is None


def test_the_schedule_says_what_why_how_long_and_by_which_law_in_both_languages() -> None:
    assert len({rule.id for rule in SCHEDULE}) == len(SCHEDULE)
    for rule in SCHEDULE:
        said = rule.as_json()
        for part in ("what", "why", "how_long"):
            assert set(said[part]) == {"en", "de"}
            assert all(text and text != said[part]["en"] for lang, text in said[part].items() if lang == "de")
        assert rule.law.startswith("GDPR Art.")
        # What is said in words is what the job keeps to.
        days = {int(number) for number in re.findall(r"\d+(?= days)", rule.how_long["en"])}
        assert rule.days in {None, 0, *days}
    kept_for = {rule.id: rule.days for rule in SCHEDULE}
    assert (kept_for["captures"], kept_for["prompts"], kept_for["likeness_of_age"]) == (30, 90, 90)


def test_a_run_that_fails_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    runs, stop = list[Service](), threading.Event()

    def failing(service: Service) -> None:
        runs.append(service)
        if len(runs) == 2:
            stop.set()
        raise OSError("the disk is away")

    monkeypatch.setattr(retention, "run", failing)
    monkeypatch.setattr(retention, "EVERY_S", 0.0)
    retention._keep(cast("Service", None), stop)
    assert len(runs) == 2
