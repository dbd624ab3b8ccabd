"""Starts the real service for tests, as often as asked, each time in a fresh process.

Commands come as JSON lines on stdin, answers go as JSON lines to stdout:

    {"start": {"env": {…}, "log": path, "keys": {role: {name: public key}}, "ahead_s": n, "examines": true, "death": path or ""}} → {"pid": n}
    {"wait": pid} → {"exit": code, negative for a signal}

A service is a fork of this process, which has imported everything and started nothing: the state is as fresh as
after an exec, without the seconds of importing. Keys are created before the service starts and left in
`keys.json` in its home. What is replaced for a test is replaced here, and nowhere in the product:

- the model is :class:`StillClip`, which is fast, and shows whom the prompt asks it to;
- the clock is `ahead_s` seconds ahead;
- one process looks at pictures, where the product has as many as there are cores, and it is a fork of one that has
  loaded what it needs (:func:`_hatchery`);
- films of people who enrol are as they should be (:func:`_fine`), unless `examines`;
- where the file `death` names a point, the process kills itself there with SIGKILL, as the kernel would.
"""

import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from functools import lru_cache, partial, wraps
from pathlib import Path
from typing import Any, NoReturn, cast

import av
import numpy as np
import obstore
from numpy.typing import NDArray
from PIL import Image

import gateway.serve
import gateway.service
import safety.workers
from gateway import access
from gateway.owners import enrolment
from gateway.settings import Settings
from generator import drafts, pipeline
from generator.backend import Portrait, RenderRequest
from generator.errors import BackendFailed
from ledger import workers
from ledger.log.sequencer import Ledger
from ledger.sandbox import Sandbox
from ledger.store import objects
from ledger.store.transaction import Transaction
from live import BROKEN, MODEL, STRANGER, UNHURRIED, hopper_picture, pixels
from safety import faces, frames, prompt, writing
from safety.enrolment.checks import Asked, Examined, Finding

Picture = NDArray[np.uint8]


# The model --------------------------------------------------------------------------------------------------


class StillClip:
    """A Backend: portraits side by side on a textured wall, the same frame for the whole clip.

    The prompt can ask for what a misbehaving model would do: a face nobody agreed to show, or no clip at all.
    """

    name = MODEL
    version = "still-1"
    closed = True

    def render(self, request: RenderRequest, out: Path, progress: Callable[[float], None]) -> None:
        if BROKEN in request.prompt:
            raise BackendFailed("backend.camera", "the camera is broken", "repair it")
        people = [_head(portrait) for portrait in request.portraits]
        if STRANGER in request.prompt:
            people.append(_stranger())
        picture = _compose(people, request, out)
        progress(0.3)
        if UNHURRIED in request.prompt:
            time.sleep(2)
        _encode(picture, request, out)
        progress(1.0)


def _head(portrait: Portrait) -> Picture:
    """The face with as much around it as it is high."""
    top, right, bottom, left = portrait.face
    margin = (bottom - top) // 2
    return portrait.image[max(0, top - margin) : bottom + margin, max(0, left - margin) : right + margin]


@lru_cache(maxsize=1)
def _stranger() -> Picture:
    return pixels(hopper_picture())[40:340, 100:400]


def _compose(people: list[Picture], request: RenderRequest, out: Path) -> Picture:
    height, width = request.height, request.width
    # Another wall for each clip, as the place where it is made is another's: twins would be copies of one another.
    random = np.random.default_rng(zlib.crc32(str(out).encode()))
    coarse = Image.fromarray(random.integers(30, 220, (9, 16, 3), np.uint8)).resize((width, height))
    wall = np.asarray(coarse, np.int16) + random.normal(0, 5, (height, width, 1))
    picture = np.clip(wall, 0, 255).astype(np.uint8)
    side = min(height, width // max(1, len(people))) * 8 // 10 & ~1
    for place, person in enumerate(people):
        left = (2 * place + 1) * width // (2 * len(people)) - side // 2
        top = (height - side) // 2
        picture[top : top + side, left : left + side] = np.asarray(
            Image.fromarray(person).resize((side, side))
        )
    return picture


def _encode(picture: Picture, request: RenderRequest, out: Path) -> None:
    with av.open(str(out), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=Fraction(request.fps), options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = request.width, request.height, "yuv420p"
        audio = container.add_stream("aac", rate=48_000, layout="mono")
        for _ in range(request.seconds * request.fps):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        quiet = av.AudioFrame.from_ndarray(
            np.zeros((1, 48_000 * request.seconds), np.float32), format="fltp", layout="mono"
        )
        quiet.sample_rate = 48_000
        container.mux(audio.encode(quiet))
        container.mux(video.encode())
        container.mux(audio.encode())


def _fine(_film: Path, _asked: Asked, _anchors: bytes) -> Examined:
    return Examined((Finding("face", 1000, "nobody looked"),), np.full((1, 128), 9.0))


# The ways to die --------------------------------------------------------------------------------------------


def watch(file: Path) -> None:
    """Die wherever `file` says. Points:

    `enqueue`, `render`, `clear`, `stamp`, `release`, `fail`, `tidy`, `put`, `settle` × `.before`, `.after`;
    `decision`, `release`, `returned`, `draft`, `approval`, `review` × `.unsigned`: committed, and not yet under a signed checkpoint;
    `put.half`, `put.torn`: half of the clip is in the object store, under a temporary name or its own.
    """

    def at(point: str) -> None:
        if file.exists() and file.read_text() == point:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(owner: Any, name: str, step: Callable[..., str]) -> None:
        original = getattr(owner, name)

        @wraps(original)
        def watched(*args: Any, **options: Any) -> Any:
            at(f"{step(*args)}.before")
            answer = original(*args, **options)
            at(f"{step(*args)}.after")
            return answer

        setattr(owner, name, watched)

    around(pipeline.Pipeline, "submit", lambda *_: "enqueue")
    around(pipeline.Pipeline, "attempt", lambda _line, stage, _sealed: str(stage))
    around(pipeline.Pipeline, "fail", lambda *_: "fail")
    around(pipeline.Pipeline, "tidy", lambda *_: "tidy")
    around(objects.Objects, "put", lambda *_: "put")
    around(drafts.Drafts, "settle", lambda *_: "settle")
    _watch_signing(at)
    vars(objects)["obstore"] = _TornStore(at)


def _watch_signing(at: Callable[[str], None]) -> None:
    written: set[str] = set()
    append, sign = Transaction.append, Ledger._sign

    @wraps(append)
    def noting(self: Transaction, kind: str, *args: Any, **options: Any) -> Any:
        written.add(kind)
        return append(self, kind, *args, **options)

    @wraps(sign)
    def signing(self: Ledger) -> None:
        for kind in written:
            at(f"{kind}.unsigned")
        written.clear()
        sign(self)

    Transaction.append = noting  # type: ignore[method-assign, assignment]
    Ledger._sign = signing  # type: ignore[method-assign]


@dataclass
class _TornStore:
    """obstore, which can die in the middle of a clip: half of it then lies where the local store stages files.

    Or, as a power cut can leave it, under the clip's own name.
    """

    at: Callable[[str], None]

    def __getattr__(self, name: str) -> Any:
        return getattr(obstore, name)

    def put(self, store: Any, key: str, content: Any, **options: Any) -> Any:
        if isinstance(content, Path):
            whole = content.read_bytes()
            for point, name in (("put.half", f"{key}#1"), ("put.torn", key)):
                torn = Path(f"{store.prefix}/{name}")
                if not torn.exists():
                    torn.parent.mkdir(parents=True, exist_ok=True)
                    torn.write_bytes(whole[: len(whole) // 2])
                    self.at(point)
                    torn.unlink()
        return obstore.put(store, key, content, **options)


# The workers ------------------------------------------------------------------------------------------------


class _Nursery:
    """In the place of `subprocess`: what would be started is forked, by the hatchery."""

    DEVNULL = subprocess.DEVNULL

    def __init__(self, address: bytes) -> None:
        self._address = address

    def Popen(self, argv: list[str], *, pass_fds: list[int], **_options: Any) -> "_Hatched":  # noqa: N802
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
            line.connect(self._address)
            socket.send_fds(line, [argv[-1].encode()], pass_fds)
            return _Hatched(os.pidfd_open(int(line.recv(32))))


class _Hatched:
    def __init__(self, process: int) -> None:
        self._process = process
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._process], [], [], 0)[0]:
            self.returncode = 0  # how it ended, its parent knows
        return self.returncode

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)

    def wait(self) -> None:
        if self.returncode is None:
            select.select([self._process], [], [])
            os.close(self._process)
            self.returncode = 0


def _hatched() -> bytes:
    """Start the hatchery; where it listens."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"\0countersign-tests-{os.getpid()}")
    listener.listen(64)
    with listener:
        if os.fork() == 0:
            _hatchery(listener)
        return cast("bytes", listener.getsockname())


def _hatchery(listener: socket.socket) -> NoReturn:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it ends with the launcher
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(nothing, stream)
    faces._engine()
    writing._reader()
    frames._open_nsfw()
    while True:
        line, _ = listener.accept()
        with line:
            order, fds, _, _ = socket.recv_fds(line, 1 << 16, 2)
            if (pid := os.fork()) == 0:
                listener.close()
                line.close()
                _work(json.loads(order), *fds)
            line.send(str(pid).encode())
            for fd in fds:
                os.close(fd)


def _work(order: dict[str, Any], line: int, life: int) -> NoReturn:
    """In the fork: be a worker, as `python -m ledger.workers` is. Never returns."""
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(1, 2)
        workers._bound(life, order["memory_mb"])
        workers._serve(
            socket.socket(fileno=line), None if order["sandbox"] is None else Sandbox(**order["sandbox"])
        )
    finally:
        os._exit(0)


# The services -----------------------------------------------------------------------------------------------


def _serve(order: dict[str, Any]) -> NoReturn:
    """In the fork: become the service. Never returns."""
    code = 1
    try:
        os.environ.update(order["env"])
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        settings = Settings()
        vars(gateway.service)["ReferenceRenderer"] = StillClip
        _create_keys(settings, order["keys"])
        ahead = timedelta(seconds=order["ahead_s"])
        vars(gateway.serve)["open_service"] = partial(
            gateway.service.open_service, clock=lambda: gateway.service.now() + ahead
        )
        vars(safety.workers)["shared"] = lru_cache(maxsize=1)(partial(safety.workers.Workers, 1))
        vars(workers)["subprocess"] = _Nursery(order["hatchery"])
        if not order["examines"]:
            vars(enrolment)["looked_at"] = _fine
        if order["death"]:
            watch(Path(order["death"]))
        gateway.serve.run(settings)
        code = 0
    except BaseException:  # noqa: BLE001 — into the log; then this fork must end, not go on reading commands
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _create_keys(settings: Settings, wanted: dict[access.Role, dict[str, str]]) -> None:
    path = settings.home / "keys.json"
    if path.exists() or not wanted:
        return
    with gateway.service.open_service(settings) as service:
        made = {
            name: dict(
                zip(("key", "holder"), access.create_key(service, role, name, public_key=public), strict=True)
            )
            for role, names in wanted.items()
            for name, public in names.items()
        }
    path.write_text(json.dumps(made))


def main() -> None:
    running: set[int] = set()
    hatchery = _hatched()
    prompt.warm()
    for line in sys.stdin:
        command = json.loads(line)
        if "wait" in command:
            _, status = os.waitpid(command["wait"], 0)
            running.discard(command["wait"])
            answer = {"exit": os.waitstatus_to_exitcode(status)}
        else:
            if threading.active_count() != 1:
                raise RuntimeError("a fork would lose a thread")
            if (pid := os.fork()) == 0:
                _serve(command["start"] | {"hatchery": hatchery})
            running.add(pid)
            answer = {"pid": pid}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    for pid in running:  # whoever asked is gone; what they left running ends too
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
