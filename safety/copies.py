"""Copies of clips that nobody may show any more: none goes out again, whoever makes it, and those that are out are listed.

A clip is *stopped* once it, or one that it was made from, was taken down, was withdrawn by somebody it shows, or shows
somebody who had their likeness erased. A finished clip is a *copy* of another where four fifths of the shorter one's
seconds are in both (:mod:`ledger.provenance.known_clips`) and the pictures differ as little as the same picture does
once it is encoded again: at most :data:`COPY_BITS` of 256 bits, in the middle. Two clips of one model that show the same
person in two scenes differ in 34 and more.

Of a clip that was withdrawn (not: taken down, not: erased) a copy may be made where everyone it showed has agreed to
that very copy: it is theirs to allow again.

What cannot be read is no answer: then nothing goes out.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from ledger.errors import MediaError, NotFound
from ledger.ids import PersonId, VideoId
from ledger.log.sequencer import Ledger
from ledger.provenance import fingerprint, media
from ledger.provenance.fingerprint import Fingerprint
from ledger.provenance.known_clips import Index, Match
from ledger.provenance.standing import clip_standing
from ledger.store.objects import Objects
from ledger.store.transaction import Transaction
from safety import workers

SHARE: Final = 0.8
COPY_BITS: Final = 20
FILLED_AT_ONCE: Final = 20


@dataclass(frozen=True, slots=True)
class Stopped:
    """A clip that nobody may show any more, and why: taken_down, withdrawn or erased."""

    video_id: VideoId
    why: str


def looked(path: Path) -> Fingerprint:
    """The fingerprint of a clip, made in a worker process. Raises MediaError, CheckUnavailable."""
    return workers.shared().call(seen, str(path))


def seen(path: str) -> Fingerprint:
    """As :func:`looked`, in this process."""
    return fingerprint.of(media.frames(Path(path), every_s=fingerprint.WHOLE_S / 5))


def copied(index: Index, tx: Transaction, file: Fingerprint) -> tuple[VideoId, ...]:
    """The released clips that this one is a copy of, or they of it."""
    of = file.seconds()
    return tuple(one.video_id for one in index.matches(tx, file) if _copy(one, of))


def _copy(match: Match, seconds: int) -> bool:
    found = match.likeness
    return found.bits <= COPY_BITS and len(found.seconds) >= SHARE * min(found.of, max(seconds, 1))


def stopped(
    tx: Transaction,
    clips: Iterable[VideoId],
    shown: Collection[PersonId],
    *,
    at: datetime,
    but: VideoId | None = None,
) -> list[Stopped]:
    """Which of these clips stand against one that shows these people, all of whom have agreed to it."""
    found = []
    for video_id in clips:
        why = _why(tx, video_id, at) if video_id != but else None
        agreed = {use.person_id for use in tx.uses(video_id)} <= set(shown) and bool(tx.uses(video_id))
        if why is not None and not (why == "withdrawn" and agreed):
            found.append(Stopped(video_id, why))
    return found


def _why(tx: Transaction, video_id: VideoId, at: datetime) -> str | None:
    standing = clip_standing(tx, video_id, at=at)
    if standing is None:
        return None
    if standing.taken_down_at is not None:
        return "taken_down"
    return standing.consent_now if standing.consent_now in {"withdrawn", "erased", "unknown"} else None


# What is out already --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Copy:
    """A clip that is out, and the stopped one that it is a copy of."""

    video_id: VideoId
    stopped: Stopped


def sweep(tx: Transaction, index: Index, *, at: datetime) -> list[Copy]:
    """Every clip that is out and is a copy of one that was stopped. Looks at each stopped clip, and changes nothing."""
    found = []
    for video_id, content in tx.fingerprints():
        why = _why(tx, video_id, at)
        if why is None:
            continue
        for other in copied(index, tx, Fingerprint.from_bytes(content)):
            video = tx.video(other)
            out = video is not None and video.object_key is not None and video.taken_down_at is None
            if other != video_id and out and _why(tx, other, at) is None:
                found.append(Copy(other, Stopped(video_id, why)))
    return found


# Clips from before there were fingerprints ----------------------------------------------------------------


def fill(ledger: Ledger, objects: Objects, work: Path) -> int:
    """Give some released clips that have none their fingerprint. How many; 0 when there is nothing left to do.

    One whose file is gone, or can not be read, gets an empty one: nothing is like it.
    """
    with ledger.reading() as tx:
        without = tx.without_fingerprint(FILLED_AT_ONCE)
    for video_id, key in without:
        content = _made(objects, key, work).to_bytes()
        ledger.transact(partial(_put, video_id=video_id, content=content))
    return len(without)


def _put(tx: Transaction, *, video_id: VideoId, content: bytes) -> None:
    tx.put_fingerprint(video_id, content)


def _made(objects: Objects, key: str, work: Path) -> Fingerprint:
    work.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="fingerprint-", dir=work) as directory:
        path = Path(directory) / "clip.mp4"
        try:
            objects.fetch(key, path)
            return looked(path)
        except (NotFound, MediaError):
            return fingerprint.of(())
