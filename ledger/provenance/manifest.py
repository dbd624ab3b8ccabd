"""C2PA manifests (C2PA 2.4): written into a finished clip, and read back out of any file at all.

The only module that knows c2pa. It guarantees:

- :meth:`Signer.sign` publishes a clip only after reading it back from its finished bytes: trusted, bound,
  time-stamped, and saying what the claim said. Anything else raises and leaves `dst` as it was. It never
  signs in place, and refuses a source that already carries a manifest, because signing over one would drop
  its history without a trace.
- :func:`read` never raises on the content of a file. It reports two things apart: whether the manifest is one
  we trust, and whether these media bytes are the ones it was made for.
- Settings that are security are set here for every call, and c2pa ignores a misspelt one without a word:
  :func:`canary` proves at start that they took effect.

What a matching hard binding covers: every byte of the file but `ftyp`, `mfra` and the manifest's own box
(C2PA 2.4 §18.6), and in that box the signature covers all but COSE's unprotected header: padding, the
time-stamp token, and the box's own framing. Altering those can lose the time-stamp, never change a statement.

What a trusted manifest does not say: that the clip is true, that consent stands now, or that a parent it
names was intact (look at `failures`).
"""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

import c2pa
from cryptography import x509

from ledger.errors import MediaError, ProvenanceError
from ledger.ids import VideoId
from ledger.provenance import media
from ledger.provenance.pki import Authority

WATERMARK_ALG: Final = "org.countersign.watermark.v1"
"""Private: no name of ours is in the public soft-binding algorithm list."""
CONSENT: Final = "org.countersign.consent"
GENERATION: Final = "org.countersign.generation"

State = Literal["trusted", "valid", "invalid", "none"]

_FORMAT: Final = "video/mp4"
_C2PA_UUID: Final = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_SPEC_VERSION: Final = "2.4.0"
_STATES: Final[Mapping[str, State]] = {"Trusted": "trusted", "Valid": "valid", "Invalid": "invalid"}
_SOURCE_TYPES: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_TRAINING: Final = ("ai_inference", "ai_generative_training", "ai_training", "data_mining")


@dataclass(frozen=True, slots=True)
class Claim:
    """What the manifest will say of one clip.

    watermark: the payload embedded in the picture, hex. consent: grant ids, decision, log origin and index,
    the live status URL. cameo_consents: one id per likeness shown, never a name and never a picture.
    is_reference: the clip was animated by the built-in reference renderer, not by a trained model.
    parent_manifest: the manifest of the clip that this one was made from, and `action` how it was made of it.
    """

    video_id: VideoId
    title: str
    at: datetime
    backend: str
    backend_version: str
    is_reference: bool
    watermark: str
    consent: Mapping[str, Any]
    cameo_consents: tuple[str, ...] = ()
    action: str = "generate"
    parent_manifest: str | None = None
    generator: str = "Countersign"
    generator_version: str = "0.1.0"

    @property
    def source_type(self) -> str:
        """IPTC digital source type.

        A trained model makes `trainedAlgorithmicMedia`. The reference renderer has learned nothing, so that
        term would flatter it: moving a captured portrait over drawn scenery is a composite with synthetic
        elements, and with no portrait at all it is purely algorithmic.
        """
        if not self.is_reference:
            return f"{_SOURCE_TYPES}trainedAlgorithmicMedia"
        return f"{_SOURCE_TYPES}{'compositeSynthetic' if self.cameo_consents else 'algorithmicMedia'}"


@dataclass(frozen=True, slots=True)
class Signed:
    """A clip that was read back and found as claimed."""

    manifest_id: str
    signer: str
    signed_at: datetime


@dataclass(frozen=True, slots=True)
class ManifestFinding:
    """What a file's manifest shows.

    manifest_trusted: signed under one of the anchors, and nothing that was signed is altered. asset_bound: the media
    bytes are those the manifest was made for. Neither implies the other: of a clip that was encoded again and kept its
    manifest, `state` is `invalid`, and the manifest is still whose it was. signer, signed_at, consent and soft_binding are
    None unless the manifest is trusted: anyone can write any name into one that is not.
    failures: status codes (C2PA 2.4 §15.2.2), of the manifest and of every ingredient.
    """

    state: State
    manifest_trusted: bool = False
    asset_bound: bool = False
    manifest_id: str | None = None
    signer: str | None = None
    signed_at: datetime | None = None
    consent: dict[str, Any] | None = None
    soft_binding: str | None = None
    failures: tuple[str, ...] = ()


# --- writing ---------------------------------------------------------------------------------------------------


class Signer:
    """Signs clips with an authority's claim key and time-stamps them at `tsa_url`."""

    def __init__(self, authority: Authority, tsa_url: str) -> None:
        self._authority = authority
        self._tsa_url = tsa_url

    def sign(self, src: Path, dst: Path, claim: Claim) -> Signed:
        """Write `src` with its manifest to `dst`; raises ProvenanceError or MediaError and leaves `dst` alone."""
        if dst.exists() and dst.samefile(src):
            raise ProvenanceError(
                "provenance.in_place", "a clip cannot be signed onto itself", "choose another destination"
            )
        if read(src, self._authority.root_pem).state != "none":
            raise ProvenanceError(
                "provenance.already_signed",
                "the clip already carries a manifest",
                "write the clip in canonical form first and declare the signed one as its parent",
            )
        descriptor, name = tempfile.mkstemp(prefix=f".{dst.name}.", dir=dst.parent)
        draft = Path(name)
        try:
            with os.fdopen(descriptor, "w+b") as target:
                self._embed(src, target, claim)
                target.flush()
                os.fsync(target.fileno())
            signed = _as_claimed(read(draft, self._authority.root_pem), claim)
            draft.replace(dst)
        finally:
            draft.unlink(missing_ok=True)
        return signed

    def _embed(self, src: Path, target: Any, claim: Claim) -> None:
        claims = self._authority.claims
        try:
            signer = c2pa.Signer.from_callback(
                claims.sign_es256, c2pa.C2paSigningAlg.ES256, claims.chain_pem.decode(), self._tsa_url
            )
            with (
                c2pa.Context.from_dict(_settings(self._authority.root_pem), signer=signer) as context,
                c2pa.Builder(_definition(claim), context=context) as builder,
                src.open("rb") as source,
            ):
                builder.sign(_FORMAT, source, target)
        except (c2pa.C2paError, OSError) as error:
            raise ProvenanceError(
                "provenance.unsigned",
                "the clip could not be signed and time-stamped",
                "check that the source is a whole MP4 and that the time-stamp authority answers (behind an HTTP "
                "proxy, `NO_PROXY` must name 127.0.0.1)",
            ) from error


def _as_claimed(finding: ManifestFinding, claim: Claim) -> Signed:
    """The finished bytes, held against the claim: what we publish is what a verifier will see."""
    if (
        finding.manifest_trusted
        and finding.asset_bound
        and finding.manifest_id is not None
        and finding.signer is not None
        and finding.signed_at is not None
        and finding.consent == claim.consent
        and finding.soft_binding == claim.watermark
    ):
        return Signed(finding.manifest_id, finding.signer, finding.signed_at)
    raise ProvenanceError(
        "provenance.unverified",
        f"the signed clip reads back as `{finding.state}`, bound `{finding.asset_bound}`, "
        f"time-stamp `{finding.signed_at}`, failures `{', '.join(finding.failures) or 'none'}`",
        "check the certificates' validity, the clock, and that the clip's samples all lie in `mdat`",
    )


def _definition(claim: Claim) -> dict[str, Any]:
    when = claim.at.isoformat(timespec="seconds")
    agent = {"name": claim.backend, "version": claim.backend_version}
    made: dict[str, Any] = {
        "action": "c2pa.created" if claim.parent_manifest is None else "c2pa.edited",
        "when": when,
        "softwareAgent": agent,
        "digitalSourceType": claim.source_type,
    }
    if claim.cameo_consents:
        made["parameters"] = {"ingredientIds": list(claim.cameo_consents)}
    ingredients = [_cameo(consent_id) for consent_id in claim.cameo_consents]
    actions = [made]
    if claim.parent_manifest is not None:
        # C2PA 2.4 §18.15: what is made of something else begins by opening it, and says which one it was.
        opened = {"ingredientIds": [claim.parent_manifest]}
        actions = [{"action": "c2pa.opened", "when": when, "parameters": opened}, made]
        ingredients.append(_parent(claim.parent_manifest))
    watermarked = {"action": "c2pa.watermarked.bound", "when": when}
    return {
        "claim_version": 2,
        "claim_generator_info": [
            {"name": claim.generator, "version": claim.generator_version, "specVersion": _SPEC_VERSION}
        ],
        "title": claim.title,
        "format": _FORMAT,
        "ingredients": ingredients,
        "assertions": [
            _assertion("c2pa.actions.v2", {"actions": [*actions, watermarked], "allActionsIncluded": True}),
            _assertion(
                "c2pa.soft-binding",
                {"alg": WATERMARK_ALG, "blocks": [{"scope": {}, "value": claim.watermark}]},
            ),
            _assertion(
                "cawg.training-mining",
                {"entries": {f"cawg.{use}": {"use": "notAllowed"} for use in _TRAINING}},
            ),
            _assertion(GENERATION, _generation(claim, when), kind="Json"),
            _assertion(CONSENT, dict(claim.consent), kind="Json"),
        ],
    }


def _generation(claim: Claim, when: str) -> dict[str, Any]:
    """Who made it, with what, when, and which clip it is: what transparency laws ask a provider to embed."""
    return {
        "id": claim.video_id,
        "provider": claim.generator,
        "system": claim.backend,
        "version": claim.backend_version,
        "created": when,
        "synthetic": True,
        "reference_renderer": claim.is_reference,
        "action": claim.action,
    }


def _cameo(consent_id: str) -> dict[str, str]:
    """A likeness used, as an ingredient without content: a picture here would publish the enrolled face."""
    return {
        "title": "A likeness used with consent",
        "relationship": "inputTo",
        "instance_id": consent_id,
        "label": consent_id,
    }


def _parent(manifest_id: str) -> dict[str, str]:
    """The clip this one was made from, by the id of its manifest. Its bytes stay with whoever may have them."""
    return {
        "title": "The clip it was made from",
        "relationship": "parentOf",
        "format": _FORMAT,
        "instance_id": manifest_id,
        "label": manifest_id,
    }


def _assertion(label: str, data: dict[str, Any], *, kind: Literal["Cbor", "Json"] = "Cbor") -> dict[str, Any]:
    return {"label": label, "created": True, "kind": kind, "data": data}


# --- reading ---------------------------------------------------------------------------------------------------


def read(path: Path, anchors_pem: bytes) -> ManifestFinding:
    """What the manifest in `path` shows to someone who trusts exactly `anchors_pem`.

    Raises MediaError when the file cannot be opened, ProvenanceError when the anchors are unusable.
    """
    try:
        report = _report(path, anchors_pem)
    except c2pa.C2paError:
        # c2pa could make nothing of it: damaged beyond a verdict if it claims a manifest, otherwise none.
        return ManifestFinding("invalid" if _mentions_manifest(path) else "none")
    if report is None:
        return ManifestFinding("none")
    results = (report.get("validation_results") or {}).get("activeManifest") or {}
    succeeded = frozenset(entry["code"] for entry in results.get("success", ()))
    state = _STATES.get(report.get("validation_state", ""), "invalid")
    manifest_id = report.get("active_manifest")
    manifest = report.get("manifests", {}).get(manifest_id, {})
    bound = (
        "assertion.bmffHash.match" in succeeded
        and not any(_concerns_binding(entry) for entry in results.get("failure", ()))
        and _samples_are_hashed(path)
    )
    finding = ManifestFinding(
        state,
        state == "trusted" or _only_unbound(results, succeeded),
        bound,
        manifest_id,
        failures=tuple(dict.fromkeys(_all_failures(report))),
    )
    return _with_statements(finding, manifest, succeeded) if finding.manifest_trusted else finding


def _report(path: Path, anchors_pem: bytes) -> dict[str, Any] | None:
    try:
        x509.load_pem_x509_certificates(anchors_pem)  # c2pa skips an anchor it cannot parse, in silence
        context = c2pa.Context.from_dict(_settings(anchors_pem))
    except (c2pa.C2paError, ValueError) as error:
        raise ProvenanceError(
            "provenance.anchors", "the trust anchors are not certificates", "configure PEM certificates"
        ) from error
    try:
        with context, path.open("rb") as file:
            reader = c2pa.Reader.try_create(_FORMAT, file, context=context)
            if reader is None:
                return None
            with reader:
                report: dict[str, Any] = json.loads(reader.json())
                return report
    except OSError as error:
        raise MediaError(
            "media.unreadable", f"`{path.name}` cannot be read", "check that the file exists"
        ) from error


def _with_statements(
    finding: ManifestFinding, manifest: Mapping[str, Any], succeeded: frozenset[str]
) -> ManifestFinding:
    signature = manifest.get("signature_info", {})
    stamped = {"timeStamp.validated", "timeStamp.trusted"} <= succeeded
    assertions = {entry["label"]: entry["data"] for entry in manifest.get("assertions", ())}
    binding = assertions.get("c2pa.soft-binding", {})
    blocks: list[dict[str, Any]] = binding.get("blocks", []) if binding.get("alg") == WATERMARK_ALG else []
    consent = assertions.get(CONSENT)
    return ManifestFinding(
        finding.state,
        finding.manifest_trusted,
        finding.asset_bound,
        finding.manifest_id,
        signer=signature.get("common_name"),
        signed_at=datetime.fromisoformat(signature["time"]) if stamped else None,
        consent=consent if isinstance(consent, dict) else None,
        soft_binding=blocks[0].get("value") if len(blocks) == 1 else None,
        failures=finding.failures,
    )


def _only_unbound(results: Mapping[str, Any], succeeded: frozenset[str]) -> bool:
    """c2pa calls a manifest invalid as soon as it stands over other bytes; who signed it, and what, is another question."""
    intact = {"claimSignature.validated", "signingCredential.trusted"}
    failed = {entry["code"] for entry in results.get("failure", ())}
    return failed == {"assertion.bmffHash.mismatch"} and intact <= succeeded


def _concerns_binding(failure: Mapping[str, Any]) -> bool:
    """A binding that is altered itself, or one of several, binds nothing even where a hash matches."""
    return failure["code"].startswith(
        ("assertion.bmffHash.", "assertion.multipleHardBindings")
    ) or "/c2pa.hash." in failure.get("url", "")


def _all_failures(node: Any) -> Iterator[str]:
    """Every failure code anywhere in the report: an ingredient's do not change the manifest's own state."""
    if isinstance(node, dict):
        for entry in node.get("failure") or ():
            yield entry["code"]
        for key, child in node.items():
            if key not in ("failure", "assertions"):
                yield from _all_failures(child)
    elif isinstance(node, list):
        for child in node:
            yield from _all_failures(child)


def _samples_are_hashed(path: Path) -> bool:
    """A manifest made elsewhere may exclude `free` boxes from its hash; media found there is not bound."""
    try:
        return media.stray_samples(path) == 0
    except MediaError:
        return False


def _mentions_manifest(path: Path) -> bool:
    try:
        found = [box for box in media.boxes(path) if box.kind == b"uuid"]
    except MediaError:
        return False
    with path.open("rb") as file:
        for box in found:
            file.seek(box.start)
            if _C2PA_UUID in file.read(32):
                return True
    return False


def _settings(anchors_pem: bytes) -> dict[str, Any]:
    return {
        "version": 1,
        "trust": {"trust_anchors": anchors_pem.decode()},
        "verify": {
            "verify_trust": True,
            "verify_timestamp_trust": True,
            # A file names the addresses: fetching them would let an upload make requests from inside.
            "remote_manifest_fetch": False,
            "ocsp_fetch": False,
        },
        "core": {"allowed_network_hosts": []},  # the second lock on the same door; time-stamping passes it
        "builder": {
            # Unhashed `free` boxes can hold media; see `_samples_are_hashed`.
            "bmff_hash_exclude_free_and_skip_boxes": False,
            "thumbnail": {"enabled": False},
            "auto_timestamp_assertion": {"enabled": False},
            "actions": {"auto_created_action": {"enabled": False}},
        },
    }


# --- starting --------------------------------------------------------------------------------------------------


def canary(signer: Signer, anchors_pem: bytes, workdir: Path, *, at: datetime) -> None:
    """Prove on a clip made on the spot that signing, trust and binding do what this module says, or raise.

    Run before the service answers anyone: a setting that a release of c2pa renamed is ignored in silence.
    """
    with tempfile.TemporaryDirectory(dir=workdir) as name:
        place = Path(name)
        clip, signed, altered = place / "clip.mp4", place / "signed.mp4", place / "altered.mp4"
        media.write_pattern(clip)
        signer.sign(clip, signed, _canary_claim(at))
        content = signed.read_bytes()
        finding = read(signed, anchors_pem)
        _require(finding.manifest_trusted and finding.asset_bound, "a clip just signed is not trusted")
        stranger = Authority.open(place / "stranger", at=at)
        _require(not read(signed, stranger.root_pem).manifest_trusted, "a stranger's anchors are trusted")
        middle = next((box.start + box.end) // 2 for box in media.boxes(signed) if box.kind == b"mdat")
        flipped = bytearray(content)
        flipped[middle] ^= 1
        for case, alteration in (
            ("an altered clip", bytes(flipped)),
            ("a clip with an added `free` box", content + b"\x00\x00\x00\x08free"),
        ):
            altered.write_bytes(alteration)
            finding = read(altered, anchors_pem)
            _require(not finding.asset_bound, f"{case} is accepted")


def _canary_claim(at: datetime) -> Claim:
    return Claim(
        VideoId("video_canary"), "canary", at, "canary", "1", True, "00", {"canary": True}, ("canary",)
    )


def _require(holds: bool, failure: str) -> None:
    if not holds:
        raise ProvenanceError(
            "provenance.canary",
            f"the provenance check at start failed: {failure}",
            "do not serve; compare the installed c2pa-python with the pinned release",
        )
