"""Writes `kinds.json` to standard output: one leaf of every kind, with fixed keys, secrets and times.

    python tests/golden/make_kinds.py > tests/golden/kinds.json

Kinds are append-only: what is in that file already must come out again, byte for byte.
"""

import json
from hashlib import sha256
from typing import Any
from unittest.mock import patch

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.ids import Digest, LeafIndex
from ledger.keys import list_key, unseal
from ledger.log.kinds import KINDS
from ledger.log.public import Assignment, Epoch, KeyChange, Kind, make_public
from ledger.store.sealing import Entry, Share, seal_entries

ORIGIN = "ledger.example/likeness"
SERVICE = Ed25519PrivateKey.from_private_bytes(b"\x33" * 32)
SECOND = Ed25519PrivateKey.from_private_bytes(b"\x44" * 32)
TIME = 1_772_366_400
CAMEO, GRANT, VIDEO, APP, PERSON = (
    f"{name}_{'a' * 26}" for name in ("cameo", "grant", "video", "app", "person")
)
REASONS = [{"id": "render.failed", "reason": "the model stopped", "remedy": "try again"}]
BODIES: dict[str, dict[str, Any]] = {
    "enrolment": {"cameo_id": CAMEO, "enrolment": {"born_on": "1980-01-01"}, "list_key": "d" * 64},
    "grant": {"grant": {"grant_id": GRANT}, "evidence": {"public_key": "k", "signature": "s"}},
    "revocation": {"grant_id": GRANT, "cameo_id": CAMEO, "effect": "stop_new"},
    "decision": {"video_id": VIDEO, "app_id": APP, "grant_ids": [GRANT], "allowed": True},
    "returned": {"video_id": VIDEO, "grant_ids": [GRANT], "stage": "render", "reasons": REASONS},
    "release": {
        "video_id": VIDEO,
        "grant_ids": [GRANT],
        "checks": ["faces", "prompt"],
        "manifest_id": "urn:c2pa:1",
        "payload": "0011223344556677",
    },
    "audit": {"auditor": "Jörg ’ 一", "asked": "uses"},
    "approval": {"video_id": VIDEO, "approved": False},
    "takedown": {"video_id": VIDEO, "notice": "n", "action": "removed"},
    "erasure": {"cameo_id": CAMEO},
    "standing": {"app_id": APP, "suspended": True, "operators": [["aa", "bb"]], "reason": "complaints"},
    "account": {
        "key": {
            "id": "i",
            "kind": "passkey",
            "public_key": "k",
            "rp_id": "h.example",
            "origin": "https://h.example",
        },
        "list_key": "d" * 64,
    },
    "device": {"change": "added", "key": {"id": "k", "kind": "device", "public_key": "k"}, "how": "signed"},
    "age": {"issuer": "https://id.example", "born_on": None, "over_18": True},
    "guardian": {
        "guardianship": {"guardian": PERSON, "max_uses": 3, "with_adults": False},
        "evidence": {"public_key": "k", "signature": "s"},
        "vouched": {"operator": "op"},
        "standing": True,
    },
    "estate": {
        "executor": PERSON,
        "evidence_sha256": "e" * 64,
        "vouched": {"operator": "op"},
        "standing": True,
    },
    "handover": {"cameo_id": CAMEO, "statement": {"cameo_id": CAMEO}, "evidence": {"signature": "s"}},
    "group": {"person_id": PERSON, "member": True},
    "block": {"target": APP, "blocked": True},
    "draft": {"video_id": VIDEO, "grant_ids": [GRANT], "sha256": "f" * 64, "until": "2026-03-04T12:00:00Z"},
    "deletion": {"rule": "captures", "what": "films", "count": 1, "sha256s": ["f" * 64]},
    "announcement": {"rule": "likeness_of_age", "what": "likeness", "until": "2026-04-01T12:00:00Z"},
    "register": {"notice": "n", "action": "registered"},
    "sighting": {
        "cameo_id": CAMEO,
        "video_id": VIDEO,
        "app_id": APP,
        "where": "pictures",
        "outcome": "refused",
    },
    "hash_list": {
        "list": "partners",
        "version": 1,
        "action": "imported",
        "category": "ncii",
        "source": "an exchange",
        "count": 2,
        "sha256": "f" * 64,
        "operator": "the office",
    },
    "review": {"video_id": VIDEO, "grant_ids": [GRANT], "action": "held", "sha256": "f" * 64},
    "manifest": {"video_id": VIDEO, "manifest_id": "urn:c2pa:1", "sha256": "f" * 64},
}


class Counter:
    """Secrets and nonces that can be told in advance: 32 times 01, 32 times 02 …"""

    def __init__(self) -> None:
        self._drawn = 0

    def __call__(self, length: int) -> bytes:
        self._drawn += 1
        return bytes([self._drawn]) * length


def entry(place: int, name: str, roles: list[str]) -> dict[str, Any]:
    """One entry about a different person in each role its kind has, n = 1, 2 …"""
    keys = [bytes([0xA0 + at]) * 32 for at in range(len(roles))]
    shares = tuple(
        Share(key, list_key(key), at, role, BODIES[name])
        for at, (key, role) in enumerate(zip(keys, roles, strict=True), 1)
    )
    with patch("secrets.token_bytes", Counter()):
        (sealed,) = seal_entries([Entry(place, name, TIME, shares)], ORIGIN, SERVICE.private_bytes_raw())
    return {
        "body": BODIES[name],
        "leaf": sealed.leaf.hex(),
        "commitments": sealed.commitments.hex(),
        "records": [
            {"tag": tag.hex(), "plain": unseal(key, row, context=f"entry/{tag.hex()}").hex()}
            for (tag, row), key in zip(sealed.records, keys, strict=True)
        ],
    }


def public() -> dict[Kind, dict[int, Any]]:
    tags = (Assignment(b"\x01" * 32, LeafIndex(42)), Assignment(b"\x02" * 32, LeafIndex(41)))
    root, keys = Digest(sha256(b"map").digest()), Digest(sha256(b"keys").digest())
    return {
        "epoch": Epoch(7, LeafIndex(40), root, keys, TIME, tags).payload(),
        "keys": KeyChange.make("service", ORIGIN, SECOND, SERVICE).payload(),
        "policies": {1: "ab" * 32, 2: TIME},
        "signing": {1: "used", 2: b"a certificate in DER", 3: TIME},
    }


def golden() -> dict[str, Any]:
    entries = [
        {
            "name": kind.name,
            "roles": sorted(kind.roles),
            "fields": sorted(kind.fields),
            **entry(place, kind.name, sorted(kind.roles)),
        }
        for place, kind in enumerate(KINDS, 4)
    ]
    statements = [
        {
            "name": kind,
            "payload": cbor2.dumps(payload, canonical=True).hex(),
            "leaf": make_public(kind, payload, ORIGIN, SERVICE).hex(),
        }
        for kind, payload in public().items()
    ]
    return {"origin": ORIGIN, "time": TIME, "entries": entries, "statements": statements}


if __name__ == "__main__":
    print(json.dumps(golden(), indent=1))
