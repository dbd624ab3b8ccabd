"""An authenticator and the browser in front of it, in software: what they send is settable, lies included.

Written from the specification (W3C Web Authentication Level 3, §5.8.1, §6.1, §6.5): it shares no code with what it
tests. Keys are ES256, EdDSA or RS256 (RFC 9053); every field of an answer is base64url without padding.
"""

import hashlib
import json
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Any, Literal

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Algorithm = Literal["ES256", "EdDSA", "RS256"]
Private = ec.EllipticCurvePrivateKey | Ed25519PrivateKey | rsa.RSAPrivateKey
UP, UV, BE, BS, AT = 1, 1 << 2, 1 << 3, 1 << 4, 1 << 6
"""Flags of authenticator data (§6.1): present, verified, may be backed up, is, and a credential follows."""
RP_ID, ORIGIN = "likeness.example", "https://likeness.example"


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _new(algorithm: Algorithm) -> Private:
    match algorithm:
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case "EdDSA":
            return Ed25519PrivateKey.generate()
        case "RS256":
            return rsa.generate_private_key(65537, 2048)


@dataclass
class Authenticator:
    """One credential on one device. `counter` is what the next assertion will say; None: it does not count."""

    algorithm: Algorithm = "ES256"
    rp_id: str = RP_ID
    origin: str = ORIGIN
    counter: int | None = 1
    flags: int = UP | UV | BE | BS
    cross_origin: bool = False
    credential_id: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    key: Private = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.key = _new(self.algorithm)

    @property
    def id(self) -> str:
        return b64(self.credential_id)

    def cose_key(self) -> bytes:
        """COSE_Key (RFC 9052 §7) of the public key, in CTAP2's canonical order."""
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

    def signer(self) -> dict[str, str]:
        """The credential as a list holds it."""
        return {
            "id": self.id,
            "kind": "passkey",
            "public_key": b64(self.cose_key()),
            "rp_id": self.rp_id,
            "origin": self.origin,
        }

    def register(self, challenge: bytes, *, ceremony: str = "webauthn.create") -> dict[str, Any]:
        """RegistrationResponseJSON, without an attestation."""
        credential = (
            bytes(16) + len(self.credential_id).to_bytes(2, "big") + self.credential_id + self.cose_key()
        )
        data = self._data(self.flags | AT, 0) + credential
        made = {"fmt": "none", "attStmt": {}, "authData": data}
        response = {
            "clientDataJSON": b64(self._client(ceremony, challenge)),
            "attestationObject": b64(cbor2.dumps(made, canonical=True)),
            "transports": ["internal"],
        }
        return {
            "id": self.id,
            "rawId": self.id,
            "type": "public-key",
            "response": response,
            "clientExtensionResults": {},
        }

    def sign(self, challenge: bytes, *, ceremony: str = "webauthn.get") -> dict[str, str]:
        """An assertion, as evidence of kind `passkey` spells it. The counter goes up by one."""
        data, client = self._data(self.flags, self.counter or 0), self._client(ceremony, challenge)
        if self.counter is not None:
            self.counter += 1
        return {
            "type": "passkey",
            "credential_id": self.id,
            "authenticator_data": b64(data),
            "client_data_json": b64(client),
            "signature": b64(self._signature(data + hashlib.sha256(client).digest())),
        }

    def _signature(self, message: bytes) -> bytes:
        match self.key:
            case ec.EllipticCurvePrivateKey():
                return self.key.sign(message, ec.ECDSA(hashes.SHA256()))
            case Ed25519PrivateKey():
                return self.key.sign(message)
            case rsa.RSAPrivateKey():
                return self.key.sign(message, padding.PKCS1v15(), hashes.SHA256())

    def _data(self, flags: int, counter: int) -> bytes:
        return hashlib.sha256(self.rp_id.encode()).digest() + bytes([flags]) + counter.to_bytes(4, "big")

    def _client(self, ceremony: str, challenge: bytes) -> bytes:
        said = {
            "type": ceremony,
            "challenge": b64(challenge),
            "origin": self.origin,
            "crossOrigin": self.cross_origin,
        }
        return json.dumps(said, separators=(",", ":")).encode()
