"""Certificates that something was destroyed, and how anyone checks one offline.

| schema                      | the entry  | says besides                                                   |
|-----------------------------|------------|----------------------------------------------------------------|
| ``countersign/erasure/v1``  | `erasure`  | how many records can no longer be read, this one included      |
| ``countersign/deletion/v1`` | `deletion` | by which rule, what, how many, and the SHA-256 of each         |

    {"schema", "origin", "index", "n", "role", "body", "secret",       the entry, and the opening of its commitment
     "leaf", "commitments",                                           what the log holds of it
     "proof": tlog-proof | null, …}

:func:`verify` shows that the log holds, at this place, a leaf that commits to exactly this body as the n-th about
somebody. It does not show that nothing was kept: a service that lies about that has signed the lie.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ledger.canonical import canonical, sha256
from ledger.errors import InvalidStatement, LogError
from ledger.ids import Digest, LeafIndex
from ledger.log.leaf import Opening, verify_opening, vouched_leaf
from ledger.log.merkle import MAX_SIZE, leaf_hash, verify_inclusion
from ledger.log.note import SignedCheckpoint, TlogProof
from ledger.log.policy import Policy

ERASURE: Literal["countersign/erasure/v1"] = "countersign/erasure/v1"
DELETION: Literal["countersign/deletion/v1"] = "countersign/deletion/v1"
_SAID = ("rule", "what", "count", "sha256s")
_Text = Annotated[str, Field(max_length=1 << 18)]


class InLog(BaseModel):
    """One entry, with what shows that the log holds it. Base64 in standard form; `proof` a C2SP tlog-proof file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    origin: _Text
    index: Annotated[int, Field(ge=0, le=MAX_SIZE)]
    n: Annotated[int, Field(ge=0, le=MAX_SIZE)]
    role: _Text
    body: dict[str, Any]
    secret: _Text
    leaf: _Text
    commitments: list[_Text]
    proof: _Text | None


class _Certificate(InLog):
    schema_: Literal["countersign/erasure/v1", "countersign/deletion/v1"] = Field(alias="schema")
    records_destroyed: int | None = None
    rule: _Text | None = None
    what: _Text | None = None
    count: int | None = None
    sha256s: list[_Text] | None = None


@dataclass(frozen=True, slots=True)
class Certified:
    """What a certificate was shown to say: the entry's place and body, under a checkpoint one believes."""

    index: LeafIndex
    body: Mapping[str, Any]
    checkpoint: SignedCheckpoint


def certificate(
    index: LeafIndex,
    body: Mapping[str, Any],
    opening: Opening,
    leaf: bytes,
    commitments: Sequence[bytes],
    *,
    origin: str,
    proof: str | None,
    records_destroyed: int | None = None,
) -> dict[str, Any]:
    """The certificate for one entry: of an erasure with `records_destroyed`, else of a deletion."""
    said = (
        {name: body[name] for name in _SAID}
        if records_destroyed is None
        else {"records_destroyed": records_destroyed}
    )
    return {
        "schema": DELETION if records_destroyed is None else ERASURE,
        "origin": origin,
        "index": index,
        "n": opening.n,
        "role": opening.label,
        "body": dict(body),
        "secret": b64encode(opening.secret).decode(),
        "leaf": b64encode(leaf).decode(),
        "commitments": [b64encode(commitment).decode() for commitment in commitments],
        "proof": proof,
        **said,
    }


def verify(value: Mapping[str, Any], policy: Policy) -> Certified:
    """What a certificate says, once everything about it holds. Raises LogError, which names what does not."""
    try:
        said = _Certificate.model_validate(dict(value))
        digest = sha256(canonical(said.body))
    except (ValidationError, InvalidStatement) as error:
        raise _wrong("form", "the file is not a certificate as we write it") from error
    # 1. to 3. The entry is in the log.
    opened = held(said, digest, policy)
    # 4. The body says what the certificate says.
    kind = "erasure" if said.schema_ == ERASURE else "deletion"
    repeated = all(getattr(said, name) == said.body.get(name) for name in _SAID)
    if said.body.get("kind") != kind or not (repeated if kind == "deletion" else _counts(said)):
        raise _wrong("says", f"the entry is not the {kind} that the certificate says it is")
    return Certified(LeafIndex(said.index), said.body, opened)


def held(said: InLog, digest: Digest, policy: Policy) -> SignedCheckpoint:
    """The checkpoint under which the log holds this entry, whose body has this digest. Raises LogError."""
    # 1. The log signed the checkpoint, and whoever the policy asks for has witnessed it.
    if said.proof is None:
        raise LogError(
            "certificate.no_proof",
            "the certificate was given before the log was published with its entry in it",
            f"ask the log for its proof of entry `{said.index}`",
        )
    proof = TlogProof.parse(said.proof.encode())
    opened = policy.open(proof.checkpoint)
    if opened.checkpoint.origin != said.origin or proof.index != said.index:
        raise _wrong("other", "the proof is of another entry, or of another log")
    # 2. The leaf is in that log, at this place.
    leaf = _bytes(said.leaf)
    verify_inclusion(leaf_hash(leaf), said.index, opened.checkpoint.size, proof.path, opened.checkpoint.root)
    # 3. It commits to exactly this body, as the n-th about somebody.
    opening = Opening(_bytes(said.secret), said.role, said.n, digest)
    verify_opening(vouched_leaf(leaf, said.origin), list(map(_bytes, said.commitments)), opening, digest)
    return opened


def _counts(said: _Certificate) -> bool:
    # An erasure is the last entry about somebody, so its number is how many came before it.
    return said.records_destroyed == said.n + 1


def _wrong(what: str, sentence: str) -> LogError:
    return LogError(f"certificate.{what}", sentence, "ask for the certificate again")


def _bytes(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError as error:
        raise _wrong("form", "the certificate holds something that is not base64") from error
