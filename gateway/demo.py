"""The main job, told step by step: a clip's whole life, against a running service, over HTTP.

Two real people, from the public-domain portraits that ship inside packages: Eileen Collins agrees, Grace Hopper
was never asked. The app speaks through the unmodified `openai` SDK. Every step checks what it shows.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import httpx
import openai
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image, ImageDraw

from gateway.access import create_key, session_statement
from gateway.audit import USES, lines_of, redecided
from gateway.service import open_service
from gateway.settings import Settings
from ledger.canonical import sha256
from ledger.consent.statement import (
    ENROLMENT_TAG,
    GRANT_TAG,
    SESSION_TAG,
    encode_key,
    parse_enrolment,
    sign,
)
from ledger.log import completeness
from ledger.log.note import VerifierKey
from ledger.log.policy import Policy
from ledger.provenance import media
from safety.replay import Lost

OUT = Path("var/demo")
STAY_S = 900
PROMPT = "a portrait in golden sunset light, dust drifting through the air, slow push in"
CHILD = "the same woman as a seven year old girl on her first day at school"
SEXUAL = "the same woman naked in an erotic pose"


class DemoFailed(Exception):  # noqa: N818 — the state the demo ends in
    pass


@dataclass(slots=True)
class Cast:
    """Who takes part; kept between runs, so that a second run enrols nobody again."""

    app_id: str
    app_key: str
    operator_key: str
    auditor_key: str
    people: dict[str, list[str]]
    """Person and cameo id of everyone enrolled so far, by the digest of their picture."""
    person_id: str = ""
    cameo_id: str = ""


def play(video: Path | None, *, stay: bool) -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    _stop_earlier()
    settings = Settings(port=_free_port(Settings().port))
    started = time.monotonic()
    click.echo("Countersign: a clip's whole life\n")
    picture, name = (video, "you") if video else (_collins(), "Eileen Collins")
    device = _key(settings, f"device-{sha256(picture.read_bytes()).hex()[:16]}")
    operator = _key(settings, "operator")
    cast = _cast(settings, operator)
    with _service(settings, stay=stay), httpx.Client(base_url=settings.url, timeout=120) as web:
        _say("service", f"running at {settings.url}, everything on this machine")
        _enrol(web, settings, cast, picture, name, device, operator)
        _sign_in(web, cast, device)
        app = openai.OpenAI(api_key=cast.app_key, base_url=f"{settings.url}/v1", max_retries=0)
        _refused("no grant", app, cast, PROMPT)
        grant_id = _grant(web, cast, device, name)
        _precheck(web, cast)
        clip, video_id = _make(web, app, cast, name)
        _refused("a stranger", app, cast, PROMPT, picture=_hopper(), cameo=False)
        _refused("sexual", app, cast, SEXUAL)
        _refused("a child", app, cast, CHILD)
        before = _verify(web, "verify", clip, consent="standing", via="embedded")
        stripped = OUT / "clip-stripped.mp4"
        media.remux(clip, stripped)
        _verify(web, "stripped", stripped, consent="standing", via="watermark")
        _revoke(web, grant_id, name)
        _refused("revoked", app, cast, PROMPT)
        _verify(web, "verify again", clip, consent="withdrawn", via="embedded")
        _download_refused(app, video_id)
        _audit(web, cast)
        _redecide(settings, video_id)
        _leave(web, clip, before)
    click.echo(f"\nIt took {time.monotonic() - started:.0f} s. Look at {OUT}/contact-sheet.png; play {clip}.")
    if stay:
        click.echo(
            f"Open {settings.url}/ in a browser and drop {clip} on it; {settings.url}/join is where people begin"
            f" (the service stays for {STAY_S // 60} minutes)."
        )
    click.echo("DEMO OK")


# The steps --------------------------------------------------------------------------------------------


def _enrol(
    web: httpx.Client,
    settings: Settings,
    cast: Cast,
    picture: Path,
    name: str,
    device: Ed25519PrivateKey,
    operator: Ed25519PrivateKey,
) -> None:
    content = picture.read_bytes()
    digest = sha256(content).hex()
    if digest not in cast.people:
        statement = parse_enrolment(
            {
                "schema": "countersign/enrolment/v1",
                "path": "vouched",
                "operator": "dana",
                "display_name": name,
                "device_key": encode_key(device.public_key()),
                "born_on": "1956-11-19",
                "portrait_sha256": digest,
                "issued": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        )
        evidence = sign(ENROLMENT_TAG, statement.signed_bytes(), operator)
        answer = web.post(
            "/v1/cameos/vouched",
            headers={"authorization": f"Bearer {cast.operator_key}"},
            data={"statement": statement.signed_bytes().decode(), "evidence": evidence.model_dump_json()},
            files={"picture": (picture.name, content)},
        )
        found = _ok(answer)
        cast.people[digest] = [found["person_id"], found["cameo_id"]]
        _save(settings, cast)
    cast.person_id, cast.cameo_id = cast.people[digest]
    _say("enrolled", f"{name}: operator dana saw the person and signed that; no remote liveness is claimed")


def _sign_in(web: httpx.Client, cast: Cast, device: Ed25519PrivateKey) -> None:
    nonce = _ok(web.post("/v1/sessions/challenge", json={"person_id": cast.person_id}))["nonce"]
    evidence = sign(SESSION_TAG, session_statement(cast.person_id, nonce), device)
    body = {"person_id": cast.person_id, "nonce": nonce, "evidence": evidence.model_dump()}
    _ok(web.post("/v1/sessions", json=body))


def _grant(web: httpx.Client, cast: Cast, device: Ed25519PrivateKey, name: str) -> str:
    draft = {
        "cameo_id": cast.cameo_id,
        "grantee": {"type": "app", "id": cast.app_id},
        "max_uses": 3,
        "forbidden_contexts": ["political", "romantic"],
        "approval": "before_release",
        "revocation_effect": "withdraw_all",
    }
    preview = _ok(web.post("/v1/grants/preview", json=draft))
    evidence = sign(GRANT_TAG, preview["canonical"].encode(), device)
    granted = _ok(web.post("/v1/grants", json={"grant": preview["grant"], "evidence": evidence.model_dump()}))
    _say("granted", f"{name} reads and signs: “{granted['sentence']}”")
    return str(granted["grant_id"])


def _precheck(web: httpx.Client, cast: Cast) -> None:
    asked = {"prompt": PROMPT, "seconds": "4", "size": "854x480", "characters": [{"id": cast.cameo_id}]}
    headers = {"authorization": f"Bearer {cast.app_key}"}
    answer = _ok(web.post("/v1/videos/precheck", json=asked, headers=headers))
    if not answer["allowed"]:
        raise DemoFailed(f"the precheck says no: {answer['reasons']}")
    _say("precheck", "the app asks what would be decided: allowed; nothing is recorded or used up")


def _make(web: httpx.Client, app: openai.OpenAI, cast: Cast, name: str) -> tuple[Path, str]:
    video = _create(app, cast, PROMPT)
    _say("allowed", f"the app asks for “{PROMPT}”; decided and recorded before the model is called")
    shown = -1
    while video.status in {"queued", "in_progress"}:
        if video.progress // 30 > shown:
            shown = video.progress // 30
            _say("", f"{video.status}, {video.progress} %")
        time.sleep(0.3)
        _approve(web, video.id, name)
        video = app.videos.retrieve(video.id)
    if video.status != "completed":
        raise DemoFailed(f"the clip was not made: {video.error}")
    clip = OUT / "clip.mp4"
    app.videos.download_content(video.id).write_to_file(clip)
    probe = media.probe(clip, media.Limits())
    _say(
        "released",
        f"checked, watermarked, signed, read back: {clip}, {probe.width}x{probe.height}, {float(probe.seconds):.1f} s",
    )
    return clip, video.id


def _approve(web: httpx.Client, video_id: str, name: str) -> None:
    """Once the draft waits: the person watches it, marked and signed as it already is, and lets it go out."""
    waiting = [one for one in _ok(web.get("/v1/approvals"))["drafts"] if one["video_id"] == video_id]
    for draft in waiting:
        (OUT / "draft.mp4").write_bytes(web.get(draft["clip"]).content)
        _ok(web.post(f"/v1/approvals/{video_id}", json={"decision": "approve"}))
        _say("approved", f"{name} watches the draft, reads who asked for what, and lets it go out")


def _refused(
    what: str,
    app: openai.OpenAI,
    cast: Cast,
    prompt: str,
    *,
    picture: bytes | None = None,
    cameo: bool = True,
) -> None:
    try:
        _create(app, cast, prompt, picture=picture, cameo=cameo)
    except openai.APIStatusError as error:
        if error.status_code not in {400, 403}:
            raise DemoFailed(f"{what}: answered {error.status_code} {error.message}") from error
        body: Any = error.body
        why = "; ".join(reason["reason"] for reason in body["reasons"])
        asked = (
            f"“{prompt}”" if prompt != PROMPT else "the same again" if what == "revoked" else "the app asks"
        )
        asked = "Grace Hopper's picture as a start" if picture else asked
        _say("refused", f"{asked}: {why}")
        return
    raise DemoFailed(f"{what}: the request was allowed")


def _verify(web: httpx.Client, what: str, clip: Path, *, consent: str, via: str) -> dict[str, Any]:
    verdict = _ok(web.post("/v1/verify", content=clip.read_bytes(), headers={"content-type": "video/mp4"}))
    if (verdict["consent_now"], verdict["recovered_via"], verdict["released"]) != (consent, via, True):
        raise DemoFailed(f"{what}: {verdict}")
    _say(what, verdict["sentence"])
    return verdict


def _revoke(web: httpx.Client, grant_id: str, name: str) -> None:
    started = time.monotonic()
    _ok(web.post(f"/v1/grants/{grant_id}/revoke"))
    _say(
        "revoked",
        f"{name} takes it back: one request, no signature, in force {1000 * (time.monotonic() - started):.0f} ms later",
    )


def _download_refused(app: openai.OpenAI, video_id: str) -> None:
    try:
        app.videos.download_content(video_id)
    except openai.PermissionDeniedError as error:
        body: Any = error.body
        _say("download", f"refused: {body['reasons'][0]['reason']}")
        return
    raise DemoFailed("the withdrawn clip could still be downloaded")


def _audit(web: httpx.Client, cast: Cast) -> None:
    headers = {"authorization": f"Bearer {cast.auditor_key}"}
    answer = _ok(web.get("/v1/audit/uses", params={"cameo": cast.cameo_id}, headers=headers))
    log = VerifierKey.parse(_ok(web.get("/v1/log/keys"))["vkey"])
    verified = completeness.verify(answer, Policy.alone(log))
    count = f"{len(verified.records)} records, proven to be all that {log.name} holds"
    _say("audit", f"who used whose face: {count}")
    for line in lines_of(verified.records, USES)[-8:]:
        click.echo(f"        {line[:100]}")
    (OUT / "list.proof.json").write_text(json.dumps(answer, indent=1) + "\n")
    _say("", f"anyone can check that, offline: countersign audit verify {OUT}/list.proof.json")


def _redecide(settings: Settings, video_id: str) -> None:
    """The decision made once more, from the ledger alone: the rules it was made under are in the log too."""
    with open_service(settings) as service:
        made = redecided(service, video_id, "local operator", at=service.clock())
    if isinstance(made, Lost) or made.differs:
        raise DemoFailed(f"the decision cannot be made again: {made}")
    rules = made.decision.general.policy_set_hash[:12]
    _say(
        "redecided",
        f"the decision, made again from the ledger under policy set {rules}…: the same, byte for byte",
    )


def _leave(web: httpx.Client, clip: Path, verdict: dict[str, Any]) -> None:
    """The files a third party needs: trust anchor, checkpoint, verifier key, and something to look at."""
    (OUT / "root.pem").write_bytes(web.get("/root.pem").content)
    (OUT / "checkpoint").write_bytes(web.get("/checkpoint").content)
    (OUT / "log.vkey").write_text(_ok(web.get("/v1/log/keys"))["vkey"] + "\n")
    (OUT / "verdict.json").write_text(json.dumps(verdict, indent=2) + "\n")
    _contact_sheet(clip, verdict["sentence"])


def _contact_sheet(clip: Path, caption: str) -> None:
    probe = media.probe(clip, media.Limits())
    frames = [frame for _, frame in media.frames(clip, every_s=float(probe.seconds) / 6)][:6]
    width = 480
    height = width * frames[0].shape[0] // frames[0].shape[1]
    sheet = Image.new("RGB", (3 * width + 40, 2 * height + 80), "#12171d")
    for place, frame in enumerate(frames):
        tile = Image.fromarray(frame).resize((width, height))
        sheet.paste(tile, (10 + (place % 3) * (width + 10), 10 + (place // 3) * (height + 10)))
    ImageDraw.Draw(sheet).text((14, 2 * height + 44), caption, fill="#eceae4", font_size=18)
    sheet.save(OUT / "contact-sheet.png")


# The cast and the stage -------------------------------------------------------------------------------


def _create(
    app: openai.OpenAI, cast: Cast, prompt: str, *, picture: bytes | None = None, cameo: bool = True
) -> Any:
    extra = {"characters": [{"id": cast.cameo_id}]} if cameo else {}
    more = {"input_reference": ("hopper.jpg", picture, "image/jpeg")} if picture else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return app.videos.create(
            model="countersign-reference",
            prompt=prompt,
            seconds="4",
            size="854x480",  # type: ignore[arg-type]  # the protocol has more sizes than the SDK's types
            extra_body=extra,
            **more,  # type: ignore[arg-type]
        )


def _cast(settings: Settings, operator: Ed25519PrivateKey) -> Cast:
    saved = settings.home / "demo" / "cast.json"
    if saved.exists():
        return Cast(**json.loads(saved.read_text()))
    with open_service(settings) as service:
        app_key, app_id = create_key(service, "app", "Film Club")
        operator_key, _ = create_key(
            service, "operator", "dana", public_key=encode_key(operator.public_key())
        )
        auditor_key, _ = create_key(service, "auditor", "press council")
    cast = Cast(app_id, app_key, operator_key, auditor_key, {})
    _save(settings, cast)
    return cast


def _save(settings: Settings, cast: Cast) -> None:
    _private(settings.home / "demo" / "cast.json", json.dumps(asdict(cast)).encode())


def _key(settings: Settings, name: str) -> Ed25519PrivateKey:
    path = settings.home / "demo" / f"{name}.key"
    if not path.exists():
        _private(path, Ed25519PrivateKey.generate().private_bytes_raw())
    return Ed25519PrivateKey.from_private_bytes(path.read_bytes())


def _private(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    path.write_bytes(content)


def _collins() -> Path:
    from skimage import data  # noqa: PLC0415 — a demo's dependency

    path = OUT / "collins.png"
    Image.fromarray(data.astronaut()).save(path)  # type: ignore[no-untyped-call]
    return path


def _hopper() -> bytes:
    from matplotlib import cbook  # noqa: PLC0415 — a demo's dependency

    return Path(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))).read_bytes()


@contextmanager
def _service(settings: Settings, *, stay: bool) -> Iterator[None]:
    command = [sys.executable, "-m", "gateway", "serve", "--port", str(settings.port)]
    if stay:
        command += ["--stop-after", str(STAY_S)]
    with (OUT / "service.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 — our own command
            command,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            # Whoever tries the pages afterwards can go all the way.
            env={"COUNTERSIGN_AGE_ISSUER": "demo", **os.environ},
        )
    (OUT / "service.pid").write_text(str(process.pid))
    done = False
    try:
        _wait_until_ready(settings, process)
        yield
        done = True
    finally:
        if not (stay and done):
            process.terminate()
            process.wait(timeout=30)
            (OUT / "service.pid").unlink(missing_ok=True)


def _wait_until_ready(settings: Settings, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 90
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(f"{settings.url}/ready", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise DemoFailed(
        f"the service did not start; see {OUT}/service.log:\n{(OUT / 'service.log').read_text()[-2000:]}"
    )


def _stop_earlier() -> None:
    """End the service an earlier demo left running, and only that: by id, and only if it is still ours."""
    path = OUT / "service.pid"
    if not path.exists():
        return
    pid = int(path.read_text())
    path.unlink()
    command = Path(f"/proc/{pid}/cmdline")
    if command.exists() and b"gateway\0serve" in command.read_bytes():
        os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + 15
        while command.exists() and command.read_bytes() and time.monotonic() < until:
            time.sleep(0.1)


def _free_port(wanted: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ok(answer: httpx.Response) -> dict[str, Any]:
    if answer.is_error:
        raise DemoFailed(
            f"{answer.request.method} {answer.request.url.path} answered {answer.status_code}: {answer.text}"
        )
    body: dict[str, Any] = answer.json()
    return body


def _say(what: str, text: str) -> None:
    click.echo(textwrap.fill(text, 108, initial_indent=f"{what:>12}  ", subsequent_indent=" " * 14))
