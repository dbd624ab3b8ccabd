"""The files in which lists of known prohibited pictures and videos are exchanged, read whole and strictly.

    plain           HASH[,CATEGORY]                               one picture a line; `#` begins a comment
    signals         pdq HASH | vpdq JSON                          python-threatexchange: type, then signal
    threatexchange  HASH,ID,TIME,TAGS | CSV with a `td_raw_indicator` column | JSON of descriptors
    vpdq            FRAME,QUALITY,HASH,SECONDS                    the frames of one video; or JSON of them
    ncmec           <queryResult><images><image>…<fingerprints>   hash sharing API, version 2
    stopncii        {"hashRecords": [{"signalType": "ImagePDQ", "hashValue": …}]}

A hash is 64 hexadecimal digits: PDQ (:mod:`ledger.provenance.pdq`). Of other kinds of fingerprints, which an exchange may carry
beside it, it is counted how many there were, and they are compared with nothing. Anything else that is not as it
should be stops the whole file, by its line or record; what the line holds is not repeated: lists are secret.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from struct import Struct
from typing import Any, Final, Literal, get_args
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from ledger.provenance.pdq import QUALITY, Hashes
from safety.errors import InvalidInput

Format = Literal["plain", "signals", "threatexchange", "vpdq", "ncmec", "stopncii"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)
MOST_HASHES, MOST_BYTES = 5_000_000, 2 << 30
_HASH = re.compile(r"[0-9a-f]{64}", re.IGNORECASE)
_HEAD = Struct("<4sI")
_MAGIC = b"pdq1"


@dataclass(frozen=True, slots=True, eq=False)
class Hashed:
    """What is on a list. videos: for each hash, which video it is a frame of; 0 for a picture.

    Stored as ``pdq1`` ‖ u32 count ‖ count × 32 bytes ‖ count × u32 video, little-endian, each pair once and ascending.
    """

    hashes: Hashes = field(repr=False)
    videos: NDArray[np.uint32] = field(repr=False)

    def __len__(self) -> int:
        return len(self.hashes)

    def to_bytes(self) -> bytes:
        """For sealing; never for a log or a reply."""
        return (
            _HEAD.pack(_MAGIC, len(self))
            + self.hashes.astype(">u8").tobytes()
            + self.videos.astype("<u4").tobytes()
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "Hashed":
        """Raises ValueError for what :meth:`to_bytes` did not write."""
        magic, count = _HEAD.unpack_from(data.ljust(_HEAD.size, b"\0"))
        if magic != _MAGIC or len(data) != _HEAD.size + count * 36:
            raise ValueError("this is no list of hashes")
        hashes = np.frombuffer(data, ">u8", count * 4, _HEAD.size).reshape(-1, 4).astype(np.uint64)
        return cls(hashes, np.frombuffer(data, "<u4", count, _HEAD.size + count * 32).astype(np.uint32))


@dataclass(frozen=True, slots=True)
class Read:
    """A file, read. skipped: how many entries are compared with nothing, by why."""

    format: Format
    held: Hashed
    skipped: Mapping[str, int]


def read(data: bytes, *, category: str, format: Format | None = None) -> Read:  # noqa: A002 — the word of the field
    """What stands in a file of a format, or of the one it looks like. Raises InvalidInput, and then nothing was read."""
    if len(data) > MOST_BYTES:
        raise _wrong(f"the file has more than `{MOST_BYTES >> 20}` MiB", "split it into several lists")
    chosen = format or detect(data)
    found = _Found(category)
    _READERS[chosen](data, found)
    if not found.pairs:
        beside = f"; of other kinds it has `{sum(found.skipped.values())}`" if found.skipped else ""
        raise _wrong(
            f"the file holds no PDQ hash{beside}", "see the formats: `countersign lists import --help`"
        )
    return Read(chosen, found.held(), dict(found.skipped))


def digest(held: Hashed) -> str:
    """SHA-256, hex, of what is on a list."""
    return sha256(held.to_bytes()).hexdigest()


def detect(data: bytes) -> Format:  # noqa: PLR0911 — one line for each format
    """The format a file looks like."""
    head = data.lstrip(b"\xef\xbb\xbf \t\r\n")
    if head[:1] == b"<":
        return "ncmec"
    if head[:1] in {b"{", b"["}:
        if b'"hashRecords"' in data:
            return "stopncii"
        return "threatexchange" if re.search(rb'"(td_)?(raw_)?indicator"', data) else "vpdq"
    first = next((line.strip() for line in io.BytesIO(head) if line.strip() and line[:1] != b"#"), b"")
    if re.match(rb"v?pdq \S", first):
        return "signals"
    if b"td_raw_indicator" in first or re.fullmatch(rb"[0-9A-Fa-f]{64},[^,]*,[^,]*,[^,]*", first):
        return "threatexchange"
    if re.fullmatch(rb"\d+,\d+,[0-9A-Fa-f]{64},[0-9.eE+-]+", first):
        return "vpdq"
    return "plain"


class _Found:
    def __init__(self, category: str) -> None:
        self.category = category
        self.pairs: dict[tuple[int, bytes], None] = {}
        self.skipped: Counter[str] = Counter()
        self.video = 0

    def begin_video(self) -> None:
        self.video += 1

    def add(self, text: object, where: str, *, video: bool = False, quality: object = None) -> None:
        if type(text) is not str or not _HASH.fullmatch(text):
            raise _wrong(f"{where}: this is no PDQ hash of 64 hexadecimal digits")
        if quality is not None and not (type(quality) is int and 0 <= quality <= 100):
            raise _wrong(f"{where}: a quality is a whole number from `0` to `100`")
        if isinstance(quality, int) and quality < QUALITY:
            self.skipped[f"quality below {QUALITY}"] += 1
            return
        self.pairs[self.video if video else 0, bytes.fromhex(text)] = None
        if len(self.pairs) > MOST_HASHES:
            raise _wrong(f"the file holds more than `{MOST_HASHES}` hashes", "split it into several lists")

    def held(self) -> Hashed:
        rows = sorted(self.pairs)
        hashes = np.frombuffer(b"".join(one for _, one in rows), ">u8").reshape(-1, 4).astype(np.uint64)
        return Hashed(hashes, np.array([video for video, _ in rows], np.uint32))


# Text -------------------------------------------------------------------------------------------------------


def _lines(data: bytes) -> Iterator[tuple[str, str]]:
    """(`line n`, its text), of those that are not empty or a comment."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _wrong(f"line {data[: error.start].count(10) + 1}: this is not UTF-8 text") from error
    for number, line in enumerate(text.splitlines(), 1):
        if (plain := line.strip()) and not plain.startswith("#"):
            yield f"line {number}", plain


def _plain(data: bytes, found: _Found) -> None:
    for where, line in _lines(data):
        text, comma, category = (part.strip() for part in line.partition(","))
        if comma and category.lower() != found.category:
            raise _wrong(
                f"{where}: its category is not `{found.category}`",
                "import a list of its own for each category",
            )
        found.add(text, where)


def _signals(data: bytes, found: _Found) -> None:
    for where, line in _lines(data):
        kind, space, signal = line.partition(" ")
        if not space:
            raise _wrong(f"{where}: a kind of signal and the signal are expected, with a space between them")
        if kind == "pdq":
            found.add(signal.strip(), where)
        elif kind == "vpdq":
            _video(_json(signal.encode(), where), found, where)
        else:
            found.skipped[_kind(kind)] += 1


def _vpdq(data: bytes, found: _Found) -> None:
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in {b"{", b"["}:
        _video(_json(data, "the file"), found, "")
        return
    found.begin_video()
    for where, line in _lines(data):
        parts = [part.strip() for part in line.split(",")]
        if len(parts) != 4 or not (parts[0].isdecimal() and parts[1].isdecimal() and _seconds(parts[3])):
            raise _wrong(f"{where}: frame, quality, hash and seconds are expected, with commas between them")
        found.add(parts[2], where, video=True, quality=int(parts[1]))


def _video(frames: object, found: _Found, where: str) -> None:
    """The frames of one video: texts `HASH,QUALITY,SECONDS`, or objects by the frame's number."""
    found.begin_video()
    if isinstance(frames, Mapping):
        listed: Sequence[Any] = list(frames.values())
    elif isinstance(frames, list):
        listed = frames
    else:
        raise _wrong(f"{where or 'the file'}: a list of frames is expected")
    for number, frame in enumerate(listed, 1):
        place = f"{where}, frame {number}".removeprefix(", ")
        match frame:
            case str() if len(parts := frame.split(",")) == 3 and parts[1].isdecimal() and _seconds(parts[2]):
                found.add(parts[0], place, video=True, quality=int(parts[1]))
            case {"hash": text, "quality": quality}:
                found.add(text, place, video=True, quality=quality)
            case _:
                raise _wrong(f"{place}: hash, quality and seconds are expected")


def _threatexchange(data: bytes, found: _Found) -> None:
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in {b"{", b"["}:
        _descriptors(_json(data, "the file"), found)
        return
    first = next(_lines(data), ("", ""))[1]
    if "td_raw_indicator" not in first:
        for where, line in _lines(data):
            parts = line.split(",", 3)
            if len(parts) != 4:
                raise _wrong(f"{where}: hash, id, time and tags are expected, with commas between them")
            found.add(parts[0].strip(), where)
        return
    rows = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
    try:
        for row in rows:
            where = f"line {rows.line_num}"
            if None in row or None in row.values():
                raise _wrong(f"{where}: it has not as many fields as the first")
            _descriptor(row, where, found)
    except csv.Error as error:
        raise _wrong(f"line {rows.line_num}: this is not CSV") from error


def _descriptors(written: object, found: _Found) -> None:
    listed = written.get("data") if isinstance(written, Mapping) else written
    if not isinstance(listed, list):
        raise _wrong("the file has no list of descriptors (`data`)")
    if (
        isinstance(written, Mapping)
        and isinstance(paging := written.get("paging"), Mapping)
        and paging.get("next")
    ):
        raise _unfinished()
    for number, one in enumerate(listed, 1):
        if not isinstance(one, Mapping):
            raise _wrong(f"record {number}: a descriptor is expected")
        _descriptor(one, f"record {number}", found)


def _descriptor(row: Mapping[Any, Any], where: str, found: _Found) -> None:
    """`td_indicator_type` and `td_raw_indicator`, or as the API names them. A record that should go is passed over."""
    if row.get("should_delete") is True:
        found.skipped["deleted"] += 1
        return
    kind = row.get("td_indicator_type", row.get("type"))
    text = next((row[key] for key in ("td_raw_indicator", "raw_indicator", "indicator") if key in row), None)
    if type(kind) is not str or text is None:
        raise _wrong(f"{where}: the kind of indicator, or the indicator, is missing")
    if kind.upper() in {"HASH_PDQ", "PDQ"}:
        found.add(text.strip() if type(text) is str else text, where)
    else:
        found.skipped[_kind(kind)] += 1


def _stopncii(data: bytes, found: _Found) -> None:
    written = _json(data, "the file")
    if not isinstance(written, Mapping) or not isinstance(records := written.get("hashRecords"), list):
        raise _wrong("the file has no list of records (`hashRecords`)")
    if written.get("hasMoreRecords"):
        raise _unfinished()
    for number, one in enumerate(records, 1):
        where = f"record {number}"
        if not isinstance(one, Mapping) or type(kind := one.get("signalType")) is not str:
            raise _wrong(f"{where}: `signalType` is missing")
        if kind != "ImagePDQ":
            found.skipped[_kind(kind)] += 1
        elif one.get("hashStatus") in {"Deleted", "Withdrawn"}:
            found.skipped["deleted"] += 1
        else:
            found.add(one.get("hashValue"), where)


# XML --------------------------------------------------------------------------------------------------------


class _Ncmec:
    """Reads `queryResult` as it streams by. Nothing outside the file is ever asked for, and no entity is defined.

    An entry is its member's and has an id; of several with the same the one of the latest time counts.
    """

    def __init__(self, found: _Found) -> None:
        self.found = found
        self.path: list[str] = []
        self.text = ""
        self.entry: dict[str, str] = {}
        self.entries: dict[tuple[str, str], dict[str, str]] = {}
        self.parser = expat.ParserCreate(namespace_separator="}")
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.StartDoctypeDeclHandler = self._refuse

    @property
    def where(self) -> str:
        return f"line {self.parser.CurrentLineNumber}"

    def _refuse(self, *_: object) -> None:
        raise _wrong(f"{self.where}: a document type is not accepted here")

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        self.path.append(name.rpartition("}")[2].lower())
        self.text = ""
        match self.path:
            case ["queryresult", *_]:
                pass
            case _:
                raise _wrong(f"{self.where}: `queryResult` is expected")
        match self.path:
            case [_, ("images" | "videos"), kind]:
                self.entry = {"kind": kind}
            case [_, ("images" | "videos"), _, "member"]:
                self.entry["member"] = attributes.get("id", "")

    def _characters(self, text: str) -> None:
        self.text += text

    def _end(self, _name: str) -> None:
        text = self.text.strip()
        match self.path:
            case [_, ("images" | "videos"), _, ("id" | "timestamp") as name]:
                self.entry[name] = text
            case [_, ("images" | "videos"), _, "fingerprints", "pdq"]:
                if "pdq" in self.entry:
                    raise _wrong(f"{self.where}: the entry has two PDQ hashes")
                self.entry |= {"pdq": text, "where": self.where}
            case [_, ("images" | "videos"), _, "fingerprints", kind]:
                self.found.skipped[_kind(kind)] += 1
            case [_, ("images" | "videos"), _]:
                self._keep()
            case [_, "paging", "next"] if text:
                raise _unfinished()
        self.path.pop()
        self.text = ""

    def _keep(self) -> None:
        if self.entry["kind"] not in {"image", "video", "deletedimage", "deletedvideo"}:
            raise _wrong(f"{self.where}: an image or a video is expected")
        if not (name := self.entry.get("id")) or not (member := self.entry.get("member")):
            raise _wrong(f"{self.where}: the entry has no member or no id")
        before = self.entries.get((member, name))
        if before is None or before.get("timestamp", "") <= self.entry.get("timestamp", ""):
            self.entries[member, name] = self.entry

    def add(self) -> None:
        """What counts in the end, once all is read."""
        for entry in self.entries.values():
            if entry["kind"].startswith("deleted"):
                self.found.skipped["deleted"] += 1
            elif "pdq" in entry:
                self.found.add(entry["pdq"], entry["where"])


def _ncmec(data: bytes, found: _Found) -> None:
    reading = _Ncmec(found)
    try:
        reading.parser.Parse(data, True)
    except expat.ExpatError as error:
        raise _wrong(f"line {error.lineno}: this is not XML") from error
    reading.add()


_READERS: Final[Mapping[Format, Callable[[bytes, _Found], None]]] = {
    "plain": _plain,
    "signals": _signals,
    "threatexchange": _threatexchange,
    "vpdq": _vpdq,
    "ncmec": _ncmec,
    "stopncii": _stopncii,
}


def _json(data: bytes, where: str) -> object:
    try:
        written: object = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_each_once)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}" if where == "the file" else where
        raise _wrong(f"{place}: this is not JSON") from error
    except (ValueError, RecursionError) as error:  # a number of five thousand digits, too
        raise _wrong(f"{where}: this is not JSON, or it says something twice") from error
    return written


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Of two frames by one number, or two lists of records, one would get lost.
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("twice")
    return found


def _seconds(text: str) -> bool:
    return re.fullmatch(r"\s*\d+(\.\d+)?(e[+-]?\d{1,2})?\s*", text, re.IGNORECASE) is not None


def _kind(text: str) -> str:
    """The name of another kind of fingerprint, as far as it is one."""
    return "".join(islice((one for one in text.lower() if one.isalnum() or one in "_-"), 24)) or "unnamed"


def _wrong(
    sentence: str, remedy: str = "mend the file, or name its format with --format; nothing was imported"
) -> InvalidInput:
    return InvalidInput("lists.unreadable", sentence, remedy)


def _unfinished() -> InvalidInput:
    return _wrong(
        "the file says that more of the list follows in another",
        "fetch the list to its end, and join what was fetched; half a list would replace the whole one",
    )
