"""Whatever way a check fails, the answer is no, says so, and is recorded; and nothing is done downstream.

Which checks there are is read from the code that calls them: one that is added has no row here, and fails.
"""

import ast
import inspect
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from ledger.provenance import media
from safety import clearing, faces, frames, gate, known_bad, pdq, preferences, sent, voices, workers, writing
from safety.afterwards import Denied
from safety.chain import Cleared, RawClip, raw_clip
from safety.errors import CheckUnavailable
from safety.faces import Face, OutputCheck
from safety.frames import Shown
from safety.gallery import Gallery
from safety.likeness import EnrolledVoices
from safety.policy.facts import highest
from safety.prompt import CATEGORIES, Screening
from safety.register import Register
from safety.voices import Heard
from safety.workers import Workers
from safety.writing import Written
from world import World

PICTURE = np.full((64, 64, 3), 90, np.uint8)
NAN = float("nan")
GOOD_SCREENING = Screening("test/1", dict.fromkeys(CATEGORIES, 0), frozenset(), "", ())


def scored(**changes: Any) -> dict[Any, Any]:
    return {**dict.fromkeys(CATEGORIES, 0), **changes}


def face(template: float) -> Face:
    return Face((0, 9, 9, 0), np.full(128, template), 2.0, 100.0, frontal=True, recognisable=True)


NO_SCORES: dict[str, dict[Any, Any]] = {
    "not a number": {"sexual": NAN},
    "beyond the most": {"sexual": 1001},
    "below nothing": {"sexual": -1},
    "a fraction": {"sexual": 0.5},
    "truth": {"sexual": True},
    "text": {"sexual": "0"},
    "numpy": {"sexual": np.int64(3)},
    "of no category": {"sexy": 3},
}
SCREENINGS = {
    **{name: replace(GOOD_SCREENING, scores=scored(**wrong)) for name, wrong in NO_SCORES.items()},
    "too few": replace(GOOD_SCREENING, scores={"sexual": 0}),
    "nothing": None,
}
NAMES = {
    "no names": replace(GOOD_SCREENING, figures=cast("Any", None)),
    "no keys": replace(GOOD_SCREENING, name_keys=cast("Any", None)),
}
SHOWN: dict[str, Any] = {
    **{name: Shown(wrong) for name, wrong in NO_SCORES.items()},
    "nothing": None,
    "no count": Shown(apparent_minors=NAN),  # type: ignore[arg-type]
    "no count at all": Shown(apparent_minors=None),  # type: ignore[arg-type]
    "looked at nothing": Shown(unchecked=frozenset({"nudity"})),
}
WRITTEN: dict[str, Any] = {
    "nothing": None,
    "no text": Written((3,)),  # type: ignore[arg-type]
    "looked at nothing": Written(unchecked=frozenset({"text"})),
}
HEARD: dict[str, Any] = {
    "nothing": None,
    "no count": Heard(ungranted=NAN),  # type: ignore[arg-type]
    "no text": Heard(words=None),  # type: ignore[arg-type]
    "heard nothing": Heard(unchecked=frozenset({"speech"})),
}
FACES: dict[str, Any] = {
    "nothing": None,
    "too few": [],
    "no face": [(None,)],
    "no template": [(face(NAN),)],
}
SEEN_NOTHING = OutputCheck(1, 0, {}, (), (), ())
SEEN: dict[str, Any] = {
    "nothing": None,
    "no count": replace(SEEN_NOTHING, granted_seen=cast("Any", None)),
}
COUNTS: dict[str, Any] = {"no count": NAN, "below nothing": -1, "text": "0"}
HASHED: dict[str, Any] = {"nothing": None}


def searched(frames: Iterable[Any], *_: Any) -> OutputCheck:
    return replace(SEEN_NOTHING, frames_checked=len(list(frames)))


def asking(frames: Iterable[Any], known: Any, listed: Any, enrolled: Any) -> OutputCheck:
    """As where there is a face, which is nobody's."""
    assert known is not None
    assert not listed(face(9.0))
    assert enrolled(face(9.0)) is None
    return searched(frames)


Row = tuple[Any, str, Callable[..., Any], dict[str, Any]]
REQUEST: dict[str, Row] = {
    "screen": (gate, "screen", lambda _: GOOD_SCREENING, {**SCREENINGS, **NAMES}),
    "people_named": (gate, "people_named", lambda _: frozenset(), {"nothing": None}),
    "faces.search": (faces, "search", lambda pictures: [() for _ in pictures], FACES),
    "frames.look": (frames, "look", lambda *_: Shown(scored()), SHOWN),
    "writing.read": (writing, "read", lambda *_: Written(), WRITTEN),
    "known_bad": (known_bad, "hashed", lambda *_, **__: pdq.hashed([]), HASHED),
    "screened": (clearing, "screen", lambda _: GOOD_SCREENING, SCREENINGS),
    "enrolled": (Gallery, "whose", lambda *_, **__: lambda _: None, {"nothing": None}),
    "listed": (Register, "listed", lambda *_: lambda _: False, {"nothing": None}),
}
"""For each call: what is replaced, by what that is well, and what it could answer that is no answer."""
CLIP: dict[str, Row] = {
    "sampled": (clearing, "sampled", lambda *_: [(0.0, PICTURE)], {"none": None, "no": [()]}),
    "check_output": (clearing, "check_output", searched, SEEN),
    "frames.look": REQUEST["frames.look"],
    "writing.read": REQUEST["writing.read"],
    "voices.listen": (voices, "listen", lambda *_: Heard(), HEARD),
    "self._known_bad": (gate._Compared, "__call__", lambda *_: 0, COUNTS),
    "expected.copies": (gate.Gate, "_copies", lambda *_: 0, COUNTS),
    "screened": REQUEST["screened"],
    "expecting": (gate.Gate, "_expected", lambda *_: clearing.Expected({}), {"nothing": None}),
    "expected.disliked": (preferences, "against", lambda *_: False, {}),
}
FAULTS: dict[str, Callable[[], BaseException]] = {
    "is unavailable": lambda: CheckUnavailable("model.missing", "the model is missing", "install it"),
    "breaks": lambda: RuntimeError("boom"),
    "has no memory": MemoryError,
    "leaves": lambda: SystemExit(0),
    "takes too long": TimeoutError,
    "misses a file": FileNotFoundError,
}
HELPERS = {
    *("type", "dict.fromkeys", "round", "Looked", "OutputFacts", "_apparent_minors"),
    # Of Python, and what only puts answers together.
    *(
        "list",
        "set",
        "dict",
        "frozenset",
        "tuple",
        "sum",
        "max",
        "map",
        "len",
        "range",
        "sorted",
        "append",
        "join",
        "add",
    ),
    *(
        "isinstance",
        "str",
        "highest",
        "all_scored",
        "CheckUnavailable",
        "Sent",
        "Pictured",
        "_pictured",
        "get",
    ),
    *("faces.match", "_log.exception", "replace", "suppress", "listed", "NEEDED"),
}


LOOKED_AT_NOTHING = {
    ("frames.look", "looked at nothing"),
    ("writing.read", "looked at nothing"),
    ("voices.listen", "heard nothing"),
}
"""That there is no model is a fact of its own, and one that policies deny."""


WATCHING = {
    "_Watched",
    "ThreadPoolExecutor",
    "watched.passing",
    "self._look",
    "_counted",
    "frames.Shown",
    "writing.Written",
}


def calls(function: Any, *, inside_try: bool = False) -> set[str]:
    """What a function calls, by its name or `module.name`."""
    tree: ast.AST = ast.parse(inspect.getsource(function))
    if inside_try:
        tree = ast.Module(next(node for node in ast.walk(tree) if isinstance(node, ast.Try)).body, [])
    found = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            # What is handed over to run beside is called as well.
            handed_over = isinstance(node.func, ast.Attribute) and node.func.attr == "submit"
            match node.args[0] if handed_over else node.func:
                case ast.Name(name):
                    found.add(name)
                case ast.Attribute(_, "result"):
                    pass  # of what was handed over
                case ast.Attribute(ast.Name(of), name):
                    found.add(f"{of}.{name}")
    return {name for name in found if name.rpartition(".")[2] not in HELPERS and name not in HELPERS}


def test_every_check_has_a_row_here() -> None:
    assert calls(sent.look) | calls(sent._pictured) <= REQUEST.keys() | {"sent.look"}
    assert calls(gate._screened, inside_try=True) <= REQUEST.keys()
    assert calls(gate._named_people, inside_try=True) <= REQUEST.keys()
    assert calls(clearing.look, inside_try=True) <= CLIP.keys() | {"_looked", "_require_answers"}
    assert calls(clearing._looked) | calls(clearing._Watched) <= CLIP.keys() | WATCHING


@pytest.fixture
def well(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Everything answers, and at once."""
    monkeypatch.setattr(world.gate.lists, "any", lambda _: True)
    for of, name, answer, _ in {**REQUEST, **CLIP}.values():
        if name != "__call__":
            monkeypatch.setattr(of, name, answer)
    return world


def broken(row: Row, fault: str) -> Callable[..., Any]:
    def answer(*_: Any, **__: Any) -> Any:
        if fault in FAULTS:
            error = FAULTS[fault]()
            raise error
        return row[3][fault]

    return answer


def each(rows: dict[str, Row]) -> list[tuple[str, str]]:
    return [(check, fault) for check, row in rows.items() for fault in (*FAULTS, *row[3])]


def denied(answer: object) -> set[str]:
    assert isinstance(answer, Denied), answer
    assert all(reason.sentence and reason.remedy for reason in answer.reasons)
    return {reason.id for reason in answer.reasons}


def test_a_request_is_allowed_when_everything_answers(well: World) -> None:
    well.allow(well.app(), reference=PICTURE)


@pytest.mark.parametrize(("check", "fault"), each(REQUEST))
def test_a_request_is_refused_when_a_check_fails(
    well: World, monkeypatch: pytest.MonkeyPatch, check: str, fault: str
) -> None:
    of, name, _, _ = REQUEST[check]
    if check in {"enrolled", "listed", "screened"}:
        # Only asked where there is a face, or a word.
        monkeypatch.setattr(faces, "search", lambda _: [(face(0.1),)])
        monkeypatch.setattr(faces, "match", lambda *_: 0)
        monkeypatch.setattr(writing, "read", lambda *_: Written(("hello",)))
    if check == "enrolled":
        monkeypatch.setattr(faces, "match", lambda *_: None)  # and only of strangers
    monkeypatch.setattr(of, name, broken(REQUEST[check], fault))
    app = well.app()
    request = well.request(app, reference=PICTURE)
    found = denied(well.gate.decide(request, at=well.at))
    expected = {"standing.classifiers"}
    if (check, fault) == ("faces.search", "no template"):
        expected = {"prohibited.unknown_face"}  # of a face that is like nobody's, a stranger's
    assert found == expected
    (entry,) = well.entries(app, "decision")
    assert {reason["id"] for reason in entry.body["reasons"]} == found
    assert entry.body["allowed"] is False
    with well.ledger.reading() as tx:
        assert tx.video(request.video_id) is None
    assert denied(well.gate.precheck(well.request(app, reference=PICTURE), at=well.at)) == found


def rendered(world: World) -> RawClip:
    path = world.home / "raw.mp4"
    path.write_bytes(b"a clip")
    return raw_clip(world.allow(world.app()), path, backend="model", version="1", closed=True)


def test_a_clip_is_cleared_when_everything_answers(well: World) -> None:
    assert isinstance(well.gate.clear(rendered(well)), Cleared)


@pytest.mark.parametrize(("check", "fault"), each(CLIP))
def test_a_clip_is_not_cleared_when_a_check_fails(
    well: World, monkeypatch: pytest.MonkeyPatch, check: str, fault: str
) -> None:
    raw = rendered(well)
    of, name, _, _ = CLIP[check]
    if check == "expected.disliked":
        expected = clearing.Expected({}, disliked=lambda words: preferences.against(words, (), "en"))
        monkeypatch.setattr(gate.Gate, "_expected", lambda *_: expected)
    if check == "screened":
        monkeypatch.setattr(voices, "listen", lambda *_: Heard(words="hello"))
    if check == "self._known_bad":
        monkeypatch.setattr(
            gate.Gate, "_expected", lambda *_: clearing.Expected({}, known_bad=broken(CLIP[check], fault))
        )
    if check == "expected.copies":
        monkeypatch.setattr(
            gate.Gate, "_expected", lambda *_: clearing.Expected({}, copies=broken(CLIP[check], fault))
        )
    monkeypatch.setattr(of, name, broken(CLIP[check], fault))
    found = denied(well.gate.clear(raw))
    assert found
    assert "clear.classifiers" in found or (check, fault) in LOOKED_AT_NOTHING
    assert all(one.startswith("clear.") for one in found)


READ: dict[str, tuple[Any, str]] = {
    "voices": (EnrolledVoices, "read"),
    "gallery": (Gallery, "whose"),
    "register": (Register, "listed"),
    "faces": (gate.Gate, "_templates"),
}
"""What is read of those whom a clip may show, and of everyone else enrolled."""
REALLY_EXPECTED = gate.Gate._expected


@pytest.mark.parametrize("what", READ)
@pytest.mark.parametrize("fault", [*FAULTS, "nothing"])
def test_a_clip_is_not_cleared_when_who_is_enrolled_cannot_be_read(
    well: World, monkeypatch: pytest.MonkeyPatch, what: str, fault: str
) -> None:
    raw = rendered(well)
    monkeypatch.setattr(gate.Gate, "_expected", REALLY_EXPECTED)
    monkeypatch.setattr(clearing, "check_output", asking)
    assert isinstance(well.gate.clear(raw), Cleared)
    monkeypatch.setattr(*READ[what], broken((None, "", searched, {"nothing": None}), fault))
    assert "clear.classifiers" in denied(well.gate.clear(raw))


# ── what native code does ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("function", "arguments"), [(os.abort, ()), (time.sleep, (30,)), (os._exit, (0,))])
def test_a_worker_that_is_lost_answers_nothing(function: Any, arguments: tuple[Any, ...]) -> None:
    few = Workers(1)
    try:
        with pytest.raises(CheckUnavailable):
            few.call(function, *arguments, timeout_s=1.0)
        # And the next question is answered.
        assert few.call(pdq.hashed, [PICTURE]).seen == 0
    finally:
        few.close()


def test_pictures_that_no_worker_can_hash_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: Any, **__: Any) -> Any:
        raise CheckUnavailable("check.lost", "a check crashed", "try again")

    monkeypatch.setattr(workers, "shared", lambda: SimpleNamespace(map=lost))
    with pytest.raises(CheckUnavailable):
        known_bad.hashed([PICTURE])


@pytest.mark.parametrize("wrong", NO_SCORES)
def test_taking_the_highest_score_never_loses_one_that_is_none(wrong: str) -> None:
    for readings in (({"sexual": 3}, NO_SCORES[wrong]), (NO_SCORES[wrong], {"sexual": 3})):
        with pytest.raises(CheckUnavailable):
            highest(readings)  # type: ignore[arg-type]


def test_a_clip_without_frames_is_not_cleared(well: World, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = rendered(well)
    monkeypatch.undo()
    assert "clear.unreadable" in denied(well.gate.clear(raw))
    assert isinstance(media, ModuleType)


@pytest.mark.parametrize("said", [[None, 2], [2, None]], ids=["imported", "taken away"])
def test_a_list_that_comes_or_goes_while_a_clip_is_looked_at_loses_no_match(
    monkeypatch: pytest.MonkeyPatch, said: list[int | None]
) -> None:
    monkeypatch.setattr(frames, "look", lambda *_: Shown())
    monkeypatch.setattr(writing, "read", lambda *_: Written())
    answers = iter(said)
    with ThreadPoolExecutor(2) as beside:
        watched = clearing._Watched(clearing.Expected({}, known_bad=lambda _: next(answers)), beside)
        list(watched.passing((float(n), PICTURE) for n in range(clearing.AT_ONCE + 1)))
    assert (watched.known, watched.compared) == (2, False)
