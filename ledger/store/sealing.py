"""One entry made ready to be stored: each person's share sealed under their key, and the leaf signed over all.

Pure but for randomness, and picklable in and out, so that many entries can be sealed in several processes: a
signature costs more than everything else an append does.
"""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.canonical import canonical, sha256
from ledger.ids import LeafIndex
from ledger.keys import seal, tag_of, unseal
from ledger.log.kinds import check_body
from ledger.log.leaf import Opening, commit, make_leaf


class Share(NamedTuple):
    """What one person is told in an entry; `n`: the how-manieth about them."""

    key: bytes
    list_key: bytes
    n: int
    role: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    index: int
    kind: str
    time: int
    shares: tuple[Share, ...]


class Sealed(NamedTuple):
    leaf: bytes
    commitments: bytes
    """32 bytes each, ascending."""
    records: list[tuple[bytes, bytes]]
    """(tag, sealed) of each share."""


def seal_entries(entries: Sequence[Entry], origin: str, service_seed: bytes) -> list[Sealed]:
    """Raises LogError for a body that its kind does not allow."""
    key = _signing_key(service_seed)
    return [_seal(entry, origin, key) for entry in entries]


def open_record(
    tag: bytes, sealed: bytes, key: bytes
) -> tuple[LeafIndex, dict[str, Any], Opening, dict[str, Opening]]:
    """(place, body, opening, openings of those depicted). Raises Unavailable under another key or tag."""
    secret, index, n, role, encoded, others = cbor2.loads(unseal(key, sealed, context=_context(tag)))
    opening = Opening(secret=secret, label=role, n=n, value=sha256(encoded))
    return LeafIndex(index), json.loads(encoded), opening, {cameo: Opening(*rest) for cameo, *rest in others}


def _seal(entry: Entry, origin: str, service: Ed25519PrivateKey) -> Sealed:
    at = _zulu(entry.time)
    bodies, openings = [], []
    for share in entry.shares:
        check_body(entry.kind, share.role, share.body)
        bodies.append(canonical({"kind": entry.kind, "at": at, **share.body}))
        openings.append(Opening(secrets.token_bytes(32), share.role, share.n, sha256(bodies[-1])))
    commitments = sorted(map(commit, openings))
    # Whoever asked for a use keeps the openings of those depicted: a use hidden from them can be shown to them.
    depicted = [
        [share.body.get("cameo_id", ""), one.secret, one.label, one.n, one.value]
        for share, one in zip(entry.shares, openings, strict=True)
        if one.label == "depicted"
    ]
    records = []
    for share, one, body in zip(entry.shares, openings, bodies, strict=True):
        others = depicted if one.label == "requester" else []
        plain = cbor2.dumps([one.secret, entry.index, one.n, one.label, body, others])
        tag = tag_of(share.list_key, share.n)
        records.append((tag, seal(share.key, plain, context=_context(tag))))
    return Sealed(make_leaf(commitments, origin, service), b"".join(commitments), records)


def _context(tag: bytes) -> str:
    """Whose and which it is, so that rows can not be swapped unnoticed."""
    return f"entry/{tag.hex()}"


@lru_cache(maxsize=4)
def _signing_key(seed: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(seed)


@lru_cache(maxsize=64)
def _zulu(time: int) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
