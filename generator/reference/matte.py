"""Cutting a person out of a portrait, softly, without a trained model.

A head-and-shoulders shape around the enrolled face is the first guess. Histograms of the colours inside and outside
it then vote on each pixel, what does not hang together with the face is dropped, and a guided filter (He, Sun and
Tang, 2010) draws the edge where the picture has one. It is a guess for lighting and depth, never evidence of anything.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from generator.backend import Portrait
from generator.reference.scene import Picture

_FACE_PX, _PX = 60, 50_000
"""The matte is solved with faces at most this high and pictures at most this large."""


@dataclass(frozen=True, slots=True)
class Matte:
    """Coverage as a local function of colour, so that it can be drawn as sharp as the full picture.

    planes: float32 [4, h, w]; coverage is red, green and blue times the first three, plus the fourth. `pixel`: how many
    portrait pixels each value spans.
    """

    planes: NDArray[np.float32]
    pixel: float


def solve(portrait: Portrait, window: tuple[int, int, int, int]) -> Matte:
    """The matte of the window (top, right, bottom, left), in the portrait's pixels."""
    top, right, bottom, left = window
    face = portrait.face[2] - portrait.face[0]
    pixel = max(face / _FACE_PX, math.sqrt((bottom - top) * (right - left) / _PX))
    size = (max(4, round((right - left) / pixel)), max(4, round((bottom - top) / pixel)))
    crop = Image.fromarray(portrait.image[top:bottom, left:right]).resize(size, Image.Resampling.BOX)
    small = np.asarray(crop, np.float32) / np.float32(255)
    brow, ear, chin, cheek = portrait.face
    u = (np.linspace(left, right, size[0]) - (cheek + ear) / 2) / face
    v = (np.linspace(top, bottom, size[1]) - (brow + chin) / 2) / face
    inside = shape(u.astype(np.float32)[None, :], v.astype(np.float32)[:, None])
    guess = np.clip(9 * inside, -10, 6).astype(np.float32)
    belief = _sigmoid(guess)
    grey = torch.from_numpy(small.mean(-1))[None, None]
    for _ in range(3):
        votes = (
            guess * 0.8
            + _colour_votes(small, belief, np.exp(-1.5 * np.maximum(np.abs(inside) - 1.2, 0))) * 1.1
        )
        belief = _sigmoid(np.where(inside > 0.45, np.maximum(votes, 4), votes))
        slope, offset = _guide(grey, torch.from_numpy(belief)[None, None], 5, 1e-3)
        belief = (slope * grey + offset)[0, 0].clamp(0, 1).numpy()
    belief = _joined(belief, inside > 0.45)
    belief = 1 - _joined(1 - belief, inside < -0.25)
    picture = torch.from_numpy(small).permute(2, 0, 1)[None].contiguous()
    slope, offset = _guide(picture, torch.from_numpy(belief)[None, None], 4, 3e-3)
    return Matte(torch.cat([slope, offset], dim=1)[0].numpy(), pixel)


def _joined(belief: Picture, core: NDArray[np.bool_]) -> Picture:
    """Only what hangs together with the face: grey reconstruction of `belief` from `core`, in alternating sweeps."""
    grown = np.where(core, belief, 0).astype(np.float32)
    for _ in range(3):
        for turned, limit in ((grown, belief), (grown[::-1], belief[::-1]), (grown.T, belief.T)):
            _sweep(turned, limit)
        _sweep(grown.T[::-1], belief.T[::-1])
    return grown


def _sweep(grown: Picture, limit: Picture) -> None:
    for row in range(1, len(grown)):
        np.maximum(grown[row], np.minimum(grown[row - 1], limit[row]), out=grown[row])


def shape(u: Picture, v: Picture) -> Picture:
    """A head on shoulders: above 0 inside, below outside. u, v: right and down from the face, in face heights."""
    head = 1 - np.hypot(u / 0.72, (v + 0.12) / 0.95)
    half = 0.42 + 1.2 * np.clip((v - 0.6) / 0.75, 0, 1) ** 0.8 + 0.25 * np.clip(v - 1.3, 0, 3)
    shoulders = np.minimum(1 - np.abs(u) / half, (v - 0.45) * 1.5)
    return np.asarray(np.maximum(head, shoulders), np.float32)


def _colour_votes(picture: Picture, belief: Picture, near: Picture) -> Picture:
    """How much likelier each pixel's colour is inside than outside, in nats, at most 4."""
    bins = 16
    cell = np.minimum((picture * bins).astype(np.int64), bins - 1)
    index = (cell[..., 0] * bins + cell[..., 1]) * bins + cell[..., 2]
    shares = []
    for weight in (belief**2 * near, (1 - belief) ** 2 * near):
        counts = np.bincount(index.ravel(), weight.ravel(), bins**3).reshape(bins, bins, bins)
        cube = functional.avg_pool3d(torch.from_numpy(counts)[None, None], 3, 1, 1).numpy().ravel() + 0.02
        shares.append(cube / cube.sum())
    return np.asarray(np.clip(np.log(shares[0] / shares[1]), -4, 4)[index], np.float32)


def _guide(
    guide: torch.Tensor, target: torch.Tensor, radius: int, noise: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(slope [1, c, h, w], offset [1, 1, h, w]) with target ≈ Σ slope · guide + offset around every pixel."""
    channels, height, width = guide.shape[1:]
    radius = min(radius, height - 1, width - 1)

    def around(x: torch.Tensor) -> torch.Tensor:
        return box(x, radius)

    mean, aim = around(guide), around(target)
    cross = around(guide * target) - mean * aim
    pairs = (guide[0, :, None] * guide[0, None]).reshape(1, channels**2, height, width)
    spread = around(pairs) - (mean[0, :, None] * mean[0, None]).reshape(1, channels**2, height, width)
    matrix = spread[0].permute(1, 2, 0).reshape(height, width, channels, channels) + noise * torch.eye(
        channels
    )
    slope = torch.linalg.solve(matrix, cross[0].permute(1, 2, 0)[..., None])[..., 0].permute(2, 0, 1)[None]
    offset = aim - (slope * mean).sum(1, keepdim=True)
    return around(slope), around(offset)


def box(x: torch.Tensor, reach: int) -> torch.Tensor:
    """The mean over (2 reach + 1)² pixels around each of [n, c, h, w], borders repeated."""
    size = 2 * reach + 1
    padded = functional.pad(x, [reach] * 4, mode="replicate")
    return functional.avg_pool2d(functional.avg_pool2d(padded, (size, 1), 1), (1, size), 1)


def _sigmoid(x: Picture) -> Picture:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -8, 8))), np.float32)
