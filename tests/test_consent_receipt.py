"""The receipt for each state of consent, and what it takes from the grant."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest

from ledger.canonical import canonical
from ledger.consent.fold import GrantStanding
from ledger.consent.receipt import Published, events_of, receipt
from ledger.ids import LeafIndex
from test_records_api import check_json_ld
from test_words import grant

GIVEN = {"kind": "grant", "at": "2026-02-01T09:00:05Z", "grant": {}}
TAKEN = {"kind": "revocation", "at": "2026-02-03T09:00:05Z"}
BEFORE = datetime(2026, 2, 10, tzinfo=UTC)
PUBLISHED = Published("https://here.example", "here.example/log", "Ada")


def made(at: datetime = BEFORE, *, revoked: bool = False, **changes: Any) -> dict[str, Any]:
    signed = grant(**changes)
    ended = {"revoked_at": TAKEN["at"], "revoked_index": LeafIndex(9)} if revoked else {}
    held = GrantStanding(signed, LeafIndex(4), **ended)  # type: ignore[arg-type]  # two fields, or none
    events = events_of(held, GIVEN, TAKEN if revoked else None, at=at)
    found = receipt(signed, events, PUBLISHED, language="en", at=at)
    check_json_ld(found)
    return found


def states(found: dict[str, Any]) -> list[tuple[str, str, int | None]]:
    record = found["dpv:hasRecordOfActivity"]
    return [(one["@type"], one["dct:date"], one["cs:index"]) for one in record["dpv:hasConsentStatus"]]


def test_what_ran_out_was_not_taken_back_and_what_was_taken_back_did_not_run_out() -> None:
    given = ("dpv:ConsentGiven", "2026-02-01T09:00:05Z", 4)
    after = datetime(2026, 3, 1, tzinfo=UTC)
    assert states(made()) == [given]
    assert states(made(after - timedelta(seconds=1))) == [given]
    assert states(made(after)) == [given, ("dpv:ConsentExpired", "2026-03-01T00:00:00Z", None)]
    taken = [given, ("dpv:ConsentWithdrawn", "2026-02-03T09:00:05Z", 9)]
    assert states(made(revoked=True)) == states(made(after, revoked=True)) == taken


def test_an_event_names_the_record_that_shows_it() -> None:
    first, last = made(revoked=True)["dpv:hasRecordOfActivity"]["dpv:hasConsentStatus"]
    assert first["cs:evidenceSha256"] == sha256(canonical(GIVEN)).hexdigest()
    assert last["cs:evidenceSha256"] == sha256(canonical(TAKEN)).hexdigest()
    assert first["cs:log"] == "here.example/log"


@pytest.mark.parametrize(
    ("changes", "path", "value"),
    [
        ({"purposes": ["dpv:Advertising"]}, ("dpv:hasProcess", "dpv:hasPurpose"), ["dpv:Advertising"]),
        ({"jurisdictions": ["DE"]}, ("dpv:hasJurisdiction",), ["loc:DE"]),
        ({}, ("dpv:hasJurisdiction",), ["cs:anywhere"]),
        ({"approval": "none"}, ("dpv:hasProcess", "dpv:hasHumanInvolvement"), "dpv:HumanNotInvolved"),
        ({"preferences": ["guns"]}, ("dpv:hasProcess", "cs:preferences"), ["guns"]),
        ({"parent": "grant_" + "7" * 26}, ("dpv:hasProcess", "cs:parent"), "grant_" + "7" * 26),
        (
            {"grantee": {"type": "everyone", "id": "*"}},
            ("dpv:hasProcess", "dpv:hasRecipient"),
            {"@type": "dpv:Recipient", "cs:type": "everyone"},
        ),
        ({"language": "de"}, ("dct:language",), "de"),
    ],
    ids=str,
)
def test_the_receipt_follows_the_grant(changes: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    found: Any = made(**changes)["dpv:hasRecordOfActivity"]
    for step in path:
        found = found[step]
    assert found == value


def test_a_voice_is_biometric_data_and_a_face_is_not_named_without_one() -> None:
    def kinds(**changes: Any) -> list[str]:
        process = made(**changes)["dpv:hasRecordOfActivity"]["dpv:hasProcess"]
        return [one["@type"][0] for one in process["dpv:hasPersonalData"]]

    assert kinds(modalities=["voice"]) == ["pd:Biometric"]
    assert kinds(modalities=["face"]) == ["pd:FacialPrint", "pd:Picture"]
    assert kinds(modalities=["face", "voice"]) == ["pd:FacialPrint", "pd:Picture", "pd:Biometric"]
