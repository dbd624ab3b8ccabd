"""A certificate authority that is not ours, as an operator's would be: chains for signing claims, right and wrong."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from ledger.provenance.signing import CLAIM_SIGNING

CLAIMS = (ExtendedKeyUsageOID.EMAIL_PROTECTION, CLAIM_SIGNING)


def named(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Listed Authority"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass(frozen=True)
class Shop:
    """Root → issuing; sells leaves to anybody."""

    root: x509.Certificate
    issuing: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def opened(cls, at: datetime) -> "Shop":
        root_key, key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
        root = certificate("Root", root_key, named("Root"), root_key, at, ca=True)
        return cls(root, certificate("Issuing", key, named("Root"), root_key, at, ca=True), key)

    def leaf(
        self,
        key: ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey,
        at: datetime,
        *,
        issuer: x509.Name | None = None,
        **changes: Any,
    ) -> x509.Certificate:
        return certificate("Film Studio", key, issuer or named("Issuing"), self.key, at, **changes)

    def chain(self, leaf: x509.Certificate, path: Path) -> Path:
        path.write_bytes(pem(leaf, self.issuing))
        return path


def certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    at: datetime,
    *,
    ca: bool = False,
    uses: tuple[x509.ObjectIdentifier, ...] | None = CLAIMS,
    signs: bool = True,
    days: int = 90,
    ocsp: str = "",
) -> x509.Certificate:
    public = key.public_key() if isinstance(key, ec.EllipticCurvePrivateKey) else key
    usage = x509.KeyUsage(signs and not ca, False, False, False, False, ca, ca, False, False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - timedelta(minutes=5))
        .not_valid_after(at + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )
    if uses and not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    if ocsp:
        told = x509.AccessDescription(
            AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(ocsp)
        )
        builder = builder.add_extension(x509.AuthorityInformationAccess([told]), critical=False)
    return builder.sign(issuer_key, hashes.SHA384())
