"""Finished clips that wait for somebody's word: released when the last has spoken for it, destroyed when it is over.

First reviewers', where people have to judge what a machine found; then those it shows, where they asked for that. What
a reviewer refused lies here while its app may appeal. What is to be done with a draft follows from the ledger alone: its row, its job, and the words on it. So
:meth:`Drafts.settle` may be called at any time, any number of times, by whoever thinks that something has changed;
a crash between an approval and the release is made good at the next start. The file lies in the object store and
nowhere else; it is fetched back only to be released, and the sealed token still speaks for exactly its bytes.
"""

import logging
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from generator.errors import GeneratorError
from generator.stamp import Held, Released, release
from ledger.consent.held import case_of
from ledger.errors import LedgerError, LogError, Unavailable
from ledger.ids import VideoId
from ledger.reasons import Reason
from ledger.store import keeping
from ledger.store.objects import Objects
from ledger.store.records import HeldClip
from ledger.store.transaction import Transaction
from safety.chain import Stamped
from safety.errors import SafetyError
from safety.gate import Denied, Gate

LOOK_EVERY_S = 5.0
_LAPSED = Reason("approval.lapsed", "nobody approved this clip in time", "ask for it again")
_UNSEEN = Reason(
    "review.lapsed",
    "this clip had to be looked at by people here, and nobody did in time",
    "ask for it again",
)
_log = logging.getLogger(__name__)


class Drafts:
    """One per process. `settle` is safe from every thread."""

    def __init__(self, gate: Gate, objects: Objects, work: Path, clock: Callable[[], datetime]) -> None:
        self._gate, self._objects, self._work, self._clock = gate, objects, work, clock
        self._one_at_a_time = threading.Lock()
        self._again: set[VideoId] = set()
        """Those that could not be settled when it was their turn."""
        self._stop = threading.Event()
        self._watch: threading.Thread | None = None

    def start(self) -> None:
        """Settle what an earlier process left, then look again every few seconds."""
        with self._gate.ledger.reading() as tx:
            left = tx.held_clips()
        for held in left:
            self.settle(held.video_id)
        self._watch = threading.Thread(target=self._run, name="drafts", daemon=True)
        self._watch.start()

    def close(self) -> None:
        self._stop.set()
        if self._watch is not None:
            self._watch.join()

    def sweep(self) -> None:
        """Settle every draft whose time or whose job is over, and those that failed before."""
        with self._gate.ledger.reading() as tx:
            over = {held.video_id for held in tx.held_clips_over(at=self._clock())}
        for video_id in sorted(over | self._again):
            self.settle(video_id)

    def settle(self, video_id: VideoId) -> None:
        """Do what is to be done now with a draft, if there is one; most often nothing. Never raises.

        What the ledger or the store can not do now is tried again later.
        """
        self._again.discard(video_id)
        try:
            with self._one_at_a_time:
                self._settle(video_id)
        except (Unavailable, LogError):
            _log.warning("the draft %s could not be settled now", video_id, exc_info=True)
            self._again.add(video_id)
        except Exception:  # noqa: BLE001 — its own time ends it, and no other draft waits for it
            _log.exception("the draft %s could not be settled", video_id)

    def _settle(self, video_id: VideoId) -> None:
        at, ledger = self._clock(), self._gate.ledger
        with ledger.reading() as tx:
            held, over = tx.held_clip(video_id), tx.has_ended(video_id)
            waits = held is not None and self._waits(tx, held, at)
        if held is None:
            return
        lapsed = held.expires_at <= at.timestamp()
        if over and held.waits_for == "appeal" and not lapsed:
            return
        if over:
            self._destroy(held)
        elif lapsed:
            self._end(held, (_UNSEEN if held.waits_for == "review" else _LAPSED).as_json())
        elif not waits:
            self._release(held, at)

    def _waits(self, tx: Transaction, held: HeldClip, at: datetime) -> bool:
        if held.waits_for == "approval":
            return bool(self._gate.awaited(tx, held.video_id, at=at))
        return not case_of(tx, held.video_id).passed(held.sha256)

    def _release(self, held: HeldClip, at: datetime) -> None:
        """The last step of the clip's life, taken where it was held up. Consent is folded once more."""
        self._work.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix="draft-", dir=self._work) as directory:
            path = Path(directory) / "stamped.mp4"
            try:
                self._objects.fetch(held.object_key, path)
                clip = self._gate.sealer.open(held.stamped, Stamped, at=at, moved_to=path)
                answer = release(clip, self._gate, self._objects, at=at)
            except (Unavailable, LogError):
                raise
            except (LedgerError, SafetyError, GeneratorError) as error:
                # A file that is gone or changed, a permit that ran out: this clip can never go out.
                answer = Denied((error.reason,), "output")
        match answer:
            case Released() | Held():
                return
            case Denied():
                self._end(held, *(reason.as_json() for reason in answer.reasons))

    def _end(self, held: HeldClip, *reasons: dict[str, str]) -> None:
        at = self._clock()
        stage = "approval" if held.waits_for == "approval" else "review"
        self._gate.ledger.transact(lambda tx: tx.end_job(held.video_id, stage, list(reasons), at=at))
        self._destroy(held)

    def _destroy(self, held: HeldClip) -> None:
        """The file first: a row without a file is looked at again, a file without a row never."""
        with self._gate.ledger.reading() as tx:
            video = tx.video(held.video_id)
        if video is not None and video.object_key == held.object_key:
            self._gate.ledger.transact(lambda tx: tx.drop_draft(held.video_id))
            return
        self._objects.delete(held.object_key)
        at = self._clock()
        self._gate.ledger.transact(lambda tx: keeping.destroyed_draft(tx, held.video_id, at=at))

    def _run(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            try:
                self.sweep()
            except Exception:  # noqa: BLE001 — a database that is away for a minute ends no draft's watch
                _log.exception("the drafts could not be looked at")
