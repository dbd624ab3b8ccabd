"""The do-not-generate register: faces of people who want no clip of themselves, whoever asks (design §5).

Guarantees

- Every recognisable face of the pictures sent, of the clip made and of whoever enrols is compared with every face in
  force, exactly: an index that can miss is not used. What cannot be read raises, and the gate then denies.
- A clip goes out only once it was compared with the register as it is at that moment: one that waits for somebody's
  word is looked at again (:meth:`safety.gate.Gate.clear_again`).
- Faces are sealed under the key of the notice that brought them. They are held in memory while they are in force, and
  nowhere else in the clear; nothing here prints them.
- Another process's changes are seen at the next look: the register's state in the database is read each time.

The distance. A face that is nobody's whom the request names refuses the clip as it is; this register decides where a
face passes for somebody who agreed (≤ 0.45, :data:`safety.faces.GRANT_DISTANCE`), or is shown beside them. 0.50 finds
94.7 % of other pictures of the same person in the set the engine was measured on, and no stranger in 262 pairs. Every
hundred thousand registered people cost about one false hit in seven searches at this distance, one in seventy for ten
thousand; a wider band would let a large register take people's own consent from them, and each false hit is a
refusal that a person can question. Enrolled people are compared at 0.60 when a face is registered: there the price of
a false hit is an operator's look.
"""

import threading
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ledger.ids import CameoId, NoticeId
from ledger.keys import seal, unseal
from ledger.store.notices import RegisterState
from ledger.store.transaction import Transaction
from safety.errors import CheckUnavailable
from safety.faces import STRANGER_DISTANCE, Face, Likeness, Picture, enrol_portrait
from safety.likeness import templates_of

MATCH_DISTANCE: Final = 0.50
_NOBODY: Final[NDArray[np.float64]] = np.empty((0, 128))


class Register:
    """The faces in force, as last read. Thread-safe; one per process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state: RegisterState | None = None
        self._rows = _NOBODY

    def __repr__(self) -> str:
        return f"Register({self._state})"

    def listed(self, tx: Transaction) -> Callable[[Face], bool]:
        """Whether a face is on the register as of this transaction. Raises where it cannot be read."""
        rows = self._read(tx)

        return lambda face: _near(rows, face.template)

    def holds(self, tx: Transaction, likeness: Likeness) -> bool:
        """Whether a likeness is of somebody on the register. Raises where it cannot be read."""
        rows = self._read(tx)
        return any(_near(rows, template) for template in likeness.templates)

    def _read(self, tx: Transaction) -> NDArray[np.float64]:
        with self._lock:
            state = tx.register_state()
            if state != self._state:
                # Before what may fail: what was read earlier must not answer for what cannot be read now.
                self._state, self._rows = None, _NOBODY
                found = [_open(tx, notice_id, sealed).templates for notice_id, sealed in tx.faces_in_force()]
                if len(found) != state.faces:
                    raise CheckUnavailable(
                        "register.unreadable",
                        "the do-not-generate register cannot be read",
                        "try again later",
                    )
                self._rows = np.vstack([_NOBODY, *found])
                self._state = state
            return self._rows


def _near(rows: NDArray[np.float64], template: NDArray[np.float64]) -> bool:
    # INVARIANT: a distance that is not a number is never within; only recognisable faces have one.
    return bool((np.linalg.norm(rows - template, axis=1) <= MATCH_DISTANCE).any())


def face_of(pictures: list[Picture]) -> Likeness:
    """The one face in pictures somebody sent of themselves. Raises Refused with what to do, as enrolment does."""
    return enrol_portrait(pictures).likeness


def keep(tx: Transaction, notice_id: NoticeId, face: Likeness) -> None:
    """Seal a face under the key of its notice. It is not in force yet."""
    key = tx.held(notice_id).key
    tx.add_face(notice_id, seal(key, face.to_bytes(), context=f"do_not_generate/{notice_id}"))


def resembles(tx: Transaction, notice_id: NoticeId) -> tuple[CameoId, ...]:
    """Enrolled likenesses that the face of a notice is near to. Everyone enrolled is compared."""
    sealed = tx.face(notice_id)
    if sealed is None:
        return ()
    face = _open(tx, notice_id, sealed).templates

    def near(cameo_id: CameoId) -> bool:
        theirs = templates_of(tx, cameo_id).templates
        return bool((np.linalg.norm(theirs[:, None] - face[None, :], axis=2) <= STRANGER_DISTANCE).any())

    return tuple(filter(near, tx.cameo_ids()))


def _open(tx: Transaction, notice_id: NoticeId, sealed: bytes) -> Likeness:
    key = tx.held(notice_id).key
    return Likeness.from_bytes(unseal(key, sealed, context=f"do_not_generate/{notice_id}"))
