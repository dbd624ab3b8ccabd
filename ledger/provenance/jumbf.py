"""The C2PA manifest store of a clip, as bytes: taken out of its file, and taken apart into manifests.

A store is a JUMBF superbox (ISO/IEC 19566-5) labelled `c2pa`, whose children are manifests labelled with their ids;
the last one is the active one (C2PA 2.4 §11.1.4). In an MP4 it lies in a `uuid` box (§A.5):

    u32 length ‖ "uuid" ‖ d8fec3d6…7ec481 ‖ u8 0, u24 0 ‖ "manifest" 00 ‖ u64 offset ‖ store ‖ padding

Only lengths and labels are read here. That a store is genuine is for :func:`ledger.provenance.manifest.read` to say.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger.errors import MediaError
from ledger.provenance import media

C2PA_UUID: Final = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
MAX_STORE_BYTES: Final = 16 << 20

_PREFACE: Final = C2PA_UUID + bytes(4) + b"manifest\x00"
_OFFSET_BYTES: Final = 8
_HAS_LABEL: Final = 0x02
_STORE_LABEL: Final = "c2pa"


@dataclass(frozen=True, slots=True)
class Superbox:
    """A JUMBF superbox. `described`: its description box; `children`: the boxes after that, each whole."""

    label: str
    described: bytes
    children: tuple[bytes, ...]

    def encode(self) -> bytes:
        content = self.described + b"".join(self.children)
        return (8 + len(content)).to_bytes(4, "big") + b"jumb" + content


def store_of(path: Path) -> bytes:
    """The manifest store in an MP4, without padding. Raises MediaError where there is not exactly one."""
    found = []
    with path.open("rb") as file:
        for box in media.boxes(path):
            if box.kind != b"uuid" or box.end - box.start > MAX_STORE_BYTES:
                continue
            file.seek(box.start)
            content = file.read(box.end - box.start)
            header = 16 if content[:4] == b"\x00\x00\x00\x01" else 8
            if content[header:].startswith(_PREFACE):
                found.append(content[header + len(_PREFACE) + _OFFSET_BYTES :])
    if len(found) != 1:
        raise MediaError("media.manifest", f"the file holds `{len(found)}` manifest stores, not one")
    store, _ = _box(found[0])
    _manifests(store)
    return store


def active_id(store: bytes) -> str:
    """The id of the active manifest. Raises MediaError for bytes that are not a store."""
    return _parse(_manifests(store).children[-1]).label


def active_alone(store: bytes) -> bytes:
    """A store that holds the active manifest and none of those before it, byte for byte as it was."""
    whole = _manifests(store)
    return Superbox(whole.label, whole.described, whole.children[-1:]).encode()


def _manifests(store: bytes) -> Superbox:
    whole = _parse(store)
    if whole.label != _STORE_LABEL or not whole.children:
        raise _malformed()
    _parse(whole.children[-1])
    return whole


def _parse(data: bytes) -> Superbox:
    box, rest = _box(data)
    if box[4:8] != b"jumb" or rest:
        raise _malformed()
    children, content = [], box[8:]
    while content:
        child, content = _box(content)
        children.append(child)
    if (
        not children
        or children[0][4:8] != b"jumd"
        or len(children[0]) < 25
        or not children[0][24] & _HAS_LABEL
    ):
        raise _malformed()
    label, end, _ = children[0][25:].partition(b"\x00")
    if not end:
        raise _malformed()
    try:
        return Superbox(label.decode(), children[0], tuple(children[1:]))
    except UnicodeDecodeError as error:
        raise _malformed() from error


def _box(data: bytes) -> tuple[bytes, bytes]:
    """The first box, and what follows it. Only lengths of 32 bits: a store is never larger."""
    length = int.from_bytes(data[:4], "big")
    if not 8 <= length <= len(data):
        raise _malformed()
    return data[:length], data[length:]


def _malformed() -> MediaError:
    return MediaError("media.manifest", "the bytes are not a C2PA manifest store")
