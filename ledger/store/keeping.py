"""How long rows live, and what has to go: the queries behind the retention schedule (`gateway.retention`).

Rows go first, then their files: a crash in between leaves a file that no row names, and :func:`named_objects` is what
tells such a file from one that is still needed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from sqlalchemy import Delete, delete, update
from sqlmodel import SQLModel, col, select

from ledger.canonical import sha256
from ledger.ids import CameoId, PersonId, VideoId
from ledger.store import tables
from ledger.store.jobs import ENDED, RUNNING
from ledger.store.journal import About
from ledger.store.transaction import Transaction

_PIECE = 500


@dataclass(frozen=True, slots=True)
class Doomed:
    """Something about one person whose time is over. `sha256`: of what is destroyed, hex; `object_key`: its file."""

    person_id: PersonId
    ref: str
    sha256: str
    object_key: str | None = None


# -- what is nobody's in particular -------------------------------------------------------------------------


def forget_expired(tx: Transaction, *, at: datetime) -> dict[str, int]:
    """Delete challenges, sessions, tokens, tallies and half-signed orders that are over. How many of each."""
    now = int(at.timestamp())
    found: dict[str, int] = {}
    expiring: tuple[tuple[str, type[SQLModel]], ...] = (
        ("login_nonce", tables.LoginNonce),
        ("session", tables.PersonSession),
        ("token", tables.Token),
        ("tally", tables.Tally),
        ("order_signature", tables.OrderSignature),
    )
    for name, table in expiring:
        over = SQLModel.metadata.tables[str(table.__tablename__)].c.expires_at <= now
        found[name] = _deleted(tx, delete(table).where(over))
    return found


def _deleted(tx: Transaction, statement: Delete) -> int:
    return int(tx.session.connection().execute(statement).rowcount)


def record_deletions(
    tx: Transaction, rule: str, what: str, doomed: Iterable[Doomed], *, at: datetime
) -> None:
    """One `deletion` entry on the list of each person whose things these were, but of those who are erased."""
    ordered = sorted((one for one in doomed if one.sha256), key=lambda one: (one.person_id, one.sha256))
    for person_id, theirs in groupby(ordered, key=lambda one: one.person_id):
        if not tx.erased(person_id):
            sha256s = [one.sha256 for one in theirs]
            body = {"rule": rule, "what": what, "count": len(sha256s), "sha256s": sha256s}
            tx.append("deletion", f"{person_id}/{tx.size()}", [About(person_id, "owner", body)], at=at)


# -- what is about somebody ---------------------------------------------------------------------------------


def captures_over(tx: Transaction, *, before: datetime, at: datetime) -> list[Doomed]:
    """Enrolments whose time is over: refused, taken up or run out before `before`; a film that waited too long, now."""
    row = tables.Capture
    long_over = col(row.expires_at) <= int(before.timestamp())
    waited = (col(row.expires_at) <= int(at.timestamp())) & col(row.object_key).is_not(None)
    settled = col(row.status).in_(("accepted", "refused")) & (col(row.created_at) <= int(before.timestamp()))
    query = select(row).where(long_over | waited | settled).order_by(col(row.created_at), row.id)
    return [
        Doomed(PersonId(one.person_id), one.id, one.sha256, one.object_key) for one in tx.session.exec(query)
    ]


def forget_captures(tx: Transaction, refs: Iterable[str]) -> None:
    for part in _parts(refs):
        tx.session.exec(delete(tables.Capture).where(col(tables.Capture.id).in_(part)))


def drafts_over(tx: Transaction, *, at: datetime) -> list[Doomed]:
    """Drafts of jobs that ended without a clip: one for each person they show.

    What a reviewer refused is kept while its app may ask for another look.
    """
    row, video, use = tables.Draft, tables.Video, tables.VideoGrant
    query = (
        select(row, use.person_id)
        .join(video, col(video.id) == col(row.video_id))
        .join(use, col(use.video_id) == col(row.video_id))
        .where(
            col(video.status) == "failed",
            (col(row.waits_for) != "appeal") | (col(row.expires_at) <= int(at.timestamp())),
        )
        .order_by(col(row.asked_at), row.video_id)
    )
    return [
        Doomed(PersonId(person), draft.video_id, digest_of(draft.object_key), draft.object_key)
        for draft, person in tx.session.exec(query)
    ]


def destroyed_draft(tx: Transaction, video_id: VideoId, *, at: datetime) -> None:
    """Forget a draft whose file was destroyed, and tell those it showed. Of one that is forgotten already, nothing."""
    draft = tx.session.get(tables.Draft, video_id)
    if draft is None:
        return
    digest = digest_of(draft.object_key)
    shown = [Doomed(use.person_id, video_id, digest) for use in tx.uses(video_id)]
    tx.drop_draft(video_id)
    record_deletions(tx, "drafts", "draft", shown, at=at)


def forget_drafts(tx: Transaction, refs: Iterable[str]) -> None:
    for part in _parts(refs):
        tx.session.exec(delete(tables.Draft).where(col(tables.Draft.video_id).in_(part)))


def failed_prompts(tx: Transaction, *, before: datetime) -> list[Doomed]:
    """The words of jobs that ended without a clip before `before`: one for each person they were about."""
    row, use = tables.Video, tables.VideoGrant
    query = (
        select(row, use.person_id)
        .join(use, col(use.video_id) == col(row.id))
        .where(col(row.status) == "failed", row.prompt != "", col(row.created_at) <= int(before.timestamp()))
        .order_by(col(row.created_at), row.id)
    )
    return [
        Doomed(PersonId(person), video.id, sha256(video.prompt.encode()).hex())
        for video, person in tx.session.exec(query)
    ]


def forget_prompts(tx: Transaction, *, before: datetime) -> int:
    """Blank those words, of jobs that were about nobody as well. The reasons in the row go with them: they may quote."""
    row = tables.Video
    over = update(row).where(
        col(row.status) == "failed", col(row.prompt) != "", col(row.created_at) <= int(before.timestamp())
    )
    return int(tx.session.connection().execute(over.values(prompt="", permit=None)).rowcount)


def people_with_likeness(
    tx: Transaction, after: str = "", limit: int = _PIECE
) -> list[tuple[PersonId, CameoId]]:
    """Whoever has a likeness here that was not destroyed, in the order of their ids from `after` on."""
    row = tables.Cameo
    query = select(row.person_id, row.id).where(row.person_id > after, row.likeness != b"")
    found = tx.session.exec(query.order_by(row.person_id).limit(limit))
    return [(PersonId(person), CameoId(cameo)) for person, cameo in found]


def forget_likeness(tx: Transaction, person_id: PersonId) -> list[str]:
    """Destroy a likeness and every clip of it, and keep the account and its list. Returns the keys of the clips.

    The row stays, empty, so that the list can still be found by its likeness; whoever asks for it is denied.
    """
    row = tables.Cameo
    for cameo_id in tx.session.exec(select(row.id).where(row.person_id == person_id)).all():
        tx.cameo_changed(cameo_id)
    gone = {"likeness": b"", "portrait": b"", "voice": None, "name_key": None}
    tx.session.exec(update(row).where(col(row.person_id) == person_id).values(**gone))
    shown = select(tables.VideoGrant.video_id).where(tables.VideoGrant.person_id == person_id)
    clips = tx.session.exec(select(tables.Video).where(col(tables.Video.id).in_(shown)))
    keys = []
    for clip in clips:
        if clip.object_key is not None:
            keys.append(clip.object_key)
            clip.object_key = None
            tx.session.add(clip)
    tx.session.flush()
    return keys


# -- files ---------------------------------------------------------------------------------------------------


def clip_object(tx: Transaction, video_id: VideoId) -> str | None:
    """Where a clip's file lies: of a released one, or of a draft that waits for those it shows. None when there is none."""
    row = tx.session.get(tables.Video, video_id)
    if row is None or row.object_key is not None:
        return row.object_key if row is not None else None
    draft = tx.session.get(tables.Draft, video_id)
    waits = draft is not None and row.status in RUNNING and draft.waits_for == "approval"
    return draft.object_key if draft is not None and waits else None


def clips_of(tx: Transaction, person_id: PersonId) -> list[tuple[VideoId, str]]:
    """Every released clip that shows somebody, and where it lies; oldest first."""
    row, use = tables.Video, tables.VideoGrant
    query = (
        select(row.id, row.object_key)
        .join(use, col(use.video_id) == col(row.id))
        .where(use.person_id == person_id, col(row.object_key).is_not(None))
        .order_by(col(row.created_at), row.id)
    )
    return [(VideoId(video), str(key)) for video, key in tx.session.exec(query)]


def captures_of(tx: Transaction, person_id: PersonId) -> list[str]:
    """The ids of a person's enrolments of which there is a film, oldest first."""
    row = tables.Capture
    query = select(row.id).where(row.person_id == person_id, col(row.object_key).is_not(None))
    return list(tx.session.exec(query.order_by(col(row.created_at), row.id)))


def named_objects(tx: Transaction, keys: Iterable[str]) -> set[str]:
    """Which of these objects a row names: a clip, a draft, a film, or what shows that somebody has died.

    Raises Unavailable for a row that can not be read: then nothing may be thought to be named by none.
    """
    wanted = set(keys)
    found = {key for one in tx.reviews("estate") if (key := str(one.said["object_key"])) in wanted}
    for part in _parts(wanted):
        for table in (tables.Video, tables.Draft, tables.Capture):
            named = select(table.object_key).where(col(table.object_key).in_(part))
            found.update(key for key in tx.session.exec(named) if key is not None)
    return found


def oldest_job(tx: Transaction) -> int | None:
    """When the first job began that has not ended (Unix seconds): what it stored may not be named yet."""
    row = tables.Video
    query = select(row.created_at).where(col(row.status).not_in(ENDED)).order_by(col(row.created_at))
    return tx.session.exec(query.limit(1)).first()


def digest_of(object_key: str) -> str:
    """An object's key ends in its SHA-256."""
    return object_key.rpartition("/")[2]


def _parts(values: Iterable[str]) -> Iterator[list[str]]:
    held = list(values)
    for start in range(0, len(held), _PIECE):
        yield held[start : start + _PIECE]
