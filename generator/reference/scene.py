"""What a prompt asks for, and the painted world it takes place in.

`read` turns the prompt's words into a Scene: an hour (palette and grade), a place, weather, a camera move. Words
it does not know change nothing; a prompt without any known word still gives a complete scene, chosen by the seed.
`paint` draws the scene's far and near planes. Both depend on their arguments alone.

Pictures here are float32 [h, w, 3] RGB, 0.0–1.0, unless said otherwise.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.float32]
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


# -- painting ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Painting:
    """far: [h, w, 3]. near: the nearest ground, with its coverage `near_alpha` [h, w] in 0–1."""

    far: Picture
    near: Picture
    near_alpha: Picture


def paint(scene: Scene, height: int, width: int, rng: np.random.Generator) -> Painting:
    """The scene without people."""
    canvas = _Canvas(scene, height, width, rng)
    far = canvas.sky()
    if scene.place is Place.SPACE or scene.hour is Hour.SPACE:
        far = canvas.planet(canvas.stars(canvas.nebula(far), 900))
        return Painting(far, far, np.zeros((height, width), np.float32))
    if scene.hour is Hour.DEEP:
        far = canvas.shafts(far)
    else:
        if scene.hour in {Hour.NIGHT, Hour.NOIR}:
            far = canvas.stars(far, 260)
        far = canvas.clouds(canvas.disc(far))
    if scene.place is Place.SEA and scene.hour is not Hour.DEEP:
        far = canvas.sea(far)
    far, near, alpha = canvas.ground(far)
    return Painting(far, near, alpha)


def smoothstep(low: float, high: float, x: Picture) -> Picture:
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), dtype=np.float32)


def noise(
    height: int, width: int, cells: tuple[float, float], rng: np.random.Generator, octaves: int = 4
) -> Picture:
    """Smooth noise [h, w], 0.0–1.0, mean about a half; `cells` rows and columns of it fill the picture."""
    total = np.zeros((height, width), np.float32)
    weight = 0.0
    for octave in range(octaves):
        rows, columns = (max(2, round(n * 2**octave)) for n in cells)
        grid = Image.fromarray(rng.random((rows, columns), dtype=np.float32))
        total += np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC)) * 0.55**octave
        weight += 0.55**octave
    return np.asarray(np.clip(total / np.float32(weight), 0.0, 1.0), np.float32)


def _over(under: Picture, colour: Rgb | Picture, alpha: Picture) -> Picture:
    return np.asarray(under + alpha[..., None] * (np.asarray(colour, np.float32) - under), dtype=np.float32)


class _Canvas:
    """One painting in the making; x runs 0 to the aspect ratio, y from 0 at the top to 1."""

    def __init__(self, scene: Scene, height: int, width: int, rng: np.random.Generator) -> None:
        self.scene, self.colours, self.rng = scene, scene.palette, rng
        self.height, self.width = height, width
        self.aspect = width / height
        y, x = np.mgrid[:height, :width].astype(np.float32)
        self.y, self.x = y / np.float32(height), x / np.float32(height)
        self.horizon = 0.6 if scene.place is Place.SEA else 0.66
        side = 0.27 if rng.random() < 0.5 else 0.73
        low = scene.hour in {Hour.SUNSET, Hour.DAWN}
        self.sun = (side * self.aspect, self.horizon - (0.1 if low else 0.42))

    def sky(self) -> Picture:
        stops = (0.0, 0.55 * self.horizon, self.horizon)
        rows = np.stack(
            [np.interp(self.y[:, 0], stops, band) for band in zip(*self.colours.sky, strict=True)], -1
        )
        sky = np.broadcast_to(rows[:, None], (self.height, self.width, 3)).astype(np.float32)
        if self.colours.disc:
            far = np.hypot(self.x - self.sun[0], (self.y - self.sun[1]) * 1.25)
            sky = _over(sky, self.colours.glow, 0.5 * np.exp(-far / 0.3))
        return sky

    def disc(self, far: Picture) -> Picture:
        radius = self.colours.disc
        if not radius:
            return far
        off = np.hypot(self.x - self.sun[0], self.y - self.sun[1])
        bright = np.float32(0.35) + np.float32(0.65) * np.array(self.colours.glow, np.float32)
        halo = 0.45 * np.exp(-np.maximum(off - radius, 0) / (radius * 0.9)).astype(np.float32)
        far = _over(far, self.colours.glow, halo)
        body = smoothstep(radius + 2.0 / self.height, radius - 2.0 / self.height, off)
        if self.scene.hour is Hour.NIGHT:
            seas = noise(self.height, self.width, (16, 16 * self.aspect), self.rng, 2)
            body = body * (1.0 - 0.28 * smoothstep(0.45, 0.7, seas))
        return _over(far, bright, body)

    def clouds(self, far: Picture) -> Picture:
        heavy = {Hour.GREY: 0.75, Hour.DAY: 0.6, Hour.SUNSET: 0.7, Hour.NOIR: 0.5}.get(self.scene.hour, 0.4)
        field = noise(self.height, self.width, (5.0, 1.6 * self.aspect), self.rng, 5)
        cover = smoothstep(0.5, 0.78, field) * smoothstep(self.horizon, self.horizon - 0.3, self.y) * heavy
        mixed = np.array((*self.colours.sky[1:], self.colours.glow), np.float32)
        lit = np.array((0.25, 0.45, 0.3), np.float32) @ mixed
        return _over(far, lit, cover)

    def stars(self, far: Picture, per_square: int) -> Picture:
        far = far.copy()
        count = int(per_square * self.aspect)
        ys = self.rng.integers(1, self.height - 1, count)
        xs = self.rng.integers(1, self.width - 1, count)
        light = self.rng.random(count, dtype=np.float32) ** 5 * 0.85 + 0.1
        hue = self.rng.uniform(0.8, 1.0, (count, 3)).astype(np.float32)
        fade = (
            np.clip(1.2 - ys / self.height / self.horizon, 0, 1) if self.scene.hour is not Hour.SPACE else 1.0
        )
        light = light * np.asarray(fade, np.float32)
        for dy, dx, share in ((0, 0, 1.0), (0, 1, 0.35), (0, -1, 0.35), (1, 0, 0.35), (-1, 0, 0.35)):
            far[ys + dy, xs + dx] += (light * share)[:, None] * hue
        return np.clip(far, 0.0, 1.0)

    def nebula(self, far: Picture) -> Picture:
        for colour, strength in (
            ((0.35, 0.16, 0.6), 0.5),
            ((0.1, 0.36, 0.62), 0.45),
            ((0.75, 0.3, 0.42), 0.25),
        ):
            cloud = noise(self.height, self.width, (2.2, 2.2 * self.aspect), self.rng, 6)
            far = _over(far, colour, smoothstep(0.5, 0.86, cloud) * strength)
        return far

    def planet(self, far: Picture) -> Picture:
        """A planet's lit limb along the lower edge."""
        radius, left = 1.5, self.rng.random() < 0.5
        centre = ((0.2 if left else 0.8) * self.aspect, 0.74 + radius)
        off = np.hypot(self.x - centre[0], self.y - centre[1]) - np.float32(radius)
        air = np.exp(-np.maximum(off, 0) / 0.025) * 0.75 + np.exp(-np.maximum(off, 0) / 0.11) * 0.25
        far = _over(far, (0.36, 0.62, 1.0), np.asarray(air, np.float32) * 0.8)
        land = noise(self.height, self.width, (9, 3 * self.aspect), self.rng, 5)
        lit = np.exp(np.minimum(off, 0) / 0.2)[..., None]
        surface = np.array((0.1, 0.3, 0.62), np.float32) + smoothstep(0.45, 0.75, land)[..., None] * 0.45
        return _over(far, np.asarray(surface * lit, np.float32), smoothstep(0.003, -0.003, off))

    def shafts(self, far: Picture) -> Picture:
        """Light from above, under water."""
        slant = self.x + (self.y - 1.0) * 0.35
        bands = noise(2, self.width, (2, 14), self.rng, 3)[0]
        light = np.interp(slant.ravel(), np.linspace(-0.4, self.aspect, self.width), bands).reshape(
            slant.shape
        )
        return _over(
            far, self.colours.glow, smoothstep(0.45, 0.85, light.astype(np.float32)) * (1 - self.y) * 0.5
        )

    def sea(self, far: Picture) -> Picture:
        """Water below the horizon: the sky upside down, broken into strips."""
        below = self.y > self.horizon
        depth = np.clip((self.y - self.horizon) / (1 - self.horizon), 0, 1)
        swell = noise(self.height, self.width, (70, 5 * self.aspect), self.rng, 2)
        source = (
            self.horizon - depth * self.horizon * 0.8 + (swell - 0.5) * 0.16 * (0.2 + depth)
        ) * self.height
        mirrored = far[
            np.clip(source, 0, self.horizon * self.height - 2).astype(int), (self.x * self.height).astype(int)
        ]
        water = mirrored * (0.74 - 0.3 * depth[..., None])
        if self.colours.disc:
            spread = 0.03 + 0.2 * depth
            path = np.exp(-(((self.x - self.sun[0]) / spread) ** 2)) * smoothstep(0.46, 0.7, swell)
            water = _over(
                np.asarray(water, np.float32), self.colours.glow, np.asarray(path * 0.8, np.float32)
            )
        return np.where(below[..., None], water, far).astype(np.float32)

    def ground(self, far: Picture) -> tuple[Picture, Picture, Picture]:
        """Ridges, woods or houses in front of the sky, each nearer one darker; the nearest stays apart."""
        place = self.scene.place
        layers = {Place.CITY: (0.5, 0.6, 0.74), Place.SEA: (0.93,)}.get(place, (0.6, 0.68, 0.78, 0.88))
        alpha = np.zeros((self.height, self.width), np.float32)
        near = far
        for index, base in enumerate(layers):
            nearness = (index + 1) / len(layers)
            edge = self._skyline(base, nearness) if place is Place.CITY else self._ridge(base, nearness)
            alpha = smoothstep(-1.5 / self.height, 1.5 / self.height, self.y - edge[None, :])
            haze = 0.75 * (1 - nearness) ** 1.2
            low = np.asarray(self.colours.sky[2], np.float32)
            tone = low * haze + np.asarray(self.colours.ground, np.float32) * (1 - haze)
            shade = tone * (1.0 - 0.3 * np.clip((self.y - edge[None, :]) * 3, 0, 1))[..., None]
            near = np.asarray(self._snow(shade, edge, nearness), np.float32)
            if place is Place.CITY:
                near = self._windows(near, edge, nearness)
            if index + 1 < len(layers):
                far = _over(far, near, alpha)
        return far, near, alpha

    def _snow(self, shade: Picture, edge: Picture, nearness: float) -> Picture:
        if Weather.SNOW not in self.scene.weather or self.scene.place is Place.CITY:
            return shade
        cold = np.asarray(self.colours.sky[2], np.float32) * 0.75 + np.float32(0.12)
        lying = smoothstep(0.0, 0.1, self.y - edge[None, :]) * (0.5 + 0.4 * nearness)
        return _over(shade, cold, lying)

    def _ridge(self, base: float, nearness: float) -> Picture:
        rough = noise(2, self.width, (2, (3.4 - 1.6 * nearness) * self.aspect), self.rng, 5)[0]
        edge = base - (rough - 0.5) * (0.36 - 0.16 * nearness)
        if self.scene.place is Place.FOREST:
            columns = np.arange(self.width, dtype=np.float32) / np.float32(self.height)
            meadow = edge + 0.03 * nearness
            for _ in range(int(38 * self.aspect / nearness)):
                foot, tall = self.rng.random() * self.aspect, self.rng.uniform(0.04, 0.17) * (0.3 + nearness)
                off = np.abs(columns - foot) / tall
                boughs = 0.05 * np.abs((off * 26) % 2 - 1)
                tree = meadow[int(foot * self.height) % self.width] - tall * (1 - off * 5 - boughs)
                edge = np.minimum(edge, tree).astype(np.float32)
        return np.asarray(edge, np.float32)

    def _skyline(self, base: float, nearness: float) -> Picture:
        edge = np.empty(self.width, np.float32)
        at = 0
        while at < self.width:
            wide = int(self.rng.uniform(0.05, 0.14) * (0.5 + nearness) * self.height) + 2
            edge[at : at + wide] = base - self.rng.uniform(-0.08, 0.3) * (1.2 - 0.5 * nearness)
            at += wide
        return edge

    def _windows(self, near: Picture, edge: Picture, nearness: float) -> Picture:
        cell = max(4, int(0.022 * (0.5 + nearness) * self.height))
        rows, columns = self.height // cell + 1, self.width // cell + 1
        awake = self.rng.random((rows, columns)) < (0.1 if self.scene.hour in {Hour.DAY, Hour.GREY} else 0.34)
        tint = np.array(((1.0, 0.72, 0.36), (0.62, 0.8, 1.0), (1.0, 0.9, 0.7)), np.float32)
        if self.scene.hour is Hour.NEON:
            tint = np.array(
                ((1.0, 0.16, 0.6), (0.1, 0.85, 1.0), (1.0, 0.62, 0.25), (0.6, 0.3, 1.0)), np.float32
            )
        light = tint[self.rng.integers(len(tint), size=(rows, columns))] * awake[..., None]
        light = light * self.rng.uniform(0.3, 1.0, (rows, columns, 1))
        pane = np.zeros((cell, cell), np.float32)
        pane[cell // 4 : -max(1, cell // 4), cell // 5 : -max(1, cell // 5)] = 1.0
        lit = np.kron(light, pane[..., None])[: self.height, : self.width]
        inside = (self.y > edge[None, :] + 0.012)[..., None]
        monochrome = lit.mean(-1, keepdims=True) if self.scene.hour is Hour.NOIR else lit
        return np.asarray(near + monochrome * inside * 0.9, np.float32)
