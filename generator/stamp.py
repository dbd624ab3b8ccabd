"""Stamp and release: nothing leaves unmarked, and nothing leaves after consent is gone.

`stamp` makes the canonical file, burns in the label where one is asked for, hides the clip's 64-bit number in its
pixels (and in its sound, which nothing here relies on: a clip whose sound cannot hold it is released all the same), signs
it under C2PA with the manifest of the clip it was made from inside, and then reads manifest, metadata, label and the mark
in the pixels back from the finished bytes. `release` folds consent once more at its own place in the
log and publishes in the same transaction as the entry that says so; or, where only somebody's approval is missing,
keeps the finished clip as a draft in the same transaction as the entry that says that. What reviewers have to judge
is held for them first, in the same way; once they let it pass, the policies are asked again about the very same file.
"""

import base64
import hmac
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from generator.errors import StampFailed
from ledger.consent.held import APPEAL_LIFE, HEARING_LIFE, hold_for_review
from ledger.errors import LedgerError, MediaError, NotFound
from ledger.ids import LeafIndex, VideoId
from ledger.provenance import fingerprint, jumbf, media, watermark
from ledger.provenance.fingerprint import Fingerprint
from ledger.provenance.label import Labeller
from ledger.provenance.manifest import CONSENT_SCHEMA, Claim, Parent, Signer, read
from ledger.provenance.trust import Anchors
from ledger.provenance.watermark import sound
from ledger.store.objects import Objects
from ledger.store.records import HeldClip, Manifest
from ledger.store.transaction import Transaction
from safety.chain import Cleared, Permit, Stamped, stamped, waiting
from safety.gate import DRAFT_LIFE, Denied, Gate

REFERENCE = "countersign-reference"
_MOST_KEPT_BYTES = 16 << 20
"""Of a manifest store."""


@dataclass(frozen=True, slots=True)
class Released:
    """The clip is out. `index` is its release entry's place in the log."""

    index: LeafIndex
    object_key: str


@dataclass(frozen=True, slots=True)
class Held:
    """The clip waits: for reviewers, whom alone it is shown to, or for the word of those it shows."""

    object_key: str


@dataclass(frozen=True, slots=True)
class Stamper:
    """What marking needs: the watermark's key, the claim signer, the trust anchor, where status is asked."""

    watermark_key: bytes
    signer: Signer
    anchors: Callable[[], Anchors]
    origin: str
    base_url: str
    provider: str = "Countersign"

    def stamp(self, clear: Cleared, directory: Path, *, at: datetime, parent: Path | None = None) -> Stamped:
        """Mark and sign a cleared clip. Raises StampFailed unless the finished bytes say all they must.

        `parent`: the released file of the clip that this one was made from, where the permit names one.
        """
        marked, finished = directory / "marked.mp4", directory / "stamped.mp4"
        payload = payload_for(self.watermark_key, clear.permit.video_id)
        try:
            claim = self._claim(clear, payload, at, parent)
            label = self._mark(clear, marked, payload)
            signed = self.signer.sign(marked, finished, claim)
            self._read_back(finished, clear.permit, payload, label)
            looks = fingerprint.of(media.frames(finished, every_s=fingerprint.WHOLE_S))
        except LedgerError as error:
            raise StampFailed(error.reason.id, str(error), error.reason.remedy) from error
        finally:
            marked.unlink(missing_ok=True)
        said = base64.b64encode(looks.to_bytes()).decode()
        return stamped(
            clear, finished, manifest_id=signed.manifest_id, payload=payload.hex(), fingerprint=said
        )

    def _mark(self, clear: Cleared, marked: Path, payload: bytes) -> Labeller | None:
        """The canonical file, with label, mark and metadata. What cannot be played to its end is not written at all."""
        permit = clear.permit
        whole = media.probe(clear.path, media.Limits())
        width, height = (int(side) for side in permit.size.split("x"))
        embed = watermark.Embedder(self.watermark_key, payload, width=width, height=height)
        draw, label = None, permit.marking.label
        if label is not None:
            fps, seconds = float(whole.fps), whole.seconds
            draw = Labeller(label, width=width, height=height, fps=fps, seconds=seconds)
        metadata = self._metadata(permit, payload)
        # The label first: where it is, the mark is hidden in it.
        frames = media.restamp(
            clear.path,
            marked,
            lambda frame, index: embed(draw(frame, index) if draw is not None else frame, index),
            through=sound.through(self.watermark_key, payload),
            metadata=metadata,
        )
        if frames != whole.frames:
            raise StampFailed(
                "stamp.frames", f"of `{whole.frames}` pictures `{frames}` were written", "render again"
            )
        media.require_canonical(marked, frames=frames, metadata=metadata)
        return draw

    def _metadata(self, permit: Permit, payload: bytes) -> dict[str, str]:
        return permit.marking.metadata(
            provider=self.provider, video_id=permit.video_id, payload=payload.hex()
        )

    def _claim(self, clear: Cleared, payload: bytes, at: datetime, parent: Path | None) -> Claim:
        permit = clear.permit
        if (parent is None) != (permit.parent is None):
            raise StampFailed(
                "stamp.parent", "the clip that this one is made from is not there", "start from another clip"
            )
        return Claim(
            video_id=permit.video,
            title=f"{permit.video_id}.mp4",
            at=at,
            backend=clear.backend,
            backend_version=clear.backend_version,
            is_reference=clear.backend == REFERENCE,
            watermark=payload.hex(),
            consent=consent_assertion(permit, self.origin, self.base_url),
            cameo_consents=tuple(use.grant_id for use in permit.uses),
            action=permit.action,
            parent=Parent(parent, permit.parent.manifest_id) if parent and permit.parent else None,
            component=clear.path if read(clear.path, self.anchors()).state != "none" else None,
            marking=permit.marking,
            provider=self.provider,
        )

    def _read_back(self, path: Path, permit: Permit, payload: bytes, label: Labeller | None) -> None:
        found = read(path, self.anchors())
        if not (found.manifest_trusted and found.asset_bound):
            raise StampFailed(
                "stamp.manifest", f"the finished clip's manifest reads `{found.state}`", "render again"
            )
        if found.consent != consent_assertion(permit, self.origin, self.base_url):
            raise StampFailed(
                "stamp.consent",
                "the finished clip's manifest does not say whose consent it has",
                "render again",
            )
        if (said := media.metadata(path)) != self._metadata(permit, payload):
            raise StampFailed("stamp.metadata", f"the finished clip's index says `{said}`", "render again")
        seen = _labelled(path, label)
        mark = watermark.detect(seen, self.watermark_key)
        for _ in seen:
            pass  # what the mark was not looked for in bears the label too
        if not isinstance(mark, watermark.Detected) or mark.payload != payload:
            raise StampFailed(
                "stamp.watermark",
                "the mark cannot be read back from the finished clip",
                "ask for a longer or larger clip",
            )


def _labelled(path: Path, label: Labeller | None) -> Iterator[NDArray[np.uint8]]:
    """The frames of a finished clip. Raises StampFailed at one that does not show the label it should."""
    for index, (_, frame) in enumerate(media.frames(path)):
        if label is not None and not label.is_in(frame, index):
            raise StampFailed(
                "stamp.label", "the label cannot be seen in the finished clip", "ask for a larger clip"
            )
        yield frame


def payload_for(key: bytes, video_id: str) -> bytes:
    """The clip's 64-bit number. Derived, so that a stamp repeated after a crash hides the same one."""
    return hmac.digest(key, b"countersign/payload/v1\x00" + video_id.encode(), "sha256")[
        : watermark.PAYLOAD_BYTES
    ]


def consent_assertion(permit: Permit, origin: str, base_url: str) -> dict[str, object]:
    """`org.countersign.consent`: under which grants, decided where in which log, and where to ask about *now*."""
    return {
        "schema": CONSENT_SCHEMA,
        "video_id": permit.video_id,
        **({"parent": permit.parent.video_id} if permit.parent else {}),
        "grants": [use.grant_id for use in permit.uses],
        "decision_index": permit.decision_index,
        "log_origin": origin,
        "policy_set": permit.policy_set,
        "status_url": f"{base_url}/v1/clips/{permit.video_id}",
    }


def release(clip: Stamped, gate: Gate, objects: Objects, *, at: datetime) -> Released | Held | Denied:
    """Publish, if everyone shown still agrees; hold, if all that is missing is somebody's word: reviewers', then theirs.

    What somebody registered since as not to be generated does not go out, however long ago the clip was made.
    Idempotent: a clip has one release entry and one draft, whatever crashes.
    """
    # The object is durable before the transaction that names it; until then nothing can reach it.
    key = objects.put(clip.path)
    try:
        # What it looks like is searched for before the log waits for us; what became of what it looks like, in the log.
        same = (
            gate.copied(Fingerprint.from_bytes(base64.b64decode(clip.fingerprint)))
            if clip.fingerprint
            else ()
        )
        answer = _published(clip, gate, key, at, same)
        while answer is None:
            # Outside of any transaction: the log does not wait while faces are looked for.
            again = gate.clear_again(clip, at=at)
            if isinstance(again, Denied):
                answer = again
            else:
                clip = again
                answer = _published(clip, gate, key, at, same)
    except NotFound:
        objects.delete(key)  # the job ended meanwhile: nothing of the clip stays
        raise
    if isinstance(answer, Denied):
        objects.delete(key)
    return answer


def _published(
    clip: Stamped, gate: Gate, key: str, at: datetime, same: Sequence[VideoId]
) -> Released | Held | Denied | None:
    """None: the clip has to be looked at again first. The register has changed, or reviewers let it pass."""
    permit, manifest = clip.permit, _manifest_of(clip)

    def operation(tx: Transaction) -> Released | Held | Denied | None:
        done = tx.find("release", permit.video_id)
        if done is not None:
            return Released(done.index, key)
        if gate.must_be_seen(tx, clip):
            return _hold_for_review(tx, clip, gate, key, at)
        if gate.outdated(tx, clip) or clip.review:
            return None
        denied = gate.may_release(tx, permit, at=at, copies=gate.stopped(tx, permit, same, at=tx.dated(at)))
        if denied is not None:
            return _hold(tx, clip, gate, key, at) or denied
        record = {
            "sha256": clip.sha256,
            "manifest_id": clip.manifest_id,
            "payload": clip.payload,
            "backend": clip.backend,
            "checks": list(clip.checks),
            **permit.marking.applied(),
        }
        released = tx.finish_job(permit.video, record, key, at=at)
        if clip.fingerprint:
            tx.put_fingerprint(permit.video, base64.b64decode(clip.fingerprint))
        if manifest is not None:
            tx.keep_manifest(manifest, at=at)
        return Released(released, key)

    return gate.ledger.transact(operation)


def _manifest_of(clip: Stamped) -> Manifest | None:
    """What whoever finds the clip without its manifest is given. None where the file holds none that can be told.

    The token says that one was signed and read back, so nothing is released here that was not; at worst it is found
    by :mod:`ledger.provenance.verdict` alone.
    """
    try:
        store = jumbf.read(clip.path)
    except MediaError:
        return None
    if store is None or store.active.id != clip.manifest_id or len(store.content) > _MOST_KEPT_BYTES:
        return None
    return Manifest(clip.manifest_id, clip.permit.video, store.content)


def _hold(tx: Transaction, clip: Stamped, gate: Gate, key: str, at: datetime) -> Held | None:
    """Keep the clip until those it shows have spoken; None when it waits for something else."""
    reviewed = clip.until > clip.permit.expires.timestamp()
    until = gate.may_wait(tx, clip.permit, at=at, by=at + DRAFT_LIFE if reviewed else None)
    if until is None:
        return None
    held = tx.held_clip(clip.permit.video)
    if held is None or held.waits_for != "approval":
        clip = waiting(clip, until=until) if reviewed else clip
        tx.hold_job(_held(clip, gate, key, "approval", at, until), clip.sha256, at=at)
    return Held(key)


def _hold_for_review(tx: Transaction, clip: Stamped, gate: Gate, key: str, at: datetime) -> Held | Denied:
    """Keep the clip until reviewers have spoken. Nobody else sees it: neither those it shows nor its app."""
    until = gate.may_be_reviewed(tx, clip.permit, at=at)
    if isinstance(until, Denied):
        return until
    held = tx.held_clip(clip.permit.video)
    if held is None or held.waits_for != "review":
        tx.unended(clip.permit.video)
        # Longer than it waits: for an appeal, and for those who have to approve it then.
        clip = waiting(clip, until=until + APPEAL_LIFE + HEARING_LIFE)
        held = _held(clip, gate, key, "review", at, until)
        hold_for_review(tx, held, clip.sha256, clip.review, at=at)
    return Held(key)


def _held(clip: Stamped, gate: Gate, key: str, waits_for: str, at: datetime, until: datetime) -> HeldClip:
    times = int(at.timestamp()), int(until.timestamp())
    return HeldClip(clip.permit.video, gate.sealer.seal(clip), key, *times, waits_for)
