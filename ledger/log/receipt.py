"""Receipts: one signature over a Merkle root shows that a signed statement is in the log.

A receipt of inclusion is a COSE_Sign1 by the log (RFC 9942 §5.2, with the headers RFC 9943 asks of a receipt)
for the data structure RFC9162_SHA256. In diagnostic notation, and in the only encoding accepted:

    18([ << { 1: -7, 4: kid,                                 / ES256; the key's RFC 9679 thumbprint /
              15: {1: issuer, 2: "urn:countersign:entry:v1"},
              395: 1 } >>,                                                       / RFC9162_SHA256 /
         { 396: { -1: [ << [ size, index, [ + sibling: 32 bytes ] ] >> ] } },
         null,                                     / detached: the root to which the path leads /
         signature: 64 bytes, r ‖ s ])

A transparent statement is a signed statement that carries receipts where its own signature does not reach:

    18([ protected, { 394: [ + receipt ] }, payload, signature: 64 bytes ])

What :func:`verify_receipt` returns was shown: a key of the issuer signed a root of a tree that has these very
statement bytes as a leaf. **Where in the tree, and how large it was, is not shown.** `size` and `index` stand
outside the signature and only say on which side each sibling goes; several pairs say the same (leaf 4 of 5,
leaf 1 of 2). So they are not returned, and a receipt is never used for order: order needs a checkpoint, which
signs its size. Nor is it shown who made the statement and what it says: that is for
:func:`~ledger.log.leaf.open_leaf`.

Encoding is deterministic. What is read is written again and compared, so trailing bytes, longer or indefinite
lengths, repeated keys, further headers and other algorithms are refused because they are different bytes. One
thing can differ: ECDSA lets anyone turn (r, s) into (r, n - s), so a receipt's bytes identify nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from ledger.errors import LogError
from ledger.ids import Digest
from ledger.log.leaf import SUBJECT
from ledger.log.merkle import HASH_BYTES, MAX_SIZE, leaf_hash, node_hash

MAX_ISSUER_CHARACTERS = 8192
"""As RFC 9943 bounds an `iss`."""

_RECEIPTS, _STRUCTURE, _PROOFS = 394, 395, 396
_RFC9162_SHA256, _INCLUSION = 1, -1
_COORDINATE_BYTES = 32
_UINT, _BSTR, _TSTR, _ARRAY = 0, 2, 3, 4
_BSTR_64 = b"\x58\x40"


@dataclass(frozen=True, slots=True)
class VerifiedReceipt:
    """From :func:`verify_receipt` only. The root is all that was signed."""

    root: Digest


def thumbprint(public_key: ec.EllipticCurvePublicKey) -> bytes:
    """The key's name in a receipt: its COSE Key Thumbprint, which anyone can compute (RFC 9679)."""
    if not isinstance(public_key.curve, ec.SECP256R1):
        raise LogError("log.receipt", f"a receipt is signed on P-256, not on `{public_key.curve.name}`")
    point = public_key.public_numbers()
    x, y = (n.to_bytes(_COORDINATE_BYTES, "big") for n in (point.x, point.y))
    return sha256(cbor2.dumps({1: 2, -1: 1, -2: x, -3: y}, canonical=True)).digest()


def make_receipt(
    key: ec.EllipticCurvePrivateKey, issuer: str, index: int, size: int, path: Sequence[bytes], root: bytes
) -> bytes:
    """Sign `root`, and say how leaf `index` of `size` leads there. The same input gives the same bytes.

    The leaf is not asked for, so nothing is checked about it. The caller signs a root of its own log only,
    and not before the entries under it are durable.
    """
    kid = thumbprint(key.public_key())
    unsigned = _Receipt(kid, issuer, size, index, tuple(path), bytes(64))
    if len(root) != HASH_BYTES:
        raise LogError("log.hash", f"a hash has 32 bytes, not `{len(root)}`")
    # Deterministic (RFC 6979): a nonce that repeats would give the key away, and none is drawn.
    der = key.sign(_to_be_signed(issuer, kid, root), ec.ECDSA(SHA256(), deterministic_signing=True))
    r, s = (n.to_bytes(_COORDINATE_BYTES, "big") for n in decode_dss_signature(der))
    return replace(unsigned, signature=r + s).encode()


def verify_receipt(
    receipt: bytes, statement: bytes, keys: Iterable[ec.EllipticCurvePublicKey], issuer: str
) -> VerifiedReceipt:
    """That `issuer`, by one of its `keys`, signed a tree with `statement` in it. Raises LogError."""
    # 1. The bytes are those make_receipt writes, whatever its issuer, key, proof and signature.
    parsed = _Receipt.parse(receipt)
    _frame(statement)
    # 2. The issuer is the one asked about, the key one of its own. The header picks the key, never trusts it.
    if parsed.issuer != issuer:
        raise LogError("log.receipt", f"the receipt is not by `{issuer}`")
    key = {thumbprint(known): known for known in keys}.get(parsed.kid)
    if key is None:
        raise LogError("log.receipt", f"the receipt is signed by a key `{parsed.kid.hex()}` not the issuer's")
    # 3. The path leads from these bytes to some root.
    root = parsed.root(leaf_hash(statement))
    # 4. The signature is over that root: until here nothing in the receipt deserved belief.
    halves = parsed.signature[:_COORDINATE_BYTES], parsed.signature[_COORDINATE_BYTES:]
    der = encode_dss_signature(*(int.from_bytes(half, "big") for half in halves))
    try:
        key.verify(der, _to_be_signed(issuer, parsed.kid, root), ec.ECDSA(SHA256()))
    except InvalidSignature as error:
        raise LogError("log.receipt", "the receipt does not show that the statement is in the log") from error
    return VerifiedReceipt(root)


# --- transparent statements ---------------------------------------------------------------------------------


def attach(statement: bytes, receipts: Sequence[bytes]) -> bytes:
    """The transparent statement. Form is checked here, not signatures. Raises LogError."""
    before, after = _frame(statement)
    if not receipts:
        raise LogError("log.transparent", "a transparent statement carries at least one receipt")
    for receipt in receipts:
        _Receipt.parse(receipt)
    return before + cbor2.dumps({_RECEIPTS: list(receipts)}, canonical=True) + after


def detach(transparent: bytes) -> tuple[bytes, list[bytes]]:
    """The inverse of :func:`attach`: the statement as it stands in the log, and its receipts, both unverified.

    Whatever else an unprotected header held would be read by someone as part of what was signed or logged,
    and is neither: only the receipts may stand there. Raises LogError.
    """
    reader = _Reader(transparent, "a transparent statement")
    before = _statement_head(reader)
    reader.expect(b"\xa1\x19\x01\x8a")
    receipts = [reader.string(_BSTR) for _ in range(reader.head(_ARRAY))]
    statement = before + b"\xa0" + reader.rest()
    if attach(statement, receipts) != transparent:
        raise reader.refusal()
    return statement, receipts


def _frame(statement: bytes) -> tuple[bytes, bytes]:
    """What stands before and after the empty unprotected header of a signed statement."""
    reader = _Reader(statement, "a signed statement")
    before = _statement_head(reader)
    reader.expect(b"\xa0")
    payload = reader.string(_BSTR)
    reader.expect(_BSTR_64)
    after = cbor2.dumps(payload) + _BSTR_64 + reader.take(64)
    if before + b"\xa0" + after != statement:
        raise reader.refusal()
    return before, after


def _statement_head(reader: "_Reader") -> bytes:
    """Tag 18, array of 4, and a protected header that begins with `1: -8`, EdDSA.

    The rest of the header is compared when the leaf is opened. The algorithm is looked at here as well, so
    that what was signed in another way, or not at all, is never passed on as a statement.
    """
    reader.expect(b"\xd2\x84")
    protected = reader.string(_BSTR)
    if not b"\xa1" <= protected[:1] <= b"\xb7" or protected[1:3] != b"\x01\x27":
        raise reader.refusal()
    return b"\xd2\x84" + cbor2.dumps(protected)


# --- COSE ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Receipt:
    """What differs between receipts. Parsed is not verified."""

    kid: bytes
    issuer: str
    size: int
    index: int
    path: tuple[bytes, ...]
    signature: bytes

    def __post_init__(self) -> None:
        if not 1 <= len(self.issuer) <= MAX_ISSUER_CHARACTERS:
            raise LogError("log.receipt", f"an issuer has 1 to `{MAX_ISSUER_CHARACTERS}` characters")
        if not 0 <= self.index < self.size <= MAX_SIZE:
            raise LogError("log.receipt", f"leaf `{self.index}` is not in a tree of `{self.size}` leaves")
        if self.size == 1:
            # RFC 9942 §5.2 wants a path of one hash or more; the only leaf of a tree has none.
            raise LogError(
                "log.receipt", "the only leaf of a log has no receipt yet", "ask again after the next entry"
            )
        if len(self.path) != self.inner + (self.index >> self.inner).bit_count():
            raise LogError("log.receipt", f"the path for leaf `{self.index}` has the wrong length")
        # A 31-byte sibling beside a 33-byte one hashes to the same node.
        if any(len(sibling) != HASH_BYTES for sibling in self.path):
            raise LogError("log.hash", "a hash has 32 bytes")

    @property
    def inner(self) -> int:
        """The level at which the leaf's way meets the right edge of the tree."""
        return (self.index ^ (self.size - 1)).bit_length()

    def encode(self) -> bytes:
        proof = cbor2.dumps([self.size, self.index, list(self.path)], canonical=True)
        unprotected = {_PROOFS: {_INCLUSION: [proof]}}
        message = [_protected(self.issuer, self.kid), unprotected, None, self.signature]
        return cbor2.dumps(cbor2.CBORTag(18, message), canonical=True)

    @classmethod
    def parse(cls, data: bytes) -> "_Receipt":
        reader = _Reader(data, "a receipt")
        reader.expect(b"\xd2\x84")
        protected = _Reader(reader.string(_BSTR), "a receipt")
        protected.expect(b"\xa4\x01\x26\x04\x58\x20")
        kid = protected.take(32)
        protected.expect(b"\x0f\xa2\x01")
        issuer = protected.text()
        reader.expect(b"\xa1\x19\x01\x8c\xa1\x20\x81")
        proof = _Reader(reader.string(_BSTR), "a receipt")
        proof.expect(b"\x83")
        size, index = proof.head(_UINT), proof.head(_UINT)
        path = tuple(proof.string(_BSTR) for _ in range(proof.head(_ARRAY)))
        reader.expect(b"\xf6" + _BSTR_64)
        receipt = cls(kid, issuer, size, index, path, reader.take(64))
        # The rest of the protected header was not even read; a longer encoding was read like a shorter one.
        if receipt.encode() != data:
            raise reader.refusal()
        return receipt

    def root(self, leaf: bytes) -> Digest:
        """Where the path leads (RFC 9162 §2.1.3.2). Sound whatever size and index claim: the root is signed.

        Below the right edge of the tree the leaf's index tells the side of each sibling, along it every
        sibling is on the left.
        """
        computed = Digest(leaf)
        for level, sibling in enumerate(self.path):
            if level >= self.inner or self.index >> level & 1:
                computed = node_hash(sibling, computed)
            else:
                computed = node_hash(computed, sibling)
        return computed


def _protected(issuer: str, kid: bytes) -> bytes:
    # The subject is the statements' own: one for each person or kind would link receipts to each other.
    headers = {1: -7, 4: kid, 15: {1: issuer, 2: SUBJECT}, _STRUCTURE: _RFC9162_SHA256}
    return cbor2.dumps(headers, canonical=True)


def _to_be_signed(issuer: str, kid: bytes, root: bytes) -> bytes:
    """The Sig_structure of RFC 9052 §4.4, without external data; the root is the detached payload."""
    return cbor2.dumps(["Signature1", _protected(issuer, kid), b"", root], canonical=True)


class _Reader:
    """Reads the few CBOR heads above from the front of `data`; raises LogError at the first other byte.

    Lenient about a head that could be shorter: whoever reads writes the result again and compares. A general
    parser would meet tags, floats and cycles here, all chosen by a stranger.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self._data = data
        self._at = 0
        self._name = name

    def refusal(self) -> LogError:
        return LogError("log.receipt", f"the bytes are not {self._name}")

    def take(self, count: int) -> bytes:
        start = self._at
        self._at += count
        if self._at > len(self._data):
            raise self.refusal()
        return self._data[start : self._at]

    def expect(self, literal: bytes) -> None:
        if self.take(len(literal)) != literal:
            raise self.refusal()

    def head(self, major: int) -> int:
        """A number, or how many bytes or elements follow."""
        kind, short = divmod(self.take(1)[0], 32)
        if kind != major or short > 27:  # 31 is an indefinite length, 28 to 30 are nothing
            raise self.refusal()
        return short if short < 24 else int.from_bytes(self.take(1 << short - 24), "big")

    def string(self, major: int) -> bytes:
        return self.take(self.head(major))

    def text(self) -> str:
        try:
            return self.string(_TSTR).decode()
        except UnicodeDecodeError as error:
            raise self.refusal() from error

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)
