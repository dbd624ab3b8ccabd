"""A small world for tests: a real ledger on a real database, people with device keys, apps, a gate.

Likenesses here are random templates, so nothing waits for a face detector; what needs real faces enrols them
through `safety.enrolment`.
"""

import json
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import cbor2
import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from sqlalchemy import text

from ledger.consent.authority import Cosignature
from ledger.consent.grant import SCHEMA, parse_grant
from ledger.consent.registry import SignedGrant, record_grant, revoke
from ledger.consent.statement import (
    GRANT_TAG,
    GUARDIANSHIP_TAG,
    HANDOVER_TAG,
    Handover,
    device,
    encode_key,
    parse_guardianship,
    parsed,
    sign,
)
from ledger.ids import AppId, CameoId, GrantId, LeafIndex, PersonId, VideoId, new_id
from ledger.keys import Keyring
from ledger.log.sequencer import Ledger
from ledger.store.database import Database
from ledger.store.journal import About, Opened
from ledger.store.records import App, Credential, Person
from ledger.store.transaction import Transaction
from safety.chain import Allowed, Permit, Sealer
from safety.decision import Decision, Named
from safety.faces import Likeness
from safety.gate import Denied, Gate, GenerationRequest
from safety.likeness import StoredLikeness, store_likeness
from safety.policy.engine import Engine

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
class Fixed:
    """One policy set for ever, whatever the log says is in force."""

    held: Engine

    def engine(self, tx: Transaction, app_id: AppId | None = None) -> Engine:
        return self.held

    def watch(self, tx: Transaction, decision: Decision, people: Sequence[Named], *, at: datetime) -> None:
        pass


@dataclass(frozen=True)
class Someone:
    person_id: PersonId
    cameo_id: CameoId
    device: Ed25519PrivateKey

    @property
    def signer(self) -> dict[str, Any]:
        """Their device's key, as a list holds it."""
        return device(encode_key(self.device.public_key())).model_dump(mode="json")


@dataclass
class World:
    """`at` is the only clock: move it with :meth:`wait`."""

    ledger: Ledger
    keyring: Keyring
    home: Path
    at: datetime = START
    gate: Gate = field(init=False)

    def __post_init__(self) -> None:
        self.gate = Gate(self.ledger, Fixed(Engine.load(POLICIES)), Sealer(self.keyring.permit))

    def wait(self, **span: float) -> None:
        self.at += timedelta(**span)

    def app(self, name: str = "Film Club") -> AppId:
        app_id = AppId(new_id("app"))
        app = App(app_id, name, created_at=int(self.at.timestamp()))
        self.ledger.transact(lambda tx: tx.add_app(app))
        return app_id

    def enrol(
        self,
        born_on: date | None = date(1980, 1, 1),
        *,
        likeness: StoredLikeness | None = None,
        filmed: bool = False,
        name: str = "Someone",
    ) -> Someone:
        someone = Someone(PersonId(new_id("person")), CameoId(new_id("cameo")), Ed25519PrivateKey.generate())
        face = likeness or StoredLikeness(
            Likeness(np.random.default_rng(7).normal(0, 0.1, (1, 128))),
            np.zeros((64, 64, 3), np.uint8),
            (8, 56, 56, 8),
        )

        def operation(tx: Transaction) -> None:
            key = encode_key(someone.device.public_key())
            now = int(self.at.timestamp())
            tx.add_person(
                Person(someone.person_id, name, created_at=now),
                Credential(key, someone.person_id, "device", key, created_at=now),
            )
            store_likeness(tx, someone.cameo_id, someone.person_id, face)
            body = {
                "cameo_id": someone.cameo_id,
                "enrolment": {"born_on": born_on.isoformat() if born_on else None, "device_key": key},
                "list_key": tx.held(someone.person_id).list_key_digest,
                **({"filmed": True} if filmed else {}),
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
            "preferences": [],
            "delegate_key": None,
            "parent": None,
            "notice": {"sha256": "0" * 64, "version": "1"},
            "language": "en",
            **changes,
        }

    def grant(
        self, someone: Someone, app_id: AppId, *, cosigned_by: Sequence[Someone] = (), **changes: Any
    ) -> GrantId:
        """A grant to an app, signed by its owner, and by their guardians if they have any to sign."""
        return self.record(someone, self.draft(someone, app_id, **changes), cosigned_by=cosigned_by)

    def delegate(
        self, someone: Someone, parent: GrantId, key: Ed25519PrivateKey, app_id: AppId, **changes: Any
    ) -> GrantId:
        """Pass a grant on to an app, signed with the key that the parent names."""
        return self.record(someone, self.draft(someone, app_id, parent=parent, **changes), key=key)

    def record(
        self,
        someone: Someone,
        draft: Mapping[str, Any],
        *,
        key: Ed25519PrivateKey | None = None,
        cosigned_by: Sequence[Someone] = (),
    ) -> GrantId:
        """A drafted grant, signed with `key` or the owner's device, and recorded."""
        signed = parse_grant(draft).signed_bytes()
        cosignatures = tuple(
            Cosignature(guardian=one.person_id, evidence=sign(GRANT_TAG, signed, one.device))
            for one in cosigned_by
        )
        evidence = sign(GRANT_TAG, signed, key or someone.device)
        whole = SignedGrant(someone.person_id, draft, evidence, cosignatures)
        grant, _ = record_grant(self.ledger, whole, at=self.at)
        return grant.id

    def revoke(self, someone: Someone, grant_id: GrantId) -> None:
        revoke(self.ledger, someone.person_id, grant_id, None, at=self.at)

    def tell(self, someone: Someone, kind: str, role: str = "owner", /, **body: Any) -> LeafIndex:
        """An entry on somebody's own list, whatever it says."""
        about = [About(someone.person_id, role, body)]
        return self.ledger.transact(lambda tx: tx.append(kind, secrets.token_hex(8), about, at=self.at))

    def guardian(
        self,
        ward: Someone,
        guardian: Someone,
        *,
        max_uses: int = 10,
        with_adults: bool = False,
        standing: bool = True,
    ) -> LeafIndex:
        """Somebody becomes a ward's guardian, or (`standing=False`) is one no longer."""
        said = {
            "schema": "countersign/guardianship/v1",
            "guardian": guardian.person_id,
            "ward": ward.person_id,
            "relation": "parent",
            "max_uses": max_uses,
            "with_adults": with_adults,
            "issued": zulu(self.at),
        }
        evidence = sign(GUARDIANSHIP_TAG, parse_guardianship(said).signed_bytes(), guardian.device)
        return self.tell(
            ward,
            "guardian",
            guardianship=said,
            evidence=evidence.model_dump(mode="json"),
            signers=[guardian.signer],
            vouched={"operator": "the office"},
            standing=standing,
        )

    def executor(self, owner: Someone, executor: Someone, *, standing: bool = True) -> LeafIndex:
        """Somebody acts for an owner who has died, or (`standing=False`) does so no longer."""
        return self.tell(
            owner,
            "estate",
            executor=executor.person_id,
            evidence_sha256="e" * 64,
            signers=[executor.signer],
            vouched={"operator": "the office"},
            standing=standing,
        )

    def age(
        self,
        someone: Someone,
        born_on: date | None = None,
        *,
        over_18: bool | None = None,
        issuer: str = "https://id.example",
    ) -> LeafIndex:
        """What an issuer says of how old somebody is."""
        born = born_on.isoformat() if born_on else None
        return self.tell(someone, "age", issuer=issuer, born_on=born, over_18=over_18)

    def handover(self, someone: Someone) -> LeafIndex:
        """Somebody who had a guardian is of age, and keeps their likeness."""
        said = {
            "schema": "countersign/handover/v1",
            "person_id": someone.person_id,
            "cameo_id": someone.cameo_id,
            "issued": zulu(self.at),
        }
        signed = parsed(Handover, "handover", said).signed_bytes()
        evidence = sign(HANDOVER_TAG, signed, someone.device).model_dump(mode="json")
        return self.tell(someone, "handover", cameo_id=someone.cameo_id, statement=said, evidence=evidence)

    def approve(
        self, someone: Someone, video_id: str, *, approved: bool = True, role: str = "owner"
    ) -> LeafIndex:
        """A word on a draft that shows somebody, by them or by who acts for them."""
        return self.tell(someone, "approval", "depicted", video_id=video_id, approved=approved, role=role)

    def befriend(self, someone: Someone, other: Someone, *, member: bool = True) -> LeafIndex:
        """Let a person into the group of those that somebody approves of, or out of it."""
        return self.tell(someone, "group", person_id=other.person_id, member=member)

    def block(self, someone: Someone, target: str, *, blocked: bool = True) -> LeafIndex:
        """An app or person may never use somebody's likeness, or may again."""
        return self.tell(someone, "block", target=target, blocked=blocked)

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


def signed_head(note: bytes, *vkeys: str) -> tuple[int, bytes]:
    """(size, root) of a checkpoint, once at least one of these keys, and none of them wrongly, signed it."""
    signed, _, block = note.decode().rpartition("\n\n")
    origin, size, root = signed.split("\n")
    signatures = {}
    for line in block.splitlines():
        _, name, encoded = line.split(" ")
        signatures[name, b64decode(encoded)[:4]] = b64decode(encoded)[4:]
    known = 0
    for vkey in vkeys:
        name, key_id, public = vkey.split("+", 2)
        assert name == origin
        if signature := signatures.get((name, bytes.fromhex(key_id))):
            verify_ed25519(b64decode(public)[1:], signature, f"{signed}\n".encode())
            known += 1
    assert known, "no key that counts has signed"
    return int(size), b64decode(root)


def verify_ed25519(public: bytes, signature: bytes, message: bytes) -> None:
    Ed25519PublicKey.from_public_bytes(public).verify(signature, message)


def verify_es256(public: bytes, signature: bytes, message: bytes) -> None:
    assert len(signature) == 64
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
    point.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))


VERIFY = {"service": verify_ed25519, "log": verify_ed25519, "receipt": verify_es256}
Statement = tuple[str, bytes, Any, bytes, bytes]
"""(kind, key id, payload, what is signed, signature)."""


def statement(leaf: bytes, origin: str) -> Statement:
    """What a leaf says, if its bytes are the one encoding of an entry or a public statement; nothing verified."""
    protected, unprotected, payload, signature = cbor2.loads(leaf).value
    headers = cbor2.loads(protected)
    again = cbor2.CBORTag(18, [protected, {}, payload, signature])
    assert (dict(unprotected), cbor2.dumps(again, canonical=True)) == ({}, leaf)
    assert cbor2.dumps(headers, canonical=True) == protected
    assert (len(headers[4]), len(signature)) == (8, 64)
    kind = headers[15][2].split(":")[2]
    about = {1: -8, 4: headers[4], 15: {1: origin, 2: f"urn:countersign:{kind}:v1"}}
    signed = cbor2.dumps(["Signature1", protected, b"", payload])
    if kind == "entry":
        content = "application/vnd.countersign.commitments.v1+cbor"
        assert headers == {**about, 258: -16, 259: content}
        assert len(payload) == 32
        return kind, headers[4], payload, signed, signature
    assert kind in {"epoch", "keys", "policies", "signing"}
    assert headers == {**about, 3: f"application/vnd.countersign.{kind}.v1+cbor"}
    said = cbor2.loads(payload)
    assert cbor2.dumps(said, canonical=True) == payload
    return kind, headers[4], said, signed, signature


def naive_map_root(values: Mapping[bytes, bytes], depth: int = 0) -> bytes:
    """The root over all (tag, value), from the heading of `ledger.log.prefixmap`, recursion and all."""
    if len(values) <= 1:
        return next((sha256(b"\x02" + tag + v).digest() for tag, v in values.items()), bytes(32))
    sides: tuple[dict[bytes, bytes], dict[bytes, bytes]] = ({}, {})
    for tag, v in values.items():
        sides[tag[depth // 8] >> (7 - depth % 8) & 1][tag] = v
    return sha256(b"\x03" + b"".join(naive_map_root(side, depth + 1) for side in sides)).digest()


def changed_policies(said: Any, before: Sequence[Any], origin: str) -> tuple[str, str | None]:
    """Rule 9: (set in force, incoming set) after a change of policies that follows those `before`."""
    current, incoming = before[-1] if before else (None, None)
    named, at, share, previous, signatures, number = (said[field] for field in range(1, 7))
    assert [type(one) for one in (named, at, share, number)] == [str, int, int, int]
    assert (len(said), number, previous) == (6, len(before), current)
    assert re.fullmatch("[0-9a-f]{64}", named)
    assert named != current
    order = {"number": number, "origin": origin, "policies": named, "previous": previous, "share": share}
    spelt = json.dumps(order, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    for public, signature in signatures:
        verify_ed25519(public, signature, sha256(b"countersign/policies/v1\x00" + spelt).digest())
    signers = [public for public, _ in signatures]
    assert signers == sorted(set(signers))
    assert signers or not before
    if share == 1000:
        return named, None
    assert current is not None
    if share == 0:
        assert named == incoming
        return current, None
    assert 0 < share < 1000
    return current, named


def changed_signing(said: Any, certificates: dict[bytes, int | None]) -> None:
    """Rule 10, over since when each certificate no longer counts."""
    if said[1] == "used":
        assert set(said) == {1, 2, 3}
        digest = sha256(said[2]).digest()
        assert digest not in certificates
        certificates[digest] = None
        return
    assert (said[1], set(said)) == ("revoked", {1, 2, 3, 4, 5})
    held, time, since = certificates[said[2]], said[3], said[5]
    assert 0 <= since < held if held is not None else since <= time
    assert since == time or said[4] == "keyCompromise"
    certificates[said[2]] = since


def check_rules(leaves: Sequence[bytes], origin: str = ORIGIN) -> list[list[Any]]:
    """The rules in the heading of `ledger.log.replica`, leaf by leaf. Returns the key table."""
    keys: list[list[Any]] = []
    values: dict[bytes, bytes] = {}
    epochs, covered, time = 0, 0, 0
    entries: set[int] = set()
    policies: list[Any] = []
    certificates: dict[bytes, int | None] = {}
    for index, leaf in enumerate(leaves):
        # 1.
        kind, key_id, said, signed, signature = statement(leaf, origin)
        # 2. The service's first key announces itself.
        in_force = {role: public for role, public, since in keys if since <= index}
        service = in_force.get("service") or said[2]
        assert key_id == sha256(service).digest()[:8]
        verify_ed25519(service, signature, signed)
        if kind == "entry":
            entries.add(index)
        elif kind == "keys":
            # 3.
            role, public, proof, old, old_proof = (said[field] for field in range(1, 6))
            assert (len(said), old) == (5, {role: key for role, key, _ in keys}.get(role))
            assert public not in [key for _, key, _ in keys]
            message = b"countersign/key/v1\x00" + cbor2.dumps([origin, role, public, old])
            VERIFY[role](public, proof, message)
            if old is not None:
                VERIFY[role](old, old_proof, message)
            keys.append([role, public, index if old is None else index + 1])
        elif kind == "epoch":
            number, first, map_root, keys_digest, at, packed = (said[field] for field in range(1, 7))
            # 4.
            assert (len(said), number, first) == (6, epochs, covered)
            # 5.
            assigned = [packed[place : place + 34] for place in range(0, len(packed), 34)]
            places = {one[:32]: first + int.from_bytes(one[32:], "big") for one in assigned}
            assert set(places.values()) == entries
            assert [one[:32] for one in assigned] == sorted(places)
            # 6.
            assert not places.keys() & values.keys()
            # 7.
            for tag, place in places.items():
                hashed = sha256(b"\x00" + leaves[place]).digest()
                values[tag] = sha256(place.to_bytes(8, "big") + hashed).digest()
            assert naive_map_root(values) == map_root
            assert sha256(cbor2.dumps(keys)).digest() == keys_digest
            # 8.
            assert at >= time
            epochs, covered, time, entries = epochs + 1, index + 1, at, set()
        elif kind == "signing":
            # 10.
            changed_signing(said, certificates)
        elif set(said) == {1, 2}:
            # 9. As it was before there were changes.
            assert not policies
        else:
            policies = [*policies, changed_policies(said, policies, origin)]
    assert covered == len(leaves), "leaves that no epoch covers"
    return keys


def vkey_of(public: bytes, origin: str = ORIGIN) -> str:
    """A log's key as C2SP signed-note spells it."""
    typed = b"\x01" + public
    key_id = sha256(f"{origin}\n".encode() + typed).digest()[:4]
    return f"{origin}+{key_id.hex()}+{b64encode(typed).decode()}"


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
    leaves = stored_leaves(ledger)
    keys = check_rules(leaves)

    def checked(note: bytes) -> int:
        size = int(note.splitlines()[1])
        # Retired keys may sign beside the one that is in force, never alone.
        in_force = [vkey_of(public) for role, public, since in keys if role == "log" and since < size]
        size, root = signed_head(note, in_force[-1] if in_force else str(ledger.verifier))
        assert size <= len(leaves)
        assert naive_root(leaves[:size]) == root
        # What is signed ends with the epoch that gives its entries their tags.
        assert size == 0 or statement(leaves[size - 1], ORIGIN)[0] == "epoch"
        return size

    size = checked(ledger.checkpoint())
    assert all(checked(note) <= size for note in earlier)
    return size
