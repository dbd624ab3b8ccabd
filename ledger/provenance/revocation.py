"""What an issuing certificate says of its leaves: lists (RFC 5280 §5) and answers (RFC 6960), for anyone who asks.

Both say the same of one table. `since` is the revocation date in both, because that is what verifiers compare a
time-stamp with: where a key was stolen some time before that was noticed, they must not believe what it signed
meanwhile. A list is signed by the issuing certificate itself, an answer by a leaf that may do nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, cast

import httpx
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from ledger.errors import ProvenanceError
from ledger.provenance.signing import Credential, FileKey

ANSWER_LIFE: Final = timedelta(days=7)
LIST_LIFE: Final = timedelta(days=7)
LONGEST_QUESTION: Final = 4096
_PATIENCE_S: Final = 5.0
_DATED_BACK: Final = timedelta(minutes=1)
"""Whoever asks may have a clock that is a little slow."""


@dataclass(frozen=True, slots=True)
class Revocation:
    reason: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Issuer:
    """An issuing certificate, and who answers for it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    responder: Credential


@dataclass(frozen=True, slots=True)
class Told:
    """An authority's answer about a bought certificate, in DER."""

    der: bytes = field(repr=False)
    revoked: bool
    until: datetime


def key_name(certificate: x509.Certificate) -> str:
    """What an issuing certificate is called in addresses: the first half of its key's identifier."""
    identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return identifier.value.digest.hex()[:20]


def listed(issuer: Issuer, revoked: Mapping[int, Revocation], *, at: datetime) -> bytes:
    """The list of everything revoked under that issuer, in DER. `revoked`: by serial number."""
    start = _whole(at - _DATED_BACK)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(start)
        .next_update(start + LIST_LIFE)
        # Seconds never run backwards from one list to the next, and need no counter that survives a restart.
        .add_extension(x509.CRLNumber(int(at.timestamp())), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False
        )
    )
    for serial, one in sorted(revoked.items()):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(_whole(one.since))
        flag = _flag(one.reason)
        if flag is not x509.ReasonFlags.unspecified:  # which a list leaves out (§5.3.1)
            entry = entry.add_extension(x509.CRLReason(flag), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(issuer.key, hashes.SHA384()).public_bytes(Encoding.DER)


def answered(
    issuer: Issuer, leaf: x509.Certificate, revoked: Mapping[int, Revocation], *, at: datetime
) -> bytes:
    """An answer about a leaf of that issuer, in DER, to staple to what it signs."""
    return _answer(issuer, leaf.serial_number, hashes.SHA1(), revoked, known=True, at=at)  # noqa: S303


def reply(
    request_der: bytes,
    issuers: tuple[Issuer, ...],
    revoked: Mapping[int, Revocation],
    issued: frozenset[int],
    *,
    at: datetime,
) -> bytes:
    """An OCSPResponse for any bytes at all. `issued`: serial numbers that are known; of others nothing is said."""
    try:
        request = ocsp.load_der_ocsp_request(request_der)
        algorithm = request.hash_algorithm
        for issuer in issuers:
            if request.issuer_key_hash == _key_hash(issuer.certificate, algorithm):
                serial = request.serial_number
                return _answer(issuer, serial, algorithm, revoked, known=serial in issued, at=at)
    except (ValueError, TypeError, NotImplementedError, UnsupportedAlgorithm):
        return _refusal(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)
    return _refusal(ocsp.OCSPResponseStatus.UNAUTHORIZED)


def asked(leaf: x509.Certificate, issuer: x509.Certificate, *, at: datetime) -> Told | None:
    """What the authority that issued a bought certificate says of it, asked where the certificate names.

    None where it names nobody, nobody answers, or the answer is not one of theirs about this certificate at this time.
    """
    url = _responder_of(leaf)
    if url is None:
        return None
    question = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, hashes.SHA256()).build()
    try:
        got = httpx.post(
            url,
            content=question.public_bytes(Encoding.DER),
            headers={"Content-Type": "application/ocsp-request"},
            timeout=_PATIENCE_S,
        )
        answer = ocsp.load_der_ocsp_response(got.content)
        # Of an answer that is a refusal nothing else can be read.
        if answer.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            return None
        until = answer.next_update_utc or answer.this_update_utc + timedelta(days=1)
        status = answer.certificate_status
        counts = (
            answer.serial_number == leaf.serial_number
            and status is not ocsp.OCSPCertStatus.UNKNOWN
            and answer.this_update_utc <= at + _DATED_BACK
            and at <= until
            and _is_theirs(answer, issuer)
        )
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, TypeError, UnsupportedAlgorithm):
        return None
    if not counts:
        return None
    return Told(got.content, revoked=status is ocsp.OCSPCertStatus.REVOKED, until=until)


def _responder_of(leaf: x509.Certificate) -> str | None:
    try:
        access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return None
    named = (
        one.access_location.value
        for one in access
        if one.access_method == AuthorityInformationAccessOID.OCSP
        and isinstance(one.access_location, x509.UniformResourceIdentifier)
    )
    return next(named, None)


def _is_theirs(answer: ocsp.OCSPResponse, issuer: x509.Certificate) -> bool:
    """Signed by the issuer, or by a leaf of theirs that may answer for it (RFC 6960 §4.2.2.2)."""
    for signer in (issuer, *answer.certificates):
        key, algorithm = signer.public_key(), answer.signature_hash_algorithm
        if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey) or algorithm is None:
            continue
        try:
            if signer != issuer:
                signer.verify_directly_issued_by(issuer)
                uses = signer.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
                if ExtendedKeyUsageOID.OCSP_SIGNING not in uses:
                    continue
            if isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(answer.signature, answer.tbs_response_bytes, ec.ECDSA(algorithm))
            else:
                key.verify(answer.signature, answer.tbs_response_bytes, padding.PKCS1v15(), algorithm)
        except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound):
            continue
        return True
    return False


def _answer(
    issuer: Issuer,
    serial: int,
    algorithm: hashes.HashAlgorithm,
    revoked: Mapping[int, Revocation],
    *,
    known: bool,
    at: datetime,
) -> bytes:
    if not isinstance(algorithm, hashes.SHA1 | hashes.SHA256 | hashes.SHA384 | hashes.SHA512):
        return _refusal(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)
    held = revoked.get(serial)
    status = ocsp.OCSPCertStatus.REVOKED if held else ocsp.OCSPCertStatus.GOOD
    start = _whole(at - _DATED_BACK)
    builder = ocsp.OCSPResponseBuilder().add_response_by_hash(
        issuer_name_hash=_hash(issuer.certificate.subject.public_bytes(), algorithm),
        issuer_key_hash=_key_hash(issuer.certificate, algorithm),
        serial_number=serial,
        algorithm=algorithm,
        cert_status=status if known else ocsp.OCSPCertStatus.UNKNOWN,
        this_update=start,
        next_update=start + ANSWER_LIFE,
        revocation_time=_whole(held.since) if held and known else None,
        revocation_reason=_flag(held.reason) if held and known else None,
    )
    responder = issuer.responder
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, responder.certificate)
    key = cast("FileKey", responder.key).private
    signed = builder.certificates([responder.certificate]).sign(key, hashes.SHA256())
    return signed.public_bytes(Encoding.DER)


def _refusal(status: ocsp.OCSPResponseStatus) -> bytes:
    return ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(Encoding.DER)


def _key_hash(certificate: x509.Certificate, algorithm: hashes.HashAlgorithm) -> bytes:
    """Of the key's bits alone (RFC 6960 §4.1.1), without their algorithm."""
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ProvenanceError("pki.mixed", "an issuing certificate's key is on no curve")
    return _hash(key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint), algorithm)


def _hash(content: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
    hasher = hashes.Hash(algorithm)
    hasher.update(content)
    return hasher.finalize()


def _flag(reason: str) -> x509.ReasonFlags:
    return x509.ReasonFlags(reason)


def _whole(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=0)
