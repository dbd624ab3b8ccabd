"""PDQ: what a picture looks like in 256 bits, and finding those that look alike among a million, missing none.

The hash is that of "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm" (2019): two pictures
are the same one where at most 31 bits differ; of pictures that have nothing in common about half of the bits do.
By itself it survives re-encoding, scaling and blurring, and no change of what is in view. So a picture is hashed in
several *views*, each in the eight ways it can be turned and mirrored:

    whole       at most 512 pixels a side, as the reference does
    bare        without the plain bars or frame around it
    wider       its edge drawn out by what a crop of 5 or 10 % takes away: all around, or on one side
    closer      without its margin, where the listed picture is the one that was cropped
    turned      by a few degrees

A view in which there is too little to see (quality below 50) is left out: everything plain looks alike.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import pdqhash
from numpy.typing import NDArray
from PIL import Image

from safety.errors import InvalidInput

Picture = NDArray[np.uint8]
Hashes = NDArray[np.uint64]
"""uint64 [n, 4]: 256 bits a row, the most significant first."""

BITS: Final = 256
MOST_BITS: Final = 31
"""Two pictures that differ in no more than this are the same. The index is exact up to it, and no further."""
QUALITY: Final = 50
WHOLE_PX, QUICK_PX = 512, 128
SIZES: Final = (16, 40_000_000)
"""The shortest side, and the most pixels, of what is hashed."""
_CROPS, _DEGREES = (0.05, 0.10), (-5.0, -2.5, 2.5, 5.0)
_PLAIN: Final = 6.0
"""Grey levels (standard deviation) within which a row of pixels is a bar, not a picture."""


class Hashed(NamedTuple):
    """hashes: of all views. picture: for each, which picture it is of. seen: pictures with enough in them to tell."""

    hashes: Hashes
    picture: NDArray[np.int64]
    seen: int


def hashed(pictures: Sequence[Picture], *, quick: bool = False) -> Hashed:
    """Hash pictures, uint8 [h, w, 3] RGB. Raises InvalidInput for what is none.

    `quick`: fewer views, and smaller ones, at a quarter of the price. Of crops it finds fewer, of turned ones none.
    """
    found, of = [], []
    for number, picture in enumerate(pictures):
        rows = _hashes_of(picture, quick=quick)
        found += rows
        of += [number] * len(rows)
    hashes = np.frombuffer(b"".join(found), ">u8").reshape(-1, 4).astype(np.uint64)
    return Hashed(hashes, np.array(of, np.int64), len(set(of)))


def quick(pictures: Sequence[Picture]) -> Hashed:
    """As :func:`hashed`, for the many frames of a clip."""
    return hashed(pictures, quick=True)


def plain(picture: Picture) -> bytes | None:
    """The hash of a picture as it is, as whoever makes a list would have it. None: there is too little to see."""
    _require_picture(picture)
    bits, quality = pdqhash.compute(np.ascontiguousarray(_within(picture, WHOLE_PX)))
    return np.packbits(np.asarray(bits, np.uint8)).tobytes() if quality >= QUALITY else None


def _hashes_of(picture: Picture, *, quick: bool) -> list[bytes]:
    _require_picture(picture)
    found = dict.fromkeys(
        np.packbits(np.asarray(bits, np.uint8)).tobytes()
        for view in _views(_within(picture, WHOLE_PX), quick=quick)
        for bits in _dihedral(view)
    )
    return list(found)


def _dihedral(view: Picture) -> list[NDArray[np.uint8]]:
    if min(view.shape[:2]) < SIZES[0]:
        return []
    turned, quality = pdqhash.compute_dihedral(np.ascontiguousarray(view))
    return turned if quality >= QUALITY else []


def _views(whole: Picture, *, quick: bool) -> list[Picture]:
    bare = _bare(whole)
    found = [whole] if bare.shape == whole.shape else [whole, bare]
    small = _within(bare, QUICK_PX if quick else WHOLE_PX)
    height, width = small.shape[:2]
    for crop in _CROPS:
        y, x = round(height * crop / (1 - crop)), round(width * crop / (1 - crop))
        found.append(_drawn_out(small, y // 2, y - y // 2, x // 2, x - x // 2))
        y, x = round(height * crop / 2), round(width * crop / 2)
        found.append(small[y : height - y, x : width - x])
    if quick:
        return found
    y, x = (round(side * _CROPS[0] / (1 - _CROPS[0])) for side in (height, width))
    found += [_drawn_out(small, *sides) for sides in ((y, 0, 0, 0), (0, y, 0, 0), (0, 0, x, 0), (0, 0, 0, x))]
    margin = max(height, width) // 8
    wide = Image.fromarray(_drawn_out(small, margin, margin, margin, margin))
    for degrees in _DEGREES:
        turned = np.asarray(wide.rotate(degrees, Image.Resampling.BILINEAR))
        found.append(turned[margin:-margin, margin:-margin])
    return found


def _bare(picture: Picture) -> Picture:
    """The picture without plain rows and columns at its edges; as it is where that leaves less than a fifth."""
    grey = picture.astype(np.float32).mean(axis=2)
    top, bottom = _between(grey.std(axis=1) > _PLAIN)
    left, right = _between(grey[top:bottom].std(axis=0) > _PLAIN)
    top, bottom = (top + at for at in _between(grey[top:bottom, left:right].std(axis=1) > _PLAIN))
    inner = picture[top:bottom, left:right]
    return inner if inner.size * 5 >= picture.size and min(inner.shape[:2]) >= SIZES[0] else picture


def _between(busy: NDArray[np.bool_]) -> tuple[int, int]:
    places = np.flatnonzero(busy)
    return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, len(busy))


def _drawn_out(picture: Picture, top: int, bottom: int, left: int, right: int) -> Picture:
    return np.pad(picture, ((top, bottom), (left, right), (0, 0)), mode="edge")


def _within(picture: Picture, side_px: int) -> Picture:
    scale = side_px / max(picture.shape[:2])
    if scale >= 1:
        return picture
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize(size, Image.Resampling.BILINEAR))


def _require_picture(picture: Picture) -> None:
    if (
        picture.dtype != np.uint8
        or picture.ndim != 3
        or picture.shape[2] != 3
        or min(picture.shape[:2]) < SIZES[0]
        or picture.shape[0] * picture.shape[1] > SIZES[1]
    ):
        raise InvalidInput(
            "known_bad.not_a_picture",
            "this is no picture that can be compared with lists of known ones",
            f"send a JPEG or PNG in colour, of `{SIZES[0]}` pixels a side or more",
        )


# Finding ----------------------------------------------------------------------------------------------------

_CHUNKS, _CHUNK_VALUES = 16, 1 << 16
_FLIPS: Final = np.array([0, *(1 << bit for bit in range(16))], np.uint16)
_BATCH = 64


class Index:
    """Every listed hash within :data:`MOST_BITS` of one asked about. Exact; immutable, so any thread may ask.

    Cut into sixteen pieces of sixteen bits, two hashes that differ in at most 31 bits differ in at most one bit in
    some piece. So whatever is within reach is among those that share a piece with the one asked about, but for one
    bit; only these are compared whole.
    """

    def __init__(self, hashes: Hashes) -> None:
        self.hashes = np.ascontiguousarray(hashes, np.uint64).reshape(-1, 4)
        pieces = _pieces(self.hashes)
        self._starts = np.empty((_CHUNKS, _CHUNK_VALUES + 1), np.int64)
        self._rows = np.empty((_CHUNKS, len(self.hashes)), np.int32)
        for chunk in range(_CHUNKS):
            self._rows[chunk] = np.argsort(pieces[:, chunk], kind="stable")
            counts = np.bincount(pieces[:, chunk], minlength=_CHUNK_VALUES)
            self._starts[chunk] = np.concatenate(([0], np.cumsum(counts)))

    def __len__(self) -> int:
        return len(self.hashes)

    def within(self, asked: Hashes) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """(which of those asked about, which listed one, in how many bits they differ): each pair once."""
        if not len(self) or not len(asked):
            nothing = np.empty(0, np.int64)
            return nothing, nothing, nothing
        parts = [self._near(asked[at : at + _BATCH], at) for at in range(0, len(asked), _BATCH)]
        one, other, bits = (np.concatenate(column) for column in zip(*parts, strict=True))
        return one, other, bits

    def _near(
        self, asked: Hashes, offset: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        probes = _pieces(asked)[:, :, None] ^ _FLIPS  # [n, 16, 17]
        chunk = np.arange(_CHUNKS)[None, :, None]
        starts = self._starts[chunk, probes]
        lengths = self._starts[chunk, probes.astype(np.int64) + 1] - starts
        flat, each = lengths.ravel(), lengths.sum(axis=(1, 2))
        # Where each probe's stretch of the sorted rows begins, laid end to end.
        places = np.repeat((starts + chunk * len(self)).ravel() - (np.cumsum(flat) - flat), flat)
        other = self._rows.ravel()[places + np.arange(len(places))]
        counts = np.bitwise_count(self.hashes[other] ^ np.repeat(asked, each, axis=0))
        # Four counts in four bytes, added by one multiplication; no sum is 256, for a piece is shared.
        bits = (counts.view(np.uint32).ravel() * np.uint32(0x01010101)) >> np.uint32(24)
        near = np.flatnonzero(bits <= MOST_BITS)
        one = np.searchsorted(np.cumsum(each), near, side="right")
        pairs, first = np.unique(one * len(self) + other[near], return_index=True)
        return pairs // len(self) + offset, pairs % len(self), bits[near][first].astype(np.int64)


def _pieces(hashes: Hashes) -> NDArray[np.uint16]:
    return np.ascontiguousarray(hashes.astype(">u8")).view(">u2").reshape(-1, _CHUNKS).astype(np.uint16)
