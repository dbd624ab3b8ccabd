"""What our own authority says of its certificates, where those name it: `/pki/KEY.crl`, `/pki/KEY.cer`, `/pki/ocsp`.

KEY is the issuing certificate's, of any generation. Lists and answers are made from the log at each request.
"""

import binascii
from base64 import b64decode
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from litestar import Request, Response, get, post
from litestar.concurrency import sync_to_thread

from gateway.problems import problem
from gateway.service import Service
from ledger.provenance.pki import Authority
from ledger.provenance.revocation import LONGEST_QUESTION, Issuer, Revocation, key_name, listed, reply

Ask = Request[Any, Any, Any]
_OCSP = "application/ocsp-response"


@get("/pki/{name:str}", sync_to_thread=True)
def authority_file(service: Service, name: str) -> Response[bytes]:
    """The revocation list (`KEY.crl`) or the certificate (`KEY.cer`) of an issuer of ours, in DER."""
    key, _, kind = name.rpartition(".")
    issuer = next((one for one in _authority(service).issuers if key_name(one.certificate) == key), None)
    if issuer is None or kind not in {"crl", "cer"}:
        raise problem(
            404, "pki.unknown", f"there is no `{name[:64]}` here", "read the address in the certificate"
        )
    if kind == "cer":
        return Response(issuer.certificate.public_bytes(Encoding.DER), media_type="application/pkix-cert")
    content = listed(issuer, _under(issuer, service), at=service.clock())
    return Response(content, media_type="application/pkix-crl")


@post("/pki/ocsp", status_code=200)
async def ocsp(request: Ask, service: Service) -> Response[bytes]:
    """An OCSP request as the body (RFC 6960 §A.1)."""
    received = b""
    async for chunk in request.stream():
        received += chunk
        if len(received) > LONGEST_QUESTION:
            break
    return Response(await sync_to_thread(_answer, service, received), media_type=_OCSP)


@get("/pki/ocsp/{request_b64:path}", sync_to_thread=True)
def ocsp_by_get(service: Service, request_b64: str) -> Response[bytes]:
    """An OCSP request in the address, in base64."""
    try:
        received = b64decode(request_b64.removeprefix("/"), validate=True)
    except binascii.Error:
        received = b""
    return Response(_answer(service, received), media_type=_OCSP)


def _answer(service: Service, received: bytes) -> bytes:
    signing, issuers = service.signing, _authority(service).issuers
    known = {x509.load_der_x509_certificate(row.der).serial_number for row in signing.table().rows}
    known.add(_authority(service).stamps.certificate.serial_number)
    content = received if len(received) <= LONGEST_QUESTION else b""
    return reply(content, issuers, signing.revoked_by_serial(), frozenset(known), at=service.clock())


def _under(issuer: Issuer, service: Service) -> dict[int, Revocation]:
    """Serial numbers are random and long: what another issuer's leaf has, this one's has not."""
    name = issuer.certificate.subject
    rows = (x509.load_der_x509_certificate(row.der) for row in service.signing.table().rows)
    mine = {leaf.serial_number for leaf in rows if leaf.issuer == name and _is_by(leaf, issuer)}
    return {serial: one for serial, one in service.signing.revoked_by_serial().items() if serial in mine}


def _is_by(leaf: x509.Certificate, issuer: Issuer) -> bool:
    """Generations share a name; the key tells them apart."""
    by = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    own = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    return by == own


def _authority(service: Service) -> Authority:
    if service.signing.configured is not None and not service.signing.directory.exists():
        raise problem(
            404,
            "pki.none",
            "this service issues no certificates",
            "ask the authority that the certificate names",
        )
    return service.signing.authority()


ROUTES = (authority_file, ocsp, ocsp_by_get)
