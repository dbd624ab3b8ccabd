"""An RFC 3161 time-stamp authority, small enough to run inside the service on loopback.

:func:`respond` answers one TimeStampReq (§2.4.1) with one TimeStampResp (§2.4.2): granted, or a rejection
with the failure bit that says why. The token is CMS SignedData over TSTInfo; content-type, message-digest and
signing-certificate-v2 (RFC 5816) are signed with it, ES256, by the authority's time-stamp leaf. :func:`serve`
puts it behind HTTP (§3.4) on 127.0.0.1 and an unused port.

The time is the caller's: a token is worth as much as the clock passed in. Tokens carry whole seconds and say
so (accuracy one second). Serial numbers are 127 random bits, so no counter has to survive a restart.
"""

import hashlib
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Literal

import httpx
from asn1crypto import algos, cms, core, tsp
from asn1crypto import x509 as asn1
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ledger.errors import ProvenanceError
from ledger.provenance.pki import Authority
from ledger.provenance.signing import Credential

POLICY: Final = "1.3.6.1.4.1.32473.1"
"""The enterprise number reserved for examples (RFC 5612): a development authority has no registered policy."""

Failure = Literal[
    "bad_alg",
    "bad_request",
    "bad_data_format",
    "unaccepted_policy",
    "unaccepted_extensions",
    "time_not_available",
]

_DIGEST_BYTES: Final = {"sha256": 32, "sha384": 48, "sha512": 64}
_MAX_REQUEST_BYTES: Final = 4096
_MAX_NONCE_BITS: Final = 512
_SOCKET_TIMEOUT_S: Final = 5.0
_PROBE_S: Final = 15.0


def respond(request_der: bytes, *, at: datetime, authority: Authority) -> bytes:
    """A DER TimeStampResp for any bytes at all: granted with a token, or rejected with a reason."""
    try:
        request = tsp.TimeStampReq.load(request_der, strict=True)
        facts = request.native  # parses every field, so that what is malformed fails here
        failure = _refusal(facts, at, authority.stamps)
        imprint = request["message_imprint"]
    except (ValueError, TypeError, OverflowError):
        failure = "bad_data_format"
    if failure is not None:
        return _rejection(failure)
    info = tsp.TSTInfo(
        {
            "version": "v1",
            "policy": POLICY,
            "message_imprint": imprint,
            "serial_number": secrets.randbits(127) | 1,
            "gen_time": at.astimezone(UTC).replace(microsecond=0),
            "accuracy": {"seconds": 1},
        }
        | ({} if facts["nonce"] is None else {"nonce": facts["nonce"]})
    )
    token = _signed(info, authority.stamps, with_certificates=facts["cert_req"])
    response: bytes = tsp.TimeStampResp({"status": {"status": "granted"}, "time_stamp_token": token}).dump()
    return response


def probe(url: str) -> None:
    """Raises ProvenanceError unless an authority answers there with a token. Whom it is by, a verifier says."""
    request = tsp.TimeStampReq(
        {
            "version": "v1",
            "message_imprint": {
                "hash_algorithm": {"algorithm": "sha256"},
                "hashed_message": hashlib.sha256(b"countersign").digest(),
            },
            "cert_req": True,
        }
    ).dump()
    try:
        answer = httpx.post(
            url, content=request, headers={"Content-Type": "application/timestamp-query"}, timeout=_PROBE_S
        )
        granted = answer.is_success and tsp.TimeStampResp.load(answer.content)["status"]["status"].native in {
            "granted",
            "granted_with_mods",
        }
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, TypeError) as error:
        raise _silent(url) from error
    if not granted:
        raise _silent(url)


def _silent(url: str) -> ProvenanceError:
    return ProvenanceError(
        "tsa.silent",
        f"the time-stamp authority at `{url}` gives no time-stamps",
        "check COUNTERSIGN_TSA_URL and the way there (behind an HTTP proxy, `NO_PROXY` must name local addresses)",
    )


def _refusal(request: dict[str, Any], at: datetime, stamps: Credential) -> Failure | None:
    imprint, leaf = request["message_imprint"], stamps.certificate
    digest_bytes = _DIGEST_BYTES.get(imprint["hash_algorithm"]["algorithm"])
    nonce_bits = (request["nonce"] or 0).bit_length()
    checks: tuple[tuple[bool, Failure], ...] = (
        (request["version"] == "v1", "bad_request"),
        (digest_bytes is not None, "bad_alg"),
        (len(imprint["hashed_message"]) == digest_bytes and nonce_bits <= _MAX_NONCE_BITS, "bad_data_format"),
        (request["req_policy"] in (None, POLICY), "unaccepted_policy"),
        (not request["extensions"], "unaccepted_extensions"),
        # A token dated outside its signer's life verifies nowhere; a broken clock must not mint one.
        (leaf.not_valid_before_utc <= at <= leaf.not_valid_after_utc, "time_not_available"),
    )
    return next((failure for holds, failure in checks if not holds), None)


def _rejection(failure: Failure) -> bytes:
    status: bytes = tsp.PKIStatusInfo(
        {
            "status": "rejection",
            "status_string": [f"request refused: {failure.replace('_', ' ')}"],
            "fail_info": {failure},
        }
    ).dump()
    # asn1crypto's TimeStampResp insists on a token, which §2.4.2 forbids here: wrap the status by hand.
    return bytes([0x30, len(status)]) + status


def _signed(info: tsp.TSTInfo, stamps: Credential, *, with_certificates: bool) -> cms.ContentInfo:
    leaf, issuing = _asn1(stamps.certificate), _asn1(stamps.issuing)
    content = info.dump()
    attributes = cms.CMSAttributes(
        [
            {"type": "content_type", "values": ["tst_info"]},
            {"type": "message_digest", "values": [hashlib.sha256(content).digest()]},
            {"type": "signing_certificate_v2", "values": [{"certs": [_certificate_id(leaf)]}]},
        ]
    )
    signer = cms.SignerInfo(
        {
            "version": "v1",
            "sid": cms.SignerIdentifier(
                "issuer_and_serial_number", {"issuer": leaf.issuer, "serial_number": leaf.serial_number}
            ),
            "digest_algorithm": algos.DigestAlgorithm({"algorithm": "sha256"}),
            "signed_attrs": attributes,
            "signature_algorithm": algos.SignedDigestAlgorithm({"algorithm": "sha256_ecdsa"}),
            "signature": stamps.sign(attributes.dump()),
        }
    )
    signed = {
        "version": "v3",
        "digest_algorithms": [{"algorithm": "sha256"}],
        "encap_content_info": {"content_type": "tst_info", "content": core.ParsableOctetString(content)},
        "signer_infos": [signer],
    }
    if with_certificates:
        signed["certificates"] = [leaf, issuing]
    return cms.ContentInfo({"content_type": "signed_data", "content": cms.SignedData(signed)})


def _certificate_id(leaf: asn1.Certificate) -> tsp.ESSCertIDv2:
    """RFC 5816: binds the token to this very certificate, so that another with the same key cannot stand in."""
    return tsp.ESSCertIDv2(
        {
            "cert_hash": hashlib.sha256(leaf.dump()).digest(),
            "issuer_serial": {
                "issuer": [asn1.GeneralName("directory_name", leaf.issuer)],
                "serial_number": leaf.serial_number,
            },
        }
    )


def _asn1(certificate: x509.Certificate) -> asn1.Certificate:
    return asn1.Certificate.load(certificate.public_bytes(Encoding.DER))


@contextmanager
def serve(authority: Authority, clock: Callable[[], datetime]) -> Iterator[str]:
    """Run the authority on loopback until the block ends; yields its URL. `clock` is read once per request."""

    class Answer(BaseHTTPRequestHandler):
        timeout = _SOCKET_TIMEOUT_S

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", "")) if self._length_is_sane() else -1
            if self.headers.get_content_type() != "application/timestamp-query" or length < 0:
                self.send_error(400 if length < 0 else 415)
                return
            reply = respond(self.rfile.read(length), at=clock(), authority=authority)
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def _length_is_sane(self) -> bool:
            declared = self.headers.get("Content-Length", "")
            return declared.isdecimal() and int(declared) <= _MAX_REQUEST_BYTES

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 — the parent's name
            """Nothing: request lines are not this module's to log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
