"""The Soft Binding Resolution API 2.4, as a stranger uses it who holds a clip without its manifest.

What each answer must look like is the OpenAPI document of the specification (C2PA 2.4, Soft Binding Resolution API).
"""

import io
import json
import re
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Iterator
from copy import deepcopy
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import c2pa
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.bindings import MAX_VALUE
from ledger.errors import InvalidStatement, LogError
from ledger.provenance import anchored, media
from ledger.provenance.manifest import WATERMARK_ALG
from live import (
    UPLOAD_MB,
    Clip,
    Owner,
    Site,
    ended,
    nobodys_picture,
    pixels,
    video_of,
    wanted,
)
from studio import Studio
from world import World

pytest_plugins = ["live"]
VIDEO = {"content-type": "video/mp4"}


@pytest.fixture
def web(live: Site) -> Iterator[httpx.Client]:
    with live.client() as client:
        yield client


@pytest.fixture(scope="module")
def stripped(clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The released clip as a platform hands it on: the same pictures, no manifest."""
    folder = tmp_path_factory.mktemp("stripped")
    (folder / "clip.mp4").write_bytes(clip.content)
    media.remux(folder / "clip.mp4", folder / "stripped.mp4")
    return (folder / "stripped.mp4").read_bytes()


@pytest.fixture(scope="module")
def store(clip: Clip) -> bytes:
    """The manifest store, cut out of the clip without our parser: from its superbox's length to its end."""
    start = clip.content.index(b"jumb") - 4
    return clip.content[start : start + int.from_bytes(clip.content[start : start + 4], "big")]


@pytest.fixture(scope="module")
def manifest_id(store: bytes) -> str:
    found = re.findall(rb"urn:c2pa:[0-9a-f-]{36}", store)
    return str(found[0].decode())


@pytest.fixture(scope="module")
def mark(live: Site, stripped: bytes) -> bytes:
    """The number in the pictures, as a detector of ours finds it."""
    with live.client() as web:
        found = web.post("/v1/verify", content=stripped, headers=VIDEO).json()
    return bytes.fromhex(found["marks"][0]["payload"])


def asked(web: httpx.Client, value: str, **more: str) -> httpx.Response:
    return web.get("/v1/matches/byBinding", params={"alg": WATERMARK_ALG, "value": value, **more})


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    matches = answer.json()["matches"]
    for one in matches:
        assert type(one["similarityScore"]) is int
        assert 0 <= one["similarityScore"] <= 100
    return [one["manifestId"] for one in matches]


# --- from a mark to a manifest ---------------------------------------------------------------------------------


@pytest.mark.slow
class TestByBinding:
    def test_a_mark_leads_to_its_manifest_however_it_is_spelt(
        self, web: httpx.Client, mark: bytes, manifest_id: str
    ) -> None:
        for value in (
            b64encode(mark).decode(),
            b64encode(mark).decode().rstrip("="),
            urlsafe_b64encode(mark).decode(),
            b64encode(mark.hex().encode()).decode(),  # as the manifest's own assertion spells it
            mark.hex(),
        ):
            assert ids(asked(web, value)) == [manifest_id]
            posted = web.post("/v1/matches/byBinding", json={"alg": WATERMARK_ALG, "value": value})
            assert ids(posted) == [manifest_id]

    def test_a_mark_of_no_clip_leads_nowhere(self, web: httpx.Client, mark: bytes) -> None:
        for value in (bytes(8), mark[:7], mark + b"\x00", b""):
            assert ids(asked(web, b64encode(value).decode())) == []

    @pytest.mark.parametrize(
        ("query", "status"),
        [
            ({"value": "AAAAAAAAAAA="}, 400),
            ({"alg": "com.example.watermark.1", "value": "AAAAAAAAAAA="}, 400),
            ({"alg": WATERMARK_ALG, "value": "not base64!"}, 400),
            ({"alg": WATERMARK_ALG, "value": "\udcff".encode("utf-8", "surrogatepass").hex()[:5]}, 400),
            ({"alg": WATERMARK_ALG, "value": "ключ"}, 400),
            ({"alg": WATERMARK_ALG, "value": "A" * (MAX_VALUE + 1)}, 414),
            *(
                ({"alg": WATERMARK_ALG, "value": "AAAAAAAAAAA=", "maxResults": most}, 400)
                for most in ("0", "-1", "1.5", "many", "")
            ),
        ],
    )
    def test_what_is_not_a_query_is_refused(
        self, web: httpx.Client, query: dict[str, str], status: int
    ) -> None:
        answer = web.get("/v1/matches/byBinding", params=query)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")

    @pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"alg": 1, "value": []}', b"[" * 9000, b"\xff"])
    def test_a_body_that_is_not_a_query_is_refused(self, web: httpx.Client, body: bytes) -> None:
        assert web.post("/v1/matches/byBinding", content=body).status_code == 400

    def test_a_long_value_may_be_sent_and_is_none_of_ours(self, web: httpx.Client) -> None:
        posted = web.post("/v1/matches/byBinding", json={"alg": WATERMARK_ALG, "value": "AAAA" * 9000})
        assert ids(posted) == []
        endless = web.post("/v1/matches/byBinding", json={"alg": WATERMARK_ALG, "value": "AAAA" * 90000})
        assert endless.status_code == 413


@pytest.mark.slow
class TestByContent:
    def test_a_clip_leads_to_its_manifest_with_and_without_it(
        self, live: Site, web: httpx.Client, clip: Clip, stripped: bytes, manifest_id: str
    ) -> None:
        for content in (clip.content, stripped):
            assert ids(web.post("/v1/matches/byContent", content=content, headers=VIDEO)) == [manifest_id]
        marked = web.post(
            "/v1/matches/byContent", content=stripped, headers=VIDEO, params={"alg": WATERMARK_ALG}
        )
        assert ids(marked) == [manifest_id]
        assert list((live.home / "uploads").iterdir()) == []

    def test_a_hint_is_not_believed(self, web: httpx.Client, mark: bytes, tmp_path: Path) -> None:
        other = video_of(pixels(nobodys_picture())[:180, :320], tmp_path / "other.mp4")
        hint = {"hintAlg": WATERMARK_ALG, "hintValue": b64encode(mark).decode()}
        assert ids(web.post("/v1/matches/byContent", content=other, headers=VIDEO, params=hint)) == []

    @pytest.mark.parametrize(
        ("content", "kind", "status"),
        [
            (b"no video", "video/mp4", 400),
            (b"", "video/mp4", 400),
            (b"text", "text/plain", 415),
            (b"what", "", 415),
            (bytes((UPLOAD_MB << 20) + 1), "video/mp4", 413),
        ],
    )
    def test_what_is_not_a_video_is_refused(
        self, web: httpx.Client, content: bytes, kind: str, status: int
    ) -> None:
        answer = web.post("/v1/matches/byContent", content=content, headers={"content-type": kind})
        assert answer.status_code == status

    def test_an_algorithm_nobody_here_knows_is_refused_before_anything_is_read(
        self, web: httpx.Client
    ) -> None:
        asked_for = {"alg": "com.example.watermark.1"}
        answer = web.post("/v1/matches/byContent", content=b"x", headers=VIDEO, params=asked_for)
        assert answer.json()["reasons"][0]["id"] == "bindings.algorithm"

    def test_no_address_is_fetched(self, web: httpx.Client, live: Site) -> None:
        body = {"referenceUrl": f"{live.url}/health", "assetLength": 10}
        assert web.post("/v1/matches/byReference", json=body).status_code == 403


# --- the manifest ------------------------------------------------------------------------------------------------


@pytest.mark.slow
class TestManifest:
    def test_it_is_the_store_that_the_clip_carried(
        self, web: httpx.Client, clip: Clip, store: bytes, manifest_id: str
    ) -> None:
        answer = web.get(f"/v1/manifests/{manifest_id}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/c2pa")
        assert answer.content == store
        status = f"/v1/clips/{clip.video_id}"
        assert answer.headers["link"].endswith(f'{status}>; rel="describedby"')
        assert web.get(status).json()["released"] is True

    def test_another_reader_makes_the_same_of_it_as_of_the_clip(
        self, web: httpx.Client, clip: Clip, manifest_id: str
    ) -> None:
        alone = web.get(f"/v1/manifests/{manifest_id}", params={"returnActiveManifest": "true"})
        with c2pa.Reader("application/c2pa", io.BytesIO(alone.content)) as found:
            recovered = json.loads(found.json())
        with c2pa.Reader("video/mp4", io.BytesIO(clip.content)) as found:
            embedded = json.loads(found.json())
        assert recovered["active_manifest"] == embedded["active_manifest"] == manifest_id
        assert recovered["manifests"][manifest_id] == embedded["manifests"][manifest_id]

    def test_one_that_is_not_here_is_not_found(self, web: httpx.Client, manifest_id: str) -> None:
        for missing in (
            "urn:c2pa:conformance-does-not-exist",
            manifest_id[:-1],
            manifest_id.upper(),
            "x" * 300,
        ):
            for path in ("", "/receipts"):
                assert web.get(f"/v1/manifests/{missing}{path}").status_code == 404

    def test_a_flag_that_is_neither_is_refused(self, web: httpx.Client, manifest_id: str) -> None:
        odd = {"returnActiveManifest": "yes"}
        assert web.get(f"/v1/manifests/{manifest_id}", params=odd).status_code == 400

    def test_it_outlives_the_clip(self, live: Site, collins: Owner) -> None:
        """The app deletes the clip, and copies of it are still recognised."""
        with live.client("film club") as app, live.client() as web:
            video_id = app.post("/v1/videos", json=wanted(collins)).json()["id"]
            assert ended(app, video_id)["status"] == "completed"
            content = app.get(f"/v1/videos/{video_id}/content").content
            assert app.delete(f"/v1/videos/{video_id}").status_code == 200
            assert app.get(f"/v1/videos/{video_id}/content").status_code == 404
            (found,) = ids(web.post("/v1/matches/byContent", content=content, headers=VIDEO))
            assert web.get(f"/v1/manifests/{found}").content in content
            assert web.get(f"/v1/manifests/{found}/receipts").json()["verified"] is True


def test_a_clip_that_waits_for_somebodys_word_has_no_manifest_here_yet(world: World) -> None:
    app, ada = world.app(), world.enrol()
    world.grant(ada, app, approval="before_release")
    studio = Studio(world)
    video_id = studio.waiting(app, ada)
    with world.ledger.reading() as tx:
        assert tx.manifest_of(video_id) is None
    studio.say(video_id, ada, "approve")
    studio.drafts.settle(video_id)
    with world.ledger.reading() as tx:
        manifest_id = tx.manifest_of(video_id)
        assert manifest_id is not None
        kept = tx.manifest(manifest_id)
        assert kept is not None
        said = tx.manifest_entry(kept)
    assert said.body["sha256"] == sha256(kept.store).hexdigest()
    assert said.body.keys() == {"kind", "at", "video_id", "manifest_id", "sha256"}


# --- receipts ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def receipt(live: Site, manifest_id: str) -> dict[str, Any]:
    with live.client() as web:
        found: dict[str, Any] = web.get(f"/v1/manifests/{manifest_id}/receipts").json()
    return found


@pytest.fixture(scope="module")
def log(live: Site) -> tuple[str, list[ec.EllipticCurvePublicKey]]:
    """The log's name and its receipt keys, from the list anyone can keep."""
    with live.client() as web:
        said = web.get("/v1/log/keys").json()
    points = [b64decode(one["public"]) for one in said["keys"] if one["role"] == "receipt"]
    keys = [ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point) for point in points]
    return said["vkey"].split("+")[0], keys


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value that holds no others."""
    if isinstance(node, dict):
        for key, child in node.items():
            yield from leaves(child, (*path, key))
    elif isinstance(node, list):
        for key, child in enumerate(node):
            yield from leaves(child, (*path, key))
    else:
        yield path


def changed(receipt: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    """The receipt with another value at the end of `path`: another bit, number or letter."""
    altered = deepcopy(receipt)
    node: Any = altered
    for key in path[:-1]:
        node = node[key]
    value = node[path[-1]]
    if isinstance(value, bool):
        node[path[-1]] = not value
    elif isinstance(value, int):
        node[path[-1]] = value + 1
    else:
        middle = len(value) // 2
        node[path[-1]] = value[:middle] + ("A" if value[middle] != "A" else "B") + value[middle + 1 :]
    return altered


@pytest.mark.slow
class TestReceipt:
    def test_it_has_the_form_that_the_specification_gives(
        self, receipt: dict[str, Any], manifest_id: str, live: Site
    ) -> None:
        assert receipt.keys() == {"@context", "@type", "repository", "anchor", "verified"}
        assert receipt["@type"] == "org.c2pa.manifest-receipt"
        assert receipt["repository"] == {"uri": f"{live.url}/v1", "manifestId": manifest_id}
        assert receipt["anchor"].keys() == {"uri", "parameters", "proof"}
        assert receipt["verified"] is True

    def test_it_shows_the_manifest_in_the_log_without_us(
        self,
        receipt: dict[str, Any],
        manifest_id: str,
        store: bytes,
        log: tuple[str, list[ec.EllipticCurvePublicKey]],
    ) -> None:
        given = {name: said for name, said in receipt.items() if name != "verified"}
        anchored.verify(given, manifest_id, store, origin=log[0], keys=log[1])
        with pytest.raises(LogError, match="other bytes"):
            anchored.verify(given, manifest_id, store + b"\x00", origin=log[0], keys=log[1])
        stranger = [ec.generate_private_key(ec.SECP256R1()).public_key()]
        for origin, keys in ((log[0], stranger), ("another.example/log", log[1])):
            with pytest.raises(LogError):
                anchored.verify(given, manifest_id, store, origin=origin, keys=keys)

    def test_nothing_in_its_proof_can_be_changed(
        self,
        receipt: dict[str, Any],
        manifest_id: str,
        store: bytes,
        log: tuple[str, list[ec.EllipticCurvePublicKey]],
    ) -> None:
        given = {name: said for name, said in receipt.items() if name != "verified"}
        paths = [path for path in leaves(given) if path[:2] == ("anchor", "proof")]
        assert len(paths) > 9
        for path in paths:
            with pytest.raises((LogError, InvalidStatement)):
                anchored.verify(changed(given, path), manifest_id, store, origin=log[0], keys=log[1])

    def test_the_service_tells_a_good_one_from_a_bad_one(
        self, web: httpx.Client, receipt: dict[str, Any], manifest_id: str
    ) -> None:
        address = f"/v1/manifests/{manifest_id}/receipts"
        assert web.post(address, json=receipt).json() == receipt
        lying = changed(receipt, ("anchor", "proof", "body", "sha256")) | {"verified": True}
        answer = web.post(address, json=lying)
        assert (answer.status_code, answer.json()["verified"]) == (200, False)
        assert answer.json()["error"]
        other = changed(receipt, ("repository", "manifestId"))
        assert web.post(address, json=other).json()["error"] == "the receipt is for another manifest"

    @pytest.mark.parametrize("body", [b"{}", b"[]", b"no", b'{"@type": "org.c2pa.manifest-receipt"}'])
    def test_what_is_no_receipt_is_refused(self, web: httpx.Client, manifest_id: str, body: bytes) -> None:
        assert web.post(f"/v1/manifests/{manifest_id}/receipts", content=body).status_code == 400


# --- about the service -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_service_says_what_it_can_and_where(web: httpx.Client, live: Site) -> None:
    found = web.get("/.well-known/c2pa-soft-binding-resolution").json()
    assert found["apiEndpoint"] == f"{live.url}/v1"
    can = web.get(found["capabilitiesEndpoint"]).json()
    assert can == {"c2paSpecificationVersion": "2.4.0", "supportedCapabilities": ["queryByContent"]}
    assert found["c2paSpecificationVersion"] == can["c2paSpecificationVersion"]
    status = web.get(found["statusEndpoint"]).json()
    assert status["status"] == "ok"
    datetime.fromisoformat(status["timestamp"])
    algorithms = web.get("/v1/services/supportedAlgorithms").json()
    assert {one["alg"] for one in algorithms["watermarks"]} == {WATERMARK_ALG}
    assert isinstance(algorithms["fingerprints"], list)


@pytest.mark.slow
def test_nobody_stores_manifests_from_outside(web: httpx.Client, manifest_id: str) -> None:
    assert web.post("/v1/manifests", content=b"x").status_code in {404, 405}
    assert web.post("/v1/bindings", json={}).status_code in {404, 405}
    assert web.delete(f"/v1/manifests/{manifest_id}").status_code == 405
