"""What anyone may ask without an account, what auditors ask with a key, and what every answer looks like."""

import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import jsonschema
import pytest
from sqlalchemy import create_engine

from gateway.problems import problem_of
from ledger.errors import LedgerError, LogError
from ledger.log.note import VerifierKey, open_checkpoint
from ledger.provenance import media
from ledger.provenance.manifest import read
from ledger.provenance.schemas import schema
from live import (
    PATIENCE_S,
    UPLOAD_MB,
    Clip,
    Launcher,
    Owner,
    Site,
    collins_picture,
    ended,
    nobodys_picture,
    pixels,
    unknown,
    video_of,
    wanted,
)

pytest_plugins = ["live"]
pytestmark = pytest.mark.slow

POLICIES = Path(__file__).resolve().parent.parent / "policies"


@pytest.fixture
def web(live: Site) -> Iterator[httpx.Client]:
    with live.client() as client:
        yield client


@pytest.fixture
def file(clip: Clip, tmp_path: Path) -> Path:
    """The released clip, as someone received it."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip.content)
    return path


GOLDEN = Path(__file__).parent / "golden"
PUBLISHED = jsonschema.Draft202012Validator(schema("verdict"))


def verdict_on(web: httpx.Client, content: bytes) -> dict[str, Any]:
    answer = web.post("/v1/verify", content=content, headers={"content-type": "video/mp4"})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    PUBLISHED.validate(found)
    return found


# The verdict ------------------------------------------------------------------------------------------------


def test_a_released_clip_is_recognised_by_its_manifest(web: httpx.Client, clip: Clip) -> None:
    found = verdict_on(web, clip.content)
    assert (found["manifest_trusted"], found["asset_bound"]) == (True, True)
    assert (found["recovered_via"], found["released"], found["video_id"]) == ("embedded", True, clip.video_id)
    assert (found["consent_then"], found["consent_now"]) == (True, "standing")
    assert found["log"]["decision"] < found["log"]["release"]
    # The same as a form, as a browser sends it.
    form = web.post("/v1/verify", files={"file": ("clip.mp4", clip.content, "video/mp4")})
    assert form.json() == found


def test_a_stripped_clip_is_recognised_by_its_mark(web: httpx.Client, clip: Clip, file: Path) -> None:
    stripped = file.with_name("stripped.mp4")
    media.remux(file, stripped)
    found = verdict_on(web, stripped.read_bytes())
    assert (found["manifest_trusted"], found["asset_bound"]) == (False, False)
    assert (found["recovered_via"], found["released"], found["video_id"]) == (
        "watermark",
        True,
        clip.video_id,
    )
    assert found["consent_now"] == "standing"
    # A mark says where pixels come from, and the verdict says what it does not cover.
    assert "what else it shows is not covered" in found["sentence"]


def test_a_clip_encoded_again_is_recognised_by_its_mark(web: httpx.Client, clip: Clip, file: Path) -> None:
    again = file.with_name("again.mp4")
    with av.open(str(file)) as source, av.open(str(again), "w") as out:
        stream = out.add_stream("libx264", rate=24, options={"crf": "23", "preset": "medium"})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for frame in source.decode(video=0):
            out.mux(
                stream.encode(av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"), format="rgb24"))
            )
        out.mux(stream.encode())
    found = verdict_on(web, again.read_bytes())
    assert (found["manifest_trusted"], found["recovered_via"]) == (False, "watermark")
    assert found["video_id"] == clip.video_id


def test_an_altered_clip_is_never_called_as_signed(web: httpx.Client, clip: Clip) -> None:
    """One byte changed in the pixels: the manifest is ours, the bytes are not the ones it was signed over."""
    spoilt = bytearray(clip.content)
    place = spoilt.index(b"mdat") + (len(spoilt) - spoilt.index(b"mdat")) // 2
    spoilt[place] ^= 0x01
    found = verdict_on(web, bytes(spoilt))
    assert found["asset_bound"] is False
    assert found["recovered_via"] in {"watermark", "none"}
    assert (found["state"], found["stands"]) == ("altered", False)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_byte_changed_anywhere_is_noticed(web: httpx.Client, clip: Clip, share: float) -> None:
    spoilt = bytearray(clip.content)
    spoilt[int(len(spoilt) * share)] ^= 0x80
    answer = web.post("/v1/verify", content=bytes(spoilt))
    assert answer.status_code in {200, 415, 422}
    found = answer.json()
    assert not (found.get("manifest_trusted") and found.get("asset_bound"))


def test_a_video_from_elsewhere_is_not_ours_and_is_not_called_real(web: httpx.Client, tmp_path: Path) -> None:
    other = video_of(pixels(collins_picture()), tmp_path / "other.mp4")
    found = verdict_on(web, other)
    assert (found["manifest_trusted"], found["asset_bound"], found["released"]) == (False, False, False)
    assert (found["recovered_via"], found["video_id"], found["log"]) == ("none", None, None)
    assert (found["consent_then"], found["consent_now"]) == (False, "unknown")
    assert "does not mean it is real" in found["sentence"]


def test_what_is_not_a_whole_video_is_refused_and_nothing_is_kept(
    live: Site, web: httpx.Client, collins: Owner, clip: Clip, tmp_path: Path
) -> None:
    bad = {
        "no bytes": (b"", 422),
        "text": (b"a video\n" * 1000, 415),
        "a picture": (nobodys_picture(), 415),
        "half": (clip.content[: len(clip.content) // 2], 422),
        "all but the end": (clip.content[:-2000], 422),
        "a header and nothing": (clip.content[:32], 422),
        "a playlist": (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", 415),
        "another codec": (video_of(pixels(nobodys_picture()), tmp_path / "old.mp4", codec="mpeg2video"), 415),
        "too large": (clip.content + b"\x00" * (UPLOAD_MB << 20), 413),
    }
    with collins.nothing_happens():
        for name, (content, status) in bad.items():
            asks: list[dict[str, Any]] = [{"content": content}, {"files": {"file": ("x", content)}}]
            for sent in asks:
                answer = web.post("/v1/verify", **sent)
                assert answer.status_code == status, (name, answer.text)
                assert reason_of(answer).startswith("media.") or status == 413
        chunked = web.post("/v1/verify", content=iter([b"\x00" * (1 << 20)] * (UPLOAD_MB + 1)))
        assert (chunked.status_code, chunked.headers["connection"]) == (413, "close")
        assert reason_of(web.post("/v1/verify", data={"file": "x"}, files={"other": b"x"}))
        for kind, content, status in (
            ("multipart/form-data", b"x", 400),
            ("multipart/form-data; boundary=x", b"--x\r\nno form", 400),
            (
                "multipart/form-data; boundary=x",
                b'--x\r\ncontent-disposition: form-data; name="file"\r\n' * 99,
                400,
            ),
            ("application/json", b"{}", 415),
            ("text/html", b"<p>", 415),
        ):
            answer = web.post("/v1/verify", content=content, headers={"content-type": kind})
            assert (answer.status_code, bool(reason_of(answer))) == (status, True), kind
        twice = web.post("/v1/verify", files=[("file", ("a", b"x")), ("file", ("b", b"x"))])
        assert (twice.status_code, reason_of(twice)) == (400, "request.file")
    assert list(live.temporary.iterdir()) == []


def test_the_form_of_a_verdict_is_published(web: httpx.Client) -> None:
    answer = web.get("/schemas/verdict/v2")
    assert answer.headers["content-type"].startswith("application/schema+json")
    assert answer.json() == PUBLISHED.schema
    jsonschema.Draft202012Validator.check_schema(answer.json())


def test_nobody_who_sends_slowly_holds_more_than_their_share(
    web: httpx.Client, live: Site, clip: Clip
) -> None:
    """Each file holds its place from the first byte on, and gives it back."""
    lines = []
    for _ in range(8):
        line = socket.create_connection(("127.0.0.1", live.port))
        line.sendall(b"POST /v1/verify HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\nx")
        lines.append(line)
    until = time.monotonic() + PATIENCE_S
    while (answer := web.post("/v1/verify", content=clip.content)).status_code == 200:
        assert time.monotonic() < until
    assert (answer.status_code, reason_of(answer)) == (429, "verify.share")
    for line in lines:
        line.close()
    while web.post("/v1/verify", content=clip.content).status_code != 200:
        assert time.monotonic() < until


# What a clip's status says, and what it does not ---------------------------------------------------------------


def test_a_clips_status_names_nobody(live: Site, web: httpx.Client, clip: Clip, collins: Owner) -> None:
    answer = web.get(f"/v1/clips/{clip.video_id}")
    assert answer.json()["people_shown"] == 1
    assert "faces" in answer.json()["checks"]
    assert answer.json()["consent_now"] == "standing"
    verdict = web.post("/v1/verify", content=clip.content).text
    secrets = [collins.person_id, collins.cameo_id, live.holder("film club"), "Collins", "golden light"]
    for text in (answer.text, verdict):
        assert not [secret for secret in [*secrets, *collins.used()] if secret in text]


@pytest.mark.parametrize("video_id", ["video_1", "x" * 10_000, "video_%00", "..%2f..", unknown("video")])
def test_an_unknown_clip_is_404(web: httpx.Client, video_id: str) -> None:
    answer = web.get(f"/v1/clips/{video_id}")
    assert answer.status_code == 404
    assert reason_of(answer)


def test_a_clip_holds_for_anyone_with_the_published_root_alone(
    web: httpx.Client, file: Path, clip: Clip
) -> None:
    root = web.get("/root.pem").content
    found = read(file, root)
    assert (found.manifest_trusted, found.asset_bound) == (True, True)
    assert found.consent is not None
    assert found.consent["video_id"] == clip.video_id
    assert web.get(httpx.URL(str(found.consent["status_url"])).path).json()["released"] is True


@pytest.mark.parametrize("name", ["consent", "generation"])
def test_what_manifests_say_is_described_in_public(web: httpx.Client, name: str) -> None:
    answer = web.get(f"/schemas/{name}/v1")
    assert answer.headers["content-type"] == "application/schema+json"
    jsonschema.Draft202012Validator.check_schema(answer.json())
    assert answer.json()["title"] == f"org.countersign.{name}"
    assert web.get("/schemas/settings/v1").status_code == 404


def test_a_clip_says_what_the_served_schema_describes(web: httpx.Client, file: Path) -> None:
    said = read(file, web.get("/root.pem").content).consent
    jsonschema.Draft202012Validator(web.get("/schemas/consent/v1").json()).validate(said)


# The log ----------------------------------------------------------------------------------------------------


def test_the_checkpoint_is_signed_by_the_logs_key_and_covers_every_entry(
    live: Site, web: httpx.Client, collins: Owner
) -> None:
    log = VerifierKey.parse(web.get("/v1/log/keys").json()["vkey"])
    answer = web.get("/checkpoint")
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["cache-control"] == "no-cache"
    checkpoint = open_checkpoint(answer.content, log).checkpoint
    assert checkpoint.size == web.get("/ready").json()["log_size"]
    for spoilt in (
        answer.content.replace(f"\n{checkpoint.size}\n".encode(), f"\n{checkpoint.size + 1}\n".encode()),
        answer.content[:-5] + b"AAA=\n",
        b"",
    ):
        with pytest.raises(LedgerError):
            open_checkpoint(spoilt, log)
    live.audit(collins.cameo_id)
    assert live.checkpoint().size == checkpoint.size + 2, "the question, and the epoch that gives it its tag"


def test_an_auditors_question_needs_their_key_and_is_itself_recorded(
    live: Site, web: httpx.Client, collins: Owner, clip: Clip
) -> None:
    with collins.nothing_happens():
        for name in ("film club", "dana"):
            with live.client(name) as other:
                answer = other.get("/v1/audit/uses", params={"cameo": collins.cameo_id})
                assert (answer.status_code, reason_of(answer)) == (401, "access.key")
        assert web.get("/v1/audit/uses", params={"cameo": collins.cameo_id}).status_code == 401
        with live.client("press council") as auditor:
            for cameo in (unknown("cameo"), "cameo_1", "x" * 10_000):
                answer = auditor.get("/v1/audit/uses", params={"cameo": cameo})
                assert (answer.status_code, reason_of(answer)) == (404, "cameo.unknown")
            assert auditor.get("/v1/audit/uses").status_code == 400
    told = live.audit(collins.cameo_id)
    assert [body["kind"] for body in told if body.get("video_id") == clip.video_id] == ["decision", "release"]
    mine = collins.web.get(f"/v1/cameos/{collins.cameo_id}/uses").json()["entries"]
    assert mine[-1]["kind"] == "audit"
    assert mine[-1]["body"]["auditor"] == "press council"


# What every answer looks like ---------------------------------------------------------------------------------


def reason_of(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body.keys() == {"type", "title", "status", "detail", "reasons"}
    assert body["status"] == answer.status_code
    return str(body["reasons"][0]["id"])


WRONG: list[tuple[str, str, int]] = [
    ("GET", "/nowhere", 404),
    ("GET", "/v1", 404),
    ("GET", "/v1/nowhere", 404),
    ("GET", "/assets/nowhere.js", 404),
    ("GET", "/assets/../app.py", 404),
    ("GET", "/assets/..%2fapp.py", 404),
    ("GET", "/assets/%2e%2e/app.py", 404),
    ("GET", "/v1/clips/video_1", 404),
    ("GET", "/tile/0/000/000", 404),
    ("GET", "/v1/log/receipts/9999999", 404),
    ("GET", "/v1/cameos/x/uses", 401),
    ("GET", "/v1/grants", 401),
    ("GET", "/v1/audit/uses?cameo=x", 401),
    ("POST", "/checkpoint", 405),
    ("DELETE", "/v1/verify", 405),
    ("PUT", "/", 405),
    ("POST", "/v1/verify", 422),
    ("POST", "/v1/sessions", 400),
    ("POST", "/v1/cameos/vouched", 401),
]


@pytest.mark.parametrize(("method", "path", "status"), WRONG, ids=[f"{m} {p}" for m, p, _ in WRONG])
def test_every_error_outside_the_video_api_is_a_problem(
    web: httpx.Client, method: str, path: str, status: int
) -> None:
    answer = web.request(method, path)
    assert answer.status_code == status
    assert reason_of(answer)
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/assets/verify.js",
        "/health",
        "/ready",
        "/checkpoint",
        "/root.pem",
        "/nowhere",
        "/v1/videos",
        "/v1/grants",
    ],
)
def test_every_answer_carries_the_security_headers(web: httpx.Client, path: str) -> None:
    headers = web.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers
    assert headers["x-request-id"].startswith("req_")
    assert web.get(path).headers["x-request-id"] != headers["x-request-id"]
    assert headers.get_list("x-request-id", split_commas=True) == [headers["x-request-id"]]


def test_the_openapi_document_lists_every_route(web: httpx.Client) -> None:
    document = web.get("/docs/openapi.json").json()
    routes = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    # A route that comes, goes or moves is a change that clients notice: it is written down here as well.
    assert routes == set((GOLDEN / "routes.txt").read_text().split("\n")[:-1])
    assert document["info"]["title"] == "Countersign"
    assert all(method["description"] for methods in document["paths"].values() for method in methods.values())


def test_a_witness_that_is_late_is_a_wait_and_not_a_fault() -> None:
    late = LogError("log.not_yet", "entry `7` is not under a published checkpoint yet", "ask again")
    assert problem_of(late).status == 503


def test_the_service_says_that_it_lives_and_that_it_can_decide(web: httpx.Client) -> None:
    assert web.get("/health").json() == {"status": "ok"}
    ready = web.get("/ready").json()
    assert ready["status"] == "ready"
    assert len(ready["policy_set"]) == 64
    page = web.get("/")
    assert page.headers["content-type"].startswith("text/html")


# Without policies --------------------------------------------------------------------------------------------


def denies_everything(site: Site, *people: Owner) -> None:
    """It runs, and says that it can decide nothing."""
    with site.client("film club") as app:
        ready = app.get("/ready")
        assert (ready.status_code, reason_of(ready)) == (503, "policy.unreadable")
        assert app.get("/health").status_code == 200
        for named in (people, ()):
            refused = app.post("/v1/videos", json=wanted(*named))
            assert refused.status_code == 403
            assert refused.json()["error"]["code"] == "policy.unreadable"
            beforehand = app.post("/v1/videos/precheck", json=wanted(*named)).json()
            assert [reason["id"] for reason in beforehand["reasons"]] == ["policy.unreadable"]


def test_a_service_whose_policies_are_broken_denies_everything_and_says_so(
    launcher: Launcher, tmp_path: Path
) -> None:
    policies = tmp_path / "policies"
    shutil.copytree(POLICIES, policies)
    consent = (policies / "consent.cedar").read_text()
    site = Site(launcher, tmp_path / "home", apps=("film club",), env={"POLICIES": str(policies)})
    # A folder that is broken at the very first start puts nothing in force,
    (policies / "consent.cedar").write_text(consent.replace("forbid", "forbit", 1))
    site.start()
    denies_everything(site)
    site.stop()
    # and is taken up at the first start at which it is whole.
    (policies / "consent.cedar").write_text(consent)
    site.start()
    owner = site.enrol(collins_picture())
    owner.grant()
    with site.client("film club") as app:
        video_id = app.post("/v1/videos", json=wanted(owner)).json()["id"]
        assert ended(app, video_id)["status"] == "completed"
        in_force = app.get("/v1/policies").json()
    site.stop()
    # From then on the log says what is in force: whoever edits the folder changes nothing.
    shutil.rmtree(policies)
    site.start()
    with site.client("film club") as app:
        assert app.get("/v1/policies").json() == in_force
        assert app.get(f"/v1/videos/{video_id}/content").status_code == 200
    site.stop()
    # And a set in force that the archive no longer holds as it was is not replaced by another one.
    database = create_engine(f"sqlite:///{site.home / 'ledger.db'}")
    with database.begin() as connection:
        connection.exec_driver_sql("UPDATE policy_set SET files = CAST('{}' AS BLOB)")
    database.dispose()
    site.start()
    denies_everything(site, owner)
    with site.client("film club") as app:
        assert app.get(f"/v1/videos/{video_id}/content").status_code == 403
        # What was decided before stays visible.
        assert app.get(f"/v1/videos/{video_id}").json()["status"] == "completed"
    site.stop()
    owner.web.close()
