"""`/v1/videos` over HTTP, spoken by the unmodified public SDK and by hand."""

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import av
import httpx
import openai
import pytest

from live import (
    BROKEN,
    MODEL,
    PROMPT,
    UNHURRIED,
    UPLOAD_MB,
    Clip,
    Owner,
    Site,
    collins_picture,
    ended,
    hopper_picture,
    unknown,
    wanted,
)

pytest_plugins = ["live"]
pytestmark = pytest.mark.slow

KEYS = {
    "id",
    "object",
    "model",
    "status",
    "progress",
    "created_at",
    "completed_at",
    "expires_at",
    "prompt",
    "size",
    "seconds",
    "remixed_from_video_id",
    "error",
    "waits",
}


@pytest.fixture
def app(live: Site) -> Iterator[httpx.Client]:
    with live.client("film club") as client:
        yield client


@contextmanager
def made(app: httpx.Client, answer: httpx.Response) -> Iterator[dict[str, Any]]:
    """An accepted request; its job is cancelled at the end, so that nothing runs on into the next test."""
    assert answer.status_code == 200, answer.text
    video = answer.json()
    yield video
    assert app.delete(f"/v1/videos/{video['id']}").status_code == 200


def error_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The error object, once everything an OpenAI client relies on is there."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")
    error: dict[str, Any] = answer.json()["error"]
    assert {"message", "type", "param", "code"} <= error.keys()
    assert error["message"]
    assert error["code"]
    assert all(text not in answer.text for text in ("Traceback", "pydantic", "Error'", "site-packages"))
    return error


# The main road ----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_public_sdk_creates_polls_lists_downloads_and_deletes(live: Site, collins: Owner) -> None:
    with live.sdk() as sdk:
        video = sdk.videos.create(
            model=MODEL,
            prompt=f"{PROMPT}, {UNHURRIED}",
            seconds="1",  # type: ignore[arg-type] # shorter than the SDK's own choices
            size="640x360",  # type: ignore[arg-type]
            extra_body={"characters": [{"id": collins.cameo_id}]},
        )
        assert (video.object, video.status, video.seconds, video.size) == ("video", "queued", "1", "640x360")
        seen: list[tuple[str, int]] = []
        while video.status not in {"completed", "failed"}:
            video = sdk.videos.retrieve(video.id)
            seen.append((video.status, video.progress))
            time.sleep(0.1)
        statuses = [status for status, _ in seen]
        assert set(statuses) <= {"queued", "in_progress", "completed"}
        assert statuses == sorted(statuses, key=["queued", "in_progress", "completed"].index)
        assert "in_progress" in statuses
        assert [progress for _, progress in seen] == sorted(progress for _, progress in seen)
        assert seen[-1] == ("completed", 100)

        video = sdk.videos.poll(video.id)
        assert video.status == "completed"
        assert video.id in [listed.id for listed in sdk.videos.list()]
        content = sdk.videos.download_content(video.id).read()
        assert content[4:8] == b"ftyp"

        assert sdk.videos.delete(video.id).deleted
        with pytest.raises(openai.NotFoundError):
            sdk.videos.retrieve(video.id)
        with pytest.raises(openai.NotFoundError):
            sdk.videos.download_content(video.id)
        with pytest.raises(openai.NotFoundError):
            sdk.videos.delete(video.id)
        assert video.id not in [listed.id for listed in sdk.videos.list()]
    # What the ledger says about it stays.
    with live.client() as web:
        assert web.get(f"/v1/clips/{video.id}").json()["released"] is True
    assert [body["kind"] for body in live.audit(collins.cameo_id) if body.get("video_id") == video.id] == [
        "decision",
        "release",
    ]


def test_a_video_object_has_every_key_at_every_moment(app: httpx.Client, collins: Owner, clip: Clip) -> None:
    with made(app, app.post("/v1/videos", json=wanted(collins))) as queued:
        assert queued.keys() == KEYS
        assert (queued["object"], queued["status"], queued["progress"]) == ("video", "queued", 0)
        assert (queued["completed_at"], queued["error"], queued["expires_at"]) == (None, None, None)
    done = app.get(f"/v1/videos/{clip.video_id}").json()
    assert done.keys() == KEYS
    assert isinstance(done["seconds"], str)
    assert isinstance(done["created_at"], int)
    assert done["completed_at"] >= done["created_at"]


def test_polling_is_steered_only_while_there_is_something_to_wait_for(
    app: httpx.Client, collins: Owner, clip: Clip
) -> None:
    answer = app.post("/v1/videos", json=wanted(collins))
    with made(app, answer) as video:
        assert int(answer.headers["openai-poll-after-ms"]) > 0
        assert int(app.get(f"/v1/videos/{video['id']}").headers["openai-poll-after-ms"]) > 0
    assert "openai-poll-after-ms" not in app.get(f"/v1/videos/{clip.video_id}").headers


@pytest.mark.parametrize("spelling", ["json", "character_ids", "multipart", "urlencoded"])
def test_every_spelling_of_a_request_means_the_same(app: httpx.Client, collins: Owner, spelling: str) -> None:
    plain: dict[str, str] = {"model": MODEL, "prompt": PROMPT, "seconds": "1", "size": "640x360"}
    bracketed = {**plain, "characters[][id]": collins.cameo_id}
    bodies: dict[str, dict[str, Any]] = {
        "json": {"json": wanted(collins)},
        "character_ids": {"json": {**plain, "character_ids": [collins.cameo_id, collins.cameo_id]}},
        "multipart": {"files": [(key, (None, value)) for key, value in bracketed.items()]},
        "urlencoded": {"data": bracketed},
    }
    before = collins.used()
    with made(app, app.post("/v1/videos", **bodies[spelling])) as video:
        assert {key: video[key] for key in plain} == plain
        assert sum(collins.used().values()) == sum(before.values()) + 1


def test_a_clip_is_marked_by_the_rules_its_app_names(app: httpx.Client, collins: Owner) -> None:
    fields = [
        *wanted(collins).items(),
        ("profiles[]", "cn"),
        ("profiles[]", "us-ca"),
        ("label_language", "fr"),
    ]
    form = [(key, (None, value)) for key, value in fields if key != "characters"]
    answer = app.post("/v1/videos", files=[*form, ("characters[][id]", (None, collins.cameo_id))])
    with made(app, answer) as video:
        assert ended(app, video["id"])["status"] == "completed"
        content = app.get(f"/v1/videos/{video['id']}/content").content
    with av.open(io.BytesIO(content)) as container:
        assert json.loads(container.metadata["AIGC"])["ProduceID"] == video["id"]
    assert b'"profiles":["us-ca","cn"]' in content
    assert b'"visible_label":["zh"]' in content


def test_two_people_are_shown_when_both_agree_and_only_then(
    live: Site, app: httpx.Client, collins: Owner
) -> None:
    hopper = live.enrol(hopper_picture(), display_name="Grace Hopper", born_on="1906-12-09")
    refused = error_of(app.post("/v1/videos", json=wanted(collins, hopper)), 403)
    assert refused["type"] == "consent_denied"
    hopper.grant("film club", max_uses=5)
    before = sum(collins.used().values())
    files = [
        ("prompt", (None, PROMPT)),
        ("seconds", (None, "1")),
        ("size", (None, "640x360")),
        ("characters[][id]", (None, collins.cameo_id)),
        ("characters[][id]", (None, hopper.cameo_id)),
    ]
    video = app.post("/v1/videos", files=files).json()
    video = ended(app, video["id"])
    assert video["status"] == "completed", video["error"]
    assert sum(collins.used().values()) == before + 1
    assert list(hopper.used().values()) == [1]
    with live.client() as web:
        assert web.get(f"/v1/clips/{video['id']}").json()["people_shown"] == 2
    # Each person is told of their own grant, and of nobody else's.
    mine = hopper.web.get(f"/v1/cameos/{hopper.cameo_id}/uses").text
    assert not [grant for grant in collins.used() if grant in mine]
    hopper.web.close()


def test_a_clip_that_shows_nobody_needs_nobodys_grant(app: httpx.Client, live: Site) -> None:
    video = app.post("/v1/videos", json=wanted(prompt="mist over a quiet lake at dawn")).json()
    assert ended(app, video["id"])["status"] == "completed"
    assert app.get(f"/v1/videos/{video['id']}/content").status_code == 200
    with live.client() as web:
        assert web.get(f"/v1/clips/{video['id']}").json()["consent_now"] == "nobody_shown"


# Jobs that end without a clip -------------------------------------------------------------------------------


def test_a_job_that_fails_says_why_gives_the_use_back_and_offers_no_bytes(
    live: Site, app: httpx.Client, collins: Owner
) -> None:
    before = collins.used()
    asked = app.post("/v1/videos", json=wanted(collins, prompt=f"{PROMPT}, {BROKEN}")).json()
    video = ended(app, asked["id"])
    assert video.keys() == KEYS
    assert (video["status"], video["error"]["code"]) == ("failed", "backend.camera")
    assert video["error"].keys() == {"code", "message"}
    assert collins.used() == before
    error_of(app.get(f"/v1/videos/{video['id']}/content"), 404)
    told = [body for body in live.audit(collins.cameo_id) if body.get("video_id") == video["id"]]
    assert [body["kind"] for body in told] == ["decision", "returned"]
    with live.client() as web:
        assert web.get(f"/v1/clips/{video['id']}").status_code == 404


def test_a_video_deleted_while_it_is_made_is_never_released(
    live: Site, app: httpx.Client, collins: Owner
) -> None:
    before = collins.used()
    video_id = app.post("/v1/videos", json=wanted(collins, prompt=f"{PROMPT}, {UNHURRIED}")).json()["id"]
    while app.get(f"/v1/videos/{video_id}").json()["status"] == "queued":
        time.sleep(0.05)
    error_of(app.get(f"/v1/videos/{video_id}/content"), 404)
    assert app.delete(f"/v1/videos/{video_id}").json() == {
        "id": video_id,
        "object": "video.deleted",
        "deleted": True,
    }
    assert collins.used() == before
    # The next job in the one lane ends after the deleted one did.
    assert ended(app, app.post("/v1/videos", json=wanted(collins)).json()["id"])["status"] == "completed"
    kinds = [body["kind"] for body in live.audit(collins.cameo_id) if body.get("video_id") == video_id]
    assert kinds == ["decision", "returned"]
    with live.client() as web:
        assert web.get(f"/v1/clips/{video_id}").status_code == 404


# Refusals ---------------------------------------------------------------------------------------------------

SEXUAL = "the same woman naked in an erotic pose"
CHILD = "the same woman as a seven year old girl on her first day at school"


@pytest.mark.parametrize(
    ("status", "changes"),
    [
        (400, {"prompt": SEXUAL}),
        (400, {"prompt": CHILD}),
        (403, {"purpose": "dpv:Advertising"}),
        (403, {"audience": "everyone"}),
        (403, {"characters": [{"id": unknown("cameo")}]}),
    ],
    ids=["sexual", "a child", "purpose", "audience", "a likeness nobody enrolled"],
)
def test_a_denial_is_400_or_403_recorded_and_free(
    app: httpx.Client, live: Site, collins: Owner, status: int, changes: dict[str, Any]
) -> None:
    used, size = collins.used(), live.checkpoint().size
    error = error_of(app.post("/v1/videos", json=wanted(collins, **changes)), status)
    assert error["type"] in {"consent_denied", "content_policy_violation"}
    assert error["reasons"]
    assert all(reason.keys() == {"id", "reason", "remedy"} for reason in error["reasons"])
    assert collins.used() == used
    assert live.checkpoint().size == size + 2, "the refusal, and the epoch that gives it its tag"


def test_a_picture_of_somebody_unnamed_is_refused(app: httpx.Client, collins: Owner) -> None:
    files = {"input_reference": ("start.jpg", hopper_picture(), "image/jpeg")}
    error = error_of(app.post("/v1/videos", data=_form(collins), files=files), 403)
    assert "prohibited.unknown_face" in [reason["id"] for reason in error["reasons"]]


def test_a_picture_of_the_person_who_agreed_is_accepted_as_a_file_and_inline(
    app: httpx.Client, collins: Owner
) -> None:
    files = {"input_reference": ("start.png", collins_picture(), "image/png")}
    with made(app, app.post("/v1/videos", data=_form(collins), files=files)):
        pass
    inline = _data_url(collins_picture())
    with made(app, app.post("/v1/videos", json=wanted(collins, input_reference={"image_url": inline}))):
        pass
    with made(app, app.post("/v1/videos", data=_form(collins) | {"input_reference[image_url]": inline})):
        pass


def test_an_app_without_a_grant_is_refused_and_told_nothing_of_others(live: Site, collins: Owner) -> None:
    with live.client("other app") as other:
        answer = other.post("/v1/videos", json=wanted(collins))
    error_of(answer, 403)
    assert not [grant for grant in collins.used() if grant in answer.text]
    assert live.holder("film club") not in answer.text


def test_uses_run_out(live: Site, collins: Owner) -> None:
    grant_id = collins.grant("third app", max_uses=1)
    with live.client("third app") as third:
        answer = third.post("/v1/videos", json=wanted(collins))
        with made(third, answer):
            assert collins.used()[grant_id] == 1
            error = error_of(third.post("/v1/videos", json=wanted(collins)), 403)
            assert "use" in error["message"]
            assert collins.used()[grant_id] == 1
        # Cancelled: the use came back, and can be spent again.
        assert collins.used()[grant_id] == 0
        with made(third, third.post("/v1/videos", json=wanted(collins))):
            assert collins.used()[grant_id] == 1


# Input that is not right ------------------------------------------------------------------------------------


def _form(person: Owner) -> dict[str, str]:
    return {"prompt": PROMPT, "seconds": "1", "size": "640x360", "characters[][id]": person.cameo_id}


def _data_url(picture: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(picture).decode()}"


LONG = "x" * 10_000
BAD_FIELDS: list[tuple[str, dict[str, Any]]] = [
    ("lora", {"lora": "collins-v3.safetensors"}),
    ("extra_params", {"extra_params": {"lora_path": "/models/collins"}}),
    ("reference_url", {"reference_url": "http://127.0.0.1/latest/meta-data"}),
    ("negative_prompt", {"negative_prompt": "blur"}),
    ("characters.0.image", {"characters": [{"id": unknown("cameo"), "image": "x"}]}),
    ("prompt", {"prompt": None}),
    ("prompt", {"prompt": 7}),
    ("prompt", {"prompt": [PROMPT]}),
    ("model", {"model": "another-model"}),
    ("model", {"model": LONG}),
    ("model", {"model": None}),
    ("size", {"size": "100x100"}),
    ("size", {"size": "99999x99999"}),
    ("size", {"size": LONG}),
    ("seconds", {"seconds": 4}),
    ("seconds", {"seconds": "0"}),
    ("seconds", {"seconds": "13"}),
    ("seconds", {"seconds": "-1"}),
    ("seconds", {"seconds": "1.5"}),
    ("seconds", {"seconds": "1\n"}),
    ("seconds", {"seconds": "²"}),
    ("seconds", {"seconds": LONG}),
    ("characters", {"characters": "all of them"}),
    ("characters", {"characters": [{"id": "cameo_nobody"}]}),
    ("characters.0.id", {"characters": [{"id": LONG}]}),
    ("characters.0.id", {"characters": [{}]}),
    ("characters", {"characters": [{"id": unknown("cameo")} for _ in range(5)]}),
    ("characters", {"characters": [], "character_ids": [LONG]}),
    ("characters", {"characters": [], "character_ids": [""]}),
    ("character_ids", {"character_ids": [unknown("cameo") for _ in range(5)]}),
    ("characters", {"characters": [], "character_ids": [unknown("person")]}),
    ("purpose", {"purpose": "whatever"}),
    ("audience", {"audience": "the world"}),
    ("profiles.1", {"profiles": ["eu", "mars"]}),
    ("profiles", {"profiles": "eu"}),
    ("visible_label", {"visible_label": "perhaps"}),
    ("label_language", {"label_language": "tlh"}),
    ("input_reference", {"input_reference": "data:image/png;base64,AAAA"}),
    ("input_reference", {"input_reference": {"image_url": "file:///etc/passwd"}}),
    ("input_reference", {"input_reference": {"image_url": "data:text/html;base64,AAAA"}}),
    ("input_reference", {"input_reference": {"image_url": "data:image/png;base64,not base64!"}}),
    ("input_reference", {"input_reference": {"image_url": "data:image/png;base64,"}}),
    ("input_reference.file_id", {"input_reference": {"image_url": "data:image/png;base64,", "file_id": "f"}}),
]


@pytest.mark.parametrize(("param", "changes"), BAD_FIELDS, ids=[repr(c)[:40] for _, c in BAD_FIELDS])
def test_a_wrong_field_is_refused_by_name(
    app: httpx.Client, collins: Owner, param: str, changes: dict[str, Any]
) -> None:
    with collins.nothing_happens():
        error = error_of(app.post("/v1/videos", json=wanted(collins, **changes)), 400)
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert len(error["message"]) < 400


@pytest.mark.parametrize(
    ("prompt", "status"),
    [("", 400), (" \n\t", 400), ("a" * 4001, 400), ("word " * 20_000, 400), ("a\x00b", 400)],
    ids=["empty", "blank", "4001 characters", "100 kB", "NUL"],
)
def test_a_prompt_nothing_can_read_is_refused(
    app: httpx.Client, collins: Owner, prompt: str, status: int
) -> None:
    with collins.nothing_happens():
        error = error_of(app.post("/v1/videos", json=wanted(collins, prompt=prompt)), status)
    assert error["param"] == "prompt"


def test_half_a_surrogate_is_no_prompt(app: httpx.Client, collins: Owner) -> None:
    body = json.dumps(wanted(collins, prompt="a portrait \ud800"))
    with collins.nothing_happens():
        error_of(app.post("/v1/videos", content=body, headers={"content-type": "application/json"}), 400)


BODIES: list[tuple[bytes, str, int]] = [
    (b"", "application/json", 400),
    (b"{", "application/json", 400),
    (b"[]", "application/json", 400),
    (b'"prompt"', "application/json", 400),
    (b"null", "application/json", 400),
    (b'{"prompt": "\xff\xfe"}', "application/json", 400),
    (b"[" * 200_000, "application/json", 400),
    (b'{"prompt": ' + b"9" * 5000 + b"}", "application/json", 400),
    (b'{"prompt": NaN}', "application/json", 400),
    (b"{}", "text/plain", 415),
    (b"{}", "", 415),
    (b"<video/>", "application/xml", 415),
    (b"prompt=%ff%fe&characters[][id]=x", "application/x-www-form-urlencoded", 400),
    (b"prompt=a&prompt=b", "application/x-www-form-urlencoded", 400),
    (b"a[b][c]=1", "application/x-www-form-urlencoded", 400),
    (b"characters[][id]=x&characters=y", "application/x-www-form-urlencoded", 400),
    (b"--x\r\n\r\n", "multipart/form-data", 400),
    (b"no boundary in here", "multipart/form-data; boundary=x", 400),
    (b"--x\r\ncontent-disposition: form-data\r\n\r\nhalf", "multipart/form-data; boundary=x", 400),
    (
        b'--x\r\ncontent-disposition: form-data; name="prompt"\r\n\r\nhalf',
        "multipart/form-data; boundary=x",
        400,
    ),
]


@pytest.mark.parametrize(
    ("content", "kind", "status"), BODIES, ids=[f"{body[:30]!r} {kind}" for body, kind, _ in BODIES]
)
def test_a_body_that_cannot_be_read_is_refused(
    app: httpx.Client, collins: Owner, content: bytes, kind: str, status: int
) -> None:
    headers = {"content-type": kind} if kind else {}
    with collins.nothing_happens():
        error_of(app.post("/v1/videos", content=content, headers=headers), status)


def test_a_form_of_ten_thousand_parts_is_refused(app: httpx.Client, collins: Owner) -> None:
    files = [(f"field{n}", (None, "x")) for n in range(10_000)]
    with collins.nothing_happens():
        error_of(app.post("/v1/videos", files=files), 400)


@pytest.mark.parametrize("spelling", ["json", "multipart", "chunked"])
def test_a_body_over_the_limit_is_413(app: httpx.Client, collins: Owner, spelling: str) -> None:
    heavy = b"x" * ((UPLOAD_MB << 20) + 1)
    bodies: dict[str, dict[str, Any]] = {
        "json": {"json": wanted(collins, input_reference={"image_url": _data_url(heavy)})},
        "multipart": {
            "data": _form(collins),
            "files": {"input_reference": ("start.png", heavy, "image/png")},
        },
        "chunked": {"content": iter([heavy, heavy]), "headers": {"content-type": "application/json"}},
    }
    with collins.nothing_happens():
        error_of(app.post("/v1/videos", **bodies[spelling]), 413)


def test_a_picture_that_cannot_be_read_is_refused(app: httpx.Client, collins: Owner) -> None:
    whole = collins_picture()
    bomb = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x01\x00\x00\x00\x01\x00\x00\x08\x02\x00\x00\x00"
    bad = {
        "no bytes": b"",
        "half a PNG": whole[: len(whole) // 2],
        "a script": b"#!/bin/sh\n" * 100,
        "an SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://127.0.0.1/"/></svg>',
        "65536 x 65536": bomb,
    }
    for name, picture in bad.items():
        with collins.nothing_happens():
            files = {"input_reference": (name, picture, "image/png")}
            error_of(app.post("/v1/videos", data=_form(collins), files=files), 400)
            inline = {"image_url": _data_url(picture)}
            error_of(app.post("/v1/videos", json=wanted(collins, input_reference=inline)), 400)
    with collins.nothing_happens():
        twice = [("input_reference", ("a.png", whole)), ("input_reference", ("b.png", whole))]
        error_of(app.post("/v1/videos", data=_form(collins), files=twice), 400)
        error_of(app.post("/v1/videos", data=_form(collins), files={"lora": ("x.bin", b"1")}), 400)


def test_no_address_in_a_request_is_ever_fetched(app: httpx.Client, collins: Owner) -> None:
    with trap() as (address, asked):
        for field in ("input_reference", "reference_url", "video", "image_url"):
            for value in (address, {"image_url": address}, {"url": address}):
                with collins.nothing_happens():
                    error_of(app.post("/v1/videos", json=wanted(collins, **{field: value})), 400)
        with collins.nothing_happens():
            form = {**_form(collins), "input_reference[image_url]": address}
            error_of(app.post("/v1/videos", data=form), 400)
        # In the prompt an address is words.
        with made(app, app.post("/v1/videos", json=wanted(collins, prompt=f"{PROMPT}, {address}"))):
            pass
        assert asked == []


@contextmanager
def trap() -> Iterator[tuple[str, list[str]]]:
    """A server on loopback that notes whoever calls: its address, and what was asked for."""
    asked: list[str] = []

    class Noting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Noting) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/start.png", asked
        finally:
            server.shutdown()
            thread.join()


# Who may see what -------------------------------------------------------------------------------------------


def test_only_an_apps_key_opens_the_api(live: Site, collins: Owner, clip: Clip) -> None:
    keys = {
        "none": {},
        "another scheme": {"authorization": f"Basic {live.key('film club')}"},
        "a wrong one": {"authorization": "Bearer cs_app_guess"},
        "an auditor's": {"authorization": f"Bearer {live.key('press council')}"},
        "an operator's": {"authorization": f"Bearer {live.key('dana')}"},
    }
    with live.client() as web, collins.nothing_happens():
        for headers in keys.values():
            for method, path in (
                ("POST", "/v1/videos"),
                ("GET", "/v1/videos"),
                ("GET", f"/v1/videos/{clip.video_id}"),
                ("DELETE", f"/v1/videos/{clip.video_id}"),
                ("GET", f"/v1/videos/{clip.video_id}/content"),
            ):
                body = wanted(collins) if method == "POST" else None
                error = error_of(web.request(method, path, json=body, headers=headers), 401)
                assert error["type"] == "authentication_error"


def test_another_apps_video_does_not_exist(live: Site, clip: Clip, app: httpx.Client) -> None:
    with live.client("other app") as other:
        answers = [
            other.get(f"/v1/videos/{clip.video_id}"),
            other.get(f"/v1/videos/{clip.video_id}/content"),
            other.delete(f"/v1/videos/{clip.video_id}"),
        ]
        nothing = other.get(f"/v1/videos/{unknown('video')}")
        after = other.get("/v1/videos", params={"after": clip.video_id})
        assert other.get("/v1/videos").json() == {
            "object": "list",
            "data": [],
            "first_id": None,
            "last_id": None,
            "has_more": False,
        }
    for answer in (*answers, nothing, after):
        assert error_of(answer, 404)["type"] == "not_found_error"
    assert {error_of(answer, 404)["code"] for answer in answers} == {error_of(nothing, 404)["code"]}
    assert app.get(f"/v1/videos/{clip.video_id}").status_code == 200


@pytest.mark.parametrize(
    "video_id", ["video_x", LONG, "..%2f..%2fetc", "video_%00", "%F0%9F%8E%AC", "' OR 1=1 --"]
)
def test_an_id_that_is_none_is_404(app: httpx.Client, video_id: str) -> None:
    for answer in (
        app.get(f"/v1/videos/{video_id}"),
        app.get(f"/v1/videos/{video_id}/content"),
        app.delete(f"/v1/videos/{video_id}"),
    ):
        error_of(answer, 404)


def test_what_is_not_offered_says_so_in_the_protocols_own_words(app: httpx.Client, clip: Clip) -> None:
    error_of(app.post("/v1/videos/edits", json={"prompt": PROMPT}), 405)
    error_of(app.put(f"/v1/videos/{clip.video_id}", json={}), 405)
    error = error_of(app.get(f"/v1/videos/{clip.video_id}/content", params={"variant": "thumbnail"}), 400)
    assert error["param"] == "variant"


# Lists ------------------------------------------------------------------------------------------------------


def test_a_list_is_paged_without_losing_or_repeating_any(live: Site) -> None:
    with live.client("third app") as third:
        made_ids = [
            third.post("/v1/videos", json=wanted(prompt=f"a lake, take {n}")).json()["id"] for n in range(5)
        ]
        try:
            newest = _walk(third, limit=2)
            assert sorted(newest) == sorted(made_ids)
            assert _walk(third, limit=1, order="asc") == newest[::-1]
            assert _walk(third, limit=100) == newest
            times = [video["created_at"] for video in third.get("/v1/videos").json()["data"]]
            assert times == sorted(times, reverse=True)
            page = third.get("/v1/videos", params={"limit": 5}).json()
            assert page["has_more"] is False
            assert (page["first_id"], page["last_id"]) == (newest[0], newest[-1])
            last = third.get("/v1/videos", params={"after": newest[-1]}).json()
            assert (last["data"], last["has_more"], last["last_id"]) == ([], False, None)
            # A page goes on from where it was, also when the video it ended at is deleted meanwhile.
            third.delete(f"/v1/videos/{newest[1]}")
            rest = third.get("/v1/videos", params={"after": newest[1]}).json()["data"]
            assert [video["id"] for video in rest] == newest[2:]
        finally:
            for video_id in made_ids:
                third.delete(f"/v1/videos/{video_id}")
        assert third.get("/v1/videos").json()["data"] == []


def _walk(app: httpx.Client, **params: Any) -> list[str]:
    """Every id, page by page."""
    found: list[str] = []
    more: dict[str, str] = {}
    while True:
        page = app.get("/v1/videos", params={**params, **more}).json()
        ids = [video["id"] for video in page["data"]]
        assert len(ids) <= params["limit"]
        assert all(video.keys() == KEYS for video in page["data"])
        found += ids
        if not page["has_more"]:
            return found
        assert page["last_id"] == ids[-1]
        more = {"after": page["last_id"]}


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"limit": "0"}, 400),
        ({"limit": "101"}, 400),
        ({"limit": "-1"}, 400),
        ({"limit": "many"}, 400),
        ({"limit": "9" * 30}, 400),
        ({"limit": "9" * 5000}, 400),
        ({"order": "sideways"}, 400),
        ({"after": "video_x"}, 404),
        ({"after": LONG}, 404),
        ({"after": unknown("video")}, 404),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_wrong_page_is_refused(app: httpx.Client, params: dict[str, str], status: int) -> None:
    error_of(app.get("/v1/videos", params=params), status)


# Bytes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted_range", "start", "end"),
    [
        ("bytes=0-99", 0, 100),
        ("bytes=0-0", 0, 1),
        ("bytes=100-", 100, None),
        ("bytes=-50", -50, None),
        ("bytes=-99999999999", 0, None),
        ("bytes=10-99999999999", 10, None),
    ],
)
def test_a_range_is_served(
    app: httpx.Client, clip: Clip, wanted_range: str, start: int, end: int | None
) -> None:
    answer = app.get(f"/v1/videos/{clip.video_id}/content", headers={"range": wanted_range})
    size = len(clip.content)
    first, behind = range(size)[slice(start, end)][0], range(size)[slice(start, end)][-1]
    assert answer.status_code == 206
    assert answer.content == clip.content[start:end]
    assert answer.headers["content-range"] == f"bytes {first}-{behind}/{size}"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize("wanted_range", ["bytes={size}-", "bytes=-0", "bytes=9999999999-", "bytes=5-2"])
def test_a_range_beyond_the_end_is_416_and_says_the_size(
    app: httpx.Client, clip: Clip, wanted_range: str
) -> None:
    size = len(clip.content)
    headers = {"range": wanted_range.format(size=size)}
    answer = app.get(f"/v1/videos/{clip.video_id}/content", headers=headers)
    error_of(answer, 416)
    assert answer.headers["content-range"] == f"bytes */{size}"


@pytest.mark.parametrize(
    "wanted_range",
    ["bytes=0-1,5-6", "items=0-5", "bytes=", "bytes=-", "bytes=a-b", "0-5", f"bytes={'9' * 5000}-"],
)
def test_a_range_it_cannot_serve_alone_gives_the_whole(
    app: httpx.Client, clip: Clip, wanted_range: str
) -> None:
    answer = app.get(f"/v1/videos/{clip.video_id}/content", headers={"range": wanted_range})
    assert answer.status_code == 200
    assert answer.content == clip.content
    assert "content-range" not in answer.headers


def test_the_head_of_a_clip_has_its_size_and_no_bytes(app: httpx.Client, clip: Clip) -> None:
    path = f"/v1/videos/{clip.video_id}/content"
    whole = app.get(path)
    for headers in ({}, {"range": "bytes=0-99"}):
        # Ranges are defined for GET alone (RFC 9110 §14.2).
        answer = app.head(path, headers=headers)
        assert answer.status_code == 200
        assert int(answer.headers["content-length"]) == len(clip.content)
        assert answer.content == b""
        assert answer.headers["etag"] == whole.headers["etag"]
        assert answer.headers["content-type"] == whole.headers["content-type"] == "video/mp4"


def test_a_resumed_download_of_other_bytes_starts_over(app: httpx.Client, clip: Clip) -> None:
    path = f"/v1/videos/{clip.video_id}/content"
    etag = app.head(path).headers["etag"]
    same = app.get(path, headers={"range": "bytes=10-", "if-range": etag})
    assert (same.status_code, same.content) == (206, clip.content[10:])
    other = app.get(path, headers={"range": "bytes=10-", "if-range": '"another"'})
    assert (other.status_code, other.content) == (200, clip.content)
