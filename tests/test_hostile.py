"""What hostile readers found, each once, so that it stays found."""

import io
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from PIL import Image

from ledger.consent.grant import parse_grant, sentence
from ledger.errors import Inconsistent, MediaError
from ledger.ids import AppId
from ledger.store.transaction import Transaction
from safety import faces
from safety.chain import Allowed
from safety.enrolment import decode_picture
from safety.errors import InvalidInput
from safety.gate import Denied
from safety.policy import cedar
from safety.policy.engine import Engine
from world import POLICIES, World, open_ledger


def test_why_one_person_is_refused_is_not_written_into_anothers_log(world: World) -> None:
    app, ada, child = world.app(), world.enrol(), world.enrol(date(2015, 6, 1))
    world.grant(ada, app)
    assert isinstance(world.gate.decide(world.request(app, ada, child), at=world.at), Denied)
    with world.ledger.reading() as tx:
        (hers,) = tx.entries(ada.person_id, ("decision",))
        (theirs,) = tx.entries(app, ("decision",))
    assert {reason["id"] for reason in hers.body["reasons"]} == {"consent.quorum"}
    assert hers.body["policy_ids"] == ["consent.quorum"]
    assert not any(policy.startswith("minors.") for policy in theirs.body["policy_ids"])


def test_an_app_cannot_find_out_whose_face_a_picture_shows_by_naming_people(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, ada = world.app(), world.enrol()
    compared: list[int] = []

    def match(_face: object, granted: object) -> None:
        compared.append(len(list(granted)))  # type: ignore[call-overload]

    monkeypatch.setattr(faces, "search", lambda _: [(type("Face", (), {"recognisable": True})(),)])
    monkeypatch.setattr(faces, "match", match)
    request = replace(world.request(app, ada), reference=np.zeros((64, 64, 3), np.uint8))
    assert isinstance(world.gate.decide(request, at=world.at), Denied)
    world.grant(ada, app)
    world.gate.decide(replace(request, video_id=world.request(app).video_id), at=world.at)
    assert compared == [0, 1]


def test_a_permit_that_names_nobody_does_not_release_a_clip_that_shows_someone(world: World) -> None:
    app, ada = world.app(), world.enrol()
    grant_id = world.grant(ada, app)
    allowed = world.gate.decide(world.request(app, ada), at=world.at)
    assert isinstance(allowed, Allowed)
    world.revoke(ada, grant_id)
    forged = allowed.permit.model_copy(update={"uses": ()})

    def release(tx: Transaction) -> Denied | None:
        return world.gate.may_release(tx, forged, at=world.at)

    denied = world.ledger.transact(release)
    assert denied is not None
    assert {reason.id for reason in denied.reasons} == {"release.unrecorded"}


def test_an_erased_person_is_refused_and_the_refusal_recorded(world: World) -> None:
    app, ada = world.app(), world.enrol()
    world.grant(ada, app)
    world.ledger.transact(lambda tx: _forget(tx, ada.person_id))
    denied = world.gate.decide(world.request(app, ada), at=world.at)
    assert isinstance(denied, Denied)
    assert ada.person_id not in repr(denied)
    with world.ledger.reading() as tx:
        assert len(tx.entries(AppId(app), ("decision",))) == 1


def _forget(tx: Transaction, subject_id: str) -> None:
    from ledger.store.tables import SubjectKey  # noqa: PLC0415 — erasure has no route yet

    row = tx.session.get_one(SubjectKey, subject_id)
    row.wrapped = None
    tx.session.add(row)


def test_a_missing_checkpoint_over_existing_entries_is_not_signed_anew(world: World) -> None:
    world.enrol()
    world.ledger.close()
    (world.home / "log" / "checkpoint").unlink()
    with pytest.raises(Inconsistent, match="no signed checkpoint"):
        open_ledger(world.home)


def test_a_policy_set_with_a_file_missing_is_not_the_one_in_force() -> None:
    whole = cedar.read(POLICIES)
    fewer = {name: data for name, data in whole.items() if name != "consent.cedar"}
    assert Engine.of(fewer).policies is not None
    weaker = Engine.of(fewer, expected=cedar.set_hash(whole))
    assert weaker.fault is not None
    assert weaker.fault.id == "policy.not_in_force"
    assert Engine.of(whole, expected=cedar.set_hash(whole)).fault is None


def test_the_sentence_names_what_the_grant_allows_beyond_the_usual(world: World) -> None:
    app, ada = world.app(), world.enrol()
    plain = sentence(parse_grant(world.draft(ada, app)), "Film Club")
    wide = sentence(parse_grant(world.draft(ada, app, allowed_contexts=["political"])), "Film Club")
    assert "political" in wide
    assert "political" not in plain


def test_a_strip_is_not_scaled_into_a_picture_no_memory_holds() -> None:
    with pytest.raises(InvalidInput, match="four times"):
        faces.find_faces(np.zeros((16, 4000, 3), np.uint8))
    strip = io.BytesIO()
    Image.new("L", (40_000, 16)).save(strip, "PNG")
    with pytest.raises(MediaError):
        decode_picture(strip.getvalue())


def test_decoders_that_start_programs_are_never_reached() -> None:
    with pytest.raises(MediaError, match="not a picture"):
        decode_picture(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\nshowpage\n")
