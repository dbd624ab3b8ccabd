"""What the log says about itself, in the open: epochs, keys, policy sets, certificates.

An entry about a person is a hash (:mod:`ledger.log.leaf`). These leaves are about the service alone, so their
payload is the statement itself, and anyone who downloads the log can check it. A leaf is a COSE_Sign1 (RFC 9052,
EdDSA) in deterministic CBOR (RFC 8949 §4.2); in diagnostic notation:

    18([ << { 1: -8, 3: "application/vnd.countersign.epoch.v1+cbor", 4: kid,
              15: {1: log origin, 2: "urn:countersign:epoch:v1"} >>, {}, << payload >>, signature ])

    epoch     {1: number, 2: first leaf covered, 3: map root, 4: digest of the key table, 5: Unix time,
               6: assignments}        assignments = (tag[32] ‖ u16be (index - first))…, ascending by tag
    keys      {1: role, 2: new public key, 3: signature by the new key, 4: old public key, 5: signature by the old}
              4 and 5 are null for the first key of a role
    policies  {1: policy set hash, 2: Unix time, 3: share, 4: hash of the set in force, 5: signatures, 6: number}
              hashes in hex; share in ‰ of the apps; signatures = [[operator's public key, signature]…],
              ascending by key; 4 is null for the first change, which is number 0
    signing   which certificates sign clips, and which were taken back: :mod:`ledger.log.signing`

    signed by both keys    "countersign/key/v1" ‖ 00 ‖ CBOR [log origin, role, new public key, old public key]
    digest of the table    SHA-256 of CBOR [[role, public key, counts from this leaf on], …], oldest first
    signed by operators    SHA-256("countersign/policies/v1" ‖ 00 ‖ RFC 8785 of
                           {"number": …, "origin": …, "policies": …, "previous": …, "share": …})

**An epoch** is the last leaf of every published checkpoint. It gives each entry since the epoch before it its
tags, and carries the root of the map of all tags ever assigned (:mod:`ledger.log.prefixmap`), so that "there is
no tag t" can be proven under a checkpoint. **A key** changes by a statement that the old and the new one sign;
from the next leaf on the old one counts for nothing. (The first key of a role counts from its own leaf on.)

**A policy set** comes into force by a change that operators sign, so that the service alone can not swap the rules;
from the next leaf on it decides. With share 1000 it decides for every app; with less it is the *incoming* set, beside
the one in force; with 0 the incoming set is dropped. A signed change is good for one place only: it names the log,
the set in force there, and how many changes came before. Whose the keys are that sign, the log does not say: a
reader knows the operators from elsewhere. The first change of a log may be unsigned; there is nothing it replaces.
(Earlier versions wrote only {1, 2}, which puts nothing in force. That may stand before the first change.)
"""

import re
import struct
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ledger.canonical import canonical, challenge
from ledger.errors import LogError
from ledger.ids import Digest, LeafIndex
from ledger.keys import Rotated, SigningKey
from ledger.log.leaf import KID_BYTES, key_id

Kind = Literal["epoch", "keys", "policies", "signing"]
EPOCH_TAGS = 1_700
"""At most so many assignments in one epoch leaf, which must stay under 65,535 bytes."""
EPOCH_LEAVES = 1 << 16
LAST_SECOND = 253_402_300_799
"""Of the year 9999: what comes later no calendar prints."""

POLICIES_TAG = "countersign/policies/v1"
WHOLE = 1_000
"""The share of a policy set that decides for every app."""
SIGNERS = 32
"""At most so many operators sign one change of the policies."""

_ASSIGNMENT = struct.Struct(">32sH")
_KEY_TAG = b"countersign/key/v1\x00"
_HASH = re.compile(r"[0-9a-f]{64}")
_ANNOUNCED = {1, 2}
"""Fields of a `policies` leaf as it was before there were changes."""
_KEY_BYTES: Mapping[Rotated, int] = {"service": 32, "log": 32, "receipt": 65}


@dataclass(frozen=True, slots=True)
class Public:
    """A leaf about the service; its signature was verified if :func:`open_public` returned it."""

    kind: Kind
    kid: bytes
    payload: Mapping[int, Any]


class Assignment(NamedTuple):
    tag: bytes
    entry: LeafIndex


@dataclass(frozen=True, slots=True)
class Epoch:
    number: int
    first: LeafIndex
    map_root: Digest
    keys_digest: Digest
    time: int
    """Unix seconds; never less than the epoch's before it."""
    assignments: tuple[Assignment, ...] = field(repr=False)
    """Ascending by tag."""

    def payload(self) -> dict[int, Any]:
        packed = b"".join(tag + (entry - self.first).to_bytes(2, "big") for tag, entry in self.assignments)
        return {
            1: self.number,
            2: self.first,
            3: self.map_root,
            4: self.keys_digest,
            5: self.time,
            6: packed,
        }

    @classmethod
    def parse(cls, payload: Mapping[int, Any]) -> "Epoch":
        """The epoch in the payload of a leaf. Raises LogError."""
        numbers: list[Any] = [payload.get(key) for key in (1, 2, 5)]
        digests: list[Any] = [payload.get(key) for key in (3, 4)]
        packed: Any = payload.get(6)
        if (
            set(payload) != {1, 2, 3, 4, 5, 6}
            or any(type(number) is not int or not 0 <= number < 2**63 for number in numbers)
            or numbers[2] > LAST_SECOND
            or any(type(digest) is not bytes or len(digest) != 32 for digest in digests)
            or type(packed) is not bytes
            or len(packed) % _ASSIGNMENT.size
        ):
            raise LogError("log.epoch", "the epoch leaf is not in the form it should have")
        number, first, time = numbers
        assignments = tuple(
            Assignment(tag, LeafIndex(first + offset)) for tag, offset in _ASSIGNMENT.iter_unpack(packed)
        )
        return cls(number, first, digests[0], digests[1], time, assignments)


# --- keys ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeyChange:
    """One `keys` statement: `public` is the key of `role` from the leaf after this one on."""

    role: Rotated
    public: bytes
    """Ed25519: 32 raw bytes. P-256 (`receipt`): 65 bytes, uncompressed point."""
    proof: bytes = field(repr=False)
    old: bytes | None = None
    old_proof: bytes | None = field(default=None, repr=False)

    @classmethod
    def make(cls, role: Rotated, origin: str, new: SigningKey, old: SigningKey | None = None) -> "KeyChange":
        public, before = public_bytes(new), public_bytes(old) if old else None
        message = _key_message(origin, role, public, before)
        return cls(role, public, _sign(new, message), before, _sign(old, message) if old else None)

    def payload(self) -> dict[int, Any]:
        return {1: self.role, 2: self.public, 3: self.proof, 4: self.old, 5: self.old_proof}

    @classmethod
    def parse(cls, payload: Mapping[int, Any], origin: str) -> "KeyChange":
        """Both signatures verify over role, old and new key. Raises LogError.

        That `old` is the key in force is for :class:`KeyTable` to say.
        """
        values: list[Any] = [payload.get(key) for key in range(1, 6)]
        role, public, proof, old, old_proof = values
        if (
            set(payload) != {1, 2, 3, 4, 5}
            or role not in get_args(Rotated)
            or any(type(value) is not bytes for value in (public, proof))
            or any(value is not None and type(value) is not bytes for value in (old, old_proof))
            or (old is None) != (old_proof is None)
            or any(key is not None and len(key) != _KEY_BYTES[role] for key in (public, old))
            or any(signature is not None and len(signature) != 64 for signature in (proof, old_proof))
        ):
            raise LogError("log.keys", "the key statement is not in the form it should have")
        change = cls(role, public, proof, old, old_proof)
        message = _key_message(origin, role, public, old)
        _verify(public, proof, message)
        if old is not None:
            _verify(old, old_proof, message)
        return change


@dataclass(frozen=True, slots=True)
class KeyTable:
    """Every key the service ever had, oldest first: (role, public key, counts from this leaf on)."""

    rows: tuple[tuple[Rotated, bytes, int], ...] = ()

    def current(self, role: Rotated) -> bytes | None:
        return next((public for named, public, _ in reversed(self.rows) if named == role), None)

    def at(self, role: Rotated, index: int) -> bytes | None:
        """The one key of `role` that counts at leaf `index`."""
        held = [public for named, public, since in self.rows if named == role and since <= index]
        return held[-1] if held else None

    def changed(self, change: KeyChange, index: int) -> "KeyTable":
        """The table after the `keys` leaf at `index`. Raises LogError when it does not succeed the key in force."""
        if self.current(change.role) != change.old:
            raise LogError("log.keys", f"a new `{change.role}` key was not announced by the key in force")
        if any(public == change.public for _, public, _ in self.rows):
            raise LogError("log.keys", "a key that was in use before is brought back")
        # The first key of a role counts for its own leaf: there is no other to sign it.
        since = index if change.old is None else index + 1
        return KeyTable((*self.rows, (change.role, change.public, since)))

    def digest(self) -> Digest:
        return Digest(sha256(cbor2.dumps([list(row) for row in self.rows], canonical=True)).digest())

    def as_json(self) -> list[dict[str, Any]]:
        return [
            {"role": role, "public": b64encode(public).decode(), "since": since}
            for role, public, since in self.rows
        ]


def public_bytes(key: SigningKey) -> bytes:
    public = key.public_key()
    if isinstance(public, Ed25519PublicKey):
        return public.public_bytes_raw()
    return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _key_message(origin: str, role: str, public: bytes, old: bytes | None) -> bytes:
    return _KEY_TAG + cbor2.dumps([origin, role, public, old], canonical=True)


def _sign(key: SigningKey, message: bytes) -> bytes:
    if isinstance(key, Ed25519PrivateKey):
        return key.sign(message)
    r, s = utils.decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _verify(public: bytes, signature: bytes, message: bytes) -> None:
    try:
        if len(public) == 32:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
        else:
            point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
            r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
            point.verify(utils.encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError) as error:
        raise LogError("log.keys", "a signature in a key statement does not verify") from error


# --- policies -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InForce:
    """Which policy sets decide at one place in the log."""

    current: str
    incoming: str | None
    """Beside the current set, while it is rolled out."""
    share: int
    """Of the apps, in ‰, that the incoming set decides for; 0 without one."""
    changes: int = 1
    """How many there have been: the number of the next."""


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """One `policies` statement, in force from the leaf after it on."""

    policies: str
    """SHA-256 of the set, in hex."""
    time: int
    """Unix seconds, by the service's clock; the operators do not sign it."""
    share: int
    previous: str | None
    number: int
    signatures: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)
    """(operator's public key, Ed25519 signature), ascending by key."""

    @classmethod
    def first(cls, policies: str, *, at: datetime) -> "PolicyChange":
        """The change that begins a log's policies, and needs no operator."""
        return cls(policies, int(at.timestamp()), WHOLE, None, 0)

    @classmethod
    def following(cls, before: InForce, policies: str, *, share: int = WHOLE, at: datetime) -> "PolicyChange":
        """The next change, for operators to sign."""
        return cls(policies, int(at.timestamp()), share, before.current, before.changes)

    def statement(self, origin: str) -> bytes:
        """What an operator signs, by its :func:`~ledger.canonical.challenge` under `POLICIES_TAG`."""
        return canonical(
            {
                "number": self.number,
                "origin": origin,
                "policies": self.policies,
                "previous": self.previous,
                "share": self.share,
            }
        )

    def sign(self, origin: str, key: Ed25519PrivateKey) -> "PolicyChange":
        """The same change with one operator's signature more."""
        signature = key.sign(challenge(POLICIES_TAG, self.statement(origin)))
        return self.bearing(key.public_key().public_bytes_raw(), signature)

    def bearing(self, public: bytes, signature: bytes) -> "PolicyChange":
        """The same change with a signature made elsewhere, in the place of an earlier one by this key."""
        signatures = {**dict(self.signatures), public: signature}
        return replace(self, signatures=tuple(sorted(signatures.items())))

    def payload(self) -> dict[int, Any]:
        signatures = [list(pair) for pair in self.signatures]
        return {
            1: self.policies,
            2: self.time,
            3: self.share,
            4: self.previous,
            5: signatures,
            6: self.number,
        }

    @classmethod
    def parse(cls, payload: Mapping[int, Any], origin: str) -> "PolicyChange":
        """Every signature verifies, and all but the first change bear one. Raises LogError.

        That the change continues what is in force is for :meth:`after` to say.
        """
        values: list[Any] = [payload.get(key) for key in range(1, 7)]
        policies, time, share, previous, signatures, number = values
        if (
            set(payload) != {1, 2, 3, 4, 5, 6}
            or any(type(value) is not int for value in (time, share, number))
            or not (0 <= time <= LAST_SECOND and 0 <= share <= WHOLE and 0 <= number < 2**53)
            or not _is_hash(policies)
            or not (previous is None or _is_hash(previous))
            or not _are_signatures(signatures)
        ):
            raise _refused("the statement is not in the form it should have")
        if (previous is None) != (number == 0) or (previous is None and share != WHOLE):
            raise _refused("only the first change replaces no set, and it decides for every app at once")
        if previous == policies:
            raise _refused("the set it names is the one in force")
        change = cls(policies, time, share, previous, number, tuple((key, made) for key, made in signatures))
        # Unsigned, the service alone could swap the rules it answers to.
        if previous is not None and not change.signatures:
            raise _refused("no operator has signed it")
        digest = challenge(POLICIES_TAG, change.statement(origin))
        for public, signature in change.signatures:
            try:
                Ed25519PublicKey.from_public_bytes(public).verify(signature, digest)
            except (InvalidSignature, ValueError) as error:
                raise _refused("an operator's signature does not verify") from error
        return change

    def after(self, before: InForce | None) -> InForce:
        """What is in force after this change. Raises LogError when it was not meant for this place."""
        # The number: else a roll-out that was cancelled could be brought back by its old signatures.
        if (self.number, self.previous) != ((before.changes, before.current) if before else (0, None)):
            raise _refused("it was signed for another place in the log")
        if self.share == WHOLE:
            return InForce(self.policies, None, 0, self.number + 1)
        if before is None or (self.share == 0 and before.incoming != self.policies):
            raise _refused("the set it drops is not being rolled out")
        incoming = self.policies if self.share else None
        return InForce(before.current, incoming, self.share, self.number + 1)


def policies_after(before: InForce | None, payload: Mapping[int, Any], origin: str) -> InForce | None:
    """What is in force after a `policies` leaf. Raises LogError."""
    if set(payload) != _ANNOUNCED:
        return PolicyChange.parse(payload, origin).after(before)
    if before is not None:
        raise _refused("a set is only announced, after there were changes that operators sign")
    return None


def _is_hash(value: object) -> bool:
    return type(value) is str and _HASH.fullmatch(value) is not None


def _are_signatures(value: object) -> bool:
    if type(value) is not list or len(value) > SIGNERS:
        return False
    for pair in value:
        if type(pair) is not list or [type(one) for one in pair] != [bytes, bytes]:
            return False
        if [len(one) for one in pair] != [32, 64]:
            return False
    return all(left[0] < right[0] for left, right in pairwise(value))


def _refused(why: str) -> LogError:
    return LogError("log.policies", f"the change of policies does not count: {why}")


# --- leaves -------------------------------------------------------------------------------------------------


def make_public(kind: Kind, payload: Mapping[int, Any], origin: str, key: Ed25519PrivateKey) -> bytes:
    """The signed leaf. The same input gives the same bytes."""
    protected = _protected(kind, origin, key_id(key.public_key().public_bytes_raw()))
    encoded = cbor2.dumps(dict(payload), canonical=True)
    return _assemble(protected, encoded, key.sign(_to_be_signed(protected, encoded)))


def parse_public(leaf: bytes, origin: str) -> tuple[Public, bytes, bytes] | None:
    """(statement, signed bytes, signature), nothing verified; None for a leaf that is not of this form.

    A leaf that is of this form, but not in its one encoding, raises LogError.
    """
    kind = next((kind for kind in get_args(Kind) if _marker(kind) in leaf[:200]), None)
    if kind is None:
        return None
    try:
        protected, unprotected, encoded, signature = cbor2.loads(leaf).value
        payload, kid = cbor2.loads(encoded), cbor2.loads(protected)[4]
        expected = _protected(kind, origin, kid) if len(kid) == KID_BYTES else b""
        again = cbor2.dumps(payload, canonical=True)
    except Exception as error:
        # Of whatever kind: in a stranger's CBOR stand dates, decimals and depths that the decoder stumbles over.
        raise LogError("log.leaf", f"a `{kind}` leaf is not CBOR in the form it should have") from error
    # One encoding only, so that equal statements are equal bytes and nothing travels unsigned or unread.
    if (
        protected != expected
        or unprotected != {}
        or not isinstance(payload, dict)
        or again != encoded
        or type(signature) is not bytes
        or len(signature) != 64
        or _assemble(protected, encoded, signature) != leaf
    ):
        raise LogError("log.leaf", f"a `{kind}` leaf of the log `{origin}` is not in its one encoding")
    return Public(kind, kid, payload), _to_be_signed(protected, encoded), signature


def open_public(leaf: bytes, origin: str, service_keys: Iterable[bytes]) -> Public:
    """The statement in a leaf of the log `origin`, signed by one of `service_keys`. Raises LogError."""
    parsed = parse_public(leaf, origin)
    if parsed is None:
        raise LogError("log.leaf", "the leaf is not a statement of the service about itself")
    public, message, signature = parsed
    key = _by_kid(tuple(service_keys)).get(public.kid)
    if key is None:
        raise LogError("log.leaf", f"a `{public.kind}` leaf is signed by a key that is not in force")
    try:
        key.verify(signature, message)
    except InvalidSignature as error:
        raise LogError("log.leaf", f"the signature of a `{public.kind}` leaf does not verify") from error
    return public


@lru_cache(maxsize=64)
def _by_kid(keys: Sequence[bytes]) -> dict[bytes, Ed25519PublicKey]:
    return {key_id(key): Ed25519PublicKey.from_public_bytes(key) for key in keys}


def _marker(kind: Kind) -> bytes:
    return f"application/vnd.countersign.{kind}.v1+cbor".encode()


@lru_cache(maxsize=64)
def _protected(kind: Kind, origin: str, kid: bytes) -> bytes:
    headers = {1: -8, 3: _marker(kind).decode(), 4: kid, 15: {1: origin, 2: f"urn:countersign:{kind}:v1"}}
    return cbor2.dumps(headers, canonical=True)


def _assemble(protected: bytes, encoded: bytes, signature: bytes) -> bytes:
    return b"\xd2\x84" + cbor2.dumps(protected) + b"\xa0" + cbor2.dumps(encoded) + b"\x58\x40" + signature


def _to_be_signed(protected: bytes, encoded: bytes) -> bytes:
    return cbor2.dumps(["Signature1", protected, b"", encoded], canonical=True)
