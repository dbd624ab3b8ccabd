"""The COSE signature inside a signed clip: whose certificate made it, and what is stapled to it.

A manifest's box `c2pa.signature` is a COSE_Sign1 (RFC 9052) with the certificates in its protected header (RFC 9360,
C2PA 2.4 §14.5) and time-stamp, revocation values (§14.5.2) and padding in the unprotected one.

:func:`chain` answers only for the manifest that :mod:`ledger.provenance.jumbf` finds active too, so that two readers
cannot look at two of them. :func:`staple` changes padding into an OCSP response, in place: the signature and every hash stay what they were.
Nothing here is verified: c2pa has said before whether the signature holds.
"""

from pathlib import Path
from typing import Any, Final

import cbor2
from cryptography import x509

from ledger.errors import MediaError, ProvenanceError
from ledger.provenance import jumbf

_X5CHAIN: Final = 33
_LONGEST_CHAIN: Final = 8


def chain(path: Path, manifest_id: str) -> tuple[x509.Certificate, ...]:
    """The certificates that manifest was signed under, leaf first; none where it is not the active one, or unreadable."""
    try:
        store = jumbf.read(path)
        if store is None or store.active.id != manifest_id or store.active.signature is None:
            return ()
        protected = cbor2.loads(cbor2.loads(store.active.signature.content).value[0])
        held = protected.get(_X5CHAIN, ())
        certificates = [held] if isinstance(held, bytes) else list(held)
        return tuple(x509.load_der_x509_certificate(der) for der in certificates[:_LONGEST_CHAIN])
    except (MediaError, OSError, ValueError, TypeError, AttributeError, IndexError, cbor2.CBORDecodeError):
        return ()


def staple(path: Path, ocsp_der: bytes) -> None:
    """Put an OCSP response beside the signature of the active manifest.

    Raises ProvenanceError where there is no signature or no room, MediaError where the store cannot be told.
    """
    store = jumbf.read(path)
    held = None if store is None else store.active.signature
    if held is None:
        raise ProvenanceError(
            "provenance.staple", "the clip's signature was not found", "sign the clip again"
        )
    protected, unprotected, payload, signature = cbor2.loads(held.content).value
    headers = {key: value for key, value in unprotected.items() if key not in ("pad", "pad2", "rVals")}
    headers["rVals"] = {"ocspVals": [ocsp_der]}
    stapled = _padded([protected, headers, payload, signature], len(held.content))
    with path.open("r+b") as file:
        file.seek(held.start)
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
