"""Looking at a picture that is sent with a request: everything that is in it, before any model sees it.

    faces     of nobody whom the request names; on the do-not-generate register
    lists     whether it is a known prohibited picture
    content   nudity, violence, a child: scores as a prompt's, and the higher of both is decided on
    writing   screened as a prompt is

Nothing here decides. Whatever stops one of these raises, and the gate then denies: a picture is looked at whole, or
the request is refused. What no model here can look for at all (violence, apparent minors) is looked for in the
finished clip, which is not released without it unless its model draws nothing of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ledger.ids import CameoId
from safety import faces, frames, writing
from safety.clearing import screened
from safety.decision import Pictured
from safety.errors import CheckUnavailable
from safety.faces import Face, Likeness, Picture
from safety.models import Folder
from safety.policy.facts import Check, all_scored, highest
from safety.prompt import SEXUAL_CONTEXT, VIOLENT_CONTEXT

NEEDED: Final[frozenset[Check]] = frozenset({"nudity", "text"})
"""What every picture sent has to be looked at for."""
CHILD: Final = 1000
"""The score of `minors` for a picture that shows somebody who may be one."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What was found. strangers, listed: recognisable faces. known_bad: pictures on a list. pictured: None without one.

    enrolled: of the strangers, whose face it is where they are enrolled. They are told, and the app is not.
    """

    strangers: int = 0
    listed: int = 0
    known_bad: int = 0
    pictured: Pictured | None = None
    enrolled: tuple[CameoId, ...] = ()


def look(
    picture: Picture,
    known: Sequence[Likeness],
    listed: Callable[[Face], bool],
    enrolled: Callable[[Face], CameoId | None],
    known_bad: Callable[[Sequence[Picture]], int],
    models: Folder | None = None,
) -> Sent:
    """Look at one picture, uint8 [h, w, 3] RGB. `models`: where an operator's lie. Raises whatever stopped it."""
    (seen,) = faces.search([picture])
    found = [face for face in seen if face.recognisable]
    strangers = [face for face in found if faces.match(face, known) is None]
    return Sent(
        strangers=len(strangers),
        listed=sum(map(listed, found)),
        known_bad=known_bad([picture]),
        pictured=_pictured(picture, models),
        enrolled=tuple(dict.fromkeys(who for face in strangers if (who := enrolled(face)) is not None)),
    )


def _pictured(picture: Picture, models: Folder | None) -> Pictured:
    shown, written = frames.look([picture], models), writing.read([picture])
    lacking = NEEDED & (shown.unchecked | written.unchecked)
    if lacking:
        raise CheckUnavailable(
            "pictures.unchecked",
            f"a picture cannot be looked at here for: {', '.join(f'`{one}`' for one in sorted(lacking))}",
            "send no picture; the operator has to repair or install what looks: `countersign models list`",
        )
    said = [screening for line in written.lines for screening in screened(line)]
    readings = [shown.scores, *(all_scored(one.scores) for one in said)]
    contexts = {context for one in said for context in one.contexts}
    if type(shown.apparent_minors) is not int or shown.apparent_minors < 0:
        raise CheckUnavailable(
            "check.no_answer", "a check gave no answer", "try again; what was asked is refused"
        )
    if shown.apparent_minors:
        readings.append({"minors": CHILD})
    scores = highest(readings)
    if scores["sexual"] >= SEXUAL_CONTEXT:
        contexts.add("sexual")
    if scores["violence"] >= VIOLENT_CONTEXT:
        contexts.add("violent")
    return Pictured(scores, frozenset(contexts))
