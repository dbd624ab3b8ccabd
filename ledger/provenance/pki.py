"""The embedded development authority: the keys a fresh installation signs its first clip with.

Root P-384 → issuing P-384 → three P-256 leaves: one signs C2PA claims (ES256; EKU emailProtection and
c2pa-kp-claimSigning, C2PA 2.4 §14.5.1), one signs time-stamps (RFC 3161 §2.3: critical EKU timeStamping,
alone), one answers for revocation (RFC 6960 §4.2.2.2: EKU OCSPSigning, and no status of its own). Every subject says
"development": nobody outside this installation trusts the root, and a production service signs through a key and a
certificate of :mod:`ledger.provenance.signing` instead.

Guarantees:
- The authority appears whole or not at all. It is written beside its place and moved there by one rename, so
  two first starts leave one winner's files and never a mix.
- The root key is never written: the root signs the issuing certificate and is forgotten. A stolen disk can
  issue leaves under this issuing certificate; it cannot make another issuer.
- Each leaf and its key share one file, so a renewal is one rename too.
- A new root and issuing certificate are a *generation*, a folder `2`, `3`, … beside the first files, made in the same
  way. Older ones stay: their roots are anchors for as long as their clips are about, and their issuing keys go on
  signing what is said of their leaves' revocation.
- Files are readable by their owner only. Anything missing, foreign or mismatched raises ProvenanceError and
  names the file.
"""

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from ledger.errors import ProvenanceError
from ledger.provenance.revocation import Issuer, answered, key_name
from ledger.provenance.signing import CLAIM_SIGNING, Credential, FileKey
from ledger.provenance.trust import Anchors

_CLAIM_USES: Final = (ExtendedKeyUsageOID.EMAIL_PROTECTION, CLAIM_SIGNING)
_STAMP_USES: Final = (ExtendedKeyUsageOID.TIME_STAMPING,)
_OCSP_USES: Final = (ExtendedKeyUsageOID.OCSP_SIGNING,)
_LEAVES: Final = {"claims": _CLAIM_USES, "stamps": _STAMP_USES, "ocsp": _OCSP_USES}

_CA_LIFE = timedelta(days=3652)
_LEAF_LIFE = timedelta(days=397)
_RENEW_BEFORE = timedelta(days=60)
_CLOCK_SKEW = timedelta(minutes=5)
_REMEDY = "restore the directory from a backup, or move it away to start a new development authority"


@dataclass(frozen=True, slots=True)
class Authority:
    """One installation's newest root and the credentials under it; and what its older ones still vouch for."""

    root_pem: bytes
    claims: Credential
    stamps: Credential
    roots_pem: bytes
    """The roots of all generations, newest first."""
    issuers: tuple[Issuer, ...]
    """Who says which leaves were revoked, one a generation, newest first."""

    @property
    def anchors(self) -> Anchors:
        return Anchors(development_pem=self.roots_pem)

    def ocsp(self, certificate: x509.Certificate, at: datetime) -> bytes | None:
        """That nothing is known against a leaf of it: an authority alone keeps no list of what was revoked."""
        return answered(self.issuers[0], certificate, {}, at=at)

    @classmethod
    def open(cls, directory: Path, *, at: datetime, url: str = "") -> Self:
        """Load the authority kept in `directory`, creating it on first start and renewing leaves near expiry.

        `url`: where this service answers; new leaves name there the list of those revoked.
        Raises ProvenanceError where the directory is partial, altered, unreadable, or past its own life.
        """
        try:
            if not directory.exists() or not any(directory.iterdir()):
                _create(directory, at, url)
            return cls._load(directory, at, url)
        except OSError as error:
            raise ProvenanceError(
                "pki.unreadable",
                f"the development authority in `{directory}` cannot be read or written: {error.strerror}",
                "let the service's user read and write there; the directory must not be a mount point itself",
            ) from error

    @classmethod
    def _load(cls, directory: Path, at: datetime, url: str) -> Self:
        newest, *older = _generations(directory)
        root, issuing, key = _issuing(newest)
        if not issuing.not_valid_before_utc <= at < issuing.not_valid_after_utc - _LEAF_LIFE:
            raise ProvenanceError(
                "pki.out_of_life",
                f"`{newest / 'issuing.pem'}` cannot issue at `{at.isoformat()}`",
                "correct the clock; if it is right: countersign keys rotate-signing --issuing",
            )
        made = _Maker(issuing, key, url)
        claims, stamps, ocsp = (_current(newest, role, made, at) for role in _LEAVES)
        newest_pem = roots = _pem(root)
        issuers = [Issuer(issuing, key, ocsp)]
        for folder in older:
            root, issuing, key = _issuing(folder)
            ocsp = _current(folder, "ocsp", _Maker(issuing, key, url), at)
            issuers.append(Issuer(issuing, key, ocsp))
            roots += _pem(root)
        return cls(newest_pem, claims, stamps, roots, tuple(issuers))


def rotate(
    directory: Path,
    *,
    at: datetime,
    url: str,
    announce: Callable[[x509.Certificate], None],
    issuing: bool = False,
) -> x509.Certificate:
    """Put a new claim signer in the old one's place, or a whole new generation above it. Returns its certificate.

    `announce` is called with it before it can sign anything.
    """
    if issuing:
        return _next_generation(directory, at, url, announce)
    newest = _generations(directory)[0]
    _, above, key = _issuing(newest)
    leaf, made = _Maker(above, key, url).leaf("claims", at)
    announce(leaf)
    _replace(newest / "claims.pem", _bundle(leaf, made))
    return leaf


def _next_generation(
    directory: Path, at: datetime, url: str, announce: Callable[[x509.Certificate], None]
) -> x509.Certificate:
    number = max([1, *(int(path.name) for path in _numbered(directory))]) + 1
    draft = Path(tempfile.mkdtemp(prefix=f".{number}.", dir=directory))
    try:
        for name, content in _generation(at, url).items():
            _write(draft / name, content)
        _sync(draft)
        leaf = _certificate(draft / "claims.pem")
        announce(leaf)
        draft.rename(directory / str(number))
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    _sync(directory)  # durable from here
    return leaf


def _numbered(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.name.isdecimal() and path.is_dir()]


def _generations(directory: Path) -> list[Path]:
    """The folders of all generations, newest first; the first lies in the directory itself."""
    return [*sorted(_numbered(directory), key=lambda path: int(path.name), reverse=True), directory]


def _issuing(folder: Path) -> tuple[x509.Certificate, x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Root, issuing certificate and its key."""
    root = _certificate(folder / "root.pem")
    issuing, key = _pair(folder / "issuing.pem")
    _require_issued(root, root, folder / "root.pem")
    _require_issued(issuing, root, folder / "issuing.pem")
    return root, issuing, key


def _current(folder: Path, role: str, made: "_Maker", at: datetime) -> Credential:
    """The leaf of that role, renewed where its end is near."""
    path = folder / f"{role}.pem"
    if role == "ocsp" and not path.exists():
        # Authorities of earlier versions had none.
        _replace(path, _bundle(*made.leaf(role, at)))
    leaf, key = _pair(path)
    _require_issued(leaf, made.issuing, path)
    if not leaf.not_valid_before_utc <= at < leaf.not_valid_after_utc - _RENEW_BEFORE:
        leaf, key = made.leaf(role, at)
        _replace(path, _bundle(leaf, key))
    return Credential(leaf, FileKey(key), (made.issuing,))


def _create(directory: Path, at: datetime, url: str) -> None:
    directory.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        for name, content in _generation(at, url).items():
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


def _generation(at: datetime, url: str) -> dict[str, bytes]:
    """The files of a new root and what is under it."""
    root_key, issuing_key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
    root = _ca("root", root_key.public_key(), None, root_key, at, path_length=1)
    issuing = _ca("issuing", issuing_key.public_key(), root, root_key, at, path_length=0)
    made = _Maker(issuing, issuing_key, url)
    leaves = {f"{role}.pem": _bundle(*made.leaf(role, at)) for role in _LEAVES}
    return {"root.pem": _pem(root), "issuing.pem": _bundle(issuing, issuing_key)} | leaves


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


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes leaves under one issuing certificate."""

    issuing: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    url: str

    def leaf(self, role: str, at: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        key, uses = ec.generate_private_key(ec.SECP256R1()), _LEAVES[role]
        builder = _certificate_builder(_subject(role), self.issuing.subject, key.public_key(), at, _LEAF_LIFE)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(certificates=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=uses == _STAMP_USES)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
        )
        if role == "ocsp":
            builder = builder.add_extension(x509.OCSPNoCheck(), critical=False)
        elif self.url:
            builder = self._told_where(builder)
        return builder.sign(self.key, hashes.SHA384()), key

    def _told_where(self, builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
        """Where to ask whether the leaf was revoked."""
        name = key_name(self.issuing)
        crl, issuer, ocsp = (
            x509.UniformResourceIdentifier(f"{self.url}/pki/{path}")
            for path in (f"{name}.crl", f"{name}.cer", "ocsp")
        )
        point = x509.DistributionPoint([crl], relative_name=None, reasons=None, crl_issuer=None)
        access = [
            x509.AccessDescription(AuthorityInformationAccessOID.OCSP, ocsp),
            x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, issuer),
        ]
        builder = builder.add_extension(x509.CRLDistributionPoints([point]), critical=False)
        return builder.add_extension(x509.AuthorityInformationAccess(access), critical=False)


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
        "ocsp": "revocation responder",
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
