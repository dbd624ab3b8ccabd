"""Whom a verifier believes, and whose a signature is: ours, somebody's whom others vouch for, or a stranger's.

A certificate bought from a listed authority hangs under a root that vouches for many: a clip is *ours* only if the
very certificate that signed it is one that this installation signed with (the log names each, and when it was taken
back). The embedded development authority issues for nobody else, so there its root is enough.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from ledger.errors import ProvenanceError

TrustedBy = Literal["ours", "elsewhere"]
DEVELOPMENT = "Signed by this installation's own development authority, which nobody else trusts."
"""What every verdict says of a clip whose signer is only trusted because it was signed here."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """A certificate of ours that was taken back: what it signed from `since` on is not believed."""

    certificate: str
    """SHA-256 of the certificate, in hex."""
    since: datetime
    reason: str
    """As RFC 5280 §5.3.1 names it: `keyCompromise`, `superseded`, …"""


@dataclass(frozen=True, slots=True)
class Anchors:
    """Plain data, so that it can be handed to the process that reads strangers' files."""

    own_pem: bytes = b""
    """Roots behind what we sign with, and behind the time-stamps on it."""
    development_pem: bytes = b""
    """Roots of the embedded authority: everything under them is ours."""
    others_pem: bytes = b""
    """Roots that others believe, like the official trust list."""
    certificates: frozenset[str] = frozenset()
    """SHA-256, in hex, of each certificate we signed clips with."""
    revoked: tuple[Revoked, ...] = ()

    @classmethod
    def of(cls, pem: bytes) -> "Anchors":
        """Roots that are nobody's in particular."""
        return cls(others_pem=pem)

    @property
    def pem(self) -> bytes:
        """All of them, as one PEM bundle. Raises ProvenanceError where one is no certificate."""
        parts = [part for part in (self.own_pem, self.development_pem, self.others_pem) if part]
        bundle = b"\n".join(parts)
        try:
            x509.load_pem_x509_certificates(bundle)  # c2pa skips an anchor it cannot parse, in silence
            bundle.decode("ascii")
        except ValueError as error:
            raise ProvenanceError(
                "provenance.anchors", "the trust anchors are not certificates", "configure PEM certificates"
            ) from error
        return bundle

    def whose(self, chain: Sequence[x509.Certificate]) -> tuple[TrustedBy, bool]:
        """Of a chain that is trusted: whose it is, and whether only the development authority vouches for it."""
        if self._under_development(chain):
            return "ours", True
        ours = bool(chain) and fingerprint(chain[0]) in self.certificates
        return ("ours" if ours else "elsewhere"), False

    def revocation(self, leaf: x509.Certificate, signed_at: datetime | None) -> Revoked | None:
        """The revocation that counts against a signature of that time; without a trusted time, any does."""
        held = [one for one in self.revoked if one.certificate == fingerprint(leaf)]
        return next((one for one in held if signed_at is None or signed_at >= one.since), None)

    def _under_development(self, chain: Sequence[x509.Certificate]) -> bool:
        if not self.development_pem or not chain:
            return False
        roots = x509.load_pem_x509_certificates(self.development_pem)
        path = (*chain, None)
        for child, parent in zip(chain, path[1:], strict=True):
            if any(_issued(child, root) for root in roots):
                return True
            if parent is None or not _issued(child, parent):
                return False
        return False


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 over the DER, in hex."""
    return sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
