"""Where the people stand: the portraits cut softly from their own background and set before the painted scene.

A Stage is two planes, a little larger than the frame so that the camera can move: a far one that covers everything
and a near one with coverage. Faces are scaled alike in both directions and never redrawn: what the camera sees is
the enrolled portrait, lit and graded. Everything away from the faces is softened, as behind a portrait lens, so that
badges, toys and pictures in a portrait do not read as faces of their own.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch.nn import functional

from generator.backend import Portrait
from generator.reference import matte
from generator.reference.painting import paint, smoothstep
from generator.reference.scene import Hour, Palette, Picture, Place, Scene

OVERSCAN = 1.18
"""Planes are this many frames wide and high. INVARIANT: no camera move looks past a plane."""

_FACE_OF_HEIGHT, _FACE_OF_PANEL = 0.36, 0.55
_EYE_LINE = 0.465


@dataclass(frozen=True, slots=True)
class Face:
    """Where a face is before the camera moves, in frame heights from the frame's upper left corner."""

    x: float
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Stage:
    """far: float32 [3, H, W]; near: float32 [4, H, W], colour already multiplied by its coverage in the last channel.

    relief: float32 [1, H, W], 0 at the back to 1 at the tip of a nose; parallax inside the near plane.
    """

    far: torch.Tensor
    near: torch.Tensor
    relief: torch.Tensor
    faces: tuple[Face, ...]


def build(
    scene: Scene, portraits: tuple[Portrait, ...], width: int, height: int, rng: np.random.Generator
) -> Stage:
    """The stage for a frame of `width` x `height`."""
    wide, high = (2 * round(side * OVERSCAN / 2) for side in (width, height))
    if not portraits:
        return _landscape(scene, wide, high, rng)
    panels = [_Panel(i, len(portraits), width, height, wide, high) for i in range(len(portraits))]
    far = _surroundings(scene, portraits, panels, rng)
    near, alpha = np.zeros((high, wide, 3), np.float32), np.zeros((high, wide), np.float32)
    relief = np.zeros((high, wide), np.float32)
    faces = []
    for portrait, panel in zip(portraits, panels, strict=True):
        person = _set(portrait, panel)
        share = person.alpha * panel.softness()
        near += _light(person, scene.palette) * share[..., None]
        alpha += share
        relief = np.maximum(relief, _relief(share, person.face, high))
        offset_x, offset_y = (wide - width) / 2 / height, (high - height) / 2 / height
        scale = high / height
        face = person.face
        faces.append(Face(face.x * scale - offset_x, face.y * scale - offset_y, face.height * scale))
    solid = np.concatenate([near, alpha[..., None]], axis=-1)
    return Stage(_planes(far), _planes(solid), _planes(relief[..., None]), tuple(faces))


def _landscape(scene: Scene, wide: int, high: int, rng: np.random.Generator) -> Stage:
    painting = paint(scene, high, wide, rng)
    alpha = painting.near_alpha[..., None]
    near = np.concatenate([painting.near * alpha, alpha], axis=-1)
    rise = smoothstep(0.6, 1.0, np.linspace(0, 1, high, dtype=np.float32))
    relief = np.repeat(rise[:, None, None], wide, axis=1)
    return Stage(_planes(painting.far), _planes(near), _planes(relief), ())


def _planes(picture: Picture) -> torch.Tensor:
    """[h, w, c] to a contiguous [c, h, w]."""
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1), dtype=np.float32))


# -- the surroundings ----------------------------------------------------------------------------------------


def _surroundings(
    scene: Scene, portraits: tuple[Portrait, ...], panels: "list[_Panel]", rng: np.random.Generator
) -> Picture:
    wide, high = panels[0].wide, panels[0].high
    if scene.place is Place.STUDIO:
        own = np.zeros((high, wide, 3), np.float32)
        for portrait, panel in zip(portraits, panels, strict=True):
            own += _extended(portrait, panel) * panel.softness(0.5)[..., None]
        return _grade(own, scene.palette) * np.float32(0.62)
    painting = paint(scene, high, wide, rng)
    whole = painting.far + painting.near_alpha[..., None] * (painting.near - painting.far)
    if scene.place is Place.SPACE or scene.hour is Hour.SPACE:
        return np.asarray(whole, np.float32)
    return _defocus(whole, 0.016 * high)


def _extended(portrait: Portrait, panel: "_Panel") -> Picture:
    """The portrait's own colours, spread so wide that nothing in them can be recognised."""
    small = Image.fromarray(portrait.image).resize((24, 24), Image.Resampling.BOX)
    soft = small.filter(ImageFilter.GaussianBlur(3.5)).resize(
        (panel.wide, panel.high), Image.Resampling.BICUBIC
    )
    return np.asarray(soft, np.float32) / np.float32(255)


def _defocus(picture: Picture, radius_px: float) -> Picture:
    """A lens's blur: discs rather than a haze, and lights keep their strength."""
    high, wide, _ = picture.shape
    shrink = max(1, round(radius_px / 4))
    size = max(1, round(radius_px / shrink))
    light = torch.from_numpy(picture.clip(0, 1.6) ** 2.4).permute(2, 0, 1)[:, None].contiguous()
    light = functional.interpolate(light, size=(max(2, high // shrink), max(2, wide // shrink)), mode="area")
    y, x = np.mgrid[-size : size + 1, -size : size + 1]
    disc = torch.from_numpy(np.clip(size + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32))
    kernel = (disc / disc.sum())[None, None]
    spread = functional.conv2d(functional.pad(light, [size] * 4, mode="replicate"), kernel)
    full = functional.interpolate(spread, size=(high, wide), mode="bicubic", align_corners=False)
    return np.asarray(full[:, 0].permute(1, 2, 0).clamp(0).numpy() ** np.float32(1 / 2.4), np.float32).clip(
        0, 1
    )


# -- the people ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Panel:
    """One person's share of the stage, in pixels of the planes."""

    index: int
    count: int
    width: int
    height: int
    wide: int
    high: int

    @property
    def centre_x(self) -> float:
        return self.wide / 2 + ((self.index + 0.5) / self.count - 0.5) * self.width * 0.94

    @property
    def room(self) -> float:
        """How wide the person may spread."""
        return self.width / self.count

    def softness(self, feather: float = 0.1) -> Picture:
        """Coverage [h, w], 0–1; those of all panels sum to one."""
        x = (np.arange(self.wide, dtype=np.float32) - np.float32((self.wide - self.width) / 2)) / np.float32(
            self.room
        )
        left = smoothstep(-feather, feather, x - self.index) if self.index else np.ones_like(x)
        right = (
            smoothstep(-feather, feather, x - self.index - 1)
            if self.index + 1 < self.count
            else np.zeros_like(x)
        )
        return np.broadcast_to(left - right, (self.high, self.wide))


@dataclass(frozen=True, slots=True)
class _Person:
    """colour: [h, w, 3] and alpha: [h, w] on the plane. face: in plane heights."""

    colour: Picture
    alpha: Picture
    face: Face


def _set(portrait: Portrait, panel: _Panel) -> _Person:
    """Scale and place the portrait so that its face has the size and the eye line of a portrait shot."""
    top, right, bottom, left = portrait.face
    rows, columns = portrait.image.shape[:2]
    face_px, centre_x, centre_y = bottom - top, (left + right) / 2, (top + bottom) / 2
    wanted = min(_FACE_OF_HEIGHT * panel.height, _FACE_OF_PANEL * panel.room)
    eye = (panel.high - panel.height) / 2 + _EYE_LINE * panel.height
    # A portrait that ends below the chin is enlarged a little, then lowered, to reach the frame's lower edge.
    below = max(rows - centre_y, 0.5 * face_px)
    scale = max(wanted / face_px, min((panel.high - eye) / below, 1.18 * wanted / face_px))
    eye = min(max(eye, panel.high - below * scale), eye + 0.1 * panel.height)
    laid = _Laid(scale, panel.centre_x - centre_x * scale, eye - centre_y * scale, panel)
    colour = laid.picture(portrait.image)
    face = Face(panel.centre_x / panel.high, eye / panel.high, face_px * scale / panel.high)
    # The fade at the portrait's borders stays off the face.
    room = min(left, columns - right, top, rows - bottom) / face_px
    inside = laid.inside(rows, columns, feather=min(max(0.8 * room, 0.08), 0.3) * face_px * scale)
    y, x = np.mgrid[: panel.high, : panel.wide].astype(np.float32)
    u, v = (x / panel.high - face.x) / face.height, (y / panel.high - face.y) / face.height
    if laid.y + rows * scale < 0.96 * panel.high:
        # Too close a picture to stand a person in the scene: an oval miniature, with its own background.
        oval = smoothstep(1.0, 0.62, np.hypot(u / 0.95, (v + 0.03) / 1.15))
        around = _blur(laid.stretched(colour, rows, columns), 0.16 * face_px * scale)
        return _Person(around + inside[..., None] * (colour - around), oval, face)
    cover = _matte(portrait, laid, colour)
    colour = _continued(colour, cover * inside, v, face_px * scale)
    # Beyond the portrait's borders the person goes on as a dim outline: no cut shoulders, no floating head.
    beyond = (1 - inside) * smoothstep(-0.02, 0.22, matte.shape(u, v))
    return _Person(_lens(colour, face), inside * cover + beyond, face)


def _continued(colour: Picture, known: Picture, v: Picture, face_px: float) -> Picture:
    """The person's colours `known` for sure, spread over their edges and beyond the portrait, dimmer downwards."""
    sure = known**3 + np.float32(1e-5)
    close, wide = (
        _blur(np.dstack([colour * sure[..., None], sure]), share * face_px) for share in (0.1, 0.4)
    )
    spread = wide[..., :3] / wide[..., 3:]
    dim = np.float32(1) - np.float32(0.86) * smoothstep(0.45, 0.95, v)
    trust = smoothstep(0.005, 0.05, close[..., 3])[..., None]
    near = spread * dim[..., None] * (1 - trust) + close[..., :3] / close[..., 3:].clip(1e-6) * trust
    return np.asarray(near + smoothstep(0.3, 0.85, known)[..., None] * (colour - near), np.float32)


@dataclass(frozen=True, slots=True)
class _Laid:
    """Where a portrait's pixels lie on the plane: `scale` plane pixels each, from (x, y)."""

    scale: float
    x: float
    y: float
    panel: _Panel

    def picture(self, image: NDArray[np.uint8]) -> Picture:
        """uint8 [rows, columns, 3] onto the plane; black outside."""
        picture, step = Image.fromarray(image), 1.0
        if self.scale < 1.0:
            small = (max(1, round(side * self.scale)) for side in picture.size)
            step = picture.width * self.scale
            picture = picture.resize((next(small), next(small)), Image.Resampling.LANCZOS)
            step /= picture.width
        step = self.scale if self.scale >= 1.0 else step
        return self._transform(picture, step, 0.0, 0.0, Image.Resampling.BICUBIC) / np.float32(255)

    def plane(self, values: Picture, pixel: float, left: float, top: float) -> Picture:
        """[rows, columns] onto the plane: each value covers `pixel` portrait pixels, starting at (left, top)."""
        picture, scale = Image.fromarray(values), self.scale
        return self._transform(picture, pixel * scale, left * scale, top * scale, Image.Resampling.BILINEAR)

    def _transform(
        self, picture: Image.Image, step: float, left: float, top: float, filtering: Image.Resampling
    ) -> Picture:
        move = (1 / step, 0.0, -(self.x + left) / step, 0.0, 1 / step, -(self.y + top) / step)
        size = (self.panel.wide, self.panel.high)
        laid = picture.transform(size, Image.Transform.AFFINE, move, filtering)
        return np.asarray(laid, np.float32)

    def inside(self, rows: int, columns: int, feather: float) -> Picture:
        """1 on the portrait, falling to 0 at its borders; a border outside the frame does not fade."""
        x = np.arange(self.panel.wide, dtype=np.float32)[None, :] - np.float32(self.x)
        y = np.arange(self.panel.high, dtype=np.float32)[:, None] - np.float32(self.y)
        right, bottom = np.float32(columns * self.scale), np.float32(rows * self.scale)
        fade = smoothstep(1.0, feather, np.minimum(x, right - x)) * smoothstep(1.0, 0.5 * feather, y)
        if self.y + rows * self.scale < self.panel.high - 1:
            fade = fade * smoothstep(1.0, 1.6 * feather, bottom - y)
        return np.asarray(fade * (y < bottom), np.float32)

    def stretched(self, colour: Picture, rows: int, columns: int) -> Picture:
        """The plane with the portrait's border pixels repeated outwards."""
        x = np.clip(np.arange(self.panel.wide), self.x + 2, self.x + columns * self.scale - 3)
        y = np.clip(np.arange(self.panel.high), self.y + 2, self.y + rows * self.scale - 3)
        column = x.astype(np.int64).clip(0, self.panel.wide - 1)
        row = y.astype(np.int64).clip(0, self.panel.high - 1)
        return np.asarray(colour[row[:, None], column[None, :]], np.float32)

    def view(self, portrait: Portrait) -> tuple[int, int, int, int]:
        """(top, right, bottom, left) of the portrait's pixels that the plane shows, at most 4 faces from the face."""
        rows, columns = portrait.image.shape[:2]
        top, right, bottom, left = portrait.face
        far = 4 * (bottom - top)
        return (
            max(0, top - far, math.floor(-self.y / self.scale)),
            min(columns, right + far, math.ceil((self.panel.wide - self.x) / self.scale)),
            min(rows, math.ceil((self.panel.high - self.y) / self.scale)),
            max(0, left - far, math.floor(-self.x / self.scale)),
        )


def _matte(portrait: Portrait, laid: _Laid, colour: Picture) -> Picture:
    """Coverage of the person on the plane, 0–1."""
    window = laid.view(portrait)
    found = matte.solve(portrait, window)
    *slopes, offset = (laid.plane(plane, found.pixel, window[3], window[0]) for plane in found.planes)
    cover = sum((colour[..., i] * slope for i, slope in enumerate(slopes)), start=offset)
    return smoothstep(0.2, 0.68, np.asarray(cover, np.float32))


# -- lens and light ------------------------------------------------------------------------------------------


def _blur(picture: Picture, sigma_px: float) -> Picture:
    """A wide blur of [h, w] or [h, w, c], borders repeated."""
    planes = _planes(picture if picture.ndim == 3 else picture[..., None])[None]
    high, wide = picture.shape[:2]
    shrink = max(1, round(sigma_px / 2))
    small = functional.interpolate(planes, size=(max(2, high // shrink), max(2, wide // shrink)), mode="area")
    reach = max(1, round(sigma_px / shrink))
    for _ in range(3):
        small = matte.box(small, reach)
    full = functional.interpolate(small, size=(high, wide), mode="bilinear", align_corners=False)
    return np.asarray(full[0].permute(1, 2, 0).numpy().reshape(picture.shape), np.float32)


def _away(face: Face, high: int, wide: int) -> Picture:
    """Distance from the face's centre in face heights, [h, w]."""
    y, x = np.mgrid[:high, :wide].astype(np.float32) / np.float32(high)
    return np.asarray(np.hypot((x - face.x) * 1.1, y - face.y) / face.height, np.float32)


def _lens(colour: Picture, face: Face) -> Picture:
    """Sharp at the face, soft beyond the collar."""
    high, wide, _ = colour.shape
    soft = _blur(colour, 0.025 * face.height * high)
    share = smoothstep(1.1, 2.1, _away(face, high, wide))[..., None]
    return np.asarray(colour + share * (soft - colour), np.float32)


def _grade(colour: Picture, palette: Palette) -> Picture:
    """The hour's exposure, key light and saturation, with the sky's colour in the shadows."""
    luma = (colour @ np.array((0.2126, 0.7152, 0.0722), np.float32))[..., None]
    graded = luma + np.float32(palette.saturation) * (colour - luma)
    graded = graded * np.array(palette.key, np.float32) * np.float32(palette.exposure)
    shadow = (1 - luma).clip(0) ** 4 * np.array(palette.sky[1], np.float32)
    return np.asarray((graded + 0.12 * shadow).clip(0, 1), np.float32)


def _light(person: _Person, palette: Palette) -> Picture:
    """Grade the person and let the scene's lights touch the outline from both sides."""
    face_px = person.face.height * person.alpha.shape[0]
    colour = _grade(person.colour, palette)
    outline = _blur(person.alpha, 0.09 * face_px)
    slope = np.gradient(_blur(outline, 0.04 * face_px), axis=1) * np.float32(face_px)
    edge = (person.alpha - outline).clip(0)
    for lamp, facing in zip(palette.rim, (slope, -slope), strict=True):
        touch = (edge * facing.clip(0, 2.0) * 0.42).clip(0, 0.6)[..., None]
        colour = colour + touch * np.array(lamp, np.float32) * (1.15 - colour)
    return np.asarray(colour.clip(0, 1), np.float32)


def _relief(share: Picture, face: Face, high: int) -> Picture:
    bump = np.exp(-((_away(face, high, share.shape[1]) / 0.6) ** 2))
    return np.asarray(_blur(share, 0.3 * face.height * high).clip(0, 1) * 0.55 + 0.45 * bump, np.float32)
