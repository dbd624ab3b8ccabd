"""From signed to published: witnesses are asked to cosign the newest checkpoint, and a quorum makes it final.

`checkpoint` is what the log signed last. `published` is the newest one that the quorum of the policy holds for;
only that one is shown and proven under. Without a quorum the two are the same, and there is one file.

A witness that has seen *more* than we hold, or another tree, means that this is an old or a foreign copy: the
service must stop writing (:class:`Inconsistent`). A witness that does not answer only delays publication.
"""

import dataclasses
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from ledger.errors import Inconsistent, LogError, Unavailable
from ledger.log.merkle import consistency_proof
from ledger.log.note import Checkpoint, VerifierKey
from ledger.log.policy import NONE, ListedLog, Policy
from ledger.log.replica import Replica
from ledger.log.witness import Post, collect, post

RETRY_S = (0.2, 1.0, 5.0, 30.0)
"""After a round without a quorum; the last one repeats."""


class Publisher:
    """One thread that asks, and a place where readers find what is final."""

    def __init__(self, directory: Path, policy: Policy, replica: Replica, ask: Post = post) -> None:
        self._signed, self._final = directory / "checkpoint", directory / "published"
        self._policy, self._replica, self._ask = policy, replica, ask
        self._known: dict[str, int] = {}
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
                return _size(self.published()) >= size
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

    def start(self, on_fault: Callable[[Inconsistent], None]) -> None:
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
                    self._changed.wait_for(lambda: self._closing or self._pending)
                if self._closing:
                    return
                self._pending = False
            try:
                failed = 0 if self._round() else failed + 1
            except Inconsistent as fault:
                on_fault(fault)
                return

    def _round(self) -> bool:
        """Ask everyone about the newest signed checkpoint. Whether it became final."""
        try:
            note = collect(self._signed.read_bytes(), self._policy, self._consistency, self._known, self._ask)
            self._policy.open(note)
            replace(self._final, note)
        except Inconsistent:
            raise
        except (LogError, OSError):
            return False
        with self._changed:
            self._changed.notify_all()
        return True

    def _consistency(self, old: int, new: int) -> Sequence[bytes]:
        return consistency_proof(old, new, self._replica.tree.node)


def _size(note: bytes) -> int:
    """Of a checkpoint from our own disk."""
    return Checkpoint.parse(note.decode().rpartition("\n\n")[0] + "\n").size


def replace(path: Path, content: bytes) -> None:
    """Atomic and durable: a reader sees the old file or the new one, also after a power cut."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
