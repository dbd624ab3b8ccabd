"""What an entry puts in the public log: one signed statement that names nobody.

A leaf is a COSE_Sign1 (RFC 9052, tag 18, EdDSA) by a service key: a SCITT signed statement (RFC 9943) in the
form of a hash envelope (RFC 9995). In diagnostic notation, and in the only encoding accepted:

    18([ << { 1: -8, 4: kid,                                   / EdDSA; SHA-256(public key)[:8]      /
              15: {1: log origin, 2: "urn:countersign:entry:v1"},
              258: -16,                                        / payload is a SHA-256 …             /
              259: "application/vnd.countersign.commitments.v1+cbor" } >>,           / … of these bytes /
         {}, payload: 32 bytes, signature: 64 bytes ])

The payload is the hash of the sorted commitments, one for each person the entry is about:

    commitment = HMAC-SHA256("countersign/commitment/v1",
                             secret ‖ u16be len(label) ‖ label ‖ u64be n ‖ value)

`secret` is 32 random bytes; without it the commitment says nothing about label, number or body, and once it
is destroyed never will. Every leaf of a log has the same length and differs from the others only in `kid`,
payload and signature, so neither the people nor their number can be read from it. An entry about nobody (a
service start) carries one commitment labelled `service`.

Encoding is deterministic, so :func:`open_leaf` does not parse CBOR: it compares the leaf with the bytes
:func:`make_leaf` would have written. Trailing bytes, other tags, further headers and longer encodings are
refused because they are different bytes.
"""

import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.errors import LogError
from ledger.ids import Digest
from ledger.log.merkle import MAX_ENTRY_BYTES

CONTENT_TYPE = "application/vnd.countersign.commitments.v1+cbor"
SUBJECT = "urn:countersign:entry:v1"
"""The same for every entry: a subject per person or kind of event would link leaves to each other."""

_COMMITMENT_KEY = b"countersign/commitment/v1"
_LABEL = re.compile(r"[a-z][a-z_]{0,63}")
KID_BYTES = 8
_BSTR_32 = b"\x58\x20"
_BSTR_64 = b"\x58\x40"


@dataclass(frozen=True, slots=True)
class Opening:
    """What makes one commitment readable. Whoever holds it can show that an entry was about this person."""

    secret: bytes = field(repr=False)
    """32 random bytes, used for this commitment only."""
    label: str
    """The role: `depicted`, `requester`, `operator`, `service` …"""
    n: int
    """The how-manieth entry about this person, counted from 0."""
    value: Digest
    """SHA-256 of the canonical JSON body."""

    def __post_init__(self) -> None:
        if len(self.secret) != 32 or len(self.value) != 32:
            raise LogError("log.opening", "an opening's secret and value have 32 bytes each")
        if not 0 <= self.n < 2**64:
            raise LogError("log.opening", "an opening's number is out of range")
        if not _LABEL.fullmatch(self.label):
            raise LogError("log.opening", "an opening's label is one word of lowercase letters and `_`")


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf whose headers were verified; its signature as well, by :func:`open_leaf`."""

    payload_digest: Digest
    kid: bytes


def commit(opening: Opening) -> bytes:
    """The 32-byte commitment. Every field has a fixed or stated length, so no two openings share an input."""
    label = opening.label.encode()
    message = b"".join(
        (
            opening.secret,
            len(label).to_bytes(2, "big"),
            label,
            opening.n.to_bytes(8, "big"),
            opening.value,
        )
    )
    return hmac.digest(_COMMITMENT_KEY, message, "sha256")


def commitments_preimage(commitments: Iterable[bytes]) -> bytes:
    """The canonical CBOR array of a set of commitments: sorted, so that their order tells nothing."""
    ordered = sorted(commitments)
    if not ordered or any(len(c) != 32 for c in ordered):
        raise LogError("log.commitments", "an entry has at least one commitment of 32 bytes")
    if len(set(ordered)) != len(ordered):
        # Two people behind one commitment means one opening was used twice, which links them.
        raise LogError("log.commitments", "two commitments of one entry are equal")
    return cbor2.dumps(ordered, canonical=True)


def key_id(public: bytes) -> bytes:
    """Eight bytes that find the key with these raw public bytes."""
    return sha256(public).digest()[:KID_BYTES]


def make_leaf(commitments: Iterable[bytes], origin: str, key: Ed25519PrivateKey) -> bytes:
    """The signed leaf for one entry of the log named `origin`. The same input gives the same bytes."""
    kid = _kid_of_key(key)
    payload = sha256(commitments_preimage(commitments)).digest()
    signature = key.sign(_to_be_signed(origin, kid, payload))
    leaf = _head(origin, kid) + payload + _BSTR_64 + signature
    if len(leaf) > MAX_ENTRY_BYTES:
        raise LogError(
            "log.leaf", f"a leaf of `{len(leaf)}` bytes does not fit the log", "use a shorter origin"
        )
    return leaf


def open_leaf(leaf: bytes, origin: str, public_keys: Iterable[Ed25519PublicKey]) -> Leaf:
    """Verify a leaf of the log `origin`, signed by one of `public_keys`. Raises LogError.

    Says nothing about inclusion: whether the leaf is in the log is for a proof and a checkpoint to show.
    """
    # 1. The bytes are those make_leaf writes for this origin, whatever its key, payload and signature.
    kid = kid_of(leaf, origin)
    payload_at = len(_head(origin, kid))
    # 2. The key is one of the service's.
    key = {key_id(known.public_bytes_raw()): known for known in public_keys}.get(kid)
    if key is None:
        raise LogError("log.leaf", f"the leaf is signed by a key `{kid.hex()}` that is not the service's")
    # 3. Its signature covers the headers and the payload.
    payload = leaf[payload_at : payload_at + 32]
    try:
        key.verify(leaf[-64:], _to_be_signed(origin, kid, payload))
    except InvalidSignature as error:
        raise LogError("log.leaf", "the leaf's signature does not verify") from error
    return Leaf(Digest(payload), kid)


def kid_of(leaf: bytes, origin: str) -> bytes:
    """The id of the key that claims to have signed this leaf of the log `origin`. Raises LogError for other bytes."""
    start, end = _kid_at(origin)
    kid = leaf[start:end]
    head = _head(origin, kid) if len(kid) == KID_BYTES else b""
    if (
        not head
        or len(leaf) != len(head) + 32 + len(_BSTR_64) + 64
        or not leaf.startswith(head)
        or leaf[len(head) + 32 : -64] != _BSTR_64
    ):
        raise LogError("log.leaf", f"the bytes are not a leaf of the log `{origin}`")
    return kid


def vouched_leaf(leaf: bytes, origin: str) -> Leaf:
    """A leaf whose place in the log a proof has shown: the log vouches for it, whoever signed it. Raises LogError."""
    kid = kid_of(leaf, origin)
    payload_at = len(_head(origin, kid))
    return Leaf(Digest(leaf[payload_at : payload_at + 32]), kid)


def verify_opening(leaf: Leaf, commitments: Iterable[bytes], opening: Opening, body_digest: bytes) -> None:
    """That the entry behind `leaf` is about the holder of `opening` and has this body. Raises LogError."""
    known = list(commitments)
    if sha256(commitments_preimage(known)).digest() != leaf.payload_digest:
        raise LogError("log.opening", "these commitments are not the ones the leaf was signed over")
    if opening.value != body_digest:
        raise LogError("log.opening", "the opening is for another body")
    if commit(opening) not in known:
        raise LogError("log.opening", "the opening opens none of the leaf's commitments")


@lru_cache(maxsize=16)
def _kid_of_key(key: Ed25519PrivateKey) -> bytes:
    return key_id(key.public_key().public_bytes_raw())


# --- COSE ---------------------------------------------------------------------------------------------------

_KID_HEADER = b"\x01\x27\x04\x48"
"""`1: -8, 4: bstr of 8`: the first two header pairs in canonical order, right before the key id."""


@lru_cache(maxsize=64)
def _protected(origin: str, kid: bytes) -> bytes:
    headers = {1: -8, 4: kid, 15: {1: origin, 2: SUBJECT}, 258: -16, 259: CONTENT_TYPE}
    return cbor2.dumps(headers, canonical=True)


@lru_cache(maxsize=64)
def _kid_at(origin: str) -> tuple[int, int]:
    start = _head(origin, bytes(KID_BYTES)).index(_KID_HEADER) + len(_KID_HEADER)
    return start, start + KID_BYTES


@lru_cache(maxsize=64)
def _head(origin: str, kid: bytes) -> bytes:
    """All bytes before the payload: tag 18, array of 4, protected headers, no unprotected ones."""
    if not origin:
        raise LogError("log.leaf", "a leaf names the log it is for")
    return b"\xd2\x84" + cbor2.dumps(_protected(origin, kid)) + b"\xa0" + _BSTR_32


def _to_be_signed(origin: str, kid: bytes, payload: bytes) -> bytes:
    """The Sig_structure of RFC 9052 §4.4, without external data."""
    return cbor2.dumps(["Signature1", _protected(origin, kid), b"", payload], canonical=True)
