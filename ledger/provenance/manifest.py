"""C2PA manifests (C2PA 2.4): written into a finished clip, and read back out of any file at all.

The only module that knows c2pa. It guarantees:

- :meth:`Signer.sign` publishes a clip only after reading it back from its finished bytes: trusted, bound,
  time-stamped, and saying what the claim said. Anything else raises and leaves `dst` as it was. It never
  signs in place, and refuses a source that already carries a manifest, because signing over one would drop
  its history without a trace.
- What a clip was made from is declared with its own manifest inside, so that any reader of C2PA can walk the tree of
  remixes. A parent is read first: one that was altered, or is another than was meant, makes nothing, because c2pa
  itself would sign over it and call the child *Trusted*.
- :func:`read` never raises on the content of a file. It reports two things apart: whether the manifest is one
  we trust, and whether these media bytes are the ones it was made for.
- Settings that are security are set here for every call, and c2pa ignores a misspelt one without a word:
  :func:`canary` proves at start that they took effect.

What a matching hard binding covers: every byte of the file but `ftyp`, `mfra` and the manifest's own box
(C2PA 2.4 §18.6), and in that box the signature covers all but COSE's unprotected header: padding, the
time-stamp token, and the box's own framing. Altering those can lose the time-stamp, never change a statement.

What a trusted manifest does not say: that the clip is true, that consent stands now, or that what it was made from
was intact (look at `ingredients` and `failures`).
"""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

import c2pa

from ledger.errors import MediaError, ProvenanceError
from ledger.ids import VideoId
from ledger.provenance import cose, jumbf, media
from ledger.provenance.pki import Authority
from ledger.provenance.profiles import UNMARKED, Marking
from ledger.provenance.signing import Credential, Source
from ledger.provenance.trust import Anchors, Revoked, TrustedBy, fingerprint

WATERMARK_ALG: Final = "org.countersign.watermark.v2"
"""Private: no name of ours is in the public soft-binding algorithm list."""
CONSENT: Final = "org.countersign.consent"
GENERATION: Final = "org.countersign.generation"
CONSENT_SCHEMA: Final = "countersign/consent/v1"
GENERATION_SCHEMA: Final = "countersign/generation/v1"
"""Published by :mod:`ledger.provenance.schemas`."""

State = Literal["trusted", "valid", "invalid", "none"]

_FORMAT: Final = "video/mp4"
_REVOKED: Final = "signingCredential.ocsp.revoked"
_UNTOLD: Final = "org.countersign.signerUntold"
"""c2pa read a signature; in the file there is not the one that it can only be."""
_SPEC_VERSION: Final = "2.4.0"
_STATES: Final[Mapping[str, State]] = {"Trusted": "trusted", "Valid": "valid", "Invalid": "invalid"}
_SOURCE_TYPES: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_MOST_ABOVE: Final = 64
"""Generations of ingredients that are looked at."""
_TRAINING: Final = ("ai_inference", "ai_generative_training", "ai_training", "data_mining")


@dataclass(frozen=True, slots=True)
class Parent:
    """The clip that another was made from: its released file, and the manifest that file must turn out to carry."""

    path: Path
    manifest_id: str


@dataclass(frozen=True, slots=True)
class Claim:
    """What the manifest will say of one clip.

    watermark: the payload embedded in the picture, hex. consent: grant ids, decision, log origin and index,
    the live status URL. cameo_consents: one id per likeness shown, never a name and never a picture.
    is_reference: the clip was animated by the built-in reference renderer, not by a trained model.
    parent: the clip that this one was made from, and `action` how it was made of it. component: what the model made,
    where that file already carries a manifest of its own: its history is kept too. marking: what profiles ask for.
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
    parent: Parent | None = None
    component: Path | None = None
    marking: Marking = UNMARKED
    provider: str = "Countersign"
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
class Ingredient:
    """Something a clip was made from, as its manifest tells it.

    manifest_id: the manifest it brought along; None where it brought none, as a likeness does, whose `id` is that of
    the consent. failures: what was wrong with it when it was used, and what is wrong with its manifest now.
    """

    relationship: str
    id: str
    manifest_id: str | None
    failures: tuple[str, ...] = ()
    above: "tuple[Ingredient, ...]" = ()
    """What it was made from itself."""


@dataclass(frozen=True, slots=True)
class ManifestFinding:
    """What a file's manifest shows.

    manifest_trusted: signed under one of the anchors, and nothing that was signed is altered. asset_bound: the media
    bytes are those the manifest was made for. Neither implies the other: of a clip that was encoded again and kept its
    manifest, `state` is `invalid`, and the manifest is still whose it was. signer, signed_at, consent, generation,
    soft_binding and ingredients (what it was made from) are None or empty unless the manifest is trusted: anyone can
    write anything into one that is not.
    trusted_by: whose a trusted manifest is; None where it is not trusted. development: trusted only because this
    installation's embedded authority signed it (say :data:`~ledger.provenance.trust.DEVELOPMENT`).
    certificate: SHA-256 of the signer's. revoked: the certificate was ours and had been taken back when it signed,
    or nobody can say when it signed; then the manifest is not trusted.
    failures: status codes (C2PA 2.4 §15.2.2), of the manifest and of every ingredient.
    """

    state: State
    manifest_trusted: bool = False
    asset_bound: bool = False
    manifest_id: str | None = None
    signer: str | None = None
    signed_at: datetime | None = None
    consent: dict[str, Any] | None = None
    generation: dict[str, Any] | None = None
    soft_binding: str | None = None
    failures: tuple[str, ...] = ()
    ingredients: tuple[Ingredient, ...] = ()
    trusted_by: TrustedBy | None = None
    development: bool = False
    certificate: str | None = None
    revoked: Revoked | None = None


# --- writing ---------------------------------------------------------------------------------------------------


class Signer:
    """Signs clips with a source's claim key, time-stamps them at `tsa_url`, and staples what the issuer says."""

    def __init__(self, source: Source, tsa_url: str) -> None:
        self._source = source
        self._tsa_url = tsa_url

    def sign(self, src: Path, dst: Path, claim: Claim) -> Signed:
        """Write `src` with its manifest to `dst`; raises ProvenanceError or MediaError and leaves `dst` alone."""
        if dst.exists() and dst.samefile(src):
            raise ProvenanceError(
                "provenance.in_place", "a clip cannot be signed onto itself", "choose another destination"
            )
        if read(src, self._source.anchors).state != "none":
            raise ProvenanceError(
                "provenance.already_signed",
                "the clip already carries a manifest",
                "write the clip in canonical form first and declare the signed one as its parent",
            )
        self._look_at_history(claim)
        descriptor, name = tempfile.mkstemp(prefix=f".{dst.name}.", dir=dst.parent)
        draft = Path(name)
        try:
            with os.fdopen(descriptor, "w+b") as target:
                claims = self._source.claims
                # Asked first: what was revoked signs nothing.
                stapled = self._source.ocsp(claims.certificate, claim.at)
                self._embed(src, target, claim, claims)
                target.flush()
                os.fsync(target.fileno())
            if stapled is not None:
                cose.staple(draft, stapled)
            signed = _as_claimed(read(draft, self._source.anchors), claim)
            draft.replace(dst)
        finally:
            draft.unlink(missing_ok=True)
        return signed

    def _look_at_history(self, claim: Claim) -> None:
        """Refuse what was altered. c2pa would take it in all the same, and the child would read *Trusted*."""
        anchors = self._source.anchors
        if claim.parent is not None:
            above = read(claim.parent.path, anchors)
            if above.trusted_by != "ours" or not above.asset_bound or above.failures:
                raise ProvenanceError(
                    "provenance.parent",
                    f"the clip to make this one from is not as it was released: it reads `{above.state}`, bound "
                    f"`{above.asset_bound}`, failures `{', '.join(above.failures) or 'none'}`",
                    "start from another clip",
                )
            if above.manifest_id != claim.parent.manifest_id:
                raise ProvenanceError(
                    "provenance.other_parent",
                    "the clip to make this one from is another than was decided on",
                    "start from another clip",
                )
        if claim.component is not None:
            made = read(claim.component, anchors)
            if made.trusted_by == "ours":
                raise ProvenanceError(
                    "provenance.signed_by_us",
                    "the model gave back a clip that is signed here already",
                    "ask for a remix of that clip",
                )
            if not made.asset_bound or set(made.failures) - _FROM_STRANGERS:
                raise ProvenanceError(
                    "provenance.component",
                    f"what the model made carries a manifest that does not hold: `{', '.join(made.failures)}`",
                    "render again",
                )

    def _embed(self, src: Path, target: Any, claim: Claim, claims: Credential) -> None:
        try:
            signer = c2pa.Signer.from_callback(
                claims.sign_cose, c2pa.C2paSigningAlg[claims.alg], claims.chain_pem.decode(), self._tsa_url
            )
            with (
                c2pa.Context.from_dict(_settings(self._source.anchors.pem), signer=signer) as context,
                c2pa.Builder(_definition(claim), context=context) as builder,
                src.open("rb") as source,
            ):
                if claim.parent is not None:
                    _take_in(builder, _parent(claim.parent), claim.parent.path)
                if claim.component is not None:
                    _take_in(builder, _COMPONENT, claim.component)
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
        and finding.generation == generation(claim)
        and finding.soft_binding == claim.watermark
        and _history_as_claimed(finding, claim)
    ):
        return Signed(finding.manifest_id, finding.signer, finding.signed_at)
    raise ProvenanceError(
        "provenance.unverified",
        f"the signed clip reads back as `{finding.state}`, bound `{finding.asset_bound}`, "
        f"time-stamp `{finding.signed_at}`, failures `{', '.join(finding.failures) or 'none'}`",
        "check the certificates' validity, the clock, and that the clip's samples all lie in `mdat`",
    )


_Named = tuple[str, str, str | None]
"""Relationship, id and manifest of an ingredient."""


def _history_as_claimed(finding: ManifestFinding, claim: Claim) -> bool:
    """Everything it was made from is there, and nothing of it was altered."""
    found: set[_Named] = {(one.relationship, one.id, one.manifest_id) for one in finding.ingredients}
    expected: set[_Named] = {("inputTo", consent, None) for consent in claim.cameo_consents}
    if claim.parent is not None:
        expected |= {("parentOf", claim.parent.manifest_id, claim.parent.manifest_id)}
    brought = {one for one in found if one[0] == "componentOf"}
    return (
        found - brought == expected
        and len(brought) == (claim.component is not None)
        and not set(finding.failures) - (_FROM_STRANGERS if brought else frozenset())
    )


def _definition(claim: Claim) -> dict[str, Any]:
    return {
        "claim_version": 2,
        "claim_generator_info": [
            {"name": claim.generator, "version": claim.generator_version, "specVersion": _SPEC_VERSION}
        ],
        "title": claim.title,
        "format": _FORMAT,
        "ingredients": [_cameo(consent_id) for consent_id in claim.cameo_consents],
        "assertions": [
            _assertion("c2pa.actions.v2", {"actions": _actions(claim), "allActionsIncluded": True}),
            _assertion(
                "c2pa.soft-binding",
                {"alg": WATERMARK_ALG, "blocks": [{"scope": {}, "value": claim.watermark}]},
            ),
            _assertion(
                "cawg.training-mining",
                {"entries": {f"cawg.{use}": {"use": "notAllowed"} for use in _TRAINING}},
            ),
            _assertion(GENERATION, generation(claim), kind="Json"),
            _assertion(CONSENT, dict(claim.consent), kind="Json"),
        ],
    }


def _actions(claim: Claim) -> list[dict[str, Any]]:
    when = _when(claim)
    made: dict[str, Any] = {
        "action": "c2pa.created" if claim.parent is None else "c2pa.edited",
        "when": when,
        "softwareAgent": {"name": claim.backend, "version": claim.backend_version},
        "digitalSourceType": claim.source_type,
    }
    if claim.cameo_consents:
        made["parameters"] = {"ingredientIds": list(claim.cameo_consents)}
    actions = [made]
    if claim.parent is not None:
        # C2PA 2.4 §18.15: what is made of something else begins by opening it, and says which one it was.
        opened = {"ingredientIds": [claim.parent.manifest_id]}
        actions.insert(0, {"action": "c2pa.opened", "when": when, "parameters": opened})
    if claim.component is not None:
        placed = {"ingredientIds": [_COMPONENT["label"]]}
        actions.append({"action": "c2pa.placed", "when": when, "parameters": placed})
    if claim.marking.label is not None:
        actions.append({"action": "c2pa.addedText", "when": when})
    return [*actions, {"action": "c2pa.watermarked.bound", "when": when}]


def _when(claim: Claim) -> str:
    return claim.at.isoformat(timespec="seconds")


def generation(claim: Claim) -> dict[str, Any]:
    """`org.countersign.generation`: who made it, with what, when, and which clip it is, as transparency laws ask.

    Raises ProvenanceError where a profile asks for more than is said here.
    """
    said = {
        "schema": GENERATION_SCHEMA,
        "id": claim.video_id,
        "provider": claim.provider,
        "system": claim.backend,
        "version": claim.backend_version,
        "created": _when(claim),
        "synthetic": True,
        "reference_renderer": claim.is_reference,
        "action": claim.action,
        **claim.marking.applied(),
    }
    missing = sorted(member for member in claim.marking.says if said.get(member) in (None, ""))
    if missing:
        raise ProvenanceError(
            "provenance.profile",
            f"a profile asks for `{', '.join(missing)}`, which is not known of this clip",
            "name the provider and the model's version in the settings",
        )
    return said


def _cameo(consent_id: str) -> dict[str, str]:
    """A likeness used, as an ingredient without content: a picture here would publish the enrolled face."""
    return {
        "title": "A likeness used with consent",
        "relationship": "inputTo",
        "instance_id": consent_id,
        "label": consent_id,
    }


def _parent(parent: Parent) -> dict[str, str]:
    """The clip this one was made from. Of its bytes only the manifest is taken in."""
    return {
        "title": "The clip it was made from",
        "relationship": "parentOf",
        "instance_id": parent.manifest_id,
        "label": parent.manifest_id,
    }


_COMPONENT: Final = {
    "title": "What the model made",
    "relationship": "componentOf",
    "instance_id": "component",
    "label": "component",
}
_FROM_STRANGERS: Final = frozenset({"signingCredential.untrusted"})
"""What may be said of a manifest that somebody else made: that we do not know them."""


def _take_in(builder: Any, ingredient: Mapping[str, str], path: Path) -> None:
    with path.open("rb") as stream:
        builder.add_ingredient(dict(ingredient), _FORMAT, stream)


def _assertion(label: str, data: dict[str, Any], *, kind: Literal["Cbor", "Json"] = "Cbor") -> dict[str, Any]:
    return {"label": label, "created": True, "kind": kind, "data": data}


# --- reading ---------------------------------------------------------------------------------------------------


def read(path: Path, anchors: Anchors | bytes) -> ManifestFinding:
    """What the manifest in `path` shows to someone who trusts exactly `anchors` (bytes: PEM, nobody's in particular).

    Raises MediaError when the file cannot be opened, ProvenanceError when the anchors are unusable.
    """
    trust = Anchors.of(anchors) if isinstance(anchors, bytes) else anchors
    try:
        report = _report(path, trust.pem)
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
    if not finding.manifest_trusted:
        return finding
    told = _with_signer(path, finding, manifest, succeeded, trust)
    return replace(told, ingredients=_ingredients(report, manifest_id)) if told.manifest_trusted else told


def _with_signer(
    path: Path,
    finding: ManifestFinding,
    manifest: Mapping[str, Any],
    succeeded: frozenset[str],
    trust: Anchors,
) -> ManifestFinding:
    """What a trusted manifest says, and whose it is; unless the certificate had been taken back by then."""
    told = _with_statements(finding, manifest, succeeded)
    chain = cose.chain(path, finding.manifest_id or "")
    if chain and str(chain[0].serial_number) != manifest.get("signature_info", {}).get("cert_serial_number"):
        chain = ()  # not the certificate that c2pa looked at
    if not chain:
        # Whoever bends a length so that c2pa reads on and we do not would else sign with a key that was taken back.
        failures = (*finding.failures, _UNTOLD)
        return replace(finding, state="invalid", manifest_trusted=False, failures=failures)
    whose, development = trust.whose(chain)
    certificate = fingerprint(chain[0])
    revoked = trust.revocation(chain[0], told.signed_at)
    if revoked is not None:
        failures = (*finding.failures, _REVOKED)
        return replace(
            finding,
            state="invalid",
            manifest_trusted=False,
            failures=failures,
            certificate=certificate,
            revoked=revoked,
        )
    return replace(told, trusted_by=whose, development=development, certificate=certificate)


def _report(path: Path, anchors_pem: bytes) -> dict[str, Any] | None:
    try:
        context = c2pa.Context.from_dict(_settings(anchors_pem))
    except c2pa.C2paError as error:
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
    consent, made = assertions.get(CONSENT), assertions.get(GENERATION)
    return ManifestFinding(
        finding.state,
        finding.manifest_trusted,
        finding.asset_bound,
        finding.manifest_id,
        signer=signature.get("common_name"),
        signed_at=datetime.fromisoformat(signature["time"]) if stamped else None,
        consent=consent if isinstance(consent, dict) else None,
        generation=made if isinstance(made, dict) else None,
        soft_binding=blocks[0].get("value") if len(blocks) == 1 else None,
        failures=finding.failures,
    )


def _only_unbound(results: Mapping[str, Any], succeeded: frozenset[str]) -> bool:
    """c2pa calls a manifest invalid as soon as it stands over other bytes; who signed it, and what, is another question."""
    intact = {"claimSignature.validated", "signingCredential.trusted"}
    failed = {entry["code"] for entry in results.get("failure", ())}
    return failed == {"assertion.bmffHash.mismatch"} and intact <= succeeded


def _ingredients(
    report: Mapping[str, Any], manifest_id: str | None, depth: int = 0
) -> tuple[Ingredient, ...]:
    """What a manifest of the report was made from, and that from, up to the first generation."""
    held = report.get("manifests", {}).get(manifest_id, {}).get("ingredients", ())
    if depth == _MOST_ABOVE:
        return ()
    found = []
    for one in held:
        own = one.get("active_manifest")
        deltas = (report.get("validation_results") or {}).get("ingredientDeltas") or ()
        here = f"/{manifest_id}/c2pa.assertions/{one.get('label')}"
        now = [delta for delta in deltas if delta.get("ingredientAssertionURI", "").endswith(here)]
        failures = [*_all_failures(one.get("validation_results")), *_all_failures(now)]
        found.append(
            Ingredient(
                one.get("relationship", ""),
                one.get("instance_id", ""),
                own,
                tuple(dict.fromkeys(failures)),
                _ingredients(report, own, depth + 1) if own is not None else (),
            )
        )
    return tuple(found)


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
        return jumbf.read(path) is not None
    except MediaError as error:
        return error.reason.id == jumbf.MALFORMED


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


def canary(signer: Signer, anchors: Anchors | bytes, workdir: Path, *, at: datetime) -> None:
    """Prove on a clip made on the spot that signing, trust and binding do what this module says, or raise.

    Run before the service answers anyone: a setting that a release of c2pa renamed is ignored in silence.
    """
    with tempfile.TemporaryDirectory(dir=workdir) as name:
        place = Path(name)
        clip, signed, altered = place / "clip.mp4", place / "signed.mp4", place / "altered.mp4"
        media.write_pattern(clip)
        above = signer.sign(clip, signed, _canary_claim(at)).manifest_id
        content = signed.read_bytes()
        finding = read(signed, anchors)
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
            finding = read(altered, anchors)
            _require(not finding.asset_bound, f"{case} is accepted")
            child = _canary_claim(at, altered, above)
            _require(not _signs(signer, clip, place, child), f"{case} is accepted as a parent")
        child = _canary_claim(at, signed, above)
        _require(_signs(signer, clip, place, child), "a child of a clip just signed is refused")
        _require(not _signs(signer, signed, place, child), "a signed clip is signed over")


def _signs(signer: Signer, clip: Path, place: Path, claim: Claim) -> bool:
    try:
        signer.sign(clip, place / "child.mp4", claim)
    except ProvenanceError as error:
        if error.reason.id in {"provenance.parent", "provenance.already_signed"}:
            return False
        raise
    return True


def _canary_claim(at: datetime, path: Path | None = None, manifest_id: str = "") -> Claim:
    parent = Parent(path, manifest_id) if path is not None else None
    names = "canary", at, "canary", "1", True, "00", {"canary": True}, ("canary",)
    return replace(Claim(VideoId("video_canary"), *names), parent=parent)


def _require(holds: bool, failure: str) -> None:
    if not holds:
        raise ProvenanceError(
            "provenance.canary",
            f"the provenance check at start failed: {failure}",
            "do not serve; compare the installed c2pa-python with the pinned release",
        )
