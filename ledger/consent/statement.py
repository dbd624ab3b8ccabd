"""Signed statements about people: who signs what, and how anyone checks it offline.

| kind       | tag                         | signed by                                 |
|------------|-----------------------------|-------------------------------------------|
| grant      | ``countersign/grant/v1``    | the person, with their device or passkey  |
| enrolment  | ``countersign/enrolment/v1``| the operator who saw the person           |
| session    | ``countersign/session/v1``  | the person's device, over a fresh nonce   |

The signature is over :func:`ledger.canonical.challenge`, the 32 bytes a WebAuthn assertion would also carry,
so a passkey's evidence joins the union below without changing a statement. The evidence is stored whole.
"""

import base64
import binascii
from datetime import date
from typing import Annotated, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import Field, ValidationError

from ledger.canonical import canonical, challenge
from ledger.consent.grant import Moment, Strict
from ledger.errors import InvalidStatement

GRANT_TAG = "countersign/grant/v1"
ENROLMENT_TAG = "countersign/enrolment/v1"
SESSION_TAG = "countersign/session/v1"


class DeviceSignature(Strict):
    """Ed25519 (RFC 8032) over the statement's challenge, by a key held on the signer's device."""

    type: Literal["device"]
    public_key: Annotated[str, Field(max_length=64)]
    signature: Annotated[str, Field(max_length=128)]


Evidence = Annotated[DeviceSignature, Field(description="how the statement was signed")]


class Enrolment(Strict):
    """An operator's word that they saw this person, checked their age, and took this picture of them.

    Recorded as *vouched*: no liveness check was made, and every reader is told so.
    """

    schema_: Annotated[Literal["countersign/enrolment/v1"], Field(alias="schema")]
    path: Literal["vouched"]
    operator: Annotated[str, Field(min_length=1, max_length=64)]
    display_name: Annotated[str, Field(min_length=1, max_length=80)]
    device_key: Annotated[str, Field(max_length=64)]
    born_on: date | None
    portrait_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    issued: Moment

    def signed_bytes(self) -> bytes:
        return canonical(self.model_dump(mode="json", by_alias=True))


def parse_enrolment(value: object) -> Enrolment:
    """An enrolment from outside. Raises InvalidStatement naming the field that is wrong."""
    try:
        return Enrolment.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidStatement(
            "enrolment.malformed", f"the enrolment's field `{where[:80]}` is wrong: {first['msg'].lower()}"
        ) from error


def encode_key(key: Ed25519PublicKey | bytes) -> str:
    """Base64url without padding, 43 characters for a public key."""
    raw = key if isinstance(key, bytes) else key.public_bytes_raw()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode_bytes(text: str, length: int) -> bytes:
    """Base64url without padding, of exactly `length` bytes. Raises InvalidStatement."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidStatement("statement.encoding", "a key or signature is not base64url") from error
    if len(raw) != length or encode_key(raw) != text:
        raise InvalidStatement("statement.encoding", f"a key or signature is not {length} bytes of base64url")
    return raw


def sign(tag: str, statement: bytes, key: Ed25519PrivateKey) -> DeviceSignature:
    return DeviceSignature(
        type="device",
        public_key=encode_key(key.public_key()),
        signature=encode_key(key.sign(challenge(tag, statement))),
    )


def verify(tag: str, statement: bytes, evidence: DeviceSignature, *, expected_key: str) -> bytes:
    """The statement's bytes, once the evidence proves that `expected_key` signed exactly them.

    Raises InvalidStatement when another key signed, or when the text is not what was signed.
    """
    if evidence.public_key != expected_key:
        raise wrong_signer()
    key = Ed25519PublicKey.from_public_bytes(decode_bytes(evidence.public_key, 32))
    try:
        key.verify(decode_bytes(evidence.signature, 64), challenge(tag, statement))
    except InvalidSignature as error:
        raise InvalidStatement(
            "statement.altered",
            "the signature does not match the text: it was altered after signing, or signed as something else",
            "ask for a new preview and sign that",
        ) from error
    return statement


def wrong_signer() -> InvalidStatement:
    return InvalidStatement(
        "statement.wrong_signer",
        "the statement is signed by a key that is not the one on record",
        "sign with the device that was enrolled",
    )
