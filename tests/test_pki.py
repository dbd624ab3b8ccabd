"""The development authority on disk, and the time-stamps it gives, checked by OpenSSL and rfc3161-client."""

import hashlib
import shutil
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import tsp
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st
from rfc3161_client import TimestampRequestBuilder, VerifierBuilder, decode_timestamp_response

from ledger.errors import ProvenanceError
from ledger.provenance import tsa
from ledger.provenance.pki import Authority
from ledger.provenance.signing import FileKey

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
FILES = ("root.pem", "issuing.pem", "claims.pem", "stamps.pem")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pki") / "authority"


@pytest.fixture(scope="module")
def authority(directory: Path) -> Authority:
    return Authority.open(directory, at=AT)


def openssl(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(("openssl", *arguments), capture_output=True, text=True, cwd=cwd, check=False)
    return done.stdout + done.stderr


class TestDirectory:
    def test_a_second_start_loads_what_the_first_created(self, authority: Authority, directory: Path) -> None:
        again = Authority.open(directory, at=AT)
        assert again.root_pem == authority.root_pem
        assert again.claims.chain_pem == authority.claims.chain_pem
        assert again.stamps.chain_pem == authority.stamps.chain_pem

    def test_no_key_is_readable_by_others_and_the_root_key_is_nowhere(
        self, authority: Authority, directory: Path
    ) -> None:
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert sorted(path.name for path in directory.iterdir()) == sorted((*FILES, "ocsp.pem"))
        assert {stat.S_IMODE((directory / name).stat().st_mode) for name in FILES} == {0o600}
        assert b"PRIVATE" not in (directory / "root.pem").read_bytes()
        assert b"PRIVATE" not in authority.claims.chain_pem + authority.stamps.chain_pem

    def test_an_existing_empty_directory_is_filled(self, tmp_path: Path) -> None:
        (tmp_path / "mounted").mkdir()
        assert Authority.open(tmp_path / "mounted", at=AT).root_pem

    def test_processes_racing_to_start_agree_on_one_authority(self, tmp_path: Path) -> None:
        script = (
            "import sys, pathlib, datetime; from ledger.provenance.pki import Authority;"
            f"a = Authority.open(pathlib.Path(sys.argv[1]), at=datetime.datetime.fromisoformat({AT.isoformat()!r}));"
            "print((a.root_pem + a.claims.chain_pem + a.stamps.chain_pem).hex())"
        )
        command = (sys.executable, "-c", script, str(tmp_path / "ca"))
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
        seen = {process.communicate(timeout=60)[0] for process in running}
        assert [process.returncode for process in running] == [0] * 4
        assert len(seen) == 1
        assert [path.name for path in tmp_path.iterdir()] == ["ca"]

    @pytest.mark.parametrize("name", FILES)
    @pytest.mark.parametrize("damage", ["missing", "garbage", "another's"])
    def test_a_damaged_directory_is_refused_by_file_name(
        self, authority: Authority, directory: Path, tmp_path: Path, name: str, damage: str
    ) -> None:
        copy = shutil.copytree(directory, tmp_path / "copy")
        if damage == "missing":
            (copy / name).unlink()
        elif damage == "garbage":
            (copy / name).write_bytes(b"\x00garbage")
        else:
            Authority.open(tmp_path / "other", at=AT)
            shutil.copy(tmp_path / "other" / name, copy / name)
        with pytest.raises(ProvenanceError) as caught:
            Authority.open(copy, at=AT)
        named = "issuing.pem" if (name, damage) == ("root.pem", "another's") else name
        assert f"{copy / named}" in str(caught.value)
        assert "backup" in caught.value.reason.remedy

    def test_a_key_beside_another_certificate_is_refused(
        self, authority: Authority, directory: Path, tmp_path: Path
    ) -> None:
        copy = shutil.copytree(directory, tmp_path / "copy")
        certificate = (copy / "claims.pem").read_bytes().split(b"-----BEGIN PRIVATE")[0]
        key = (copy / "stamps.pem").read_bytes().partition(b"-----BEGIN PRIVATE")
        (copy / "claims.pem").write_bytes(certificate + key[1] + key[2])
        with pytest.raises(ProvenanceError, match="not its certificate's") as caught:
            Authority.open(copy, at=AT)
        assert caught.value.reason.id == "pki.mixed"

    def test_a_path_that_cannot_be_a_directory_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(ProvenanceError) as caught:
            Authority.open(tmp_path / "file" / "ca", at=AT)
        assert caught.value.reason.id == "pki.unreadable"

    def test_leaves_near_their_end_are_renewed_under_the_same_root(self, tmp_path: Path) -> None:
        first = Authority.open(tmp_path / "ca", at=AT)
        later = Authority.open(tmp_path / "ca", at=AT + timedelta(days=370))
        assert later.root_pem == first.root_pem
        assert later.claims.certificate != first.claims.certificate
        assert isinstance(later.claims.key, FileKey)
        assert later.claims.key.private.public_key() == later.claims.certificate.public_key()
        assert Authority.open(tmp_path / "ca", at=AT + timedelta(days=371)).claims.chain_pem == (
            later.claims.chain_pem
        )

    @pytest.mark.parametrize("days", [-2, 3400])
    def test_a_clock_outside_the_authoritys_life_is_refused(self, directory: Path, days: int) -> None:
        with pytest.raises(ProvenanceError) as caught:
            Authority.open(directory, at=AT + timedelta(days=days))
        assert caught.value.reason.id == "pki.out_of_life"


class TestCertificates:
    def test_openssl_builds_both_chains(self, authority: Authority, tmp_path: Path) -> None:
        (tmp_path / "root.pem").write_bytes(authority.root_pem)
        for credential, purpose in ((authority.claims, "any"), (authority.stamps, "timestampsign")):
            (tmp_path / "chain.pem").write_bytes(credential.chain_pem)
            said = openssl(
                *("verify", "-x509_strict", "-attime", str(int(AT.timestamp())), "-purpose", purpose),
                *("-CAfile", "root.pem", "-untrusted", "chain.pem", "chain.pem"),
                cwd=tmp_path,
            )
            assert said == "chain.pem: OK\n"

    def test_each_leaf_may_do_one_thing_only(self, authority: Authority) -> None:
        claims = authority.claims.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
        stamps = authority.stamps.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
        assert ExtendedKeyUsageOID.TIME_STAMPING not in claims.value
        assert "1.3.6.1.4.1.62558.2.1" in [use.dotted_string for use in claims.value]
        assert list(stamps.value) == [ExtendedKeyUsageOID.TIME_STAMPING]
        assert stamps.critical

    def test_every_subject_says_development(self, authority: Authority) -> None:
        root = x509.load_pem_x509_certificate(authority.root_pem)
        for certificate in (root, authority.claims.issuing, authority.claims.certificate):
            assert "Countersign development" in certificate.subject.rfc4514_string()

    def test_cose_signatures_are_64_bytes_whatever_the_integers(self, authority: Authority) -> None:
        assert {len(authority.claims.sign_cose(bytes([i]))) for i in range(256)} == {64}


def query(message: bytes = b"clip", digest: str = "sha256", **fields: Any) -> bytes:
    imprint = {
        "hash_algorithm": {"algorithm": digest},
        "hashed_message": hashlib.new(digest, message).digest(),
    }
    request = {"version": "v1", "message_imprint": imprint, "nonce": 2**63 + 1, "cert_req": True} | fields
    der: bytes = tsp.TimeStampReq(request).dump()
    return der


class TestTimeStamps:
    @pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
    def test_openssl_verifies_the_token(self, authority: Authority, tmp_path: Path, digest: str) -> None:
        (tmp_path / "data").write_bytes(b"clip")
        (tmp_path / "root.pem").write_bytes(authority.root_pem)
        openssl("ts", "-query", "-data", "data", f"-{digest}", "-cert", "-out", "q", cwd=tmp_path)
        reply = tsa.respond((tmp_path / "q").read_bytes(), at=AT, authority=authority)
        (tmp_path / "r").write_bytes(reply)
        attime = ("-attime", str(int(AT.timestamp())))
        verify = ("ts", "-verify", "-queryfile", "q", "-in", "r", "-CAfile", "root.pem", *attime)
        assert "Verification: OK" in openssl(*verify, cwd=tmp_path)
        assert "Mar  1 12:00:00 2026 GMT" in openssl("ts", "-reply", "-in", "r", "-text", cwd=tmp_path)
        (tmp_path / "q").write_bytes(query(b"another clip"))
        assert "Verification: FAILED" in openssl(*verify, cwd=tmp_path)

    def test_no_certificates_are_sent_unasked_and_the_token_still_verifies(
        self, authority: Authority, tmp_path: Path
    ) -> None:
        (tmp_path / "q").write_bytes(query(cert_req=False))
        (tmp_path / "chain.pem").write_bytes(authority.stamps.chain_pem)
        (tmp_path / "root.pem").write_bytes(authority.root_pem)
        reply = tsa.respond(query(cert_req=False), at=AT, authority=authority)
        (tmp_path / "r").write_bytes(reply)
        assert authority.stamps.common_name.encode() not in reply
        verify = ("ts", "-verify", "-queryfile", "q", "-in", "r", "-untrusted", "chain.pem")
        attime = ("-attime", str(int(AT.timestamp())))
        assert "Verification: OK" in openssl(*verify, "-CAfile", "root.pem", *attime, cwd=tmp_path)

    @pytest.mark.parametrize(
        ("request_der", "failure"),
        [
            (b"", "bad_data_format"),
            (b"\x30\x80garbage", "bad_data_format"),
            (query() + b"\x00", "bad_data_format"),
            (query(digest="sha1"), "bad_alg"),
            (query(version="v2"), "bad_request"),
            (query(nonce=1 << 600), "bad_data_format"),
            (query(req_policy="1.2.3"), "unaccepted_policy"),
            (
                query(extensions=[{"extn_id": "1.2.3", "critical": True, "extn_value": b"x"}]),
                "unaccepted_extensions",
            ),
        ],
    )
    def test_a_bad_request_is_rejected_with_the_bit_that_says_why(
        self, authority: Authority, tmp_path: Path, request_der: bytes, failure: str
    ) -> None:
        reply = tsa.respond(request_der, at=AT, authority=authority)
        (tmp_path / "r").write_bytes(reply)
        said = openssl("ts", "-reply", "-in", "r", "-text", cwd=tmp_path)
        assert "Status: Rejected." in said
        assert failure.replace("_", " ") in said
        assert "Not included." in said

    def test_a_digest_of_the_wrong_length_is_rejected(self, authority: Authority) -> None:
        imprint = {"hash_algorithm": {"algorithm": "sha256"}, "hashed_message": b"short"}
        assert b"bad data format" in tsa.respond(query(message_imprint=imprint), at=AT, authority=authority)

    def test_a_clock_outside_the_signers_life_mints_nothing(self, authority: Authority) -> None:
        reply = tsa.respond(query(), at=AT + timedelta(days=4000), authority=authority)
        assert b"time not available" in reply

    @settings(max_examples=60, deadline=None)
    @given(st.binary(max_size=200) | st.integers(0, 8 * 60 - 1))
    def test_any_bytes_get_an_answer(self, authority: Authority, damage: bytes | int) -> None:
        request = damage
        if isinstance(damage, int):
            bits = bytearray(query())
            bits[damage // 8 % len(bits)] ^= 1 << damage % 8
            request = bytes(bits)
        assert isinstance(request, bytes)
        assert tsa.respond(request, at=AT, authority=authority)[0] == 0x30

    def test_serial_numbers_do_not_repeat(self, authority: Authority) -> None:
        replies = [tsa.respond(query(), at=AT, authority=authority) for _ in range(8)]
        assert len({decode_timestamp_response(reply).tst_info.serial_number for reply in replies}) == 8


class TestServer:
    @pytest.fixture
    def url(self, authority: Authority) -> Iterator[str]:
        with tsa.serve(authority, lambda: AT) as url:
            yield url

    def post(self, url: str, body: bytes, kind: str = "application/timestamp-query") -> Any:
        return urllib.request.urlopen(
            urllib.request.Request(url, data=body, headers={"Content-Type": kind}), timeout=5
        )

    def test_rfc3161_client_verifies_what_http_returns(self, authority: Authority, url: str) -> None:
        request = TimestampRequestBuilder().data(b"clip").nonce(nonce=True).build()
        with self.post(url, request.as_bytes()) as reply:
            assert reply.headers["Content-Type"] == "application/timestamp-reply"
            response = decode_timestamp_response(reply.read())
        root = x509.load_pem_x509_certificate(authority.root_pem)
        assert request.nonce is not None
        builder = VerifierBuilder().add_root_certificate(root).nonce(request.nonce)
        assert builder.build().verify_message(response, b"clip")

    @pytest.mark.parametrize(
        ("body", "kind", "status"),
        [(b"x", "text/plain", 415), (bytes(5000), "application/timestamp-query", 400)],
    )
    def test_what_is_not_a_query_is_turned_away(self, url: str, body: bytes, kind: str, status: int) -> None:
        with pytest.raises(urllib.error.HTTPError) as caught:
            self.post(url, body, kind)
        caught.value.close()
        assert caught.value.code == status

    def test_the_port_is_closed_after_the_block(self, authority: Authority) -> None:
        with tsa.serve(authority, lambda: AT) as url:
            assert url.startswith("http://127.0.0.1:")
        with pytest.raises(urllib.error.URLError):
            self.post(url, query())
