"""Every record about one person, and the proof that none was left out: one file, checked offline.

    {"schema": "countersign/list/v1", "origin", "cameo_id", "list_key": K,
     "checkpoint": "ledger.example/likeness\\n8\\n…",               a note the log signed and witnesses cosigned
     "epoch": {"leaf", "path"},                                   its last leaf: map root, key table digest, time
     "keys": [{"role", "public", "since"}, …],                    every key the service ever had
     "records": [{"index", "body", "secret", "role", "leaf", "commitments", "path", "map"}, …],
     "absent": …,                                                 that there is no tag t_k, for k records
     "extends": {"size", "path"} | null}                          that the log the reader saw last is a prefix

All binary values are base64. What :func:`verify` proves, under the reader's own :class:`~ledger.log.policy.Policy`:

1. the log signed the checkpoint, a quorum of witnesses cosigned it, and the epoch is its last leaf, dated no
   later than that;
2. each record is a leaf of that log, by the service key in force at its place, and commits to exactly this body,
   as the n-th about the holder of K;
3. tags t_0 … t_{k-1} are assigned to exactly these leaves, and t_k to none: so k is the whole number;
4. K is the key that record 0, this person's account or enrolment, names: so nobody else's short list stands in;
5. the story holds (:mod:`ledger.consent.story`): every use under a live grant, and none after its revocation;
6. against what the reader saw before (:class:`Seen`): the same key, the same records and only newer ones, the
   same log grown.

What it does not prove: that the service records what it does (an app's evidence of a use that is not here is
evidence against it: :func:`find`), nor that the log keeps its epoch rules elsewhere (:mod:`ledger.log.monitor`
checks that). One leaf can commit to two n-th records about the same person, to be shown to different readers:
one who comes back notices, two must compare `records_sha256`.
Whoever holds K can recognise this person's entries in the public log, also future ones: it is the person's.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ledger.canonical import canonical, sha256
from ledger.consent.grant import CLOCK_SKEW
from ledger.consent.story import Record, Story, moment, replay
from ledger.errors import InvalidStatement, LogError, Violation
from ledger.ids import CameoId, Digest, LeafIndex, PersonId
from ledger.keys import Rotated, tag_of
from ledger.log.leaf import Opening, open_leaf, verify_opening
from ledger.log.merkle import (
    MAX_SIZE,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)
from ledger.log.note import Checkpoint, Signature, VerifierKey, open_checkpoint
from ledger.log.policy import Policy
from ledger.log.prefixmap import MapProof, value_of, verify_absent, verify_present
from ledger.log.public import Epoch, KeyTable, open_public
from ledger.log.publisher import size_of
from ledger.log.replica import Replica
from ledger.store.transaction import Transaction

SCHEMA = "countersign/list/v1"


# --- building -----------------------------------------------------------------------------------------------


def prove(
    tx: Transaction, replica: Replica, person: PersonId, cameo: CameoId, note: bytes, *, since: int = 0
) -> dict[str, Any]:
    """The list of one person as of the published checkpoint `note`. `since`: the size the reader saw last.

    Raises NotFound after erasure, LogError for a checkpoint that no epoch ends.
    """
    size = size_of(note)
    covered, node = replica.covered(size), replica.tree.node
    held = tx.held(person)
    records = [one for one in tx.entries(person) if one.index < size]
    statements = tx.statements(one.index for one in records)
    listed = []
    for n, one in enumerate(records):
        leaf, commitments = statements[one.index]
        listed.append(
            {
                "index": one.index,
                "body": dict(one.body),
                "secret": _b64(one.opening.secret),
                "role": one.opening.label,
                "leaf": _b64(leaf),
                "commitments": [_b64(commitment) for commitment in commitments],
                "path": _path(inclusion_proof(one.index, size, node)),
                "map": covered.map.prove(tag_of(held.list_key, n)).as_json(),
            }
        )
    extends = (
        {"size": since, "path": _path(consistency_proof(since, size, node))} if 0 < since <= size else None
    )
    return {
        "schema": SCHEMA,
        "origin": replica.origin,
        "cameo_id": cameo,
        "list_key": _b64(held.list_key),
        "checkpoint": note.decode(),
        "epoch": {"leaf": _b64(covered.epoch_leaf), "path": _path(inclusion_proof(size - 1, size, node))},
        "keys": covered.keys.as_json(),
        "records": listed,
        "absent": covered.map.prove(tag_of(held.list_key, len(records))).as_json(),
        "extends": extends,
    }


# --- what a reader remembers --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seen:
    """What one visit established, for the next one to hold the log to."""

    origin: str
    cameo_id: str
    size: int
    root: str
    count: int
    records_sha256: str
    """Over the places and bodies of the records, so that readers can compare what they were shown."""
    list_key_sha256: str
    time: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Verified:
    """A list that was proven to be whole, and its story to hold."""

    seen: Seen
    checkpoint: Checkpoint
    witnesses: tuple[Signature, ...]
    keys: KeyTable
    records: tuple[Record, ...]
    story: Story
    extends: int | None
    """The size of the log the reader saw last, proven to be a prefix; None at a first visit."""


# --- checking -----------------------------------------------------------------------------------------------


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


_Text = Annotated[str, Field(max_length=1 << 18)]
"""A leaf of 65,535 bytes or a note of 256 KiB; and Unicode, which JSON does not promise."""
_Place = Annotated[int, Field(ge=0, le=MAX_SIZE)]


class _Path(_Strict):
    leaf: _Text
    path: list[_Text]


class _Key(_Strict):
    role: Rotated
    public: _Text
    since: _Place


class _Record(_Strict):
    index: _Place
    body: dict[str, Any]
    secret: _Text
    role: _Text
    leaf: _Text
    commitments: list[_Text]
    path: list[_Text]
    map: dict[str, Any]


class _Extends(_Strict):
    size: _Place
    path: list[_Text]


class _Bundle(_Strict):
    schema_: Literal["countersign/list/v1"] = Field(alias="schema")
    origin: _Text
    cameo_id: _Text
    list_key: _Text
    checkpoint: _Text
    epoch: _Path
    keys: list[_Key]
    records: list[_Record]
    absent: dict[str, Any]
    extends: _Extends | None


def verify(bundle: Mapping[str, Any], policy: Policy, seen: Seen | None = None) -> Verified:
    """The list, once everything about it holds. Raises LogError or Violation, which name what does not.

    `policy` must come from where the reader trusts it, not with the bundle.
    """
    parsed = _parse(bundle)
    # 1. The checkpoint is the log's, and was witnessed. Size and root come from it alone.
    opened = policy.open(parsed.checkpoint.encode())
    checkpoint = opened.checkpoint
    if checkpoint.origin != parsed.origin:
        raise LogError("list.origin", f"the checkpoint is of the log `{checkpoint.origin}`")
    # 2. Its last leaf is an epoch, by a key of the table whose digest that epoch carries.
    epoch, table = _epoch(parsed, checkpoint)
    seen_at = [signature.at.timestamp() for signature in opened.witnesses if signature.at is not None]
    if seen_at and epoch.time > max(seen_at) + CLOCK_SKEW.total_seconds():
        raise LogError("list.time", "the log is dated after the moment at which witnesses saw it")
    # A retired log key may sign beside its successor, never alone.
    in_force = table.at("log", checkpoint.size - 1)
    if in_force is None:
        raise LogError("list.keys", "the log names no key that signs its checkpoints")
    open_checkpoint(parsed.checkpoint.encode(), VerifierKey(checkpoint.origin, in_force))
    # 3. Each record is in the log, is about the holder of K, and stands under its tag.
    key = _bytes(parsed.list_key, 32)
    records = [_record(one, n, key, epoch, table, checkpoint) for n, one in enumerate(parsed.records)]
    # 4. There is no other.
    try:
        verify_absent(epoch.map_root, tag_of(key, len(records)), MapProof.parse(parsed.absent))
    except LogError as error:
        sentence = (
            f"the list ends at `{len(records)}` records, but the log was not shown to hold no further one"
        )
        raise LogError("list.incomplete", f"{sentence}: {error}") from error
    # 5. K is this person's.
    _own_key(parsed, records, key)
    # 6. The story.
    story = replay(records, epoch.time)
    now = Seen(
        parsed.origin,
        parsed.cameo_id,
        checkpoint.size,
        checkpoint.root.hex(),
        len(records),
        _digest(records),
        sha256(key).hex(),
        epoch.time,
    )
    # 7. What was seen before still holds.
    extends = _against(seen, now, parsed, records) if seen is not None else None
    return Verified(now, checkpoint, opened.witnesses, table, tuple(records), story, extends)


def find(
    verified: Verified,
    index: int,
    leaf: bytes,
    path: Sequence[bytes],
    commitments: Sequence[bytes],
    opening: Opening,
    body: Mapping[str, Any],
) -> LeafIndex:
    """Where an app's evidence of a use is in a list. `path` leads from the leaf to the root under the list.

    Raises Violation when the list does not hold it: the service then signed a use that it hid, and everything
    given here convicts it. Raises LogError for what is no evidence about this likeness.
    """
    seen, checkpoint, digest = verified.seen, verified.checkpoint, _body_digest(body)
    # 1. It is about this likeness, and numbers this person's list, not that of whoever asked.
    if body.get("cameo_id") != seen.cameo_id or opening.label != "depicted":
        raise LogError("list.other", "the evidence is not about this likeness")
    # 2. The log holds it, by the service's own signature.
    verify_inclusion(leaf_hash(leaf), index, checkpoint.size, path, checkpoint.root)
    signed = open_leaf(leaf, checkpoint.origin, _service(verified.keys, index))
    verify_opening(signed, commitments, opening, digest)
    # 3. So the list must hold it too: there, as that number, in those words.
    listed = verified.records[opening.n] if opening.n < seen.count else None
    if listed is None or listed[0] != index or _body_digest(listed[1]) != digest:
        sentence = (
            f"the log holds a record `{opening.n}` about this likeness at `{index}` that the list does not"
        )
        raise Violation("list.hidden", sentence, index, leaf)
    return listed[0]


def _parse(bundle: Mapping[str, Any]) -> _Bundle:
    try:
        return _Bundle.model_validate(dict(bundle) if isinstance(bundle, Mapping) else bundle)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise LogError("list.form", f"the file is not a list as we write it: see `{where}`") from error


def _epoch(parsed: _Bundle, checkpoint: Checkpoint) -> tuple[Epoch, KeyTable]:
    lengths = {"service": 32, "log": 32, "receipt": 65}
    table = KeyTable(
        tuple((row.role, _bytes(row.public, lengths[row.role]), row.since) for row in parsed.keys)
    )
    leaf, last = _bytes(parsed.epoch.leaf), checkpoint.size - 1
    verify_inclusion(leaf_hash(leaf), last, checkpoint.size, _hashes(parsed.epoch.path), checkpoint.root)
    service = table.at("service", last)
    public = open_public(leaf, parsed.origin, [service] if service else [])
    if public.kind != "epoch":
        raise LogError("list.epoch", "the last leaf under the checkpoint is not an epoch")
    epoch = Epoch.parse(public.payload)
    if table.digest() != epoch.keys_digest:
        raise LogError("list.keys", "the table of the service's keys is not the one the log holds")
    return epoch, table


def _record(
    one: _Record, n: int, key: bytes, epoch: Epoch, table: KeyTable, checkpoint: Checkpoint
) -> Record:
    leaf, digest = _bytes(one.leaf), _body_digest(one.body)
    # a. The leaf is where it says, under the root the log signed.
    verify_inclusion(leaf_hash(leaf), one.index, checkpoint.size, _hashes(one.path), checkpoint.root)
    # b. The service signed it, with the key that counted there.
    signed = open_leaf(leaf, checkpoint.origin, _service(table, one.index))
    # c. It commits to this body, as the n-th about this person.
    opening = Opening(_bytes(one.secret, 32), one.role, n, digest)
    verify_opening(signed, [_bytes(commitment, 32) for commitment in one.commitments], opening, digest)
    # d. The log's map gives their n-th tag to exactly this leaf.
    value = value_of(one.index, leaf_hash(leaf))
    verify_present(epoch.map_root, tag_of(key, n), value, MapProof.parse(one.map))
    return LeafIndex(one.index), one.body


def _service(table: KeyTable, index: int) -> list[Ed25519PublicKey]:
    public = table.at("service", index)
    return [Ed25519PublicKey.from_public_bytes(public)] if public else []


def _body_digest(body: Mapping[str, Any]) -> Digest:
    try:
        return sha256(canonical(body))
    except InvalidStatement as error:
        raise LogError("list.form", f"a record is not in the form it should have: {error}") from error


def _digest(records: Sequence[Record]) -> str:
    return sha256(b"".join(index.to_bytes(8, "big") + _body_digest(body) for index, body in records)).hex()


def _own_key(parsed: _Bundle, records: Sequence[Record], key: bytes) -> None:
    first = records[0][1] if records else {}
    begins = first.get("kind") in {"enrolment", "account"}
    enrolled = [body.get("cameo_id") for _, body in records if body.get("kind") == "enrolment"]
    if not begins or enrolled[:1] != [parsed.cameo_id]:
        sentence = "the list does not begin with the account or the enrolment of this likeness"
        raise LogError("list.enrolment", sentence)
    if any(
        body.get("list_key") != sha256(key).hex()
        for _, body in records
        if body.get("kind") in {"enrolment", "account"}
    ):
        raise LogError("list.key", "the list is numbered with another key than the enrolment names")


def _against(seen: Seen, now: Seen, parsed: _Bundle, records: Sequence[Record]) -> int:
    if (seen.origin, seen.cameo_id) != (now.origin, now.cameo_id):
        raise LogError("list.other", "this is the list of another likeness, or of another log")
    if seen.list_key_sha256 != now.list_key_sha256:
        raise Violation("list.key", "the list is numbered with another key than at your last visit", now.size)
    if now.size < seen.size or now.time < seen.time:
        sentence = f"the log holds `{now.size}` leaves; at your last visit it held `{seen.size}`"
        raise Violation("list.shrunk_log", sentence, now.size)
    if now.count < seen.count:
        sentence = f"`{now.count}` records are listed; at your last visit there were `{seen.count}`"
        raise Violation("list.shrunk", sentence, now.size)
    # A map that was changed behind the monitors' backs, or a leaf with two faces, would pass all that came before.
    if _digest(records[: seen.count]) != seen.records_sha256:
        raise Violation("list.rewritten", "the records are not those of your last visit", now.size)
    for n, (index, body) in enumerate(records[seen.count :], seen.count):
        # A record that was not there before cannot claim to be older than what was there.
        if index < seen.size:
            raise Violation("list.rewritten", f"record `{n}` was left out at your last visit", index)
        if moment(body["at"]).timestamp() < seen.time:
            raise Violation("list.backdated", f"record `{n}` is new, but dated before your last visit", index)
    return _grown(seen, now, parsed.extends)


def _grown(seen: Seen, now: Seen, extends: _Extends | None) -> int:
    """That the log the reader saw is a prefix of this one; an answer without that would launder a fork."""
    if now.size == seen.size:  # whatever it extends, it is to be the very log of the last visit
        extends = _Extends(size=now.size, path=[])
    if extends is None or extends.size != seen.size:
        raise LogError(
            "list.unconnected",
            f"nothing shows that the log extends the `{seen.size}` leaves of your last visit",
            f"ask for the proof again, with `since={seen.size}`",
        )
    old, new = bytes.fromhex(seen.root), bytes.fromhex(now.root)
    try:
        verify_consistency(seen.size, now.size, _hashes(extends.path), old, new)
    except LogError as error:
        raise Violation("list.forked", "the log does not extend the one you saw last", now.size) from error
    return seen.size


def _path(hashes: Sequence[bytes]) -> list[str]:
    return [_b64(one) for one in hashes]


def _hashes(path: Sequence[str]) -> list[bytes]:
    return [_bytes(one, 32) for one in path]


def _b64(data: bytes) -> str:
    return b64encode(data).decode()


def _bytes(text: str, length: int | None = None) -> bytes:
    """One spelling only: the last character of base64 has bits that a lax decoder ignores."""
    try:
        data = b64decode(text, validate=True)
    except ValueError as error:
        raise LogError("list.form", "a value is not base64") from error
    if _b64(data) != text or (length is not None and len(data) != length):
        raise LogError("list.form", "a value is not canonical base64 of the length it should have")
    return data
