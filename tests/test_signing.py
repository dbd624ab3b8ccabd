"""Keys that sign claims in files, tokens and commands; what must hold of their certificates; whose a clip then is."""

import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from textwrap import dedent
from typing import Any

import pkcs11
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from pkcs11.util.ec import encode_ec_public_key, encode_named_curve_parameters

from bought import CLAIMS, Shop, key_pem, pem
from gateway.settings import Settings
from gateway.signing import Signing
from ledger.errors import ProvenanceError
from ledger.ids import VideoId
from ledger.provenance import media, tsa
from ledger.provenance.manifest import Claim, Signer, canary, read
from ledger.provenance.pki import Authority
from ledger.provenance.revocation import Issuer, Revocation, reply
from ledger.provenance.signing import CommandKey, Credential, FileKey, TokenKey, checked
from ledger.provenance.trust import Anchors, fingerprint
from world import World

NOW = datetime.now(UTC).replace(microsecond=0)
CLAIM = Claim(VideoId("video_1"), "A clip", NOW, "reference", "1", True, "00" * 8, {"video_id": "video_1"})
SOFTHSM = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "246810"


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop.opened(NOW)


@pytest.fixture(scope="module")
def p256() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True)
class Bought:
    """A credential on disk, as an operator has it: settings name these files."""

    shop: Shop
    folder: Path
    key: ec.EllipticCurvePrivateKey

    @property
    def files(self) -> dict[str, Any]:
        return {
            "signing_chain": self.folder / "chain.pem",
            "signing_roots": self.folder / "roots.pem",
            "signing_key": self.folder / "key.pem",
        }

    @property
    def credential(self) -> Credential:
        leaf = x509.load_pem_x509_certificate((self.folder / "chain.pem").read_bytes())
        return Credential(leaf, FileKey.read(self.folder / "key.pem"), (self.shop.issuing,))


def bought(shop: Shop, folder: Path, key: ec.EllipticCurvePrivateKey, **changes: Any) -> Bought:
    folder.mkdir(parents=True, exist_ok=True)
    shop.chain(shop.leaf(key, NOW, **changes), folder / "chain.pem")
    (folder / "roots.pem").write_bytes(pem(shop.root))
    (folder / "key.pem").write_bytes(key_pem(key))
    (folder / "key.pem").chmod(0o600)
    return Bought(shop, folder, key)


@pytest.fixture(scope="module")
def stamps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A time-stamp authority elsewhere: its address, and its root in a file."""
    authority = Authority.open(tmp_path_factory.mktemp("tsa") / "pki", at=NOW)
    root = tmp_path_factory.mktemp("tsa-root") / "root.pem"
    root.write_bytes(authority.root_pem)
    with tsa.serve(authority, lambda: NOW) as url:
        yield url, root


def signing_of(world: World, **settings: Any) -> Signing:
    return Signing.open(Settings(home=world.home, **settings), world.ledger, lambda: NOW)


def refused(call: Any, *arguments: Any, **named: Any) -> str:
    """What the refusal says, and what to do."""
    with pytest.raises(ProvenanceError) as caught:
        call(*arguments, **named)
    return f"{caught.value} | {caught.value.reason.remedy}"


class TestKeys:
    @pytest.mark.parametrize(
        ("curve", "alg", "size"), [(ec.SECP256R1(), "ES256", 64), (ec.SECP384R1(), "ES384", 96)]
    )
    def test_a_file_signs_on_both_curves(
        self, shop: Shop, tmp_path: Path, curve: ec.EllipticCurve, alg: str, size: int
    ) -> None:
        one = bought(shop, tmp_path, ec.generate_private_key(curve)).credential
        assert (one.alg, len(one.sign_cose(b"x"))) == (alg, size)
        assert checked(one, [shop.root], at=NOW) is one

    def test_a_key_others_may_read_is_refused(
        self, shop: Shop, tmp_path: Path, p256: ec.EllipticCurvePrivateKey
    ) -> None:
        path = bought(shop, tmp_path, p256).folder / "key.pem"
        path.chmod(0o644)
        assert "others may read the key" in refused(FileKey.read, path)
        assert f"chmod 600 {path}" in refused(FileKey.read, path)

    def test_a_key_of_another_kind_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "key.pem"
        key = rsa.generate_private_key(65537, 2048)
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        path.chmod(0o600)
        assert "not on P-256 or P-384" in refused(FileKey.read, path)
        path.write_bytes(b"nothing")
        assert "holds no private key" in refused(FileKey.read, path)
        assert "cannot be read" in refused(FileKey.read, tmp_path / "missing.pem")

    @pytest.mark.parametrize("form", ["der", "raw"])
    def test_a_command_is_given_a_digest_and_answers_a_signature(
        self, shop: Shop, tmp_path: Path, p256: ec.EllipticCurvePrivateKey, form: str
    ) -> None:
        """OpenSSL as the key service."""
        one = bought(shop, tmp_path, p256)
        service = f"""
            import os, subprocess, sys
            from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
            assert os.environ["COUNTERSIGN_ALG"] == "ES256"
            command = ["openssl", "pkeyutl", "-sign", "-inkey", "{one.folder}/key.pem"]
            der = subprocess.run(command, stdin=sys.stdin, capture_output=True, check=True).stdout
            raw = b"".join(part.to_bytes(32, "big") for part in decode_dss_signature(der))
            sys.stdout.buffer.write({form})
        """
        (tmp_path / "sign.py").write_text(dedent(service))
        credential = replace(one.credential, key=CommandKey(f"{sys.executable} {tmp_path}/sign.py"))
        assert len(credential.sign_cose(b"a claim")) == 64

    @pytest.mark.parametrize(
        ("command", "said"),
        [
            ("false", "ended with status `1`"),
            ("/nowhere/kms", "cannot be run"),
            ("'", "cannot be run"),
            ("", "cannot be run"),
            ("echo signature", "does not sign for the certificate"),
            ("true", "does not sign for the certificate"),
        ],
    )
    def test_a_command_that_does_not_sign_says_why(
        self, shop: Shop, tmp_path: Path, p256: ec.EllipticCurvePrivateKey, command: str, said: str
    ) -> None:
        one = replace(bought(shop, tmp_path, p256).credential, key=CommandKey(command))
        assert said in refused(checked, one, [shop.root], at=NOW)


@dataclass(frozen=True)
class Token:
    pin_file: Path
    public: ec.EllipticCurvePublicKey

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "signing_pkcs11_module": SOFTHSM,
            "signing_pkcs11_token": "clips",
            "signing_pkcs11_key": "claims",
            "signing_pkcs11_pin_file": self.pin_file,
        }


@pytest.fixture(scope="session")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Token]:
    """A SoftHSM token that made its own key, which nobody has ever seen."""
    home = tmp_path_factory.mktemp("softhsm")
    (home / "tokens").mkdir()
    (home / "softhsm2.conf").write_text(
        f"directories.tokendir = {home / 'tokens'}\nobjectstore.backend = file\n"
    )
    (home / "pin").write_text(f"{PIN}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(home / "softhsm2.conf"))
        subprocess.run(
            ("softhsm2-util", "--init-token", "--free", "--label", "clips", "--pin", PIN, "--so-pin", PIN),
            check=True,
            capture_output=True,
        )
        module = pkcs11.lib(str(SOFTHSM))
        with module.get_token(token_label="clips").open(rw=True, user_pin=PIN) as session:
            parameters = session.create_domain_parameters(
                pkcs11.KeyType.EC,
                {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")},
                local=True,
            )
            public, _ = parameters.generate_keypair(store=True, label="claims")
            der = encode_ec_public_key(public)
        key = load_der_public_key(der)
        assert isinstance(key, ec.EllipticCurvePublicKey)
        yield Token(home / "pin", key)


class TestToken:
    def test_it_signs_and_openssl_agrees(self, shop: Shop, token: Token, tmp_path: Path) -> None:
        leaf = shop.leaf(token.public, NOW)
        key = TokenKey(SOFTHSM, "clips", "claims", token.pin_file)
        credential = checked(Credential(leaf, key, (shop.issuing,)), [shop.root], at=NOW)
        (tmp_path / "data").write_bytes(b"a claim")
        (tmp_path / "sig").write_bytes(credential.sign(b"a claim"))
        (tmp_path / "pub").write_bytes(
            token.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        said = subprocess.run(
            ("openssl", "dgst", "-sha256", "-verify", "pub", "-signature", "sig", "data"),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert said.stdout == "Verified OK\n"
        key.close()
        assert len(credential.sign_cose(b"once more")) == 64, "a token that forgot us is asked again"
        key.close()

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"token": "another"}, "could be opened"),
            ({"label": "another"}, "could be opened"),
            ({"pin": "000000"}, "could be opened"),
            ({"module": Path("/nowhere.so")}, "could be opened"),
            ({"pin_file": Path("/nowhere")}, "the PIN in `/nowhere` cannot be read"),
        ],
    )
    def test_what_is_wrong_is_named(
        self, token: Token, tmp_path: Path, changes: dict[str, Any], said: str
    ) -> None:
        if "pin" in changes:
            changes = {"pin_file": tmp_path / "pin"}
            (tmp_path / "pin").write_text("000000")
        told: dict[str, Any] = {
            "module": SOFTHSM,
            "token": "clips",
            "label": "claims",
            "pin_file": token.pin_file,
        }
        key = TokenKey(**(told | changes))
        answer = refused(key.sign_digest, bytes(32), "ES256")
        assert said in answer
        assert "COUNTERSIGN_SIGNING_PKCS11_MODULE" in answer

    def test_a_key_of_another_certificate_is_found_by_the_probe(
        self, shop: Shop, token: Token, p256: ec.EllipticCurvePrivateKey
    ) -> None:
        key = TokenKey(SOFTHSM, "clips", "claims", token.pin_file)
        one = Credential(shop.leaf(p256, NOW), key, (shop.issuing,))
        assert "does not sign for the certificate" in refused(checked, one, [shop.root], at=NOW)
        key.close()


class TestChecked:
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"uses": None}, "lacks the extended key usage for C2PA claims"),
            ({"uses": (ExtendedKeyUsageOID.SERVER_AUTH,)}, "lacks the extended key usage for C2PA claims"),
            ({"uses": (*CLAIMS, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)}, "must not have"),
            ({"uses": (*CLAIMS, ExtendedKeyUsageOID.TIME_STAMPING)}, "must not have"),
            ({"uses": (*CLAIMS, ExtendedKeyUsageOID.OCSP_SIGNING)}, "must not have"),
            ({"signs": False}, "lacks the key usage `digitalSignature`"),
            ({"ca": True}, "is an authority's own certificate"),
        ],
    )
    def test_a_leaf_for_something_else_is_refused(
        self, shop: Shop, tmp_path: Path, p256: ec.EllipticCurvePrivateKey, changes: dict[str, Any], said: str
    ) -> None:
        one = bought(shop, tmp_path, p256, **changes).credential
        assert said in refused(checked, one, [shop.root], at=NOW)

    def test_a_broken_chain_says_where_it_breaks(
        self, shop: Shop, tmp_path: Path, p256: ec.EllipticCurvePrivateKey
    ) -> None:
        one, other = bought(shop, tmp_path, p256).credential, Shop.opened(NOW)
        below = Shop(shop.root, one.certificate, p256).leaf(p256, NOW, issuer=one.certificate.subject)
        cases = {
            "holds the signing certificate alone": (replace(one, above=()), shop.root),
            "`CN=Issuing,O=Listed Authority` did not issue": (
                replace(one, above=(other.issuing,)),
                other.root,
            ),
            "none of the roots issued `CN=Issuing": (one, other.root),
            "is not an authority": (
                replace(one, certificate=below, above=(one.certificate, shop.issuing)),
                shop.root,
            ),
        }
        for said, (credential, root) in cases.items():
            assert said in refused(checked, credential, [root], at=NOW)
        assert checked(one, [other.root, shop.root], at=NOW) is one

    @pytest.mark.parametrize("days", [-1, 91])
    def test_a_certificate_out_of_its_time_says_from_when_to_when(
        self, shop: Shop, tmp_path: Path, p256: ec.EllipticCurvePrivateKey, days: int
    ) -> None:
        one = bought(shop, tmp_path, p256).credential
        answer = refused(checked, one, [shop.root], at=NOW + timedelta(days=days))
        assert f"is valid from `{NOW - timedelta(minutes=5):%Y-%m-%d}`" in answer
        assert "renew the certificate, or correct the clock" in answer


class TestSettings:
    def test_half_a_configuration_is_refused_and_says_what_is_whole(
        self, world: World, shop: Shop, tmp_path: Path, p256: ec.EllipticCurvePrivateKey
    ) -> None:
        files = bought(shop, tmp_path / "key", p256).files
        for lacking in files:
            partial = {name: path for name, path in files.items() if name != lacking}
            assert "exactly one of COUNTERSIGN_SIGNING_KEY" in refused(signing_of, world, **partial)
        assert "configured by half" in refused(signing_of, world, **files, signing_command="kms")

    def test_the_start_asks_for_a_time_stamp_authority_that_answers(
        self,
        world: World,
        shop: Shop,
        tmp_path: Path,
        p256: ec.EllipticCurvePrivateKey,
        stamps: tuple[str, Path],
    ) -> None:
        files, (url, root) = bought(shop, tmp_path / "key", p256).files, stamps
        assert "COUNTERSIGN_TSA_URL" in refused(signing_of(world, **files).check)
        assert "COUNTERSIGN_TSA_ROOTS" in refused(signing_of(world, **files, tsa_url=url).check)
        silent = signing_of(world, **files, tsa_url="http://127.0.0.1:9/", tsa_roots=root)
        assert "`http://127.0.0.1:9/` gives no time-stamps" in refused(silent.check)
        assert not (world.home / "pki").exists(), "a production service makes itself no authority"
        signing_of(world, **files, tsa_url=url, tsa_roots=root).check()
        assert len(list((world.home / "anchors").iterdir())) == 2

    def test_a_root_stays_an_anchor_after_the_settings_forget_it(
        self,
        world: World,
        shop: Shop,
        tmp_path: Path,
        p256: ec.EllipticCurvePrivateKey,
        stamps: tuple[str, Path],
    ) -> None:
        files, (url, root) = bought(shop, tmp_path / "key", p256).files, stamps
        signing_of(world, **files, tsa_url=url, tsa_roots=root).check()
        assert pem(shop.root) in signing_of(world).anchors.own_pem

    def test_a_file_of_roots_that_is_none_is_named(self, world: World, tmp_path: Path) -> None:
        (tmp_path / "list.pem").write_text("not certificates")
        for path in (tmp_path / "list.pem", tmp_path / "missing.pem"):
            with pytest.raises(ProvenanceError, match=str(path)):
                _ = signing_of(world, trusted_elsewhere=path).anchors


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "plain.mp4"
    media.write_pattern(path)
    return path


class TestWhose:
    """One clip signed with a bought certificate, and what different readers make of it."""

    def signed(self, signing: Signing, plain: Path, url: str) -> Path:
        Signer(signing, url).sign(plain, signing.settings.home / "signed.mp4", CLAIM)
        return signing.settings.home / "signed.mp4"

    def test_a_bought_certificate_is_ours_where_the_log_names_it_and_elsewhere_otherwise(
        self,
        world: World,
        shop: Shop,
        tmp_path: Path,
        token: Token,
        stamps: tuple[str, Path],
        plain: Path,
    ) -> None:
        """The same authority sells to others: its root alone says nothing about whose a clip is."""
        url, root = stamps
        shop.chain(shop.leaf(token.public, NOW), tmp_path / "chain.pem")
        (tmp_path / "roots.pem").write_bytes(pem(shop.root))
        settings: dict[str, Any] = {
            "signing_chain": tmp_path / "chain.pem",
            "signing_roots": tmp_path / "roots.pem",
            "tsa_url": url,
            "tsa_roots": root,
            **token.settings,
        }
        signing = signing_of(world, **settings)
        signing.check()
        canary(Signer(signing, url), signing.anchors, tmp_path, at=NOW)
        path = self.signed(signing, plain, url)
        found = read(path, signing.anchors)
        assert (found.manifest_trusted, found.trusted_by, found.development) == (True, "ours", False)
        assert found.signed_at == NOW
        leaf = x509.load_pem_x509_certificate((tmp_path / "chain.pem").read_bytes())
        assert found.certificate == fingerprint(leaf)
        listed = Anchors(others_pem=pem(shop.root) + root.read_bytes())
        assert read(path, listed).trusted_by == "elsewhere"
        stranger = read(path, Authority.open(tmp_path / "pki", at=NOW).anchors)
        assert (stranger.state, stranger.trusted_by, stranger.signer) == ("valid", None, None)

    def test_a_p384_key_in_a_file_signs_clips(
        self, world: World, shop: Shop, tmp_path: Path, stamps: tuple[str, Path], plain: Path
    ) -> None:
        url, root = stamps
        files = bought(shop, tmp_path, ec.generate_private_key(ec.SECP384R1())).files
        signing = signing_of(world, **files, tsa_url=url, tsa_roots=root)
        found = read(self.signed(signing, plain, url), signing.anchors)
        assert (found.manifest_trusted, found.trusted_by) == (True, "ours")

    def test_another_customer_of_the_same_authority_is_not_us(
        self,
        world: World,
        shop: Shop,
        tmp_path: Path,
        p256: ec.EllipticCurvePrivateKey,
        stamps: tuple[str, Path],
        plain: Path,
    ) -> None:
        url, root = stamps
        other = bought(shop, tmp_path / "other", ec.generate_private_key(ec.SECP256R1())).credential
        theirs = tmp_path / "theirs.mp4"
        Signer(Customer(other, Anchors.of(pem(shop.root) + root.read_bytes())), url).sign(
            plain, theirs, CLAIM
        )
        mine = signing_of(world, **bought(shop, tmp_path / "ours", p256).files, tsa_url=url, tsa_roots=root)
        mine.check()
        assert read(theirs, mine.anchors).trusted_by == "elsewhere"

    def test_what_the_embedded_authority_signs_is_said_to_be_for_development(
        self, world: World, plain: Path
    ) -> None:
        signing = signing_of(world)
        with tsa.serve(signing.authority(), lambda: NOW) as url:
            found = read(self.signed(signing, plain, url), signing.anchors)
        assert (found.manifest_trusted, found.trusted_by, found.development) == (True, "ours", True)
        assert stat.S_IMODE((world.home / "pki" / "claims.pem").stat().st_mode) == 0o600


class TestSellersWord:
    """What the authority that sold the certificate says of it, over HTTP."""

    @pytest.fixture
    def seller(self, shop: Shop) -> Iterator["Seller"]:
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = shop.leaf(key, NOW, uses=(ExtendedKeyUsageOID.OCSP_SIGNING,))
        issuer = Issuer(shop.issuing, shop.key, Credential(leaf, FileKey(key), (shop.issuing,)))
        with Seller(("127.0.0.1", 0), issuer) as server:
            server.shop = shop
            thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
            thread.start()
            yield server
            server.shutdown()
            thread.join()

    def made(self, seller: "Seller", world: World, folder: Path, stamps: tuple[str, Path]) -> Signing:
        url = f"http://127.0.0.1:{seller.server_port}/"
        one = bought(seller.shop, folder, ec.generate_private_key(ec.SECP256R1()), ocsp=url)
        seller.issued.add(one.credential.certificate.serial_number)
        return signing_of(world, **one.files, tsa_url=stamps[0], tsa_roots=stamps[1])

    def test_it_is_stapled_and_asked_for_once_an_hour(
        self, seller: "Seller", world: World, tmp_path: Path, stamps: tuple[str, Path], plain: Path
    ) -> None:
        signing = self.made(seller, world, tmp_path / "key", stamps)
        signing.check()
        path = tmp_path / "signed.mp4"
        Signer(signing, stamps[0]).sign(plain, path, CLAIM)
        assert b"ocspVals" in path.read_bytes()
        assert read(path, signing.anchors).trusted_by == "ours"
        assert seller.asked == 1

    def test_a_certificate_its_seller_revoked_signs_nothing(
        self, seller: "Seller", world: World, tmp_path: Path, stamps: tuple[str, Path]
    ) -> None:
        signing = self.made(seller, world, tmp_path / "key", stamps)
        seller.revoked = {serial: Revocation("keyCompromise", NOW) for serial in seller.issued}
        assert "was revoked" in refused(signing.check)

    def test_a_seller_that_falls_silent_takes_no_revocation_back(
        self, seller: "Seller", world: World, tmp_path: Path, stamps: tuple[str, Path]
    ) -> None:
        """Whoever has the key would only have to keep us from asking."""
        signing = self.made(seller, world, tmp_path / "key", stamps)
        assert signing.configured is not None
        leaf = signing.configured.certificate
        seller.revoked = {serial: Revocation("keyCompromise", NOW) for serial in seller.issued}
        assert "was revoked" in refused(lambda: signing.ocsp(leaf, NOW))
        seller.revoked, seller.content = {}, b"\x30\x03garbage"
        for hours in (2, 24 * 8):
            at = NOW + timedelta(hours=hours)
            assert "was revoked" in refused(lambda at=at: signing.ocsp(leaf, at))

    @pytest.mark.parametrize("fault", ["unknown", "another issuer's", "garbage", "old"])
    def test_an_answer_that_is_none_is_not_stapled(
        self, seller: "Seller", world: World, tmp_path: Path, stamps: tuple[str, Path], fault: str
    ) -> None:
        signing = self.made(seller, world, tmp_path / "key", stamps)
        credential = signing.configured
        assert credential is not None
        match fault:
            case "unknown":
                seller.issued.clear()
            case "another issuer's":
                stranger = ec.generate_private_key(ec.SECP256R1())
                seller.issuer = replace(seller.issuer, responder=replace(credential, key=FileKey(stranger)))
            case "garbage":
                seller.content = b"\x30\x03garbage"
            case _:
                seller.at = NOW - timedelta(days=8)
        assert signing.ocsp(credential.certificate, NOW) is None
        assert seller.asked == 1


class Seller(HTTPServer):
    """An OCSP responder: ours, for somebody else's certificates."""

    def __init__(self, address: tuple[str, int], issuer: Issuer) -> None:
        super().__init__(address, Answer)
        self.issuer = issuer
        self.shop = Shop(issuer.certificate, issuer.certificate, issuer.key)
        self.issued: set[int] = set()
        self.revoked: dict[int, Revocation] = {}
        self.content: bytes | None = None
        self.at = NOW
        self.asked = 0


class Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Seller)
        server.asked += 1
        question = self.rfile.read(int(self.headers["Content-Length"]))
        content = reply(question, (server.issuer,), server.revoked, frozenset(server.issued), at=server.at)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(server.content or content)

    def log_message(self, *said: object) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Customer:
    claims: Credential
    anchors: Anchors

    def ocsp(self, certificate: x509.Certificate, at: datetime) -> bytes | None:
        return None
