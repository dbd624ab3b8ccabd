"""A running service for tests, and the people who use it: everything here goes over HTTP, on loopback.

The client side is written from the outside: it knows the wire, the statements people sign, and the formats of
the log; never the service's own code. As a pytest plugin it offers `launcher`, `live`, `collins` and `clip`.

PYTEST_DONT_REWRITE
"""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import av
import httpx
import numpy as np
import openai
import pytest
from av.video.stream import VideoStream
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from matplotlib import cbook
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from ledger.canonical import canonical
from ledger.consent.statement import ENROLMENT_TAG, GRANT_TAG, SESSION_TAG, encode_key, sign
from ledger.log import completeness
from ledger.log.note import Checkpoint, VerifierKey, open_checkpoint
from ledger.log.policy import Policy

MODEL = "countersign-reference"
PROMPT = "a portrait in golden light"
STRANGER, BROKEN, UNHURRIED = "beside a stranger", "with a broken camera", "in no hurry"
"""Words in a prompt that make the test model misbehave; see `launch.py`."""
UPLOAD_MB = 8
OPERATOR = "dana"
PATIENCE_S = 120.0
"""How long a test waits for what has to come: machines are slow at times."""
LIMITS = ("SIGN_INS_PER_ADDRESS", "ACCOUNTS_PER_ADDRESS", "RECOVERIES_PER_ADDRESS")
Picture = NDArray[np.uint8]
PIXELS = {"mjpeg": "yuvj420p"}
TESTS = Path(__file__).resolve().parent
_QUIET = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# Starting and ending it -------------------------------------------------------------------------------------


class Launcher:
    """Forks services; see `launch.py`."""

    def __init__(self) -> None:
        path = os.pathsep.join((str(TESTS.parent), os.environ.get("PYTHONPATH", "")))
        self._process = subprocess.Popen(
            [sys.executable, str(TESTS / "launch.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **_QUIET, "PYTHONPATH": path},
            text=True,
        )

    def start(self, **order: Any) -> int:
        return int(self._ask({"start": order})["pid"])

    def wait(self, pid: int) -> int:
        """The exit status of a service that is ending; negative for the signal that ended it."""
        return int(self._ask({"wait": pid})["exit"])

    def close(self) -> None:
        self._process.communicate(timeout=30)

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the launcher ended"
        found: dict[str, Any] = json.loads(answer)
        return found


@dataclass
class Site:
    """One home and one port; the service there comes and goes. Fresh keys for the apps, one operator, one auditor."""

    launcher: Launcher
    home: Path
    apps: tuple[str, ...] = ("film club", "other app", "third app")
    app_keys: dict[str, str] = field(default_factory=dict)
    """The public keys of apps that pass grants on."""
    env: dict[str, str] = field(default_factory=dict)
    examines: bool = False
    """Whether films are looked at, which takes seconds each; else every one of them is as it should be."""
    mortal: bool = False
    """Whether :meth:`die_at` works."""
    operator: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    colleagues: tuple[str, ...] = ()
    """More operators, who sign nothing here."""
    port: int = field(default_factory=free_port)
    pid: int | None = None

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def start(self, *, ahead_s: int = 0) -> None:
        """Start the service and wait until it answers. `ahead_s`: how much later its clock says it is."""
        self.temporary.mkdir(parents=True, exist_ok=True)
        settings = {
            "HOME": str(self.home),
            "PORT": str(self.port),
            "MAX_UPLOAD_MB": str(UPLOAD_MB),
            # Every test of a module comes from this one address.
            **dict.fromkeys(LIMITS, "100000"),
            **self.env,
        }
        self.pid = self.launcher.start(
            env={f"COUNTERSIGN_{name}": value for name, value in settings.items()}
            | {"TMPDIR": str(self.temporary)},
            log=str(self.home / "service.log"),
            keys={
                "app": {**dict.fromkeys(self.apps, ""), **self.app_keys},
                "operator": {
                    OPERATOR: encode_key(self.operator.public_key()),
                    **{
                        name: encode_key(Ed25519PrivateKey.generate().public_key())
                        for name in self.colleagues
                    },
                },
                "auditor": {"press council": ""},
            },
            ahead_s=ahead_s,
            examines=self.examines,
            death=str(self._death) if self.mortal else "",
        )
        until = time.monotonic() + PATIENCE_S
        with self.client() as web:
            while time.monotonic() < until and self.alive():
                try:
                    web.get("/health")
                except httpx.TransportError:
                    time.sleep(0.05)
                else:
                    return
        raise AssertionError(f"the service did not start:\n{self.said()[-4000:]}")

    def die_at(self, point: str) -> None:
        """From now on the service kills itself at `point`, if it gets there; "" for nowhere."""
        new = self._death.with_suffix(".new")
        new.write_text(point)
        new.replace(self._death)

    @property
    def _death(self) -> Path:
        return self.home / "death"

    @property
    def temporary(self) -> Path:
        """Where this service keeps what it should not keep."""
        return self.home / "tmp"

    def alive(self) -> bool:
        """Whether the process runs; a killed one stays a zombie until it is waited for."""
        stat = Path(f"/proc/{self.pid}/stat")
        return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"

    def ended(self) -> int:
        """Wait for the process to end by itself. Returns its exit status."""
        assert self.pid is not None
        pid, self.pid = self.pid, None
        return self.launcher.wait(pid)

    def stop(self) -> None:
        if self.pid is not None:
            os.kill(self.pid, signal.SIGTERM)
            assert self.ended() == 0, self.said()[-4000:]

    def said(self) -> str:
        """What the service wrote to its log so far."""
        return (self.home / "service.log").read_text()

    # -- who is asking --------------------------------------------------------------------------------------

    def holder(self, name: str) -> str:
        return str(self._keys()[name]["holder"])

    def key(self, name: str) -> str:
        return str(self._keys()[name]["key"])

    def _keys(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home / "keys.json").read_text())
        return found

    def client(self, name: str = "") -> httpx.Client:
        """A client of this service, with the key of `name` if one is given. Close it, or use it with `with`."""
        headers = {"authorization": f"Bearer {self.key(name)}"} if name else {}
        # Nothing here speaks TLS, and reading the world's certificates for every client takes longer than asking.
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, verify=False)

    def sdk(self, name: str = "film club") -> openai.OpenAI:
        return openai.OpenAI(api_key=self.key(name), base_url=f"{self.url}/v1", max_retries=0)

    # -- what an outsider sees ------------------------------------------------------------------------------

    def checkpoint(self) -> Checkpoint:
        """The newest checkpoint, verified with the log's own key."""
        with self.client() as web:
            log = VerifierKey.parse(web.get("/v1/log/keys").json()["vkey"])
            return open_checkpoint(web.get("/checkpoint").content, log).checkpoint

    def audit(self, cameo_id: str) -> list[dict[str, Any]]:
        """The auditor's answer about a likeness, once it is proven to be everything."""
        with self.client("press council") as web:
            bundle = web.get("/v1/audit/uses", params={"cameo": cameo_id}).json()
            vkey = VerifierKey.parse(web.get("/v1/log/keys").json()["vkey"])
        whole = completeness.verify(bundle, Policy.alone(vkey))
        return [dict(body) for _, body in whole.records]

    # -- enrolment ------------------------------------------------------------------------------------------

    def vouch(
        self,
        picture: bytes,
        *,
        device: Ed25519PrivateKey,
        signer: Ed25519PrivateKey | None = None,
        **changes: Any,
    ) -> httpx.Response:
        """The operator vouches for a person. `changes` replace fields of the statement before it is signed; `...`
        leaves one out."""
        statement = {
            "schema": "countersign/enrolment/v1",
            "path": "vouched",
            "operator": OPERATOR,
            "display_name": "Eileen Collins",
            "device_key": encode_key(device.public_key()),
            "born_on": "1956-11-19",
            "portrait_sha256": sha256(picture).hexdigest(),
            "issued": zulu(datetime.now(UTC)),
            # The same two people enrol in every test.
            "alike": True,
            **changes,
        }
        statement = {name: value for name, value in statement.items() if value is not ...}
        signed = canonical(statement)
        evidence = sign(ENROLMENT_TAG, signed, signer or self.operator)
        with self.client(OPERATOR) as web:
            return web.post(
                "/v1/cameos/vouched",
                data={"statement": signed.decode(), "evidence": evidence.model_dump_json()},
                files={"picture": ("portrait", picture)},
            )

    def enrol(self, picture: bytes, **changes: Any) -> "Owner":
        device = Ed25519PrivateKey.generate()
        answer = self.vouch(picture, device=device, **changes)
        assert answer.status_code == 201, answer.text
        found = answer.json()
        owner = Owner(self, found["person_id"], found["cameo_id"], device, self.client())
        owner.sign_in()
        return owner


@dataclass
class Owner:
    """An enrolled person: their device, and a client that is signed in."""

    site: Site
    person_id: str
    cameo_id: str
    device: Ed25519PrivateKey
    web: httpx.Client

    def nonce(self) -> str:
        return str(
            self.web.post("/v1/sessions/challenge", json={"person_id": self.person_id}).json()["nonce"]
        )

    def sign_in(self, **changes: Any) -> httpx.Response:
        """Open a session. `changes` replace the person, the nonce, or the key that signs."""
        person_id, nonce = changes.get("person_id", self.person_id), changes.get("nonce") or self.nonce()
        evidence = sign(SESSION_TAG, f"{person_id}\n{nonce}".encode(), changes.get("device", self.device))
        body = {"person_id": person_id, "nonce": nonce, "evidence": evidence.model_dump()}
        return self.web.post("/v1/sessions", json=body, headers=changes.get("headers"))

    def preview(self, app: str = "film club", **draft: Any) -> dict[str, Any]:
        asked = {
            "cameo_id": self.cameo_id,
            "grantee": {"type": "app", "id": self.site.holder(app)},
            "max_uses": 100,
            **draft,
        }
        answer = self.web.post("/v1/grants/preview", json=asked)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def signed(self, preview: dict[str, Any]) -> dict[str, Any]:
        """A previewed grant with the device's signature over it, as it is sent."""
        evidence = sign(GRANT_TAG, preview["canonical"].encode(), self.device)
        return {"grant": preview["grant"], "evidence": evidence.model_dump()}

    def grant(self, app: str = "film club", **draft: Any) -> str:
        answer = self.web.post("/v1/grants", json=self.signed(self.preview(app, **draft)))
        assert answer.status_code == 201, answer.text
        return str(answer.json()["grant_id"])

    def used(self) -> dict[str, int]:
        """How often each of my grants was used."""
        grants = self.web.get("/v1/grants").json()["grants"]
        return {grant["grant_id"]: grant["uses"] for grant in grants}

    @contextmanager
    def nothing_happens(self) -> Iterator[None]:
        """Nothing in this block may reach the log or charge a use."""
        before = self.site.checkpoint(), self.used()
        yield
        assert (self.site.checkpoint(), self.used()) == before


def ended(web: httpx.Client, video_id: str) -> dict[str, Any]:
    """Poll a video until it is completed or failed."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        video: dict[str, Any] = web.get(f"/v1/videos/{video_id}").json()
        if video["status"] in {"completed", "failed"}:
            return video
        time.sleep(0.1)
    raise AssertionError(f"the video did not end: {video}")


def unknown(prefix: str) -> str:
    """A well-formed id that names nothing."""
    return f"{prefix}_{'0' * 26}"


def zulu(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


# Portraits: public domain, inside packages --------------------------------------------------------------------


def collins_picture() -> bytes:
    return as_file(data.astronaut(), "PNG")  # type: ignore[no-untyped-call]


def hopper_picture() -> bytes:
    return Path(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))).read_bytes()


def nobodys_picture() -> bytes:
    return as_file(data.coffee(), "PNG")  # type: ignore[no-untyped-call]


def pixels(picture: bytes) -> Picture:
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))


def video_of(
    picture: Picture, path: Path, *, codec: str = "libx264", frames: int = 24, crf: int = 18
) -> bytes:
    """A file of `frames` frames of one picture, which drifts a little; even sides."""
    height, width = (side & ~1 for side in picture.shape[:2])
    with av.open(str(path), "w") as container:
        options = {"crf": str(crf), "preset": "veryfast"}
        stream = cast("VideoStream", container.add_stream(codec, rate=24, options=options))
        stream.width, stream.height, stream.pix_fmt = width, height, PIXELS.get(codec, "yuv420p")
        for number in range(frames):
            frame = np.ascontiguousarray(np.roll(picture[:height, :width], number // 4, axis=1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path.read_bytes()


def as_file(pixels: Any, kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


# Fixtures -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clip:
    """A released clip, its video and the bytes an app downloaded."""

    video_id: str
    content: bytes


@pytest.fixture(scope="session")
def launcher() -> Iterator[Launcher]:
    opened = Launcher()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def live(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One running service for every test that only asks it things."""
    site = Site(launcher, tmp_path_factory.mktemp("live") / "home")
    site.start()
    yield site
    site.stop()


@pytest.fixture(scope="module")
def collins(live: Site) -> Iterator[Owner]:
    """Eileen Collins, who granted the film club many uses."""
    owner = live.enrol(collins_picture())
    owner.grant("film club")
    yield owner
    owner.web.close()


@pytest.fixture(scope="module")
def clip(live: Site, collins: Owner) -> Clip:
    with live.client("film club") as app:
        video_id = app.post("/v1/videos", json=wanted(collins)).json()["id"]
        assert ended(app, video_id)["status"] == "completed"
        return Clip(video_id, app.get(f"/v1/videos/{video_id}/content").content)


def wanted(*people: Owner, **changes: Any) -> dict[str, Any]:
    """The body of a request for one second of these people."""
    return {
        "model": MODEL,
        "prompt": PROMPT,
        "seconds": "1",
        "size": "640x360",
        "characters": [{"id": person.cameo_id} for person in people],
        **changes,
    }
