"""Grants and revocations: the bytes that are signed, everything that is refused, and what taking back does."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import Any, NoReturn

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.canonical import canonical, challenge, parse
from ledger.consent.grant import LATER, Grant, RevocationEffect, parse_grant, sentence
from ledger.consent.registry import SignedGrant, certificate, erase, record_grant, revoke
from ledger.consent.statement import (
    ENROLMENT_TAG,
    GRANT_TAG,
    SESSION_TAG,
    DeviceSignature,
    Signed,
    decode_bytes,
    device,
    encode_key,
    parse_enrolment,
    sign,
    verify,
)
from ledger.errors import InvalidStatement, LedgerError, LogError, NotFound
from ledger.ids import AppId, GrantId, PersonId, new_id
from ledger.log.merkle import leaf_hash
from ledger.log.note import TlogProof
from world import START, Someone, World, open_ledger, zulu

LAW = settings(deadline=None)
SEED = b"\x11" * 32
FIXED: dict[str, Any] = {
    "schema": "countersign/grant/v1",
    "grant_id": "grant_" + "0123456789abcdefghjkmnpqrs",
    "cameo_id": "cameo_" + "a" * 26,
    "grantor": "person_" + "b" * 26,
    "grantee": {"type": "app", "id": "app_" + "c" * 26},
    "modalities": ["face", "voice"],
    "purposes": ["dpv:NonCommercialPurpose", "dpv:Advertising"],
    "allowed_contexts": ["romantic"],
    "forbidden_contexts": ["political", "sexual"],
    "actions": ["generate", "edit"],
    "audience": "everyone",
    "max_uses": 12,
    "issued": "2026-03-01T12:00:00Z",
    "starts": "2026-03-02T00:00:00Z",
    "expires": "2026-04-02T08:30:00Z",
    "jurisdictions": ["*"],
    "approval": "none",
    "revocation_effect": "withdraw_all",
    "preferences": ["no alcohol"],
    "delegate_key": None,
    "parent": None,
    "notice": {"sha256": "d" * 64, "version": "2026-01"},
    "language": "en",
}
GOLDEN = (
    b'{"actions":["generate","edit"],"allowed_contexts":["romantic"],"approval":"none","audience":"everyone",'
    b'"cameo_id":"cameo_aaaaaaaaaaaaaaaaaaaaaaaaaa","delegate_key":null,"expires":"2026-04-02T08:30:00Z",'
    b'"forbidden_contexts":["political","sexual"],"grant_id":"grant_0123456789abcdefghjkmnpqrs",'
    b'"grantee":{"id":"app_cccccccccccccccccccccccccc","type":"app"},'
    b'"grantor":"person_bbbbbbbbbbbbbbbbbbbbbbbbbb","issued":"2026-03-01T12:00:00Z","jurisdictions":["*"],'
    b'"language":"en","max_uses":12,"modalities":["face","voice"],"notice":{"sha256":"'
    + b"d"
    * 64
    + b'","version":"2026-01"},"parent":null,"preferences":["no alcohol"],"purposes":["dpv:NonCommercialPurpose","dpv:Advertising"],'
    b'"revocation_effect":"withdraw_all","schema":"countersign/grant/v1","starts":"2026-03-02T00:00:00Z"}'
)
GOLDEN_CHALLENGE = "f68d6e8a30d8a75016af03ed3e30aff02f3c546b3c2f34cc6cf6e891b1c212bc"
GOLDEN_SIGNATURE = "RQJcEA6cpY39DmyZI27ZO3H8xybfQZjk5hQZ8d6imIRxOcy2R3upCjFz9s-x2a2HeIhn19vhwBptenCN4V5eBQ"

# One valid change of each field a person signs.
ALTERED: dict[str, Any] = {
    "grant_id": "grant_" + "z" * 26,
    "cameo_id": "cameo_" + "z" * 26,
    "grantor": "person_" + "z" * 26,
    "grantee": {"type": "everyone", "id": "*"},
    "modalities": ["face"],
    "purposes": ["dpv:CommercialPurpose"],
    "allowed_contexts": ["romantic", "violent"],
    "forbidden_contexts": ["political"],
    "actions": ["generate"],
    "audience": "requester",
    "max_uses": 13,
    "issued": "2026-03-01T12:00:01Z",
    "starts": "2026-03-01T00:00:00Z",
    "expires": "2026-04-03T08:30:00Z",
    "jurisdictions": ["DE"],
    "approval": "before_release",
    "revocation_effect": "stop_new",
    "preferences": [],
    "delegate_key": "q" * 42 + "Q",
    "parent": "grant_" + "y" * 26,
    "notice": {"sha256": "e" * 64, "version": "2026-01"},
    "language": "de",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One ledger for all of this file: who is in it, each test enrols itself."""
    home = tmp_path_factory.mktemp("consent")
    ledger, keyring = open_ledger(home)
    yield World(ledger, keyring, home)
    ledger.close()


@dataclass(frozen=True)
class Asking:
    """An owner who is about to grant something to an app."""

    world: World
    owner: Someone
    app: AppId

    def draft(self, **changes: Any) -> dict[str, Any]:
        return self.world.draft(self.owner, self.app, **changes)

    def signed(self, draft: Mapping[str, Any], tag: str = GRANT_TAG) -> DeviceSignature:
        return sign(tag, parse_grant(draft).signed_bytes(), self.owner.device)

    def record(self, draft: Mapping[str, Any], evidence: DeviceSignature | None = None) -> Grant:
        evidence = evidence or self.signed(draft)
        signed = SignedGrant(self.owner.person_id, draft, evidence)
        grant, _ = record_grant(self.world.ledger, signed, at=self.world.at)
        return grant

    def refused(self, draft: Mapping[str, Any], evidence: DeviceSignature | None = None) -> str:
        """The reason a grant is refused for, after which the log is what it was."""
        before = self.world.ledger.checkpoint()
        evidence = evidence or sign(GRANT_TAG, canonical(draft), self.owner.device)
        with pytest.raises(InvalidStatement) as error:
            self.record(draft, evidence)
        assert self.world.ledger.checkpoint() == before
        assert error.value.reason.remedy
        return error.value.reason.id


@pytest.fixture
def asking(world: World) -> Asking:
    return Asking(world, world.enrol(), world.app())


# ── the bytes that are signed ─────────────────────────────────────────────────────────────────────────────


def test_the_signed_bytes_challenge_and_signature_of_a_grant_never_change() -> None:
    signed = parse_grant(FIXED).signed_bytes()
    assert signed == GOLDEN
    assert signed == json.dumps(FIXED, sort_keys=True, separators=(",", ":")).encode()
    digest = challenge(GRANT_TAG, signed)
    assert digest == sha256(b"countersign/grant/v1\x00" + GOLDEN).digest()
    assert digest.hex() == GOLDEN_CHALLENGE
    evidence = sign(GRANT_TAG, signed, Ed25519PrivateKey.from_private_bytes(SEED))
    assert evidence.signature == GOLDEN_SIGNATURE
    who = device(evidence.public_key)
    assert verify(GRANT_TAG, signed, evidence, signers=[who]) == Signed(who, 0)


def test_no_field_of_a_grant_is_left_out_of_the_signature() -> None:
    fields = {info.alias or name for name, info in Grant.model_fields.items()}
    assert fields == {*ALTERED, "schema"} == set(FIXED)


@pytest.mark.parametrize("field", sorted(ALTERED))
def test_a_field_altered_after_signing_is_refused(field: str) -> None:
    evidence = sign(GRANT_TAG, parse_grant(FIXED).signed_bytes(), Ed25519PrivateKey.from_private_bytes(SEED))
    altered = parse_grant({**FIXED, field: ALTERED[field]}).signed_bytes()
    with pytest.raises(InvalidStatement) as error:
        verify(GRANT_TAG, altered, evidence, signers=[device(evidence.public_key)])
    assert error.value.reason.id == "statement.altered"


@LAW
@given(at=st.integers(0, 63), bit=st.integers(0, 7))
def test_a_signature_with_any_bit_flipped_is_refused(at: int, bit: int) -> None:
    evidence = sign(GRANT_TAG, GOLDEN, Ed25519PrivateKey.from_private_bytes(SEED))
    raw = bytearray(decode_bytes(evidence.signature, 64))
    raw[at] ^= 1 << bit
    forged = evidence.model_copy(update={"signature": encode_key(bytes(raw))})
    with pytest.raises(InvalidStatement):
        verify(GRANT_TAG, GOLDEN, forged, signers=[device(evidence.public_key)])


@pytest.mark.parametrize("spelling", ["{}=", "{}==", " {}", "{}\n", "{}A", "+{}", ""])
def test_a_key_or_signature_has_one_spelling(spelling: str) -> None:
    """A second spelling would be a second grant that says the same, or a key that matches no record."""
    evidence = sign(GRANT_TAG, GOLDEN, Ed25519PrivateKey.from_private_bytes(SEED))
    other = evidence.model_copy(update={"signature": spelling.format(evidence.signature)})
    with pytest.raises(InvalidStatement) as error:
        verify(GRANT_TAG, GOLDEN, other, signers=[device(evidence.public_key)])
    assert error.value.reason.id == "statement.encoding"


def test_the_unused_bits_of_a_base64_key_are_zero() -> None:
    key = encode_key(bytes(32))
    assert decode_bytes(key, 32) == bytes(32)
    with pytest.raises(InvalidStatement):
        decode_bytes(key[:-1] + "B", 32)


@pytest.mark.parametrize("tag", [SESSION_TAG, ENROLMENT_TAG])
def test_a_signature_over_one_kind_of_statement_is_not_taken_for_another(tag: str) -> None:
    private = Ed25519PrivateKey.from_private_bytes(SEED)
    key = encode_key(private.public_key())
    with pytest.raises(InvalidStatement) as error:
        verify(tag, GOLDEN, sign(GRANT_TAG, GOLDEN, private), signers=[device(key)])
    assert error.value.reason.id == "statement.altered"
    with pytest.raises(InvalidStatement):
        verify(GRANT_TAG, GOLDEN, sign(tag, GOLDEN, private), signers=[device(key)])


# ── who may sign what, and when ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "change",
    [
        {"max_uses": 4},
        {"audience": "everyone"},
        {"modalities": ["face", "voice"]},
        {"grantee": {"type": "everyone", "id": "*"}},
        {"grant_id": "grant_" + "0" * 26},
        {"notice": {"sha256": "1" * 64, "version": "1"}},
    ],
    ids=str,
)
def test_a_grant_widened_after_signing_is_not_recorded(asking: Asking, change: dict[str, Any]) -> None:
    draft = asking.draft()
    assert asking.refused({**draft, **change}, asking.signed(draft)) == "statement.altered"


def test_a_stranger_cannot_sign_for_an_owner(asking: Asking) -> None:
    draft, stranger = asking.draft(), Ed25519PrivateKey.generate()
    theirs = sign(GRANT_TAG, parse_grant(draft).signed_bytes(), stranger)
    assert asking.refused(draft, theirs) == "statement.wrong_signer"
    # … nor by putting the owner's key beside their own signature.
    claimed = theirs.model_copy(update={"public_key": encode_key(asking.owner.device.public_key())})
    assert asking.refused(draft, claimed) == "statement.altered"


@pytest.mark.parametrize("tag", [SESSION_TAG, ENROLMENT_TAG])
def test_a_login_cannot_be_replayed_as_a_grant(asking: Asking, tag: str) -> None:
    draft = asking.draft()
    assert asking.refused(draft, asking.signed(draft, tag)) == "statement.altered"


def test_a_recorded_grant_cannot_be_sent_again(asking: Asking) -> None:
    draft = asking.draft()
    grant = asking.record(draft)
    assert asking.refused(draft, asking.signed(draft)) == "grant.replayed"
    asking.world.revoke(asking.owner, grant.id)
    assert asking.refused(draft, asking.signed(draft)) == "grant.replayed"
    # … not even with other terms, freshly signed.
    wider = {**draft, "max_uses": 1000}
    assert asking.refused(wider, asking.signed(wider)) == "grant.replayed"


def test_nobody_grants_a_likeness_that_is_not_theirs(asking: Asking) -> None:
    other = asking.world.enrol()
    for change in (
        {"cameo_id": other.cameo_id},
        {"grantor": other.person_id},
        {"cameo_id": other.cameo_id, "grantor": other.person_id},
        {"cameo_id": new_id("cameo")},
    ):
        draft = asking.draft(**change)
        assert asking.refused(draft, asking.signed(draft)) == "grant.not_yours"


def test_someone_never_enrolled_grants_nothing(asking: Asking) -> None:
    draft = asking.draft()
    with pytest.raises(InvalidStatement) as error:
        record_grant(
            asking.world.ledger,
            SignedGrant(PersonId(new_id("person")), draft, asking.signed(draft)),
            at=asking.world.at,
        )
    assert error.value.reason.id == "grant.not_yours"


@pytest.mark.parametrize(
    ("born_on", "reason"),
    [
        (None, "grant.minor"),
        (date(2008, 3, 2), "grant.minor"),
        (date(2008, 3, 1), None),
        (date(2026, 3, 1), "grant.minor"),
        (date(2030, 1, 1), "grant.minor"),
    ],
)
def test_a_minor_or_someone_of_unknown_age_grants_nothing(
    world: World, born_on: date | None, reason: str | None
) -> None:
    assert START.date() == date(2026, 3, 1)
    asking = Asking(world, world.enrol(born_on), world.app())
    draft = asking.draft()
    if reason is None:
        asking.record(draft)
    else:
        assert asking.refused(draft, asking.signed(draft)) == reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"issued": timedelta(minutes=5)}, None),
        ({"issued": timedelta(minutes=5, seconds=1)}, "grant.clock"),
        ({"issued": timedelta(hours=-24)}, None),
        ({"issued": timedelta(hours=-24, seconds=-1)}, "grant.stale"),
        ({"starts": timedelta(days=-2), "expires": timedelta(0)}, "grant.expired"),
        ({"starts": timedelta(days=-2), "expires": timedelta(seconds=1)}, None),
        ({"starts": timedelta(days=9), "expires": timedelta(days=10)}, None),
    ],
    ids=str,
)
def test_a_grant_is_signed_now_and_ends_later(
    asking: Asking, change: dict[str, timedelta], reason: str | None
) -> None:
    draft = asking.draft(**{name: zulu(asking.world.at + span) for name, span in change.items()})
    if reason is None:
        asking.record(draft)
    else:
        assert asking.refused(draft, asking.signed(draft)) == reason


@pytest.mark.parametrize(
    "grantee",
    [{"type": "app", "id": "app_" + "0" * 26}, {"type": "person", "id": "person_" + "0" * 26}],
    ids=str,
)
def test_nothing_is_granted_to_somebody_nobody_knows(asking: Asking, grantee: dict[str, str]) -> None:
    draft = asking.draft(grantee=grantee)
    assert asking.refused(draft, asking.signed(draft)) == "grant.unknown_grantee"


@pytest.mark.parametrize(
    "change",
    [
        {"grantee": {"type": "group", "id": "mutuals"}},
        {"approval": "before_release"},
        {"jurisdictions": ["DE"]},
        {"preferences": ["no alcohol", "nothing with my old employer"]},
        {"delegate_key": encode_key(bytes(32))},
    ],
    ids=str,
)
def test_every_limit_that_a_grant_can_name_is_one_that_can_be_signed(
    asking: Asking, change: dict[str, Any]
) -> None:
    asking.record(asking.draft(**change))


# ── what is no grant at all ───────────────────────────────────────────────────────────────────────────────

LONG = "x" * 10_000
MALFORMED: list[tuple[str, Any]] = [
    ("schema", "countersign/grant/v2"),
    ("schema", None),
    ("grant_id", LONG),
    ("grant_id", ""),
    ("grant_id", "grant_" + "u" * 26),  # a letter identifiers do not have
    ("grant_id", "grant_" + "A" * 26),
    ("grant_id", "cameo_" + "a" * 26),
    ("grant_id", "grant_" + "a" * 26 + "\n"),
    ("grant_id", "grant_" + "٠" * 26),
    ("grant_id", 7),
    ("cameo_id", "../../etc/passwd"),
    ("grantor", ["person_" + "b" * 26]),
    ("grantee", {"type": "app", "id": "*"}),
    ("grantee", {"type": "everyone", "id": "app_" + "c" * 26}),
    ("grantee", {"type": "app", "id": LONG}),
    ("grantee", {"type": "everyone", "id": "*", "except": []}),
    ("grantee", {"type": "company", "id": "acme"}),
    ("grantee", "app_" + "c" * 26),
    ("modalities", []),
    ("modalities", ["body"]),
    ("modalities", "face"),
    ("purposes", []),
    ("purposes", ["dpv:Purpose"]),
    ("actions", []),
    ("actions", ["train"]),
    ("allowed_contexts", ["weddings"]),
    ("allowed_contexts", ["political"]),  # forbidden too
    ("forbidden_contexts", None),
    ("audience", "public"),
    ("max_uses", 0),
    ("max_uses", -1),
    ("max_uses", 1_000_001),
    ("max_uses", 10**400),
    ("max_uses", True),
    ("max_uses", 3.0),
    ("max_uses", float("nan")),
    ("max_uses", float("inf")),
    ("max_uses", "3"),
    ("max_uses", None),
    ("issued", "2026-03-01T12:00:00+00:00"),
    ("issued", "2026-03-01T12:00:00.000Z"),
    ("issued", "2026-03-01T12:00:00.5Z"),
    ("issued", "2026-03-01T12:00:00"),
    ("issued", "2026-03-01 12:00:00Z"),
    ("issued", "2026-3-1T12:00:00Z"),
    ("issued", "2026-03-01T12:00:00z"),
    ("issued", "2026-03-01T12:00:00Z "),
    ("issued", "٢٠٢٦-03-01T12:00:00Z"),
    ("issued", "2026-02-29T12:00:00Z"),
    ("issued", "2026-03-01T12:00:60Z"),
    ("issued", "2026-03-01T24:00:00Z"),
    ("issued", "0001-01-01T00:00:00Z"),
    ("issued", 1_772_366_400),
    ("issued", datetime(2026, 3, 1, 12, tzinfo=UTC)),
    ("expires", "2026-03-02T00:00:00Z"),  # when it starts
    ("expires", "2026-03-01T00:00:00Z"),
    ("expires", "2036-03-03T00:00:00Z"),  # over ten years
    ("expires", "9999-12-31T23:59:59Z"),
    ("jurisdictions", []),
    ("jurisdictions", ["DEU"]),
    ("jurisdictions", ["de"]),
    ("jurisdictions", ["DE\n"]),
    ("approval", "maybe"),
    ("preferences", "no alcohol"),
    ("preferences", ["x"]),
    ("preferences", ["no\nalcohol"]),
    ("preferences", ["x" * 121]),
    ("preferences", ["no alcohol"] * 11),
    ("delegate_key", ""),
    ("delegate_key", "q" * 42),
    ("delegate_key", "q" * 44),
    ("delegate_key", "q" * 42 + "\n"),
    ("parent", ""),
    ("parent", "cameo_" + "a" * 26),
    ("parent", "*"),
    ("revocation_effect", "never"),
    ("notice", {"sha256": "d" * 63, "version": "1"}),
    ("notice", {"sha256": "D" * 64, "version": "1"}),
    ("notice", {"sha256": "d" * 64 + "\n", "version": "1"}),
    ("notice", {"sha256": "d" * 64, "version": ""}),
    ("notice", {"sha256": "d" * 64, "version": LONG}),
    ("notice", {"sha256": "d" * 64, "version": "\ud800"}),
    ("language", "english"),
    ("language", "en\n"),
    ("perpetual", True),
    ("schema_", "countersign/grant/v1"),
]


@pytest.mark.parametrize(("field", "value"), MALFORMED, ids=lambda value: repr(value)[:40])
def test_a_malformed_field_is_refused_and_named(field: str, value: Any) -> None:
    with pytest.raises(InvalidStatement) as error:
        parse_grant({**FIXED, field: value})
    told = error.value.reason.sentence
    assert error.value.reason.id == "grant.malformed"
    assert f"`{field}" in told or "`grant`" in told
    assert len(told) < 400, "a refusal repeats what was sent"
    assert not any(word in told for word in ("Traceback", "class", "pydantic"))


def test_a_grant_neither_passes_on_itself_nor_is_passed_on_twice() -> None:
    for change in (
        {"parent": FIXED["grant_id"]},
        {"parent": "grant_" + "y" * 26, "delegate_key": "q" * 42 + "Q"},
    ):
        with pytest.raises(InvalidStatement):
            parse_grant({**FIXED, **change})


@pytest.mark.parametrize("field", sorted({*FIXED} - LATER))
def test_nothing_is_inferred_from_a_field_that_is_missing(field: str) -> None:
    with pytest.raises(InvalidStatement):
        parse_grant({name: value for name, value in FIXED.items() if name != field})


@pytest.mark.parametrize("field", sorted(LATER))
def test_a_field_that_grants_did_not_always_have_is_missing_in_old_ones_only(
    asking: Asking, field: str
) -> None:
    """What was signed before is read as it was signed; nothing is signed like that any more."""
    old = {name: value for name, value in FIXED.items() if name not in LATER}
    assert parse_grant(old).signed_bytes() == canonical(old)
    draft = {name: value for name, value in asking.draft().items() if name != field}
    assert asking.refused(draft, asking.signed(draft)) == "grant.malformed"


@pytest.mark.parametrize("value", [None, [], "grant", 7, b"{}", {1: 2}, [["schema", "countersign/grant/v1"]]])
def test_what_is_no_object_is_no_grant(value: object) -> None:
    with pytest.raises(InvalidStatement):
        parse_grant(value)


def test_a_malformed_grant_leaves_the_log_as_it_was(asking: Asking) -> None:
    draft = asking.draft(starts=FIXED["starts"], forbidden_contexts=["political"])
    evidence = asking.signed(draft)
    for field, value in MALFORMED:
        assert asking.refused({**draft, field: value}, evidence) == "grant.malformed"


@LAW
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from(sorted(FIXED)),
)
def test_no_value_in_a_field_makes_the_parser_fall_over(value: object, field: str) -> None:
    try:
        grant = parse_grant({**FIXED, field: value})
    except InvalidStatement:
        return
    # What is accepted is signed exactly as it was sent: nothing was coerced on the way.
    assert grant.signed_bytes() == canonical({**FIXED, field: value})


def test_an_enrolment_is_parsed_as_strictly() -> None:
    enrolment = {
        "schema": "countersign/enrolment/v1",
        "path": "vouched",
        "operator": "op",
        "display_name": "Someone",
        "device_key": encode_key(bytes(32)),
        "born_on": "1980-01-01",
        "portrait_sha256": "d" * 64,
        "issued": "2026-03-01T12:00:00Z",
    }
    assert parse_enrolment(enrolment).signed_bytes() == canonical(enrolment)
    for change in (
        {"path": "live"},
        {"born_on": "yesterday"},
        {"portrait_sha256": ""},
        {"display_name": ""},
        {"display_name": LONG},
        {"device_key": LONG},
        {"admin": True},
        {"schema": "countersign/grant/v1"},
        {"issued": "2026-03-01T12:00:00"},
        {"issued": "2026-03-01T12:00:00+01:00"},
        {"issued": 1_772_366_400},
        {"person_id": "person_" + "a" * 26},
        {"device_key": None},
    ):
        with pytest.raises(InvalidStatement):
            parse_enrolment({**enrolment, **change})


# ── canonical JSON ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"1",
        b"null",
        b'{"a":1',
        b'{"a":1,"a":1}',
        b'{"a":1,"a":2}',
        b'{"b":1,"a":2}',
        b'{"a": 1}',
        b'{"a":1}\n',
        b'{"a":1.0}',
        b'{"a":1.5}',
        b'{"a":[{"b":0.1}]}',
        b'{"a":1e2}',
        b'{"a":-0}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":9007199254740992}',
        b'{"a":-9007199254740992}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":"\\u0061"}',
        b'{"a":"\\ud800"}',
        b'{"\\ud800":1}',
        b'{"a":"\\/"}',
        b'{"a":"\xff"}',
        b'\xef\xbb\xbf{"a":1}',
        '{"a":1}'.encode("utf-16"),
        b'{"a":' * 100_000,
        b'{"a":' * 900 + b"1" + b"}" * 900 + b" ",
    ],
    ids=lambda data: repr(data[:30]),
)
def test_a_second_reading_of_the_same_statement_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidStatement):
        parse(data)


def test_whole_numbers_up_to_two_to_the_53_are_exact() -> None:
    most = 2**53 - 1
    assert parse(f'{{"a":{most},"b":-{most}}}'.encode()) == {"a": most, "b": -most}


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@LAW
@given(st.dictionaries(st.text(max_size=6), PLAIN, max_size=5))
def test_canonical_bytes_read_back_as_the_same_value(value: dict[str, Any]) -> None:
    data = canonical(value)
    assert parse(data) == value
    assert canonical(dict(reversed(value.items()))) == data


# ── the sentence a person reads ───────────────────────────────────────────────────────────────────────────


def test_the_sentence_says_what_is_signed() -> None:
    assert sentence(parse_grant(FIXED), "Film Club") == (
        "Film Club may make and edit up to 12 videos with your face and your voice, from 2 March 2026 until "
        "2 April 2026 08:30 UTC, for non-commercial use or for advertising, anyone may watch them, anywhere, "
        "romantic ones too, nothing political or sexual, you would rather not be shown with “no alcohol”, you "
        "are not asked about each one. You can take this back at any moment: nothing new is made from then "
        "on, and everything made with it is withdrawn."
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_uses": 1}, "1 video with"),
        ({"modalities": ["face"]}, "your face, not your voice"),
        ({"modalities": ["voice"]}, "your voice, not your face"),
        ({"modalities": ["voice", "face"]}, "your face and your voice"),
        ({"purposes": ["dpv:CommercialPurpose"]}, ", for commercial use,"),
        ({"audience": "requester"}, "only they may watch"),
        ({"allowed_contexts": []}, "anywhere, nothing political"),
        ({"forbidden_contexts": ["violent"]}, "nothing violent,"),
        ({"actions": ["generate", "remix", "edit", "extend"]}, "may make, remix, edit and extend"),
        ({"starts": "2026-03-09T00:00:00Z"}, "from 9 March 2026"),
        ({"expires": "2027-04-02T08:30:00Z"}, "until 2 April 2027"),
        ({"revocation_effect": "stop_new"}, "what is already out stays"),
        ({"preferences": []}, "nothing political or sexual, you are not asked"),
        ({"approval": "before_release"}, "you approve each one before it goes out"),
        ({"jurisdictions": ["DE"]}, "only in Germany"),
        ({"delegate_key": "q" * 42 + "Q"}, "may pass it on, only narrower"),
        ({"parent": "grant_" + "y" * 26}, "it passes on what you allowed"),
    ],
    ids=str,
)
def test_the_sentence_follows_every_term(change: dict[str, Any], words: str) -> None:
    before, after = sentence(parse_grant(FIXED), "X"), sentence(parse_grant({**FIXED, **change}), "X")
    assert words in after
    assert change == {"modalities": ["voice", "face"]} or words not in before


TERMS = {
    "modalities": st.lists(st.sampled_from(["face", "voice"]), min_size=1, max_size=2, unique=True),
    "purposes": st.lists(
        st.sampled_from(["dpv:NonCommercialPurpose", "dpv:CommercialPurpose", "dpv:Advertising"]),
        min_size=1,
        max_size=3,
        unique=True,
    ),
    "allowed_contexts": st.lists(st.sampled_from(["romantic", "violent"]), max_size=2, unique=True),
    "forbidden_contexts": st.lists(st.sampled_from(["political", "sexual"]), max_size=2, unique=True),
    "actions": st.lists(
        st.sampled_from(["generate", "remix", "edit", "extend"]), min_size=1, max_size=4, unique=True
    ),
    "audience": st.sampled_from(["requester", "everyone"]),
    "max_uses": st.integers(1, 4),
    "starts": st.sampled_from(["2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z"]),
    "expires": st.sampled_from(["2026-04-02T08:30:00Z", "2026-04-02T09:30:00Z"]),
    "revocation_effect": st.sampled_from(["stop_new", "withdraw_all"]),
    "preferences": st.lists(st.sampled_from(["no alcohol", "no cars"]), max_size=2, unique=True),
    "approval": st.sampled_from(["none", "before_release"]),
    "jurisdictions": st.sampled_from([["*"], ["DE"], ["DE", "FR"]]),
    "delegate_key": st.sampled_from([None, "q" * 42 + "Q"]),
}


@LAW
@given(st.fixed_dictionaries(TERMS), st.fixed_dictionaries(TERMS))
def test_grants_on_different_terms_never_read_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    def meaning(terms: dict[str, Any]) -> dict[str, Any]:
        return {name: set(value) if isinstance(value, list) else value for name, value in terms.items()}

    told = [sentence(parse_grant({**FIXED, **terms}), "Film Club") for terms in (one, other)]
    assert told[0] != told[1] or meaning(one) == meaning(other)


# ── taking it back ────────────────────────────────────────────────────────────────────────────────────────


def take_back(asking: Asking, grant_id: GrantId, effect: RevocationEffect | None = None) -> int:
    return revoke(asking.world.ledger, asking.owner.person_id, grant_id, effect, at=asking.world.at)


def effect_of(asking: Asking, grant_id: GrantId) -> str | None:
    with asking.world.ledger.reading() as tx:
        return tx.standing(asking.owner.person_id).grants[grant_id].effect


def test_taking_back_needs_no_signature_and_repeating_it_writes_nothing(asking: Asking) -> None:
    grant = asking.record(asking.draft())
    index = take_back(asking, grant.id)
    written = asking.world.ledger.checkpoint()
    assert take_back(asking, grant.id) == index
    assert take_back(asking, grant.id, "stop_new") == index
    assert asking.world.ledger.checkpoint() == written
    with asking.world.ledger.reading() as tx:
        held = tx.standing(asking.owner.person_id).grants[grant.id]
    assert (held.revoked_index, held.live(asking.world.at)) == (index, False)


def test_nobody_takes_back_or_finds_out_about_another_owners_grant(asking: Asking) -> None:
    grant = asking.record(asking.draft())
    other = asking.world.enrol()
    before = asking.world.ledger.checkpoint()
    told = []
    for grant_id in (grant.id, GrantId(new_id("grant"))):
        with pytest.raises(NotFound) as error:
            revoke(asking.world.ledger, other.person_id, grant_id, None, at=asking.world.at)
        told.append(str(error.value).replace(grant_id, "…"))
    assert told[0] == told[1], "the answer tells whether someone else's grant exists"
    assert asking.world.ledger.checkpoint() == before
    assert effect_of(asking, grant.id) is None


@pytest.mark.parametrize("grant_id", ["", LONG, "grant_'; DROP TABLE log_entry; --", "\x00"])
def test_taking_back_what_never_was_is_refused(asking: Asking, grant_id: str) -> None:
    with pytest.raises(NotFound):
        take_back(asking, GrantId(grant_id))


@pytest.mark.parametrize(
    ("signed", "asked", "effect"),
    [
        ("stop_new", None, "stop_new"),
        ("stop_new", "stop_new", "stop_new"),
        ("stop_new", "withdraw_all", "withdraw_all"),
        ("withdraw_all", None, "withdraw_all"),
        ("withdraw_all", "stop_new", "withdraw_all"),
        ("withdraw_all", "withdraw_all", "withdraw_all"),
    ],
)
def test_taking_back_never_does_less_than_the_grant_says(
    asking: Asking, signed: RevocationEffect, asked: RevocationEffect | None, effect: str
) -> None:
    grant = asking.record(asking.draft(revocation_effect=signed))
    take_back(asking, grant.id, asked)
    assert effect_of(asking, grant.id) == effect


def test_clips_can_still_be_withdrawn_after_a_grant_was_taken_back(asking: Asking) -> None:
    """Answering yes and leaving them out would be the worst of both."""
    grant = asking.record(asking.draft(revocation_effect="stop_new"))
    first = take_back(asking, grant.id)
    wider = take_back(asking, grant.id, "withdraw_all")
    assert wider > first
    assert effect_of(asking, grant.id) == "withdraw_all"
    # Nothing narrows it again, and the grant ended when it first did.
    assert take_back(asking, grant.id, "withdraw_all") == take_back(asking, grant.id, "stop_new") == first
    with asking.world.ledger.reading() as tx:
        held = tx.standing(asking.owner.person_id).grants[grant.id]
    assert (held.revoked_index, held.effect) == (first, "withdraw_all")


def test_clips_can_be_withdrawn_after_a_grant_is_over(asking: Asking) -> None:
    """Expired is not taken back: what was made is still out, and its owner may still call it in."""
    grant = asking.record(asking.draft(revocation_effect="stop_new"))
    late = grant.expires + timedelta(days=1)
    ledger, owner = asking.world.ledger, asking.owner.person_id
    with ledger.reading() as tx:
        assert not tx.standing(owner).grants[grant.id].live(late)
    index = revoke(ledger, owner, grant.id, "withdraw_all", at=late)
    with ledger.reading() as tx:
        held = tx.standing(owner).grants[grant.id]
    assert (held.revoked_index, held.withdrawn) == (index, True)


def test_a_revocation_survives_a_restart(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("reopened")
    ledger, keyring = open_ledger(home)
    world = World(ledger, keyring, home)
    owner = world.enrol()
    grant_id = world.grant(owner, world.app())
    world.revoke(owner, grant_id)
    ledger.close()
    ledger, _ = open_ledger(home)
    with ledger.reading() as tx:
        held = tx.standing(owner.person_id).grants[grant_id]
    ledger.close()
    assert held.revoked_index is not None
    assert not held.live(START)


def test_every_refusal_says_what_to_do_next(asking: Asking) -> None:
    draft = asking.draft(expires=zulu(asking.world.at), starts=zulu(asking.world.at - timedelta(days=1)))
    with pytest.raises(LedgerError) as error:
        asking.record(draft)
    assert set(error.value.reason.as_json()) == {"id", "reason", "remedy"}
    assert str(error.value)[0].islower()


def test_an_erasure_is_certified_even_while_too_few_witnesses_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it certifies is gone already: an answer that failed now could never be given again."""
    ada = world.enrol()
    erased = erase(world.ledger, ada.person_id, ada.cameo_id, at=world.at)

    def silent(*_: object, **__: object) -> NoReturn:
        raise LogError("log.not_yet", "the entry is not under a published checkpoint yet")

    with monkeypatch.context() as patch:
        patch.setattr(world.ledger, "published", silent)
        waiting = certificate(world.ledger, erased)
    later = certificate(world.ledger, erased)
    assert waiting["proof"] is None
    assert waiting == {**later, "proof": None}
    proof = TlogProof.parse(later["proof"].encode())
    assert proof.index == later["index"]
    proof.verify(leaf_hash(erased.leaf), world.ledger.verifier)
