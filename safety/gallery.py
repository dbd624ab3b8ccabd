"""The gallery: one face looked for among everyone enrolled here (1:N), exactly.

Guarantees

- Nobody within the limit is missed. A cheap lower bound rules out who can not be near, and everyone else is compared in
  full: the answer is that of a plain scan. An index that can miss is never used for consent.
- Who erased their likeness is found no more from the transaction on that erased it, in every process: what came and
  went is read from the database at each look, and the rows of who went are overwritten.
- Templates are sealed under each person's key, opened when they are first needed, and held in memory; nothing here
  prints them. What cannot be read raises, and the gate then denies.

The bound. Rows are written in an orthonormal basis: x = (p, s), with p the first :data:`_AXES` coordinates along the
directions in which faces differ most. With ρ = ‖s‖, ‖x − y‖² ≥ ‖x‖² + ‖y‖² − 2 (p·p′ + ρρ′), because s·s′ ≤ ρρ′. That is
one product of a row of 1 + _AXES numbers and a column; float32 errs in it by less than :data:`_SLACK` of ‖x‖² + ‖y‖²,
which is taken off. Any basis is right; a good one only rules out more.

The limit. Two people's templates lie :data:`APART` ± :data:`SPREAD` apart: 1,552 pairs of photographs of 14 people,
labelled as different by others, gave 0.878 ± 0.082, the nearest 0.518; 140 pairs of one person gave a median of
0.387 and 0.512 at 95 in a hundred. The normal distribution puts two in a million at 0.50 or below, and the network's
authors report 99.38 % on the LFW pairs at 0.60. So few photographs say nothing of the tail beyond a thousand pairs:
that it is normal there is an assumption, as is that these people stand for yours (they are public figures, mostly
young, of few origins; siblings and twins are nearer). Measure with `benchmarks/safety.py --faces` on your own.

:func:`limit` keeps the expected number of wrong people per search at :data:`WRONG`, so it shrinks as the gallery grows:
0.50 up to 5 thousand rows, 0.45 at 10⁵, 0.42 at 10⁶, where it finds about two in three single photographs of a person
(more of a person whose likeness has many poses). Who is not found here is an unknown face all the same, and held.
"""

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ledger.ids import CameoId
from ledger.store.transaction import Transaction
from safety.errors import CheckUnavailable
from safety.faces import Face, Likeness, Template
from safety.likeness import templates_of

APART: Final = 0.878
SPREAD: Final = 0.082
WRONG: Final = 0.01
"""Expected wrong people per search: one search in a hundred of a face that is nobody's here names somebody."""
FARTHEST: Final = 0.50
"""However small the gallery. As for the do-not-generate register."""
_DIMENSIONS: Final = 128
_AXES: Final = 16
_SLACK: Final = 1e-5
"""A sum of 18 products in float32 errs by less than 18·2⁻²⁴ ≈ 1.1e-6 of the sum of their sizes, which is at most
2 (‖x‖² + ‖y‖²); the basis itself is orthonormal to 1e-12."""
_PLAIN: Final = 4_096
"""Up to so many rows a plain scan is as quick."""
_PIECE: Final = 16_384


def limit(rows: int) -> float:
    """How near a face must be to be somebody's, of so many compared."""
    if rows < 1:
        return FARTHEST
    return min(FARTHEST, APART + SPREAD * NormalDist().inv_cdf(min(WRONG / rows, 0.5)))


class Hit(NamedTuple):
    cameo_id: CameoId
    distance: float


@dataclass(slots=True)
class Rows:
    """Templates, and whose each is. float32 [n, 128], as they are stored. Not thread-safe."""

    _kept: NDArray[np.float32] = field(
        default_factory=lambda: np.empty((0, _DIMENSIONS), np.float32), repr=False
    )
    _owners: list[CameoId | None] = field(default_factory=list, repr=False)
    _places: dict[CameoId, list[int]] = field(default_factory=dict, repr=False)
    _used: int = 0
    _bound: "_Bound | None" = field(default=None, repr=False)
    _gone: list[int] = field(default_factory=list, repr=False)

    def __len__(self) -> int:
        """Rows in force."""
        return self._used - len(self._gone)

    def put(self, cameo_id: CameoId, likeness: Likeness) -> None:
        """Instead of what was there of them."""
        self.drop(cameo_id)
        new = likeness.templates.astype(np.float32)
        places = [self._gone.pop() for _ in range(min(len(self._gone), len(new)))]
        places += range(self._used, self._used + len(new) - len(places))
        if places[-1] >= len(self._kept):
            grown = np.zeros((max(2 * len(self._kept), places[-1] + 1, 256), _DIMENSIONS), np.float32)
            grown[: self._used] = self._kept[: self._used]
            self._kept = grown
            self._bound = None  # of other arrays, and learnt from half as many
        self._used = max(self._used, max(places) + 1)
        self._owners += [None] * (self._used - len(self._owners))
        self._kept[places] = new
        for place in places:
            self._owners[place] = cameo_id
        self._places[cameo_id] = places
        if self._bound is not None:
            self._bound.put(places, new)

    def drop(self, cameo_id: CameoId) -> None:
        for place in (places := self._places.pop(cameo_id, [])):
            self._owners[place] = None
        if places:
            # Overwritten, not only forgotten; and at no distance from anybody.
            self._kept[places] = np.nan
            self._gone += places
            if self._bound is not None:
                self._bound.drop(places)

    def nearest(self, template: Template, within: float) -> Hit | None:
        """Who is nearest, if that is within `within`. Nobody, to what is not a number."""
        if not np.isfinite(template).all():
            return None
        places = self._candidates(template, within)
        distances = np.linalg.norm(self._kept[places].astype(np.float64) - template, axis=1)
        # INVARIANT: a distance that is not a number is never within.
        near = np.flatnonzero(distances <= within)
        if not len(near):
            return None
        best = near[distances[near].argmin()]
        owner = self._owners[int(places[best])]
        return Hit(owner, float(distances[best])) if owner is not None else None

    def _candidates(self, template: Template, within: float) -> NDArray[np.intp]:
        """Places of every row within, and of others."""
        if self._used <= _PLAIN:
            return np.arange(self._used)
        if self._bound is None:
            self._bound = _Bound(self._kept, self._used)
        return self._bound.within(template, within, self._used)


class _Bound:
    """Lower bounds of the distances to all rows, as the module says. `columns`: float32 [_AXES + 2, n]."""

    def __init__(self, rows: NDArray[np.float32], used: int) -> None:
        sample = rows[: used : max(1, used // 20_000)].astype(np.float64)
        sample = sample[np.isfinite(sample).all(axis=1)]
        self._centre = sample.mean(axis=0) if len(sample) else np.zeros(_DIMENSIONS)
        _, directions = np.linalg.eigh((sample - self._centre).T @ (sample - self._centre))
        self._axes = directions[:, ::-1][:, :_AXES]
        self._columns = np.zeros((_AXES + 2, len(rows)), np.float32)
        for start in range(0, used, _PIECE):
            piece = rows[start : min(start + _PIECE, used)]
            self.put(list(range(start, start + len(piece))), piece)

    def put(self, places: list[int], rows: NDArray[np.float32]) -> None:
        along, rest, squared = self._split(rows.astype(np.float64))
        new = np.hstack([along, rest[:, None], squared[:, None] * (1 - _SLACK)]).T
        # What was dropped is beyond every limit, and not a number that passes for near.
        new = np.where(np.isfinite(new).all(axis=0), new, _far())
        self._columns[:, places] = new

    def drop(self, places: list[int]) -> None:
        self._columns[:, places] = _far()

    def within(self, template: Template, within: float, used: int) -> NDArray[np.intp]:
        along, rest, squared = self._split(template[None].astype(np.float64))
        query = np.concatenate([-2 * along[0], -2 * rest, [1.0]]).astype(np.float32)
        most = np.float32(within**2 - squared[0] * (1 - _SLACK) + _SLACK)
        found = []
        for start in range(0, used, _PIECE):
            bounds = query @ self._columns[:, start : min(start + _PIECE, used)]
            # Not `<=`: what is not a number is compared in full.
            near = np.flatnonzero(~(bounds > most))
            if len(near):
                found.append(near + start)
        return np.concatenate(found) if found else np.empty(0, np.intp)

    def _split(
        self, rows: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Along the axes; how long what is left is; and the whole squared."""
        centred = rows - self._centre
        along = centred @ self._axes
        squared = (centred**2).sum(axis=1)
        return along, np.sqrt(np.maximum(squared - (along**2).sum(axis=1), 0)), squared


def _far() -> NDArray[np.float32]:
    return np.array([[0.0]] * (_AXES + 1) + [[np.inf]], np.float32)


class Gallery:
    """Everyone enrolled, as last read. Thread-safe; one per process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: Rows | None = None
        self._change = 0

    def __repr__(self) -> str:
        return f"Gallery({len(self._rows or ())} rows)"

    def whose(self, tx: Transaction, *, but: Collection[CameoId] = ()) -> Callable[[Face], CameoId | None]:
        """Whose a face is, of everyone enrolled as of this transaction; raises where they cannot be read.

        Nobody's, where it is nearest to one of `but`: those it may be of.
        """
        self._read(tx)

        def whose(face: Face) -> CameoId | None:
            hit = self._nearest(face.template, 1)
            return hit.cameo_id if hit is not None and hit.cameo_id not in but else None

        return whose

    def near(self, tx: Transaction, likeness: Likeness) -> CameoId | None:
        """Who is enrolled already with the face of this likeness. Every pose of it is asked for."""
        self._read(tx)
        several = len(likeness.templates)
        hits = [self._nearest(template, several) for template in likeness.templates]
        found = [hit for hit in hits if hit is not None]
        return min(found, key=lambda hit: hit.distance).cameo_id if found else None

    def _nearest(self, template: Template, several: int) -> Hit | None:
        with self._lock:
            if self._rows is None:
                # Another thread could not read what has changed since.
                raise CheckUnavailable(
                    "gallery.unreadable", "the enrolled people cannot be compared with", "try again later"
                )
            return self._rows.nearest(template, limit(len(self._rows) * several))

    def _read(self, tx: Transaction) -> None:
        with self._lock:
            last = tx.last_cameo_change()
            if self._rows is not None and last <= self._change:
                return
            rows, self._rows = self._rows, None  # until all is read, nothing answers
            changed = tx.cameo_ids() if rows is None else tx.cameos_changed(self._change)
            rows = Rows() if rows is None else rows
            for cameo_id in changed:
                cameo = tx.cameo(cameo_id)
                if cameo is None or not cameo.likeness:
                    rows.drop(cameo_id)
                else:
                    rows.put(cameo_id, templates_of(tx, cameo_id))
            self._rows, self._change = rows, last
