"""The C2PA manifest store of a clip: where it lies in the file, and its manifests. The only reader of it but c2pa.

A store is a JUMBF superbox (ISO/IEC 19566-5) labelled `c2pa`, whose children are manifests labelled with their ids;
the last one is the active one (C2PA 2.4 §11.1.4). In an MP4 it lies in a `uuid` box (§A.5):

    u32 length ‖ "uuid" ‖ d8fec3d6…7ec481 ‖ u8 0, u24 0 ‖ "manifest" 00 ‖ u64 offset ‖ store ‖ zeros

Who bends a length shows two readers two signatures: one that was taken back to the one, and an innocent one to the
other. So nothing is read here that can be read in two ways. A store has to be the only one in its file; every box,
down to the last superbox, fills the one around it exactly, with a length of 32 bits; every superbox has a label and
something in it (else a reader may look for that in what follows); nothing has the type 0 (else a reader may take the
superbox to be at its end); no two manifests have one id; and what has the type or the label of a signature has both,
and is the only one.

:func:`read` gives None for a file with no box of C2PA's at all; whatever else does not hold raises MediaError with the
id `media.manifest`. That a store is genuine is for :func:`ledger.provenance.manifest.read` to say.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger.errors import MediaError
from ledger.provenance import media

C2PA_UUID: Final = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
MAX_STORE_BYTES: Final = 64 << 20
MALFORMED: Final = "media.manifest"

_MANIFEST: Final = bytes(4) + b"manifest\x00"
_MERKLE: Final = bytes(4) + b"merkle\x00"
"""Hashes of fragments, beside the store."""
_OFFSET_BYTES: Final = 8
_LONGEST_HEAD: Final = 16 + len(C2PA_UUID) + len(_MANIFEST)

_NAMED: Final = 0x03
"""A label, and that it may be asked for: c2pa reads no other."""
_HAS_ID: Final = 0x04
_HAS_HASH: Final = 0x08
_HAS_PRIVATE: Final = 0x10
_DEEPEST: Final = 16
_STORE_LABEL: Final = "c2pa"
_SIGNATURE_LABEL: Final = "c2pa.signature"
_SIGNATURE_TYPE: Final = bytes.fromhex("6332637300110010800000aa00389b71")


@dataclass(frozen=True, slots=True)
class Signature:
    """The COSE_Sign1 of a manifest, and where its first byte lies in the file."""

    start: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest whole, as it stands in its store."""

    id: str
    content: bytes
    signature: Signature | None


@dataclass(frozen=True, slots=True)
class Store:
    """A manifest store without padding. `described`: its description box; `manifests`: at least one."""

    content: bytes
    described: bytes
    manifests: tuple[Manifest, ...]

    @property
    def active(self) -> Manifest:
        return self.manifests[-1]

    def active_alone(self) -> bytes:
        """A store that holds the active manifest and none of those before it, byte for byte as it was."""
        content = self.described + self.active.content
        return (8 + len(content)).to_bytes(4, "big") + b"jumb" + content


def read(path: Path) -> Store | None:
    """The manifest store in an MP4. None where no box of it is C2PA's; raises MediaError where not one store is."""
    held = list(_held(path))
    if not held:
        return None
    found = [one for one in held if one is not None]
    if len(found) != 1:
        raise MediaError(MALFORMED, f"the file holds `{len(found)}` manifest stores, not one")
    start, content = found[0]
    length = int.from_bytes(content[:4], "big")
    if content[length:].strip(b"\x00"):
        raise _malformed()
    return parse(content[:length], start)


def parse(content: bytes, start: int = 0) -> Store:
    """The store that these bytes are. `start`: where in the file they lie. Raises MediaError for anything else."""
    boxes = _boxes(content, 0, len(content), 0)
    whole = boxes[0] if len(boxes) == 1 else None
    if whole is None or whole.label != _STORE_LABEL or not all(one.label for one in whole.children):
        raise _malformed()
    manifests = tuple(_manifest(content, box, start) for box in whole.children)
    if len({one.id for one in manifests}) != len(manifests):
        raise _malformed()
    return Store(content, content[8 : whole.children[0].start], manifests)


def _held(path: Path) -> Iterator[tuple[int, bytes] | None]:
    """Of each box of C2PA's: where the store in it begins, and the bytes from there; None for what holds none."""
    boxes = [box for box in media.boxes(path) if box.kind == b"uuid"]
    with path.open("rb") as file:
        for box in boxes:
            file.seek(box.start)
            head = file.read(min(_LONGEST_HEAD, box.end - box.start))
            at = 16 if head[:4] == b"\x00\x00\x00\x01" else 8
            uuid, purpose = head[at : at + 16], head[at + 16 :]
            if uuid != C2PA_UUID:
                continue
            if purpose.startswith(_MERKLE):
                yield None
                continue
            if not purpose.startswith(_MANIFEST) or box.end - box.start > MAX_STORE_BYTES:
                raise _malformed()
            start = box.start + at + len(C2PA_UUID) + len(_MANIFEST) + _OFFSET_BYTES
            file.seek(start)
            yield start, file.read(max(0, box.end - start))


@dataclass(frozen=True, slots=True)
class _Box:
    """Where it begins, header included, and ends. Only a superbox has a label, a type and children."""

    kind: bytes
    start: int
    end: int
    label: str = ""
    type: bytes = b""
    children: "tuple[_Box, ...]" = ()


def _boxes(content: bytes, at: int, end: int, depth: int) -> tuple[_Box, ...]:
    """The boxes that fill this part exactly, and those in them."""
    found = []
    while at < end:
        length, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        if not 8 <= length <= end - at or kind == bytes(4) or depth > _DEEPEST:
            raise _malformed()
        box = _Box(kind, at, at + length)
        found.append(_superbox(content, box, depth) if kind == b"jumb" else box)
        at += length
    return tuple(found)


def _superbox(content: bytes, box: _Box, depth: int) -> _Box:
    described, *children = _boxes(content, box.start + 8, box.end, depth + 1) or (box,)
    if described.kind != b"jumd" or not children:
        raise _malformed()
    kind, label = _described(content[described.start + 8 : described.end])
    return _Box(box.kind, box.start, box.end, label, kind, tuple(children))


def _described(content: bytes) -> tuple[bytes, str]:
    """Type and label that a description box gives (ISO/IEC 19566-5 §B.3). What else may stand in it must fill it."""
    kind, toggles = content[:16], content[16:17]
    label, end, rest = content[17:].partition(b"\x00")
    if not label or not end or toggles[0] & _NAMED != _NAMED:
        raise _malformed()
    known = 4 * bool(toggles[0] & _HAS_ID) + 32 * bool(toggles[0] & _HAS_HASH)
    private = rest[known:]
    fits = (
        int.from_bytes(private[:4], "big") == len(private) >= 8 if toggles[0] & _HAS_PRIVATE else not private
    )
    if len(rest) < known or not fits:
        raise _malformed()
    try:
        return kind, label.decode()
    except UnicodeDecodeError as error:
        raise _malformed() from error


def _manifest(content: bytes, box: _Box, start: int) -> Manifest:
    signatures = [one for one in box.children if one.label == _SIGNATURE_LABEL or one.type == _SIGNATURE_TYPE]
    for one in signatures:
        named = one.label == _SIGNATURE_LABEL and one.type == _SIGNATURE_TYPE
        if len(signatures) != 1 or not named or [inner.kind for inner in one.children] != [b"cbor"]:
            raise _malformed()
    signed = signatures[0].children[0] if signatures else None
    return Manifest(
        box.label,
        content[box.start : box.end],
        Signature(start + signed.start + 8, content[signed.start + 8 : signed.end]) if signed else None,
    )


def _malformed() -> MediaError:
    return MediaError(MALFORMED, "the bytes are not a C2PA manifest store that can be read in one way only")
