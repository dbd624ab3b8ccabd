"""One enrolled person's likeness, as the gate matches it and the model draws it.

Templates and portrait are stored sealed under the person's key; erasing the key erases the face, and the voice.
"""

import io
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ledger.errors import NotFound
from ledger.ids import CameoId, PersonId
from ledger.keys import seal, unseal
from ledger.store.records import Cameo
from ledger.store.transaction import Transaction
from safety import voices
from safety.errors import CheckUnavailable
from safety.faces import Likeness
from safety.prompt import people
from safety.voices import Voice


@dataclass(frozen=True, slots=True)
class StoredLikeness:
    """templates: what a face is matched against. portrait: uint8 [h, w, 3] RGB. face: (top, right, bottom, left)."""

    templates: Likeness = field(repr=False)
    portrait: NDArray[np.uint8] = field(repr=False)
    face: tuple[int, int, int, int]
    voice: Voice | None = field(default=None, repr=False)
    """Whom speech is matched against, where they were heard when they enrolled. Not read with the rest."""


def likeness_of(tx: Transaction, cameo_id: CameoId) -> StoredLikeness:
    """The likeness behind a cameo. Raises NotFound when there is none, or it was erased."""
    cameo = _stored(tx, cameo_id)
    key = tx.held(cameo.person_id).key
    templates = unseal(key, cameo.likeness, context=f"likeness/{cameo_id}")
    head, _, picture = unseal(key, cameo.portrait, context=f"portrait/{cameo_id}").partition(b"\n")
    top, right, bottom, left = json.loads(head)
    portrait = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"), dtype=np.uint8)
    return StoredLikeness(Likeness.from_bytes(templates), portrait, (top, right, bottom, left))


def templates_of(tx: Transaction, cameo_id: CameoId) -> Likeness:
    """What a face is matched against, without the portrait. Raises NotFound as :func:`likeness_of` does."""
    cameo = _stored(tx, cameo_id)
    key = tx.held(cameo.person_id).key
    return Likeness.from_bytes(unseal(key, cameo.likeness, context=f"likeness/{cameo_id}"))


def voice_of(tx: Transaction, cameo_id: CameoId) -> Voice | None:
    """What speech is matched against; None where no voice was enrolled. Raises NotFound, CheckUnavailable."""
    cameo = _stored(tx, cameo_id)
    if cameo.voice is None:
        return None
    key = tx.held(cameo.person_id).key
    return voices.from_bytes(unseal(key, cameo.voice, context=f"voice/{cameo_id}"))


class EnrolledVoices:
    """The voices of everybody enrolled, as last read. Thread-safe; one per process. A voice never changes, it goes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[CameoId, Voice] = {}

    def __repr__(self) -> str:
        return f"EnrolledVoices({len(self._held)})"

    def read(self, tx: Transaction) -> Mapping[CameoId, Voice]:
        """As of this transaction. Raises where one of them cannot be read: it must not pass as not enrolled."""
        with self._lock:
            now: dict[CameoId, Voice] = {}
            for cameo_id in tx.voiced_cameo_ids():
                voice = self._held.get(cameo_id)
                voice = voice_of(tx, cameo_id) if voice is None else voice
                if voice is None:
                    raise CheckUnavailable(
                        "voices.unreadable", "the enrolled voices cannot be read", "try again later"
                    )
                now[cameo_id] = voice
            self._held = now
            return now


def _stored(tx: Transaction, cameo_id: CameoId) -> Cameo:
    cameo = tx.cameo(cameo_id)
    if cameo is None:
        raise NotFound(
            "cameo.unknown", f"there is no likeness `{cameo_id[:40]}`", "ask its owner for the right id"
        )
    return cameo


def store_likeness(tx: Transaction, cameo_id: CameoId, owner: PersonId, likeness: StoredLikeness) -> None:
    key = tx.held(owner).key
    picture = io.BytesIO()
    Image.fromarray(likeness.portrait).save(picture, "PNG")
    head = json.dumps(likeness.face).encode()
    person = tx.person(owner)
    tx.add_cameo(
        Cameo(
            id=cameo_id,
            person_id=owner,
            likeness=seal(key, likeness.templates.to_bytes(), context=f"likeness/{cameo_id}"),
            voice=None
            if likeness.voice is None
            else seal(key, voices.to_bytes(likeness.voice), context=f"voice/{cameo_id}"),
            portrait=seal(key, head + b"\n" + picture.getvalue(), context=f"portrait/{cameo_id}"),
            name_key=people.key(person.display_name) if person is not None else None,
        )
    )
