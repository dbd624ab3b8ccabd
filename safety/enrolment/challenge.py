"""What a person is asked to do in front of the camera, decided only now: a film made before can not show it."""

import secrets
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field

from ledger.canonical import sha256
from ledger.consent.grant import Moment, Strict
from ledger.ids import PersonId

CHALLENGE_LIFE = timedelta(minutes=5)
DIGITS, TURNS = 6, 3
Turn = Literal["left", "right"]


class Challenge(Strict):
    """What to do in front of the camera, decided only now: a film made before can not show it."""

    capture_id: str
    digits: Annotated[str, Field(pattern=r"^[0-9]{6}$")]
    """To be read aloud, in order."""
    turns: tuple[Turn, ...]
    """Which way to turn the head, in order; left and right are the person's own."""
    colours: tuple[str, ...] = ()
    """What the page lights the face with at the end, one after another; none where it may not flash."""
    person_id: str
    """Whose account it is bound to."""
    consent_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Of the text the person agreed to before filming."""
    issued: Moment
    expires: Moment


def new_challenge(capture_id: str, person_id: PersonId, consent: str, *, at: datetime) -> Challenge:
    """Random digits and head turns, with both directions among them."""
    choices: tuple[Turn, Turn] = ("left", "right")
    turns = [secrets.choice(choices) for _ in range(TURNS)]
    if len(set(turns)) == 1:
        place = secrets.randbelow(TURNS)
        turns[place] = choices[turns[place] == "left"]
    return Challenge(
        capture_id=capture_id,
        digits="".join(secrets.choice("0123456789") for _ in range(DIGITS)),
        turns=tuple(turns),
        person_id=person_id,
        consent_sha256=sha256(consent.encode()).hex(),
        issued=at.replace(microsecond=0),
        expires=at.replace(microsecond=0) + CHALLENGE_LIFE,
    )
