"""Looking at a finished clip: everything that is in it, as the facts that the policies decide on.

    frames ──► faces ──► of whom            ┐
           ──► nudity, violence, minors     │
           ──► writing ──► prompt screen    ├──► OutputFacts
           ──► known prohibited pictures    │
           ──► copies of stopped clips      │
    sound  ──► voices ──► whose             │
           ──► words ──► prompt screen      ┘

Whatever stops one of these is a fact too: the clip was not looked at, or not for that, and the policies deny it.
Nothing here decides, and nothing here raises.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ledger.consent.grant import Context
from ledger.ids import CameoId
from safety import frames, voices, writing
from safety.chain import Place
from safety.errors import CheckUnavailable, InvalidInput
from safety.faces import Face, Likeness, OutputCheck, Picture, check_output
from safety.models import Folder
from safety.policy.facts import Category, Check, OutputFacts, all_scored, flaws, highest
from safety.prompt import CATEGORIES, MAX_CHARS, Screening, screen
from safety.sampling import sampled
from safety.voices import Voice

AT_ONCE = 16
"""How many frames are in memory: a clip may be of two minutes and in 4K."""
MOST_PLACES = 24
OVERLAP_CHARS = 400
"""What two parts of a long text share, so that no sentence is cut for both."""
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
    other_voices: Mapping[CameoId, Voice] = field(default_factory=dict, repr=False)
    """Of everyone enrolled here."""
    models: Folder | None = None
    """Where models lie that an operator added."""
    known_bad: Callable[[Iterable[Picture]], int | None] = field(default=lambda _: None, repr=False)
    """How many pictures are on a list of known prohibited ones; None: there are no lists."""
    copies: Callable[[Path], int] = field(default=lambda _: 0, repr=False)
    """Of how many clips that were taken down or withdrawn the clip is a copy."""


@dataclass(frozen=True, slots=True)
class Looked:
    """The facts, and whose faces were found who have not agreed: they are to be told."""

    facts: OutputFacts
    strangers: tuple[CameoId, ...] = ()
    overheard: tuple[CameoId, ...] = ()
    """Whose voices."""
    compared: bool = True
    """There are lists of known prohibited pictures, and the clip was compared with them."""
    copies: int = 0
    """Of how many clips that were taken down or withdrawn it is a copy."""
    places: tuple[Place, ...] = ()
    """Where faces of nobody expected were found, for people to look at."""

    @property
    def checks(self) -> tuple[str, ...]:
        """What was looked at, for the release entry."""
        left_out = self.facts.unchecked if self.compared else self.facts.unchecked | {"known_bad"}
        return ("faces", "prompt", *(check for check in CHECKS if check not in left_out))


def told(checks: Collection[str]) -> str:
    """The checks of a release entry in words: those that were made, and those that were not."""
    every = ("faces", "prompt", *CHECKS)
    made = ", ".join(WORDS[check] for check in every if check in checks) or "nothing"
    not_made = ", ".join(WORDS[check] for check in every if check not in checks)
    return f"looked at for {made}" + (f"; not looked at for {not_made}" if not_made else "")


WORDS: Mapping[str, str] = {
    "faces": "faces",
    "prompt": "what it was asked for with",
    "nudity": "nudity",
    "violence": "violence",
    "minors": "apparent minors",
    "text": "words in the picture",
    "speech": "words spoken",
    "voices": "voices",
    "known_bad": "known prohibited pictures",
}
"""A check, as people who are told of it read it."""


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
    try:
        looked = _looked(clip, expecting(), prompt_scores, closed_model=closed_model, reviewed=reviewed)
        _require_answers(looked.facts)
    except (Exception, SystemExit):  # noqa: BLE001 — what cannot be checked is denied, whatever stopped it
        _log.exception("the clip could not be looked at")
        return Looked(
            _not_looked(prompt_scores, closed_model=closed_model, reviewed=reviewed), compared=False
        )
    return looked


def _looked(
    clip: Path,
    expected: Expected,
    prompt_scores: Mapping[Category, int],
    *,
    closed_model: bool,
    reviewed: bool,
) -> Looked:
    # Once: every check sees the same frames.
    with ThreadPoolExecutor(4, thread_name_prefix="looking") as beside:
        copies = beside.submit(expected.copies, clip)
        listening = beside.submit(voices.listen, clip, expected.voices, expected.other_voices)
        watched = _Watched(expected, beside)
        check = check_output(
            watched.passing(sampled(clip)), expected.faces, expected.listed, expected.enrolled
        )
        heard = listening.result()
    shown, written = watched.shown, watched.written
    texts = [*written.lines, heard.words]
    said = [screening for text in texts for screening in screened(text)]
    facts = OutputFacts(
        unreadable=False,
        faces_checked=True,
        classifiers_ok=True,
        granted_faces_seen=sum(1 for count in check.granted_seen.values() if count),
        ungranted_faces=check.strangers,
        enrolled_faces=len(check.enrolled),
        ungranted_voices=heard.ungranted,
        enrolled_voices=heard.enrolled,
        apparent_minors=_apparent_minors(shown, check, expected),
        do_not_generate_matches=len(check.listed),
        known_bad_matches=watched.known,
        unchecked=shown.unchecked | written.unchecked | heard.unchecked,
        closed_model=closed_model,
        reviewed=reviewed,
        contexts=frozenset(context for one in said for context in one.contexts),
        agreed_contexts=expected.contexts,
        against_preferences=expected.disliked("\n".join(texts)),
        granted_minors=len(expected.minors),
        scores=highest((prompt_scores, shown.scores, *(all_scored(one.scores) for one in said))),
    )
    count = _counted(copies.result())
    places = tuple((round(t_s * 1000), *box) for t_s, box in check.ungranted[:MOST_PLACES])
    return Looked(
        facts,
        strangers=check.enrolled,
        overheard=heard.whose,
        copies=count,
        places=places,
        compared=watched.compared,
    )


def _require_answers(facts: OutputFacts) -> None:
    if wrong := flaws("output", OutputFacts, facts):
        raise CheckUnavailable("check.no_answer", f"a check gave no answer: {wrong[0]}", "try again later")


def _not_looked(prompt_scores: Mapping[Category, int], *, closed_model: bool, reviewed: bool) -> OutputFacts:
    """The facts about a clip that was not looked at to the end: what was seen until then counts for nothing."""
    return OutputFacts(
        unreadable=True,
        faces_checked=False,
        classifiers_ok=False,
        granted_faces_seen=0,
        ungranted_faces=0,
        enrolled_faces=0,
        ungranted_voices=0,
        enrolled_voices=0,
        apparent_minors=0,
        do_not_generate_matches=0,
        known_bad_matches=0,
        unchecked=frozenset(CHECKS),
        closed_model=closed_model,
        reviewed=reviewed,
        contexts=frozenset(),
        agreed_contexts=frozenset(),
        against_preferences=False,
        granted_minors=0,
        scores={category: prompt_scores[category] for category in CATEGORIES},
    )


class _Watched:
    """The checks that see frames beside faces, a few frames at a time, while those pass on to be searched for faces."""

    def __init__(self, expected: Expected, beside: ThreadPoolExecutor) -> None:
        self._beside = beside
        self._known_bad, self._models = expected.known_bad, expected.models
        self._pictures: list[Picture] = []
        self.shown, self.written = frames.Shown(), writing.Written()
        self.known, self.compared = 0, True
        """How many are on a list; and whether there were lists for every frame."""

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
        # Side by side, so that no worker waits for the last answer to another check.
        looking = self._beside.submit(frames.look, pictures, self._models)
        reading = self._beside.submit(writing.read, pictures)
        known = self._known_bad(pictures)
        shown, written = looking.result(), reading.result()
        self.shown = frames.Shown(
            highest((self.shown.scores, shown.scores)),
            # Not the highest alone: what is no number would be lost.
            max(self.shown.apparent_minors, _counted(shown.apparent_minors)),
            self.shown.unchecked | shown.unchecked,
        )
        self.written = writing.Written(
            tuple(dict.fromkeys((*self.written.lines, *written.lines))),
            self.written.unchecked | written.unchecked,
        )
        # Lists that come or go meanwhile take nothing back that was found.
        self.known += 0 if known is None else _counted(known)
        self.compared &= known is not None


def _counted(count: int) -> int:
    if type(count) is not int or count < 0:
        raise CheckUnavailable(
            "check.no_answer", "a check gave an answer that is no count", "try again later"
        )
    return count


def _apparent_minors(shown: frames.Shown, check: OutputCheck, expected: Expected) -> int:
    """How many may be minors whom this clip is not granted for.

    A birth date wins only towards caution: that somebody is of age excuses no face that may be a child's. So minors
    are let show only where nobody of age is granted for, who might be the one that looks like a child.
    """
    if not expected.minors or expected.minors != expected.faces.keys():
        return shown.apparent_minors
    seen = sum(1 for who in expected.minors if check.granted_seen.get(who))
    return max(0, shown.apparent_minors - seen)


def screened(text: str) -> list[Screening]:
    """What words found in pictures or sound read as: of a long text every part, each beginning with the end of the one before."""
    found, step = [], MAX_CHARS - OVERLAP_CHARS
    for at in range(0, max(1, len(text) - OVERLAP_CHARS), step):
        with suppress(InvalidInput):  # nothing but spaces
            found.append(screen(text[at : at + MAX_CHARS]))
    return found
