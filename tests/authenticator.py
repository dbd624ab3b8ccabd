"""A passkey authenticator in software: WebAuthn Level 3 as a browser and a security key do it together.

Written from the specification: §6.1 authenticator data, §6.5.4 attestation object (`none`), §5.8.1 client data.
Everything a dishonest client could change can be changed here. Keys are ES256, EdDSA or RS256 (RFC 9053).
"""

import base64
import json
import secrets
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PRESENT, VERIFIED, MAY_BACK_UP, BACKED_UP, ATTESTED = 0x01, 0x04, 0x08, 0x10, 0x40
Algorithm = Literal["ES256", "EdDSA", "RS256"]
Private = ec.EllipticCurvePrivateKey | Ed25519PrivateKey | rsa.RSAPrivateKey
RP_ID, ORIGIN = "likeness.example", "https://likeness.example"


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def new_key(algorithm: Algorithm) -> Private:
    match algorithm:
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case "EdDSA":
            return Ed25519PrivateKey.generate()
        case "RS256":
            return rsa.generate_private_key(65537, 2048)


@dataclass
class Passkey:
    """One credential: what a device keeps of it."""

    rp_id: str
    handle: bytes
    counts: bool = False
    key: Private = field(default_factory=lambda: new_key("ES256"))
    credential_id: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    count: int = 0

    @property
    def id(self) -> str:
        return b64url(self.credential_id)

    def cose_key(self) -> bytes:
        """COSE_Key (RFC 9052 §7)."""
        match self.key:
            case ec.EllipticCurvePrivateKey():
                at = self.key.public_key().public_numbers()
                said = {1: 2, 3: -7, -1: 1, -2: at.x.to_bytes(32, "big"), -3: at.y.to_bytes(32, "big")}
            case Ed25519PrivateKey():
                said = {1: 1, 3: -8, -1: 6, -2: self.key.public_key().public_bytes_raw()}
            case rsa.RSAPrivateKey():
                numbers = self.key.public_key().public_numbers()
                said = {1: 3, 3: -257, -1: numbers.n.to_bytes(256, "big"), -2: numbers.e.to_bytes(3, "big")}
        return cbor2.dumps(said, canonical=True)

    def _signature(self, message: bytes) -> bytes:
        match self.key:
            case ec.EllipticCurvePrivateKey():
                return self.key.sign(message, ec.ECDSA(hashes.SHA256()))
            case Ed25519PrivateKey():
                return self.key.sign(message)
            case rsa.RSAPrivateKey():
                return self.key.sign(message, padding.PKCS1v15(), hashes.SHA256())

    def _data(self, flags: int, rp_id: str, more: bytes = b"") -> bytes:
        return sha256(rp_id.encode()).digest() + bytes([flags]) + self.count.to_bytes(4, "big") + more

    def assertion(
        self,
        challenge: str,
        origin: str,
        *,
        rp_id: str | None = None,
        flags: int = PRESENT | VERIFIED,
        kind: str = "webauthn.get",
        cross_origin: bool = False,
    ) -> dict[str, str]:
        """Evidence over `challenge` (base64url), as `navigator.credentials.get` would make it on a page of `origin`."""
        self.count += self.counts
        data = self._data(flags, rp_id or self.rp_id)
        client = _client(kind, challenge, origin, cross_origin=cross_origin)
        return {
            "type": "passkey",
            "credential_id": self.id,
            "authenticator_data": b64url(data),
            "client_data_json": b64url(client),
            "signature": b64url(self._signature(data + sha256(client).digest())),
        }

    def registration(
        self,
        challenge: str,
        origin: str,
        *,
        rp_id: str | None = None,
        flags: int = PRESENT | VERIFIED,
        kind: str = "webauthn.create",
        cross_origin: bool = False,
    ) -> dict[str, Any]:
        """RegistrationResponseJSON, as `navigator.credentials.create` would make it."""
        attested = (
            bytes(16) + len(self.credential_id).to_bytes(2, "big") + self.credential_id + self.cose_key()
        )
        data = self._data(flags | ATTESTED, rp_id or self.rp_id, attested)
        attestation = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data}, canonical=True)
        client = _client(kind, challenge, origin, cross_origin=cross_origin)
        return {
            "id": self.id,
            "rawId": self.id,
            "type": "public-key",
            "clientExtensionResults": {},
            "response": {"clientDataJSON": b64url(client), "attestationObject": b64url(attestation)},
        }


@dataclass
class Authenticator:
    """A credential, and the page it is always used on: each can be where it should not be.

    `counter` is what the next assertion will say; None: it does not count.
    """

    algorithm: Algorithm = "ES256"
    rp_id: str = RP_ID
    origin: str = ORIGIN
    counter: int | None = 1
    flags: int = PRESENT | VERIFIED | MAY_BACK_UP | BACKED_UP
    cross_origin: bool = False
    passkey: Passkey = field(init=False)

    def __post_init__(self) -> None:
        self.passkey = Passkey(self.rp_id, bytes(32), key=new_key(self.algorithm))

    @property
    def id(self) -> str:
        return self.passkey.id

    @property
    def public_key(self) -> str:
        return b64url(self.passkey.cose_key())

    def signer(self) -> dict[str, str]:
        """The credential as a list holds it."""
        return {
            "id": self.id,
            "kind": "passkey",
            "public_key": self.public_key,
            "rp_id": self.rp_id,
            "origin": self.origin,
        }

    def register(self, challenge: bytes, *, ceremony: str = "webauthn.create") -> dict[str, Any]:
        return self.passkey.registration(
            b64url(challenge), self.origin, flags=self.flags, kind=ceremony, cross_origin=self.cross_origin
        )

    def sign(self, challenge: bytes, *, ceremony: str = "webauthn.get") -> dict[str, str]:
        """An assertion as evidence spells it. The counter goes up by one."""
        self.passkey.count = self.counter or 0
        if self.counter is not None:
            self.counter += 1
        return self.passkey.assertion(
            b64url(challenge), self.origin, flags=self.flags, kind=ceremony, cross_origin=self.cross_origin
        )


def made_for(options: dict[str, Any], *, counts: bool = False) -> Passkey:
    """A new credential that answers `PublicKeyCredentialCreationOptionsJSON`."""
    assert (
        options["authenticatorSelection"] | {"residentKey": "required", "userVerification": "required"}
        == (options["authenticatorSelection"])
    )
    assert -7 in [one["alg"] for one in options["pubKeyCredParams"]]
    return Passkey(options["rp"]["id"], unb64url(options["user"]["id"]), counts=counts)


def _client(kind: str, challenge: str, origin: str, *, cross_origin: bool = False) -> bytes:
    said = {"type": kind, "challenge": challenge, "origin": origin, "crossOrigin": cross_origin}
    return json.dumps(said, separators=(",", ":")).encode()
