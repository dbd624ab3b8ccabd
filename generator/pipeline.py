"""The durable pipeline: render, clear, stamp, then release or hold, whatever dies in between.

A DBOS workflow whose id is the video's id: it exists once, survives kill -9, and resumes at the step it was in.
A step may run twice (it died after its effect and before its checkpoint), so every effect is keyed by the
video's id: files are replaced whole, ledger entries are unique by (kind, video), and the permit opens for this
job only. What passes between steps is sealed text, never a token.

A job can end while it is being made: a revocation ends it in its own transaction. No step begins for a job that has
ended, and a model that reports its progress is told to stop; whatever it makes all the same goes nowhere.
"""

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, TypedDict, TypeVar

from dbos import DBOS, DBOSConfig, SetWorkflowID
from dbos import Serializer as DbosSerializer

from generator.backend import Backend, Portrait, RenderRequest
from generator.drafts import Drafts
from generator.errors import GeneratorError, JobEnded
from generator.stamp import Held, Released, Stamper, release
from ledger.canonical import sha256
from ledger.errors import LedgerError
from ledger.ids import VideoId
from ledger.reasons import Reason
from ledger.store.objects import Objects
from ledger.store.transaction import Transaction
from safety.chain import Allowed, Cleared, Permit, RawClip, Stamped, raw_clip
from safety.errors import Refused, SafetyError
from safety.gate import Denied, Gate
from safety.likeness import likeness_of

QUEUE = "render"
STAGES = ("render", "clear", "stamp", "release")
_ENDED = {"ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"}
_LOOK_EVERY = timedelta(seconds=0.5)
"""How often a running model's job is looked at."""
T = TypeVar("T", RawClip, Cleared, Stamped)
_log = logging.getLogger(__name__)


class Outcome(TypedDict):
    """What a step leaves behind: sealed text for the next one, or the reasons the job ends here."""

    sealed: str
    reasons: list[dict[str, str]]


@dataclass(slots=True)
class Pipeline:
    """The steps, with what they need. One per process; `launch` also takes up what an earlier one left."""

    gate: Gate
    backends: Mapping[str, Backend]
    stamper: Stamper
    objects: Objects
    work: Path
    clock: Callable[[], datetime]
    drafts: Drafts = field(init=False)

    running: ClassVar["Pipeline | None"] = None

    def __post_init__(self) -> None:
        self.drafts = Drafts(self.gate, self.objects, self.work, self.clock)

    def launch(self, database_url: str, *, concurrency: int) -> None:
        config: DBOSConfig = {
            "name": "countersign",
            "system_database_url": database_url,
            # Fixed, so that a job outlives an upgrade of the code that will finish it.
            "application_version": "1",
            "executor_id": "local",
            "log_level": "WARNING",
            "serializer": _Json(),
        }
        Pipeline.running = self
        DBOS(config=config)
        DBOS.launch()
        DBOS.register_queue(QUEUE, worker_concurrency=concurrency, polling_interval_sec=0.2)
        self._take_up()
        self.drafts.start()

    def close(self) -> None:
        self.drafts.close()
        DBOS.destroy()
        Pipeline.running = None

    def submit(self, video_id: VideoId) -> None:
        """Start the job, once: a second submit of the same video changes nothing."""
        with SetWorkflowID(video_id):
            DBOS.enqueue_workflow(QUEUE, make_clip, video_id)

    def attempt(self, stage: str, sealed: str) -> Outcome:
        """Run one stage on what the one before it sealed. Never raises: a fault is a reason like any other."""
        try:
            answer = getattr(self, f"_{stage}")(sealed)
        except (GeneratorError, SafetyError, LedgerError) as error:
            answer = Denied((error.reason,), "output")
        except Exception:  # noqa: BLE001 — a job never hangs on an unforeseen fault
            _log.exception("step %s stopped", stage)
            sentence = f"the clip could not be made: step `{stage}` stopped"
            answer = Denied(
                (Reason(f"{stage}.failed", sentence, "try again; if it persists, tell the operator"),),
                "output",
            )
        if isinstance(answer, Denied):
            return {"sealed": "", "reasons": [reason.as_json() for reason in answer.reasons]}
        return {"sealed": answer, "reasons": []}

    def fail(self, video_id: VideoId, stage: str, reasons: list[dict[str, str]]) -> None:
        """End the job without a clip: say why, and give each grant its use back. Idempotent."""
        at = self.clock()
        self.gate.ledger.transact(lambda tx: tx.end_job(video_id, stage, reasons, at=at))

    def tidy(self, video_id: VideoId) -> None:
        shutil.rmtree(self.work / video_id, ignore_errors=True)

    # -- the stages: sealed text in, sealed text out ----------------------------------------------------

    def _render(self, video_id: str) -> str:
        """Open the permit and call the model. The only place that does."""
        at = self.clock()
        allowed, prompt = self.gate.ledger.transact(lambda tx: self._redeem(tx, VideoId(video_id), at))
        permit = allowed.permit
        backend = self.backends[permit.model]
        out = self._directory(permit.video) / "raw.mp4"
        width, height = (int(side) for side in permit.size.split("x"))
        request = RenderRequest(
            job_id=permit.video,
            prompt=prompt,
            width=width,
            height=height,
            seconds=permit.seconds,
            seed=int(permit.prompt_sha256[:16], 16),
            portraits=self._portraits(permit),
        )
        backend.render(request, out, self._progress(permit.video))
        return self.gate.sealer.seal(
            raw_clip(allowed, out, backend=backend.name, version=backend.version, closed=backend.closed)
        )

    def _clear(self, sealed: str) -> str | Denied:
        at = self.clock()
        answer = self.gate.clear(self._open(sealed, RawClip, at=at), at=at)
        return answer if isinstance(answer, Denied) else self.gate.sealer.seal(answer)

    def _stamp(self, sealed: str) -> str:
        at = self.clock()
        clear = self._open(sealed, Cleared, at=at)
        directory = self._directory(clear.permit.video)
        parent = self._parent(clear.permit, directory)
        return self.gate.sealer.seal(self.stamper.stamp(clear, directory, at=at, parent=parent))

    def _release(self, sealed: str) -> str | Denied:
        at = self.clock()
        # The release itself looks whether the job has ended: it may have been released before a crash.
        answer = release(self.gate.sealer.open(sealed, Stamped, at=at), self.gate, self.objects, at=at)
        match answer:
            case Released():
                return "released"
            case Held():
                return "held"
            case Denied():
                return answer

    def _parent(self, permit: Permit, directory: Path) -> Path | None:
        """The clip to make this one from, as it was released. None: there is none, or it has been deleted since."""
        if permit.parent is None:
            return None
        with self.gate.ledger.reading() as tx:
            above = tx.video(permit.parent.video_id)
        if above is None or above.object_key is None:
            return None
        return self.objects.fetch(above.object_key, directory / "parent.mp4")

    # -- what the stages need ---------------------------------------------------------------------------

    def _open(self, sealed: str, kind: type[T], *, at: datetime) -> T:
        """What the step before left, if there is still somebody who wants it. Raises JobEnded, Refused."""
        token = self.gate.sealer.open(sealed, kind, at=at)
        self._refuse_ended(token.permit.video)
        return token

    def _refuse_ended(self, video_id: VideoId) -> None:
        with self.gate.ledger.reading() as tx:
            ended = tx.has_ended(video_id)
        if ended:
            raise JobEnded("job.ended", "this job ended before the clip was finished", "ask for a new video")

    def _redeem(self, tx: Transaction, video_id: VideoId, at: datetime) -> tuple[Allowed, str]:
        sealed, prompt = tx.take_job(video_id)
        allowed = self.gate.sealer.open(sealed, Allowed, at=at)
        # Bound to its own job: a permit copied to another row renders nothing.
        if allowed.permit.video_id != video_id:
            raise Refused("permit.other_job", "this permit belongs to another video", "ask for a new video")
        # These words were screened and decided on; others in the row were not.
        if sha256(prompt.encode()).hex() != allowed.permit.prompt_sha256:
            raise Refused(
                "permit.other_words",
                "the stored prompt is not the one that was allowed",
                "ask for a new video",
            )
        return allowed, prompt

    def _portraits(self, permit: Permit) -> tuple[Portrait, ...]:
        with self.gate.ledger.reading() as tx:
            found = [(use.ids[1], likeness_of(tx, use.ids[1])) for use in permit.uses]
        return tuple(Portrait(cameo_id, likeness.portrait, likeness.face) for cameo_id, likeness in found)

    def _progress(self, video_id: VideoId) -> Callable[[float], None]:
        """Progress in whole tenths: each one is a write. Raises JobEnded for a job that is over, soon after it is."""
        last, looked = -1, self.clock()

        def report(done: float) -> None:
            nonlocal last, looked
            if (now := self.clock()) - looked >= _LOOK_EVERY or int(done * 10) > last:
                looked = now
                self._refuse_ended(video_id)
            tenth = int(done * 10)
            if tenth > last:
                last = tenth
                self.gate.ledger.transact(lambda tx: tx.report_progress(video_id, min(90, tenth * 9)))

        return report

    def _directory(self, video_id: VideoId) -> Path:
        directory = self.work / video_id
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def _take_up(self) -> None:
        """Start what was allowed but never started, end what cannot go on, sweep up files of ended jobs."""
        with self.gate.ledger.reading() as tx:
            unfinished = tx.unfinished_jobs()
            waiting = {held.video_id for held in tx.held_clips()}
        for video_id in unfinished:
            if video_id in waiting:
                continue  # it is made; what becomes of it is for `drafts` to say
            status = DBOS.get_workflow_status(video_id)
            if status is None:
                self.submit(video_id)
            elif status.status in _ENDED:
                stopped = Reason(
                    "render.failed", "the clip could not be made: the service stopped", "try again"
                )
                self.fail(video_id, "render", [stopped.as_json()])
        for directory in self.work.iterdir() if self.work.is_dir() else ():
            if directory.name not in unfinished:
                shutil.rmtree(directory, ignore_errors=True)


@DBOS.workflow(name="make_clip")
def make_clip(video_id: str) -> str:
    """Render → clear → stamp → release or hold, or fail with the reasons."""
    line, video = Pipeline.running, VideoId(video_id)
    if line is None:
        raise RuntimeError("the pipeline is not launched")
    sealed = ended = video_id
    for stage in STAGES:
        outcome = DBOS.run_step({"name": stage}, line.attempt, stage, sealed)
        if outcome["reasons"]:
            ended = stage
            options: Any = {"name": "fail", "retries_allowed": True, "max_attempts": 8}
            DBOS.run_step(options, line.fail, video, stage, outcome["reasons"])
            break
        sealed = ended = outcome["sealed"]
    DBOS.run_step({"name": "tidy"}, line.tidy, video)
    return ended


class _Json(DbosSerializer):
    """Checkpoints as JSON: a row of the job database can never be code (pickle would be)."""

    def serialize(self, data: Any) -> str:
        return json.dumps(data if not isinstance(data, BaseException) else {"error": type(data).__name__})

    def deserialize(self, serialized_data: str) -> Any:
        return json.loads(serialized_data)

    def name(self) -> str:
        return "countersign-json"
