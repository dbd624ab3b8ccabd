"""What shows that a manifest is in the log: the receipt of the C2PA Soft Binding Resolution API 2.4.

    {"@context": {…}, "@type": "org.c2pa.manifest-receipt",
     "repository": {"uri": where it can be asked for, "manifestId": …},
     "anchor": {"uri": the entry's own receipt, "parameters": {"origin": …, "index": …},
                "proof": {"type": "countersign/manifest/v1",
                          "statement":   the log's leaf with its RFC 9942 receipt (SCITT, RFC 9943)
                          "commitments": what the leaf's payload is the hash of
                          "opening":     what makes the one about the manifest readable
                          "body":        what it says: {"kind": "manifest", "manifest_id", "sha256", "video_id", "at"}}}}

Bytes are base64. :func:`verify` needs nothing but the log's name, its receipt keys and the manifest store: no network,
and no word of the service. It shows that the log says: this very store is the manifest of a clip that was released.
Not shown: when (`at` is the service's word; a checkpoint bounds it), and whether consent to the clip still stands.
"""

from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ledger.canonical import canonical, sha256
from ledger.errors import InvalidStatement, LogError
from ledger.ids import Digest
from ledger.log.leaf import Opening, verify_opening, vouched_leaf
from ledger.log.receipt import detach, verify_receipt
from ledger.store.journal import Opened
from ledger.store.manifests import ROLE

TYPE: Final = "org.c2pa.manifest-receipt"
PROOF: Final = "countersign/manifest/v1"
CONTEXT: Final = {"c2pa": "https://c2pa.org/ns/", "receipt": "https://c2pa.org/ns/manifest-receipt#"}
_STRICT = ConfigDict(extra="forbid", strict=True)


class _Opening(BaseModel):
    model_config = _STRICT

    secret: str = Field(max_length=64)
    n: int
    value: str = Field(max_length=64)


class _Proof(BaseModel):
    model_config = _STRICT

    type: str
    statement: str = Field(max_length=1 << 16)
    commitments: list[str] = Field(max_length=1000)
    opening: _Opening
    body: dict[str, Any]


class _Anchor(BaseModel):
    model_config = _STRICT

    uri: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    proof: _Proof


class _Repository(BaseModel):
    model_config = _STRICT

    uri: str
    manifestId: str  # noqa: N815 — the specification's name


class _Receipt(BaseModel):
    model_config = _STRICT

    context: dict[str, Any] | str = Field(alias="@context")
    type: str = Field(alias="@type")
    repository: _Repository
    anchor: _Anchor


def receipt(
    manifest_id: str,
    said: Opened,
    statement: bytes,
    commitments: Sequence[bytes],
    *,
    base_url: str,
    origin: str,
) -> dict[str, Any]:
    """The receipt for a manifest, of which the log says `said`. `statement`: that entry with its own receipt."""
    return {
        "@context": dict(CONTEXT),
        "@type": TYPE,
        "repository": {"uri": f"{base_url}/v1", "manifestId": manifest_id},
        "anchor": {
            "uri": f"{base_url}/v1/log/receipts/{said.index}",
            "parameters": {"origin": origin, "index": said.index},
            "proof": {
                "type": PROOF,
                "statement": _b64(statement),
                "commitments": [_b64(one) for one in commitments],
                "opening": {
                    "secret": _b64(said.opening.secret),
                    "n": said.opening.n,
                    "value": _b64(said.opening.value),
                },
                "body": dict(said.body),
            },
        },
    }


def verify(
    given: Mapping[str, Any],
    manifest_id: str,
    store: bytes,
    *,
    origin: str,
    keys: Iterable[ec.EllipticCurvePublicKey],
) -> None:
    """That the log named `origin` holds an entry for this manifest and this very store.

    Raises InvalidStatement for what is not a receipt at all, LogError for one that does not show it.
    """
    # 1. The receipt is of the form above, and nothing else.
    try:
        parsed = _Receipt.model_validate(dict(given))
    except ValidationError as error:
        raise _malformed() from error
    proof = parsed.anchor.proof
    if parsed.type != TYPE or proof.type != PROOF:
        raise _malformed()
    # 2. It is about this manifest.
    if not parsed.repository.manifestId == proof.body.get("manifest_id") == manifest_id:
        raise LogError("log.receipt", "the receipt is for another manifest")
    # 3. The log vouches for the leaf.
    leaf, receipts = detach(_bytes(proof.statement))
    for one in receipts:
        verify_receipt(one, leaf, keys := list(keys), origin)
    # 4. The leaf says what the body says, to those to whom a manifest is published.
    opening = Opening(
        _bytes(proof.opening.secret), ROLE, proof.opening.n, Digest(_bytes(proof.opening.value))
    )
    commitments = [_bytes(one) for one in proof.commitments]
    verify_opening(vouched_leaf(leaf, origin), commitments, opening, sha256(canonical(proof.body)))
    # 5. What it says is this: a manifest of these bytes.
    if proof.body.get("kind") != "manifest" or proof.body.get("sha256") != sha256(store).hex():
        raise LogError("log.receipt", "the log names other bytes for this manifest")


def _bytes(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (Error, ValueError) as error:
        raise _malformed() from error


def _malformed() -> InvalidStatement:
    return InvalidStatement("receipt.form", "the body is not a receipt of this repository's kind")


def _b64(data: bytes) -> str:
    return b64encode(data).decode()
