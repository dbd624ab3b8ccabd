"""The embedded development authority: the keys a fresh installation signs its first clip with.

Root P-384 → issuing P-384 → two P-256 leaves: one signs C2PA claims (ES256; EKU emailProtection and
c2pa-kp-claimSigning, C2PA 2.4 §14.5.1), one signs time-stamps (RFC 3161 §2.3: critical EKU timeStamping,
alone). Every subject says "development": nobody outside this installation trusts the root, and a production
service signs through a key it cannot export and a certificate bought from a listed authority instead.

Guarantees:
- The authority appears whole or not at all. It is written beside its place and moved there by one rename, so
  two first starts leave one winner's files and never a mix.
- The root key is never written: the root signs the issuing certificate and is forgotten. A stolen disk can
  issue leaves under this issuing certificate; it cannot make another issuer.
- Each leaf and its key share one file, so a renewal is one rename too.
- Files are readable by their owner only. Anything missing, foreign or mismatched raises ProvenanceError and
  names the file.
"""

import os
import secrets
import shutil
import tempfile
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ledger.errors import ProvenanceError

_CLAIM_SIGNING = x509.ObjectIdentifier("1.3.6.1.4.1.62558.2.1")
_CLAIM_USES = (ExtendedKeyUsageOID.EMAIL_PROTECTION, _CLAIM_SIGNING)
_STAMP_USES = (ExtendedKeyUsageOID.TIME_STAMPING,)

_CA_LIFE = timedelta(days=3652)
_LEAF_LIFE = timedelta(days=397)
_RENEW_BEFORE = timedelta(days=60)
_CLOCK_SKEW = timedelta(minutes=5)
_REMEDY = "restore the directory from a backup, or move it away to start a new development authority"


@dataclass(frozen=True, slots=True)
class Credential:
    """A leaf certificate, its key, and the issuing certificate above it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    issuing: x509.Certificate

    @property
    def chain_pem(self) -> bytes:
        """Leaf, then issuing; the root is left out, since a verifier must already have it."""
        return _pem(self.certificate) + _pem(self.issuing)

    @property
    def common_name(self) -> str:
        return str(self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)

    def sign(self, message: bytes) -> bytes:
        """ECDSA P-256 over SHA-256, DER-encoded as X.509 and CMS want it."""
        return self.key.sign(message, ec.ECDSA(hashes.SHA256()))

    def sign_es256(self, message: bytes) -> bytes:
        """The same signature as COSE wants it (RFC 9053 §2.1): r ‖ s, 64 bytes."""
        r, s = decode_dss_signature(self.sign(message))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


@dataclass(frozen=True, slots=True)
class Authority:
    """One installation's root and the two credentials under it."""

    root_pem: bytes
    claims: Credential
    stamps: Credential

    @classmethod
    def open(cls, directory: Path, *, at: datetime) -> Self:
        """Load the authority kept in `directory`, creating it on first start and renewing leaves near expiry.

        Raises ProvenanceError where the directory is partial, altered, unreadable, or past its own life.
        """
        try:
            if not directory.exists() or not any(directory.iterdir()):
                _create(directory, at)
            return cls._load(directory, at)
        except OSError as error:
            raise ProvenanceError(
                "pki.unreadable",
                f"the development authority in `{directory}` cannot be read or written: {error.strerror}",
                "let the service's user read and write there; the directory must not be a mount point itself",
            ) from error

    @classmethod
    def _load(cls, directory: Path, at: datetime) -> Self:
        root = _certificate(directory / "root.pem")
        issuing, issuing_key = _pair(directory / "issuing.pem")
        _require_issued(root, root, directory / "root.pem")
        _require_issued(issuing, root, directory / "issuing.pem")
        if not issuing.not_valid_before_utc <= at < issuing.not_valid_after_utc - _LEAF_LIFE:
            raise ProvenanceError(
                "pki.out_of_life",
                f"`{directory / 'issuing.pem'}` cannot issue at `{at.isoformat()}`",
                "correct the clock; if it is right, move the directory away to start a new authority",
            )
        leaves = []
        for name, uses in (("claims", _CLAIM_USES), ("stamps", _STAMP_USES)):
            path = directory / f"{name}.pem"
            leaf, key = _pair(path)
            _require_issued(leaf, issuing, path)
            if not leaf.not_valid_before_utc <= at < leaf.not_valid_after_utc - _RENEW_BEFORE:
                leaf, key = _leaf(name, uses, issuing, issuing_key, at)
                _replace(path, _bundle(leaf, key))
            leaves.append(Credential(leaf, key, issuing))
        return cls(_pem(root), *leaves)


def _create(directory: Path, at: datetime) -> None:
    root_key, issuing_key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
    root = _ca("root", root_key.public_key(), None, root_key, at, path_length=1)
    issuing = _ca("issuing", issuing_key.public_key(), root, root_key, at, path_length=0)
    files = {
        "root.pem": _pem(root),
        "issuing.pem": _bundle(issuing, issuing_key),
        "claims.pem": _bundle(*_leaf("claims", _CLAIM_USES, issuing, issuing_key, at)),
        "stamps.pem": _bundle(*_leaf("stamps", _STAMP_USES, issuing, issuing_key, at)),
    }
    directory.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        for name, content in files.items():
            _write(draft / name, content)
        _sync(draft)
        # Renaming onto a directory that holds anything fails: the loser of a race reads the winner's files.
        draft.rename(directory)
    except OSError:
        if not (directory / "root.pem").exists():
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    _sync(directory.parent)  # durable from here


def _ca(
    role: str,
    public: ec.EllipticCurvePublicKey,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
    at: datetime,
    *,
    path_length: int,
) -> x509.Certificate:
    subject = _subject(role)
    builder = _certificate_builder(subject, issuer.subject if issuer else subject, public, at, _CA_LIFE)
    usage = _key_usage(certificates=True)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
    builder = builder.add_extension(usage, critical=True)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
    )
    return builder.sign(issuer_key, hashes.SHA384())


def _leaf(
    role: str,
    uses: tuple[x509.ObjectIdentifier, ...],
    issuing: x509.Certificate,
    issuing_key: ec.EllipticCurvePrivateKey,
    at: datetime,
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _certificate_builder(_subject(role), issuing.subject, key.public_key(), at, _LEAF_LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=uses == _STAMP_USES)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(issuing_key.public_key()), critical=False
    )
    return builder.sign(issuing_key, hashes.SHA384()), key


def _certificate_builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    at: datetime,
    life: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - _CLOCK_SKEW)
        .not_valid_after(at + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _subject(role: str) -> x509.Name:
    name = {
        "root": "root",
        "issuing": "issuing authority",
        "claims": "claim signer",
        "stamps": "time-stamp authority",
    }[role]
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Countersign"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "Development only"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Countersign development {name}"),
        ]
    )


def _key_usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        key_cert_sign=certificates,
        crl_sign=certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _bundle(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bytes:
    return _pem(certificate) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError as error:
        raise ProvenanceError("pki.partial", f"`{path}` is missing", _REMEDY) from error
    except ValueError as error:
        raise ProvenanceError("pki.corrupt", f"`{path}` holds no certificate", _REMEDY) from error


def _pair(path: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate = _certificate(path)
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise ProvenanceError("pki.corrupt", f"`{path}` holds no private key", _REMEDY) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ProvenanceError("pki.mixed", f"the key in `{path}` is not its certificate's", _REMEDY)
    return certificate, key


def _require_issued(certificate: x509.Certificate, issuer: x509.Certificate, path: Path) -> None:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise ProvenanceError("pki.mixed", f"`{path}` was issued by another authority", _REMEDY) from error


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _write(draft, content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    _sync(path.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
