"""Faces: the same person is found again, another is not, and nothing passes because a check did not run.

The portraits are public domain and lie inside packages: Eileen Collins in scikit-image, Grace Hopper in matplotlib.
"""

import importlib.abc
import importlib.machinery
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Protocol

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib import cbook
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from skimage import data as _samples

import ill
from ledger.ids import CameoId
from safety import faces
from safety.errors import CheckUnavailable, InvalidInput, Refused
from safety.faces import (
    GRANT_DISTANCE,
    STRANGER_DISTANCE,
    Enrolled,
    Face,
    Likeness,
    OutputCheck,
    Picture,
    check_output,
    distance,
    enrol_portrait,
    find_faces,
    match,
)

SAMPLES: Any = _samples
COLLINS, HOPPER = CameoId("cameo_collins"), CameoId("cameo_hopper")


def _collins() -> Picture:
    return np.asarray(SAMPLES.astronaut(), dtype=np.uint8)


def _hopper() -> Picture:
    with Image.open(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))) as image:
        return np.asarray(image.convert("RGB"))


def _scaled(image: Picture, factor: float) -> Picture:
    height, width = image.shape[:2]
    return np.asarray(Image.fromarray(image).resize((round(width * factor), round(height * factor))))


def _blurred(image: Picture, radius: float) -> Picture:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


def _lit(image: Picture, factor: float) -> Picture:
    return np.clip(image.astype(np.float64) * factor, 0, 255).astype(np.uint8)


def _side_by_side() -> Picture:
    return np.hstack([_collins(), _hopper()[:512, :512]])


@pytest.fixture(scope="module")
def collins() -> Enrolled:
    return enrol_portrait(_collins())


@pytest.fixture(scope="module")
def hopper() -> Enrolled:
    return enrol_portrait([_hopper()])


CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "darker": lambda image: _lit(image, 0.6),
    "brighter": lambda image: _lit(image, 1.3),
    "half size": lambda image: _scaled(image, 0.5),
    "larger": lambda image: _scaled(image, 1.4),
    "cropped": lambda image: image[40:360, 100:420],
    "a little soft": lambda image: _blurred(image, 1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_person_matches_themselves_and_not_the_other(
    change: str, collins: Enrolled, hopper: Enrolled
) -> None:
    granted = [collins.likeness, hopper.likeness]
    for own, picture in enumerate((_collins(), _hopper())):
        seen = [face for face in find_faces(CHANGES[change](picture)) if face.recognisable]
        assert [match(face, granted) for face in seen] == [own]
        assert distance(seen[0], granted[own]) <= GRANT_DISTANCE
        assert distance(seen[0], granted[1 - own]) > STRANGER_DISTANCE
        assert match(seen[0], [granted[1 - own]]) is None


def test_the_model_shuttle_is_not_a_recognisable_face() -> None:
    found = find_faces(_scaled(_collins(), 1.3))
    assert [face.recognisable for face in found].count(True) == 1
    for face in found:
        if not face.recognisable:
            assert match(face, [Likeness(np.zeros((1, 128)))]) is None


@pytest.mark.parametrize("name", ["coffee", "rocket", "chelsea", "brick", "gravel", "colorwheel"])
def test_a_picture_without_people_has_no_recognisable_face(name: str) -> None:
    image = np.asarray(getattr(SAMPLES, name)())
    picture = np.asarray(Image.fromarray(image).convert("RGB"))
    assert not any(face.recognisable for face in find_faces(picture))


def test_boxes_lie_inside_the_picture() -> None:
    picture = _hopper()[180:380, 130:360]
    for face in find_faces(picture):
        top, right, bottom, left = face.box
        assert 0 <= top < bottom <= picture.shape[0]
        assert 0 <= left < right <= picture.shape[1]


# ── enrolment ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (lambda: np.asarray(SAMPLES.coffee()), "portrait.no_face"),
        (_side_by_side, "portrait.several_faces"),
        (lambda: _scaled(_collins(), 0.6), "portrait.too_small"),
        (lambda: _blurred(_hopper(), 5), "portrait.too_blurred"),
        (lambda: [_collins(), _hopper()], "portrait.different_people"),
        (list, "portrait.count"),
    ],
)
def test_an_unfit_portrait_is_refused_with_what_to_do(
    picture: Callable[[], Picture | Sequence[Picture]], reason: str
) -> None:
    with pytest.raises(Refused) as refused:
        enrol_portrait(picture())
    assert refused.value.reason.id == reason
    assert refused.value.reason.remedy


def test_several_poses_of_one_person_are_kept_beside_their_mean(collins: Enrolled) -> None:
    enrolled = enrol_portrait([_collins(), CHANGES["mirrored"](_collins())])
    assert enrolled.likeness.templates.shape == (3, 128)
    assert enrolled.face == enrolled.faces[enrolled.best].box
    np.testing.assert_allclose(
        enrolled.likeness.templates[0], enrolled.likeness.templates[1:].mean(axis=0), atol=1e-6
    )
    assert distance(collins.faces[0], enrolled.likeness) < 1e-3


@pytest.mark.parametrize(
    "bad", [np.zeros((64, 64)), np.zeros((64, 64, 4), np.uint8), np.zeros((8, 8, 3), np.uint8)]
)
def test_what_is_not_a_colour_picture_is_refused(bad: Picture) -> None:
    with pytest.raises(InvalidInput):
        find_faces(bad)


def test_a_template_is_never_printed(collins: Enrolled) -> None:
    for shown in (repr(collins), repr(collins.faces[0]), repr(collins.likeness), str(collins.likeness)):
        assert "template" not in shown
        assert "array" not in shown


# ── stored form ───────────────────────────────────────────────────────────────────────────────────────────


@given(arrays(np.float64, st.tuples(st.integers(1, 17), st.just(128)), elements=st.floats(-2, 2, width=32)))
def test_a_stored_likeness_comes_back_the_same(templates: NDArray[np.float64]) -> None:
    likeness = Likeness(templates)
    data = likeness.to_bytes()
    assert len(data) == 10 + len(templates) * 128 * 4
    again = Likeness.from_bytes(data)
    np.testing.assert_array_equal(again.templates, likeness.templates)
    assert again.to_bytes() == data


def test_the_stored_form_is_little_endian_float32_behind_a_version() -> None:
    data = Likeness(np.ones((1, 128))).to_bytes()
    assert data[:14] == b"likeness\x01\x01\x00\x00\x80\x3f"


@given(st.binary(max_size=1200))
def test_bytes_that_are_not_a_likeness_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        Likeness.from_bytes(data)


def test_a_damaged_likeness_is_refused() -> None:
    data = Likeness(np.ones((2, 128))).to_bytes()
    not_a_number = data[:10] + b"\x00\x00\xc0\x7f" + data[14:]
    for broken in (
        data[:-1],
        data + b"\0",
        data[:8] + b"\x02" + data[9:],
        b"Likeness" + data[8:],
        not_a_number,
    ):
        with pytest.raises(InvalidInput):
            Likeness.from_bytes(broken)


# ── clearing output ───────────────────────────────────────────────────────────────────────────────────────


def _face(template: NDArray[np.float64], left: int = 100, *, recognisable: bool = True) -> Face:
    return Face((50, left + 100, 150, left), template, 1.0, 100.0, frontal=True, recognisable=recognisable)


def _at(away: float) -> NDArray[np.float64]:
    template = np.zeros(128)
    template[0] = away
    return template


ORIGIN = Likeness(np.zeros((1, 128)))


class Staged(Protocol):
    def __call__(
        self, clip: Sequence[tuple[float, list[Face]]], granted: Mapping[CameoId, Likeness] = ...
    ) -> OutputCheck: ...


@pytest.fixture
def staged(monkeypatch: pytest.MonkeyPatch) -> Staged:
    """Run check_output over faces given outright instead of found."""

    def check(
        clip: Sequence[tuple[float, list[Face]]],
        granted: Mapping[CameoId, Likeness] = MappingProxyType({COLLINS: ORIGIN}),
    ) -> OutputCheck:
        found = iter([tuple(shown) for _, shown in clip])
        monkeypatch.setattr(faces, "search", lambda pictures: (next(found) for _ in pictures))
        blank = np.zeros((16, 16, 3), np.uint8)
        return check_output(((t_s, blank) for t_s, _ in clip), granted)

    return check


@pytest.mark.slow
def test_a_stranger_in_three_of_eight_frames_is_reported(collins: Enrolled) -> None:
    strangers = {2, 3, 6}
    frames = [(i * 0.5, _hopper() if i in strangers else _collins()) for i in range(8)]
    check = check_output(frames, {COLLINS: collins.likeness})
    assert check.frames_checked == 8
    assert [t_s for t_s, _ in check.ungranted] == [1.0, 1.5, 3.0]
    assert check.granted_seen == {COLLINS: 5}
    assert check.faces_seen == 8


def test_everyone_granted_clears_and_each_is_counted(collins: Enrolled, hopper: Enrolled) -> None:
    check = check_output([(0.0, _side_by_side())], {COLLINS: collins.likeness, HOPPER: hopper.likeness})
    assert check.ungranted == ()
    assert check.granted_seen == {COLLINS: 1, HOPPER: 1}


def test_with_nobody_granted_every_face_is_ungranted(staged: Staged) -> None:
    check = staged([(0.0, [_face(_at(0.0))]), (0.5, [])], {})
    assert check.ungranted == ((0.0, (50, 200, 150, 100)),)
    assert check.granted_seen == {}


def test_a_clip_without_frames_is_not_cleared() -> None:
    with pytest.raises(CheckUnavailable):
        check_output([], {COLLINS: ORIGIN})


def test_a_decoder_that_fails_midway_clears_nothing() -> None:
    def frames() -> Iterator[tuple[float, Picture]]:
        yield 0.0, np.zeros((64, 64, 3), np.uint8)
        raise OSError("truncated")

    with pytest.raises(OSError, match="truncated"):
        check_output(frames(), {COLLINS: ORIGIN})


def test_one_blurred_frame_of_a_granted_person_does_not_fail_the_clip(staged: Staged) -> None:
    check = staged([(0.0, [_face(_at(0.2))]), (0.5, [_face(_at(0.55))]), (1.0, [_face(_at(0.2))])])
    assert check.ungranted == ()
    assert check.granted_seen == {COLLINS: 3}


@pytest.mark.parametrize(
    ("why", "clip"),
    [
        ("beyond the outer band", [(0.0, [_face(_at(0.2))]), (0.5, [_face(_at(0.61))])]),
        ("too long after", [(0.0, [_face(_at(0.2))]), (1.5, [_face(_at(0.55))])]),
        ("elsewhere in the picture", [(0.0, [_face(_at(0.2))]), (0.5, [_face(_at(0.55), left=300)])]),
        ("in the same frame", [(0.0, [_face(_at(0.2)), _face(_at(0.55), left=110)])]),
        ("never confirmed", [(0.0, [_face(_at(0.5))]), (0.5, [_face(_at(0.5))])]),
        ("a second time", [(0.0, [_face(_at(0.2))]), (0.3, [_face(_at(0.55))]), (0.6, [_face(_at(0.55))])]),
        ("not a number", [(0.0, [_face(_at(0.2))]), (0.5, [_face(_at(float("nan")))])]),
    ],
)
def test_a_borderline_face_is_not_vouched_for(
    why: str, clip: list[tuple[float, list[Face]]], staged: Staged
) -> None:
    assert len(staged(clip).ungranted) == 1 + (why == "never confirmed")


def test_a_look_alike_who_comes_near_in_some_frames_is_nobody_granted(staged: Staged) -> None:
    clip = [(0.4 * n, [_face(_at(0.43 if n % 2 else 0.52))]) for n in range(6)]
    check = staged(clip)
    assert len(check.ungranted) == 6
    assert check.strangers == 1
    assert check.granted_seen == {COLLINS: 0}


def test_blur_that_averages_out_over_a_track_does_not_fail_the_clip(staged: Staged) -> None:
    """Each frame is off in a direction of its own: together they are near."""

    def off(n: int) -> NDArray[np.float64]:
        template = np.zeros(128)
        template[0], template[1 + n] = 0.35, 0.34
        return template

    clip = [(0.4 * n, [_face(off(n))]) for n in range(5)]
    assert staged(clip).ungranted == ()
    # But not two of them: so few average nothing out.
    assert len(staged(clip[:2]).ungranted) == 2


def test_a_confirmed_sighting_vouches_for_no_other_face_in_its_place(staged: Staged) -> None:
    """Both are near the granted person, and on opposite sides of them."""
    other = _at(0.0)
    other[1] = 0.5
    check = staged([(0.0, [_face(_at(0.3))]), (0.4, [_face(other)])])
    assert len(check.ungranted) == 1


def test_a_granted_face_beside_a_stranger_lends_them_nothing(staged: Staged) -> None:
    clip = [(0.4 * n, [_face(_at(0.1)), _face(_at(0.55), left=400)]) for n in range(5)]
    check = staged(clip)
    assert (len(check.ungranted), check.strangers) == (5, 1)
    assert check.granted_seen == {COLLINS: 5}


@given(
    st.lists(
        st.lists(
            st.tuples(
                st.sampled_from([0.1, 0.3, 0.44, 0.47, 0.55, 0.61, 0.8]), st.sampled_from([0, 40, 300])
            ),
            max_size=3,
        ),
        max_size=7,
    )
)
def test_tracks_lend_only_what_they_have(clip: list[list[tuple[float, int]]]) -> None:
    """Whatever comes in whatever order: each sighting in one track; beyond the outer band nobody passes; and with
    fewer than three in doubt, no more pass than were confirmed to vouch for them."""
    seen = [
        faces._Sighting(0.4 * n, _face(_at(away), left=left))
        for n, moment in enumerate(clip)
        for away, left in moment
    ]
    tracks = faces._tracks(seen)
    assert sorted(id(one.face) for track in tracks for one in track) == sorted(id(one.face) for one in seen)
    for track in tracks:
        times = [one.t_s for one in track]
        assert times == sorted(set(times))
        away = [distance(one.face, ORIGIN) for one in track]
        passed = [who is not None for who in faces._whose(track, [ORIGIN])]
        doubtful = sum(1 for d, ok in zip(away, passed, strict=True) if ok and d > GRANT_DISTANCE)
        assert not any(ok and d > STRANGER_DISTANCE for d, ok in zip(away, passed, strict=True))
        # On one line, means of the doubtful are beyond the inner band: only vouching lets them pass.
        assert doubtful <= sum(d <= GRANT_DISTANCE for d in away)


def test_whoever_is_enrolled_and_shown_without_a_grant_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = [(_face(_at(0.9)), _face(_at(0.1), left=400))] * 4
    found = iter(shown)
    monkeypatch.setattr(faces, "search", lambda pictures: (next(found) for _ in pictures))
    asked: list[Face] = []

    def enrolled(face: Face) -> CameoId:
        asked.append(face)
        return HOPPER

    check = check_output(((0.4 * n, FRAME) for n in range(4)), {COLLINS: ORIGIN}, enrolled=enrolled)
    assert check.enrolled == (HOPPER,)
    assert len(asked) == 1
    assert float(asked[0].template[0]) == pytest.approx(0.9)


def test_a_face_that_failed_the_second_look_is_kept_for_a_reviewer(staged: Staged) -> None:
    weak = replace(_face(_at(0.0)), recognisable=False)
    check = staged([(0.0, [weak])])
    assert (check.faces_seen, check.ungranted) == (0, ())
    assert check.doubtful == ((0.0, weak.box),)


# ── the engine ────────────────────────────────────────────────────────────────────────────────────────────


class _Quits(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """An install whose import ends the process, as the real one does without its models."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def find_spec(
        self, fullname: str, path: object, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        return (
            importlib.machinery.ModuleSpec(fullname, self)
            if fullname.startswith("face_recognition")
            else None
        )

    def exec_module(self, module: ModuleType) -> None:
        raise self.error


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    faces._engine.cache_clear()
    for name in [name for name in sys.modules if name.startswith("face_recognition")]:
        monkeypatch.delitem(sys.modules, name)
    yield monkeypatch
    faces._engine.cache_clear()


@pytest.mark.parametrize(
    "error", [SystemExit(0), SystemExit(None), ImportError("gone"), RuntimeError("no model")]
)
def test_a_missing_engine_denies_and_does_not_end_the_process(
    error: BaseException, unloaded: pytest.MonkeyPatch
) -> None:
    unloaded.setattr(sys, "meta_path", [_Quits(error), *sys.meta_path])
    with pytest.raises(CheckUnavailable) as denied:
        find_faces(np.zeros((64, 64, 3), np.uint8))
    assert denied.value.reason.id == "faces.engine_missing"


FRAME = np.zeros((64, 64, 3), np.uint8)


@pytest.mark.parametrize(
    "check", [lambda: enrol_portrait(FRAME), lambda: check_output([(0.0, FRAME)], {COLLINS: ORIGIN})]
)
@pytest.mark.parametrize(
    ("fault", "reason"), [(ill.no_engine, "faces.engine_missing"), (ill.crash, "check.lost")]
)
def test_an_engine_that_fails_in_its_process_denies(
    monkeypatch: pytest.MonkeyPatch, check: Callable[[], object], fault: Any, reason: str
) -> None:
    monkeypatch.setattr(faces, "find_faces", fault)
    with pytest.raises(CheckUnavailable) as denied:
        check()
    assert denied.value.reason.id == reason


def test_an_engine_that_fails_on_a_picture_denies(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def run(self, *_: object) -> None:
            raise RuntimeError("out of memory")

    monkeypatch.setattr(faces, "_engine", lambda: faces._Engine(Broken(), None, None))
    with pytest.raises(CheckUnavailable):
        find_faces(np.zeros((64, 64, 3), np.uint8))


def test_loading_the_engine_does_not_let_truncated_pictures_in() -> None:
    # In a process of its own: here, other tests may have loaded the package without us.
    script = (
        "from PIL import ImageFile; from safety import faces; faces._engine(); "
        "raise SystemExit(3 if ImageFile.LOAD_TRUNCATED_IMAGES else 0)"
    )
    root = Path(__file__).resolve().parent.parent
    assert subprocess.run([sys.executable, "-c", script], cwd=root, check=False).returncode == 0


def test_a_480p_frame_is_searched_quickly() -> None:
    frame = np.full((480, 854, 3), 110, np.uint8)
    frame[:, 200:680] = _scaled(_collins(), 480 / 512)
    find_faces(frame)
    spent = []
    for _ in range(3):
        began = time.thread_time()
        find_faces(frame)
        spent.append(time.thread_time() - began)
    assert min(spent) < 1.0
