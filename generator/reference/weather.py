"""What falls, drifts and glitters: small bodies drawn straight onto a frame.

Every position is a function of the time alone, so any frame can be drawn without the ones before it. Bodies in front
of a face thin out: weather never hides who is shown.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from generator.reference.scene import Hour, Picture, Rgb, Scene, Weather
from generator.reference.stage import Face

_SHAPE = Literal["flake", "streak", "mote", "petal", "ring", "star"]
_PHASES = 4
"""A body is drawn at one of 4 x 4 positions inside a pixel; slow ones would stutter on whole pixels."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """Lengths in frame heights, speeds in frame heights a second."""

    shape: _SHAPE
    count: int
    size: tuple[float, float]
    drift: tuple[float, float]
    sway: float
    sway_hz: float
    opacity: float
    colours: tuple[Rgb, ...]
    glow: bool = False
    behind: float = 0.5
    twinkle_hz: float = 0.0
    spin_hz: float = 0.0


_WHITE = (0.95, 0.97, 1.0)
_KINDS: dict[Weather, _Kind] = {
    Weather.RAIN: _Kind(
        "streak", 240, (0.03, 0.06), (-0.2, 1.75), 0.0, 0.0, 0.46, ((0.82, 0.88, 0.97),), behind=0.55
    ),
    Weather.SNOW: _Kind(
        "flake", 330, (0.0022, 0.0055), (0.045, 0.15), 0.02, 0.3, 0.85, (_WHITE,), behind=0.65
    ),
    Weather.DUST: _Kind(
        "mote",
        110,
        (0.0016, 0.0036),
        (0.014, -0.009),
        0.02,
        0.11,
        0.6,
        ((1.0, 0.9, 0.72),),
        glow=True,
        twinkle_hz=0.25,
    ),
    Weather.EMBERS: _Kind(
        "mote",
        130,
        (0.0016, 0.004),
        (0.03, -0.2),
        0.03,
        0.45,
        0.95,
        ((1.0, 0.5, 0.14), (1.0, 0.68, 0.28), (1.0, 0.36, 0.1)),
        glow=True,
        twinkle_hz=1.1,
    ),
    Weather.PETALS: _Kind(
        "petal",
        60,
        (0.006, 0.012),
        (0.09, 0.1),
        0.05,
        0.25,
        0.9,
        ((1.0, 0.76, 0.84), (0.98, 0.66, 0.77), (1.0, 0.88, 0.92)),
        spin_hz=0.35,
    ),
    Weather.LEAVES: _Kind(
        "petal",
        46,
        (0.007, 0.014),
        (0.1, 0.12),
        0.06,
        0.25,
        0.92,
        ((0.85, 0.42, 0.1), (0.7, 0.22, 0.08), (0.9, 0.62, 0.16)),
        spin_hz=0.4,
    ),
    Weather.BUBBLES: _Kind(
        "ring", 70, (0.005, 0.015), (0.0, -0.12), 0.015, 0.5, 0.55, ((0.8, 1.0, 1.0),), glow=True, behind=0.6
    ),
    Weather.STARS: _Kind(
        "star",
        90,
        (0.003, 0.0075),
        (0.004, 0.0),
        0.0,
        0.0,
        0.9,
        ((1.0, 1.0, 1.0), (0.76, 0.86, 1.0), (1.0, 0.88, 0.74)),
        glow=True,
        behind=0.92,
        twinkle_hz=0.35,
    ),
}


@dataclass(slots=True)
class Bodies:
    """All bodies of one kind of weather."""

    kind: _Kind
    width: int
    height: int
    start: Picture
    phase: Picture
    near: Picture
    size: Picture
    colour: Picture
    sprites: dict[tuple[int, ...], Picture] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls, weather: Weather, scene: Scene, width: int, height: int, rng: np.random.Generator
    ) -> "Bodies":
        kind = _KINDS[weather]
        count = max(4, round(kind.count * width / height / (16 / 9)))
        near = np.where(
            rng.random(count) < kind.behind, rng.uniform(0.45, 0.8, count), rng.uniform(0.85, 1.5, count)
        ).astype(np.float32)
        if weather in {Weather.SNOW, Weather.DUST, Weather.PETALS, Weather.LEAVES, Weather.BUBBLES}:
            near[: count // 25] = rng.uniform(2.0, 3.2, count // 25)
        colour = np.array(kind.colours, np.float32)[rng.integers(len(kind.colours), size=count)]
        if kind.shape in {"mote", "streak", "flake"} and weather is not Weather.EMBERS:
            colour = 0.6 * colour + 0.4 * np.array(scene.palette.glow, np.float32)
        if scene.hour is Hour.NOIR:
            colour = np.repeat(colour.mean(1, keepdims=True), 3, axis=1)
        return cls(
            kind=kind,
            width=width,
            height=height,
            start=rng.random((count, 2), dtype=np.float32),
            phase=rng.random(count, dtype=np.float32),
            near=near,
            size=rng.uniform(*kind.size, count).astype(np.float32) * near,
            colour=np.asarray(colour, np.float32),
        )

    def draw(
        self, frame: Picture, time_s: float, look: tuple[float, float], faces: list[Face] | None
    ) -> None:
        """Draw onto `frame` [3, h, w]: those behind the people when `faces` is None, otherwise those in front.

        look: how far the camera has moved, in frame heights; nearer bodies answer more.
        """
        x, y = self._where(time_s, look)
        strength = self._strength(time_s)
        if faces is None:
            strength = np.where(self.near < 0.82, strength, 0)
        else:
            strength = np.where(self.near < 0.82, 0, strength)
            for face in faces:
                off = np.hypot((x - face.x) / 0.75, y - face.y) / face.height
                strength = strength * (0.12 + 0.88 * np.clip((off - 0.55) / 0.6, 0, 1))
        angle = self.phase + self.kind.spin_hz * time_s * np.where(self.phase < 0.5, 1, -1)
        for i in np.flatnonzero(strength > 0.01):
            sprite, left, top = self._sprite(float(x[i]), float(y[i]), float(self.size[i]), float(angle[i]))
            self._stamp(frame, sprite * np.float32(strength[i]), left, top, self.colour[i])

    def _where(self, time_s: float, look: tuple[float, float]) -> tuple[Picture, Picture]:
        margin = 0.12
        wide = self.width / self.height + 2 * margin
        turn = 2 * math.pi * (self.kind.sway_hz * time_s * (0.7 + 0.6 * self.start[:, 0]) + self.phase)
        x = (
            self.start[:, 0] * wide
            + (self.kind.drift[0] * time_s - look[0]) * self.near
            + self.kind.sway * np.sin(turn)
        )
        y = self.start[:, 1] * (1 + 2 * margin) + (self.kind.drift[1] * time_s - look[1]) * self.near
        y = y + 0.4 * self.kind.sway * np.cos(turn * 0.8)
        return x % wide - margin, y % (1 + 2 * margin) - margin

    def _strength(self, time_s: float) -> Picture:
        strength = self.kind.opacity * np.minimum(1.0, 1.15 / self.near) * (0.55 + 0.45 * self.phase)
        strength = np.where(self.near >= 2.0, 0.3 * strength, strength)
        if self.kind.twinkle_hz:
            turn = 2 * math.pi * (self.kind.twinkle_hz * (0.6 + 0.8 * self.phase) * time_s + 7 * self.phase)
            strength = strength * (0.55 + 0.45 * np.sin(turn))
        return np.asarray(strength, np.float32)

    def _sprite(self, x: float, y: float, size: float, angle: float) -> tuple[Picture, int, int]:
        across, down = x * self.height, y * self.height
        column, row = math.floor(across), math.floor(down)
        step = max(1, round(8 * math.log2(max(size * self.height, 0.45) * 4)))
        turned = round(angle * 24) % 24 if self.kind.spin_hz else 0
        key = (step, int((across - column) * _PHASES), int((down - row) * _PHASES), turned)
        sprite = self.sprites.get(key)
        if sprite is None:
            inside = ((key[1] + 0.5) / _PHASES, (key[2] + 0.5) / _PHASES)
            sprite = self.sprites[key] = _drawn(self.kind, 2 ** (step / 8) / 4, inside, turned / 24)
        return sprite, column - sprite.shape[1] // 2, row - sprite.shape[0] // 2

    def _stamp(self, frame: Picture, cover: Picture, left: int, top: int, colour: Picture) -> None:
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + cover.shape[1], self.width), min(top + cover.shape[0], self.height)
        if x0 >= x1 or y0 >= y1:
            return
        cover = cover[y0 - top : y1 - top, x0 - left : x1 - left]
        under = frame[:, y0:y1, x0:x1]
        # Light adds (and saturates); matter covers.
        target = colour[:, None, None]
        under += cover * (target * (1 - 0.6 * under) if self.kind.glow else target - under)


def _drawn(kind: _Kind, radius: float, inside: tuple[float, float], turn: float) -> Picture:
    """One body's coverage, 0–1, in a square just large enough."""
    reach = math.ceil(radius * (3.2 if kind.shape in {"mote", "star"} else 1.3)) + 1
    row, column = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    x, y = column + 0.5 - np.float32(inside[0]), row + 0.5 - np.float32(inside[1])
    off = np.hypot(x, y)
    # A body under a pixel wide keeps its light, not its size.
    small = min(1.0, radius)
    soft = max(radius, 0.8)
    match kind.shape:
        case "streak":
            length = math.hypot(*kind.drift)
            along = (x * kind.drift[0] + y * kind.drift[1]) / length
            across = (x * kind.drift[1] - y * kind.drift[0]) / length
            width = max(0.7, radius * 0.045)
            cover = np.exp(-((across / width) ** 2)) * np.clip(1 - np.abs(along) / radius, 0, 1)
        case "flake":
            cover = small**2 * np.clip((soft + 0.7 - off) / (0.5 + 0.55 * soft), 0, 1)
        case "mote":
            cover = small**2 * (np.exp(-((off / soft) ** 2)) + 0.18 * np.exp(-((off / (1.7 * soft)) ** 2)))
        case "star":
            core, arm = np.exp(-((off / (0.42 * soft)) ** 2)), 2.6 * soft
            flare = np.exp(-np.abs(x) / (0.16 * soft) - (y / arm) ** 2 * 4)
            flare += np.exp(-np.abs(y) / (0.16 * soft) - (x / arm) ** 2 * 4)
            cover = core + 0.3 * flare
        case "ring":
            rim = np.exp(-(((off - 0.85 * soft) / max(0.16 * soft, 0.6)) ** 2))
            shine = np.exp(-(((x + 0.35 * soft) ** 2 + (y + 0.35 * soft) ** 2) / (0.2 * soft + 0.3) ** 2))
            cover = 0.7 * rim + 0.8 * shine + 0.1 * (off < soft)
        case "petal":
            angle = 2 * math.pi * turn
            along = x * math.cos(angle) + y * math.sin(angle)
            across = (y * math.cos(angle) - x * math.sin(angle)) / (0.25 + 0.35 * abs(math.cos(angle * 1.5)))
            cover = np.clip((soft - np.hypot(along, across * (1 + 0.35 * along / soft))) / 1.2 + 0.5, 0, 1)
    cover = np.clip(cover, 0, 1)
    # Cut empty borders, alike on both sides: the centre stays the centre.
    rows, columns = (np.flatnonzero(cover.max(axis) > 0.004) for axis in (1, 0))
    down = int(min(rows[0], 2 * reach - rows[-1])) if len(rows) else reach
    right = int(min(columns[0], 2 * reach - columns[-1])) if len(columns) else reach
    size = 2 * reach + 1
    return np.ascontiguousarray(cover[down : size - down, right : size - right], np.float32)


def bodies(scene: Scene, width: int, height: int, rng: np.random.Generator) -> tuple[Bodies, ...]:
    """The scene's weather; fog is the camera's business."""
    return tuple(
        Bodies.of(weather, scene, width, height, rng) for weather in scene.weather if weather in _KINDS
    )
