"""Receipts: golden bytes, what they show and what they do not, every way of altering one, and two outsiders.

The outsiders are pycose and npm's `@transmute/cose`, by one of the authors of RFC 9942. The latter runs in
`tests/interop/receipts/check.mjs`, installed by `make setup` from the lock file beside it.
"""

import hmac
import json
import shutil
import subprocess
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from pycose.keys.curves import P256
from pycose.keys.ec2 import EC2Key
from pycose.messages.sign1message import Sign1Message

from ledger.errors import LogError
from ledger.ids import Digest
from ledger.log.leaf import Opening, commit, make_leaf, open_leaf
from ledger.log.merkle import verify_inclusion
from ledger.log.receipt import VerifiedReceipt, attach, detach, make_receipt, thumbprint, verify_receipt

ISSUER = "ledger.example/likeness"
SUBJECT = "urn:countersign:entry:v1"
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of P-256."""


def p256(scalar: int) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(scalar, ec.SECP256R1())


KEY = p256(int.from_bytes(b"\x55" * 32, "big"))
OTHER_KEY = p256(int.from_bytes(b"\x66" * 32, "big"))
KEYS = [OTHER_KEY.public_key(), KEY.public_key()]
SERVICE = Ed25519PrivateKey.from_private_bytes(b"\x33" * 32)


def statement_about(n: int) -> bytes:
    opening = Opening(bytes([n]) * 32, "depicted", n, Digest(sha256(b"{}").digest()))
    return make_leaf([commit(opening)], ISSUER, SERVICE)


# --- the tree, once more and only from the definition (RFC 9162 §2.1.1 and §2.1.3.1) ------------------------


def h(*parts: bytes) -> bytes:
    return sha256(b"".join(parts)).digest()


def mth(entries: Sequence[bytes]) -> bytes:
    if len(entries) == 1:
        return h(b"\x00", entries[0])
    k = 1 << (len(entries) - 1).bit_length() - 1
    return h(b"\x01", mth(entries[:k]), mth(entries[k:]))


def path_to(m: int, entries: Sequence[bytes]) -> list[bytes]:
    if len(entries) == 1:
        return []
    k = 1 << (len(entries) - 1).bit_length() - 1
    if m < k:
        return [*path_to(m, entries[:k]), mth(entries[k:])]
    return [*path_to(m - k, entries[k:]), mth(entries[:k])]


def receipt_for(index: int, entries: Sequence[bytes]) -> bytes:
    return make_receipt(KEY, ISSUER, index, len(entries), path_to(index, entries), mth(entries))


ENTRIES = [statement_about(n) for n in range(7)]
INDEX = 4
STATEMENT = ENTRIES[INDEX]
PATH = path_to(INDEX, ENTRIES)
ROOT = Digest(mth(ENTRIES))
RECEIPT = receipt_for(INDEX, ENTRIES)
TRANSPARENT = attach(STATEMENT, [RECEIPT])


def verify(receipt: bytes, statement: bytes = STATEMENT) -> VerifiedReceipt:
    return verify_receipt(receipt, statement, KEYS, ISSUER)


# --- golden bytes -------------------------------------------------------------------------------------------

GOLDEN_RECEIPT = (
    "d2845860a401260458203ff6827ea74822b78289d8b2306527510e1ed9eadb70c167a8990a33cfb4f12c0fa2"
    "01776c65646765722e6578616d706c652f6c696b656e65737302781875726e3a636f756e7465727369676e3a"
    "656e7472793a763119018b01a119018ca12081586a8307048358200f02301c973a4e0e84383a292e703f890d"
    "279d7ebff043c6536012beb16434045820eac61162c1265dba3a766a23de58b93209ad10f20c41e14b58a3df"
    "294cba59ca5820b44db5f1d8a14c46912957338a7b21f9b97de403636bbd5d9a2f247b4fb28167f65840fd41"
    "932d03344d5b6233d4cae9616de7eaa71ea048c6deb2a19f49de4609e7d4679c50ff7805f7a4d9d914295d14"
    "b0de00addabc02e95e5e20d2db549c83874d"
)
GOLDEN_RANDOMISED = GOLDEN_RECEIPT[:-128] + (
    "429c87a1565efa199bfc9290493be6ffc21de9e644d60b03602f17c8ce684f80705c4ed82ad5fcb8f4e19895"
    "3a6fb1f077d77fe164adbf96d1692a63fd04bd6e"
)
"""The same receipt, its signature made with a random nonce."""


def test_the_receipt_is_the_golden_bytes() -> None:
    assert RECEIPT.hex() == GOLDEN_RECEIPT
    assert verify(bytes.fromhex(GOLDEN_RECEIPT)) == VerifiedReceipt(ROOT)


def test_a_recorded_signature_with_a_random_nonce_verifies_and_encodes_alike() -> None:
    recorded = bytes.fromhex(GOLDEN_RANDOMISED)
    assert recorded[:-64] == RECEIPT[:-64]
    assert recorded[-64:] != RECEIPT[-64:]
    assert verify(recorded) == VerifiedReceipt(ROOT)
    assert detach(attach(STATEMENT, [recorded])) == (STATEMENT, [recorded])


def test_the_receipt_has_exactly_the_headers_of_the_two_specifications() -> None:
    message = cbor2.loads(RECEIPT)
    assert message.tag == 18
    protected, unprotected, payload, signature = message.value
    assert cbor2.loads(protected) == {
        1: -7,
        4: thumbprint(KEY.public_key()),
        15: {1: ISSUER, 2: SUBJECT},
        395: 1,
    }
    ((label, proofs),) = unprotected.items()
    ((kind, (proof,)),) = proofs.items()
    assert (label, kind) == (396, -1)
    assert list(cbor2.loads(proof)) == [len(ENTRIES), INDEX, PATH]
    assert payload is None
    assert len(signature) == 64


def test_the_transparent_statement_is_the_statement_with_one_header() -> None:
    message = cbor2.loads(TRANSPARENT)
    assert message.tag == 18
    protected, unprotected, payload, signature = message.value
    bare = cbor2.loads(STATEMENT).value
    assert (protected, payload, signature) == (bare[0], bare[2], bare[3])
    assert {label: list(receipts) for label, receipts in unprotected.items()} == {394: [RECEIPT]}
    assert cbor2.dumps(message, canonical=True) == TRANSPARENT


def test_the_key_id_is_the_thumbprint_of_the_example_in_rfc_9679() -> None:
    x = 0x65EDA5A12577C2BAE829437FE338701A10AAA375E1BB5B5DE108DE439C08551D
    y = 0x1E52ED75701163F7F9E40DDF9F341B3DC9BA860AF7E0CA7CA7E9EECD0084D19C
    key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    assert thumbprint(key).hex() == "496bd8afadf307e5b08c64b0421bf9dc01528a344a43bda88fadd1669da253ec"


def test_a_coordinate_that_begins_with_zeros_keeps_its_32_bytes() -> None:
    small = next(k for k in range(1, 10_000) if p256(k).public_key().public_numbers().x < 1 << 248)
    point = p256(small).public_key().public_numbers()
    x, y = point.x.to_bytes(32, "big"), point.y.to_bytes(32, "big")
    encoded = b"\xa4\x01\x02\x20\x01\x21\x58\x20" + x + b"\x22\x58\x20" + y
    assert thumbprint(p256(small).public_key()) == sha256(encoded).digest()


def test_the_same_input_gives_the_same_bytes_so_that_no_nonce_is_ever_drawn() -> None:
    assert receipt_for(INDEX, ENTRIES) == RECEIPT


# --- what a receipt shows -----------------------------------------------------------------------------------

places = st.integers(2, 70).flatmap(lambda size: st.tuples(st.integers(0, size - 1), st.just(size)))


@given(places)
def test_a_receipt_leads_from_its_statement_to_the_root_by_definition(place: tuple[int, int]) -> None:
    index, size = place
    entries = [b"entry %d" % n for n in range(size)]
    entries[index] = STATEMENT
    root = mth(entries)
    assert verify(receipt_for(index, entries)).root == root
    verify_inclusion(h(b"\x00", STATEMENT), index, size, path_to(index, entries), root)


def test_of_a_verified_receipt_only_the_root_remains() -> None:
    """Whoever wants order must come with a checkpoint: here is nothing to be tempted by."""
    assert VerifiedReceipt.__slots__ == ("root",)


def test_size_and_index_can_be_altered_and_the_receipt_still_verifies_to_the_same_root() -> None:
    """Only the root is signed. Leaf 4 of 7 passes for leaf 32 of 36: never read order out of a receipt."""
    passed = [(i, size) for size in range(2, 40) for i in range(size) if _leads_to_root(i, size)]
    assert passed == [(4, 7), (4, 8), (8, 11), (8, 12), (16, 19), (16, 20), (32, 35), (32, 36)]


def _leads_to_root(index: int, size: int) -> bool:
    try:
        return verify(_signed(proof=[size, index, PATH])) == VerifiedReceipt(ROOT)
    except LogError:
        return False


def test_anyone_can_turn_a_signature_into_a_second_one_so_a_receipt_identifies_nothing() -> None:
    s = ORDER - int.from_bytes(RECEIPT[-32:], "big")
    twin = RECEIPT[:-32] + s.to_bytes(32, "big")
    assert twin != RECEIPT
    assert verify(twin) == VerifiedReceipt(ROOT)


# --- altered bytes ------------------------------------------------------------------------------------------


def _bits(data: bytes) -> list[bytes]:
    flipped = []
    for bit in range(len(data) * 8):
        altered = bytearray(data)
        altered[bit // 8] ^= 1 << bit % 8
        flipped.append(bytes(altered))
    return flipped


def test_a_receipt_with_any_altered_bit_is_refused_or_differs_in_size_or_index_only() -> None:
    """Every bit, not a sample. What survives stands in the two bytes no signature covers."""
    size_at = RECEIPT.index(b"\x83\x07\x04\x83") + 1
    survived = set()
    for altered in _bits(RECEIPT):
        try:
            verified = verify(altered)
        except LogError:
            continue
        assert verified == VerifiedReceipt(ROOT)
        survived |= {at for at, (a, b) in enumerate(zip(altered, RECEIPT, strict=True)) if a != b}
    assert survived <= {size_at, size_at + 1}


def test_a_statement_with_any_altered_bit_is_refused() -> None:
    for altered in _bits(STATEMENT):
        with pytest.raises(LogError):
            verify(RECEIPT, altered)


def test_a_transparent_statement_with_any_altered_bit_is_refused_or_shows_the_same() -> None:
    for altered in _bits(TRANSPARENT):
        try:
            statement, (receipt,) = detach(altered)
            open_leaf(statement, ISSUER, [SERVICE.public_key()])
            verified = verify(receipt, statement)
        except LogError:
            continue
        assert (statement, verified) == (STATEMENT, VerifiedReceipt(ROOT))


hash_bytes = st.binary(min_size=32, max_size=32)


@given(
    size=st.integers(-1, 12) | st.integers(0, 2**64 - 1),
    index=st.integers(-1, 12) | st.integers(0, 2**64 - 1),
    path=st.lists(st.sampled_from(PATH) | hash_bytes | st.binary(max_size=40), max_size=5)
    | st.permutations(PATH),
)
def test_no_proof_yields_another_root(size: int, index: int, path: list[bytes]) -> None:
    try:
        verified = verify(_signed(proof=[size, index, path]))
    except LogError:
        return
    assert verified == VerifiedReceipt(ROOT)
    assert path == PATH


@given(st.binary(max_size=300) | st.binary(max_size=40).map(lambda tail: RECEIPT[:60] + tail))
def test_arbitrary_bytes_are_refused_not_a_crash(data: bytes) -> None:
    for attempt in (
        lambda: verify(data),
        lambda: verify(RECEIPT, data),
        lambda: detach(data),
        lambda: detach(TRANSPARENT[:130] + data),
        lambda: attach(STATEMENT, [data]),
        lambda: attach(data, [RECEIPT]),
    ):
        with pytest.raises(LogError):
            attempt()


def test_cut_or_continued_bytes_are_refused() -> None:
    for length in range(len(RECEIPT)):
        with pytest.raises(LogError):
            verify(RECEIPT[:length])
    for length in range(len(TRANSPARENT)):
        with pytest.raises(LogError):
            detach(TRANSPARENT[:length])
    for bytes_ in (RECEIPT + b"\x00", RECEIPT + RECEIPT):
        with pytest.raises(LogError):
            verify(bytes_)
    with pytest.raises(LogError):
        detach(TRANSPARENT + b"\x00")


# --- forms that are signed rightly and refused all the same -------------------------------------------------

HEADERS: dict[Any, Any] = {1: -7, 4: thumbprint(KEY.public_key()), 15: {1: ISSUER, 2: SUBJECT}, 395: 1}
_ABSENT = object()


def _with(**changed: object) -> dict[Any, Any]:
    """The protected headers with `h15=…` in place of label 15."""
    headers = HEADERS | {int(name.removeprefix("h")): value for name, value in changed.items()}
    return {label: value for label, value in headers.items() if value is not _ABSENT}


def _signed(
    *,
    headers: dict[Any, Any] | bytes = HEADERS,
    proof: Sequence[object] | bytes = (len(ENTRIES), INDEX, PATH),
    unprotected: object = None,
    payload: bytes | None = None,
    tag: int = 18,
    key: ec.EllipticCurvePrivateKey = KEY,
) -> bytes:
    """A receipt with a right signature (and a random nonce) over `ROOT`, so that only its form can be refused."""
    protected = headers if isinstance(headers, bytes) else cbor2.dumps(headers, canonical=True)
    packed = proof if isinstance(proof, bytes) else cbor2.dumps(list(proof))
    message = cbor2.dumps(["Signature1", protected, b"", ROOT])
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    headers_outside = {396: {-1: [packed]}} if unprotected is None else unprotected
    return cbor2.dumps(cbor2.CBORTag(tag, [protected, headers_outside, payload, signature]))


PROTECTED = cbor2.dumps(HEADERS, canonical=True)
PROOF = cbor2.dumps([len(ENTRIES), INDEX, PATH])


def test_the_forger_of_the_next_test_would_succeed_with_the_right_form() -> None:
    forged = _signed()
    assert forged[:-64] == RECEIPT[:-64]
    assert verify(forged) == VerifiedReceipt(ROOT)


@pytest.mark.parametrize(
    "receipt",
    [
        # another algorithm's name over the same signature
        *(_signed(headers=_with(h1=alg)) for alg in (-8, -19, -9, -35, -36, -257, 4, 5, 6, 0, None, "ES256")),
        _signed(headers=_with(h1=_ABSENT)),
        _signed(headers=_with(h1=_ABSENT), unprotected={1: -7, 396: {-1: [PROOF]}}),
        # another data structure, or one named where no signature reaches
        _signed(headers=_with(h395=2)),
        _signed(headers=_with(h395=_ABSENT)),
        _signed(headers=_with(h395=_ABSENT), unprotected={395: 1, 396: {-1: [PROOF]}}),
        # further or missing protected headers
        _signed(headers=_with(h2=[395])),
        _signed(headers=_with(h3="application/cbor")),
        _signed(headers=_with(h33=b"certificate")),
        _signed(headers=_with(h394=[RECEIPT])),
        _signed(headers=_with(h4=_ABSENT)),
        _signed(headers=_with(h4=HEADERS[4][:8])),
        _signed(headers=_with(h15=_ABSENT)),
        _signed(headers=_with(h15={1: ISSUER})),
        _signed(headers=_with(h15={1: ISSUER, 2: "urn:countersign:person:alice"})),
        _signed(headers=_with(h15={1: ISSUER, 2: SUBJECT, 6: 1_700_000_000})),
        _signed(headers=_with(h15={1: ISSUER.encode(), 2: SUBJECT})),
        _signed(headers=_with(h15={1: "", 2: SUBJECT})),
        _signed(headers=b""),
        # what no signature covers
        _signed(unprotected={}),
        _signed(unprotected={4: b"kid", 396: {-1: [PROOF]}}),
        _signed(unprotected={396: {-1: [PROOF]}, 397: 0}),
        _signed(unprotected={396: {-1: [PROOF], -2: [PROOF]}}),
        _signed(unprotected={396: {-2: [PROOF]}}),
        _signed(unprotected={396: {-1: [PROOF, PROOF]}}),
        _signed(unprotected={396: {-1: []}}),
        _signed(unprotected={396: {-1: PROOF}}),
        _signed(unprotected={396: [PROOF]}),
        _signed(unprotected={-222: {-1: [PROOF]}}),
        # a root that is told is a root that someone does not compute
        _signed(payload=ROOT),
        _signed(payload=b""),
        # other frames
        _signed(tag=17),
        _signed(tag=98),
        RECEIPT[1:],
        b"\xd9\xd9\xf7" + RECEIPT,
        b"\xd8\x12" + RECEIPT[1:],
        cbor2.dumps(RECEIPT),
        RECEIPT[:-66] + b"\x58\x3f" + RECEIPT[-64:-1],
        RECEIPT[:-66] + b"\x58\x41" + RECEIPT[-64:] + b"\x00",
        # longer and indefinite encodings, and keys that stand twice
        RECEIPT.replace(b"\xd2\x84", b"\xd2\x9f", 1) + b"\xff",
        RECEIPT.replace(b"\x84\x58\x60", b"\x84\x59\x00\x60", 1),
        RECEIPT.replace(b"\xa1\x19\x01\x8c", b"\xbf\x19\x01\x8c", 1).replace(
            b"\xf6\x58\x40", b"\xff\xf6\x58\x40"
        ),
        RECEIPT.replace(b"\xa1\x19\x01\x8c", b"\xa1\x1a\x00\x00\x01\x8c", 1),
        RECEIPT.replace(b"\xa1\x20\x81", b"\xa1\x38\x00\x81", 1),
        RECEIPT.replace(b"\xf6\x58\x40", b"\xf7\x58\x40", 1),  # undefined
        RECEIPT.replace(b"\xa1\x19\x01\x8c", b"\xa2\x19\x01\x8c\xa0\x19\x01\x8c", 1),
        _signed(headers=b"\xa5\x01\x26" + PROTECTED[1:]),
        _signed(headers=b"\xa5\x01\x27" + PROTECTED[1:]),
        _signed(headers=b"\xa5" + PROTECTED[1:] + b"\x01\x27"),
        _signed(headers=b"\xbf" + PROTECTED[1:] + b"\xff"),
        _signed(headers=PROTECTED + b"\x00"),
        _signed(headers=b"\xa4\x01\x38\x06" + PROTECTED[3:]),
        _signed(headers=b"\xa4" + PROTECTED[-4:] + PROTECTED[1:-4]),
        _signed(proof=PROOF + b"\x00"),
        _signed(proof=b"\x9f" + PROOF[1:] + b"\xff"),
        _signed(proof=PROOF.replace(b"\x83\x07", b"\x83\x18\x07", 1)),
        _signed(proof=PROOF.replace(b"\x83\x07", b"\x83\xc2\x41\x07", 1)),  # a bignum
        _signed(proof=PROOF.replace(b"\x04\x83", b"\x04\x9f", 1) + b"\xff"),
        # proofs of no place, or with hashes of no length
        _signed(proof=[len(ENTRIES), INDEX, PATH, b""]),
        _signed(proof=[INDEX, len(ENTRIES), PATH]),
        _signed(proof=[float(len(ENTRIES)), INDEX, PATH]),
        _signed(proof=[len(ENTRIES), INDEX, PATH[:-1]]),
        _signed(proof=[len(ENTRIES), INDEX, [*PATH, bytes(32)]]),
        _signed(proof=[len(ENTRIES), INDEX, [PATH[0][:31], PATH[1][:1] + PATH[1], PATH[2]]]),
        _signed(proof=[1, 0, []]),
        _signed(proof=[0, 0, []]),
        _signed(proof=[2**63, 0, [bytes(32)] * 63]),
        _signed(proof=[2**64 - 1, INDEX, PATH]),
    ],
)
def test_a_receipt_of_any_other_form_is_refused_though_its_signature_verifies(receipt: bytes) -> None:
    assert receipt != RECEIPT
    with pytest.raises(LogError) as refused:
        verify(receipt)
    assert "does not show" not in str(refused.value), "refused for its form, before any signature"
    with pytest.raises(LogError):
        attach(STATEMENT, [receipt])


def test_a_receipt_signed_with_another_algorithm_is_refused() -> None:
    """A longer curve, an HMAC keyed with what everybody knows, and numbers no nonce could have given."""
    large = ec.derive_private_key(7, ec.SECP384R1())
    with pytest.raises(LogError, match="P-256"):
        make_receipt(large, ISSUER, INDEX, len(ENTRIES), PATH, ROOT)
    with pytest.raises(LogError, match="P-256"):
        verify_receipt(RECEIPT, STATEMENT, [large.public_key()], ISSUER)
    public = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    mac = hmac.digest(public, cbor2.dumps(["Signature1", PROTECTED, b"", ROOT]), "sha512")
    for signature in (mac, bytes(64), bytes(31) + b"\x01" + bytes(32), b"\xff" * 64):
        with pytest.raises(LogError, match="does not show"):
            verify(RECEIPT[:-64] + signature)


# --- another statement, key or issuer -----------------------------------------------------------------------


def test_a_receipt_for_another_statement_is_refused() -> None:
    for other in (*ENTRIES[:INDEX], *ENTRIES[INDEX + 1 :]):
        with pytest.raises(LogError, match="does not show"):
            verify(RECEIPT, other)
    with pytest.raises(LogError, match="not a signed statement"):
        verify(RECEIPT, TRANSPARENT)


def test_an_inner_node_is_not_shown_to_be_a_statement() -> None:
    """Two hashes that hash to a node of the tree would be a `leaf` nobody logged."""
    pair = h(b"\x00", ENTRIES[0]) + h(b"\x00", ENTRIES[1])
    with pytest.raises(LogError):
        verify(_signed(proof=[4, 0, path_to(0, ENTRIES)[1:]]), b"\x01" + pair)


def test_a_receipt_by_a_strangers_key_is_refused() -> None:
    for keys in ([], [OTHER_KEY.public_key()]):
        with pytest.raises(LogError, match="not the issuer's"):
            verify_receipt(RECEIPT, STATEMENT, keys, ISSUER)


def test_a_key_id_copied_onto_another_keys_signature_is_refused() -> None:
    with pytest.raises(LogError, match="does not show"):
        verify(_signed(key=OTHER_KEY))


def test_a_receipt_by_another_issuer_is_refused_though_the_key_is_known() -> None:
    other = make_receipt(KEY, "other.example", INDEX, len(ENTRIES), PATH, ROOT)
    with pytest.raises(LogError, match="not by"):
        verify(other)
    with pytest.raises(LogError, match="not by"):
        verify_receipt(RECEIPT, STATEMENT, KEYS, "other.example")
    assert verify_receipt(other, STATEMENT, KEYS, "other.example").root == ROOT


def test_a_receipt_over_another_root_than_its_path_leads_to_is_refused() -> None:
    with pytest.raises(LogError, match="does not show"):
        verify(make_receipt(KEY, ISSUER, INDEX, len(ENTRIES), PATH, bytes(32)))


@pytest.mark.parametrize(
    ("issuer", "index", "size", "path", "root"),
    [
        ("", INDEX, 7, PATH, ROOT),
        ("x" * 8193, INDEX, 7, PATH, ROOT),
        (ISSUER, 7, 7, PATH, ROOT),
        (ISSUER, -1, 7, PATH, ROOT),
        (ISSUER, 0, 0, [], ROOT),
        (ISSUER, 0, 2**63, [bytes(32)] * 63, ROOT),  # one more than a signed 64-bit integer holds
        (ISSUER, INDEX, 7, PATH[1:], ROOT),
        (ISSUER, INDEX, 7, [*PATH[1:], b"short"], ROOT),
        (ISSUER, INDEX, 7, PATH, ROOT[:31]),
    ],
)
def test_nothing_is_signed_that_could_not_verify(
    issuer: str, index: int, size: int, path: list[bytes], root: bytes
) -> None:
    with pytest.raises(LogError):
        make_receipt(KEY, issuer, index, size, path, root)


def test_the_only_leaf_of_a_log_has_to_wait_as_its_path_is_empty() -> None:
    """RFC 9942 §5.2: `inclusion-path: [ + bstr ]`."""
    with pytest.raises(LogError, match="no receipt yet"):
        make_receipt(KEY, ISSUER, 0, 1, [], mth([STATEMENT]))


# --- transparent statements ---------------------------------------------------------------------------------


@given(
    st.lists(st.sampled_from([receipt_for(INDEX, ENTRIES[:n]) for n in (5, 6, 7)]), min_size=1, max_size=30)
)
def test_detach_is_the_inverse_of_attach(receipts: list[bytes]) -> None:
    statement, detached = detach(attach(STATEMENT, receipts))
    assert (statement, detached) == (STATEMENT, receipts)
    for receipt in detached:
        verify(receipt, statement)


def _transparent(unprotected: object, *, statement: bytes = STATEMENT, tag: int = 18) -> bytes:
    protected, _, payload, signature = cbor2.loads(statement).value
    return cbor2.dumps(cbor2.CBORTag(tag, [protected, unprotected, payload, signature]))


def _statement(protected: bytes, payload: bytes | None = b"p" * 32) -> bytes:
    return cbor2.dumps(cbor2.CBORTag(18, [protected, {}, payload, bytes(64)]))


BARE = cbor2.loads(STATEMENT).value[0]


def test_the_smuggler_of_the_next_test_would_succeed_with_the_right_form() -> None:
    assert _transparent({394: [RECEIPT]}) == TRANSPARENT
    statement = _statement(BARE)
    assert detach(_transparent({394: [RECEIPT]}, statement=statement)) == (statement, [RECEIPT])


@pytest.mark.parametrize(
    "transparent",
    [
        # smuggled beside the receipts
        _transparent({4: b"another key", 394: [RECEIPT]}),
        _transparent({394: [RECEIPT], 396: {-1: [PROOF]}}),
        _transparent({394: [RECEIPT], "note": "reviewed and approved"}),
        _transparent({260: "https://ledger.example/person/alice", 394: [RECEIPT]}),
        TRANSPARENT.replace(b"\xa1\x19\x01\x8a", b"\xa2\x19\x01\x8a\x80\x19\x01\x8a", 1),  # the label twice
        # smuggled among them
        _transparent({394: []}),
        _transparent({394: RECEIPT}),
        _transparent({394: [cbor2.loads(RECEIPT)]}),
        _transparent({394: [RECEIPT, None]}),
        _transparent({394: [RECEIPT, b""]}),
        _transparent({394: [RECEIPT, RECEIPT + b"\x00"]}),
        _transparent({394: [TRANSPARENT]}),
        _transparent({394: [STATEMENT]}),
        _transparent({394: [_signed(headers=_with(h1=-8))]}),
        _transparent({394: {0: RECEIPT}}),
        _transparent({395: [RECEIPT]}),
        # nothing attached
        STATEMENT,
        RECEIPT,
        # other frames and encodings
        _transparent({394: [RECEIPT]}, tag=98),
        TRANSPARENT[1:],
        b"\xd9\xd9\xf7" + TRANSPARENT,
        b"\xd8\x12" + TRANSPARENT[1:],
        TRANSPARENT.replace(b"\xd2\x84", b"\xd2\x9f", 1) + b"\xff",
        TRANSPARENT.replace(b"\x84\x58\x7b", b"\x84\x59\x00\x7b", 1),
        TRANSPARENT.replace(b"\x19\x01\x8a\x81", b"\x1a\x00\x00\x01\x8a\x81", 1),
        TRANSPARENT.replace(b"\x19\x01\x8a\x81", b"\x19\x01\x8a\x98\x01", 1),
        TRANSPARENT.replace(b"\x19\x01\x8a\x81\x59", b"\x19\x01\x8a\x9f\x59", 1).replace(
            RECEIPT, RECEIPT + b"\xff"
        ),
        TRANSPARENT.replace(b"\x58\x20" + STATEMENT[-98:-66], b"\x59\x00\x20" + STATEMENT[-98:-66]),
        TRANSPARENT.replace(b"\x58\x20" + STATEMENT[-98:-66], b"\xf6"),  # the payload detached
        # the statement's own algorithm
        *(
            _transparent({394: [RECEIPT]}, statement=_statement(BARE.replace(b"\xa5\x01\x27", alg, 1)))
            for alg in (
                b"\xa5\x01\x26",
                b"\xa5\x01\x38\x22",
                b"\xa5\x01\x05",
                b"\xa5\x01\xf6",
                b"\xbf\x01\x27",
            )
        ),
        _transparent({394: [RECEIPT]}, statement=_statement(b"")),
        _transparent({394: [RECEIPT]}, statement=_statement(b"\xa0")),
    ],
)
def test_nothing_but_receipts_travels_unsigned(transparent: bytes) -> None:
    assert transparent != TRANSPARENT
    with pytest.raises(LogError):
        detach(transparent)


def test_receipts_are_attached_to_a_bare_statement_only() -> None:
    for statement, receipts in (
        (TRANSPARENT, [RECEIPT]),
        (RECEIPT, [RECEIPT]),
        (_transparent({4: b"kid"}), [RECEIPT]),
        (STATEMENT, []),
        (STATEMENT, [STATEMENT]),
        (STATEMENT + b"\x00", [RECEIPT]),
        (STATEMENT.replace(b"\x84\x58\x7b", b"\x84\x59\x00\x7b", 1), [RECEIPT]),
        (STATEMENT.replace(b"\xa0\x58\x20", b"\xa0\x59\x00\x20", 1), [RECEIPT]),
    ):
        with pytest.raises(LogError):
            attach(statement, receipts)


# --- outsiders ----------------------------------------------------------------------------------------------


def _pycose(receipt: bytes, root: bytes) -> Sign1Message:
    protected, _, _, signature = cbor2.loads(receipt).value
    message = Sign1Message.from_cose_obj([protected, {}, root, signature], True)
    point = KEY.public_key().public_numbers()
    message.key = EC2Key(crv=P256, x=point.x.to_bytes(32, "big"), y=point.y.to_bytes(32, "big"))
    return message


def test_pycose_verifies_the_receipt_over_the_detached_root() -> None:
    assert _pycose(RECEIPT, ROOT).verify_signature()
    assert _pycose(bytes.fromhex(GOLDEN_RANDOMISED), ROOT).verify_signature()
    assert not _pycose(RECEIPT, bytes(32)).verify_signature()
    assert not _pycose(RECEIPT.replace(b"likeness", b"likenesz"), ROOT).verify_signature()


TESTS = Path(__file__).resolve().parent
SCRIPT = TESTS / "interop" / "receipts" / "check.mjs"
INSTALLED = TESTS.parent / "var" / ".npm" / "receipts"

Answers = list[dict[str, Any]]
Npm = Callable[[list[dict[str, Any]]], Answers]


@pytest.fixture(scope="module")
def npm() -> Npm:
    """Answers of @transmute/cose, one for each request, in the version that is locked."""
    node = shutil.which("node")
    package = INSTALLED / "node_modules" / "@transmute" / "cose" / "package.json"
    if node is None or not package.is_file():
        pytest.fail("an outsider's check of the receipts needs node and one npm package: run `make setup`")
    lock = json.loads((SCRIPT.parent / "package-lock.json").read_text())
    locked = lock["packages"]["node_modules/@transmute/cose"]["version"]
    assert json.loads(package.read_text())["version"] == locked, "run `make setup` again"

    def ask(requests: list[dict[str, Any]]) -> Answers:
        lines = "".join(json.dumps(request, default=_base64) + "\n" for request in requests)
        done = subprocess.run(
            [node, SCRIPT, INSTALLED], input=lines.encode(), capture_output=True, check=True, timeout=60
        )
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(answers) == len(requests)
        return answers

    return ask


def _base64(value: bytes) -> str:
    return b64encode(value).decode()


def _url(value: int | bytes) -> str:
    raw = value if isinstance(value, bytes) else value.to_bytes(32, "big")
    return urlsafe_b64encode(raw).decode().rstrip("=")


def _jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    point = key.public_key().public_numbers()
    return {"kty": "EC", "crv": "P-256", "alg": "ES256", "x": _url(point.x), "y": _url(point.y)}


def _request(receipt: bytes, statement: bytes = STATEMENT) -> dict[str, Any]:
    return {"receipt": receipt, "statement": statement, "jwk": _jwk(KEY)}


@pytest.mark.slow
def test_npm_verifies_our_receipts_to_our_roots(npm: Npm) -> None:
    placed = [(index, ENTRIES[:size]) for size in range(2, len(ENTRIES) + 1) for index in range(size)]
    answers = npm([_request(receipt_for(index, entries), entries[index]) for index, entries in placed])
    assert answers == [{"root": _base64(mth(entries))} for _, entries in placed]


@pytest.mark.slow
def test_npm_refuses_what_was_altered_so_its_acceptance_means_something(npm: Npm) -> None:
    altered = [
        _request(RECEIPT[:-1] + bytes([RECEIPT[-1] ^ 1])),
        _request(RECEIPT.replace(PATH[1], bytes(32))),
        _request(RECEIPT.replace(b"likeness", b"likenesz")),
        _request(RECEIPT, ENTRIES[0]),
        _request(_signed(proof=[len(ENTRIES), INDEX - 1, PATH])),
        _request(_signed(headers=_with(h395=2))),
        _request(_signed(payload=ROOT)),
        _request(_signed(key=OTHER_KEY)),
        _request(RECEIPT) | {"jwk": _jwk(OTHER_KEY)},
    ]
    assert ["error" in answer for answer in npm(altered)] == [True] * len(altered)


@pytest.mark.slow
def test_npm_accepts_a_false_size_and_a_false_index_and_ours_does_not_tell_either(npm: Npm) -> None:
    """Its known weakness, and that of the format: the two numbers are not signed, so only the root is an answer."""
    lies = [(4, 8), (8, 11), (32, 36)]
    forged = [
        cbor2.dumps(
            cbor2.CBORTag(18, [PROTECTED, {396: {-1: [cbor2.dumps([size, i, PATH])]}}, None, RECEIPT[-64:]])
        )
        for i, size in lies
    ]
    assert npm([_request(receipt) for receipt in forged]) == [{"root": _base64(ROOT)}] * len(lies)
    assert [verify(receipt) for receipt in forged] == [VerifiedReceipt(ROOT)] * len(lies)
    assert not hasattr(verify(forged[0]), "size")
    assert not hasattr(verify(forged[0]), "index")


@pytest.mark.slow
def test_npm_accepts_what_travels_beside_the_proof_and_ours_does_not(npm: Npm) -> None:
    smuggled = _signed(unprotected={396: {-1: [PROOF]}, "note": "reviewed and approved"})
    assert npm([_request(smuggled)]) == [{"root": _base64(ROOT)}]
    with pytest.raises(LogError, match="not a receipt"):
        verify(smuggled)


@pytest.mark.slow
def test_npm_takes_our_transparent_statement_apart_and_names_our_key_as_we_do(npm: Npm) -> None:
    receipts = [RECEIPT, bytes.fromhex(GOLDEN_RANDOMISED)]
    parts, named = npm([{"transparent": attach(STATEMENT, receipts)}, {"jwk": _jwk(KEY)}])
    assert b64decode(parts["statement"]) == STATEMENT
    assert [b64decode(receipt) for receipt in parts["receipts"]] == receipts
    assert b64decode(named["thumbprint"]) == thumbprint(KEY.public_key())


@pytest.mark.slow
def test_npm_does_not_know_eddsa_which_is_why_receipts_are_signed_with_es256(npm: Npm) -> None:
    """The statement itself is for pycose to check: see the leaves."""
    x = _url(SERVICE.public_key().public_bytes_raw())
    jwk = {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": x}
    (answer,) = npm([{"statement": STATEMENT, "jwk": jwk}])
    assert "fully specified algorithms" in answer["error"]
