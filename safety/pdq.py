"""The views of a picture that are compared with lists of known prohibited ones, each hashed by :mod:`ledger.provenance.pdq`.

A hash survives no change of what is in view. So a picture is hashed in several *views*, each in the eight ways it can
be turned and mirrored:

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
from numpy.typing import NDArray
from PIL import Image

from ledger.provenance import pdq
from ledger.provenance.pdq import Hashes, Picture
from safety.errors import InvalidInput

WHOLE_PX, QUICK_PX = 512, 128
SIZES: Final = (16, 40_000_000)
"""The shortest side, and the most pixels, of what is hashed."""
_CROPS, _DEGREES = (0.05, 0.10), (-5.0, -2.5, 2.5, 5.0)


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
    return Hashed(pdq.joined(found), np.array(of, np.int64), len(set(of)))


def quick(pictures: Sequence[Picture]) -> Hashed:
    """As :func:`hashed`, for the many frames of a clip."""
    return hashed(pictures, quick=True)


def plain(picture: Picture) -> bytes | None:
    """The hash of a picture as it is, as whoever makes a list would have it. None: there is too little to see."""
    _require_picture(picture)
    return pdq.plain(_within(picture, WHOLE_PX))


def _hashes_of(picture: Picture, *, quick: bool) -> list[bytes]:
    _require_picture(picture)
    found = dict.fromkeys(
        turned for view in _views(_within(picture, WHOLE_PX), quick=quick) for turned in pdq.turned(view)
    )
    return list(found)


def _views(whole: Picture, *, quick: bool) -> list[Picture]:
    bare = pdq.bare(whole)
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
