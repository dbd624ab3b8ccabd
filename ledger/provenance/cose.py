"""The COSE signature inside a signed clip: whose certificate made it, and what is stapled to it.

C2PA 2.4 §11.1 keeps the manifest store (JUMBF, ISO/IEC 19566-5) in one `uuid` box; each manifest in it has a box
`c2pa.signature`, a COSE_Sign1 (RFC 9052) with the certificates in its protected header (RFC 9360, §14.5) and
time-stamp, revocation values (§14.5.2) and padding in the unprotected one.

:func:`chain` answers only for a clip that holds exactly one such box, so that two readers cannot look at two of them.
:func:`staple` changes padding into an OCSP response, in place: the signature and every hash stay what they were.
Nothing here is verified: c2pa has said before whether the signature holds.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cbor2
from cryptography import x509

from ledger.errors import MediaError, ProvenanceError
from ledger.provenance import media

C2PA_UUID: Final = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_PURPOSE: Final = b"manifest\x00"
_X5CHAIN: Final = 33
_LONGEST_CHAIN: Final = 8
_DEEPEST: Final = 3
"""Store, manifest, signature."""
_STORE_LIMIT: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class _Found:
    """A signature's CBOR: where it lies in the file, and its bytes."""

    start: int
    content: bytes


def chain(path: Path, manifest_id: str) -> tuple[x509.Certificate, ...]:
    """The certificates that manifest was signed under, leaf first; none where that cannot be told."""
    try:
        found = _signatures(path, manifest_id)
        if len(found) != 1:
            return ()
        protected = cbor2.loads(cbor2.loads(found[0].content).value[0])
        held = protected.get(_X5CHAIN, ())
        certificates = [held] if isinstance(held, bytes) else list(held)
        return tuple(x509.load_der_x509_certificate(der) for der in certificates[:_LONGEST_CHAIN])
    except (MediaError, OSError, ValueError, TypeError, AttributeError, IndexError, cbor2.CBORDecodeError):
        return ()


def staple(path: Path, ocsp_der: bytes) -> None:
    """Put an OCSP response beside the signature of the active manifest, which is the store's last (§11.1.4.2).

    Raises ProvenanceError where there is no room.
    """
    found = _signatures(path, None)[-1:]
    if not found:
        raise ProvenanceError(
            "provenance.staple", "the clip's signature was not found", "sign the clip again"
        )
    protected, unprotected, payload, signature = cbor2.loads(found[0].content).value
    headers = {key: value for key, value in unprotected.items() if key not in ("pad", "pad2", "rVals")}
    headers["rVals"] = {"ocspVals": [ocsp_der]}
    stapled = _padded([protected, headers, payload, signature], len(found[0].content))
    with path.open("r+b") as file:
        file.seek(found[0].start)
        file.write(stapled)


def _padded(parts: list[Any], size: int) -> bytes:
    """The COSE_Sign1 in exactly `size` bytes. A second pad closes the gap where one length takes a byte more."""
    headers: dict[str, Any] = parts[1]
    for second in (None, *range(24)):
        parts[1] = headers | {"pad": b""} | ({} if second is None else {"pad2": bytes(second)})
        lacking = size - len(cbor2.dumps(cbor2.CBORTag(18, parts)))
        for length in range(max(0, lacking - 8), lacking + 1):
            parts[1]["pad"] = bytes(length)
            encoded = cbor2.dumps(cbor2.CBORTag(18, parts))
            if len(encoded) == size:
                return encoded
    raise ProvenanceError(
        "provenance.staple", "the signature has no room for an OCSP response", "sign the clip without one"
    )


def _signatures(path: Path, manifest_id: str | None) -> list[_Found]:
    """The signatures of that manifest, or of all of them."""
    stores = list(_stores(path))
    if len(stores) != 1:
        return []
    start, content = stores[0]
    return [
        _Found(start + at, content[at:end])
        for labels, at, end in _contents(content, 0, len(content), ())
        if len(labels) == _DEEPEST and labels[2] == "c2pa.signature" and manifest_id in {None, labels[1]}
    ]


def _stores(path: Path) -> Iterator[tuple[int, bytes]]:
    """Where each manifest store begins, and its bytes: after UUID, version, purpose and an offset (§A.5.1)."""
    boxes = [box for box in media.boxes(path) if box.kind == b"uuid"]
    with path.open("rb") as file:
        for box in boxes:
            if box.end - box.start > _STORE_LIMIT:
                continue
            file.seek(box.start)
            content = file.read(box.end - box.start)
            at = content.find(C2PA_UUID, 8, 32)
            if at >= 0 and content[at + 20 :].startswith(_PURPOSE):
                skip = at + 20 + len(_PURPOSE) + 8
                yield box.start + skip, content[skip:]


def _contents(
    content: bytes, start: int, end: int, labels: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], int, int]]:
    """(labels from the store down, first byte, end) of each `cbor` box in nested JUMBF superboxes."""
    label = ""
    at = start
    while at + 8 <= end:
        length, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        if length < 8 or at + length > end:
            return
        if kind == b"jumd":
            label = content[at + 25 : at + length].split(b"\x00")[0].decode("utf-8", "replace")
        elif kind == b"jumb" and len(labels) < _DEEPEST + 1:
            inner = (*labels, label) if start or labels else labels
            yield from _contents(content, at + 8, at + length, inner)
        elif kind == b"cbor":
            yield (*labels, label), at + 8, at + length
        at += length
