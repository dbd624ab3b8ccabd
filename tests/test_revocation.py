"""Certificates succeeded and taken back: what our verdict says of clips, and what OpenSSL says of lists and answers."""

import asyncio
import subprocess
import warnings
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import encypher_c2pa
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from litestar.testing import TestClient

from command import countersign
from gateway.app import create_app
from gateway.service import Service, open_service
from gateway.settings import Settings
from gateway.signing import Signing
from gateway.signing_keys import rotated, take_back
from ledger.errors import LogError, ProvenanceError
from ledger.ids import VideoId
from ledger.log.signing import Reason, SigningTable, revoked, used
from ledger.provenance import media, pki, tsa
from ledger.provenance.manifest import Claim, ManifestFinding, Signer, read
from ledger.provenance.pki import Authority
from ledger.provenance.revocation import key_name
from ledger.provenance.trust import fingerprint
from world import World, check_log, open_ledger

NOW = datetime.now(UTC).replace(microsecond=0)
BEFORE = NOW - timedelta(hours=3)
CLAIM = Claim(VideoId("video_1"), "A clip", NOW, "reference", "1", True, "00" * 8, {"video_id": "video_1"})
URL = "http://localhost:8460"
T = 1_772_366_400
MALFORMED, UNAUTHORIZED = b"0\x03\x0a\x01\x01", b"0\x03\x0a\x01\x06"


@dataclass
class House:
    """An installation with a development authority and a clock."""

    world: World
    plain: Path
    at: datetime = BEFORE

    @property
    def signing(self) -> Signing:
        settings = Settings(home=self.world.home, port=8460)
        return Signing.open(settings, self.world.ledger, lambda: self.at)

    @property
    def serial(self) -> int:
        return self.signing.claims.certificate.serial_number

    def revoke(self, serial: int, reason: Any, since: datetime | None = None) -> None:
        row = next(
            row
            for row in self.signing.table().rows
            if x509.load_der_x509_certificate(row.der).serial_number == serial
        )
        back = int(since.timestamp()) if since else None
        said = revoked(row.sha256, time=int(self.at.timestamp()), reason=reason, since=back)
        self.world.ledger.transact(lambda tx: tx.announce_signing(said, at=self.at))

    def sign(self, name: str, source: Any = None) -> Path:
        """A clip signed and time-stamped at this moment; `source`: whoever signs, perhaps a thief."""
        path = self.world.home / f"{name}.mp4"
        with tsa.serve(self.signing.authority(), lambda: self.at) as url:
            Signer(source or self.signing, url).sign(self.plain, path, replace(CLAIM, at=self.at))
        return path

    def read(self, path: Path) -> ManifestFinding:
        return read(path, self.signing.anchors)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "plain.mp4"
    media.write_pattern(path)
    return path


@pytest.fixture
def house(world: World, plain: Path) -> House:
    return House(world, plain)


def openssl(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(("openssl", *arguments), capture_output=True, text=True, cwd=cwd, check=False)
    return done.stdout + done.stderr


# ── the log's rule ────────────────────────────────────────────────────────────────────────────────────────


TABLE = SigningTable().after(used(b"one", time=T)).after(used(b"two", time=T))
ONE, TWO = (row.sha256 for row in TABLE.rows)


class TestTable:
    @pytest.mark.parametrize(
        ("payload", "said"),
        [
            ({}, "neither"),
            ({1: "lost"}, "neither"),
            (used(b"one", time=T), "announced before"),
            (used(b"x" * 9_000, time=T), "not in the form"),
            ({**used(b"three", time=T), 2: "text"}, "not in the form"),
            ({**used(b"three", time=T), 3: True}, "not in the form"),
            ({**used(b"three", time=T), 4: 1}, "not in the form"),
            (revoked(bytes(32), time=T, reason="superseded"), "never announced"),
            (revoked(ONE, time=T, reason="superseded", since=T - 1), "only a compromised key"),
            (revoked(ONE, time=T, reason="keyCompromise", since=T + 1), "not in the form"),
            (revoked(ONE, time=T, reason="removeFromCRL"), "not in the form"),  # type: ignore[arg-type]
        ],
    )
    def test_what_does_not_count_is_refused_and_changes_nothing(
        self, payload: dict[int, Any], said: str
    ) -> None:
        with pytest.raises(LogError, match=said):
            TABLE.after(payload)

    @given(
        st.lists(st.tuples(st.sampled_from([ONE, TWO]), st.integers(0, 50), st.integers(0, 50)), max_size=8)
    )
    def test_a_revocation_only_ever_reaches_further_back(self, said: list[tuple[bytes, int, int]]) -> None:
        table = TABLE
        for digest, time, since in said:
            held = table.find(digest)
            assert held is not None
            before = held.since
            payload = revoked(digest, time=T + time, reason="keyCompromise", since=T + since)
            try:
                table = table.after(payload)
            except LogError:
                assert since > time or (before is not None and T + since >= before)
                continue
            held = table.find(digest)
            assert held is not None
            assert held.since == T + since
            assert before is None or held.since < before
        assert [row.der for row in table.rows] == [b"one", b"two"]

    def test_every_certificate_stands_in_the_log_before_it_signs(self, house: House) -> None:
        house.sign("first")
        rotated(house.signing, issuing=False)
        assert len(house.signing.table().rows) == 2
        check_log(house.world.ledger)
        # Another process, from the rows alone, and one that reads while the log goes on.
        house.world.ledger.close()
        ledger, _ = open_ledger(house.world.home)
        house.world.ledger = ledger
        assert [row.revoked_at for row in house.signing.table().rows] == [None, None]


# ── clips ─────────────────────────────────────────────────────────────────────────────────────────────────


class TestClips:
    @pytest.mark.parametrize("issuing", [False, True])
    def test_clips_from_before_a_rotation_stay_trusted(self, house: House, issuing: bool) -> None:
        old = house.sign("old")
        before = house.signing.authority()
        running = house.signing
        house.at += timedelta(hours=1)
        leaf = rotated(house.signing, issuing=issuing)
        assert running.claims.certificate == leaf, "a service that is running notices"
        new = house.sign("new", running)
        after = house.signing.authority()
        assert (after.root_pem == before.root_pem) is not issuing
        assert after.roots_pem.count(b"BEGIN") == (2 if issuing else 1)
        for path, signed_at in ((old, BEFORE), (new, BEFORE + timedelta(hours=1))):
            found = house.read(path)
            assert (found.manifest_trusted, found.trusted_by, found.signed_at) == (True, "ours", signed_at)
        assert house.read(old).certificate != house.read(new).certificate == fingerprint(leaf)

    def test_a_generation_that_was_not_finished_is_not_there(self, house: House) -> None:
        before = house.signing.authority()
        files = sorted(path.name for path in house.signing.directory.iterdir())

        def fails(leaf: x509.Certificate) -> None:
            raise LogError("log.closed", "the log is closed")

        with pytest.raises(LogError):
            pki.rotate(house.signing.directory, at=house.at, url=URL, announce=fails, issuing=True)
        with pytest.raises(LogError):
            pki.rotate(house.signing.directory, at=house.at, url=URL, announce=fails)
        after = house.signing.authority()
        assert (after.roots_pem, after.claims.chain_pem) == (before.roots_pem, before.claims.chain_pem)
        assert sorted(path.name for path in house.signing.directory.iterdir()) == files

    def test_what_was_revoked_signs_nothing_more(self, house: House) -> None:
        house.sign("first")
        house.revoke(house.serial, "superseded")
        with pytest.raises(ProvenanceError, match="was revoked") as caught:
            house.sign("second")
        assert "rotate-signing" in caught.value.reason.remedy
        rotated(house.signing, issuing=False)
        assert house.read(house.sign("third")).manifest_trusted

    def test_a_clip_counts_by_when_it_was_signed(self, house: House) -> None:
        """The thief keeps the key, and a time-stamp that is not theirs."""
        early = house.sign("early")
        thief = house.signing.authority()
        house.at += timedelta(hours=1)
        house.revoke(thief.claims.certificate.serial_number, "superseded")
        house.at += timedelta(hours=1)
        late = house.sign("late", thief)
        assert house.read(early).manifest_trusted
        found = house.read(late)
        assert (found.state, found.manifest_trusted, found.trusted_by) == ("invalid", False, None)
        assert (found.signer, found.signed_at, found.consent, found.soft_binding) == (None,) * 4
        assert found.failures == ("signingCredential.ocsp.revoked",)
        assert found.asset_bound
        assert found.revoked is not None
        assert (found.revoked.reason, found.revoked.since) == ("superseded", BEFORE + timedelta(hours=1))

    def test_a_stolen_key_reaches_back_to_the_theft(self, house: House) -> None:
        first = house.sign("first")
        house.at += timedelta(minutes=30)
        theft = house.at
        second = house.sign("second")
        house.at += timedelta(hours=1)
        serial = house.serial
        house.revoke(serial, "superseded")
        assert house.read(second).manifest_trusted
        house.revoke(serial, "keyCompromise", since=theft)
        assert not house.read(second).manifest_trusted
        assert house.read(first).manifest_trusted, "a second before the theft it was ours"

    def test_a_clip_without_a_trusted_time_counts_for_nothing_once_its_signer_is_revoked(
        self, house: House
    ) -> None:
        path = house.sign("clip")
        house.at += timedelta(hours=1)
        house.revoke(house.serial, "superseded")
        content = path.read_bytes()
        at = content.rindex(b"Countersign development time-stamp authority")
        path.write_bytes(content[:at] + b"K" + content[at + 1 :])
        assert house.read(path).revoked is not None
        assert not house.read(path).manifest_trusted

    def test_the_staple_is_seen_by_two_readers_and_an_altered_one_changes_no_statement(
        self, house: House
    ) -> None:
        """RFC 6960 in the unprotected header, where nothing is signed: who removes it gains nothing."""
        path = house.sign("clip")
        roots = house.signing.authority().roots_pem.decode()
        report = second_opinion(path, roots)
        assert report["validation_results"]["failure"] == []
        told = {
            entry["code"]
            for kind in ("success", "informational")
            for entry in report["validation_results"][kind]
        }
        assert "signingCredential.ocsp.notRevoked" in told
        content, believed = path.read_bytes(), house.read(path)
        at = content.index(b"ocspVals")
        path.write_bytes(content[: at + 60] + bytes([content[at + 60] ^ 1]) + content[at + 61 :])
        assert house.read(path) == believed


def second_opinion(path: Path, roots: str) -> Any:
    return encypher_c2pa.verify(
        path,
        mime_type="video/mp4",
        trust_pem=roots,
        tsa_trust_pem=roots,
        no_default_trust=True,
        telemetry=False,
        online=False,
        strict_conformance=True,
    )


@pytest.fixture(autouse=True)
def no_telemetry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENCYPHER_C2PA_CONFIG_DIR", str(tmp_path / "encypher"))
    monkeypatch.setenv("ENCYPHER_C2PA_TELEMETRY", "off")
    monkeypatch.setenv("ENCYPHER_C2PA_ONLINE", "off")


# ── lists and answers ─────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Installed:
    """The whole service, and its clock."""

    service: Service
    client: TestClient[Any]

    @property
    def signing(self) -> Signing:
        return self.service.signing

    @property
    def at(self) -> datetime:
        return self.service.clock()

    def fresh(self) -> x509.Certificate:
        """A claim signer that no other test knows."""
        return rotated(self.signing, issuing=False)

    def revoke(self, leaf: x509.Certificate, reason: Reason, since: datetime | None = None) -> None:
        take_back(self.service, leaf.serial_number, reason, since)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    home = tmp_path_factory.mktemp("installed")
    with (
        warnings.catch_warnings(),
        open_service(Settings(home=home, port=8460), clock=lambda: NOW) as service,
    ):
        warnings.simplefilter("ignore")  # the framework's own, about its next major version
        with TestClient(create_app(service)) as client:
            yield Installed(service, client)


class TestPublished:
    def lay_out(self, installed: Installed, folder: Path, leaf: x509.Certificate) -> str:
        """Root, issuer and leaf as files, and the address of the issuer's list."""
        authority = installed.signing.authority()
        issuer = authority.issuers[0].certificate
        folder.mkdir(exist_ok=True)
        (folder / "root.pem").write_bytes(authority.roots_pem)
        (folder / "issuer.pem").write_bytes(issuer.public_bytes(Encoding.PEM))
        (folder / "leaf.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
        return f"/pki/{key_name(issuer)}.crl"

    def test_who_asks_holds_up_nobody_else(
        self, installed: Installed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The table is read from the database, which may be slow: never by the thread that all requests share."""
        table, seen = Signing.table, list[str]()

        def watched(signing: Signing) -> SigningTable:
            seen.append("shared" if asyncio._get_running_loop() is not None else "own")
            return table(signing)

        monkeypatch.setattr(Signing, "table", watched)
        installed.client.post("/pki/ocsp", content=b"")
        assert set(seen) == {"own"}

    def test_the_leaf_says_where_to_ask(self, installed: Installed) -> None:
        said = installed.fresh().extensions
        (point,) = said.get_extension_for_class(x509.CRLDistributionPoints).value
        at = (point.full_name or [])[0]
        access = said.get_extension_for_class(x509.AuthorityInformationAccess).value
        ocsp, issuer = (one.access_location.value.removeprefix(URL) for one in access)
        got = installed.client.get(at.value.removeprefix(URL))
        assert got.headers["content-type"] == "application/pkix-crl"
        assert installed.client.post(ocsp, content=b"").content == MALFORMED
        content = installed.client.get(issuer).content
        assert x509.load_der_x509_certificate(content) == installed.signing.authority().claims.issuing

    def test_openssl_finds_the_revoked_leaf_in_the_list_and_its_successor_not(
        self, installed: Installed, tmp_path: Path
    ) -> None:
        leaf, theft = installed.fresh(), NOW - timedelta(minutes=3)
        installed.revoke(leaf, "keyCompromise", since=theft)
        successor = installed.signing.claims.certificate
        assert successor != leaf, "the one in use is succeeded first"
        verify = (
            *("verify", "-crl_check", "-attime", str(int(NOW.timestamp())), "-CRLfile", "list.pem"),
            *("-CAfile", "root.pem", "-untrusted", "issuer.pem", "leaf.pem"),
        )
        for one, said in ((leaf, "certificate revoked"), (successor, "leaf.pem: OK")):
            address = self.lay_out(installed, tmp_path, one)
            (tmp_path / "list.der").write_bytes(installed.client.get(address).content)
            openssl("crl", "-inform", "DER", "-in", "list.der", "-out", "list.pem", cwd=tmp_path)
            assert said in openssl(*verify, cwd=tmp_path)
        text = openssl("crl", "-in", "list.pem", "-text", "-noout", "-CAfile", "issuer.pem", cwd=tmp_path)
        assert "verify OK" in text
        entry = text.partition(f"{leaf.serial_number:X}")[2].partition("Serial Number")[0]
        assert "Key Compromise" in entry
        assert f"Revocation Date: {theft:%b %e %H:%M:%S %Y} GMT" in entry

    @pytest.mark.parametrize("digest", ["sha1", "sha256"])
    @pytest.mark.parametrize("method", ["get", "post"])
    def test_openssl_believes_the_answers(
        self, installed: Installed, tmp_path: Path, digest: str, method: str
    ) -> None:
        leaf = installed.fresh()
        self.lay_out(installed, tmp_path, leaf)
        asked = ("-issuer", "issuer.pem", f"-{digest}", "-cert", "leaf.pem", "-no_nonce")
        openssl("ocsp", *asked, "-reqout", "question", cwd=tmp_path)
        question = (tmp_path / "question").read_bytes()

        def told() -> str:
            spelt = quote(b64encode(question).decode(), safe="")
            answer = (
                installed.client.post("/pki/ocsp", content=question)
                if method == "post"
                else installed.client.get(f"/pki/ocsp/{spelt}")
            )
            assert answer.headers["content-type"] == "application/ocsp-response"
            (tmp_path / "answer").write_bytes(answer.content)
            attime = ("-attime", str(int(NOW.timestamp())))
            return openssl("ocsp", "-respin", "answer", *asked, "-CAfile", "root.pem", *attime, cwd=tmp_path)

        before = told()
        assert "Response verify OK" in before
        assert "leaf.pem: good" in before
        installed.revoke(leaf, "superseded")
        after = told()
        assert "Response verify OK" in after
        assert "leaf.pem: revoked" in after
        assert "Reason: superseded" in after

    def test_of_what_it_did_not_issue_it_says_nothing(self, installed: Installed, tmp_path: Path) -> None:
        other = Authority.open(tmp_path / "other", at=NOW).claims.issuing
        self.lay_out(installed, tmp_path, installed.fresh())
        asked = ("ocsp", "-issuer", "issuer.pem", "-serial", "0x77", "-no_nonce")

        def answer() -> bytes:
            openssl(*asked, "-reqout", "q", cwd=tmp_path)
            return bytes(installed.client.post("/pki/ocsp", content=(tmp_path / "q").read_bytes()).content)

        (tmp_path / "a").write_bytes(answer())
        assert "0x77: unknown" in openssl(*asked, "-respin", "a", "-noverify", cwd=tmp_path)
        (tmp_path / "issuer.pem").write_bytes(other.public_bytes(Encoding.PEM))
        assert answer() == UNAUTHORIZED
        assert installed.client.post("/pki/ocsp", content=bytes(5_000)).content == MALFORMED
        assert installed.client.get("/pki/ocsp/%25%25").content == MALFORMED
        name = key_name(installed.signing.authority().claims.issuing)
        for path in (f"{key_name(other)}.crl", f"{name}.pem", name):
            assert installed.client.get(f"/pki/{path}").status_code == 404

    def test_an_older_generation_goes_on_answering_for_its_leaves(self, installed: Installed) -> None:
        old, issuer = installed.fresh(), installed.signing.authority().claims.issuing
        installed.revoke(old, "superseded")
        rotated(installed.signing, issuing=True)
        newest = installed.signing.authority().claims.issuing
        before, now = (
            x509.load_der_x509_crl(installed.client.get(f"/pki/{key_name(one)}.crl").content)
            for one in (issuer, newest)
        )
        assert before.get_revoked_certificate_by_serial_number(old.serial_number) is not None
        assert list(now) == []
        for crl, by in ((before, issuer), (now, newest)):
            key = by.public_key()
            assert isinstance(key, ec.EllipticCurvePublicKey)
            assert crl.is_signature_valid(key)
        assert installed.client.get("/root.pem").text.count("BEGIN CERTIFICATE") == 2


# ── the command line, and homes from before ───────────────────────────────────────────────────────────────


def test_the_commands_rotate_revoke_and_list(tmp_path: Path) -> None:
    home = tmp_path / "home"
    serial = countersign(home, "keys", "rotate-signing").text.split()[0]
    listed = countersign(home, "keys", "signing").text
    assert "own development authority, which nobody else trusts" in listed
    assert f"{serial}  from" in listed
    said = countersign(home, "keys", "revoke-signing", serial, "--reason", "keyCompromise")
    assert (said.status, said.text.startswith("revoked: nothing it signed from ")) == (0, True)
    listed = countersign(home, "keys", "signing").text
    assert "revoked (keyCompromise)" in listed
    assert "in use" in listed, "the one in use was succeeded before it was taken back"
    for arguments, words in (
        (("77", "--reason", "superseded"), "no certificate with the serial number `77`"),
        ((serial, "--reason", "superseded", "--since", "2026-01-01T00:00:00Z"), "only a compromised key"),
        (("no number", "--reason", "superseded"), "SERIAL is hexadecimal"),
        ((serial, "--reason", "keyCompromise"), "revoked before"),
    ):
        answer = countersign(home, "keys", "revoke-signing", *arguments)
        assert (answer.status, words in answer.text) == (2, True), answer.text


def test_an_authority_made_before_there_was_revocation_opens_and_goes_on(house: House) -> None:
    """Its leaves say nothing of where to ask, and no responder was made."""
    directory = house.signing.directory
    made = Authority.open(directory, at=house.at)
    (directory / "ocsp.pem").unlink()
    path = house.sign("clip")
    after = house.signing.authority()
    assert (after.root_pem, after.claims.chain_pem) == (made.root_pem, made.claims.chain_pem)
    with pytest.raises(x509.ExtensionNotFound):
        after.claims.certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints)
    assert house.read(path).trusted_by == "ours"
