"""The camera: an eased move over the stage, drifting light, weather, grain; frame after frame in constant memory.

Frames leave as limited-range BT.709 4:2:0 (ITU-R BT.709-6 §3), uint8 [3 h / 2, w]: the luma plane, then the two
chroma planes at half size. Grain touches luma alone and stays under one code value on average.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from generator.reference import weather
from generator.reference.painting import noise
from generator.reference.scene import Hour, Move, Picture, Scene, Weather
from generator.reference.stage import Face, Stage

_FAR_SHARE = 0.4
"""How much of the camera's move the background answers with."""

_RELIEF = 0.022
_LUMA = torch.tensor((0.2126, 0.7152, 0.0722))


@dataclass(frozen=True, slots=True)
class Pose:
    """x, y, sway_x, sway_y: in frame heights. roll: radians."""

    zoom: float
    x: float
    y: float
    sway_x: float
    sway_y: float
    roll: float


@dataclass(frozen=True, slots=True)
class Path:
    """The move through time. Its speed rises and falls every few seconds; sound follows it."""

    move: Move
    seconds: float
    side: float
    phase: float
    steps_hz: float
    aspect: float

    @classmethod
    def of(cls, scene: Scene, seconds: float, aspect: float, rng: np.random.Generator) -> "Path":
        side = 1.0 if rng.random() < 0.5 else -1.0
        return cls(scene.move, seconds, side, float(rng.random()), scene.steps_hz, aspect)

    @property
    def swells(self) -> int:
        """How often the move speeds up."""
        return max(1, round(self.seconds / 4))

    def effort(self, time_s: Picture) -> Picture:
        """The camera's speed, 0.0 at rest to 1.0 at its peaks."""
        return np.asarray(0.5 - 0.5 * np.cos(2 * math.pi * self.swells * time_s / self.seconds), np.float32)

    def pose(self, time_s: float) -> Pose:
        turn = 2 * math.pi * self.swells * time_s / self.seconds
        gone = time_s / self.seconds - 0.85 * math.sin(turn) / (2 * math.pi * self.swells)
        wave = 2 * math.pi * (time_s * 0.13 + self.phase)
        zoom, x, y = 1.03, 0.0, 0.003 * math.sin(wave * 1.7)
        sway_x, sway_y, roll = 0.25 * math.sin(wave), 0.15 * math.cos(wave * 0.8), 0.0
        across = self.side * (2 * gone - 1)
        match self.move:
            case Move.PUSH:
                zoom, sway_x, y = 1.0 + 0.13 * gone, 0.5 * across, y - 0.012 * gone
            case Move.PULL:
                zoom, sway_x = 1.13 - 0.13 * gone, 0.5 * across
            case Move.PAN:
                zoom, x, sway_x = 1.05, 0.055 * across, -0.8 * across
            case Move.ORBIT:
                zoom, x, sway_x = 1.03 + 0.04 * math.sin(math.pi * gone), 0.03 * across, 1.3 * across
            case Move.FLOAT:
                zoom, x = 1.03 + 0.05 * gone, 0.026 * math.sin(wave)
                y, roll = y + 0.026 * math.sin(wave * 1.4 + 1), 0.026 * math.sin(wave * 0.9)
        if self.steps_hz:
            step = math.pi * self.steps_hz * time_s
            x, y = x + 0.004 * math.sin(step), y + 0.009 * abs(math.sin(step))
        # Narrow frames have little to their sides, and a roll swings the far ends of long ones.
        narrow = min(1.0, self.aspect)
        level = min(1.0, 1.8 / self.aspect, self.aspect / 0.56)
        return Pose(max(1.0, zoom), x * narrow, y, sway_x * _RELIEF * narrow, sway_y * _RELIEF, roll * level)


class Camera:
    """Films one stage."""

    def __init__(
        self, scene: Scene, stage: Stage, path: Path, width: int, height: int, rng: np.random.Generator
    ) -> None:
        self.scene, self.stage, self.path = scene, stage, path
        self.width, self.height = width, height
        self._x = (torch.arange(width) + 0.5 - width / 2) / height
        self._y = (torch.arange(height) + 0.5) / height - 0.5
        self._near_relief = self._still(stage.relief)
        self._bodies = weather.bodies(scene, width, height, rng)
        self._lamps = _Lamps.of(scene, width, height, rng)
        cells = noise(64, 256, (6, 16), rng, 4) if Weather.FOG in scene.weather else None
        self._fog = None if cells is None else torch.from_numpy(cells)
        grain = rng.standard_normal((height + 64, width + 64), dtype=np.float32)
        self._grain = torch.from_numpy(grain * np.float32(0.8))
        self._grain_at = rng.integers(0, 64, (997, 2))

    def film(self, count: int, fps: int) -> Iterator[NDArray[np.uint8]]:
        for index in range(count):
            yield self._exposed(self.frame(index / fps), index)

    @torch.no_grad()
    def frame(self, time_s: float) -> torch.Tensor:
        """[3, h, w] RGB, 0.0–1.0, before grain."""
        pose = self.path.pose(time_s)
        far = self._seen(self.stage.far, pose, _FAR_SHARE, None)
        look = (pose.x + 2 * pose.sway_x, pose.y + 2 * pose.sway_y)
        for bodies in self._bodies:
            bodies.draw(far.numpy(), time_s, look, None)
        near = self._seen(self.stage.near, pose, 1.0, self._near_relief)
        frame = torch.addcmul(near[:3], far, 1 - near[3:])
        frame *= self._lamps.light(time_s)
        if self._fog is not None:
            self._veil(frame, time_s)
        faces = [self._moved(face, pose) for face in self.stage.faces]
        for bodies in self._bodies:
            bodies.draw(frame.numpy(), time_s, look, faces)
        return frame.clamp_(0, 1)

    def _seen(
        self, plane: torch.Tensor, pose: Pose, share: float, relief: torch.Tensor | None
    ) -> torch.Tensor:
        """The part of a plane in view: moved by `share` of the pose, bent by the relief."""
        high, wide = plane.shape[1:]
        zoom = 1 + (pose.zoom - 1) * share
        cos, sin = math.cos(pose.roll * share) / zoom, math.sin(pose.roll * share) / zoom
        x, y = self._x * cos + pose.x * share, self._y * cos + pose.y * share
        grid = torch.empty(2, self.height, self.width)
        torch.add(x[None, :], self._y[:, None], alpha=-sin, out=grid[0])
        torch.add(y[:, None], self._x[None, :], alpha=sin, out=grid[1])
        if relief is not None:
            grid[0].add_(relief, alpha=pose.sway_x)
            grid[1].add_(relief, alpha=pose.sway_y)
        # grid_sample counts a plane from -1 to 1; ours are in frame heights.
        grid[0] *= 2 * self.height / wide
        grid[1] *= 2 * self.height / high
        points = grid.permute(1, 2, 0)[None]
        return functional.grid_sample(plane[None], points, padding_mode="border", align_corners=False)[0]

    def _still(self, relief: torch.Tensor) -> torch.Tensor:
        return self._seen(relief, Pose(1, 0, 0, 0, 0, 0), 1.0, None)[0]

    def _moved(self, face: Face, pose: Pose) -> Face:
        centre = self.width / self.height / 2
        return Face(
            (face.x - centre - pose.x) * pose.zoom + centre,
            (face.y - 0.5 - pose.y) * pose.zoom + 0.5,
            face.height * pose.zoom,
        )

    def _veil(self, frame: torch.Tensor, time_s: float) -> None:
        """Two banks of fog that pass each other, thicker towards the ground."""
        if self._fog is None:
            return
        banks = []
        for speed, flip in ((3.0, False), (-2.0, True)):
            shift = time_s * speed
            whole, part = int(shift // 1), shift % 1
            sheet = self._fog.flip(1) if flip else self._fog
            banks.append(torch.roll(sheet, whole, 1) * (1 - part) + torch.roll(sheet, whole + 1, 1) * part)
        bank = (banks[0] * banks[1])[:, :128] * torch.linspace(0.3, 1.5, 64)[:, None]
        size = (self.height, self.width)
        full = functional.interpolate(bank[None, None], size=size, mode="bilinear", align_corners=False)[0]
        colour = torch.tensor(self.scene.palette.sky[2])[:, None, None] * 0.7 + 0.12
        thick = full.clamp_(0, 1) * 0.75
        for face in self.stage.faces:
            thick = thick * self._clearing(face)
        frame += thick * (colour - frame)

    def _clearing(self, face: Face) -> torch.Tensor:
        x = (torch.arange(self.width) / self.height - face.x) / (1.2 * face.height)
        y = (torch.arange(self.height) / self.height - face.y) / (1.3 * face.height)
        return 1 - 0.75 * torch.exp(-(x[None, :] ** 2) - y[:, None] ** 2)

    def _exposed(self, frame: torch.Tensor, index: int) -> NDArray[np.uint8]:
        """RGB to Y'CbCr with grain (BT.709-6 §3.2–3.4)."""
        high, wide = self.height, self.width
        luma = torch.tensordot(_LUMA, frame, 1)
        half = frame[:, 0::2] + frame[:, 1::2]
        half = (half[..., 0::2] + half[..., 1::2]).mul_(0.25)
        half_luma = torch.tensordot(_LUMA, half, 1)
        row, column = self._grain_at[index % len(self._grain_at)]
        luma = (
            luma.mul_(219)
            .add_(self._grain[row : row + high, column : column + wide])
            .add_(16.5)
            .clamp_(16, 235.9)
        )
        blue = ((half[2] - half_luma) * (224 / 1.8556)).add_(128.5).clamp_(16, 240.9)
        red = ((half[0] - half_luma) * (224 / 1.5748)).add_(128.5).clamp_(16, 240.9)
        whole = torch.cat([plane.to(torch.uint8).flatten() for plane in (luma, blue, red)])
        return np.asarray(whole.numpy().reshape(high * 3 // 2, wide), np.uint8)


@dataclass(frozen=True, slots=True)
class _Lamps:
    """Two coloured lights that wander around the people, and the lens's vignette.

    Every part is a product of a function of x and one of y, so that a frame's light is one small matrix product.
    """

    x: torch.Tensor
    y: torch.Tensor
    colours: torch.Tensor
    reach: float
    strength: float
    flicker: float
    phase: float

    @classmethod
    def of(cls, scene: Scene, width: int, height: int, rng: np.random.Generator) -> "_Lamps":
        lively = scene.hour in {Hour.NEON, Hour.DEEP} or Weather.EMBERS in scene.weather
        return cls(
            x=((torch.arange(width) + 0.5) - width / 2) / height,
            y=(torch.arange(height) + 0.5) / height - 0.5,
            colours=torch.tensor(scene.palette.rim),
            reach=0.3 * width / height,
            strength=0.4 if lively else 0.2,
            flicker=0.05 if Weather.EMBERS in scene.weather else 0.0,
            phase=float(rng.random()) * 2 * math.pi,
        )

    def light(self, time_s: float) -> torch.Tensor:
        """[3, h, w], about 1."""
        turn = self.phase + 0.55 * time_s
        wobble = (
            math.sin(9.1 * time_s) + 0.6 * math.sin(15.7 * time_s + 1) + 0.4 * math.sin(23.9 * time_s + 2)
        )
        steady = 1 + 0.5 * self.flicker * wobble
        across, down = [torch.ones_like(self.x)], [torch.full((3, len(self.y)), 1 - 0.3 * self.strength)]
        for sign, colour in zip((1, -1), self.colours, strict=True):
            x = sign * self.reach * (1 + 0.5 * math.sin(turn * sign))
            y = 0.16 * math.cos(turn * 0.8 + sign) - 0.12
            across.append(torch.exp(-(((self.x - x) / (1.3 * self.reach)) ** 2)))
            down.append(self.strength * colour[:, None] * torch.exp(-(((self.y - y) / 0.5) ** 2)))
        across_lens = 1 - 0.16 * (self.x / self.x[-1]).abs() ** 2.5
        down_lens = (1 - 0.13 * (2 * self.y).abs() ** 2.5) * steady
        return torch.matmul(torch.stack(down, -1) * down_lens[:, None], torch.stack(across) * across_lens)
