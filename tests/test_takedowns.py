"""People without an account, over HTTP: a notice, the mail that confirms it, the clock, the decision, the appeal.

Everything here knows a mailbox, the API and the clock on the wall; what the ledger says is read with its proofs.
"""

import asyncio
import base64
import itertools
import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from email import message_from_bytes, policy
from functools import partial
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np
import pytest

from command import countersign
from gateway import uploads
from gateway.access import JSON_BYTES
from gateway.notices import deciding, giving
from gateway.problems import Problem
from gateway.service import now, open_service
from ledger.provenance import media
from live import (
    OPERATOR,
    PATIENCE_S,
    STRANGER,
    Clip,
    Launcher,
    Owner,
    Site,
    collins_picture,
    ended,
    hopper_picture,
    nobodys_picture,
    pixels,
    unknown,
    video_of,
    wanted,
)
from safety.faces import enrol_portrait

pytest_plugins = ["live"]
pytestmark = pytest.mark.slow

APP, OTHER_APP, AUDITOR = "film club", "other app", "press council"
COLLEAGUES = ("erin", "finn")
NAME, EMAIL = "Maud Tester", "maud@example.org"
FORM: dict[str, Any] = {
    "kind": "takedown",
    "name": NAME,
    "email": EMAIL,
    "shown": "Maud Tester, the woman on the left",
    "relation": "self",
    "good_faith": True,
    "signature": "maud  tester",
    "country": "DE",
    "intimate": False,
    "reason": "I never agreed to this.",
}
_networks = itertools.count(2)
_mailboxes = itertools.count(1)


@pytest.fixture(scope="module")
def live(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A service with three operators."""
    site = Site(launcher, tmp_path_factory.mktemp("desk") / "home", colleagues=COLLEAGUES)
    site.start()
    yield site
    site.stop()


def stranger(site: Site) -> httpx.Client:
    """Somebody from a network of their own: notices are counted by network."""
    transport = httpx.HTTPTransport(local_address=f"127.0.1.{next(_networks)}", verify=False)
    return httpx.Client(base_url=site.url, transport=transport, timeout=60)


def send(site: Site, files: Any = None, **changes: Any) -> httpx.Response:
    """A notice from a network and a mailbox that are new, unless `changes` say otherwise."""
    form = {**FORM, "email": f"maud{next(_mailboxes)}@example.org", **changes}
    with stranger(site) as web:
        if files is None:
            return web.post("/v1/takedowns", json=form)
        text = {key: str(value).lower() if isinstance(value, bool) else value for key, value in form.items()}
        return web.post("/v1/takedowns", data=text, files=files)


def letters(site: Site, notice_id: str, count: int = 1) -> list[Any]:
    """The mails about a notice, oldest first, once there are `count`."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        files = sorted((site.home / "mail").glob("*.eml"), key=lambda path: path.stat().st_mtime_ns)
        found = [message_from_bytes(path.read_bytes(), policy=policy.default) for path in files]
        mine = [mail for mail in found if notice_id in mail.get_content()]
        if len(mine) >= count:
            return mine
        time.sleep(0.1)
    raise AssertionError(f"no letter about {notice_id}:\n{site.said()[-2000:]}")


def token_of(site: Site, notice_id: str) -> str:
    found = re.search(r"^Token: (\S+)$", letters(site, notice_id)[0].get_content(), re.MULTILINE)
    assert found is not None
    return found.group(1)


def given(site: Site, files: Any = None, **changes: Any) -> tuple[str, str]:
    """A notice that waits for its token: id, token."""
    answer = send(site, files, **changes)
    assert answer.status_code == 201, answer.text
    notice_id = answer.json()["notice_id"]
    return notice_id, token_of(site, notice_id)


def confirmed(site: Site, files: Any = None, **changes: Any) -> tuple[str, str]:
    notice_id, token = given(site, files, **changes)
    with site.client() as web:
        answer = web.post(f"/v1/takedowns/{notice_id}/confirm", json={"token": token})
    assert answer.status_code == 200, answer.text
    return notice_id, token


def status(site: Site, notice_id: str, token: str) -> dict[str, Any]:
    with site.client() as web:
        answer = web.get(f"/v1/takedowns/{notice_id}", params={"token": token})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def decided(site: Site, notice_id: str, action: str, by: str = OPERATOR, note: str = "We looked.") -> Any:
    with site.client(by) as web:
        answer = web.post(f"/v1/takedowns/{notice_id}/decision", json={"action": action, "note": note})
    assert answer.status_code == 200, answer.text
    return answer.json()


def queue(site: Site, by: str = OPERATOR) -> dict[str, Any]:
    with site.client(by) as web:
        found: dict[str, Any] = web.get("/v1/takedowns/queue").json()
    return found


def queued(site: Site, notice_id: str) -> dict[str, Any]:
    (found,) = [one for one in queue(site)["notices"] if one["notice_id"] == notice_id]
    return dict(found)


def refused(answer: httpx.Response, status_code: int, reason: str) -> None:
    assert answer.status_code == status_code, answer.text
    assert answer.json()["reasons"][0]["id"] == reason
    assert NAME not in answer.text
    assert EMAIL not in answer.text


def download(site: Site, video_id: str) -> httpx.Response:
    with site.client(APP) as web:
        return web.get(f"/v1/videos/{video_id}/content")


def is_down(site: Site, clip: Clip) -> bool:
    """As the download, the status page and the verdict on the file say, which must agree."""
    answer = download(site, clip.video_id)
    with site.client() as web:
        told = web.get(f"/v1/clips/{clip.video_id}").json()
        verdict = web.post("/v1/verify", content=clip.content).json()
    down: bool = told["taken_down"]
    assert answer.status_code == (403 if down else 200), answer.text[:200]
    if down:
        assert [one["id"] for one in answer.json()["error"]["reasons"]] == ["download.taken_down"]
    assert verdict["taken_down_at"] == told["taken_down_at"]
    assert (told["taken_down_at"] is not None) == down
    assert (verdict["state"] == "taken_down") == down
    assert verdict["consent_now"] == "standing"
    return down


def takedowns_on(site: Site, owner: Owner) -> list[dict[str, Any]]:
    """What the auditor's proven list about a person says of takedowns."""
    return [body for body in site.audit(owner.cameo_id) if body["kind"] == "takedown"]


# ── a clip ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_notice_is_confirmed_decided_appealed_and_reversed(live: Site, collins: Owner, clip: Clip) -> None:
    answer = send(live, video=clip.video_id)
    assert answer.status_code == 201, answer.text
    notice_id = answer.json()["notice_id"]
    assert answer.json() == {
        "notice_id": notice_id,
        "status": "unconfirmed",
        "mailed": True,
        "confirm_within_hours": 72,
    }
    (letter,) = letters(live, notice_id)
    assert letter["To"].endswith("@example.org")
    assert letter["Auto-Submitted"] == "auto-generated"
    token = token_of(live, notice_id)
    assert f"{live.url}/takedowns/{notice_id}?token={token}" in letter.get_content()

    # Nothing happens at the word of an address nobody has shown to be theirs.
    assert status(live, notice_id, token)["due_at"] is None
    assert notice_id not in str(queue(live))
    assert takedowns_on(live, collins) == []

    with live.client() as web:
        started = web.post(f"/v1/takedowns/{notice_id}/confirm", json={"token": token}).json()
    assert (started["status"], started["held_back"], started["overdue"]) == ("open", False, False)
    assert 48 * 3600 - 60 < started["seconds_left"] <= 48 * 3600
    assert "our own rule" in started["law"]
    assert not is_down(live, clip)

    entry = queued(live, notice_id)
    assert entry["form"]["name"] == NAME
    assert (entry["waits_for"], entry["app_id"]) == ("decision", live.holder(APP))
    told = decided(live, notice_id, "removed", note="It shows her without her consent.")
    assert (told["status"], told["outcome"], told["clips"]) == ("decided", "removed", [clip.video_id])
    assert is_down(live, clip)
    with live.client() as web:
        one = web.post("/v1/verify", content=clip.content).json()
    assert one["video_id"] == clip.video_id
    assert "It shows her without her consent." in letters(live, notice_id, 2)[1].get_content()

    # The app reads why, and never who.
    with live.client(APP) as app, live.client(OTHER_APP) as other:
        mine = app.get("/v1/takedowns")
        (notice,) = mine.json()["notices"]
        assert (notice["notice_id"], notice["may_appeal"]) == (notice_id, True)
        assert notice["decisions"][0]["note"] == "It shows her without her consent."
        assert "maud" not in mine.text.lower()
        assert other.get("/v1/takedowns").json() == {"notices": []}
        refused(
            other.post(f"/v1/takedowns/{notice_id}/appeal", json={"text": "No."}), 404, "takedown.unknown"
        )
        appealed = app.post(f"/v1/takedowns/{notice_id}/appeal", json={"text": "We asked her, in writing."})
        assert appealed.status_code == 200, appealed.text
        assert "maud" not in appealed.text.lower()
        again = app.post(f"/v1/takedowns/{notice_id}/appeal", json={"text": "Once more."})
        refused(again, 409, "takedown.appealed")
    assert is_down(live, clip), "an appeal changes nothing until it is decided"
    assert queued(live, notice_id)["appeal"] == {"by": "app", "text": "We asked her, in writing."}

    # Whoever decided before does not decide again.
    with live.client(OPERATOR) as web:
        same = web.post(f"/v1/takedowns/{notice_id}/decision", json={"action": "restored", "note": "Yes."})
    refused(same, 403, "takedown.same_operator")
    assert is_down(live, clip)
    decided(live, notice_id, "restored", by="erin")
    assert not is_down(live, clip)

    # The other side appeals once, too; then a third operator decides, and that is the end.
    with live.client() as web:
        spoken = {"token": token, "text": "I signed nothing."}
        assert web.post(f"/v1/takedowns/{notice_id}/appeal", json=spoken).status_code == 200
        refused(web.post(f"/v1/takedowns/{notice_id}/appeal", json=spoken), 409, "takedown.appealed")
    decided(live, notice_id, "restored", by="finn")
    with live.client("finn") as web:
        late = web.post(f"/v1/takedowns/{notice_id}/decision", json={"action": "removed", "note": "Again."})
    refused(late, 409, "takedown.decided")
    assert not is_down(live, clip)

    # Everything that was done is on her list, which is proven to be complete; who asked for it is not.
    done = [body for body in takedowns_on(live, collins) if body["notice"] == notice_id]
    assert [body["action"] for body in done] == [
        "received",
        "removed",
        "appealed_by_app",
        "restored",
        "appealed_by_notifier",
        "restored",
    ]
    assert {body["video_id"] for body in done} == {clip.video_id}
    assert all(len(body["reasons"]) == 1 and body["reasons"][0]["reason"] for body in done)
    assert "maud" not in json.dumps(done).lower()


def test_an_intimate_clip_is_held_back_at_once_and_found_by_its_mark(
    live: Site, collins: Owner, clip: Clip, tmp_path: Path
) -> None:
    whole, stripped = tmp_path / "clip.mp4", tmp_path / "stripped.mp4"
    whole.write_bytes(clip.content)
    media.remux(whole, stripped)  # no manifest is left: the mark names it
    files = {"clip": ("evil.mp4", stripped.read_bytes(), "video/mp4")}
    notice_id, token = given(live, files, country="IN", intimate=True)
    assert not is_down(live, clip)
    with live.client() as web:
        started = web.post(f"/v1/takedowns/{notice_id}/confirm", json={"token": token}).json()
    assert (started["video_id"], started["held_back"]) == (clip.video_id, True)
    assert 2 * 3600 - 60 < started["seconds_left"] <= 2 * 3600
    assert "G.S.R. 120(E)" in started["law"]
    assert is_down(live, clip)
    assert queue(live)["notices"][0]["notice_id"] == notice_id, "what is due first stands first"

    # A second notice about it keeps it down when the first is turned away.
    other, _ = confirmed(live, video=clip.video_id, intimate=True)
    decided(live, notice_id, "kept")
    assert is_down(live, clip)
    decided(live, other, "kept")
    assert not is_down(live, clip)
    assert status(live, notice_id, token)["may_appeal"]
    actions = [body["action"] for body in takedowns_on(live, collins) if body["notice"] == notice_id]
    assert actions == ["held", "kept"]
    assert not list((live.home / "uploads").iterdir()), "the clip that was sent is not kept"


def test_a_notice_can_be_taken_back_until_it_is_decided(live: Site, collins: Owner, clip: Clip) -> None:
    notice_id, token = confirmed(live, video=clip.video_id, intimate=True)
    assert is_down(live, clip)
    with live.client() as web:
        gone = web.post(f"/v1/takedowns/{notice_id}/withdraw", json={"token": token})
        assert (gone.json()["status"], gone.json()["erased"]) == ("withdrawn", True)
        again = web.post(f"/v1/takedowns/{notice_id}/withdraw", json={"token": token})
    refused(again, 409, "takedown.too_late")
    assert not is_down(live, clip)
    assert status(live, notice_id, token)["status"] == "withdrawn"
    assert notice_id not in str(queue(live))
    other, token = confirmed(live, video=clip.video_id)
    decided(live, other, "kept")
    with live.client() as web:
        refused(web.post(f"/v1/takedowns/{other}/withdraw", json={"token": token}), 409, "takedown.too_late")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kind": "erase everything"}, "takedown.kind"),
        ({"name": ""}, "takedown.name"),
        ({"name": "Maud\nTester"}, "takedown.name"),
        ({"email": "maud"}, "takedown.email"),
        ({"email": "maud@example.org\r\nBcc: all@example.org"}, "takedown.email"),
        ({"email": "maud@example.org, all@example.org"}, "takedown.email"),
        ({"shown": None}, "takedown.shown"),
        ({"relation": "fan"}, "takedown.relation"),
        ({"good_faith": False}, "takedown.good_faith"),
        ({"good_faith": "true"}, "takedown.good_faith"),
        ({"signature": "Somebody Else"}, "takedown.signature"),
        ({"country": "Germany"}, "takedown.country"),
        ({"intimate": "very"}, "takedown.intimate"),
        ({"reason": "x" * 4001}, "takedown.reason"),
        ({"wish": "a pony"}, "request.field"),
        ({"video": unknown("video")}, "takedown.video"),
        ({"video": "../../etc/passwd"}, "takedown.video"),
        ({"video": {"id": 1}}, "takedown.video"),
        ({"video": None}, "takedown.video"),
        ({"kind": "do_not_generate"}, "takedown.pictures"),
    ],
)
def test_a_notice_that_lacks_something_is_refused_by_name(
    live: Site, clip: Clip, changes: Mapping[str, Any], reason: str
) -> None:
    asked = {"video": clip.video_id, **changes}
    status_code = 404 if reason == "takedown.video" else 400
    refused(send(live, **asked), status_code, reason)


def test_a_file_that_is_no_clip_of_ours_is_refused(live: Site, tmp_path: Path) -> None:
    foreign = video_of_nobody(tmp_path)
    refused(send(live, {"clip": ("a.mp4", foreign, "video/mp4")}), 404, "takedown.not_ours")
    refused(send(live, {"clip": ("a.mp4", b"no video", "video/mp4")}), 400, "media.not_video")
    refused(send(live, {"manifesto": ("a.txt", b"text", "text/plain")}), 400, "request.file")


def video_of_nobody(tmp_path: Path) -> bytes:
    return video_of(pixels(nobodys_picture())[:360, :480], tmp_path / "foreign.mp4")


def test_a_token_opens_its_own_notice_once(live: Site, clip: Clip) -> None:
    mine, token = given(live, video=clip.video_id)
    other, others = given(live, video=clip.video_id)
    with live.client() as web:
        answers = [
            web.post(f"/v1/takedowns/{notice_id}/confirm", json={"token": wrong})
            for notice_id, wrong in [
                (mine, others),
                (mine, token[:-1]),
                (mine, token + "x"),
                (mine, ""),
                (unknown("notice"), token),
                ("nothing", token),
            ]
        ]
        answers += [
            web.get(f"/v1/takedowns/{mine}", params={"token": others}),
            web.get(f"/v1/takedowns/{mine}"),
            web.post(f"/v1/takedowns/{mine}/withdraw", json={"token": others}),
            web.post(f"/v1/takedowns/{mine}/appeal", json={"token": others, "text": "No."}),
        ]
        for answer in answers:
            refused(answer, 404, "takedown.unknown")
        # A wrong token, an unknown notice and another's are one answer.
        assert len({answer.content for answer in answers}) == 1
        assert web.post(f"/v1/takedowns/{mine}/confirm", json={"token": token}).status_code == 200
        used = web.post(f"/v1/takedowns/{mine}/confirm", json={"token": token})
        refused(used, 409, "takedown.confirmed")
        early = web.post(f"/v1/takedowns/{mine}/appeal", json={"token": token, "text": "Now."})
        refused(early, 409, "takedown.not_decided")
    decided(live, mine, "removed")
    with live.client() as web:
        won = web.post(f"/v1/takedowns/{mine}/appeal", json={"token": token, "text": "More."})
        refused(won, 400, "takedown.nothing_to_appeal")
    with live.client(APP) as web:
        assert web.post(f"/v1/takedowns/{mine}/appeal", json={"text": "Why?"}).status_code == 200
    decided(live, mine, "restored", by="erin")
    assert status(live, other, others)["status"] == "unconfirmed"


def test_only_an_operator_decides(live: Site, clip: Clip) -> None:
    notice_id, token = confirmed(live, video=clip.video_id)
    said = {"action": "removed", "note": "Because."}
    for who in ("", APP, AUDITOR):
        with live.client(who) as web:
            refused(web.post(f"/v1/takedowns/{notice_id}/decision", json=said), 401, "access.key")
            refused(web.get("/v1/takedowns/queue"), 401, "access.key")
    with live.client() as web:
        forged = {"authorization": f"Bearer {token}"}
        answer = web.post(f"/v1/takedowns/{notice_id}/decision", json=said, headers=forged)
        refused(answer, 401, "access.key")
    with live.client(OPERATOR) as web:
        for wrong, reason, code in [
            ({"action": "restored", "note": "Never taken down."}, "takedown.action", 400),
            ({"action": "registered", "note": "No face."}, "takedown.action", 400),
            ({"action": "removed", "note": "As Maud Tester asks."}, "takedown.note_names", 400),
        ]:
            refused(web.post(f"/v1/takedowns/{notice_id}/decision", json=wrong), code, reason)
        for wrong in ({"action": "burned", "note": "x"}, {"action": "removed"}, {**said, "operator": "erin"}):
            assert web.post(f"/v1/takedowns/{notice_id}/decision", json=wrong).status_code == 400
        missing = web.post(f"/v1/takedowns/{unknown('notice')}/decision", json=said)
        refused(missing, 404, "takedown.unknown")
        unheard, _ = given(live, video=clip.video_id)
        early = web.post(f"/v1/takedowns/{unheard}/decision", json=said)
        refused(early, 404, "takedown.unknown")
    assert status(live, notice_id, token)["status"] == "open"
    assert not is_down(live, clip)
    decided(live, notice_id, "kept")


def test_notices_are_counted_by_network_and_by_mailbox(live: Site, clip: Clip) -> None:
    mailbox = f"maud{next(_mailboxes)}@example.org"
    outcomes = [send(live, video=clip.video_id, email=mailbox).status_code for _ in range(6)]
    assert outcomes == [201] * 5 + [429]
    assert send(live, video=clip.video_id, email=mailbox.upper()).status_code == 429
    with stranger(live) as web:
        # Counted before it is read, so that guessing costs as much as asking.
        codes = [web.post("/v1/takedowns", json={}).status_code for _ in range(20)]
        assert set(codes) == {400}
        last = web.post("/v1/takedowns", json={**FORM, "video": clip.video_id})
        refused(last, 429, "access.throttled")
        assert int(last.headers["retry-after"]) > 0
    assert send(live, video=clip.video_id).status_code == 201


# ── a face ────────────────────────────────────────────────────────────────────────────────────────────────


def face(picture: bytes) -> Any:
    return [("pictures", ("me.jpg", picture, "image/jpeg"))]


def asked(site: Site, owner: Owner, picture: bytes | None = None, **changes: Any) -> httpx.Response:
    body = wanted(owner, **changes)
    if picture is not None:
        url = f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"
        body["input_reference"] = {"image_url": url}
    with site.client(APP) as web:
        return web.post("/v1/videos", json=body)


def refusals(answer: httpx.Response) -> set[str]:
    """Why a request was refused; empty for one that was accepted, whose job is then ended."""
    if answer.status_code == 200:
        return set()
    return {reason["id"] for reason in answer.json()["error"]["reasons"]}


LISTED = "prohibited.do_not_generate"


@contextmanager
def everything_said(site: Site) -> Iterator[list[str]]:
    """All answers of the service while this lasts, the mails, and its log from its start."""
    heard: list[str] = []
    original = httpx.Client.send

    def listening(self: httpx.Client, *args: Any, **options: Any) -> httpx.Response:
        answer = original(self, *args, **options)
        heard.append(f"{answer.headers}{answer.read().decode('latin-1')}")
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx.Client, "send", listening)
        yield heard
    heard.append(site.said())
    heard += [path.read_text() for path in (site.home / "mail").glob("*.eml")]


def test_a_registered_face_is_not_generated_until_it_is_taken_back(live: Site, collins: Owner) -> None:
    hopper = hopper_picture()
    with everything_said(live) as said:
        assert refusals(asked(live, collins, hopper)) == {"prohibited.unknown_face"}
        for bad, reason in [
            (nobodys_picture(), "portrait.no_face"),
            (b"not a picture", "media.not_picture"),
        ]:
            refused(send(live, face(bad), kind="do_not_generate"), 400, reason)
        too_many = face(hopper) * 5
        refused(send(live, too_many, kind="do_not_generate"), 400, "request.file")

        notice_id, token = given(live, face(hopper), kind="do_not_generate")
        assert LISTED not in refusals(asked(live, collins, hopper)), "not before it is confirmed"
        with live.client() as web:
            started = web.post(f"/v1/takedowns/{notice_id}/confirm", json={"token": token}).json()
            assert (started["status"], started["outcome"]) == ("decided", "registered")
            assert started["due_at"] is None
            assert web.get("/v1/takedowns/statistics").json()["faces_on_register"] == 1
        found = asked(live, collins, hopper)
        assert found.status_code == 400
        assert LISTED in refusals(found)
        # Where a model paints that face by itself, the clip is not let out, and says why.
        with live.client(APP) as web:
            made = asked(live, collins, prompt=f"{STRANGER} in golden light").json()
            failed = ended(web, made["id"])
            assert failed["status"] == "failed"
            assert (
                "do not" in failed["error"]["message"] or "not to be generated" in failed["error"]["message"]
            )
        # Everyone else is generated as before.
        with live.client(APP) as web:
            fine = asked(live, collins, collins_picture())
            assert refusals(fine) == set()
            assert ended(web, fine.json()["id"])["status"] == "completed"
        with live.client() as web:
            gone = web.post(f"/v1/takedowns/{notice_id}/withdraw", json={"token": token})
            assert gone.json()["erased"] is True
            assert web.get("/v1/takedowns/statistics").json()["faces_on_register"] == 0
        assert refusals(asked(live, collins, hopper)) == {"prohibited.unknown_face"}

    # The template is in no answer, no mail and no log, in any spelling.
    enrolled = enrol_portrait([pixels(hopper)]).likeness
    row = enrolled.templates[0]
    secret = enrolled.to_bytes()
    spellings = {
        secret.hex()[20:60],
        base64.b64encode(secret[10:100]).decode()[:40],
        *(f"{value:.4f}" for value in np.abs(row[:4])),
        *(repr(float(value))[:8] for value in np.abs(row[:4])),
    }
    everything = "\n".join(said)
    assert "portrait.no_face" in everything
    assert not [one for one in spellings if one in everything]


def test_the_face_of_somebody_enrolled_waits_for_an_operator(live: Site, collins: Owner) -> None:
    """Somebody could try to block another's own consent."""
    picture = collins_picture()
    notice_id, token = confirmed(live, face(picture), kind="do_not_generate")
    assert status(live, notice_id, token)["status"] == "open"
    assert queued(live, notice_id)["resembles"] == [collins.cameo_id]
    assert refusals(asked(live, collins, picture)) == set(), "until then her own consent stands"
    decided(live, notice_id, "refused")
    assert refusals(asked(live, collins, picture)) == set()
    with live.client() as web:
        appealed = web.post(f"/v1/takedowns/{notice_id}/appeal", json={"token": token, "text": "It is me."})
        assert appealed.status_code == 200
        refused(
            web.post(f"/v1/takedowns/{notice_id}/decision", json={"action": "registered", "note": "x"}),
            401,
            "access.key",
        )
    decided(live, notice_id, "registered", by="erin")
    assert LISTED in refusals(asked(live, collins, picture))
    with live.client() as web:
        web.post(f"/v1/takedowns/{notice_id}/withdraw", json={"token": token})
    assert refusals(asked(live, collins, picture)) == set()


# ── the clock ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_clock_runs_on_and_what_is_overdue_stands_first(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(launcher, tmp_path / "home")
    site.start()
    owner = site.enrol(collins_picture())
    owner.grant(APP)
    with site.client(APP) as web:
        video_id = web.post("/v1/videos", json=wanted(owner)).json()["id"]
        assert ended(web, video_id)["status"] == "completed"
    slow, _ = confirmed(site, video=video_id)
    quick, token = confirmed(site, video=video_id, country="IN")
    never, unheard = given(site, video=video_id)
    with site.client() as web:
        before = web.get("/v1/takedowns/statistics").json()
    owner.web.close()
    assert (before["overdue_now"], before["median_hours_to_decision"]) == (0, None)
    site.stop()

    site.start(ahead_s=3 * 3600)
    work = queue(site)
    assert [(one["notice_id"], one["overdue"]) for one in work["notices"]] == [(quick, True), (slow, False)]
    assert work["overdue"] == 1
    assert -3600 - 120 < status(site, quick, token)["seconds_left"] <= -3600
    decided(site, quick, "removed")
    with site.client() as web:
        told = web.get("/v1/takedowns/statistics")
        assert status(site, never, unheard)["status"] == "unconfirmed"
    numbers = told.json()
    assert numbers["notices"] == {"takedown": {"open": 1, "decided": 1}, "do_not_generate": {}}
    assert (numbers["outcomes"], numbers["decided_late"], numbers["overdue_now"]) == ({"removed": 1}, 1, 0)
    assert 3.0 <= numbers["median_hours_to_decision"] < 3.1
    assert not re.search("maud|example.org|notice_|video_", told.text, re.IGNORECASE)
    site.stop()

    site.start(ahead_s=73 * 3600)
    with site.client() as web:
        late = web.post(f"/v1/takedowns/{never}/confirm", json={"token": unheard})
        refused(late, 404, "takedown.expired")
        refused(web.get(f"/v1/takedowns/{never}", params={"token": unheard}), 404, "takedown.expired")
    site.stop()
    later = partial(open_service, clock=lambda: now() + timedelta(hours=50, minutes=30))
    monkeypatch.setattr(deciding, "open_service", later)
    said = countersign(site.home, "takedowns", "queue")
    assert said.status == 0, said.text
    assert re.match(rf"OVERDUE by 2 h \d\d min +{slow} +decision on {video_id}\n", said.text)
    assert said.text.splitlines()[-1] == "1 waiting, 1 overdue"
    assert "maud" not in said.text.lower()


def test_a_stranger_sends_only_files_large(live: Site) -> None:
    answer = send(live, reason="x" * JSON_BYTES)
    assert (answer.status_code, answer.json()["reasons"][0]["id"]) == (413, "request.length")
    with stranger(live) as web:
        page = web.post("/takedown", data={**FORM, "reason": "x" * JSON_BYTES})
    assert page.status_code == 413


def test_a_strangers_pictures_wait_their_turn() -> None:
    with ExitStack() as taken:
        while uploads._PLACES.acquire(blocking=False):
            taken.callback(uploads._PLACES.release)
        with pytest.raises(Problem) as busy:
            asyncio.run(giving._shown_face(cast("Any", None), [b"a picture"]))
    assert busy.value.reasons[0].id == "verify.busy"
