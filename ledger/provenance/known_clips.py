"""Which released clips a file shows seconds of: the fingerprints of all of them, in memory, searched without missing any.

Guarantees

- A clip is found exactly where one of the file's pictures differs in at most 31 bits from one of the clip's: every one
  of them as it comes, and where nothing is, 64 of them in all the views that :mod:`ledger.provenance.fingerprint`
  hashes. Plain scan and index answer alike.
- What another process released counts at the next look. Rows only come, so reading on from the last one known is
  enough; a row that can not be read raises, and nothing is answered without it.
- Thread-safe, and immutable where it is asked: whoever asks holds nobody up, but who finds something new to read.

It is asked with a transaction that reads: what a writing one has put down may yet not come to be.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ledger.errors import Unavailable
from ledger.ids import VideoId
from ledger.provenance import fingerprint, pdq
from ledger.provenance.fingerprint import Fingerprint, Likeness
from ledger.store.transaction import Transaction

AT_ONCE = 500
"""Rows read at a time."""
MOST_ALIKE = 32
"""Clips that are compared whole, those with most pictures in common first."""
MOST_CHANGED = 64
"""Pictures of a file that are asked about in every way they may have been changed, evenly spread."""
_TAIL = 16_384
"""Hashes up to which those that came last are indexed apart, or a quarter of all."""


@dataclass(frozen=True, slots=True)
class Match:
    """A released clip, and how much of it a file shows."""

    video_id: VideoId
    likeness: Likeness


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Clips, and their rows one after the other: those of the n-th are starts[n] to starts[n + 1]."""

    ids: tuple[VideoId, ...]
    starts: NDArray[np.int64] = field(repr=False)
    rows: Fingerprint = field(repr=False)
    index: pdq.Index = field(repr=False)

    @classmethod
    def of(cls, clips: Iterable[tuple[VideoId, Fingerprint]]) -> "_Part":
        held = list(clips)
        rows = Fingerprint(
            np.concatenate([np.empty(0, np.uint32), *(one.at_ms for _, one in held)]),
            np.concatenate([np.empty(0, np.uint8), *(one.view for _, one in held)]),
            np.concatenate([np.empty((0, 4), np.uint64), *(one.hashes for _, one in held)]),
        )
        starts = np.cumsum([0, *(len(one) for _, one in held)])
        index = pdq.Index(rows.hashes)
        # The index's own array: the hashes are in memory once.
        rows = Fingerprint(rows.at_ms, rows.view, index.hashes)
        return cls(tuple(video_id for video_id, _ in held), starts, rows, index)

    def clip(self, number: int) -> Fingerprint:
        here = slice(self.starts[number], self.starts[number + 1])
        return Fingerprint(self.rows.at_ms[here], self.rows.view[here], self.rows.hashes[here])

    @property
    def bytes(self) -> int:
        return self.index.bytes + self.rows.at_ms.nbytes + self.rows.view.nbytes + self.starts.nbytes

    def clips(self) -> Iterable[tuple[VideoId, Fingerprint]]:
        return ((video_id, self.clip(number)) for number, video_id in enumerate(self.ids))

    def alike(self, asked: Fingerprint) -> list[int]:
        """The clips with a picture in common, by their number; those with most of them first."""
        _, row, _ = self.index.within(np.unique(asked.hashes, axis=0))
        clips, counts = np.unique(
            np.searchsorted(self.starts, np.unique(row), side="right") - 1, return_counts=True
        )
        return [int(one) for one in clips[np.argsort(-counts, kind="stable")][:MOST_ALIKE]]


class Index:
    """The fingerprints of all released clips. One per process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seq = 0
        self._parts = (_Part.of(()), _Part.of(()))

    def __repr__(self) -> str:
        return "Index()"

    def matches(self, tx: Transaction, file: Fingerprint) -> tuple[Match, ...]:
        """The clips that a file shows a part of; the one with most seconds in it first. Raises Unavailable."""
        parts = self._read(tx)
        # Most files come as they are. To ask in every way they may have been changed takes thirty times as long, so
        # that is done for fewer of their pictures.
        return _found(parts, file, file.plainly()) or _found(parts, file, file.spread(MOST_CHANGED))

    def __len__(self) -> int:
        """Hashes, as last read."""
        return sum(len(part.index) for part in self._parts)

    @property
    def bytes(self) -> int:
        """What it takes of memory."""
        return sum(part.bytes for part in self._parts)

    def _read(self, tx: Transaction) -> tuple[_Part, _Part]:
        with self._lock:
            new = list[tuple[VideoId, Fingerprint]]()
            seq = self._seq
            while found := tx.fingerprints_after(seq, AT_ONCE):
                new += [(video_id, _opened(content)) for _, video_id, content in found]
                seq = found[-1][0]
            if new:
                self._parts, self._seq = _grown(*self._parts, new), seq
            return self._parts


def _grown(main: _Part, tail: _Part, new: list[tuple[VideoId, Fingerprint]]) -> tuple[_Part, _Part]:
    latest = _Part.of([*tail.clips(), *new])
    if len(latest.index) <= max(_TAIL, len(main.index) // 4):
        return main, latest
    return _Part.of([*main.clips(), *latest.clips()]), _Part.of(())


def _found(parts: Iterable[_Part], file: Fingerprint, asked: Fingerprint) -> tuple[Match, ...]:
    found = []
    for part in parts:
        for number in part.alike(asked):
            likeness = fingerprint.like(file, part.clip(number))
            if likeness is not None and likeness.seconds:
                found.append(Match(part.ids[number], likeness))
    return tuple(sorted(found, key=lambda one: (-len(one.likeness.seconds), one.likeness.bits, one.video_id)))


def _opened(content: bytes) -> Fingerprint:
    try:
        return Fingerprint.from_bytes(content)
    except ValueError as error:
        raise Unavailable(
            "fingerprints.unreadable",
            "the fingerprints of released clips cannot be read",
            "try again later; the operator has to restore the database",
        ) from error
