"""What the service says about itself in the open: golden bytes, one encoding only, and how keys may change."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from pycose.keys.curves import Ed25519
from pycose.keys.okp import OKPKey
from pycose.messages.sign1message import Sign1Message

from ledger.errors import LogError
from ledger.ids import Digest, LeafIndex
from ledger.keys import Rotated, SigningKey
from ledger.log.leaf import Opening, commit, key_id, make_leaf
from ledger.log.public import (
    EPOCH_TAGS,
    LAST_SECOND,
    Assignment,
    Epoch,
    KeyChange,
    KeyTable,
    Kind,
    PolicyChange,
    make_public,
    open_public,
    parse_public,
    public_bytes,
)

LAW = settings(deadline=None)
ORIGIN = "ledger.example/likeness"
KEY = Ed25519PrivateKey.from_private_bytes(b"\x33" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"\x44" * 32)
POINT = ec.derive_private_key(0x5555, ec.SECP256R1())
OTHER_POINT = ec.derive_private_key(0x6666, ec.SECP256R1())
PUBLIC = public_bytes(KEY)
EPOCH = Epoch(
    number=7,
    first=LeafIndex(40),
    map_root=Digest(b"\xaa" * 32),
    keys_digest=Digest(b"\xbb" * 32),
    time=1_772_366_400,
    assignments=(
        Assignment(b"\x01" * 32, LeafIndex(41)),
        Assignment(b"\x02" * 32, LeafIndex(40)),
        Assignment(b"\x03" * 32, LeafIndex(40)),
    ),
)
CHANGE = KeyChange.make("service", ORIGIN, OTHER, KEY)
POLICIES = {1: "ab" * 32, 2: 1_772_366_400}
SIGNING = {1: "used", 2: b"a certificate in DER", 3: 1_772_366_400}
LEAVES: dict[Kind, bytes] = {
    "epoch": make_public("epoch", EPOCH.payload(), ORIGIN, KEY),
    "keys": make_public("keys", CHANGE.payload(), ORIGIN, KEY),
    "policies": make_public("policies", POLICIES, ORIGIN, KEY),
    "signing": make_public("signing", SIGNING, ORIGIN, KEY),
}
KINDS = sorted(LEAVES)

GOLDEN_POLICIES = (
    "d2845875a4012703782c6170706c69636174696f6e2f766e642e636f756e7465727369676e2e706f6c69636965732e76"
    "312b63626f7204486c8f8607dbe870770fa201776c65646765722e6578616d706c652f6c696b656e65737302781b7572"
    "6e3a636f756e7465727369676e3a706f6c69636965733a7631a0584aa201784061626162616261626162616261626162"
    "616261626162616261626162616261626162616261626162616261626162616261626162616261626162616261626162"
    "021a69a42a4058404de9a6fac946cdecd8120a7f6fecc8dad21ef08cd6b8302ba35016648b19cd270a4b95d0eb195da4"
    "41614ce1a242ec2e4d055916799d19e2e617058a5d27d305"
)


# ── the bytes ─────────────────────────────────────────────────────────────────────────────────────────────


def test_an_epochs_payload_is_the_golden_bytes() -> None:
    packed = b"\x01" * 32 + b"\x00\x01" + b"\x02" * 32 + b"\x00\x00" + b"\x03" * 32 + b"\x00\x00"
    golden = (
        b"\xa6\x01\x07\x02\x18\x28\x03\x58\x20" + b"\xaa" * 32 + b"\x04\x58\x20" + b"\xbb" * 32
    ) + bytes.fromhex("051a69a42a40" + "065866")
    assert cbor2.dumps(EPOCH.payload(), canonical=True) == golden + packed


def test_the_policies_leaf_is_the_golden_bytes() -> None:
    assert LEAVES["policies"].hex() == GOLDEN_POLICIES
    assert make_public("policies", dict(reversed(POLICIES.items())), ORIGIN, KEY) == LEAVES["policies"]


def test_what_both_keys_sign_is_the_bytes_the_module_describes() -> None:
    message = b"countersign/key/v1\x00" + cbor2.dumps([ORIGIN, "service", public_bytes(OTHER), PUBLIC])
    OTHER.public_key().verify(CHANGE.proof, message)
    assert CHANGE.old_proof is not None
    KEY.public_key().verify(CHANGE.old_proof, message)


@pytest.mark.parametrize("kind", KINDS)
def test_a_leaf_is_canonical_cbor_with_exactly_these_headers(kind: Kind) -> None:
    leaf = LEAVES[kind]
    message = cbor2.loads(leaf)
    protected, unprotected, payload, signature = message.value
    assert (message.tag, unprotected, len(signature)) == (18, {}, 64)
    assert cbor2.loads(protected) == {
        1: -8,
        3: f"application/vnd.countersign.{kind}.v1+cbor",
        4: key_id(PUBLIC),
        15: {1: ORIGIN, 2: f"urn:countersign:{kind}:v1"},
    }
    for part in (protected, payload):
        assert cbor2.dumps(cbor2.loads(part), canonical=True) == part
    assert cbor2.dumps(cbor2.CBORTag(18, [protected, {}, payload, signature]), canonical=True) == leaf


@pytest.mark.parametrize("kind", KINDS)
def test_another_implementation_of_cose_verifies_a_leaf(kind: Kind) -> None:
    protected, unprotected, payload, signature = cbor2.loads(LEAVES[kind]).value
    for altered in (b"", b"\x00"):
        message = Sign1Message.from_cose_obj(
            [protected, dict(unprotected), payload + altered, signature], True
        )
        message.key = OKPKey(crv=Ed25519, x=PUBLIC)
        assert message.verify_signature() == (not altered)


@pytest.mark.parametrize("kind", KINDS)
def test_a_leaf_opens_to_what_was_signed(kind: Kind) -> None:
    opened = open_public(LEAVES[kind], ORIGIN, [public_bytes(OTHER), PUBLIC])
    assert (opened.kind, opened.kid) == (kind, key_id(PUBLIC))
    said = {"epoch": EPOCH.payload(), "keys": CHANGE.payload(), "policies": POLICIES, "signing": SIGNING}
    assert opened.payload == said[kind]


def test_an_entry_is_not_a_public_leaf_and_nothing_is_both() -> None:
    opening = Opening(b"\x01" * 32, "depicted", 0, Digest(bytes(32)))
    entry = make_leaf([commit(opening)], ORIGIN, KEY)
    assert parse_public(entry, ORIGIN) is None
    with pytest.raises(LogError):
        open_public(entry, ORIGIN, [PUBLIC])


# ── one encoding only ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", KINDS)
def test_a_leaf_with_any_altered_bit_is_refused(kind: Kind) -> None:
    leaf = LEAVES[kind]
    for bit in range(len(leaf) * 8):
        altered = bytearray(leaf)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(LogError):
            open_public(bytes(altered), ORIGIN, [PUBLIC])


def signed(
    headers: object = None, payload: bytes | None = None, unprotected: object = None, tag: int = 18
) -> bytes:
    """A COSE_Sign1 whose signature is right, so that only its form can be refused."""
    known, _, encoded, _ = cbor2.loads(LEAVES["policies"]).value
    protected = cbor2.dumps(headers or cbor2.loads(known), canonical=True)
    encoded = encoded if payload is None else payload
    signature = KEY.sign(cbor2.dumps(["Signature1", protected, b"", encoded]))
    return cbor2.dumps(cbor2.CBORTag(tag, [protected, unprotected or {}, encoded, signature]))


def headers(changed: Mapping[int, object]) -> dict[int, object]:
    known: dict[int, object] = dict(cbor2.loads(cbor2.loads(LEAVES["policies"]).value[0]))
    return {label: value for label, value in (known | dict(changed)).items() if value is not None}


def test_the_forger_of_the_next_test_would_succeed_with_the_right_form() -> None:
    assert signed() == signed(headers({})) == LEAVES["policies"]


LEAF = LEAVES["policies"]
TYPE = "application/vnd.countersign.policies.v1+cbor"


@pytest.mark.parametrize(
    "leaf",
    [
        LEAF + b"\x00",
        LEAF[:-1],
        LEAF[1:],
        b"\xd9\xd9\xf7" + LEAF,
        b"\xd8\x12" + LEAF[1:],
        LEAF.replace(b"\xd2\x84", b"\xd2\x9f", 1) + b"\xff",
        signed(tag=98),
        signed(unprotected={4: b"kid"}),
        signed(headers({1: -7})),
        signed(headers({1: -19})),
        signed(headers({2: [1]})),
        signed(headers({4: key_id(PUBLIC)[:7]})),
        signed(headers({4: None})),
        signed(headers({4: "8 letter"})),
        signed(headers({15: {1: "other.example", 2: "urn:countersign:policies:v1"}})),
        signed(headers({15: {1: ORIGIN, 2: "urn:countersign:epoch:v1"}})),
        signed(headers({15: {1: ORIGIN, 2: "urn:countersign:policies:v1", 6: 1}})),
        signed(headers({15: None})),
        signed(headers({258: -16})),
        signed(headers({3: TYPE + " "})),
        signed([TYPE]),
        signed(payload=b""),
        signed(payload=b"\x00"),
        signed(payload=b"\x81\x00"),
        signed(payload=b"\xf6"),
        signed(payload=cbor2.dumps(POLICIES) + b"\x00"),
        signed(payload=b"\xbf\x01\x61a\x02\x00\xff"),  # a map of indefinite length
        signed(payload=b"\xa2\x02\x00\x01\x61a"),  # keys out of order
        signed(payload=b"\xa2\x01\x00\x01\x00"),  # a key twice
        signed(payload=b"\xa1\x01\x18\x00"),  # a number longer than it need be
        signed(payload=b"\xa1\x01\x5f\x41a\xff"),
        signed(payload=b"\xa1\x01"),  # cut
        signed(payload=b"\xa1\x01\xc1\xfb\x7f\xf0" + bytes(6)),  # a date at infinity
        signed(payload=b"\xa1\x01\xc4\x82\x1b" + b"\xff" * 8 + b"\x01"),  # a decimal fraction of any length
        signed(payload=b"\xa1\x01" + b"\x81" * 5000 + b"\x00"),
        signed(payload=b"\xa1\x01\x5b" + b"\xff" * 8),
        signed(payload=b"\xa1\x01\xd8\x1d\x00"),  # a reference to what does not stand before it
    ],
)
def test_a_leaf_of_any_other_form_is_refused_though_its_signature_verifies(leaf: bytes) -> None:
    with pytest.raises(LogError):
        open_public(leaf, ORIGIN, [PUBLIC])


@LAW
@given(st.sampled_from(KINDS), st.data())
def test_a_leaf_cut_and_pasted_is_refused_and_not_a_crash(kind: Kind, data: st.DataObject) -> None:
    leaf = LEAVES[kind]
    start = data.draw(st.integers(0, len(leaf)))
    stop = data.draw(st.integers(start, min(len(leaf), start + 40)))
    other = leaf[:start] + data.draw(st.binary(max_size=40)) + leaf[stop:]
    if other != leaf:
        with pytest.raises(LogError):
            open_public(other, ORIGIN, [PUBLIC])


@LAW
@given(st.binary(max_size=60))
def test_no_payload_makes_the_reader_fall_over(payload: bytes) -> None:
    try:
        opened = open_public(signed(payload=payload), ORIGIN, [PUBLIC])
    except LogError:
        return
    assert cbor2.dumps(dict(opened.payload), canonical=True) == payload
    with pytest.raises(LogError):
        Epoch.parse(opened.payload)
    for kind in (KeyChange, PolicyChange):
        with pytest.raises(LogError):
            kind.parse(opened.payload, ORIGIN)


def test_another_log_or_another_key_opens_nothing() -> None:
    for kind, leaf in LEAVES.items():
        with pytest.raises(LogError, match=f"a `{kind}` leaf of the log `other.example`"):
            open_public(leaf, "other.example", [PUBLIC])
        for keys in ([], [public_bytes(OTHER)]):
            with pytest.raises(LogError, match="not in force"):
                open_public(leaf, ORIGIN, keys)
        copied = make_public(kind, cbor2.loads(cbor2.loads(leaf).value[2]), ORIGIN, OTHER)
        copied = copied.replace(key_id(public_bytes(OTHER)), key_id(PUBLIC), 1)
        with pytest.raises(LogError, match="signature"):
            open_public(copied, ORIGIN, [PUBLIC])


# ── epochs ────────────────────────────────────────────────────────────────────────────────────────────────

digests = st.binary(min_size=32, max_size=32).map(Digest)


@LAW
@given(
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**62),
    digests,
    digests,
    st.integers(0, LAST_SECOND),
    st.lists(st.tuples(digests, st.integers(0, 2**16 - 1)), max_size=20),
)
def test_an_epoch_reads_back_as_it_was_written(
    number: int, first: int, root: Digest, keys: Digest, time: int, tags: list[tuple[bytes, int]]
) -> None:
    assigned = tuple(sorted(Assignment(tag, LeafIndex(first + at)) for tag, at in tags))
    epoch = Epoch(number, LeafIndex(first), root, keys, time, assigned)
    leaf = make_public("epoch", epoch.payload(), ORIGIN, KEY)
    assert Epoch.parse(open_public(leaf, ORIGIN, [PUBLIC]).payload) == epoch


def test_the_fullest_epoch_fits_in_a_leaf() -> None:
    assigned = tuple(Assignment(n.to_bytes(32, "big"), LeafIndex(2**62 + 65_535)) for n in range(EPOCH_TAGS))
    largest = Epoch(2**62, LeafIndex(2**62), EPOCH.map_root, EPOCH.keys_digest, 2**62, assigned)
    assert len(make_public("epoch", largest.payload(), "x" * 255, KEY)) < 65_535


@pytest.mark.parametrize(
    "change",
    [
        {1: -1},
        {1: 2**63},
        {5: LAST_SECOND + 1},
        {1: True},
        {1: 7.0},
        {2: None},
        {2: -1},
        {3: b"\xaa" * 31},
        {3: "a" * 32},
        {4: b"\xbb" * 33},
        {4: []},
        {5: "now"},
        {5: -1},
        {6: b"\x00" * 33},
        {6: b"\x00" * 35},
        {6: []},
        {6: None},
        {7: 0},
        {"1": 7},
    ],
    ids=str,
)
def test_an_epoch_of_any_other_form_is_refused(change: dict[Any, object]) -> None:
    with pytest.raises(LogError):
        Epoch.parse(EPOCH.payload() | change)


@pytest.mark.parametrize("field", range(1, 7))
def test_an_epoch_that_lacks_a_field_is_refused(field: int) -> None:
    with pytest.raises(LogError):
        Epoch.parse({name: value for name, value in EPOCH.payload().items() if name != field})


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────

CHANGES: dict[Rotated, tuple[SigningKey, SigningKey]] = {
    "service": (OTHER, KEY),
    "log": (OTHER, KEY),
    "receipt": (OTHER_POINT, POINT),
}


@pytest.mark.parametrize("role", sorted(CHANGES))
def test_a_key_change_reads_back_as_it_was_made(role: Rotated) -> None:
    new, old = CHANGES[role]
    for before in (old, None):
        change = KeyChange.make(role, ORIGIN, new, before)
        leaf = make_public("keys", change.payload(), ORIGIN, KEY)
        assert KeyChange.parse(open_public(leaf, ORIGIN, [PUBLIC]).payload, ORIGIN) == change


@pytest.mark.parametrize("role", sorted(CHANGES))
def test_a_key_change_that_either_key_did_not_sign_is_refused(role: Rotated) -> None:
    new, old = CHANGES[role]
    said = KeyChange.make(role, ORIGIN, new, old).payload()
    first = KeyChange.make(role, ORIGIN, new).payload()
    third: SigningKey = (
        ec.generate_private_key(ec.SECP256R1()) if role == "receipt" else Ed25519PrivateKey.generate()
    )
    elsewhere = KeyChange.make(role, "other.example", new, old).payload()
    by_third = KeyChange.make(role, ORIGIN, third, old).payload()
    other_role: Rotated = "log" if role == "service" else "service"
    for altered in (
        said | {1: other_role},
        said | {1: "witness"},
        said | {1: None},
        said | {2: public_bytes(third)},
        said | {4: public_bytes(third)},
        said | {2: said[4], 4: said[2]},
        said | {3: said[5], 5: said[3]},
        said | {3: bytes(64)},
        said | {5: bytes(64)},
        said | {5: by_third[5]},
        said | {3: elsewhere[3], 5: elsewhere[5]},
        said | {3: said[3][:32] + b"\x00" + said[3][32:]},  # r and s are the same numbers
        said | {3: said[3] + b"\x00"},
        said | {4: None},
        said | {5: None},
        said | {4: None, 5: None},  # as if there had been no key before
        first | {4: public_bytes(old), 5: first[3]},
        said | {2: said[2][:-1]},
        said | {6: 0},
        {name: value for name, value in said.items() if name != 5},
    ):
        with pytest.raises(LogError):
            KeyChange.parse(altered, ORIGIN)
    with pytest.raises(LogError):
        KeyChange.parse(said, "other.example")


@pytest.mark.parametrize("role", sorted(CHANGES))
def test_a_role_has_one_kind_of_key(role: Rotated) -> None:
    """A log that puts another kind in force is found out, instead of stopping whoever reads on."""
    new, old = CHANGES["service" if role == "receipt" else "receipt"]
    for before in (None, old):
        with pytest.raises(LogError):
            KeyChange.parse(KeyChange.make(role, ORIGIN, new, before).payload(), ORIGIN)


@LAW
@given(st.lists(st.sampled_from(sorted(CHANGES)), max_size=12), st.data())
def test_the_table_says_which_key_counted_at_each_leaf(roles: list[Rotated], data: st.DataObject) -> None:
    table, at, history = KeyTable(), 0, dict[str, list[tuple[int, bytes]]]()
    for n, role in enumerate(roles):
        at += data.draw(st.integers(1, 5))
        public, known = n.to_bytes(32, "big"), history.setdefault(role, [])
        old = known[-1][1] if known else None
        table = table.changed(KeyChange(role, public, b"", old, b"" if known else None), at)
        known.append((at + 1 if known else at, public))
    for role in CHANGES:
        for index in range(at + 3):
            counted = [public for since, public in history.get(role, []) if since <= index]
            assert table.at(role, index) == (counted[-1] if counted else None)
        assert table.current(role) == table.at(role, 10**9)
    rows = [[role, public, since] for role, public, since in table.rows]
    assert table.digest() == sha256(cbor2.dumps(rows)).digest()
    assert [row["since"] for row in table.as_json()] == [since for *_, since in rows]


def test_a_key_follows_the_one_in_force_and_never_comes_back() -> None:
    a, b, c = (bytes([n]) * 32 for n in (1, 2, 3))
    first = KeyTable().changed(KeyChange("service", a, b"", None, None), 0)
    second = first.changed(KeyChange("service", b, b"", a, b""), 9)
    assert (second.at("service", 9), second.at("service", 10)) == (a, b)
    assert first.rows == second.rows[:1], "the table before was changed"
    for table, change in (
        (first, KeyChange("service", b, b"", None, None)),
        (first, KeyChange("service", c, b"", b, b"")),
        (first, KeyChange("log", b, b"", a, b"")),
        (first, KeyChange("log", a, b"", None, None)),  # one key in two roles
        (first, KeyChange("service", a, b"", a, b"")),
        (second, KeyChange("service", c, b"", a, b"")),  # by the retired key
        (second, KeyChange("service", a, b"", b, b"")),
    ):
        with pytest.raises(LogError) as error:
            table.changed(change, 20)
        assert error.value.reason.id == "log.keys"
