"""Signed notes, checkpoints, cosignatures and proof files: what a log says, in text anyone can check.

Implements C2SP signed-note, tlog-checkpoint, tlog-cosignature (Ed25519, `cosignature/v1`) and tlog-proof v1.

    ledger.example/likeness                           origin      ┐
    8                                                 tree size   │ the text that is signed,
    XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg=      root        ┘ final newline included
                                                      blank line
    — ledger.example/likeness xYW4BcAm…               the log:     base64(key id ‖ signature)
    — witness.example/w1 4M0oZAAAAABl…                a witness:   base64(key id ‖ u64be time ‖ signature)

Everything here has exactly one spelling (canonical base64, no leading zeros), so equal meanings are equal
bytes. Text counts for nothing until :func:`open_note` or :func:`open_checkpoint` returned it. A valid
checkpoint says what the log signed; that the log shows everyone the same tree is what witnesses add, and that
a tree extends an earlier one is for :func:`ledger.log.merkle.verify_consistency`.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from hashlib import sha256
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.errors import LogError
from ledger.ids import Digest
from ledger.log.merkle import EMPTY_ROOT, HASH_BYTES, MAX_SIZE, verify_inclusion

MAX_NOTE_BYTES = 256 * 1024
MAX_SIGNATURES = 64
"""At least 16 must be accepted; post-quantum signatures of strangers take 7 kB of base64 each."""

_SIGNATURE_PREFIX = "— "
_COSIGNATURE_HEADER = "cosignature/v1\n"
_PROOF_HEADER = "c2sp.org/tlog-proof@v1"
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}", flags=re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


# --- keys ---------------------------------------------------------------------------------------------------


class SignatureType(IntEnum):
    """The byte that goes into a key id; two of the numbers signed-note assigns."""

    NOTE = 1
    COSIGNATURE = 4


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key under a name. `str(key)` is its vkey, `name+hex(key id)+base64(type ‖ public)`."""

    name: str
    public: bytes
    type: SignatureType = SignatureType.NOTE

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.public) != 32:
            raise LogError("log.vkey", "an Ed25519 public key has 32 bytes")

    @property
    def id(self) -> bytes:
        """Four bytes that find the key; they prove nothing, anyone can make a key that collides."""
        return sha256(self.name.encode() + b"\n" + bytes([self.type]) + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{_base64(bytes([self.type]) + self.public)}"

    @classmethod
    def parse(cls, vkey: str) -> "VerifierKey":
        parts = vkey.split("+", 2)  # a name holds no plus, base64 may
        if len(parts) != 3:
            raise LogError("log.vkey", "a verifier key has the form `name+id+key`")
        encoded = _from_base64(parts[2], "log.vkey")
        if len(encoded) != 33 or encoded[0] not in set(SignatureType):
            raise LogError("log.vkey", f"the verifier key of `{parts[0]}` is not an Ed25519 key")
        key = cls(parts[0], encoded[1:], SignatureType(encoded[0]))
        if str(key) != vkey:
            raise LogError("log.vkey", f"the key id of `{parts[0]}` does not belong to its key")
        return key


@dataclass(frozen=True, slots=True)
class SignerKey:
    """Something that signs for `verifier`; the private key may live elsewhere, behind `sign`."""

    verifier: VerifierKey
    sign: Callable[[bytes], bytes] = field(repr=False)

    @classmethod
    def from_seed(cls, name: str, seed: bytes, kind: SignatureType = SignatureType.NOTE) -> "SignerKey":
        private = Ed25519PrivateKey.from_private_bytes(seed)
        return cls(VerifierKey(name, private.public_key().public_bytes_raw(), kind), private.sign)


# --- notes --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Signature:
    """One verified signature."""

    key: VerifierKey
    at: datetime | None
    """When a witness says it cosigned; `None` for a plain note signature."""


@dataclass(frozen=True, slots=True)
class Note:
    """A text and who signed it: at least one signature, at most one for each known key."""

    text: str
    signatures: tuple[Signature, ...]


def sign_note(text: str, signers: Sequence[SignerKey]) -> bytes:
    """The note with one signature line for each signer, in the given order."""
    _check_text(text)
    if text.startswith(_COSIGNATURE_HEADER):
        # The same bytes would be a cosignature if a log and a witness ever shared a key.
        raise LogError("log.note", "a note must not begin like a cosignature")
    if not signers or any(s.verifier.type is not SignatureType.NOTE for s in signers):
        raise LogError("log.note", "a note is signed by one or more note keys; a witness cosigns instead")
    lines = [_Line(s.verifier.name, s.verifier.id + s.sign(text.encode())) for s in signers]
    return _assemble(text, lines)


def open_note(note: bytes, verifiers: Sequence[VerifierKey]) -> Note:
    """Verify a note against known keys. Raises LogError unless one of them signed it.

    Lines by unknown keys are ignored. A line by a known key that does not verify refuses the whole note, as
    does anything malformed.
    """
    known = {(key.name, key.id): key for key in verifiers}
    if any(known[key.name, key.id] != key for key in verifiers):
        raise LogError("log.note", "two of the verifier keys share a name and a key id")
    text, lines = _split_note(note)
    verified: dict[VerifierKey, Signature] = {}
    for line in lines:
        key = known.get((line.name, line.key_id))
        if key is not None:
            at = _verify_line(key, text, line)
            verified.setdefault(key, Signature(key, at))
    if not verified:
        raise LogError("log.note", "none of the known keys signed the note")
    return Note(text, tuple(verified.values()))


class _Line(NamedTuple):
    """A signature line, not verified."""

    name: str
    encoded: bytes
    """Key id ‖ signature."""

    @property
    def key_id(self) -> bytes:
        return self.encoded[:4]

    def __str__(self) -> str:
        return f"{_SIGNATURE_PREFIX}{self.name} {_base64(self.encoded)}\n"


def _assemble(text: str, lines: Sequence[_Line]) -> bytes:
    return (text + "\n" + "".join(map(str, lines))).encode()


def _split_note(note: bytes) -> tuple[str, list[_Line]]:
    head, blank, block = _decode(note).rpartition("\n\n")
    text = head + "\n"
    if not blank:
        raise LogError("log.note", "the note has no signatures after a blank line")
    _check_text(text)
    return text, _parse_lines(block)


def _parse_lines(block: str) -> list[_Line]:
    if not block.endswith("\n"):
        raise LogError("log.note", "the last signature line is not complete")
    lines = block.removesuffix("\n").split("\n")  # never splitlines(): it also breaks at U+2028
    if len(lines) > MAX_SIGNATURES:
        raise LogError("log.note", f"a note has at most `{MAX_SIGNATURES}` signatures")
    parsed = []
    for line in lines:
        name, _, encoded = line.removeprefix(_SIGNATURE_PREFIX).partition(" ")
        if not line.startswith(_SIGNATURE_PREFIX):
            raise LogError("log.note", "a line of the signature block is not a signature")
        _check_name(name)
        parsed.append(_Line(name, _from_base64(encoded, "log.note")))
        if len(parsed[-1].encoded) < 5:
            raise LogError("log.note", "a signature is too short")
    return parsed


def _verify_line(key: VerifierKey, text: str, line: _Line) -> datetime | None:
    """Returns the time of a cosignature. Raises LogError."""
    at, message, signature = None, text.encode(), line.encoded[4:]
    if key.type is SignatureType.COSIGNATURE:
        time_s, signature = int.from_bytes(signature[:8], "big"), signature[8:]
        message = _cosigned(text, time_s)
        try:
            at = _EPOCH + timedelta(seconds=time_s)
        except OverflowError as error:
            raise LogError("log.cosignature", f"the time `{time_s}` lies beyond the calendar") from error
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(signature, message)
    except InvalidSignature as error:
        raise LogError("log.note", f"the signature of `{key.name}` does not verify") from error
    return at


# --- checkpoints --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head: this log, at this size, had this root."""

    origin: str
    size: int
    root: Digest
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for line in (self.origin, *self.extensions):
            if not line or any(c < " " for c in line):
                raise LogError("log.checkpoint", "origin and extensions are lines that are not empty")
        if not 0 <= self.size <= MAX_SIZE or len(self.root) != HASH_BYTES:
            raise LogError("log.checkpoint", "a checkpoint has a 63-bit size and a root of 32 bytes")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise LogError("log.checkpoint", "a tree without leaves has the empty root")

    def text(self) -> str:
        """The signed text, final newline included."""
        return "".join(f"{line}\n" for line in (self.origin, self.size, _base64(self.root), *self.extensions))

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        _check_text(text)
        lines = text.removesuffix("\n").split("\n")
        if len(lines) < 3:
            raise LogError("log.checkpoint", "a checkpoint has an origin, a size and a root")
        origin, size, root, *extensions = lines
        return cls(origin, _decimal(size, "log.checkpoint"), _hash(root, "log.checkpoint"), tuple(extensions))


def cosign(text: str, witness: SignerKey, at: datetime) -> bytes:
    """A witness's signature line over a checkpoint's text; the witness has checked consistency before."""
    Checkpoint.parse(text)
    if witness.verifier.type is not SignatureType.COSIGNATURE:
        raise LogError("log.cosignature", f"the key of `{witness.verifier.name}` is not a witness key")
    time_s = (at - _EPOCH) // timedelta(seconds=1)
    if time_s < 0:
        raise LogError("log.cosignature", "a cosignature cannot predate 1970")
    signature = time_s.to_bytes(8, "big") + witness.sign(_cosigned(text, time_s))
    return str(_Line(witness.verifier.name, witness.verifier.id + signature)).encode()


def add_cosignature(note: bytes, response: bytes, witness: VerifierKey) -> bytes:
    """`note` with the cosignature in a witness's response, in place of an earlier one by the same witness.

    Lines by others are dropped: a witness must not fill a checkpoint with strangers' bytes.
    """
    text, lines = _split_note(note)
    own = [line for line in _parse_lines(_decode(response)) if _is_by(witness, line)]
    if not own:
        raise LogError("log.cosignature", f"the response of `{witness.name}` holds no cosignature by it")
    _verify_line(witness, text, own[0])
    return _assemble(text, [*(line for line in lines if not _is_by(witness, line)), own[0]])


def _is_by(key: VerifierKey, line: _Line) -> bool:
    """Claims to be; nothing is verified."""
    return (line.name, line.key_id) == (key.name, key.id)


def _cosigned(text: str, time_s: int) -> bytes:
    return f"{_COSIGNATURE_HEADER}time {time_s}\n{text}".encode()


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint the log signed, and the witnesses whose cosignatures were verified."""

    checkpoint: Checkpoint
    witnesses: tuple[Signature, ...]


def open_checkpoint(
    note: bytes, log: VerifierKey, witnesses: Sequence[VerifierKey] = (), quorum: int = 0
) -> SignedCheckpoint:
    """Verify a checkpoint of the log named by `log`, cosigned by at least `quorum` of `witnesses`."""
    # 1. Some known key signed, and no known key's signature is wrong.
    opened = open_note(note, [log, *witnesses])
    # 2. The log itself did: a note that only witnesses signed is no statement of the log's.
    if all(signature.key != log for signature in opened.signatures):
        raise LogError("log.checkpoint", f"`{log.name}` did not sign the checkpoint")
    # 3. The text is a checkpoint, of this log.
    checkpoint = Checkpoint.parse(opened.text)
    if checkpoint.origin != log.name:
        raise LogError("log.checkpoint", f"the checkpoint is not of the log `{log.name}`")
    # 4. Enough witnesses saw it. One key under two names is one witness; a plain signature is no observation.
    cosigned = tuple(s for s in opened.signatures if s.key.type is SignatureType.COSIGNATURE)
    seen = len({s.key.public for s in cosigned})
    if seen < quorum:
        raise LogError("log.quorum", f"`{seen}` witnesses cosigned the checkpoint, `{quorum}` are required")
    return SignedCheckpoint(checkpoint, cosigned)


# --- proof files --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TlogProof:
    """A `.tlog-proof` file: everything needed to check offline that a leaf was logged."""

    index: int
    path: tuple[Digest, ...]
    checkpoint: bytes
    """The signed checkpoint, verbatim."""
    extra: bytes = b""
    """Opaque and not authenticated by anything."""

    def encode(self) -> bytes:
        extra = [f"extra {_base64(self.extra)}"] if self.extra else []
        lines = [_PROOF_HEADER, *extra, f"index {self.index}", *map(_base64, self.path), ""]
        return "".join(f"{line}\n" for line in lines).encode() + self.checkpoint

    @classmethod
    def parse(cls, data: bytes) -> "TlogProof":
        head, blank, checkpoint = data.partition(b"\n\n")
        if not blank or len(head) > MAX_NOTE_BYTES:
            raise LogError("log.proof", "the proof has no checkpoint after a blank line")
        try:
            lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError as error:
            raise LogError("log.proof", "the proof is not ASCII before its checkpoint") from error
        if lines.pop(0) != _PROOF_HEADER:
            raise LogError("log.proof", f"the first line of a proof is `{_PROOF_HEADER}`")
        extra = b""
        if lines and lines[0].startswith("extra "):
            extra = _from_base64(lines.pop(0).removeprefix("extra "), "log.proof")
        if not lines or not lines[0].startswith("index "):
            raise LogError("log.proof", "the proof names no index")
        index = _decimal(lines.pop(0).removeprefix("index "), "log.proof")
        if len(lines) > MAX_SIZE.bit_length():
            raise LogError("log.proof", "the proof is longer than any tree is high")
        return cls(index, tuple(_hash(line, "log.proof") for line in lines), checkpoint, extra)

    def verify(
        self, leaf: bytes, log: VerifierKey, witnesses: Sequence[VerifierKey] = (), quorum: int = 0
    ) -> SignedCheckpoint:
        """That the leaf with hash `leaf` is at `index` in the signed tree. Raises LogError."""
        opened = open_checkpoint(self.checkpoint, log, witnesses, quorum)
        # Root and size both come from the signed text: a false size could make a false index pass.
        verify_inclusion(leaf, self.index, opened.checkpoint.size, self.path, opened.checkpoint.root)
        return opened


# --- spelling -----------------------------------------------------------------------------------------------


def _check_name(name: str) -> None:
    if not name or "+" in name or any(c.isspace() or c < " " for c in name):
        raise LogError("log.key_name", "a key name is not empty and holds neither spaces nor `+`")


def _decode(note: bytes) -> str:
    if len(note) > MAX_NOTE_BYTES:
        raise LogError("log.note", f"a note has at most `{MAX_NOTE_BYTES}` bytes")
    try:
        return note.decode()
    except UnicodeDecodeError as error:
        raise LogError("log.note", "the note is not UTF-8") from error


def _check_text(text: str) -> None:
    if not text.endswith("\n") or any(c < " " and c != "\n" for c in text):
        raise LogError("log.note", "a note's text ends in a newline and holds no other control characters")


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _from_base64(encoded: str, reason_id: str) -> bytes:
    """Canonical and not empty: other spellings of the same bytes would be other notes with one meaning."""
    try:
        data = b64decode(encoded, validate=True)
    except ValueError as error:
        raise LogError(reason_id, "a value is not base64") from error
    if not data or _base64(data) != encoded:
        raise LogError(reason_id, "a value is not canonical base64")
    return data


def _decimal(digits: str, reason_id: str) -> int:
    if not _DECIMAL.fullmatch(digits) or int(digits) > MAX_SIZE:
        raise LogError(reason_id, "a number is not a plain decimal of at most 63 bits")
    return int(digits)


def _hash(encoded: str, reason_id: str) -> Digest:
    data = _from_base64(encoded, reason_id)
    if len(data) != HASH_BYTES:
        raise LogError(reason_id, "a hash has 32 bytes")
    return Digest(data)
