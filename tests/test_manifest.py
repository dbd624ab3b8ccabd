"""Manifests written, read back, attacked, and judged by a validator that shares no code with ours."""

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import c2pa
import encypher_c2pa
import pytest

from ledger.errors import MediaError, ProvenanceError
from ledger.ids import VideoId
from ledger.provenance import manifest, media, pki, tsa
from ledger.provenance.manifest import Claim, Ingredient, ManifestFinding, Parent, Signer
from ledger.provenance.pki import Authority

pytestmark = pytest.mark.slow

NOW = datetime.now(UTC).replace(microsecond=0)
CONSENT = {
    "grants": ["grant_1", "grant_2"],
    "decision": "decision_1",
    "log": {"origin": "ledger.example/likeness", "index": 7},
    "status": "https://ledger.example/v1/status/7",
}
CLAIM = Claim(
    video_id=VideoId("video_1"),
    title="A clip",
    at=NOW,
    backend="countersign-reference",
    backend_version="1",
    is_reference=True,
    watermark="00112233445566778899aabbccddeeff",
    consent=CONSENT,
    cameo_consents=("consent_1", "consent_2"),
)


@dataclass(frozen=True)
class Bench:
    """One authority, its time-stamps, one clip, and the clip signed."""

    authority: Authority
    signer: Signer
    plain: Path
    signed: Path

    def read(self, path: Path) -> ManifestFinding:
        return manifest.read(path, self.authority.root_pem)

    def read_bytes(self, content: bytes) -> ManifestFinding:
        path = self.signed.with_name("examined.mp4")
        path.write_bytes(content)
        return self.read(path)


def dated(directory: Path, at: datetime) -> Iterator[Bench]:
    authority = Authority.open(directory / "authority", at=at)
    plain, signed = directory / "plain.mp4", directory / "signed.mp4"
    media.write_pattern(plain)
    with tsa.serve(authority, lambda: at) as url:
        signer = Signer(authority, url)
        signer.sign(plain, signed, replace(CLAIM, at=at))
        yield Bench(authority, signer, plain, signed)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    yield from dated(tmp_path_factory.mktemp("manifest"), NOW)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    yield from dated(tmp_path_factory.mktemp("stranger"), NOW)


@pytest.fixture(autouse=True)
def no_telemetry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENCYPHER_C2PA_CONFIG_DIR", str(tmp_path / "encypher"))
    monkeypatch.setenv("ENCYPHER_C2PA_TELEMETRY", "off")
    monkeypatch.setenv("ENCYPHER_C2PA_ONLINE", "off")


def second_opinion(path: Path, anchors_pem: bytes | None, **options: Any) -> Any:
    anchors = None if anchors_pem is None else anchors_pem.decode()
    return encypher_c2pa.verify(
        path,
        mime_type="video/mp4",
        trust_pem=anchors,
        tsa_trust_pem=anchors,
        no_default_trust=True,
        telemetry=False,
        online=False,
        **options,
    )


def flipped(content: bytes, at: int, bits: int = 1) -> bytes:
    altered = bytearray(content)
    altered[at] ^= bits
    return bytes(altered)


def inside(path: Path, kind: bytes) -> range:
    return next(range(box.start, box.end) for box in media.boxes(path) if box.kind == kind)


def by_default_settings(
    bench: Bench, src: Path, dst: Path, *, parent: Path | None = None, remote_url: str | None = None
) -> None:
    """Sign as a tool would that never heard of this module's settings."""
    settings = {"trust": {"trust_anchors": bench.authority.root_pem.decode()}}
    claims = bench.authority.claims
    key = c2pa.Signer.from_callback(
        claims.sign_cose, c2pa.C2paSigningAlg.ES256, claims.chain_pem.decode(), bench.signer._tsa_url
    )
    definition = manifest._definition(replace(CLAIM, cameo_consents=()))
    if parent is not None:
        placed = {"action": "c2pa.placed", "parameters": {"ingredientIds": ["parent"]}}
        definition["assertions"][0]["data"]["actions"].append(placed)
    with (
        c2pa.Context.from_dict(settings, signer=key) as context,
        c2pa.Builder(definition, context=context) as builder,
        src.open("rb") as source,
        dst.open("w+b") as target,
    ):
        if parent is not None:
            ingredient = {"title": "parent", "relationship": "componentOf", "label": "parent"}
            with parent.open("rb") as stream:
                builder.add_ingredient(ingredient, "video/mp4", stream)
        if remote_url is not None:
            builder.set_no_embed()
            builder.set_remote_url(remote_url)
        builder.sign("video/mp4", source, target)


class TestSigned:
    def test_the_finding_says_what_the_claim_said(self, bench: Bench) -> None:
        finding = bench.read(bench.signed)
        assert finding.state == "trusted"
        assert finding.manifest_trusted
        assert finding.asset_bound
        assert finding.signer == "Countersign development claim signer"
        assert finding.signed_at == NOW
        assert finding.consent == CONSENT
        assert finding.soft_binding == CLAIM.watermark
        assert finding.generation == manifest.generation(CLAIM)
        assert finding.failures == ()
        assert (finding.manifest_id or "").startswith("urn:c2pa:")

    def test_the_manifest_is_honest_about_the_reference_renderer(self, bench: Bench) -> None:
        report = manifest._report(bench.signed, bench.authority.root_pem)
        assert report is not None
        active = report["manifests"][report["active_manifest"]]
        assertions = {entry["label"]: entry for entry in active["assertions"]}
        assert assertions["org.countersign.generation"]["data"]["reference_renderer"] is True
        actions = assertions["c2pa.actions.v2"]["data"]
        assert actions["allActionsIncluded"] is True
        assert [action["action"] for action in actions["actions"]] == [
            "c2pa.created",
            "c2pa.watermarked.bound",
        ]
        assert actions["actions"][0]["digitalSourceType"].endswith("/compositeSynthetic")
        assert all(entry["created"] for entry in assertions.values())
        assert {use["use"] for use in assertions["cawg.training-mining"]["data"]["entries"].values()} == {
            "notAllowed"
        }
        assert "c2pa.metadata" not in assertions
        assert active["claim_generator_info"][0]["specVersion"] == "2.4.0"
        assert {(i["instance_id"], i["relationship"]) for i in active["ingredients"]} == {
            ("consent_1", "inputTo"),
            ("consent_2", "inputTo"),
        }
        assert not any("thumbnail" in ingredient for ingredient in active["ingredients"])

    @pytest.mark.parametrize(
        ("is_reference", "cameos", "term"),
        [
            (False, ("c",), "trainedAlgorithmicMedia"),
            (False, (), "trainedAlgorithmicMedia"),
            (True, ("c",), "compositeSynthetic"),
            (True, (), "algorithmicMedia"),
        ],
    )
    def test_the_source_type_never_flatters(
        self, is_reference: bool, cameos: tuple[str, ...], term: str
    ) -> None:
        claim = replace(CLAIM, is_reference=is_reference, cameo_consents=cameos)
        assert claim.source_type == f"http://cv.iptc.org/newscodes/digitalsourcetype/{term}"

    def test_a_clip_without_a_likeness_signs_too(self, bench: Bench, tmp_path: Path) -> None:
        claim = replace(CLAIM, is_reference=False, cameo_consents=(), consent={})
        signed = bench.signer.sign(bench.plain, tmp_path / "out.mp4", claim)
        assert signed.signed_at == NOW
        assert bench.read(tmp_path / "out.mp4").consent == {}

    def test_the_samples_are_untouched(self, bench: Bench) -> None:
        one, other = (
            path.read_bytes()[inside(path, b"mdat").start : inside(path, b"mdat").stop]
            for path in (bench.plain, bench.signed)
        )
        assert one == other


@pytest.fixture(scope="module")
def tree(bench: Bench) -> tuple[Path, Path]:
    """A remix of the bench's clip, and a remix of that."""
    above, paths = bench.signed, list[Path]()
    for name, action in (("child", "remix"), ("grandchild", "extend")):
        path = bench.signed.with_name(f"{name}.mp4")
        bench.signer.sign(bench.plain, path, replace(CLAIM, action=action, parent=parent_of(bench, above)))
        paths.append(path)
        above = path
    return paths[0], paths[1]


def parent_of(bench: Bench, path: Path) -> Parent:
    return Parent(path, bench.read(path).manifest_id or "")


class TestRemix:
    def test_a_remix_opens_its_parent_and_carries_its_manifest(
        self, bench: Bench, tree: tuple[Path, Path]
    ) -> None:
        finding = bench.read(tree[0])
        assert (finding.manifest_trusted, finding.asset_bound, finding.failures) == (True, True, ())
        report = manifest._report(tree[0], bench.authority.root_pem)
        assert report is not None
        assert len(report["manifests"]) == 2
        active = report["manifests"][report["active_manifest"]]
        assertions = {entry["label"]: entry["data"] for entry in active["assertions"]}
        assert assertions["org.countersign.generation"]["action"] == "remix"
        assert [one["action"] for one in assertions["c2pa.actions.v2"]["actions"]] == [
            "c2pa.opened",
            "c2pa.edited",
            "c2pa.watermarked.bound",
        ]

    def test_the_whole_tree_is_read_up_to_the_first_clip(self, bench: Bench, tree: tuple[Path, Path]) -> None:
        first, second = bench.read(bench.signed).manifest_id, bench.read(tree[0]).manifest_id
        likenesses = tuple(Ingredient("inputTo", one, None) for one in CLAIM.cameo_consents)
        root = Ingredient("parentOf", first or "", first, (), likenesses)
        middle = Ingredient("parentOf", second or "", second, (), (*likenesses, root))
        assert bench.read(tree[1]).ingredients == (*likenesses, middle)

    def test_another_implementation_has_no_objection_to_the_tree(
        self, bench: Bench, tree: tuple[Path, Path]
    ) -> None:
        judged = second_opinion(tree[1], bench.authority.root_pem)
        assert (judged["validation_state"], judged["validation_results"]["failure"]) == ("Trusted", [])
        judged = second_opinion(tree[1], bench.authority.root_pem, strict_conformance=True)
        failed = [entry["code"] for entry in judged["validation_results"]["failure"]]
        assert failed == []

    @pytest.mark.parametrize(
        ("kind", "share"),
        [(b"mdat", 0.5), (b"moov", 0.5), (b"uuid", 0.4)],
        ids=["picture", "index", "manifest"],
    )
    def test_an_altered_parent_makes_nothing(
        self, bench: Bench, tmp_path: Path, kind: bytes, share: float
    ) -> None:
        at = inside(bench.signed, kind)
        altered, parent = tmp_path / "altered.mp4", parent_of(bench, bench.signed)
        place = at.start + int(share * len(at))
        altered.write_bytes(flipped(bench.signed.read_bytes(), place))
        with pytest.raises(ProvenanceError) as caught:
            bench.signer.sign(
                bench.plain, tmp_path / "child.mp4", replace(CLAIM, parent=replace(parent, path=altered))
            )
        assert caught.value.reason.id == "provenance.parent"
        assert [path.name for path in tmp_path.iterdir()] == ["altered.mp4"]

    def test_a_parent_with_an_altered_parent_makes_nothing(self, bench: Bench, tmp_path: Path) -> None:
        """Its own state is *Trusted*: only its ingredients' results say that something was wrong."""
        first, second = tmp_path / "first.mp4", tmp_path / "second.mp4"
        first.write_bytes(flipped(bench.signed.read_bytes(), inside(bench.signed, b"mdat").stop - 9))
        by_default_settings(bench, bench.plain, second, parent=first)
        assert bench.read(second).state == "trusted", "the hazard is still there"
        (of_first,) = bench.read(second).ingredients
        assert "assertion.bmffHash.mismatch" in of_first.failures
        claim = replace(CLAIM, parent=parent_of(bench, second))
        with pytest.raises(ProvenanceError) as caught:
            bench.signer.sign(bench.plain, tmp_path / "child.mp4", claim)
        assert caught.value.reason.id == "provenance.parent"

    @pytest.mark.parametrize("whose", ["nobody's", "a stranger's"])
    def test_what_we_did_not_release_is_nobodys_parent(
        self, bench: Bench, stranger: Bench, tmp_path: Path, whose: str
    ) -> None:
        path = bench.plain if whose == "nobody's" else stranger.signed
        with pytest.raises(ProvenanceError) as caught:
            bench.signer.sign(
                bench.plain, tmp_path / "out.mp4", replace(CLAIM, parent=Parent(path, "urn:c2pa:1"))
            )
        assert caught.value.reason.id == "provenance.parent"

    def test_another_clip_than_was_decided_on_is_no_parent(
        self, bench: Bench, tree: tuple[Path, Path], tmp_path: Path
    ) -> None:
        swapped = replace(parent_of(bench, bench.signed), path=tree[0])
        with pytest.raises(ProvenanceError) as caught:
            bench.signer.sign(bench.plain, tmp_path / "out.mp4", replace(CLAIM, parent=swapped))
        assert caught.value.reason.id == "provenance.other_parent"


class TestComponent:
    """What a model made may carry a manifest of that model's own: its history is kept, unless it is ours or broken."""

    def test_a_models_own_manifest_is_kept_as_a_component(
        self, bench: Bench, stranger: Bench, tmp_path: Path
    ) -> None:
        out = tmp_path / "out.mp4"
        bench.signer.sign(bench.plain, out, replace(CLAIM, component=stranger.signed))
        finding = bench.read(out)
        assert finding.manifest_trusted
        (brought,) = [one for one in finding.ingredients if one.relationship == "componentOf"]
        assert brought.manifest_id == stranger.read(stranger.signed).manifest_id
        assert brought.failures == ("signingCredential.untrusted",)
        judged = second_opinion(out, bench.authority.root_pem)
        assert judged["validation_state"] == "Trusted"

    def test_an_altered_one_is_refused(self, bench: Bench, stranger: Bench, tmp_path: Path) -> None:
        at = inside(stranger.signed, b"mdat")
        altered = tmp_path / "altered.mp4"
        altered.write_bytes(flipped(stranger.signed.read_bytes(), at.stop - 9))
        with pytest.raises(ProvenanceError) as caught:
            bench.signer.sign(bench.plain, tmp_path / "out.mp4", replace(CLAIM, component=altered))
        assert caught.value.reason.id == "provenance.component"

    def test_a_clip_of_ours_does_not_come_back_as_new(self, bench: Bench, tmp_path: Path) -> None:
        with pytest.raises(ProvenanceError) as caught:
            bench.signer.sign(bench.plain, tmp_path / "out.mp4", replace(CLAIM, component=bench.signed))
        assert caught.value.reason.id == "provenance.signed_by_us"


class TestSigning:
    def test_signing_twice_to_one_place_leaves_one_whole_clip(self, bench: Bench, tmp_path: Path) -> None:
        dst = tmp_path / "out.mp4"
        first = bench.signer.sign(bench.plain, dst, CLAIM)
        second = bench.signer.sign(bench.plain, dst, CLAIM)
        assert first.manifest_id != second.manifest_id
        assert bench.read(dst).manifest_id == second.manifest_id
        assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]

    def test_threads_signing_to_one_place_leave_one_whole_clip(self, bench: Bench, tmp_path: Path) -> None:
        dst = tmp_path / "out.mp4"
        with ThreadPoolExecutor(4) as pool:
            signed = list(pool.map(lambda _: bench.signer.sign(bench.plain, dst, CLAIM), range(8)))
        assert bench.read(dst).manifest_id in {one.manifest_id for one in signed}
        assert bench.read(dst).manifest_trusted
        assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]

    def test_a_silent_time_stamp_authority_stops_everything(self, bench: Bench, tmp_path: Path) -> None:
        with tsa.serve(bench.authority, lambda: NOW) as url:
            pass
        (tmp_path / "out.mp4").write_bytes(b"before")
        with pytest.raises(ProvenanceError) as caught:
            Signer(bench.authority, url).sign(bench.plain, tmp_path / "out.mp4", CLAIM)
        assert caught.value.reason.id == "provenance.unsigned"
        assert (tmp_path / "out.mp4").read_bytes() == b"before"
        assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]

    def test_a_strangers_time_stamp_is_not_accepted(
        self, bench: Bench, stranger: Bench, tmp_path: Path
    ) -> None:
        with tsa.serve(stranger.authority, lambda: NOW) as url, pytest.raises(ProvenanceError) as caught:
            Signer(bench.authority, url).sign(bench.plain, tmp_path / "out.mp4", CLAIM)
        assert caught.value.reason.id == "provenance.unverified"
        assert list(tmp_path.iterdir()) == []

    def test_a_time_stamp_from_a_broken_clock_is_not_accepted(self, bench: Bench, tmp_path: Path) -> None:
        with (
            tsa.serve(bench.authority, lambda: NOW - timedelta(days=900)) as url,
            pytest.raises(ProvenanceError),
        ):
            Signer(bench.authority, url).sign(bench.plain, tmp_path / "out.mp4", CLAIM)
        assert list(tmp_path.iterdir()) == []

    def test_a_clip_is_never_signed_onto_itself(self, bench: Bench, tmp_path: Path) -> None:
        (tmp_path / "clip.mp4").write_bytes(bench.plain.read_bytes())
        (tmp_path / "link.mp4").symlink_to("clip.mp4")
        with pytest.raises(ProvenanceError) as caught:
            bench.signer.sign(tmp_path / "clip.mp4", tmp_path / "link.mp4", CLAIM)
        assert caught.value.reason.id == "provenance.in_place"
        assert (tmp_path / "clip.mp4").read_bytes() == bench.plain.read_bytes()

    def test_a_signed_clip_is_not_signed_over(self, bench: Bench, tmp_path: Path) -> None:
        with pytest.raises(ProvenanceError) as caught:
            bench.signer.sign(bench.signed, tmp_path / "out.mp4", CLAIM)
        assert caught.value.reason.id == "provenance.already_signed"
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "content", [b"", b"not a video at all", b"\x00\x00\x00\x10ftypisom\x00\x00\x02\x00"]
    )
    def test_what_is_not_a_clip_is_not_signed(self, bench: Bench, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "src.mp4").write_bytes(content)
        with pytest.raises(ProvenanceError):
            bench.signer.sign(tmp_path / "src.mp4", tmp_path / "out.mp4", CLAIM)
        assert not (tmp_path / "out.mp4").exists()

    def test_a_source_that_is_not_there_is_named(self, bench: Bench, tmp_path: Path) -> None:
        with pytest.raises(MediaError, match=r"`nothing\.mp4`"):
            bench.signer.sign(tmp_path / "nothing.mp4", tmp_path / "out.mp4", CLAIM)

    def test_media_outside_mdat_is_refused(self, bench: Bench, tmp_path: Path) -> None:
        (tmp_path / "src.mp4").write_bytes(bench.plain.read_bytes().replace(b"mdat", b"free", 1))
        with pytest.raises(ProvenanceError) as caught:
            bench.signer.sign(tmp_path / "src.mp4", tmp_path / "out.mp4", CLAIM)
        assert caught.value.reason.id == "provenance.unverified"


class TestAltered:
    def test_one_flipped_bit_of_media_unbinds(self, bench: Bench) -> None:
        at = inside(bench.signed, b"mdat")
        finding = bench.read_bytes(flipped(bench.signed.read_bytes(), (at.start + at.stop) // 2))
        assert (finding.state, finding.asset_bound) == ("invalid", False)
        assert finding.failures == ("assertion.bmffHash.mismatch",)
        # What was signed is still what was signed, over other bytes.
        assert finding.manifest_trusted
        assert (finding.consent, finding.soft_binding) == (CONSENT, CLAIM.watermark)

    def test_an_altered_statement_breaks_trust_and_leaves_the_media_alone(self, bench: Bench) -> None:
        content = bench.signed.read_bytes()
        finding = bench.read_bytes(content.replace(b"decision_1", b"decision_2"))
        assert finding.state == "invalid"
        assert not finding.manifest_trusted
        assert finding.asset_bound
        assert finding.consent is None
        assert "assertion.hashedURI.mismatch" in finding.failures

    def test_an_altered_binding_binds_nothing(self, bench: Bench) -> None:
        finding = bench.read_bytes(bench.signed.read_bytes().replace(b"jumbf manifest", b"jumbf Manifest"))
        assert not finding.manifest_trusted
        assert not finding.asset_bound

    def test_a_manifest_beyond_reading_is_not_called_absent(self, bench: Bench) -> None:
        content, box = bytearray(bench.signed.read_bytes()), inside(bench.signed, b"uuid")
        content[box.start + 60 : box.start + 90] = bytes(30)
        assert bench.read_bytes(bytes(content)) == ManifestFinding("invalid")

    def test_another_manifests_box_does_not_fit(self, bench: Bench, tmp_path: Path) -> None:
        media.write_pattern(tmp_path / "other.mp4", count=9)
        other = (tmp_path / "other.mp4").read_bytes()
        box = inside(bench.signed, b"uuid")
        finding = bench.read_bytes(
            other[: box.start] + bench.signed.read_bytes()[box.start : box.stop] + other[box.start :]
        )
        assert finding.manifest_trusted
        assert not finding.asset_bound

    def test_media_parked_in_a_free_box_is_not_bound(self, bench: Bench, tmp_path: Path) -> None:
        """c2pa itself trusts this clip after its pictures were exchanged: its default leaves `free` unhashed."""
        src, dst = tmp_path / "src.mp4", tmp_path / "dst.mp4"
        src.write_bytes(bench.plain.read_bytes().replace(b"mdat", b"free", 1))
        by_default_settings(bench, src, dst)
        parked = media.boxes(dst)[-1]
        dst.write_bytes(flipped(dst.read_bytes(), (parked.start + parked.end) // 2))
        assert media.probe(dst, media.Limits()).frames == 5
        finding = bench.read(dst)
        assert finding.state == "trusted", "the hazard is still there"
        assert not finding.asset_bound

    @pytest.mark.parametrize("added", [b"\x00\x00\x00\x08free", b"\x00\x00\x00\x0bskipabc"])
    def test_our_hash_covers_free_and_skip_boxes(self, bench: Bench, added: bytes) -> None:
        finding = bench.read_bytes(bench.signed.read_bytes() + added)
        assert not finding.asset_bound

    def test_a_remux_strips_the_manifest(self, bench: Bench, tmp_path: Path) -> None:
        media.remux(bench.signed, tmp_path / "stripped.mp4")
        assert bench.read(tmp_path / "stripped.mp4") == ManifestFinding("none")

    def test_random_damage_never_changes_what_is_believed(self, bench: Bench) -> None:
        """Whatever is still trusted and bound has every media byte and every statement it had before.

        Not covered by the hash: `ftyp`, and the manifest's own box; there the signature leaves out COSE's
        unprotected header (padding and time-stamp) and some framing. A damaged token loses the time, no more.
        """
        content, believed = bench.signed.read_bytes(), bench.read(bench.signed)
        manifest_box, ftyp = inside(bench.signed, b"uuid"), inside(bench.signed, b"ftyp")
        rng, survived = random.Random(2026), 0
        for _ in range(150):
            region = rng.choice((range(len(content)), manifest_box, inside(bench.signed, b"moov")))
            at = rng.choice(region)
            finding = bench.read_bytes(flipped(content, at, rng.randrange(1, 256)))
            if finding.manifest_trusted and finding.asset_bound:
                survived += 1
                assert at in manifest_box or at in ftyp
                assert replace(finding, signed_at=NOW) == believed
                assert finding.signed_at in (NOW, None)
        assert survived < 150

    @pytest.mark.slow
    def test_every_byte_of_index_and_pictures_is_bound(self, bench: Bench) -> None:
        content = bench.signed.read_bytes()
        for kind in (b"moov", b"free", b"mdat"):
            for at in inside(bench.signed, kind)[::8]:
                finding = bench.read_bytes(flipped(content, at, 0x55))
                assert not finding.asset_bound

    @pytest.mark.parametrize("seed", range(3))
    def test_cuts_and_garbage_end_in_a_finding(self, bench: Bench, seed: int) -> None:
        content, rng = bench.signed.read_bytes(), random.Random(seed)
        for _ in range(12):
            cut = rng.randrange(len(content))
            noise = rng.randbytes(rng.randrange(1, 400))
            for damaged in (content[:cut], noise, content[:cut] + noise, noise + content[cut:]):
                finding = bench.read_bytes(damaged)
                assert not (finding.manifest_trusted and finding.asset_bound)


class TestTrust:
    def test_another_authoritys_signature_is_not_trusted(self, bench: Bench, stranger: Bench) -> None:
        finding = bench.read(stranger.signed)
        assert finding.state == "valid"
        assert not finding.manifest_trusted
        assert finding.asset_bound
        assert "signingCredential.untrusted" in finding.failures
        assert finding.signer is None, "the same name under another root must not be shown"
        assert finding.consent is None

    def test_anchors_must_be_certificates(self, bench: Bench) -> None:
        for anchors in (b"", b"\xff\xfe", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
            with pytest.raises(ProvenanceError) as caught:
                manifest.read(bench.signed, anchors)
            assert caught.value.reason.id == "provenance.anchors"

    @pytest.mark.slow
    def test_a_time_stamp_outlives_the_certificates(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pki, "_LEAF_LIFE", timedelta(seconds=3))
        monkeypatch.setattr(pki, "_RENEW_BEFORE", timedelta(0))
        at = datetime.now(UTC)
        for brief in dated(tmp_path, at):
            ends = brief.authority.claims.certificate.not_valid_after_utc
            assert brief.authority.stamps.certificate.not_valid_after_utc == ends
            time.sleep((ends - datetime.now(UTC)).total_seconds() + 1)
            finding = brief.read(brief.signed)
            assert finding.manifest_trusted
            assert finding.signed_at == at.replace(microsecond=0)
            content = brief.signed.read_bytes()
            token = content.rindex(b"Countersign development time-stamp authority")
            assert not brief.read_bytes(flipped(content, token)).manifest_trusted, "only the token held it up"

    def test_a_tampered_parent_shows_in_the_child(self, bench: Bench, tmp_path: Path) -> None:
        parent, child = tmp_path / "parent.mp4", tmp_path / "child.mp4"
        at = inside(bench.signed, b"mdat")
        parent.write_bytes(flipped(bench.signed.read_bytes(), at.stop - 9))
        by_default_settings(bench, bench.plain, child, parent=parent)
        finding = bench.read(child)
        assert finding.state == "trusted", "the child's own state hides it"
        assert "assertion.bmffHash.mismatch" in finding.failures

    def test_an_address_in_an_upload_is_never_fetched(self, bench: Bench, tmp_path: Path) -> None:
        asked: list[str] = []

        class Trap(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_error(404)

        with HTTPServer(("127.0.0.1", 0), Trap) as server:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            url = f"http://127.0.0.1:{server.server_port}/inside.c2pa"
            by_default_settings(bench, bench.plain, tmp_path / "remote.mp4", remote_url=url)
            assert url.encode() in (tmp_path / "remote.mp4").read_bytes()
            assert bench.read(tmp_path / "remote.mp4").state == "none"
            server.shutdown()
        assert asked == []


class TestSecondOpinion:
    """encypher-c2pa: another implementation of C2PA 2.4, from the specification alone."""

    def test_it_trusts_what_we_sign(self, bench: Bench) -> None:
        report = second_opinion(bench.signed, bench.authority.root_pem)
        assert report["validation_state"] == "Trusted"
        assert (report["integrity"], report["hard_binding"]) == ("valid", "match")
        assert report["validation_results"]["failure"] == []
        succeeded = {entry["code"] for entry in report["validation_results"]["success"]}
        assert {"timeStamp.validated", "timeStamp.trusted"} <= succeeded

    def test_the_conformance_programme_asks_for_nothing_besides(self, bench: Bench) -> None:
        report = second_opinion(bench.signed, bench.authority.root_pem, strict_conformance=True)
        failed = [entry["code"] for entry in report["validation_results"]["failure"]]
        assert failed == []

    def test_it_does_not_trust_without_our_root(self, bench: Bench, stranger: Bench) -> None:
        assert second_opinion(bench.signed, None)["validation_state"] == "Valid"
        assert second_opinion(bench.signed, stranger.authority.root_pem)["validation_state"] != "Trusted"

    def test_it_still_trusts_when_the_certificates_have_ended(self, bench: Bench) -> None:
        later = bench.authority.claims.certificate.not_valid_after_utc + timedelta(days=30)
        report = second_opinion(
            bench.signed, bench.authority.root_pem, validation_time=later.strftime("%Y-%m-%dT%H:%M:%SZ")
        )
        assert report["validation_state"] == "Trusted"

    def test_it_finds_one_flipped_bit(self, bench: Bench, tmp_path: Path) -> None:
        at = inside(bench.signed, b"mdat")
        (tmp_path / "altered.mp4").write_bytes(flipped(bench.signed.read_bytes(), at.stop - 5))
        report = second_opinion(tmp_path / "altered.mp4", bench.authority.root_pem)
        assert report["validation_state"] == "Invalid"
        assert report["hard_binding"] == "mismatch"


class TestCanary:
    def test_it_sings(self, bench: Bench, tmp_path: Path) -> None:
        manifest.canary(bench.signer, bench.authority.root_pem, tmp_path, at=NOW)
        assert list(tmp_path.iterdir()) == []

    def test_it_falls_silent_under_foreign_anchors(
        self, bench: Bench, stranger: Bench, tmp_path: Path
    ) -> None:
        with pytest.raises(ProvenanceError, match="just signed is not trusted"):
            manifest.canary(bench.signer, stranger.authority.root_pem, tmp_path, at=NOW)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("area", "name", "failure"),
        [
            ("builder", "bmff_hash_exclude_free_and_skip_boxes", "`free` box is accepted"),
            ("trust", "trust_anchors", "reads back as `valid`"),
        ],
    )
    def test_a_misspelt_setting_is_noticed(
        self,
        bench: Bench,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        area: str,
        name: str,
        failure: str,
    ) -> None:
        """c2pa takes a name it does not know without a word."""
        intended = manifest._settings

        def misspelt(anchors_pem: bytes) -> dict[str, Any]:
            settings = intended(anchors_pem)
            settings[area][f"{name}_"] = settings[area].pop(name)
            return settings

        monkeypatch.setattr(manifest, "_settings", misspelt)
        with pytest.raises(ProvenanceError, match=failure):
            manifest.canary(bench.signer, bench.authority.root_pem, tmp_path, at=NOW)

    def test_a_signer_that_takes_any_parent_is_noticed(
        self, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Signer, "_look_at_history", lambda *_: None)
        with pytest.raises(ProvenanceError):
            manifest.canary(bench.signer, bench.authority.root_pem, tmp_path, at=NOW)

    def test_a_verifier_that_trusts_everyone_is_noticed(
        self, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        believed, root = manifest.read, bench.authority.root_pem
        monkeypatch.setattr(manifest, "read", lambda path, _: believed(path, root))
        with pytest.raises(ProvenanceError, match="stranger's anchors are trusted"):
            manifest.canary(bench.signer, root, tmp_path, at=NOW)
