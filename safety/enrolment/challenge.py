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
LIGHTS = 4
COLOURS = ("red", "green", "blue", "white")
"""One for four fifths of a second: well under the three flashes a second that can harm (WCAG 2.2, 2.3.1)."""


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


def new_challenge(
    capture_id: str, person_id: PersonId, consent: str, *, at: datetime, lit: bool = False
) -> Challenge:
    """Random digits and head turns, with both directions among them; `lit`: and colours, none twice in a row."""
    colours: list[str] = []
    while lit and len(colours) < LIGHTS:
        colours.append(secrets.choice([one for one in COLOURS if one not in colours[-1:]]))
    choices: tuple[Turn, Turn] = ("left", "right")
    turns = [secrets.choice(choices) for _ in range(TURNS)]
    if len(set(turns)) == 1:
        place = secrets.randbelow(TURNS)
        turns[place] = choices[turns[place] == "left"]
    return Challenge(
        capture_id=capture_id,
        digits="".join(secrets.choice("0123456789") for _ in range(DIGITS)),
        turns=tuple(turns),
        colours=tuple(colours),
        person_id=person_id,
        consent_sha256=sha256(consent.encode()).hex(),
        issued=at.replace(microsecond=0),
        expires=at.replace(microsecond=0) + CHALLENGE_LIFE,
    )
