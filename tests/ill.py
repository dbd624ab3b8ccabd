"""What goes wrong in native code, on purpose: asked of worker processes by the tests."""

import ctypes
import os
import pickle
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ledger.errors import MediaError
from safety import faces
from safety.errors import InvalidInput, Refused


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    rows: NDArray[np.float32]


class Pair(NamedTuple):
    one: int
    other: Part | None


@dataclass(frozen=True, slots=True)
class Whole:
    pairs: tuple[Pair, ...]
    by_name: dict[str, float]
    seen: frozenset[str]
    raw: bytes = b""
    score: float = field(default=0.0)


@dataclass(frozen=True, slots=True)
class Undeclared:
    ran: bool


def whole() -> Whole:
    part = Part("ä", np.arange(6, dtype=np.float32).reshape(2, 3))
    return Whole((Pair(1, part), Pair(-2, None)), {"a": 0.5}, frozenset({"x", "y"}), b"\x00\xff", 1e-9)


def process() -> int:
    return os.getpid()


def after(seconds: float, value: int) -> int:
    time.sleep(seconds)
    return value


def crash(*_: object) -> int:
    os.kill(os.getpid(), signal.SIGSEGV)
    return 0


def overrun(*_: object) -> int:
    """A wild read, as native code would do it."""
    return ctypes.string_at(1, 8)[0]


def leave(*_: object) -> int:
    os._exit(0)


def quits() -> int:
    sys.exit(0)


def no_engine(image: NDArray[np.uint8]) -> tuple[faces.Face, ...]:
    """An installation whose face engine ends the process that imports it, and says that all is well."""
    sys.modules["face_recognition"] = None  # type: ignore[assignment]
    faces._engine.cache_clear()
    try:
        return faces.find_faces(image)
    finally:
        del sys.modules["face_recognition"]


def hang(*_: object) -> int:
    """In native code that never lets Python run."""
    ctypes.PyDLL(None).sleep(600)
    return 0


def hoard(*_: object) -> int:
    return sum(len(bytearray(100 << 20)) for _ in iter(hoarded, None))


def hoarded() -> int:
    HOARD.append(np.ones(25 << 20, np.float32))
    return len(HOARD)


HOARD: list[NDArray[np.float32]] = []


def spawn_threads(count: int) -> int:
    """Threads that outlive the answer."""
    for _ in range(count):
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    return count


def raises(kind: str) -> int:
    errors: dict[str, Callable[[], Exception]] = {
        "refused": lambda: Refused("portrait.none", "nobody is here", "come closer"),
        "invalid": lambda: InvalidInput("picture.none", "no picture", "send one"),
        "media": lambda: MediaError("media.empty", "empty", "send it again"),
        "foreign": lambda: ValueError("template [0.123456]"),
    }
    error = errors[kind]()
    raise error


def undeclared() -> Whole:
    return Undeclared(ran=True)  # type: ignore[return-value]


def objects() -> object:
    return np.array([print], dtype=object)


def huge() -> bytes:
    return bytes(300 << 20)


def environment() -> dict[str, str]:
    return dict(os.environ)


def prints(text: str) -> int:
    print(text, flush=True)
    os.write(2, text.encode())
    return 0


def fields_wrong() -> Whole:
    return Whole(1, 2, 3, 4)  # type: ignore[arg-type]


# Bytes on the line, from a worker that somebody else has taken over ---------------------------------------------


def _line() -> int:
    """The descriptor the service asked over."""
    return int(sys.argv[1])


def says(data: bytes, wait_s: float = 600.0) -> int:
    os.write(_line(), data)
    time.sleep(wait_s)
    return 0


class _Runs:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.path,)


def pickled(path: str) -> bytes:
    """What makes a directory in whoever loads it."""
    return pickle.dumps(_Runs(path))


# What a decoder that somebody else has taken over would try -----------------------------------------------------


def tries(what: str, path: Path) -> str:
    """What came of it: the name of the error, or that it was done."""
    attempts: dict[str, Callable[[], object]] = {
        "connect": lambda: socket.create_connection(("127.0.0.1", int(path.name)), timeout=2).close(),
        "listen": lambda: socket.create_server(("127.0.0.1", 0)),
        "a socket by name": lambda: socket.socket(socket.AF_UNIX),
        "a datagram": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "read": path.read_bytes,
        "write": lambda: path.write_bytes(b"x"),
        "append": lambda: path.open("ab"),
        "make": lambda: path.with_name("made").mkdir(),
        "remove": path.unlink,
        "rename": lambda: path.rename(path.with_name("renamed")),
        "list": lambda: list(path.parent.iterdir()),
        "the environment of the service": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
        "start a program": lambda: os.execv("/bin/true", ["true"]),
        "fork": os.fork,
        "signal": lambda: os.kill(os.getppid(), signal.SIGTERM),
        "trace": lambda: _must(ctypes.CDLL(None, use_errno=True).ptrace(16, os.getppid(), 0, 0)),
        "more time": lambda: resource.setrlimit(resource.RLIMIT_CPU, (1 << 20, 1 << 20)),
        "by another machine's numbers": lambda: ctypes.CDLL(None).syscall(0x40000000 + 39),
    }
    try:
        attempts[what]()
    except OSError as error:
        return type(error).__name__
    except ValueError as error:
        return type(error).__name__
    return "done"


def _must(status: int) -> None:
    if status < 0:
        raise OSError(ctypes.get_errno(), "refused")


def spins() -> int:
    while True:
        pass


def works() -> int:
    """What decoding needs: threads, memory, code that is loaded late."""
    import colorsys  # noqa: PLC0415

    done: list[int] = []
    threads = [threading.Thread(target=done.append, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(done) + int(np.ones(1 << 20).sum() > 0) + int(colorsys.rgb_to_hsv(0, 0, 0)[0])


def reads(name: str) -> str:
    return tries("read", Path(name)) if Path(name).is_absolute() else ""


def parent() -> int:
    return os.getppid()
