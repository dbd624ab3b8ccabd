"""The operator who saw a person, and signs that: the one way a likeness becomes active.

Their statement names the picture or film by hash, the account or device key and the date of birth (unknown is a
minor), and is kept whole in the person's own list. A face that is enrolled already gets no second account, unless the
operator signs that they know of it.
"""

import hashlib
import io
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ledger.consent.grant import CLOCK_SKEW, SIGNING_WINDOW
from ledger.consent.statement import (
    ENROLMENT_TAG,
    DeviceSignature,
    Enrolment,
    decode_bytes,
    device,
    parse_enrolment,
    verify,
)
from ledger.errors import InvalidStatement, MediaError
from ledger.ids import CameoId, PersonId, new_id
from ledger.log.sequencer import Ledger
from ledger.provenance import media
from ledger.store.journal import About
from ledger.store.records import Credential, Person
from ledger.store.transaction import Transaction
from safety import voices
from safety.errors import Refused
from safety.faces import Likeness, enrol_portrait
from safety.likeness import StoredLikeness, store_likeness, templates_of
from safety.register import Register

MAX_PIXELS = 40_000_000
MAX_SIDES = 30_000
"""Width and height together: a strip of few pixels can still be scaled into a picture no memory holds."""
FORMATS = ("JPEG", "PNG", "WEBP")
"""What a picture may be. Other decoders are never reached; some of them start programs."""
ALIKE_DISTANCE = 0.50
"""Nearer than this to somebody enrolled, an operator has to say that they know. Wider than what a grant takes: a second
account for a face costs its owner more than a second look costs an operator."""
FRAMES = 12
POSES = 5


def enrol_vouched(
    ledger: Ledger,
    register: Register,
    value: object,
    evidence: DeviceSignature,
    picture: Path,
    *,
    at: datetime,
    filmed: bool = False,
) -> tuple[PersonId, CameoId]:
    """Enrol the person an operator vouches for. `picture`: an image, or a short video of them.

    `filmed`: they sent it themselves, and the operator saw no more than that; such a likeness is not used for a day.

    Raises InvalidStatement, MediaError or SafetyError; then nothing is written.
    """
    enrolment = parse_enrolment(value)
    if hashlib.sha256(picture.read_bytes()).hexdigest() != enrolment.portrait_sha256:
        raise InvalidStatement(
            "enrolment.other_picture", "the picture is not the one the operator signed for"
        )
    if not at - SIGNING_WINDOW <= enrolment.issued <= at + CLOCK_SKEW:
        raise InvalidStatement(
            "enrolment.clock",
            "the enrolment was signed over a day ago, or in the future",
            "sign it again now",
        )
    if enrolment.device_key is not None:
        decode_bytes(enrolment.device_key, 32)
    images = _usable(pictures(picture))
    enrolled = enrol_portrait(images)
    # Whoever is not heard, or not alone, is enrolled without a voice: no grant lets theirs be made.
    voice = voices.enrol(picture).voice
    likeness = StoredLikeness(enrolled.likeness, images[enrolled.best], enrolled.face, voice)

    def operation(tx: Transaction) -> tuple[PersonId, CameoId]:
        operator_key = tx.operator_key(enrolment.operator)
        if operator_key is None:
            raise InvalidStatement(
                "enrolment.unknown_operator", f"there is no operator `{enrolment.operator}`"
            )
        verify(ENROLMENT_TAG, enrolment.signed_bytes(), evidence, signers=[device(operator_key)])
        if register.holds(tx, likeness.templates):
            raise Refused(
                "enrolment.registered",
                "this is the face of somebody who asked that it is never generated, or near to it",
                "have them withdraw their notice first; whoever only looks alike turns to the operator",
            )
        if enrolment.alike is None and resembling(tx, likeness.templates, but=enrolment.person_id):
            raise Refused(
                "enrolment.already_enrolled",
                "a face like this one is enrolled already, under another account",
                "have them erase that one first; if you know that this is right, as with twins, sign it as `alike`",
            )
        person_id = _account(tx, enrolment, at)
        cameo_id = CameoId(new_id("cameo"))
        store_likeness(tx, cameo_id, person_id, likeness)
        body: dict[str, Any] = {
            "cameo_id": cameo_id,
            "enrolment": enrolment.model_dump(mode="json", by_alias=True, exclude_unset=True),
            "evidence": evidence.model_dump(mode="json"),
            "list_key": tx.held(person_id).list_key_digest,
        }
        if filmed:
            body["filmed"] = True
        tx.append("enrolment", cameo_id, [About(person_id, "owner", body)], at=at)
        return person_id, cameo_id

    return ledger.transact(operation)


def resembling(tx: Transaction, face: Likeness, *, but: str | None) -> bool:
    """Whether somebody of another account than `but` is enrolled who looks like this. Everyone enrolled is compared."""

    def near(cameo_id: CameoId) -> bool:
        cameo = tx.cameo(cameo_id)
        if cameo is None or cameo.person_id == but:
            return False
        theirs = templates_of(tx, cameo_id).templates
        apart = np.linalg.norm(theirs[:, None] - face.templates[None, :], axis=2)
        return not bool((apart > ALIKE_DISTANCE).all())

    return any(map(near, tx.cameo_ids()))


def _account(tx: Transaction, enrolment: Enrolment, at: datetime) -> PersonId:
    """Whose likeness it is: the account the operator names, or a new one for the device they name."""
    key = enrolment.device_key
    if key is None:
        person_id = PersonId(enrolment.person_id or "")
        if tx.person(person_id) is None:
            raise InvalidStatement(
                "enrolment.unknown_person", f"there is no account `{person_id}`", "check the account's id"
            )
        if tx.standing(person_id).active:
            raise InvalidStatement(
                "enrolment.twice", "this account already has a likeness", "erase that one first"
            )
        return person_id
    if tx.credential(key) is not None:
        raise InvalidStatement("enrolment.device_taken", "this device already belongs to an enrolled person")
    person_id, now = PersonId(new_id("person")), int(at.timestamp())
    tx.add_person(
        Person(person_id, enrolment.display_name, created_at=now),
        Credential(key, person_id, "device", key, created_at=now, name="device"),
    )
    return person_id


def _usable(images: Sequence[NDArray[np.uint8]]) -> Sequence[NDArray[np.uint8]]:
    """Of a video's frames, those that show the person well enough. An image stays as it is, to be judged."""
    if len(images) == 1:
        return images
    usable = []
    for image in images:
        with suppress(Refused):
            enrol_portrait(image)
            usable.append(image)
    return usable[:POSES] or images[:1]


def pictures(path: Path) -> Sequence[NDArray[np.uint8]]:
    """What a file shows: one image, or a few frames of a video. uint8 [h, w, 3] RGB. Raises MediaError."""
    try:
        return [decode_picture(path.read_bytes())]
    except MediaError as error:
        if error.reason.id != "media.not_picture":
            raise
    probe = media.probe(path, media.Limits())
    step = max(0.1, float(probe.seconds) / FRAMES)
    return [frame for _, frame in media.frames(path, every_s=step)][:FRAMES]


def decode_picture(data: bytes) -> NDArray[np.uint8]:
    """An image file's pixels: uint8 [h, w, 3] RGB. Raises MediaError."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS or image.width + image.height > MAX_SIDES:
                raise MediaError(
                    "media.too_large", "the picture has over 40 million pixels", "send a smaller one"
                )
            return np.asarray(image.convert("RGB"), dtype=np.uint8)
    except UnidentifiedImageError as error:
        raise MediaError(
            "media.not_picture", "the file is not a picture we can read", "send a JPEG or PNG"
        ) from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MediaError("media.damaged_picture", "the picture is damaged", "send it again") from error
