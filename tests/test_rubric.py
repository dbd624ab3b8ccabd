"""The traits that the C2PA conformance programme asks of what a generator makes, each held by our clips.

Named as in its public rubrics of 2026-08-06: "Asset Conformance 0.2, Spec 2.4", and "Asset Integrity". They are asked of
crJSON, the form in which c2pa reports a file. Each is written here in Python from its description, and shown to notice
a manifest that lacks it.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import c2pa
import pytest

from ledger.provenance import manifest
from test_manifest import CLAIM, NOW, Bench, dated, parent_of

pytestmark = pytest.mark.slow

Manifest = dict[str, Any]
SPEC = "2.4"
ALLOWED_ASSERTIONS = frozenset(
    [
        "hash.data",
        "hash.data.part",
        "actions.v2",
        "ingredient.v3",
        "hash.boxes",
        "hash.bmff.v3",
        "hash.collection.data",
        "soft-binding",
        "cloud-data",
        "embedded-data",
        "metadata",
        "certificate-status",
        "asset-ref",
        "asset-type.v2",
        "hash.multi-asset",
        "thumbnail.claim",
        "thumbnail.ingredient",
        "depthmap.GDepth",
        "icon",
        "alternative-content-representation",
        "external-reference",
        "session-keys",
        "environmental-sustainability",
        "repository-receipt",
        "ai-disclosure",
        "assertion.metadata",
        "time-stamp",
    ]
)
DEPRECATED_ASSERTIONS = frozenset(
    ["claim", "hash.bmff.v2", "asset-type", "ingredient", "ingredient.v2", "actions"]
)
ALLOWED_ACTIONS = frozenset(
    [
        "addedText",
        "adjustedColor",
        "changedSpeed",
        "color_adjustments",
        "converted",
        "created",
        "cropped",
        "deleted",
        "drawing",
        "dubbed",
        "edited",
        "edited.metadata",
        "enhanced",
        "filtered",
        "mastered",
        "mixed",
        "opened",
        "orientation",
        "placed",
        "published",
        "redacted",
        "remixed",
        "removed",
        "repackaged",
        "resized",
        "resized.proportional",
        "transcoded",
        "translated",
        "trimmed",
        "unknown",
        "watermarked",
        "watermarked.bound",
        "watermarked.unbound",
    ]
)
DEPRECATED_ACTIONS = frozenset(
    [
        "copied",
        "formatted",
        "version_updated",
        "printed",
        "managed",
        "produced",
        "saved",
        "color_adjustments",
        "watermarked",
    ]
)
NEEDS_NO_SOURCE = frozenset(
    [
        "created",
        "opened",
        "converted",
        "published",
        "repackaged",
        "transcoded",
        "resized.proportional",
        "enhanced",
        "edited.metadata",
        "watermarked",
        "watermarked.bound",
        "watermarked.unbound",
        "redacted",
        "placed",
    ]
)
PARAMETERS = frozenset(
    [
        "redacted",
        "ingredients",
        "ingredient",
        "description",
        "relatedAssertions",
        "sourceLanguage",
        "targetLanguage",
        "multipleInstances",
        "ranges",
        "weight",
        "width",
        "italic",
        "slant",
        "optical-size",
    ]
)
NEVER_OUTSIDE = ("c2pa.actions", "c2pa.cloud-data", "c2pa.external-reference", "c2pa.hash", "c2pa.ingredient")
TRUST = frozenset(
    [
        "claimSignature.mismatch",
        "claimSignature.outsideValidity",
        "signingCredential.invalid",
        "signingCredential.ocsp.revoked",
        "signingCredential.untrusted",
    ]
)


def assertions(m: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = m["assertions"]
    return found


def actions(m: Manifest) -> list[dict[str, Any]]:
    return [one for said in assertions(m).values() for one in said.get("actions", ())]


def ingredients(m: Manifest) -> list[dict[str, Any]]:
    return [said for said in assertions(m).values() if "relationship" in said]


def labels(m: Manifest) -> Iterator[tuple[str, str]]:
    """Every C2PA assertion's label: whole, and without prefix and number."""
    for key in assertions(m):
        if key.startswith("c2pa."):
            yield key, key.removeprefix("c2pa.").split("__")[0]


def standard(m: Manifest) -> Iterator[dict[str, Any]]:
    return (one for one in actions(m) if one["action"].startswith("c2pa."))


def failures(m: Manifest) -> list[str]:
    return [one["code"] for one in m["validationResults"]["failure"]]


def without_dots(names: Any) -> list[str]:
    return [name for name in names if not name.startswith("c2pa.") and "." not in name]


def first_actions(m: Manifest) -> bool:
    """Whether what is created begins with actions, and those with how the clip began."""
    urls = [one["url"] for one in m["claim.v2"]["created_assertions"] if "c2pa.actions" in one["url"]]
    began = {one["action"] for one in actions(m)} & {"c2pa.created", "c2pa.opened"}
    return bool(urls) and urls[0].endswith("c2pa.actions.v2") and actions(m)[0]["action"] in began


FAULTS: dict[str, Callable[[Manifest], Any]] = {
    "mandatory_dst_for_perceptible_transformations": lambda m: [
        one["action"]
        for one in standard(m)
        if one["action"].removeprefix("c2pa.") not in NEEDS_NO_SOURCE and "digitalSourceType" not in one
    ],
    "mandatory_spec_version": lambda m: (
        m["claim.v2"]["claim_generator_info"].get("specVersion", "").rsplit(".", 1)[0] != SPEC
    ),
    "mandatory_all_actions_included": lambda m: [
        said for said in assertions(m).values() if "actions" in said and "allActionsIncluded" not in said
    ],
    "no_dst_for_opened_action": lambda m: [
        one for one in actions(m) if one["action"] == "c2pa.opened" and "digitalSourceType" in one
    ],
    "well_formed_data_present": lambda m: "validationResults" not in m,
    "well_formed_success": lambda m: [
        one for one in failures(m) if one.endswith(("malformed", "invalid", "missing"))
    ],
    "valid_data_present": lambda m: "validationResults" not in m,
    "valid_success": lambda m: [one for one in failures(m) if one.lower().endswith("mismatch")],
    "trusted_data_present": lambda m: "validationResults" not in m,
    "trusted_success": lambda m: TRUST.intersection(failures(m)),
    "inception_action_position": lambda m: not first_actions(m),
    "no_deprecated_assertions": lambda m: [key for key, label in labels(m) if label in DEPRECATED_ASSERTIONS],
    "no_unsupported_assertions": lambda m: [
        key for key, label in labels(m) if label not in ALLOWED_ASSERTIONS
    ],
    "no_deprecated_actions": lambda m: [
        one for one in standard(m) if one["action"].removeprefix("c2pa.") in DEPRECATED_ACTIONS
    ],
    "no_unsupported_actions": lambda m: [
        one for one in standard(m) if one["action"].removeprefix("c2pa.") not in ALLOWED_ACTIONS
    ],
    "no_unrecognized_custom_assertions": lambda m: without_dots(assertions(m)),
    "no_unrecognized_custom_actions": lambda m: without_dots(one["action"] for one in actions(m)),
    "no_unrecognized_custom_action_parameters": lambda m: [
        name
        for one in actions(m)
        for name in one.get("parameters", ())
        if name not in PARAMETERS and "." not in name
    ],
    "discouraged_legacy_action_parameters": lambda m: [
        one for one in actions(m) if {"description", "ingredient"} & one.get("parameters", {}).keys()
    ],
    "active_manifest_urn": lambda m: not m["label"].startswith("urn:c2pa:"),
    "review_ratings_datasource": lambda m: [
        said
        for said in assertions(m).values()
        if "reviewRatings" in said and said.get("dataSource", {}).get("type", "").startswith("humanEntry")
    ],
    "ingredient_v3_no_active_manifest": lambda m: [
        one for one in ingredients(m) if "activeManifest" not in one and "validationResults" in one
    ],
    "ingredient_v3_mandatory_validation_results": lambda m: [
        one for one in ingredients(m) if "activeManifest" in one and "validationResults" not in one
    ],
    "ingredient_relationship_values": lambda m: [
        one for one in ingredients(m) if one["relationship"] not in {"parentOf", "inputTo", "componentOf"}
    ],
    "mandatory_dst_for_created_action": lambda m: [
        one for one in actions(m) if one["action"] == "c2pa.created" and "digitalSourceType" not in one
    ],
    "no_deprecated_claim_fields": lambda m: "specVersion" in m["claim.v2"],
    "ingredient_v3_choice": lambda m: [
        one for one in ingredients(m) if "activeManifest" in one and "digitalSourceType" in one
    ],
    "alternative_content_representation_choice": lambda m: [
        said
        for said in assertions(m).values()
        if "exif.originalPreservationImage" in str(said)
        and ("multiAssetPartIndex" in str(said)) == ("embeddedOriginalPreservationImage" in str(said))
    ],
    "forbidden_labels_in_external_references": lambda m: [
        said
        for said in assertions(m).values()
        if "url" in said and "relationship" not in said and said.get("label", "").startswith(NEVER_OUTSIDE)
    ],
    "no_url_in_hashes": lambda m: [
        key for key, label in labels(m) if label.startswith("hash.") and "url" in assertions(m)[key]
    ],
    "all_actions_included_opened": lambda m: (
        [one["action"] for one in actions(m)] == ["c2pa.opened"]
        and assertions(m)["c2pa.actions.v2"].get("allActionsIncluded") is not True
    ),
    "opened_action_ingredient_reference": lambda m: [
        one
        for one in actions(m)
        if one["action"] == "c2pa.opened" and len(one.get("parameters", {}).get("ingredients", ())) != 1
    ],
    "no_box_hash_for_tiff": lambda m: (
        "c2pa.hash.boxes" in assertions(m)
        and "tiff" in assertions(m).get("c2pa.asset-type.v2", {}).get("dc:format", "")
    ),
}


def _act(m: Manifest, **said: Any) -> None:
    assertions(m)["c2pa.actions.v2"]["actions"].append(said)


def _fail(m: Manifest, code: str) -> None:
    m["validationResults"]["failure"].append({"code": code})


def _only_opened(m: Manifest) -> None:
    assertions(m)["c2pa.actions.v2"] = {"actions": [{"action": "c2pa.opened"}], "allActionsIncluded": False}


def _says(assertion: str, **said: Any) -> Callable[[Manifest], None]:
    def spoil(m: Manifest) -> None:
        assertions(m)[assertion] = said

    return spoil


SPOILT: dict[str, Callable[[Manifest], Any]] = {
    "mandatory_dst_for_perceptible_transformations": lambda m: _act(m, action="c2pa.edited"),
    "mandatory_spec_version": lambda m: m["claim.v2"]["claim_generator_info"].update(specVersion="2.2.0"),
    "mandatory_all_actions_included": lambda m: assertions(m)["c2pa.actions.v2"].pop("allActionsIncluded"),
    "no_dst_for_opened_action": lambda m: _act(m, action="c2pa.opened", digitalSourceType="x"),
    "well_formed_data_present": lambda m: m.pop("validationResults"),
    "well_formed_success": lambda m: _fail(m, "assertion.cbor.invalid"),
    "valid_data_present": lambda m: m.pop("validationResults"),
    "valid_success": lambda m: _fail(m, "assertion.bmffHash.mismatch"),
    "trusted_data_present": lambda m: m.pop("validationResults"),
    "trusted_success": lambda m: _fail(m, "signingCredential.untrusted"),
    "inception_action_position": lambda m: assertions(m)["c2pa.actions.v2"]["actions"].reverse(),
    "no_deprecated_assertions": _says("c2pa.hash.bmff.v2"),
    "no_unsupported_assertions": _says("c2pa.invented"),
    "no_deprecated_actions": lambda m: _act(m, action="c2pa.produced"),
    "no_unsupported_actions": lambda m: _act(m, action="c2pa.invented"),
    "no_unrecognized_custom_assertions": _says("invented"),
    "no_unrecognized_custom_actions": lambda m: _act(m, action="invented"),
    "no_unrecognized_custom_action_parameters": lambda m: _act(m, action="a.b", parameters={"invented": 1}),
    "discouraged_legacy_action_parameters": lambda m: _act(m, action="a.b", parameters={"ingredient": 1}),
    "active_manifest_urn": lambda m: m.update(label="urn:uuid:1"),
    "review_ratings_datasource": _says("a.b", reviewRatings=[], dataSource={"type": "humanEntry.anonymous"}),
    "ingredient_v3_no_active_manifest": _says("a.b", relationship="inputTo", validationResults={}),
    "ingredient_v3_mandatory_validation_results": _says("a.b", relationship="parentOf", activeManifest={}),
    "ingredient_relationship_values": _says("a.b", relationship="cousinOf"),
    "mandatory_dst_for_created_action": lambda m: _act(m, action="c2pa.created"),
    "no_deprecated_claim_fields": lambda m: m["claim.v2"].update(specVersion="2.4.0"),
    "ingredient_v3_choice": _says("a.b", relationship="parentOf", activeManifest={}, digitalSourceType="x"),
    "alternative_content_representation_choice": _says("a.b", type="exif.originalPreservationImage"),
    "forbidden_labels_in_external_references": _says("a.b", url="https://x", label="c2pa.actions"),
    "no_url_in_hashes": lambda m: assertions(m)["c2pa.hash.bmff.v3"].update(url="https://x"),
    "all_actions_included_opened": _only_opened,
    "opened_action_ingredient_reference": lambda m: _act(m, action="c2pa.opened", parameters={}),
    "no_box_hash_for_tiff": lambda m: assertions(m).update(
        {"c2pa.hash.boxes": {}, "c2pa.asset-type.v2": {"dc:format": "image/tiff"}}
    ),
}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Manifest]:
    """crJSON of what we make: a clip with people in it, one of a trained model, a remix."""
    folder = tmp_path_factory.mktemp("rubric")
    with contextmanager(dated)(folder, NOW) as bench:
        claims = {
            "released": CLAIM,
            "trained": replace(CLAIM, is_reference=False, cameo_consents=()),
            "remix": replace(CLAIM, action="remix", parent=parent_of(bench, bench.signed)),
        }
        for name, claim in claims.items():
            bench.signer.sign(bench.plain, folder / f"{name}.mp4", claim)
        return {name: _report(folder / f"{name}.mp4", bench) for name in claims}


def _report(path: Path, bench: Bench) -> Manifest:

    context = c2pa.Context.from_dict(manifest._settings(bench.authority.root_pem))
    with context, path.open("rb") as file, c2pa.Reader("video/mp4", file, context=context) as reader:
        found = json.loads(reader.crjson())
    active: Manifest = found["manifests"][0]
    return active


@pytest.mark.parametrize("made", ["released", "trained", "remix"])
@pytest.mark.parametrize("trait", FAULTS)
def test_every_trait_holds(reports: dict[str, Manifest], made: str, trait: str) -> None:
    assert not FAULTS[trait](reports[made])


@pytest.mark.parametrize("trait", FAULTS)
def test_its_lack_would_be_noticed(reports: dict[str, Manifest], trait: str) -> None:
    spoilt = deepcopy(reports["released"])
    SPOILT[trait](spoilt)
    assert FAULTS[trait](spoilt)
