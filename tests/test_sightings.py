"""Whoever is found where they had not agreed to be is told, and nobody else learns that it was them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.owners.timeline import _Page
from ledger.consent.registry import erase
from ledger.consent.sighting import tell_seen
from ledger.consent.story import replay
from ledger.errors import Violation
from ledger.ids import AppId, CameoId
from ledger.provenance import media
from safety import gate
from safety.chain import RawClip, raw_clip
from safety.clearing import Looked, look
from safety.sent import Sent
from test_gate import ids
from test_story_replay import Life
from world import Someone, World, check_log

Find = Callable[..., None]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Find:
    """As if the pictures sent showed these people, who are enrolled."""

    def shows(*people: Someone) -> None:
        found = Sent(len(people), enrolled=tuple(one.cameo_id for one in people))
        monkeypatch.setattr(gate.Gate, "_sent", lambda *_: found)

    return shows


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Find:
    """As if a finished clip showed these people, or had the voices of those."""

    def shows(*people: Someone, heard: tuple[Someone, ...] = ()) -> None:
        def looked(*args: Any, **options: Any) -> Looked:
            honest = look(*args, **options)
            facts = replace(
                honest.facts,
                ungranted_faces=len(people),
                enrolled_faces=len(people),
                ungranted_voices=len(heard),
                enrolled_voices=len(heard),
            )
            return Looked(
                facts,
                strangers=tuple(one.cameo_id for one in people),
                overheard=tuple(one.cameo_id for one in heard),
            )

        monkeypatch.setattr(gate, "look", looked)

    return shows


def made(world: World, app: AppId, *people: Someone) -> RawClip:
    path = world.home / "raw.mp4"
    media.write_pattern(path)
    return raw_clip(
        world.allow(app, *people), path, backend="countersign-reference", version="1", closed=True
    )


def seen(world: World, someone: Someone) -> list[dict[str, Any]]:
    return [dict(one.body) for one in world.entries(someone.person_id, "sighting")]


def told(world: World, someone: Someone) -> None:
    """Their whole list, by the rules that an auditor replays it by."""
    replay([(one.index, one.body) for one in world.entries(someone.person_id)], until=1 << 40)


# ── what they are told ────────────────────────────────────────────────────────────────────────────────────


def test_who_is_in_a_picture_sent_is_told_in_the_transaction_of_the_refusal(world: World, sent: Find) -> None:
    app, ada, bob = world.app(), world.enrol(), world.enrol()
    world.grant(ada, app)
    sent(bob)
    request = world.request(app, ada, prompt="words of somebody else's")
    assert ids(world.gate.decide(request, at=world.at)) == {"prohibited.unknown_face"}
    (body,) = seen(world, bob)
    assert body == {
        "kind": "sighting",
        "at": "2026-03-01T12:00:00Z",
        "cameo_id": bob.cameo_id,
        "video_id": request.video_id,
        "app_id": app,
        "where": "pictures",
        "outcome": "refused",
        "action": "generate",
        "purpose": "dpv:NonCommercialPurpose",
        "audience": "requester",
    }
    assert world.entries(bob.person_id, "sighting")[0].index == world.entries(app, "decision")[0].index + 1
    assert seen(world, ada) == []
    told(world, bob)
    check_log(world.ledger)


def test_the_app_learns_from_no_answer_and_no_record_that_a_face_is_enrolled(
    world: World, sent: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, bob = world.app(), world.enrol()
    answers, records = [], []
    for people in ((bob,), ()):
        sent(*people)
        if not people:
            monkeypatch.setattr(gate.Gate, "_sent", lambda *_: Sent(1))
        request = world.request(app)
        answers.append(world.gate.decide(request, at=world.at))
        record = dict(world.entries(app)[-1].body)
        records.append({name: v for name, v in record.items() if name not in {"video_id", "facts_digest"}})
        assert not world.entries(app)[-1].others
    assert answers[0] == answers[1]
    assert records[0] == records[1]
    assert bob.cameo_id not in str(records)


def test_a_precheck_tells_nobody_anything(world: World, sent: Find) -> None:
    app, bob = world.app(), world.enrol()
    sent(bob)
    before = world.ledger.checkpoint()
    assert ids(world.gate.precheck(world.request(app), at=world.at)) == {"prohibited.unknown_face"}
    assert world.ledger.checkpoint() == before
    assert seen(world, bob) == []


def test_who_is_in_a_finished_clip_is_told_and_the_app_hears_of_a_stranger(world: World, found: Find) -> None:
    app, ada, bob, eve = world.app(), world.enrol(), world.enrol(), world.enrol()
    world.grant(ada, app)
    raw = made(world, app, ada)
    found(bob, heard=(eve,))
    world.wait(minutes=3)
    answer = world.gate.clear(raw, at=world.at)
    assert ids(answer) == {"clear.ungranted_face", "clear.ungranted_voice"}, "it is enrolled people's"
    assert [(one["where"], one["outcome"]) for one in seen(world, bob)] == [("clip", "refused")]
    assert [one["where"] for one in seen(world, eve)] == ["voices"]
    assert seen(world, bob)[0]["at"] == "2026-03-01T12:03:00Z"
    assert seen(world, ada) == []
    # As after a crash between the look and the end of the job.
    assert ids(world.gate.clear(raw, at=world.at)) == {"clear.ungranted_face", "clear.ungranted_voice"}
    assert len(seen(world, bob)) == len(seen(world, eve)) == 1
    for one in (ada, bob, eve):
        told(world, one)


def test_several_people_in_one_picture_learn_nothing_of_each_other(world: World, sent: Find) -> None:
    app, ada, bob = world.app(), world.enrol(), world.enrol()
    sent(ada, bob)
    world.gate.decide(world.request(app), at=world.at)
    assert ada.cameo_id not in str(seen(world, bob))
    assert bob.cameo_id not in str(seen(world, ada))
    assert len(seen(world, ada)) == len(seen(world, bob)) == 1


def test_of_somebody_erased_nothing_is_recorded(world: World) -> None:
    app, bob = world.app(), world.enrol()
    erase(world.ledger, bob.person_id, bob.cameo_id, at=world.at)
    before = world.ledger.checkpoint()
    request = world.request(app)
    asked = {"action": "generate", "purpose": request.purpose, "audience": "requester"}
    for cameo_id in (bob.cameo_id, CameoId("cameo_" + "0" * 26)):
        index = world.ledger.transact(
            lambda tx, cameo_id=cameo_id: tell_seen(
                tx,
                [cameo_id],
                video_id=request.video_id,
                app_id=app,
                where="clip",
                outcome="refused",
                asked=asked,
                at=world.at,
            )
        )
        assert index is None
    assert world.ledger.checkpoint() == before


def test_their_page_shows_neither_the_words_nor_the_clip(world: World, found: Find) -> None:
    """The words are somebody else's, and may name others."""
    app, ada, bob = world.app(), world.enrol(), world.enrol()
    world.grant(ada, app)
    found(bob)
    raw = made(world, app, ada)
    world.gate.clear(raw, at=world.at)
    service: Any = type("Service", (), {"clock": lambda _: world.at})()
    with world.ledger.reading() as tx:
        (entry,) = tx.entries(bob.person_id, ["sighting"])
        (english, german) = (
            _Page(service, tx, bob.person_id, language).event(entry) for language in ("en", "de")
        )
    assert (english["prompt"], english["thumbnail"], english["downloads"]) == (None, None, None)
    assert (english["status"], english["app_name"]) == ("refused", "Film Club")
    assert english["title"] == "A video that Film Club asked for showed you"
    assert german["title"] == "Ein Video, um das Film Club gebeten hat, zeigte dich"


# ── what their list may say ───────────────────────────────────────────────────────────────────────────────


def sighting(life: Life, video: str, outcome: str = "refused") -> Life:
    said = {"video_id": video, "app_id": "app_1", "where": "voices", "outcome": outcome}
    return life.tell("sighting", cameo_id=life.cameo, **said)


def test_to_have_been_seen_needs_no_grant() -> None:
    life = Life().enrol()
    assert sighting(life, "video_1").replay().allowed == 0


def test_a_clip_that_goes_out_with_somebody_who_had_not_agreed_contradicts_their_list() -> None:
    life = Life().enrol()
    grant = life.grant()
    life.decide("video_1", grant)
    sighting(life, "video_1").give_back("video_1", grant)
    assert life.replay().refused == 0
    again = Life().enrol()
    grant = again.grant()
    again.decide("video_1", grant)
    sighting(again, "video_1").release("video_1", grant)
    with pytest.raises(Violation, match="without having agreed"):
        again.replay()


@pytest.mark.parametrize("outcome", ["used", "held", ""])
def test_a_sighting_that_was_not_refused_is_a_use_without_consent(outcome: str) -> None:
    with pytest.raises(Violation, match="had not agreed"):
        sighting(Life().enrol(), "video_1", outcome).replay()
