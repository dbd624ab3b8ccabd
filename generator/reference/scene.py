"""What a prompt asks for.

`read` turns the prompt's words into a Scene: an hour (palette and grade), a place, weather, a camera move. Words
it does not know change nothing; a prompt without any known word still gives a complete scene, chosen by the seed.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]
"""float32 [h, w, 3] RGB or [h, w] coverage, 0.0–1.0, unless said otherwise."""

Rgb = tuple[float, float, float]
_Meaning = TypeVar("_Meaning")


class Place(Enum):
    HILLS = "hills"
    SEA = "sea"
    FOREST = "forest"
    CITY = "city"
    SPACE = "space"
    STUDIO = "studio"


class Weather(Enum):
    RAIN = "rain"
    SNOW = "snow"
    DUST = "dust"
    EMBERS = "embers"
    PETALS = "petals"
    LEAVES = "leaves"
    BUBBLES = "bubbles"
    STARS = "stars"
    FOG = "fog"


class Move(Enum):
    PUSH = "push"
    PULL = "pull"
    PAN = "pan"
    ORBIT = "orbit"
    FLOAT = "float"


class Hour(Enum):
    NEON = "neon"
    NOIR = "noir"
    SPACE = "space"
    DEEP = "deep"
    SUNSET = "sunset"
    NIGHT = "night"
    DAWN = "dawn"
    GREY = "grey"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours of an hour. `sky` runs from the zenith to the horizon; `key` and `rim` light the people."""

    sky: tuple[Rgb, Rgb, Rgb]
    glow: Rgb
    ground: Rgb
    key: Rgb
    rim: tuple[Rgb, Rgb]
    exposure: float
    saturation: float
    disc: float = 0.0
    """Radius of the sun or moon, in picture heights; 0 for none."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything the picture and the sound agree on."""

    hour: Hour
    palette: Palette
    place: Place
    weather: tuple[Weather, ...]
    move: Move
    steps_hz: float
    """Footsteps a second; 0 when nobody walks."""


_WARM, _COOL = (1.0, 0.66, 0.34), (0.55, 0.7, 1.0)
_PALETTES: dict[Hour, Palette] = {
    Hour.NEON: Palette(
        sky=((0.02, 0.01, 0.07), (0.11, 0.03, 0.22), (0.46, 0.08, 0.44)),
        glow=(1.0, 0.2, 0.65),
        ground=(0.02, 0.02, 0.06),
        key=(0.98, 0.86, 1.04),
        rim=((1.0, 0.16, 0.62), (0.1, 0.8, 1.0)),
        exposure=0.84,
        saturation=1.08,
    ),
    Hour.NOIR: Palette(
        sky=((0.02, 0.02, 0.02), (0.09, 0.09, 0.1), (0.3, 0.3, 0.31)),
        glow=(0.9, 0.9, 0.88),
        ground=(0.01, 0.01, 0.01),
        key=(1.0, 0.99, 0.97),
        rim=((0.9, 0.9, 0.9), (0.2, 0.2, 0.22)),
        exposure=0.94,
        saturation=0.06,
    ),
    Hour.SPACE: Palette(
        sky=((0.006, 0.008, 0.022), (0.016, 0.018, 0.05), (0.04, 0.03, 0.09)),
        glow=(0.45, 0.62, 1.0),
        ground=(0.01, 0.02, 0.05),
        key=(0.93, 0.97, 1.05),
        rim=((0.35, 0.6, 1.0), (1.0, 0.85, 0.66)),
        exposure=0.92,
        saturation=0.96,
    ),
    Hour.DEEP: Palette(
        sky=((0.22, 0.62, 0.7), (0.05, 0.34, 0.46), (0.01, 0.12, 0.22)),
        glow=(0.6, 1.0, 0.95),
        ground=(0.01, 0.08, 0.13),
        key=(0.82, 1.0, 1.04),
        rim=((0.4, 0.95, 1.0), (0.2, 0.6, 0.8)),
        exposure=0.88,
        saturation=0.9,
    ),
    Hour.SUNSET: Palette(
        sky=((0.16, 0.16, 0.36), (0.66, 0.33, 0.34), (1.0, 0.66, 0.3)),
        glow=(1.0, 0.76, 0.4),
        ground=(0.13, 0.06, 0.08),
        key=(1.1, 0.95, 0.77),
        rim=(_WARM, (0.75, 0.3, 0.3)),
        exposure=0.97,
        saturation=1.04,
        disc=0.06,
    ),
    Hour.NIGHT: Palette(
        sky=((0.012, 0.02, 0.06), (0.03, 0.06, 0.15), (0.1, 0.16, 0.3)),
        glow=(0.78, 0.87, 1.0),
        ground=(0.02, 0.035, 0.075),
        key=(0.8, 0.91, 1.1),
        rim=(_COOL, (0.25, 0.35, 0.7)),
        exposure=0.74,
        saturation=0.76,
        disc=0.042,
    ),
    Hour.DAWN: Palette(
        sky=((0.36, 0.5, 0.72), (0.76, 0.68, 0.76), (1.0, 0.82, 0.7)),
        glow=(1.0, 0.9, 0.76),
        ground=(0.2, 0.2, 0.27),
        key=(1.04, 0.98, 0.94),
        rim=((1.0, 0.78, 0.64), (0.7, 0.7, 0.9)),
        exposure=0.98,
        saturation=0.96,
        disc=0.05,
    ),
    Hour.GREY: Palette(
        sky=((0.24, 0.29, 0.35), (0.38, 0.43, 0.48), (0.58, 0.62, 0.65)),
        glow=(0.8, 0.84, 0.88),
        ground=(0.09, 0.12, 0.14),
        key=(0.92, 0.97, 1.04),
        rim=((0.6, 0.7, 0.8), (0.45, 0.5, 0.6)),
        exposure=0.88,
        saturation=0.8,
    ),
    Hour.DAY: Palette(
        sky=((0.2, 0.42, 0.74), (0.47, 0.67, 0.88), (0.84, 0.9, 0.94)),
        glow=(1.0, 0.97, 0.88),
        ground=(0.12, 0.22, 0.16),
        key=(1.02, 1.0, 0.98),
        rim=((1.0, 0.95, 0.85), (0.7, 0.8, 0.95)),
        exposure=1.0,
        saturation=1.0,
        disc=0.05,
    ),
}

# Earlier rows win: "neon city at night" is neon. "sun" alone is a sunny day.
_HOURS: tuple[tuple[Hour, str], ...] = (
    (Hour.NEON, "neon cyberpunk disco nightclub club synthwave vaporwave"),
    (Hour.NOIR, "noir monochrome detective greyscale grayscale"),
    (Hour.DEEP, "underwater reef diving diver submarine"),
    (Hour.SUNSET, "sunset dusk golden evening amber fire campfire flames embers autumn"),
    (Hour.SPACE, "space galaxy cosmos cosmic nebula orbiting astronaut astronauts spaceship planet"),
    (Hour.NIGHT, "night nights midnight moon moonlit moonlight starry stars nocturnal dark"),
    (Hour.DAWN, "dawn sunrise morning pastel spring blossom blossoms"),
    (
        Hour.GREY,
        "rain rainy raining storm stormy overcast cloudy fog foggy mist misty drizzle winter snow snowy",
    ),
    (Hour.DAY, "day daylight noon sun sunny sunlight summer blue"),
)
_PLACES: tuple[tuple[Place, str], ...] = (
    (Place.CITY, "city street streets skyline downtown tokyo town rooftop neon alley traffic nightclub"),
    (Place.SPACE, "space galaxy cosmos cosmic nebula orbiting astronaut astronauts planet spaceship"),
    (Place.SEA, "sea ocean beach shore lake harbour harbor waves coast island sailing boat underwater reef"),
    (Place.FOREST, "forest forests wood woods pine pines trees jungle park snow snowy winter"),
    (
        Place.HILLS,
        "hill hills mountain mountains valley desert dunes field fields meadow landscape countryside",
    ),
    (Place.STUDIO, "studio interview backdrop headshot"),
)
_WEATHERS: tuple[tuple[Weather, str], ...] = (
    (Weather.RAIN, "rain rains rainy raining drizzle downpour storm stormy thunderstorm"),
    (Weather.SNOW, "snow snows snowy snowing snowfall snowflakes blizzard"),
    (Weather.EMBERS, "ember embers fire campfire flames sparks bonfire fireflies"),
    (Weather.PETALS, "petal petals blossom blossoms sakura confetti"),
    (Weather.LEAVES, "leaf leaves autumn"),
    (Weather.BUBBLES, "bubble bubbles underwater reef diving diver"),
    (Weather.STARS, "star stars starry galaxy cosmos space nebula"),
    (Weather.FOG, "fog foggy mist misty haze hazy smoke smoky"),
    (Weather.DUST, "dust dusty motes pollen sand"),
)
_MOVES: tuple[tuple[Move, str], ...] = (
    (Move.FLOAT, "float floats floating weightless hovering underwater swimming dreamy"),
    (Move.ORBIT, "orbit orbits orbiting around turning circling rotating"),
    (Move.PAN, "pan pans panning sweep sweeping across tracking city skyline"),
    (Move.PULL, "pull pulls reveal reveals wide retreat distance"),
    (Move.PUSH, "push zoom zooms close closeup closer approach approaching walking walk walks running"),
)
_STEPS_HZ = {"walk": 1.75, "walks": 1.75, "walking": 1.75, "run": 2.6, "runs": 2.6, "running": 2.6}


def read(prompt: str, rng: np.random.Generator) -> Scene:
    """The scene the prompt's words describe; `rng` fills in what they leave open."""
    words = re.findall(r"[a-z]+", prompt.lower())
    told = set(words)
    hour = next(iter(_said(_HOURS, told)), None)
    place = next(iter(_said(_PLACES, told)), None)
    weather = _said(_WEATHERS, told)
    move = next(iter(_said(_MOVES, told)), None)
    open_move = (Move.PUSH, Move.PAN, Move.ORBIT)[int(rng.integers(3))]
    open_place = (Place.HILLS, Place.SEA)[int(rng.integers(2))]
    if place is None:
        place = Place.STUDIO if hour is None and not weather else open_place
    if hour is None:
        hour = Hour.DAY
    return Scene(
        hour=hour,
        palette=_PALETTES[hour],
        place=place,
        weather=tuple(weather[:3]) or (Weather.DUST,),
        move=open_move if move is None else move,
        steps_hz=next((_STEPS_HZ[word] for word in words if word in _STEPS_HZ), 0.0),
    )


def _said(table: tuple[tuple[_Meaning, str], ...], told: set[str]) -> list[_Meaning]:
    return [meaning for meaning, words in table if told & set(words.split())]
