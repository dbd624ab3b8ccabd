"""Passkeys: registering one, and checking what one signed (W3C Web Authentication Level 3, §7.1 and §7.2).

A registration or assertion is accepted when it is over exactly the challenge expected, was made on the page and for
the relying party the credential is bound to, by someone who was present and verified (UV), and its signature holds.
Each of these fails under its own name: `statement.altered`, `passkey.origin`, `passkey.rp_id`, `passkey.ceremony`,
`passkey.user_presence`, `passkey.user_verification`, `passkey.counter`, `passkey.malformed`. The one module that
knows the webauthn library, which checks all of it once more.

Not used: attestation. Which make of authenticator holds a key says nothing about whose face it speaks for; a statement
that comes anyway is checked, as the library can, and forgotten.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import (
    base64url_to_bytes,
    bytes_to_base64url,
    options_to_json_dict,
    parse_attestation_object,
    parse_authenticator_data,
    parse_client_data_json,
)
from webauthn.helpers.structs import (
    AuthenticatorData,
    AuthenticatorSelectionCriteria,
    ClientDataType,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from ledger.errors import InvalidStatement

TIMEOUT_MS = 300_000
_AGAIN = "try again with the device you registered here"


@dataclass(frozen=True, slots=True)
class Assertion:
    """AuthenticatorAssertionResponse; every field base64url without padding."""

    credential_id: str
    authenticator_data: str
    client_data_json: str
    signature: str


@dataclass(frozen=True, slots=True)
class Registered:
    """A new credential. `public_key`: COSE_Key, base64url. `synced`: it may be on more devices than one."""

    credential_id: str
    public_key: str
    sign_count: int
    synced: bool


def creation_options(
    *, rp_id: str, handle: bytes, name: str, challenge: bytes, exclude: Iterable[str] = ()
) -> dict[str, Any]:
    """PublicKeyCredentialCreationOptionsJSON: a discoverable credential whose holder is verified at each use."""
    options = generate_registration_options(
        rp_id=rp_id,
        rp_name="Countersign",
        user_id=handle,
        user_name=name,
        user_display_name=name,
        challenge=challenge,
        timeout=TIMEOUT_MS,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED,
            user_verification=UserVerificationRequirement.REQUIRED,
        ),
        exclude_credentials=[PublicKeyCredentialDescriptor(id=base64url_to_bytes(one)) for one in exclude],
    )
    return dict(options_to_json_dict(options))


def request_options(*, rp_id: str, challenge: bytes, allow: Iterable[str] = ()) -> dict[str, Any]:
    """PublicKeyCredentialRequestOptionsJSON. `allow`: credential ids; none lets the person choose an account."""
    options = generate_authentication_options(
        rp_id=rp_id,
        challenge=challenge,
        timeout=TIMEOUT_MS,
        allow_credentials=[PublicKeyCredentialDescriptor(id=base64url_to_bytes(one)) for one in allow],
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return dict(options_to_json_dict(options))


def register(response: Mapping[str, Any], *, challenge: bytes, rp_id: str, origin: str) -> Registered:
    """The credential in a RegistrationResponseJSON, once it is one made here, just now, by a verified person."""
    with _readable():
        answer = response["response"]
        _check_client(answer["clientDataJSON"], ClientDataType.WEBAUTHN_CREATE, challenge, origin)
        made = parse_attestation_object(_decoded(answer["attestationObject"]))
        _check_authenticator(made.auth_data, rp_id)
        data = verify_registration_response(
            credential=json.dumps(response),
            expected_challenge=challenge,
            expected_rp_id=rp_id,
            expected_origin=origin,
            require_user_verification=True,
        )
    return Registered(
        bytes_to_base64url(data.credential_id),
        bytes_to_base64url(data.credential_public_key),
        data.sign_count,
        data.credential_backed_up,
    )


def check(
    challenge: bytes,
    assertion: Assertion,
    *,
    public_key: str,
    rp_id: str,
    origin: str,
    sign_count: int = 0,
) -> int:
    """Verify an assertion over `challenge`. Returns the authenticator's counter. Raises InvalidStatement.

    `sign_count`: the last one seen. It must grow, unless the authenticator does not count (0 both times).
    """
    with _readable():
        _check_client(assertion.client_data_json, ClientDataType.WEBAUTHN_GET, challenge, origin)
        data = parse_authenticator_data(_decoded(assertion.authenticator_data))
        # One spelling: what is kept as evidence is the very text that was checked.
        _decoded(assertion.signature)
        _check_authenticator(data, rp_id)
    if (data.sign_count or sign_count) and data.sign_count <= sign_count:
        raise InvalidStatement(
            "passkey.counter",
            "this passkey's counter went back, as a copy's would",
            "sign with another device, and remove this passkey",
        )
    try:
        verified = verify_authentication_response(
            credential={
                "id": assertion.credential_id,
                "rawId": assertion.credential_id,
                "type": "public-key",
                "response": {
                    "authenticatorData": assertion.authenticator_data,
                    "clientDataJSON": assertion.client_data_json,
                    "signature": assertion.signature,
                },
            },
            expected_challenge=challenge,
            expected_rp_id=rp_id,
            expected_origin=origin,
            credential_public_key=base64url_to_bytes(public_key),
            credential_current_sign_count=sign_count,
            require_user_verification=True,
        )
    except Exception as error:
        raise InvalidStatement(
            "statement.altered",
            "the signature does not match the text: it was altered after signing, or signed as something else",
            "ask for a new preview and sign that",
        ) from error
    return int(verified.new_sign_count)


def _check_client(encoded: str, ceremony: ClientDataType, challenge: bytes, origin: str) -> None:
    """What the browser says it was asked (§7.2 steps 10 to 13)."""
    client = parse_client_data_json(_decoded(encoded))
    if client.type != ceremony:
        raise InvalidStatement("passkey.ceremony", "the device signed something else than this", _AGAIN)
    if client.origin != origin or client.cross_origin:
        raise InvalidStatement("passkey.origin", "the signature was made on another site's page", _AGAIN)
    if client.challenge != challenge:
        raise InvalidStatement(
            "statement.altered",
            "the signature is over another text: it was altered after signing, or is an old one used again",
            "ask for a new preview and sign that",
        )


def _check_authenticator(data: AuthenticatorData, rp_id: str) -> None:
    """What the authenticator says of itself and of its holder (§7.1 steps 14 to 18, §7.2 steps 15 to 19)."""
    if data.rp_id_hash != hashlib.sha256(rp_id.encode()).digest():
        raise InvalidStatement("passkey.rp_id", "the signature was made for another site", _AGAIN)
    if not data.flags.up:
        raise InvalidStatement("passkey.user_presence", "nobody touched the device that signed", _AGAIN)
    if not data.flags.uv:
        raise InvalidStatement(
            "passkey.user_verification",
            "the device did not check who was holding it",
            "turn on its screen lock, then sign again",
        )
    if data.flags.bs and not data.flags.be:
        raise ValueError("backed up, and not eligible for it")


def _decoded(text: str) -> bytes:
    """Base64url without padding, in its one spelling."""
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if bytes_to_base64url(data) != text:
        raise ValueError("another spelling of base64url")
    return data


@contextmanager
def _readable() -> Iterator[None]:
    """Whatever the library's parsers stumble over, the answer could not be read."""
    try:
        yield
    except InvalidStatement:
        raise
    except Exception as error:
        raise InvalidStatement("passkey.malformed", "the device's answer can not be read", _AGAIN) from error
