"""PDQ: what a picture looks like in 256 bits, and finding those that look alike among a million, missing none.

The hash is that of "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm" (2019): two pictures
are the same one where at most 31 bits differ; of pictures that have nothing in common about half of the bits do.
By itself it survives re-encoding, scaling and blurring, and no change of what is in view. A picture in which there is
too little to see (quality below 50) has no hash here: everything plain looks alike.

Which views of a picture are hashed is for those who compare: :mod:`safety.pdq` for lists of known prohibited pictures,
:mod:`ledger.provenance.fingerprint` for clips.
"""

from typing import Final

import numpy as np
import pdqhash
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""uint8 [h, w, 3] RGB."""
Hashes = NDArray[np.uint64]
"""uint64 [n, 4]: 256 bits a row, the most significant first."""

BITS: Final = 256
MOST_BITS: Final = 31
"""Two pictures that differ in no more than this are the same. The index is exact up to it, and no further."""
QUALITY: Final = 50
TURNS: Final = 8
_PLAIN: Final = 6.0
"""Grey levels (standard deviation) within which a row of pixels is a bar, not a picture."""
SMALLEST: Final = 16
"""Pixels a side below which there is too little to see."""


def plain(picture: Picture) -> bytes | None:
    """The hash of a picture. None: there is too little to see."""
    if min(picture.shape[:2]) < SMALLEST:
        return None
    bits, quality = pdqhash.compute(np.ascontiguousarray(picture))
    return _packed(bits) if quality >= QUALITY else None


def turned(picture: Picture) -> list[bytes]:
    """Its hashes in the :data:`TURNS` ways it can be turned and mirrored; the first is upright. Empty: too little to see."""
    if min(picture.shape[:2]) < SMALLEST:
        return []
    found, quality = pdqhash.compute_dihedral(np.ascontiguousarray(picture))
    return [_packed(bits) for bits in found] if quality >= QUALITY else []


def joined(rows: list[bytes]) -> Hashes:
    return np.frombuffer(b"".join(rows), ">u8").reshape(-1, 4).astype(np.uint64)


def _packed(bits: object) -> bytes:
    return np.packbits(np.asarray(bits, np.uint8)).tobytes()


def bare(picture: Picture) -> Picture:
    """The picture without plain rows and columns at its edges; as it is where that leaves less than a fifth."""
    red, green, blue = np.moveaxis(picture, 2, 0).astype(np.float32)
    grey = (red + green + blue) / 3
    top, bottom = _between(grey.std(axis=1) > _PLAIN)
    left, right = _between(grey[top:bottom].std(axis=0) > _PLAIN)
    top, bottom = (top + at for at in _between(grey[top:bottom, left:right].std(axis=1) > _PLAIN))
    inner = picture[top:bottom, left:right]
    return inner if inner.size * 5 >= picture.size and min(inner.shape[:2]) >= SMALLEST else picture


def _between(busy: NDArray[np.bool_]) -> tuple[int, int]:
    places = np.flatnonzero(busy)
    return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, len(busy))


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

    @property
    def bytes(self) -> int:
        """What it takes of memory."""
        return self.hashes.nbytes + self._starts.nbytes + self._rows.nbytes

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
