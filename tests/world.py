"""A small world for tests: a real ledger on a real database, people with device keys, apps, a gate.

Likenesses here are random templates, so nothing waits for a face detector; what needs real faces enrols them
through `safety.enrolment`.
"""

import secrets
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import text

from ledger.consent.grant import SCHEMA, parse_grant
from ledger.consent.registry import record_grant, revoke
from ledger.consent.statement import GRANT_TAG, encode_key, sign
from ledger.ids import AppId, CameoId, GrantId, PersonId, VideoId, new_id
from ledger.keys import Keyring
from ledger.log.note import SignerKey
from ledger.log.sequencer import Ledger
from ledger.store.database import Database
from ledger.store.records import App, Person
from ledger.store.journal import About, Opened
from ledger.store.transaction import Transaction
from safety.chain import Allowed, Permit, Sealer
from safety.engine import Engine
from safety.faces import Likeness
from safety.gate import Denied, Gate, GenerationRequest
from safety.likeness import StoredLikeness, store_likeness

ORIGIN = "test.example/log"
START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
POLICIES = Path(__file__).resolve().parent.parent / "policies"


def open_ledger(home: Path, *, database_url: str = "") -> tuple[Ledger, Keyring]:
    """A ledger in `home`, migrated and recovered. Close it."""
    keyring = Keyring.open(home / "keys")
    database = Database(database_url or f"sqlite:///{home / 'ledger.db'}")
    database.migrate()
    return Ledger(database, keyring, ORIGIN, home / "log"), keyring


@dataclass(frozen=True)
class Someone:
    person_id: PersonId
    cameo_id: CameoId
    device: Ed25519PrivateKey


@dataclass
class World:
    """`at` is the only clock: move it with :meth:`wait`."""

    ledger: Ledger
    keyring: Keyring
    home: Path
    at: datetime = START
    gate: Gate = field(init=False)

    def __post_init__(self) -> None:
        self.gate = Gate(self.ledger, Engine.load(POLICIES), Sealer(self.keyring.permit))

    def wait(self, **span: float) -> None:
        self.at += timedelta(**span)

    def app(self, name: str = "Film Club") -> AppId:
        app_id = AppId(new_id("app"))
        app = App(app_id, name, created_at=int(self.at.timestamp()))
        self.ledger.transact(lambda tx: tx.add_app(app))
        return app_id

    def enrol(
        self, born_on: date | None = date(1980, 1, 1), *, likeness: StoredLikeness | None = None
    ) -> Someone:
        someone = Someone(PersonId(new_id("person")), CameoId(new_id("cameo")), Ed25519PrivateKey.generate())
        face = likeness or StoredLikeness(
            Likeness(np.random.default_rng(7).normal(0, 0.1, (1, 128))),
            np.zeros((64, 64, 3), np.uint8),
            (8, 56, 56, 8),
        )

        def operation(tx: Transaction) -> None:
            key = encode_key(someone.device.public_key())
            tx.add_person(Person(someone.person_id, "Someone", key, created_at=int(self.at.timestamp())))
            store_likeness(tx, someone.cameo_id, someone.person_id, face)
            body = {
                "cameo_id": someone.cameo_id,
                "enrolment": {"born_on": born_on.isoformat() if born_on else None, "device_key": key},
                "list_key": tx.held(someone.person_id).list_key_digest,
            }
            tx.append("enrolment", someone.cameo_id, [About(someone.person_id, "owner", body)], at=self.at)

        self.ledger.transact(operation)
        return someone

    def draft(self, someone: Someone, app_id: AppId, **changes: Any) -> dict[str, Any]:
        """A grant's fields, narrow but usable; `changes` replace them."""
        return {
            "schema": SCHEMA,
            "grant_id": new_id("grant"),
            "cameo_id": someone.cameo_id,
            "grantor": someone.person_id,
            "grantee": {"type": "app", "id": app_id},
            "modalities": ["face"],
            "purposes": ["dpv:NonCommercialPurpose"],
            "allowed_contexts": [],
            "forbidden_contexts": [],
            "actions": ["generate"],
            "audience": "requester",
            "max_uses": 3,
            "issued": zulu(self.at),
            "starts": zulu(self.at),
            "expires": zulu(self.at + timedelta(days=30)),
            "jurisdictions": ["*"],
            "approval": "none",
            "revocation_effect": "stop_new",
            "notice": {"sha256": "0" * 64, "version": "1"},
            "language": "en",
            **changes,
        }

    def grant(self, someone: Someone, app_id: AppId, **changes: Any) -> GrantId:
        draft = self.draft(someone, app_id, **changes)
        evidence = sign(GRANT_TAG, parse_grant(draft).signed_bytes(), someone.device)
        grant, _ = record_grant(self.ledger, someone.person_id, draft, evidence, at=self.at)
        return grant.id

    def revoke(self, someone: Someone, grant_id: GrantId) -> None:
        revoke(self.ledger, someone.person_id, grant_id, None, at=self.at)

    def request(self, app_id: AppId, *people: Someone, **changes: Any) -> GenerationRequest:
        request = GenerationRequest(
            video_id=VideoId(new_id("video")),
            app_id=app_id,
            model="countersign-reference",
            prompt="a portrait in golden light",
            seconds=1,
            size="640x360",
            purpose="dpv:NonCommercialPurpose",
            audience="requester",
            modalities=frozenset({"face"}),
            cameo_ids=tuple(person.cameo_id for person in people),
        )
        return replace(request, **changes)

    def allow(self, app_id: AppId, *people: Someone, **changes: Any) -> Allowed:
        """A decision that must be yes."""
        answer = self.gate.decide(self.request(app_id, *people, **changes), at=self.at)
        assert isinstance(answer, Allowed), answer
        return answer

    def release(self, permit: Permit) -> Denied | None:
        """Publish as `generator.stamp.release` does, a clip that nobody rendered."""

        def operation(tx: Transaction) -> Denied | None:
            denied = self.gate.may_release(tx, permit, at=self.at)
            if denied is None:
                clip = {
                    "sha256": "0" * 64,
                    "manifest_id": f"urn:c2pa:{permit.video_id}",
                    "payload": secrets.token_hex(8),
                    "backend": "countersign-reference",
                    "checks": ["faces", "prompt"],
                }
                tx.finish_job(permit.video, clip, f"clips/{permit.video_id}", at=self.at)
            return denied

        return self.ledger.transact(operation)

    def entries(self, subject_id: str, *kinds: str) -> list[Opened]:
        """What is recorded about one subject, of these kinds or of all."""
        with self.ledger.reading() as tx:
            return tx.entries(subject_id, kinds or None)


def zulu(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


# ── an outsider, who has the log's key and the leaves, and none of our code ──────────────────────────────────


def naive_root(leaves: Sequence[bytes]) -> bytes:
    """The tree hash as RFC 6962 §2.1 defines it, recursion and all."""
    if len(leaves) <= 1:
        return sha256(b"\x00" + leaves[0] if leaves else b"").digest()
    left = 1
    while left * 2 < len(leaves):
        left *= 2
    return sha256(b"\x01" + naive_root(leaves[:left]) + naive_root(leaves[left:])).digest()


def signed_head(note: bytes, vkey: str) -> tuple[int, bytes]:
    """(size, root) of a checkpoint, once the key in `vkey` is seen to have signed it."""
    name, _, encoded = vkey.split("+", 2)
    signed, _, block = note.decode().rpartition("\n\n")
    (line,) = [line for line in block.splitlines() if line.startswith(f"— {name} ")]
    key = Ed25519PublicKey.from_public_bytes(b64decode(encoded)[1:])
    key.verify(b64decode(line.split(" ")[2])[4:], f"{signed}\n".encode())
    origin, size, root = signed.split("\n")
    assert origin == name
    return int(size), b64decode(root)


def stored_leaves(ledger: Ledger) -> list[bytes]:
    """Every leaf as it lies in the database, at indices without a gap."""
    with ledger.database.engine.connect() as connection:
        rows = connection.execute(text('SELECT "index", leaf FROM log_entry ORDER BY "index"')).all()
    assert [row[0] for row in rows] == list(range(len(rows)))
    return [bytes(row[1]) for row in rows]


def check_log(ledger: Ledger, *earlier: bytes) -> int:
    """The whole log as an outsider would check it. Returns the signed size.

    `earlier`: checkpoints seen before, each of which the log must still extend.
    """
    leaves, vkey = stored_leaves(ledger), str(ledger.verifier)
    size, root = signed_head(ledger.checkpoint(), vkey)
    assert size <= len(leaves)
    assert naive_root(leaves[:size]) == root
    for note in earlier:
        old_size, old_root = signed_head(note, vkey)
        assert old_size <= size
        assert naive_root(leaves[:old_size]) == old_root
    return size
