"""A passkey authenticator in software: WebAuthn Level 3 as a browser and a security key do it together.

Written from the specification: §6.1 authenticator data, §6.5.4 attestation object (`none`), §5.8.1 client data.
Everything a dishonest client could change can be changed here.
"""

import base64
import json
import secrets
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

PRESENT, VERIFIED, ATTESTED = 0x01, 0x04, 0x40


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Passkey:
    """One credential: what a device keeps of it."""

    rp_id: str
    handle: bytes
    counts: bool = False
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    credential_id: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    count: int = 0

    @property
    def id(self) -> str:
        return b64url(self.credential_id)

    def _cose(self) -> bytes:
        """COSE_Key (RFC 9052 §7): EC2, ES256, P-256."""
        numbers = self.key.public_key().public_numbers()
        x, y = (one.to_bytes(32, "big") for one in (numbers.x, numbers.y))
        return cbor2.dumps({1: 2, 3: -7, -1: 1, -2: x, -3: y}, canonical=True)

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
        signature = self.key.sign(data + sha256(client).digest(), ec.ECDSA(hashes.SHA256()))
        return {
            "type": "passkey",
            "credential_id": self.id,
            "authenticator_data": b64url(data),
            "client_data_json": b64url(client),
            "signature": b64url(signature),
        }

    def registration(
        self,
        challenge: str,
        origin: str,
        *,
        rp_id: str | None = None,
        flags: int = PRESENT | VERIFIED,
        kind: str = "webauthn.create",
    ) -> dict[str, Any]:
        """RegistrationResponseJSON, as `navigator.credentials.create` would make it."""
        attested = bytes(16) + len(self.credential_id).to_bytes(2, "big") + self.credential_id + self._cose()
        data = self._data(flags | ATTESTED, rp_id or self.rp_id, attested)
        attestation = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data}, canonical=True)
        client = _client(kind, challenge, origin)
        return {
            "id": self.id,
            "rawId": self.id,
            "type": "public-key",
            "clientExtensionResults": {},
            "response": {"clientDataJSON": b64url(client), "attestationObject": b64url(attestation)},
        }


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
