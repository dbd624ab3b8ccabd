"""A grant as somebody takes it with them: what was signed, by which keys, and that the log holds it. Pure.

    {"schema": "countersign/signed-grant/v1",
     "grant", "evidence", "cosignatures",          what was signed, and how
     "signers": [Signer, …],                       the keys it was signed with, as they were registered
     "parent": signed grant | null,                the grant this one passes on
     "log": {"origin", "vkey", "index", "n", "role", "body", "secret", "leaf", "commitments", "proof"} | null}

:func:`verify` needs nothing but the file, and the log's key from a source one trusts. It shows that the holders of
these keys signed exactly this, on which page and verified by their device, and that the log recorded it. Whose keys
they are is the service's word until it is held against the person's whole list (:mod:`ledger.log.completeness`),
which says when each key was added; that the grant still stands, no file can say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ledger.canonical import canonical, sha256
from ledger.consent.authority import Cosignature
from ledger.consent.certificate import InLog, held
from ledger.consent.grant import Grant, beyond, parse_grant
from ledger.consent.statement import GRANT_TAG, Evidence, Signer, device
from ledger.consent.statement import verify as verify_statement
from ledger.errors import InvalidStatement, LogError
from ledger.log.note import SignedCheckpoint
from ledger.log.policy import Policy

SCHEMA: Literal["countersign/signed-grant/v1"] = "countersign/signed-grant/v1"


class Logged(InLog):
    vkey: Annotated[str, Field(max_length=400)]
    """The log's key, as whoever wrote the file names it: to be compared, not believed."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: Annotated[Literal["countersign/signed-grant/v1"], Field(alias="schema")]
    grant: dict[str, Any]
    evidence: Evidence
    cosignatures: Annotated[tuple[Cosignature, ...], Field(max_length=10)]
    signers: Annotated[tuple[Signer, ...], Field(max_length=20)]
    parent: dict[str, Any] | None
    log: Logged | None


@dataclass(frozen=True, slots=True)
class Verified:
    """What a file was shown to hold. `guardians`: who signed beside the owner, and with which key."""

    grant: Grant
    signer: Signer
    guardians: Mapping[str, Signer]
    parent: "Verified | None"
    log: Logged | None
    checkpoint: SignedCheckpoint | None
    """Under which the log holds it; None where the file names no place in a log."""


def signed_grant(
    grant: Mapping[str, Any],
    evidence: Mapping[str, Any],
    cosignatures: Sequence[Mapping[str, Any]],
    signers: Sequence[Signer],
    *,
    parent: Mapping[str, Any] | None,
    log: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The file."""
    return {
        "schema": SCHEMA,
        "grant": dict(grant),
        "evidence": dict(evidence),
        "cosignatures": [dict(one) for one in cosignatures],
        "signers": [signer.model_dump() for signer in signers],
        "parent": None if parent is None else dict(parent),
        "log": None if log is None else dict(log),
    }


def read(value: Mapping[str, Any]) -> Logged | None:
    """The place in a log that a file names, nothing verified. Raises InvalidStatement for another kind of file."""
    return _parse(value).log


def verify(value: Mapping[str, Any], policy: Policy | None) -> Verified:
    """What a file says, once everything about it holds. Raises InvalidStatement or LogError, which name what does not.

    `policy`: whom to believe about the log; needed where the file names a place in one.
    """
    said = _parse(value)
    # 1. The grant is one, and its canonical bytes are what follows is about.
    grant = parse_grant(said.grant)
    signed = grant.signed_bytes()
    # 2. What it passes on holds by itself, allows as much, and names the key that signed here.
    parent = _parent(said, grant, policy)
    signers: Sequence[Signer] = said.signers
    if parent is not None:
        signers = (device(parent.grant.delegate_key or ""),)
    # 3. It was signed, and by each guardian who is said to have signed.
    signer = verify_statement(GRANT_TAG, signed, said.evidence, signers=signers).signer
    guardians = {
        one.guardian: verify_statement(GRANT_TAG, signed, one.evidence, signers=said.signers).signer
        for one in said.cosignatures
    }
    if len(guardians) != len(said.cosignatures) or signer in guardians.values():
        raise _wrong("twice", "one person, or one key, signed twice")
    # 4. The log recorded exactly this.
    return Verified(grant, signer, guardians, parent, said.log, _logged(said, grant, policy))


def _parse(value: Mapping[str, Any]) -> _File:
    try:
        return _File.model_validate(dict(value))
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise _wrong("form", f"the file is not a signed grant as we write it, in `{where[:80]}`") from error


def _parent(said: _File, grant: Grant, policy: Policy | None) -> Verified | None:
    if said.parent is None and grant.parent is None:
        return None
    if said.parent is None:
        raise _wrong("parent", "the grant passes on another one, which is not in the file")
    parent = verify(said.parent, policy)
    if parent.grant.grant_id != grant.parent or parent.grant.delegate_key is None:
        raise _wrong(
            "parent", "the grant passes on another one than the file holds, or one that is not passed on"
        )
    if wider := beyond(grant, parent.grant):
        raise InvalidStatement(
            "grant.wider",
            f"what is passed on allows more than the grant it comes from, in `{', '.join(wider)}`",
            "trust the narrower one alone",
        )
    return parent


def _logged(said: _File, grant: Grant, policy: Policy | None) -> SignedCheckpoint | None:
    if said.log is None:
        return None
    if policy is None:
        raise LogError("log.policy", "the file names a place in a log whose key is not known", "give its key")
    body = said.log.body
    recorded = {
        "kind": "grant",
        "grant": grant.model_dump(mode="json", by_alias=True),
        "evidence": said.evidence.model_dump(mode="json"),
    }
    cosigned = [one.model_dump(mode="json") for one in said.cosignatures]
    if any(body.get(name) != value for name, value in recorded.items()) or (
        body.get("cosignatures", []) != cosigned
    ):
        raise _wrong("other", "what the log recorded is not what the file says was signed")
    return held(said.log, sha256(canonical(body)), policy)


def _wrong(what: str, sentence: str) -> InvalidStatement:
    return InvalidStatement(f"signed_grant.{what}", sentence, "ask for the file again")
