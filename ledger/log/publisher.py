"""From signed to published: witnesses are asked to cosign the newest checkpoint, and a quorum makes it final.

`checkpoint` is what the log signed last. `published` is the newest one that the quorum of the policy holds for;
only that one is shown and proven under. Without a quorum the two are the same, and there is one file.

No quorum, and a witness that says it has seen *more* than we hold, or another tree: this is an old or a foreign
copy, and the service must stop writing (:class:`Inconsistent`). A witness that does not answer only delays.
"""

import asyncio
import dataclasses
import logging
import os
import re
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx

from ledger.errors import Inconsistent, LogError, Unavailable
from ledger.keys import sync_folder
from ledger.log.merkle import MAX_SIZE, consistency_proof
from ledger.log.note import Checkpoint, VerifierKey, add_cosignature
from ledger.log.policy import NONE, ListedLog, ListedWitness, Policy, shown
from ledger.log.replica import Replica
from ledger.log.witness import SIZE_TYPE

_log = logging.getLogger(__name__)
_SIZE = re.compile(rb"(0|[1-9][0-9]{0,18})\n")
RUNBOOK = (
    "stop the service and keep all its files as they are. If a backup was restored: put the newest `checkpoint` "
    "file and the database that was running back. If that is lost, this log ends here: start a new one under a "
    "new origin, publish the last checkpoint of this one and announce both"
)
Post = Callable[[str, bytes], tuple[int, str, bytes]]
"""`post(url, body)`: status, content type and body of the answer. Raises Unavailable when none came."""
Prove = Callable[[int, int], Sequence[bytes]]
"""`prove(old, new)`: that our tree at `new` extends itself at `old`. Called from several threads at once."""
POLL_S = 5.0
"""How often to look for what other processes have signed."""
RETRY_S = (0.2, 1.0, 5.0, 30.0)
"""After a round without a quorum; the last one repeats."""


class Publisher:
    """One thread that asks, and a place where readers find what is final."""

    def __init__(self, directory: Path, policy: Policy, replica: Replica) -> None:
        self._signed, self._final = directory / "checkpoint", directory / "published"
        self._policy, self._replica = policy, replica
        self._known: dict[str, int] = {}
        self._shown = b""
        self._follow: Callable[[int], None] = lambda _: None
        self._changed = threading.Condition()
        self._pending, self._closing = True, False
        self._thread: threading.Thread | None = None

    def use(self, logs: Sequence[VerifierKey]) -> None:
        """The log's own keys: a policy file cannot know of those it was rotated to."""
        self._policy = dataclasses.replace(self._policy, logs=tuple(ListedLog(key) for key in logs))

    @property
    def _witnessed(self) -> bool:
        return self._policy.quorum != NONE

    def published(self) -> bytes:
        """The newest final checkpoint. Raises LogError while there has never been one."""
        path = self._final if self._witnessed else self._signed
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise LogError(
                "log.not_yet",
                "no checkpoint has been cosigned by enough witnesses yet",
                "ask again in a minute; if it persists, see whether the witnesses answer",
            ) from None

    def covering(self, size: int, within_s: float) -> bytes | None:
        """The newest final checkpoint of at least `size` leaves, once there is one."""

        def ready() -> bool:
            try:
                return size_of(self.published()) >= size
            except LogError:
                return False

        with self._changed:
            return self.published() if self._changed.wait_for(ready, within_s) else None

    def confirm(self) -> None:
        """Ask the witnesses what they have seen, before anything new is signed.

        Raises Inconsistent, or Unavailable when too few answer to know that this is not an old copy.
        """
        if self._witnessed and not self._round():
            raise Unavailable(
                "log.unwitnessed",
                "too few witnesses answered to know that this is not an older copy of the log",
                "see whether the witnesses can be reached, and start again",
            )

    def start(self, on_fault: Callable[[Inconsistent], None], follow: Callable[[int], None]) -> None:
        """`follow(size)`: bring the replica up to what another process has signed."""
        self._follow = follow
        if self._witnessed:
            self._thread = threading.Thread(target=self._run, args=[on_fault], name="publisher", daemon=True)
            self._thread.start()

    def nudge(self) -> None:
        """A newer checkpoint has been signed."""
        with self._changed:
            self._pending = True
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _run(self, on_fault: Callable[[Inconsistent], None]) -> None:
        failed = 0
        while True:
            with self._changed:
                if failed:
                    self._changed.wait_for(lambda: self._closing, RETRY_S[min(failed, len(RETRY_S)) - 1])
                else:
                    self._changed.wait_for(lambda: self._closing or self._pending, POLL_S)
                if self._closing:
                    return
                idle, self._pending = not self._pending and not failed, False
            if idle and self._signed.read_bytes() == self._shown:
                continue
            try:
                failed = 0 if self._round() else failed + 1
            except Inconsistent as fault:
                on_fault(fault)
                return

    def _round(self) -> bool:
        """Ask everyone about the newest signed checkpoint. Whether it became final."""
        signed = self._shown = self._signed.read_bytes()
        self._need(signed)
        try:
            self._follow(size_of(signed))
            note = collect(signed, self._policy, self._consistency, self._known, post)
            self._policy.open(note)
            replace(self._final, note)
        except Inconsistent:
            # Another process may have signed more, and shown it to the witnesses, since we looked.
            if self._signed.read_bytes() != signed:
                return False
            raise
        except (LogError, OSError, Unavailable):
            return False
        with self._changed:
            self._changed.notify_all()
        return True

    def _need(self, *notes: bytes) -> None:
        """The replica must be able to prove under these, and under what is final."""
        final = [self._final.read_bytes()] if self._final.exists() else []
        self._replica.needed = frozenset(map(size_of, [*notes, *final]))

    def recall(self) -> None:
        """Before the replica is rebuilt: what will be proven under, of all the epochs it goes through."""
        self._need(*([self._signed.read_bytes()] if self._signed.exists() else []))

    def _consistency(self, old: int, new: int) -> Sequence[bytes]:
        return consistency_proof(old, new, self._replica.tree.node)


def size_of(note: bytes) -> int:
    """Of a checkpoint from our own disk."""
    return Checkpoint.parse(note.decode().rpartition("\n\n")[0] + "\n").size


# --- asking witnesses ---------------------------------------------------------------------------------------

MAX_RESPONSE_BYTES = 64 * 1024
TIMEOUT_S = 5.0
ATTEMPTS = 3
"""Requests to one witness for one checkpoint: it may move on once more while we catch up."""


def post(url: str, body: bytes) -> tuple[int, str, bytes]:
    """One POST that ends within `TIMEOUT_S` (and what the resolver takes), follows no redirect, uses no proxy of
    the environment and reads at most `MAX_RESPONSE_BYTES`. Not for a thread with an event loop. Raises Unavailable.
    """
    try:
        return asyncio.run(_post(url, body))
    except TimeoutError as error:
        raise _unanswered(f"the address gave no complete answer within `{TIMEOUT_S:g}` s") from error
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError) as error:
        raise _unanswered("the address cannot be reached") from error


async def _post(url: str, body: bytes) -> tuple[int, str, bytes]:
    headers = {"content-type": "text/plain; charset=utf-8", "accept-encoding": "identity"}
    # One deadline for everything: a server that sends a byte a second passes every timeout that starts anew.
    # For that each request takes a connection of its own; the protocol would like them kept open.
    async with (
        asyncio.timeout(TIMEOUT_S),
        httpx.AsyncClient(
            verify=_trusted(),
            trust_env=False,
            follow_redirects=False,
            timeout=None,  # noqa: S113 — the deadline above covers every step
        ) as web,
        web.stream("POST", url, content=body, headers=headers) as answer,
    ):
        received = bytearray()
        async for chunk in answer.aiter_raw():  # as sent: nothing is unpacked, so nothing can swell
            received += chunk
            if len(received) > MAX_RESPONSE_BYTES:
                raise _unanswered(f"the address answered with more than `{MAX_RESPONSE_BYTES}` bytes")
        return answer.status_code, answer.headers.get("content-type", ""), bytes(received)


@cache
def _trusted() -> ssl.SSLContext:
    """Once: reading the world's certificates takes longer than asking."""
    return httpx.create_ssl_context(trust_env=False)


def _unanswered(sentence: str) -> Unavailable:
    return Unavailable("witness.unanswered", sentence, "see whether the witness runs and its URL is right")


@dataclass(frozen=True, slots=True)
class _Gave:
    response: bytes
    """Not verified."""


@dataclass(frozen=True, slots=True)
class _Holds:
    size: int


@dataclass(frozen=True, slots=True)
class _Conflict:
    """409 without a size: what this answers depends on what was asked."""


@dataclass(frozen=True, slots=True)
class _Fork:
    """422: not so. What a log hears that was set back, and has grown past the witness again."""


@dataclass(frozen=True, slots=True)
class _Declined:
    sentence: str


_Reply = _Gave | _Holds | _Conflict | _Fork | _Declined


def collect(note: bytes, policy: Policy, prove: Prove, known: dict[str, int], ask: Post = post) -> bytes:
    """`note` with the cosignature of every witness that gave one, each verified. They are asked at the same time.

    `note` is the newest checkpoint its log ever signed. `known` holds, by their names in the policy, what the
    witnesses saw last as far as they said; it is brought up to date, and may be lost.

    A witness may say that it has seen more of this log than `note` holds, or another tree. It brings no proof, so
    one alone can not stop a log: but where the quorum fails and a witness says so, this raises Inconsistent, for
    the log was set back or has forked and must sign nothing more. What else a witness does wrong is a refusal:
    logged, and otherwise ignored.
    """
    checkpoint = policy.signed(note).checkpoint
    asked = [witness for witness in policy.witnesses if witness.url]
    # A remembered size above our own is not believed: the witness is to say it itself.
    starts = [min(known.get(witness.name, 0), checkpoint.size) for witness in asked]
    with ThreadPoolExecutor(max(1, len(asked)), thread_name_prefix="witness") as pool:
        replies = list(
            pool.map(lambda w, old: _bring_up(w, note, checkpoint, prove, old, ask), asked, starts)
        )
    faults = []
    for witness, reply in zip(asked, replies, strict=True):
        try:
            note = _gained(note, reply, witness)
            known[witness.name] = checkpoint.size
        except LogError as error:
            _log.warning("the witness `%s` did not cosign: %s", shown(witness.name), error.reason.sentence)
            faults += [error] if isinstance(error, Inconsistent) else []
    if faults and not policy.witnessed(signature.key for signature in policy.signed(note).witnesses):
        raise faults[0]
    return note


def _gained(note: bytes, reply: _Gave | _Declined | Inconsistent, witness: ListedWitness) -> bytes:
    """`note` with the cosignature that was given. Raises LogError when there is none, or a false one."""
    if isinstance(reply, Inconsistent):
        raise reply
    if isinstance(reply, _Declined):
        raise LogError("witness.declined", reply.sentence)
    return add_cosignature(note, reply.response, witness.key)


def _bring_up(
    witness: ListedWitness, note: bytes, checkpoint: Checkpoint, prove: Prove, old: int, ask: Post
) -> _Gave | _Declined | Inconsistent:
    """From where the witness stands to `checkpoint`. Inconsistent when it says that it stands elsewhere."""
    name, size = shown(witness.name), checkpoint.size
    for _ in range(ATTEMPTS):
        proof = prove(old, size) if 0 < old < size else ()
        match _exchange(witness, old, proof, note, ask):
            case _Holds(held) if held > size:
                sentence = f"the witness `{name}` has seen `{held}` leaves, this log holds `{size}`: it is an older copy"
                return Inconsistent("log.rolled_back", sentence, RUNBOOK)
            case _Holds(held):
                old = held
            case _Conflict() if old == size:
                sentence = f"the witness `{name}` has seen another tree of `{size}` leaves"
                return Inconsistent("log.forked", sentence, RUNBOOK)
            case _Fork():
                sentence = f"the witness `{name}` has seen `{old}` leaves that this log does not extend"
                return Inconsistent("log.forked", sentence, RUNBOOK)
            case _Conflict():
                return _Declined("it answered with a conflict and no size")
            case _Gave() | _Declined() as reply:
                return reply
    return _Declined(f"it named another size `{ATTEMPTS}` times")


def _exchange(witness: ListedWitness, old: int, proof: Sequence[bytes], note: bytes, ask: Post) -> _Reply:
    lines = [b"old %d\n" % old, *(b64encode(h) + b"\n" for h in proof), b"\n"]
    try:
        status, media_type, body = ask(f"{witness.url.rstrip('/')}/add-checkpoint", b"".join(lines) + note)
    except Unavailable as error:
        return _Declined(error.reason.sentence)
    has_size = media_type.partition(";")[0].strip().lower() == SIZE_TYPE
    match status:
        case 200:
            return _Gave(body)
        case 409 if has_size:
            return _holds(body)
        case 409:
            return _Conflict()
        case 422:
            return _Fork()
        case _:
            # What the body says is a stranger's text, and stays out of our logs.
            return _Declined(f"it answered with the status `{status}`")


def _holds(body: bytes) -> _Holds | _Declined:
    size = _SIZE.fullmatch(body)
    if size is None or int(size[1]) > MAX_SIZE:
        return _Declined("it answered with something that is not a size")
    return _Holds(int(size[1]))


def replace(path: Path, content: bytes) -> None:
    """Atomic and durable: a reader sees the old file or the new one, also after a power cut."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)
