"""Looking at a finished clip: everything that is in it, as the facts that the policies decide on.

    frames ──► faces ──► of whom            ┐
           ──► nudity, violence, minors     │
           ──► writing ──► prompt screen    ├──► OutputFacts
           ──► known prohibited pictures    │
    sound  ──► voices ──► whose             │
           ──► words ──► prompt screen      ┘

Whatever stops one of these is a fact too: the clip was not looked at, or not for that, and the policies deny it.
Nothing here decides, and nothing here raises.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ledger.consent.grant import Context
from ledger.ids import CameoId
from safety import frames, voices, writing
from safety.chain import Place
from safety.errors import InvalidInput
from safety.faces import Face, Likeness, OutputCheck, Picture, check_output
from safety.policy.facts import Category, Check, OutputFacts
from safety.prompt import CATEGORIES, Screening, screen
from safety.sampling import sampled
from safety.voices import Heard, Voice

AT_ONCE = 16
"""How many frames are in memory: a clip may be of two minutes and in 4K."""
WRITING_EVERY = 5
"""Of the sampled frames, how many to one that is read."""
MOST_PLACES = 24
CHECKS: tuple[Check, ...] = ("nudity", "violence", "minors", "text", "speech", "voices", "known_bad")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Expected:
    """Whom a clip may show and let be heard, and what it must not: as consent stands when it is looked at."""

    faces: Mapping[CameoId, Likeness] = field(repr=False)
    minors: frozenset[CameoId] = frozenset()
    """Those of them who are under 18, or of unknown age."""
    contexts: frozenset[Context] = frozenset()
    """Those that everyone it may show agrees to be shown in."""
    disliked: Callable[[str], bool] = field(default=lambda _: False, repr=False)
    """Whether words mention what one of them would rather not be shown with."""
    voices: Mapping[CameoId, Voice] = field(default_factory=dict, repr=False)
    listed: Callable[[Face], bool] = field(default=lambda _: False, repr=False)
    """Whether a face is on the do-not-generate register."""
    enrolled: Callable[[Face], CameoId | None] = field(default=lambda _: None, repr=False)
    """Whose a face is, of everyone enrolled here; asked of faces that are of nobody expected."""
    other_voices: Collection[Voice] = field(default=(), repr=False)
    known_bad: Callable[[Iterable[Picture]], int] = field(default=lambda _: 0, repr=False)
    """How many pictures are on a list of known prohibited ones."""


@dataclass(frozen=True, slots=True)
class Looked:
    """The facts, and whose faces were found who have not agreed: they are to be told."""

    facts: OutputFacts
    strangers: tuple[CameoId, ...] = ()
    overheard: tuple[CameoId, ...] = ()
    """Whose voices."""
    places: tuple[Place, ...] = ()
    """Where faces of nobody expected were found, for people to look at."""

    @property
    def checks(self) -> tuple[str, ...]:
        """What was looked at, for the release entry."""
        return ("faces", "prompt", *(check for check in CHECKS if check not in self.facts.unchecked))


def look(
    clip: Path,
    expecting: Callable[[], Expected],
    *,
    prompt_scores: Mapping[Category, int],
    closed_model: bool = False,
    reviewed: bool = False,
) -> Looked:
    """Look at a clip, and listen to it.

    `expecting`: reads whom it may show. `prompt_scores`: of the words it was made of; the clip's are never lower.
    """
    unchecked = set[Check]()
    check = OutputCheck(0, 0, {}, (), (), ())
    scores = {category: prompt_scores[category] for category in CATEGORIES}
    looked, known, heard = True, 0, Heard()
    shown, expected, contexts, disliked = frames.Shown(), Expected({}), set[Context](), False
    try:
        expected = expecting()
        watched = _Watched(expected)
        # Once: every check sees the same frames.
        check = check_output(
            watched.passing(sampled(clip)), expected.faces, expected.listed, expected.enrolled
        )
        shown, written, known = watched.shown, watched.written, watched.known
        heard = voices.listen(clip, expected.voices, tuple(expected.other_voices))
        unchecked |= shown.unchecked | written.unchecked | heard.unchecked
        texts = [*written.lines, heard.words]
        disliked = expected.disliked("\n".join(texts))
        said = [_screened(text) for text in texts]
        contexts = {context for one in said if one is not None for context in one.contexts}
        for found in (shown.scores, *(one.scores for one in said if one is not None)):
            scores = {category: max(score, found.get(category, 0)) for category, score in scores.items()}
    except Exception:  # noqa: BLE001 — what cannot be checked is denied, whatever stopped it
        _log.exception("the clip could not be looked at")
        looked = False
    facts = OutputFacts(
        unreadable=not looked,
        faces_checked=looked,
        classifiers_ok=looked,
        granted_faces_seen=sum(1 for count in check.granted_seen.values() if count),
        ungranted_faces=check.strangers,
        enrolled_faces=len(check.enrolled),
        ungranted_voices=heard.ungranted,
        enrolled_voices=heard.enrolled,
        apparent_minors=_apparent_minors(shown, check, expected),
        do_not_generate_matches=len(check.listed),
        known_bad_matches=known,
        unchecked=frozenset(unchecked),
        closed_model=closed_model,
        reviewed=reviewed,
        contexts=frozenset(contexts),
        agreed_contexts=expected.contexts,
        against_preferences=disliked,
        granted_minors=len(expected.minors),
        scores=scores,
    )
    places = tuple((round(t_s * 1000), *box) for t_s, box in check.ungranted[:MOST_PLACES])
    return Looked(facts, strangers=check.enrolled, places=places)


class _Watched:
    """The checks that see frames beside faces, a few frames at a time, while those pass on to be searched for faces."""

    def __init__(self, expected: Expected) -> None:
        self._known_bad = expected.known_bad
        self._pictures: list[Picture] = []
        self.shown, self.written, self.known = frames.Shown(), writing.Written(), 0

    def passing(self, clip: Iterable[tuple[float, Picture]]) -> Iterator[tuple[float, Picture]]:
        for t_s, picture in clip:
            self._pictures.append(picture)
            yield t_s, picture
            if len(self._pictures) == AT_ONCE:
                self._look()
        self._look()

    def _look(self) -> None:
        pictures, self._pictures = self._pictures, []
        if not pictures:
            return
        shown, written = frames.look(pictures), writing.read(pictures[::WRITING_EVERY])
        self.shown = frames.Shown(
            _highest(self.shown.scores, shown.scores),
            max(self.shown.apparent_minors, shown.apparent_minors),
            self.shown.unchecked | shown.unchecked,
        )
        self.written = writing.Written(
            tuple(dict.fromkeys((*self.written.lines, *written.lines))),
            self.written.unchecked | written.unchecked,
        )
        self.known += self._known_bad(pictures)


def _highest(one: Mapping[Category, int], other: Mapping[Category, int]) -> dict[Category, int]:
    return {key: max(one.get(key, 0), other.get(key, 0)) for key in (*one, *other)}


def _apparent_minors(shown: frames.Shown, check: OutputCheck, expected: Expected) -> int:
    """How many may be minors whom this clip is not granted for.

    A birth date wins only towards caution: that somebody is of age excuses no face that may be a child's. So minors
    are let show only where nobody of age is granted for, who might be the one that looks like a child.
    """
    if not expected.minors or expected.minors != expected.faces.keys():
        return shown.apparent_minors
    seen = sum(1 for who in expected.minors if check.granted_seen.get(who))
    return max(0, shown.apparent_minors - seen)


def _screened(text: str) -> Screening | None:
    """What words found in a clip read as; None where there are none."""
    try:
        return screen(text[:4000])
    except InvalidInput:
        return None
