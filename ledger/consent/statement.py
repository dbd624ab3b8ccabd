"""Signed statements about people: who signs what, and how anyone checks it offline.

| kind       | tag                         | signed by                                 |
|------------|-----------------------------|-------------------------------------------|
| grant      | ``countersign/grant/v1``    | the person, with their device or passkey  |
| enrolment  | ``countersign/enrolment/v1``| the operator who saw the person           |
| session    | ``countersign/session/v1``  | the person's key, over a fresh nonce      |
| device     | ``countersign/device/v1``   | the person, with a key they already have  |
| recovery   | ``countersign/recovery/v1`` | the person, for new codes, over a nonce   |
| guardianship | ``countersign/guardianship/v1`` | the guardian, and the operator who vouches |
| handover   | ``countersign/handover/v1`` | the person, once they are of age          |

The signature is over :func:`ledger.canonical.challenge`: a device signs these 32 bytes, a passkey signs an assertion
whose challenge they are. The evidence is stored whole, so that anyone can check it offline.
"""

import base64
import binascii
from collections.abc import Iterable
from datetime import date
from typing import Annotated, Literal, NamedTuple, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import Field, ValidationError, model_validator

from ledger.canonical import canonical, challenge
from ledger.consent import passkey
from ledger.consent.grant import StatedMoment, Strict
from ledger.errors import InvalidStatement

GRANT_TAG = "countersign/grant/v1"
ENROLMENT_TAG = "countersign/enrolment/v1"
SESSION_TAG = "countersign/session/v1"
DEVICE_TAG = "countersign/device/v1"
RECOVERY_TAG = "countersign/recovery/v1"
GUARDIANSHIP_TAG = "countersign/guardianship/v1"
HANDOVER_TAG = "countersign/handover/v1"


class DeviceSignature(Strict):
    """Ed25519 (RFC 8032) over the statement's challenge, by a key held on the signer's device."""

    type: Literal["device"]
    public_key: Annotated[str, Field(max_length=64)]
    signature: Annotated[str, Field(max_length=128)]

    @property
    def key_id(self) -> str:
        return self.public_key


class PasskeyAssertion(Strict):
    """A WebAuthn Level 3 assertion (§5.2.2) whose challenge is the statement's; fields are base64url without padding."""

    type: Literal["passkey"]
    credential_id: Annotated[str, Field(max_length=1400)]
    authenticator_data: Annotated[str, Field(max_length=4096)]
    client_data_json: Annotated[str, Field(max_length=4096)]
    signature: Annotated[str, Field(max_length=2048)]

    @property
    def key_id(self) -> str:
        return self.credential_id


Evidence = Annotated[DeviceSignature | PasskeyAssertion, Field(discriminator="type")]
"""How a statement was signed."""


class Signer(Strict):
    """A key that signs for a person, as it was registered: what evidence is checked against.

    Of a passkey: COSE_Key (RFC 9052 §7) in base64url, the relying party it is bound to, and the page it was made on.
    Of a device: its Ed25519 key, which is its id as well.
    """

    id: Annotated[str, Field(max_length=1400)]
    kind: Literal["device", "passkey"]
    public_key: Annotated[str, Field(max_length=1400)]
    rp_id: Annotated[str, Field(max_length=255)] = ""
    origin: Annotated[str, Field(max_length=255)] = ""

    @model_validator(mode="after")
    def _is_what_it_says(self) -> "Signer":
        # Evidence finds its key by this id: another key behind a device's would sign in its name.
        if self.kind == "device" and (self.id != self.public_key or self.rp_id or self.origin):
            raise ValueError("a device's key is its own id, and is bound to no site")
        if self.kind == "passkey" and not (self.rp_id and self.origin):
            raise ValueError("a passkey is bound to a site")
        return self


def device(public_key: str) -> Signer:
    """The signer that a device's Ed25519 key is."""
    return Signer(id=public_key, kind="device", public_key=public_key)


class Enrolment(Strict):
    """An operator's word that they saw this person, checked their age, and took this picture of them.

    Recorded as *vouched*: no liveness check was made, and every reader is told so.
    """

    schema_: Annotated[Literal["countersign/enrolment/v1"], Field(alias="schema")]
    path: Literal["vouched"]
    operator: Annotated[str, Field(min_length=1, max_length=64)]
    display_name: Annotated[str, Field(min_length=1, max_length=80)]
    device_key: Annotated[str, Field(max_length=64)] | None = None
    """The Ed25519 key of someone who has no account yet; exactly one of this and `person_id`."""
    person_id: Annotated[str, Field(pattern=r"^person_[0-9a-z]{26}$")] | None = None
    """Whose account it is."""
    born_on: date | None
    portrait_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    issued: StatedMoment
    alike: Literal[True] | None = None
    """The operator knows that a face like this one is enrolled already, and that this is right: twins, say."""

    @model_validator(mode="after")
    def _of_one_person(self) -> "Enrolment":
        if (self.device_key is None) == (self.person_id is None):
            raise ValueError("name either a `device_key` or a `person_id`")
        return self

    def signed_bytes(self) -> bytes:
        # What is not said is left out: the bytes of an enrolment by device key are what they always were.
        return canonical(self.model_dump(mode="json", by_alias=True, exclude_unset=True))


class KeyAddition(Strict):
    """A person's word, signed with a key they have, that another key signs for them as well."""

    schema_: Annotated[Literal["countersign/device/v1"], Field(alias="schema")]
    person_id: Annotated[str, Field(pattern=r"^person_[0-9a-z]{26}$")]
    key: Signer
    issued: StatedMoment

    def signed_bytes(self) -> bytes:
        return canonical(self.model_dump(mode="json", by_alias=True))


class Guardianship(Strict):
    """A guardian's word that they answer for a minor, and how far they let the minor's likeness be used."""

    schema_: Annotated[Literal["countersign/guardianship/v1"], Field(alias="schema")]
    guardian: Annotated[str, Field(pattern=r"^person_[0-9a-z]{26}$")]
    ward: Annotated[str, Field(pattern=r"^person_[0-9a-z]{26}$")]
    relation: Literal["parent", "legal_guardian"]
    max_uses: Annotated[int, Field(ge=1, le=1000, strict=True)]
    """How many uses a grant may have at most."""
    with_adults: bool
    """Whether the minor may be shown together with adults who are not their guardians."""
    issued: StatedMoment

    @model_validator(mode="after")
    def _of_another(self) -> "Guardianship":
        if self.guardian == self.ward:
            raise ValueError("nobody is their own guardian")
        return self

    def within(self, signed: "Guardianship") -> bool:
        """Whether this allows at most what a guardian signed, between the same two."""
        same = (self.guardian, self.ward, self.relation) == (signed.guardian, signed.ward, signed.relation)
        return same and self.max_uses <= signed.max_uses and self.with_adults <= signed.with_adults

    def signed_bytes(self) -> bytes:
        return canonical(self.model_dump(mode="json", by_alias=True))


class Handover(Strict):
    """A person who had a guardian is of age now, and wants their likeness to stay."""

    schema_: Annotated[Literal["countersign/handover/v1"], Field(alias="schema")]
    person_id: Annotated[str, Field(pattern=r"^person_[0-9a-z]{26}$")]
    cameo_id: Annotated[str, Field(pattern=r"^cameo_[0-9a-z]{26}$")]
    issued: StatedMoment

    def signed_bytes(self) -> bytes:
        return canonical(self.model_dump(mode="json", by_alias=True))


S = TypeVar("S", bound=Strict)


def parse_guardianship(value: object) -> Guardianship:
    """A guardianship from outside. Raises InvalidStatement naming the field that is wrong."""
    return parsed(Guardianship, "guardianship", value)


def parsed(kind: type[S], name: str, value: object) -> S:
    """A statement from outside. Raises InvalidStatement (`name.malformed`) naming the field that is wrong."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidStatement(
            f"{name}.malformed", f"the {name}'s field `{where[:80]}` is wrong: {first['msg'].lower()}"
        ) from error


def parse_enrolment(value: object) -> Enrolment:
    """An enrolment from outside. Raises InvalidStatement naming the field that is wrong."""
    return parsed(Enrolment, "enrolment", value)


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


class Signed(NamedTuple):
    """Who signed, and what their passkey's counter then said (0 for a key that does not count)."""

    signer: Signer
    sign_count: int


def verify(
    tag: str, statement: bytes, evidence: Evidence, *, signers: Iterable[Signer], sign_count: int = 0
) -> Signed:
    """The one of `signers` who signed exactly these bytes. For a passkey: having verified who held it.

    Raises InvalidStatement when another key signed, when the text is not what was signed, and for an assertion made
    elsewhere (`passkey.origin`, `passkey.rp_id`), for something else (`passkey.ceremony`), or by whoever held the
    device (`passkey.user_verification`). `sign_count`: what the passkey's counter has to be above; 0 offline.
    """
    signer = next((one for one in signers if one.id == evidence.key_id), None)
    match evidence:
        case DeviceSignature() if signer is not None and signer.kind == "device":
            key = Ed25519PublicKey.from_public_bytes(decode_bytes(signer.public_key, 32))
            try:
                key.verify(decode_bytes(evidence.signature, 64), challenge(tag, statement))
            except InvalidSignature as error:
                raise altered() from error
            return Signed(signer, 0)
        case PasskeyAssertion() if signer is not None and signer.kind == "passkey":
            count = passkey.check(
                challenge(tag, statement),
                passkey.Assertion(
                    evidence.credential_id,
                    evidence.authenticator_data,
                    evidence.client_data_json,
                    evidence.signature,
                ),
                public_key=signer.public_key,
                rp_id=signer.rp_id,
                origin=signer.origin,
                sign_count=sign_count,
            )
            return Signed(signer, count)
        case _:
            raise wrong_signer()


def altered() -> InvalidStatement:
    return InvalidStatement(
        "statement.altered",
        "the signature does not match the text: it was altered after signing, or signed as something else",
        "ask for a new preview and sign that",
    )


def wrong_signer() -> InvalidStatement:
    return InvalidStatement(
        "statement.wrong_signer",
        "the statement is signed by a key that is not the one on record",
        "sign with the device that was enrolled",
    )
