"""Leaves: golden bytes, what a leaf hides, and every way of altering one."""

from hashlib import sha256

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from pycose.keys.curves import Ed25519
from pycose.keys.okp import OKPKey
from pycose.messages.sign1message import Sign1Message

from ledger.errors import LogError
from ledger.ids import Digest
from ledger.log.leaf import (
    CONTENT_TYPE,
    SUBJECT,
    Leaf,
    Opening,
    commit,
    commitments_preimage,
    key_id,
    kid_of,
    make_leaf,
    open_leaf,
    verify_opening,
)

ORIGIN = "ledger.example/likeness"
KEY = Ed25519PrivateKey.from_private_bytes(b"\x33" * 32)
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(b"\x44" * 32)
KEYS = [OTHER_KEY.public_key(), KEY.public_key()]
PUBLIC = [key.public_bytes_raw() for key in KEYS]
BODY = Digest(sha256(b'{"kind":"decision"}').digest())
DEPICTED = Opening(b"\x01" * 32, "depicted", 0, BODY)
REQUESTER = Opening(b"\x02" * 32, "requester", 7, BODY)
COMMITMENTS = [commit(DEPICTED), commit(REQUESTER)]
LEAF = make_leaf(COMMITMENTS, ORIGIN, KEY)
OPENED = open_leaf(LEAF, ORIGIN, KEYS)

GOLDEN_LEAF = (
    "d284587ba5012704486c8f8607dbe870770fa201776c65646765722e6578616d706c652f6c696b656e657373"
    "02781875726e3a636f756e7465727369676e3a656e7472793a76311901022f190103782f6170706c69636174"
    "696f6e2f766e642e636f756e7465727369676e2e636f6d6d69746d656e74732e76312b63626f72a05820745e"
    "a2d58c7cdadea4fdaa7a4d4aa52f9770b926edaa20c23e8422eeab168e7758402e551c3b42071dbddb71dcfa"
    "c622017008bfae118d1e6d299b548a5755c6538e64b6b531defca0d3aa986c9db40d7c5aa764965ef4921820"
    "532407e0a50d4b0f"
)

digests = st.binary(min_size=32, max_size=32).map(Digest)
openings = st.builds(
    Opening,
    secret=st.binary(min_size=32, max_size=32),
    label=st.sampled_from(["depicted", "requester", "operator", "service", "co_signer"]),
    n=st.integers(0, 2**64 - 1),
    value=digests,
)


# --- golden bytes -------------------------------------------------------------------------------------------


def test_commitments_are_the_golden_bytes() -> None:
    assert commit(DEPICTED).hex() == "a7f374c71cfe578c4da200ea54c643b13785ff53c41e77a895ee02c6f6360292"
    assert commit(REQUESTER).hex() == "b6871ecbdf0212843f17ed6e90487a7c26d032e7c193e1e3722489269137ce0b"


def test_a_commitment_is_the_hmac_the_module_describes() -> None:
    """Written out with hashes only, from RFC 2104."""
    message = b"\x02" * 32 + b"\x00\x09requester" + b"\x00" * 7 + b"\x07" + BODY
    key = b"countersign/commitment/v1".ljust(64, b"\x00")
    inner = sha256(bytes(b ^ 0x36 for b in key) + message).digest()
    assert commit(REQUESTER) == sha256(bytes(b ^ 0x5C for b in key) + inner).digest()


def test_the_leaf_is_the_golden_bytes() -> None:
    assert LEAF.hex() == GOLDEN_LEAF
    assert make_leaf(reversed(COMMITMENTS), ORIGIN, KEY) == LEAF, "order of the people must not show"


def test_the_leaf_is_canonical_cbor_with_exactly_these_headers() -> None:
    message = cbor2.loads(LEAF)
    assert message.tag == 18
    protected, unprotected, payload, signature = message.value
    assert cbor2.loads(protected) == {
        1: -8,
        4: key_id(PUBLIC[1]),
        15: {1: ORIGIN, 2: SUBJECT},
        258: -16,
        259: CONTENT_TYPE,
    }
    assert unprotected == {}
    assert payload == sha256(commitments_preimage(COMMITMENTS)).digest() == OPENED.payload_digest
    assert len(signature) == 64
    again = cbor2.dumps(cbor2.loads(protected), canonical=True)
    assert cbor2.dumps(cbor2.CBORTag(18, [again, {}, payload, signature]), canonical=True) == LEAF


def _pycose(leaf: bytes) -> Sign1Message:
    # pycose's decode() knows tagged values as lists and dicts, cbor2 now gives tuples and frozen ones. Its
    # reading of the protected headers and its Sig_structure are what is wanted, and start below that.
    tagged = cbor2.loads(leaf)
    assert tagged.tag == Sign1Message.cbor_tag
    protected, unprotected, payload, signature = tagged.value
    message = Sign1Message.from_cose_obj([protected, dict(unprotected), payload, signature], True)
    message.key = OKPKey(crv=Ed25519, x=KEY.public_key().public_bytes_raw())
    return message


def test_another_implementation_of_cose_verifies_the_leaf() -> None:
    assert _pycose(LEAF).verify_signature()
    assert _pycose(LEAF).phdr[258] == -16
    assert not _pycose(LEAF.replace(OPENED.payload_digest, BODY)).verify_signature()
    assert not _pycose(LEAF.replace(b"likeness", b"likenesz")).verify_signature()


# --- opening a leaf -----------------------------------------------------------------------------------------


def test_a_leaf_opens_to_what_was_signed() -> None:
    assert Leaf(Digest(sha256(commitments_preimage(COMMITMENTS)).digest()), key_id(PUBLIC[1])) == OPENED


def test_a_leaf_with_any_altered_bit_is_refused() -> None:
    """Every bit, not a sample: the few framing bytes outside the signature are where a gap would be."""
    for bit in range(len(LEAF) * 8):
        altered = bytearray(LEAF)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(LogError):
            open_leaf(bytes(altered), ORIGIN, KEYS)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused_not_a_crash(data: bytes) -> None:
    with pytest.raises(LogError):
        open_leaf(data, ORIGIN, KEYS)


@given(st.integers(0, len(LEAF) - 1))
def test_a_cut_leaf_is_refused(length: int) -> None:
    with pytest.raises(LogError):
        open_leaf(LEAF[:length], ORIGIN, KEYS)


def _signed(
    *, headers: object = None, unprotected: object = None, tag: int = 18, payload: bytes | None = None
) -> bytes:
    """A COSE_Sign1 whose signature is right, so that only its form can be refused."""
    protected = cbor2.dumps(headers or cbor2.loads(cbor2.loads(LEAF).value[0]), canonical=True)
    payload = payload or OPENED.payload_digest
    signature = KEY.sign(cbor2.dumps(["Signature1", protected, b"", payload]))
    return cbor2.dumps(cbor2.CBORTag(tag, [protected, unprotected or {}, payload, signature]))


def _headers(**changed: object) -> dict[int, object]:
    headers: dict[int, object] = dict(cbor2.loads(cbor2.loads(LEAF).value[0]))
    headers |= {int(name.removeprefix("h")): value for name, value in changed.items()}
    return {label: value for label, value in headers.items() if value is not None}


def test_the_forger_of_the_next_test_would_succeed_with_the_right_form() -> None:
    assert _signed() == LEAF == _signed(headers=_headers())


@pytest.mark.parametrize(
    "leaf",
    [
        LEAF + b"\x00",
        LEAF[1:],  # untagged
        b"\xd9\xd9\xf7" + LEAF,  # wrapped in self-described CBOR
        b"\xd8\x12" + LEAF[1:],  # tag 18 in two bytes: not the shortest
        LEAF.replace(b"\xd2\x84", b"\xd2\x9f", 1) + b"\xff",  # indefinite length
        LEAF.replace(b"\x58\x7b", b"\x59\x00\x7b", 1),
        _signed(tag=98),
        _signed(tag=17),
        _signed(unprotected={4: b"kid"}),
        _signed(unprotected={260: "https://ledger.example/person/alice"}),
        _signed(headers=_headers(h3="application/cbor")),  # RFC 9995: label 3 must be absent
        _signed(headers=_headers(h260="https://ledger.example/person/alice")),
        _signed(headers=_headers(h2=[258])),
        _signed(headers=_headers(h258=-44)),
        _signed(headers=_headers(h258=None)),
        _signed(headers=_headers(h259="application/json")),
        _signed(headers=_headers(h1=-7)),
        _signed(headers=_headers(h1=-19)),  # Ed25519 under its newer number: one spelling only
        _signed(headers=_headers(h15={1: "other.example", 2: SUBJECT})),
        _signed(headers=_headers(h15={1: ORIGIN, 2: "urn:countersign:person:alice"})),
        _signed(headers=_headers(h15={1: ORIGIN, 2: SUBJECT, 6: 1700000000})),
        _signed(payload=OPENED.payload_digest[:31]),
        _signed(payload=bytes(33)),
        b"",
    ],
)
def test_a_leaf_of_any_other_form_is_refused_though_its_signature_verifies(leaf: bytes) -> None:
    with pytest.raises(LogError, match="not a leaf"):
        open_leaf(leaf, ORIGIN, KEYS)


def test_a_leaf_of_another_log_is_refused() -> None:
    with pytest.raises(LogError, match="not a leaf of the log"):
        open_leaf(LEAF, "other.example", KEYS)


def test_a_leaf_by_a_strangers_key_is_refused() -> None:
    with pytest.raises(LogError, match="not the service's"):
        open_leaf(LEAF, ORIGIN, [OTHER_KEY.public_key()])
    with pytest.raises(LogError, match="not the service's"):
        open_leaf(LEAF, ORIGIN, [])


def test_a_key_id_copied_onto_another_signature_is_refused() -> None:
    forged = make_leaf(COMMITMENTS, ORIGIN, OTHER_KEY).replace(key_id(PUBLIC[0]), key_id(PUBLIC[1]))
    with pytest.raises(LogError, match="signature"):
        open_leaf(forged, ORIGIN, KEYS)


def test_the_claimed_key_is_read_without_a_signature_but_not_out_of_other_bytes() -> None:
    """Whoever replays a log of many entries finds a leaf by a retired key by this alone."""
    unsigned = LEAF[:-64] + bytes(64)
    assert kid_of(LEAF, ORIGIN) == kid_of(unsigned, ORIGIN) == key_id(PUBLIC[1])
    assert kid_of(make_leaf(COMMITMENTS, ORIGIN, OTHER_KEY), ORIGIN) == key_id(PUBLIC[0])
    for other in (LEAF + b"\x00", LEAF[:-1], LEAF[1:], b"", LEAF.replace(b"likeness", b"likenesz")):
        with pytest.raises(LogError, match="not a leaf of the log"):
            kid_of(other, ORIGIN)


# --- privacy ------------------------------------------------------------------------------------------------


@given(st.lists(openings, min_size=1, max_size=8, unique_by=lambda o: o.secret))
def test_every_leaf_of_a_log_looks_alike_whatever_it_is_about(about: list[Opening]) -> None:
    leaf = make_leaf(map(commit, about), ORIGIN, KEY)
    at = LEAF.index(OPENED.payload_digest)
    assert leaf[:at] == LEAF[:at]
    assert len(leaf) == len(LEAF)
    opened = open_leaf(leaf, ORIGIN, KEYS)
    for opening in about:
        verify_opening(opened, map(commit, about), opening, opening.value)


def test_an_entry_about_nobody_looks_like_any_other() -> None:
    service = make_leaf([commit(Opening(b"\x03" * 32, "service", 0, BODY))], ORIGIN, KEY)
    assert len(service) == len(LEAF)


def test_a_secret_never_shows_in_a_repr() -> None:
    assert "\\x01" not in repr(DEPICTED)
    assert "secret" not in repr(DEPICTED)


# Few values for each field, so that most pairs differ in one of them and some in none.
alike = st.builds(
    Opening,
    secret=st.sampled_from([b"\x01" * 32, b"\x02" * 32]),
    label=st.sampled_from(["a", "aa"]),
    n=st.sampled_from([0, 1, 2**64 - 1]),
    value=st.sampled_from([BODY, Digest(bytes(32))]),
)


@given(alike, alike)
def test_no_two_openings_share_a_commitment(one: Opening, other: Opening) -> None:
    assert (commit(one) == commit(other)) == (one == other)


# --- opening a commitment -----------------------------------------------------------------------------------


def test_each_person_can_open_their_own_commitment() -> None:
    verify_opening(OPENED, COMMITMENTS, DEPICTED, BODY)
    verify_opening(OPENED, reversed(COMMITMENTS), REQUESTER, BODY)


@pytest.mark.parametrize(
    "opening",
    [
        Opening(b"\x02" * 32, "depicted", 0, BODY),  # another person's secret
        Opening(b"\x01" * 32, "requester", 0, BODY),  # another role
        Opening(b"\x01" * 32, "depicted", 1, BODY),  # another number: an entry would be hidden
    ],
)
def test_an_altered_opening_is_refused(opening: Opening) -> None:
    with pytest.raises(LogError, match="opens none"):
        verify_opening(OPENED, COMMITMENTS, opening, BODY)


def test_an_opening_for_another_body_is_refused() -> None:
    other = Digest(sha256(b"{}").digest())
    with pytest.raises(LogError, match="another body"):
        verify_opening(OPENED, COMMITMENTS, DEPICTED, other)
    with pytest.raises(LogError, match="opens none"):
        verify_opening(OPENED, COMMITMENTS, Opening(b"\x01" * 32, "depicted", 0, other), other)


@pytest.mark.parametrize(
    "commitments", [COMMITMENTS[:1], [*COMMITMENTS, bytes(32)], [], COMMITMENTS * 2, [b"short"]]
)
def test_commitments_other_than_the_signed_ones_are_refused(commitments: list[bytes]) -> None:
    with pytest.raises(LogError):
        verify_opening(OPENED, commitments, DEPICTED, BODY)


# --- what cannot be made ------------------------------------------------------------------------------------


@pytest.mark.parametrize("commitments", [[], [bytes(31)], [bytes(32), bytes(32)]])
def test_no_leaf_without_distinct_commitments(commitments: list[bytes]) -> None:
    with pytest.raises(LogError):
        make_leaf(commitments, ORIGIN, KEY)


@pytest.mark.parametrize("origin", ["", "x" * 65_536])
def test_no_leaf_that_does_not_fit_the_log_or_names_none(origin: str) -> None:
    with pytest.raises(LogError):
        make_leaf(COMMITMENTS, origin, KEY)


def test_a_long_origin_still_round_trips() -> None:
    origin = "x" * 60_000
    assert open_leaf(make_leaf(COMMITMENTS, origin, KEY), origin, KEYS).kid == OPENED.kid


@pytest.mark.parametrize(
    ("secret", "label", "n", "value"),
    [
        (bytes(31), "depicted", 0, BODY),
        (bytes(32), "", 0, BODY),
        (bytes(32), "Depicted", 0, BODY),
        (bytes(32), "depicted\n", 0, BODY),
        (bytes(32), "\ud800", 0, BODY),
        (bytes(32), "x" * 65, 0, BODY),
        (bytes(32), "depicted", -1, BODY),
        (bytes(32), "depicted", 2**64, BODY),
        (bytes(32), "depicted", 0, BODY[:31]),
    ],
)
def test_no_opening_outside_its_fields(secret: bytes, label: str, n: int, value: Digest) -> None:
    with pytest.raises(LogError):
        Opening(secret, label, n, value)
