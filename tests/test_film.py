"""What a machine makes of a film: measured numbers judged one by one, and real encoded films from end to end."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from films import Film, Head, encode, make, spoken
from live import collins_picture, hopper_picture, pixels
from safety.enrolment import checks, film
from safety.enrolment.challenge import Turn
from safety.enrolment.checks import Asked, Examined, Finding
from safety.enrolment.film import Seen
from safety.errors import CheckUnavailable, InvalidInput

DIGITS = "740968"
TURNS: tuple[Turn, ...] = ("right", "left", "right")
ASKED = Asked(DIGITS, TURNS)
ONE = np.full(128, 0.05)


def seen(**changes: Any) -> Seen:
    """A film with nothing wrong with it: 15 seconds of one face, which turns right, left, right at the end."""
    at_s = np.arange(225) / 15
    base = Seen(
        seconds=15.0,
        at_s=at_s,
        yaw=headed("-+-"),
        mouth=np.zeros(225),
        skin=np.full((225, 3), 100.0),
        crowd=np.ones(10, np.int64),
        templates=np.tile(ONE, (8, 1)),
        depth=np.array([0.022, 0.024]),
        changes=np.full(224, 0.7),
        steps_s=np.full(224, 1 / 15),
        again=0.1,
        light=np.full(225, 120.0),
        peaks=2.5,
        edges=0,
        width_px=200,
    )
    return replace(base, **changes)


def headed(way: str, *, far: float = 0.15, rest: float = 0.01) -> Any:
    """The nose's place in each of 225 frames: still for six seconds, then three seconds for each turn."""
    yaw = np.full(225, rest)
    for place, one in enumerate(way):
        start = 90 + place * 45
        yaw[start + 8 : start + 37] += far if one == "+" else -far
    return yaw + np.random.default_rng(3).normal(0, 0.004, 225)


# Turns --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "asked", "certain", "doubted"),
    [
        ("-+-", ("right", "left", "right"), False, False),
        ("+--", ("left", "right", "right"), False, False),
        ("+-", ("left", "right", "right"), False, False),  # held from one turn to the next
        ("+-+", ("right", "left", "right"), False, True),  # a mirrored film, or the wrong way round
        ("--+", ("right", "left", "right"), True, True),
        ("", ("right", "left", "right"), True, True),
        ("-", ("right", "left", "right"), True, True),
    ],
)
def test_a_head_that_turns_in_another_order_is_refused(
    made: str, asked: tuple[Turn, ...], certain: bool, doubted: bool
) -> None:
    found = checks.turns(seen(yaw=headed(made)), asked)
    assert (found.certain, found.doubted) == (certain, doubted), found


def test_a_glance_is_no_turn() -> None:
    assert checks.turns(seen(yaw=headed("-+-", far=0.04)), TURNS).certain


def test_a_head_turned_beyond_what_is_seen_from_the_front_still_counts() -> None:
    yaw = headed("-+-")
    yaw[105:120] = np.nan
    assert not checks.turns(seen(yaw=yaw), TURNS).doubted


# Who ----------------------------------------------------------------------------------------------------


def test_two_people_at_once_are_refused() -> None:
    crowd = np.ones(10, np.int64)
    crowd[3] = 2
    assert (checks.face(seen(crowd=crowd)).certain, checks.face(seen(crowd=crowd)).doubted) == (False, True)
    crowd[4] = 2
    assert checks.face(seen(crowd=crowd)).certain


def test_a_person_who_becomes_another_is_refused_and_one_odd_frame_is_not() -> None:
    templates = np.tile(ONE, (8, 1))
    templates[7, :] += 0.08  # 0.9 away
    assert not checks.person(seen(templates=templates)).certain
    templates[6, :] += 0.08
    assert checks.person(seen(templates=templates)).certain


def test_a_template_that_is_no_number_passes_as_nobody() -> None:
    templates = np.tile(ONE, (8, 1))
    templates[2:4] = np.nan
    assert checks.person(seen(templates=templates)).certain


@pytest.mark.parametrize(
    "nothing", [{"yaw": np.full(225, np.nan)}, {"crowd": np.zeros(10, np.int64), "width_px": 0}]
)
def test_a_film_of_nobody_is_refused(nothing: dict[str, Any]) -> None:
    assert checks.face(seen(**nothing)).certain


# What filmed it -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sign", "doubted"),
    [({"peaks": 13.0}, True), ({"peaks": 3.0}, False), ({"edges": 3}, True), ({"edges": 1}, False)],
)
def test_signs_of_a_screen_are_doubted_and_never_refused(sign: dict[str, Any], doubted: bool) -> None:
    found = checks.screen(seen(**sign))
    assert (found.doubted, found.certain) == (doubted, False)


def test_light_that_jumps_from_frame_to_frame_is_a_screens() -> None:
    assert checks.screen(seen(light=np.tile([118.0, 122.0], 112))).doubted
    assert not checks.screen(seen(light=np.linspace(80, 160, 225))).doubted  # a lamp that is turned up


def test_a_still_picture_and_a_loop_are_refused() -> None:
    assert checks.camera(seen(changes=np.zeros(224))).certain
    assert checks.camera(seen(again=2.0)).certain
    assert checks.camera(seen(steps_s=np.zeros(224))).certain


def test_a_measurement_that_is_no_number_is_no_pass() -> None:
    with pytest.raises(CheckUnavailable, match="could not be measured"):
        checks.depth(seen(depth=np.array([np.nan])))


def test_a_flat_face_and_one_that_could_not_be_followed_are_doubted() -> None:
    assert checks.depth(seen(depth=np.array([0.004, 0.006]))).doubted
    assert checks.depth(seen(depth=np.zeros(0))).doubted
    assert not checks.depth(seen()).doubted


# What was said ------------------------------------------------------------------------------------------


def test_silence_is_refused_at_every_try_and_misheard_digits_only_once() -> None:
    silent = checks.digits(np.zeros(16_000 * 8, np.float32), DIGITS)
    assert silent.certain
    assert not silent.misheard
    misheard = Finding("digits", 90, "`2` of the `6` digits are heard in order")
    for finding, second in ((silent, True), (misheard, False)):
        film = Examined((finding,), np.zeros((0, 128)))
        assert film.wrong(tried=0) == (finding,)
        assert bool(film.wrong(tried=1)) == second


def test_sound_that_is_no_sound_is_no_pass() -> None:
    heard = np.full(16_000 * 5, np.nan, np.float32)
    heard[::2] = 0.5
    with pytest.raises((InvalidInput, CheckUnavailable)):
        checks.digits(heard, DIGITS)


@pytest.mark.slow
@pytest.mark.parametrize("digits", [DIGITS, "381502", "275839"])
def test_the_digits_are_understood_and_others_are_not_taken_for_them(digits: str) -> None:
    heard = np.concatenate([np.zeros(8000, np.float32), spoken(digits), np.zeros(80_000, np.float32)])
    assert not checks.digits(heard, digits).doubted
    others = "".join(str((int(one) + 5) % 10) for one in digits)
    assert checks.digits(heard, others).doubted


def test_lips_that_move_with_the_voice_are_told_from_those_that_do_not() -> None:
    random = np.random.default_rng(0)
    loud = np.repeat(random.random(60) > 0.5, 4000) * 0.3
    heard = (loud * random.normal(0, 1, len(loud))).astype(np.float32)
    speaking = loud[(np.arange(225) * 16_000 // 15)] > 0
    still = np.zeros(225)
    moved = speaking * 2.0 + random.random(225)
    assert not checks.lips(seen(yaw=still, mouth=moved), heard).doubted
    assert checks.lips(seen(yaw=still, mouth=random.random(225)), heard).doubted


# The light of the page ----------------------------------------------------------------------------------


def test_a_face_that_does_not_take_the_colours_of_the_page_is_doubted() -> None:
    asked = ("red", "blue", "green", "white")
    skin = np.full((225, 3), 100.0) + np.random.default_rng(1).normal(0, 0.5, (225, 3))
    assert checks.colours(seen(skin=skin), asked).doubted
    start = 15.0 - checks.COLOUR_S * len(asked)
    for place, at_s in enumerate(np.arange(225) / 15):
        if at_s >= start:
            number = min(len(asked) - 1, int((at_s - start) / checks.COLOUR_S))
            skin[place] += np.array(checks.SHOWN[asked[number]]) * 12
    assert not checks.colours(seen(skin=skin), asked).doubted
    assert checks.colours(seen(skin=skin), asked[::-1]).doubted


# Real films ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("films")


def examined(path: Path, asked: Asked = ASKED) -> dict[str, Finding]:
    return {one.check: one for one in checks.examine(str(path), asked).findings}


def doubted(found: dict[str, Finding]) -> set[str]:
    return {name for name, one in found.items() if one.doubted}


@pytest.mark.slow
def test_a_film_as_it_should_be_is_not_refused_and_another_challenge_makes_it_wrong(folder: Path) -> None:
    path = folder / "fine.webm"
    make(Film(DIGITS, TURNS, turn_s=1.2), pixels(collins_picture()), path)
    found = examined(path)
    assert doubted(found) <= {"lips"}, found
    measured = film.watch(path)
    assert checks.turns(measured, ("left", "left", "right")).certain
    assert "0.0" not in repr(measured).partition("templates")[2][:10]


@pytest.mark.slow
def test_a_film_whose_person_is_exchanged_in_the_middle_is_refused(folder: Path) -> None:
    path = folder / "changed.webm"
    two = Film(DIGITS, TURNS, turn_s=1.2)
    make(two, pixels(collins_picture()), path, second=pixels(hopper_picture()))
    assert examined(path)["person"].certain


@pytest.mark.slow
def test_one_picture_with_a_voice_is_refused(folder: Path) -> None:
    path = folder / "frozen.webm"
    encode([Head(pixels(collins_picture())).picture] * 90, spoken(DIGITS), path)
    found = examined(path)
    assert {name for name, one in found.items() if one.certain} >= {"camera", "turns"}


@pytest.mark.slow
def test_a_film_without_sound_is_refused(folder: Path) -> None:
    path = folder / "quiet.mp4"
    encode([Head(pixels(collins_picture())).picture] * 75, None, path)
    assert examined(path)["digits"].certain


def test_no_trusted_makers_means_that_no_signature_is_looked_for(tmp_path: Path) -> None:
    assert checks.captured(tmp_path / "none", b"") is None
