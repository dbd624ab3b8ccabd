"""A clip's fingerprint: what its pictures look like, second by second, so that it is known again without a mark.

    file = fingerprint.of(media.frames(path))       # keyless; on anybody's file, where such files are decoded
    clip = file.kept()                              # what is stored of a clip that is released

Two sets of PDQ hashes (:mod:`ledger.provenance.pdq`), each row with the time of its frame and its view:

    kept     the whole picture every half second; its middle (80, 64 and 51 % of each side) every second
    asked    each picture looked at, up to thirty a second, in eight ways to turn and mirror it; the same of its middle
             (95, 90 and 85 %), and without plain bars around it

So a file that was cut out of a clip, at whatever moment, has frames next to some that are kept; and one that shows the
middle of a clip, down to half of each side, has a view that is near to one that is kept.

Guarantees

- Constant memory: of a long file fewer frames are kept in mind, evenly spread (:data:`MOST_LOOKED`), however many
  there are and whatever times they claim.
- A picture in which there is too little to see has no row, so nothing plain is ever like anything.
- Nothing here says whose clip it is, and nothing of it is a template of a face: a row is the signs of 256 coefficients
  of a 64×64 picture, from which at most a blur of its light and dark can be drawn again.

What is like a clip and what is not, :func:`like` measures and :func:`agrees` says. Which of all clips, and fast, says
:class:`ledger.provenance.known_clips.Index`.
"""

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field
from struct import Struct
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ledger.errors import MediaError
from ledger.provenance import pdq
from ledger.provenance.pdq import Hashes, Picture

NAME: Final = "org.countersign.fingerprint.v1"
"""What a manifest calls it: a private name, until one is registered."""
WHOLE_S, MIDDLE_S = 0.5, 1.0
LOOK_S: Final = 0.035
MOST_LOOKED: Final = 320
MOST_KEPT: Final = 4_096
"""Rows: of a clip of a quarter of an hour."""
SIDE_PX: Final = 256
"""The longer side of what views are cut from."""
_POINTS: Final = (64, 64)
"""A view as it is hashed: at the size PDQ itself works in, what is turned or mirrored has exactly the hash computed for it."""
MIDDLES: Final = (1.0, 0.8, 0.64, 0.512)
"""Parts of each side that are kept."""
CLOSER: Final = (1.0, 0.95, 0.90, 0.85)
"""Parts of each side that are asked about: with those kept, they are at most 3 % away from any crop down to a half."""
_BARE: Final = len(CLOSER) * pdq.TURNS
MOST_ROWS: Final = MOST_KEPT + (MOST_LOOKED + 1) * (_BARE + pdq.TURNS)
"""Of a file, all that is asked and all that is kept."""
_KEPT: Final = 64
_HEAD, _ROW = Struct("<4sH"), np.dtype([("ms", "<u4"), ("view", "u1"), ("bits", ">u8", (4,))])
_MAGIC = b"cfp1"


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprint:
    """at_ms: uint32 [n], when each row's frame is shown. view: uint8 [n]. hashes: uint64 [n, 4].

    Stored as ``cfp1`` ‖ u16 rows ‖ rows × (u32 ms ‖ u8 view ‖ 32 bytes), little-endian but for the hashes.
    """

    at_ms: NDArray[np.uint32] = field(repr=False)
    view: NDArray[np.uint8] = field(repr=False)
    hashes: Hashes = field(repr=False)

    def __len__(self) -> int:
        return len(self.at_ms)

    def kept(self) -> "Fingerprint":
        """What is stored of a clip."""
        return self.only(self.view >= _KEPT)

    def require_possible(self) -> None:
        """Raises MediaError for what no look at a file can have made: asked of what comes from where it was decoded."""
        columns = (self.at_ms, np.uint32, ()), (self.view, np.uint8, ()), (self.hashes, np.uint64, (4,))
        rows = len(self.at_ms) if isinstance(self.at_ms, np.ndarray) and self.at_ms.ndim else -1
        if rows > MOST_ROWS or any(
            not isinstance(one, np.ndarray) or one.dtype != kind or one.shape != (rows, *rest)
            for one, kind, rest in columns
        ):
            raise MediaError(
                "media.crashed",
                "the program that reads videos breaks off at this file",
                "export the clip again with another program",
            )

    def asked(self) -> "Fingerprint":
        """What a file is looked for with; of a fingerprint that was stored, its whole pictures."""
        looked = self.view < _KEPT
        return self.only(looked if looked.any() else self.view == _KEPT)

    def seconds(self) -> int:
        """In how many seconds there is something to see."""
        return len(np.unique(self.at_ms // 1000))

    def plainly(self) -> "Fingerprint":
        """Of what is asked, pictures that are as they come: not turned, not closer."""
        return self.only((self.view == 0) | (self.view == _KEPT))

    def spread(self, most: int) -> "Fingerprint":
        """What is asked, of so many of the pictures looked at, evenly spread."""
        asked = self.asked()
        times = np.unique(asked.at_ms)
        chosen = times[np.linspace(0, len(times) - 1, min(most, len(times))).round().astype(int)]
        return asked.only(np.isin(asked.at_ms, chosen))

    def only(self, rows: NDArray[np.bool_]) -> "Fingerprint":
        """These rows."""
        return Fingerprint(self.at_ms[rows], self.view[rows], self.hashes[rows])

    def to_bytes(self) -> bytes:
        kept = self.kept()
        rows = np.zeros(min(len(kept), MOST_KEPT), _ROW)
        rows["ms"], rows["view"], rows["bits"] = (
            column[: len(rows)] for column in (kept.at_ms, kept.view, kept.hashes)
        )
        return _HEAD.pack(_MAGIC, len(rows)) + rows.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Fingerprint":
        """Raises ValueError for what :meth:`to_bytes` did not write."""
        magic, count = _HEAD.unpack_from(data.ljust(_HEAD.size, b"\0"))
        if magic != _MAGIC or count > MOST_KEPT or len(data) != _HEAD.size + count * _ROW.itemsize:
            raise ValueError("this is no fingerprint")
        rows = np.frombuffer(data, _ROW, count, _HEAD.size)
        if count and rows["view"].min() < _KEPT:
            raise ValueError("this is no fingerprint that is kept")
        return cls(
            rows["ms"].astype(np.uint32), rows["view"].astype(np.uint8), rows["bits"].astype(np.uint64)
        )

    def as_binding(self) -> str:
        """Base64 of the whole pictures of each second, for a manifest: to find the clip by, not to compare it whole."""
        whole = self.only(self.view == _KEPT)
        second = whole.at_ms // 1000
        first = np.concatenate(([True], second[1:] != second[:-1])) if len(whole) else np.zeros(0, bool)
        return base64.b64encode(whole.only(first).to_bytes()).decode()

    @classmethod
    def from_binding(cls, text: str) -> "Fingerprint":
        """Raises ValueError for what :meth:`as_binding` did not write."""
        return cls.from_bytes(base64.b64decode(text, validate=True))


def of(frames: Iterable[tuple[float, Picture]]) -> Fingerprint:
    """The fingerprint of frames: (seconds from the first, uint8 [h, w, 3] RGB 0-255), in order. Each is looked at once."""
    looking = Looking()
    for seconds, frame in frames:
        looking.see(seconds, frame)
    return looking.made()


@dataclass(frozen=True, slots=True)
class _Looked:
    at_ms: int
    rows: tuple[tuple[int, bytes], ...]


class Looking:
    """The same for frames that others look at as well: each is shown to :meth:`see` in its turn."""

    def __init__(self) -> None:
        self._looked: list[_Looked] = []
        self._kept: list[tuple[int, int, bytes]] = []
        self._due_s = self._whole_s = self._middle_s = 0.0
        self._apart_s = LOOK_S

    def see(self, seconds: float, frame: Picture) -> None:
        if not 0 <= seconds < 1e6 or min(frame.shape[:2]) < 2:
            return
        if seconds + 1e-6 < min(self._due_s, self._whole_s):
            return
        at_ms, small = round(seconds * 1000), _small(frame)
        if seconds + 1e-6 >= self._whole_s:
            self._keep(seconds, at_ms, small)
        if seconds + 1e-6 >= self._due_s:
            self._due_s = seconds + self._apart_s
            self._looked.append(_Looked(at_ms, tuple(_asked(small))))
            if len(self._looked) > MOST_LOOKED:
                self._looked, self._apart_s = self._looked[::2], self._apart_s * 2

    def _keep(self, seconds: float, at_ms: int, small: Picture) -> None:
        self._whole_s = (seconds // WHOLE_S + 1) * WHOLE_S
        views: tuple[float, ...] = MIDDLES[:1]
        if seconds + 1e-6 >= self._middle_s:
            self._middle_s, views = (seconds // MIDDLE_S + 1) * MIDDLE_S, MIDDLES
        for number, part in enumerate(views):
            found = pdq.plain(_view(_middle(small, part)))
            if found is not None and len(self._kept) < MOST_KEPT:
                self._kept.append((at_ms, _KEPT + number, found))

    def made(self) -> Fingerprint:
        rows = [(one.at_ms, view, found) for one in self._looked for view, found in one.rows] + self._kept
        return Fingerprint(
            np.array([at_ms for at_ms, _, _ in rows], np.uint32),
            np.array([view for _, view, _ in rows], np.uint8),
            pdq.joined([found for _, _, found in rows]),
        )


def _asked(small: Picture) -> Iterable[tuple[int, bytes]]:
    for number, part in enumerate(CLOSER):
        for turn, found in enumerate(pdq.turned(_view(_middle(small, part)))):
            yield number * pdq.TURNS + turn, found
    bare = pdq.bare(small)
    if bare.shape != small.shape:
        for turn, found in enumerate(pdq.turned(_view(bare))):
            yield _BARE + turn, found


def _view(picture: Picture) -> Picture:
    """Empty, where a side has too few pixels to see anything in."""
    if min(picture.shape[:2]) < pdq.SMALLEST:
        return picture[:0]
    return np.asarray(cv2.resize(picture, _POINTS, interpolation=cv2.INTER_AREA), np.uint8)


def _small(frame: Picture) -> Picture:
    scale = SIDE_PX / max(frame.shape[:2])
    if scale >= 1:
        return frame
    height, width = (max(2, round(side * scale)) for side in frame.shape[:2])
    return np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _middle(picture: Picture, part: float) -> Picture:
    y, x = (round(side * (1 - part) / 2) for side in picture.shape[:2])
    return picture[y : picture.shape[0] - y, x : picture.shape[1] - x]


# Comparing ----------------------------------------------------------------------------------------------------

FAR_BITS: Final = 76
"""A file none of whose pictures comes nearer than this to any of a clip, as they come, shows something else.

Of 13 films, no two came nearer than 82 (156 pairs of films), and none was further than 70 from itself with a third of
the picture covered, 50 with a bar across its foot, 44 in other tones, 18 at JPEG 15 and half the size.
"""
_ENOUGH: Final = 3
"""Pictures that must have been looked at for a file to show something else."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """How much of a clip a file shows. seconds: which of the clip's, in order; of: how many there is something to see in.

    offset_s: where in the file the clip begins; less than zero where its beginning is cut off. bits: how many of 256
    differ between the pictures found and the clip's, in the middle. nearest: the least of all. how: in words.
    """

    seconds: tuple[int, ...]
    of: int
    offset_s: float
    bits: int
    nearest: int
    how: str


def like(file: Fingerprint, clip: Fingerprint) -> Likeness | None:
    """How much of the clip the file shows. None: there is too little to see in one of them."""
    asked, kept = file.asked(), clip.kept()
    if not len(asked) or not len(kept):
        return None
    best, which = _nearest(asked.hashes, kept.hashes)
    near = best <= pdq.MOST_BITS
    seconds = np.unique(kept.at_ms[near] // 1000)
    offsets = asked.at_ms[which[near]].astype(np.int64) - kept.at_ms[near]
    closest = int(best.argmin())
    return Likeness(
        tuple(int(one) for one in seconds),
        kept.seconds(),
        round(float(np.median(offsets)) / 1000, 1) if near.any() else 0.0,
        int(np.median(best[near])) if near.any() else int(best[closest]),
        int(best[closest]),
        _how(int(asked.view[which[closest]]), int(kept.view[closest])),
    )


def agrees(file: Fingerprint, clip: Fingerprint, *, moved: bool = True) -> bool | None:
    """Whether a file shows a clip: True where one of its pictures is one of the clip's, False where none is even alike.

    None: there is too little to see, or it can not be told. `moved`: the picture may have been cropped, turned or set
    among others, as where a mark was found elsewhere than in its place. Then what is not alike may be the same all the
    same (a corner of the picture, a turn by five degrees), and nothing is False.
    """
    found = like(file, clip)
    if found is None:
        return None
    if found.nearest <= pdq.MOST_BITS:
        return True
    plain, kept = file.plainly(), clip.only(clip.view == _KEPT)
    if moved or len(plain) < _ENOUGH or not len(kept):
        return None
    bits = _nearest(plain.hashes, np.vstack((kept.hashes, ~kept.hashes)))[
        0
    ]  # of a negative, every bit differs
    if bits.min() <= pdq.MOST_BITS:
        return True
    return False if bits.min() > FAR_BITS else None


def _nearest(asked: Hashes, kept: Hashes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each kept one: in how many bits the nearest asked one differs, and which that is."""
    best, which = np.empty(len(kept), np.int64), np.empty(len(kept), np.int64)
    for number, one in enumerate(kept):
        bits = np.bitwise_count(asked ^ one).sum(axis=1, dtype=np.int64)
        which[number] = bits.argmin()
        best[number] = bits[which[number]]
    return best, which


_TURNS: Final = (
    "",
    "turned by a quarter to the right",
    "upside down",
    "turned by a quarter to the left",
    "mirrored, upside down",
    "mirrored",
    "mirrored, turned by a quarter",
    "mirrored, turned by a quarter",
)


def _how(asked: int, kept: int) -> str:
    """How the picture was changed, as far as the views say: `mirrored, cropped to about 80 %`."""
    number, turn = divmod(asked, pdq.TURNS) if asked < _KEPT else (0, 0)
    part = MIDDLES[kept - _KEPT] / (CLOSER[number] if number < len(CLOSER) else 1.0)
    said = [_TURNS[turn], "with bars around it" if number == len(CLOSER) else ""]
    if part < 0.97:
        said.append(f"cropped to about {round(part * 100)} %")
    elif part > 1.03:
        said.append("with more around it than the clip shows")
    return ", ".join(filter(None, said)) or "as it is"
