"""The painted world: sky, clouds, stars, sea, hills, woods and cities, in the colours of the scene's hour.

`paint` depends on its arguments alone. There is never a figure in it, so nothing in it can pass for a person.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from generator.reference.scene import Hour, Picture, Place, Rgb, Scene, Weather


@dataclass(frozen=True, slots=True)
class Painting:
    """far: [h, w, 3]. near: the nearest ground, with its coverage `near_alpha` [h, w] in 0–1."""

    far: Picture
    near: Picture
    near_alpha: Picture


def paint(scene: Scene, height: int, width: int, rng: np.random.Generator) -> Painting:
    """The scene without people."""
    canvas = _Canvas(scene, height, width, rng)
    sky = far = canvas.sky()
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
        far = canvas.sea(far, sky)
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

    def sea(self, far: Picture, sky: Picture) -> Picture:
        """Water below the horizon: the plain sky upside down in strips, and the sun's or moon's path."""
        below = self.y > self.horizon
        depth = np.clip((self.y - self.horizon) / (1 - self.horizon), 0, 1)
        swell = noise(self.height, self.width, (70, 5 * self.aspect), self.rng, 2)
        source = (
            self.horizon - depth * self.horizon * 0.8 + (swell - 0.5) * 0.16 * (0.2 + depth)
        ) * self.height
        mirrored = sky[
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
        edge: Picture = (base - (rough - 0.5) * (0.36 - 0.16 * nearness)).astype(np.float32)
        if self.scene.place is Place.FOREST:
            columns = np.arange(self.width, dtype=np.float32) / np.float32(self.height)
            meadow = edge + 0.03 * nearness
            for _ in range(int(38 * self.aspect / nearness)):
                foot, tall = self.rng.random() * self.aspect, self.rng.uniform(0.04, 0.17) * (0.3 + nearness)
                off = np.abs(columns - foot) / tall
                boughs = 0.05 * np.abs((off * 26) % 2 - 1)
                tree = meadow[int(foot * self.height) % self.width] - tall * (1 - off * 5 - boughs)
                edge = np.minimum(edge, tree).astype(np.float32)
        return edge

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
        light = light * self.rng.uniform(0.3, 1.0, (rows, columns, 1)).astype(np.float32)
        pane = np.zeros((cell, cell), np.float32)
        pane[cell // 4 : -max(1, cell // 4), cell // 5 : -max(1, cell // 5)] = 1.0
        lit = np.kron(light, pane[..., None])[: self.height, : self.width]
        inside = (self.y > edge[None, :] + 0.012)[..., None]
        if self.scene.hour is Hour.NOIR:
            lit = lit.mean(-1, keepdims=True)
        return np.asarray(near + lit * inside * 0.9, np.float32)
