"""Witnesses: someone else who has seen the log grow and never shrink.

Implements C2SP tlog-witness (`add-checkpoint`) and, of tlog-cosignature, the Ed25519 cosigner. A request:

    old 8                                             the size the witness cosigned last
    jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=      a consistency proof from there,
    PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=      at most 63 hashes
                                                      blank line
    ledger.example/likeness                           the new checkpoint, signed by the log
    …

and the answer, `— witness.example/w1 4M0oZAAAAABl…`, which :mod:`ledger.log.note` explains.

:class:`Witness` guarantees that any two checkpoints of one origin it ever cosigned are of one growing tree, also
across threads, processes, full disks and power cuts, for as long as its directory is neither lost nor set back
to an earlier copy: nothing in the directory itself could tell. A witness whose directory is lost must be retired
with its key. How a log asks its witnesses is :mod:`ledger.log.publisher`.
"""

import fcntl
import logging
import os
import re
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

from ledger.errors import Inconsistent, LogError, Unavailable
from ledger.ids import Digest
from ledger.keys import sync_folder
from ledger.log.merkle import EMPTY_ROOT, HASH_BYTES, verify_consistency
from ledger.log.note import (
    MAX_NOTE_BYTES,
    Checkpoint,
    SignatureType,
    SignerKey,
    VerifierKey,
    add_cosignature,
    cosign,
    open_note,
)

MAX_PROOF_LINES = 63
MAX_REQUEST_BYTES = MAX_NOTE_BYTES + 4096
"""A checkpoint, a full proof and the line before them."""
MAX_CLOCK_SKEW = timedelta(minutes=1)
SIZE_TYPE = "text/x.tlog.size"
PLAIN_TYPE = "text/plain; charset=utf-8"

_log = logging.getLogger(__name__)
_OLD = re.compile(rb"old (0|[1-9][0-9]{0,18})")
_SIZE = re.compile(rb"(0|[1-9][0-9]{0,18})\n")
_RUNBOOK = (
    "stop the service and put the database and the `checkpoint` file back that were running last; if they are "
    "lost, start a new log under a new origin and announce it"
)


# --- the witness --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cosigned:
    """The checkpoint extends everything cosigned before, and is on the disk."""

    line: bytes
    """The cosignature, a line to be added to the checkpoint."""


@dataclass(frozen=True, slots=True)
class Refused:
    """An HTTP answer that is not 200: why there is no cosignature."""

    status: int
    body: bytes
    media_type: str = PLAIN_TYPE


@dataclass(frozen=True, slots=True)
class _Request:
    """As it was sent; nothing is verified."""

    old: int
    proof: tuple[Digest, ...]
    note: bytes
    checkpoint: Checkpoint

    @property
    def signatures(self) -> bytes:
        return self.note.rpartition(b"\n\n")[2]


class Witness:
    """One key, one directory, and the logs it watches. Nothing is held in memory between two requests.

    The newest cosigned checkpoint of each origin lies in a file of its own, with the log's signature and the
    cosignature. It is read and verified anew each time: what another process wrote, or what a disk did to it,
    counts at once.
    """

    def __init__(self, directory: Path, signer: SignerKey, logs: Sequence[VerifierKey]) -> None:
        if signer.verifier.type is not SignatureType.COSIGNATURE:
            raise LogError("log.witness", f"the key of `{signer.verifier.name}` is not a witness key")
        if any(log.type is not SignatureType.NOTE for log in logs):
            raise LogError("log.witness", "a witness watches logs, whose keys are note keys")
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        self._signer = signer
        # A log in the middle of changing its key has two; either one's signature will do.
        self._keys = {log.name: [key for key in logs if key.name == log.name] for log in logs}

    @property
    def verifier(self) -> VerifierKey:
        return self._signer.verifier

    @property
    def origins(self) -> tuple[str, ...]:
        return tuple(self._keys)

    def add_checkpoint(self, body: bytes, at: datetime) -> Cosigned | Refused:
        """Answer one request. Raises Inconsistent when the state of that log cannot be trusted, Unavailable
        when the disk or the clock cannot: then no cosignature was given, whatever became durable.
        """
        # 1. The form.
        if len(body) > MAX_REQUEST_BYTES:
            return _refused(413, f"a request has at most `{MAX_REQUEST_BYTES}` bytes")
        try:
            request = _parse_request(body)
        except LogError as error:
            return _refused(400, error.reason.sentence)
        # 2. The origin.
        origin = request.checkpoint.origin
        if origin not in self._keys:
            return _refused(404, "this log is not watched here")
        # 3. A signature by the log. From here on the checkpoint is what the log said.
        try:
            opened = open_note(request.note, self._keys[origin])
        except LogError as error:
            return _refused(403, error.reason.sentence)
        # 4. The old size against the new one.
        if request.old > request.checkpoint.size:
            sentence = f"a tree of `{request.checkpoint.size}` leaves cannot extend one of `{request.old}`"
            return _refused(400, sentence)
        # 5. to 8. against what was cosigned last. Nobody else cosigns between the check and the write.
        with self._locked():
            return self._extend(request, [signature.key for signature in opened.signatures], at)

    def latest(self, origin: str) -> Checkpoint | None:
        """What was cosigned last, or `None` if nothing ever was. Raises Inconsistent, Unavailable."""
        found = self._read(origin)
        return found and found[0]

    def _extend(self, request: _Request, signers: Sequence[VerifierKey], at: datetime) -> Cosigned | Refused:
        checkpoint = request.checkpoint
        recorded = self._read(checkpoint.origin)
        latest, last_at = recorded or (Checkpoint(checkpoint.origin, 0, EMPTY_ROOT), at)
        # 5. The sender knows where this witness stands.
        if request.old != latest.size:
            return Refused(409, b"%d\n" % latest.size, SIZE_TYPE)
        # 6. One size, one root: a second root is a split view, with the log's own signature below it.
        if checkpoint.size == latest.size and checkpoint.root != latest.root:
            return _refused(409, f"another root was cosigned for `{latest.size}` leaves")
        # 7. The new tree extends the old one.
        try:
            verify_consistency(latest.size, checkpoint.size, request.proof, latest.root, checkpoint.root)
        except LogError as error:
            return _refused(422, error.reason.sentence)
        # 8. Durable, also when the same checkpoint is asked for again: an earlier write of it may have failed
        #    after it became visible. Only then does the cosignature leave.
        text = checkpoint.text()
        line = cosign(text, self._signer, _not_before(last_at, at))
        # Only these signatures are kept: with strangers' lines the file could grow too long to be opened again.
        state = f"{text}\n".encode() + line
        for key in signers:
            state = add_cosignature(state, request.signatures, key)
        try:
            _replace(self._path(checkpoint.origin), state)
        except OSError as error:
            raise _disk(error) from error
        return Cosigned(line)

    # -- the state of one log -------------------------------------------------------------------------------

    def _path(self, origin: str) -> Path:
        return self._directory / f"{sha256(origin.encode()).hexdigest()}.checkpoint"

    def _read(self, origin: str) -> tuple[Checkpoint, datetime] | None:
        """The last cosigned checkpoint and when. Only a file that never was is a log never seen: to take a
        damaged one for that would start again at zero and cosign whatever fork comes next.
        """
        path = self._path(origin)
        try:
            return _open_state(path.read_bytes(), origin, self._keys[origin], self._signer.verifier)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _disk(error) from error
        except LogError as error:
            raise Inconsistent(
                "witness.state",
                f"the state of `{origin}` in `{path.name}` cannot be trusted: {error.reason.sentence}",
                "put the newest copy of the file back, if it is certain that nothing was cosigned after it, and "
                "list every key the log signed it with; otherwise retire this witness with its key. Never "
                "delete the file: the log could then fork unnoticed",
            ) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One at a time. Each caller opens the file anew, so the lock holds between threads as between processes."""
        try:
            descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _disk(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _parse_request(body: bytes) -> _Request:
    """Raises LogError."""
    head, _, note = body.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    old = _OLD.fullmatch(first)
    if old is None:
        raise LogError("witness.request", "a request begins with a line `old`, a space and a size")
    if len(lines) > MAX_PROOF_LINES:
        raise LogError("witness.request", f"a consistency proof has at most `{MAX_PROOF_LINES}` lines")
    text, blank, _ = note.rpartition(b"\n\n")
    try:
        checkpoint = Checkpoint.parse(f"{text.decode()}\n")
    except UnicodeDecodeError as error:
        raise LogError("witness.request", "the checkpoint is not UTF-8") from error
    if not blank:
        raise LogError("witness.request", "a request ends in a signed checkpoint after a blank line")
    return _Request(int(old[1]), tuple(map(_hash, lines)), note, checkpoint)


def _hash(line: bytes) -> Digest:
    try:
        value = b64decode(line, validate=True)
    except ValueError as error:
        raise LogError("witness.request", "a line of the consistency proof is not base64") from error
    if len(value) != HASH_BYTES or b64encode(value) != line:
        raise LogError("witness.request", "a line of the consistency proof is not a hash")
    return Digest(value)


def _open_state(
    note: bytes, origin: str, logs: Sequence[VerifierKey], own: VerifierKey
) -> tuple[Checkpoint, datetime]:
    """A checkpoint of `origin` that the log signed and we cosigned, and when we did. Raises LogError."""
    opened = open_note(note, [*logs, own])
    checkpoint = Checkpoint.parse(opened.text)
    times = [s.at for s in opened.signatures if s.key == own and s.at is not None]
    if checkpoint.origin != origin:
        raise LogError("witness.state", "it is of another log")
    if not times or len(opened.signatures) < 2:
        raise LogError("witness.state", "the log and this witness did not both sign it")
    return checkpoint, times[0]


def _not_before(last: datetime, at: datetime) -> datetime:
    """INVARIANT: the times of an origin's cosignatures never go back.

    A cosignature says "as of this time, nothing larger". Requests that overtake each other and clocks that are
    nudged repeat the last time. A clock that is further off does not know the time, and would date a tree to
    before it was seen: it gives no cosignature.
    """
    if last - at > MAX_CLOCK_SKEW:
        raise Unavailable(
            "witness.clock",
            f"the clock says `{at.isoformat()}`, but the last cosignature is of `{last.isoformat()}`",
            "set the clock; if it had run ahead, nothing is cosigned until that time has come",
        )
    return max(last, at)


def _refused(status: int, sentence: str) -> Refused:
    return Refused(status, f"{sentence}\n".encode())


def _disk(error: OSError) -> Unavailable:
    sentence = f"the state of this witness cannot be read or written: {os.strerror(error.errno or 0).lower()}"
    return Unavailable("witness.disk", sentence, "see whether the disk is full or failing, then try again")


def _replace(path: Path, content: bytes) -> None:
    """Atomic and durable: whoever reads finds the old file or the new one, also after a power cut."""
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        while content:
            content = content[os.write(descriptor, content) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    # The content is durable, under a name nobody reads.
    os.replace(temporary, path)  # noqa: PTH105 — the system calls stand here by their own names
    sync_folder(path.parent)
    # The name is durable too.
