"""Native code in processes of its own: what looks at pictures and listens to sound runs there, never in the service.

Guarantees

- A crash, a hang or a runaway memory of native code ends its worker, and the one question it was asked: that raises
  :class:`CheckUnavailable`, which denies. The next question finds a fresh worker.
- A worker's memory (`memory_mb`), the time for one answer and the size of it are bounded. No answer is ever taken for
  that of another question: a worker that did not give its answer, whole and in time, is never asked again.
- It ends with the service: at once where the system tells it (Linux), and at the latest when the time for its answer
  is over, even inside native code that never returns.
- What comes back is data. A worker that a hostile file has taken over can answer wrongly, for as long as it lives
  (:data:`MOST_ANSWERS`); it can not make the service run anything, nor build anything but numbers, text, arrays and
  the dataclasses and tuples that the function it was asked for declares to return. It never holds the service's
  environment, but runs as the same user: what that user may read, it may read.
- Nothing it prints is kept, and nothing of a question or an answer is ever written to a log.

    workers.shared().call(faces.find_faces, picture)

The function is named by module and name, so it has to stand at the top of a module. What it raises of
:mod:`safety.errors` and :mod:`ledger.errors` is raised here again; anything else is `check.failed`.

On the line, each way: u64 length ‖ body. A question is a pickle, from the service, which the worker trusts. An answer
is u32 length ‖ JSON ‖ the bytes of its arrays, one after the other; see :func:`_packed`.
"""

import atexit
import fcntl
import importlib
import json
import logging
import math
import os
import pickle
import queue
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, Final, ParamSpec, TypeVar, cast, get_args, get_type_hints

import numpy as np

from ledger import errors as ledger_errors
from ledger.errors import LedgerError
from safety import errors as safety_errors
from safety.errors import CheckUnavailable, SafetyError

P = ParamSpec("P")
T = TypeVar("T")
TIMEOUT_S: Final = 60.0
WAIT_S: Final = 120.0
"""How long a question waits for a worker to be free."""
MEMORY_MB: Final = 3_000
ANSWER_BYTES: Final = 256 << 20
"""The largest picture that is accepted has 120 million bytes."""
HEAD_BYTES: Final = 8 << 20
"""Of that, what is no array: as objects it takes many times its bytes."""
MOST_ANSWERS: Final = 1_000
"""After so many a worker is replaced: what leaked into it, or took it over, does not stay."""
_ENVIRONMENT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
_LENGTH: Final = struct.Struct(">Q")
_HEAD: Final = struct.Struct(">I")
_KINDS: Final = frozenset("biuf")
"""Of arrays: truth, whole numbers and fractions. No objects."""
_log = logging.getLogger(__name__)


class Workers:
    """At most `count` at once; more questions wait their turn. Thread-safe. Started when they are first needed."""

    def __init__(self, count: int | None = None, *, memory_mb: int = MEMORY_MB) -> None:
        self.count = count or max(1, min(4, os.cpu_count() or 1))
        self.memory_mb = memory_mb
        self._starting = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._running: set[_Worker] = set()
        self._free: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(self.count):
            self._free.put(None)

    def call(self, function: Callable[..., T], /, *args: Any, timeout_s: float = TIMEOUT_S) -> T:
        """What the function answers. Raises CheckUnavailable where there is no answer, or what it raised."""
        self._after_a_fork()
        try:
            worker = self._free.get(timeout=WAIT_S)
        except queue.Empty:
            raise CheckUnavailable(
                "check.busy", "too much is waiting to be looked at", "try again in a few minutes"
            ) from None
        try:
            if worker is None or not worker.fit:
                self._end(worker)
                worker = None  # should the next one not start
                worker = self._start()
            return cast("T", worker.ask(function, args, timeout_s))
        finally:
            if worker is not None and not worker.fit:
                self._end(worker)
                worker = None
            self._free.put(worker)

    def map(
        self, function: Callable[..., T], each: Iterable[tuple[Any, ...]], *, timeout_s: float = TIMEOUT_S
    ) -> list[T]:
        """The answers in order, asked side by side. Raises what the first of them raised."""
        return list(self.flow(function, each, timeout_s=timeout_s))

    def flow(
        self, function: Callable[..., T], each: Iterable[tuple[Any, ...]], *, timeout_s: float = TIMEOUT_S
    ) -> Iterator[T]:
        """As :meth:`map`, one after the other. Takes no more of `each` than are under way, and one.

        Raises what the first of them raised; those after it are not asked.
        """
        under_way: deque[Future[T]] = deque()
        with ThreadPoolExecutor(self.count, thread_name_prefix="asking") as threads:
            try:
                for args in each:
                    under_way.append(threads.submit(self.call, function, *args, timeout_s=timeout_s))
                    if len(under_way) > self.count:
                        yield under_way.popleft().result()
                while under_way:
                    yield under_way.popleft().result()
            finally:
                threads.shutdown(wait=True, cancel_futures=True)

    def close(self) -> None:
        """End those that run, whatever they are at: who waits for them is refused. A later question starts others."""
        if self._process == os.getpid():
            for worker in tuple(self._running):
                self._end(worker)

    def _start(self) -> "_Worker":
        try:
            worker = _Worker(self.memory_mb)
        except OSError as error:
            raise CheckUnavailable(
                "check.lost", "a check could not be started", "try again later; what was asked is refused"
            ) from error
        self._running.add(worker)
        return worker

    def _end(self, worker: "_Worker | None") -> None:
        if worker is not None:
            self._running.discard(worker)
            worker.close()

    def _after_a_fork(self) -> None:
        # Two processes at one line would read each other's answers; and those workers are not ours to end.
        with self._starting:
            if self._process != os.getpid():
                _INHERITED.append(self._running)
                self._begin()


_INHERITED: Final[list[set["_Worker"]]] = []
"""Held for ever, so that nothing waits for processes that are not this one's children."""


@lru_cache(maxsize=1)
def shared() -> Workers:
    """Those of this process."""
    workers = Workers()
    atexit.register(workers.close)
    return workers


class _Worker:
    """One process, and the line to it. Asked by one thread at a time."""

    def __init__(self, memory_mb: int) -> None:
        ours, theirs = socket.socketpair()
        # Nothing is ever written to the second pair. The worker is told when our end of it is gone.
        self._life, life = socket.socketpair()
        kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        with theirs, life:
            self._process = subprocess.Popen(  # noqa: S603 — our own interpreter, and this module
                [
                    *(sys.executable, "-P", "-m", "safety.workers"),
                    *(str(theirs.fileno()), str(life.fileno()), str(memory_mb)),
                ],
                pass_fds=[theirs.fileno(), life.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # native code prints what it was given, and what it heard
                start_new_session=True,  # a Ctrl-C ends the service, which then ends its workers
                env={
                    **kept,
                    "OMP_NUM_THREADS": "1",
                    "OPENBLAS_NUM_THREADS": "1",
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                },
            )
        self._line = ours
        self._lost = False
        self._answers = 0

    @property
    def fit(self) -> bool:
        return not self._lost and self._answers < MOST_ANSWERS and self._process.poll() is None

    def ask(self, function: Callable[..., object], args: tuple[Any, ...], timeout_s: float) -> object:
        name = f"{function.__module__}:{function.__qualname__}"
        types = _types(function)
        question = pickle.dumps((name, args, timeout_s))
        # INVARIANT: until the whole answer is here, whatever stops this thread leaves the worker unfit.
        self._lost = True
        try:
            deadline = time.monotonic() + timeout_s
            self._send(question, deadline)
            answer = _unpacked(self._received(deadline), types)
        except Exception as error:  # noqa: BLE001 — a lying worker may make it any
            self.close()
            _log.warning(
                "a worker was lost at %s: %s, exit %s", name, type(error).__name__, self._process.returncode
            )
            raise CheckUnavailable(
                "check.lost",
                "a check crashed or did not answer in time",
                "try again; what was asked is refused",
            ) from None  # the cause may quote what came
        self._lost = False
        self._answers += 1
        return self._said(name, answer)

    def _said(self, name: str, answer: object) -> object:
        match answer:
            case ("answer", value):
                return value
            case ("refused", str(kind), str(reason), str(sentence), str(remedy)) if kind in _ERRORS:
                # They are shown to whoever asked.
                if all(one.isprintable() and len(one) <= 1_000 for one in (reason, sentence, remedy)):
                    raise _ERRORS[kind](reason, sentence, remedy)
            case ("failed", str(kind)):
                _log.warning("a check failed at %s: %s", name, kind[:80] if kind.isidentifier() else "?")
        # Whatever it was, it is not known what it left behind.
        self._lost = True
        raise CheckUnavailable(
            "check.failed", "a check could not be made", "try again; what was asked is refused"
        )

    def _send(self, question: bytes, deadline: float) -> None:
        self._line.settimeout(_left(deadline))
        self._line.sendall(_LENGTH.pack(len(question)))
        self._line.settimeout(_left(deadline))
        self._line.sendall(question)

    def _received(self, deadline: float) -> memoryview:
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size, deadline))
        if length > ANSWER_BYTES:
            raise ValueError("too long")
        return self._exactly(length, deadline)

    def _exactly(self, length: int, deadline: float) -> memoryview:
        # Taken in pieces: a length that is a lie costs no memory.
        taken = bytearray()
        while len(taken) < length:
            self._line.settimeout(_left(deadline))
            piece = self._line.recv(min(length - len(taken), 1 << 20))
            if not piece:
                raise EOFError
            taken += piece
        return memoryview(taken)

    def close(self) -> None:
        self._lost = True
        self._process.kill()
        self._process.wait()
        for end in (self._line, self._life):
            with suppress(OSError):
                end.close()


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


_ERRORS: Final = {
    found.__name__: found
    for module in (safety_errors, ledger_errors)
    for found in vars(module).values()
    if isinstance(found, type)
    and issubclass(found, (SafetyError, LedgerError))
    and found is not ledger_errors.Violation  # which carries a log's evidence
}


# Answers ----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _types(function: Callable[..., object]) -> dict[str, type]:
    """The dataclasses and named tuples that a function declares to return, by module and name."""
    found: dict[str, type] = {}
    asked = [get_type_hints(function).get("return")]
    while asked:
        one = asked.pop()
        asked += get_args(one)
        if isinstance(one, type) and (is_dataclass(one) or hasattr(one, "_fields")):
            name = _name(one)
            if name not in found:
                found[name] = one
                asked += get_type_hints(one).values()
    return found


def _name(one: type) -> str:
    return f"{one.__module__}:{one.__qualname__}"


def _packed(answer: object) -> list[bytes]:
    """An answer as it goes over the line, in pieces. Raises TypeError for what is no data.

    JSON for numbers, text, truth and nothing; a list is `["l", …]`, other collections likewise, and a dataclass or
    named tuple is `["o", "module:name", field, …]`. Of bytes and arrays, their type and shape.
    """
    blobs: list[bytes] = []
    head = json.dumps(_plain(answer, blobs)).encode()
    return [_HEAD.pack(len(head)), head, *blobs]


def _plain(value: object, blobs: list[bytes]) -> object:  # noqa: PLR0911 — one for each kind of data
    match value:
        case None | bool() | str():
            return value
        case int() | np.integer():
            return int(value)
        case float() | np.floating():
            return float(value)
        case bytes():
            blobs.append(value)
            return ["b", len(value)]
        case np.ndarray() if value.dtype.kind in _KINDS:
            blobs.append(np.ascontiguousarray(value).tobytes())
            return ["a", value.dtype.str, *value.shape]
        case dict():
            return ["d", *(_plain(part, blobs) for item in value.items() for part in item)]
        case list() | frozenset() | set():
            return [type(value).__name__[0], *(_plain(part, blobs) for part in value)]
        case tuple():
            kind = ["o", _name(type(value))] if hasattr(value, "_fields") else ["t"]
            return [*kind, *(_plain(part, blobs) for part in value)]
        case _ if is_dataclass(value) and not isinstance(value, type):
            return ["o", _name(type(value)), *(_plain(getattr(value, f.name), blobs) for f in fields(value))]
    raise TypeError(f"`{type(value).__name__}` is no data")


def _unpacked(data: memoryview, types: dict[str, type]) -> object:
    (length,) = _HEAD.unpack_from(data)
    if length > HEAD_BYTES:
        raise ValueError("more than any answer says")
    blobs = data[_HEAD.size + length :]
    answer, rest = _value(json.loads(bytes(data[_HEAD.size : _HEAD.size + length])), blobs, types)
    if len(rest):
        raise ValueError("bytes of no array")
    return answer


def _value(plain: object, blobs: memoryview, types: dict[str, type]) -> tuple[Any, memoryview]:
    """The value, and the bytes that are left. Raises whatever a malformed answer makes it raise."""
    match plain:
        case None | bool() | int() | float() | str():
            return plain, blobs
        case ["b", int(length)]:
            return bytes(_piece(blobs, length)), blobs[length:]
        case ["a", str(kind), *shape]:
            dtype, sides = np.dtype(kind), [int(side) for side in cast("list[int]", shape)]
            if dtype.kind not in _KINDS or min(sides, default=0) < 0:
                raise ValueError("no array of numbers")
            length = dtype.itemsize * math.prod(sides)
            return np.frombuffer(_piece(blobs, length), dtype).reshape(sides).copy(), blobs[length:]
        case ["o", str(name), *parts]:
            values, blobs = _values(parts, blobs, types)
            return types[name](*values), blobs
        case [str(kind), *parts]:
            values, blobs = _values(parts, blobs, types)
            return _COLLECTIONS[kind](values), blobs
    raise ValueError("no data")


def _values(parts: list[object], blobs: memoryview, types: dict[str, type]) -> tuple[list[Any], memoryview]:
    values = []
    for part in parts:
        value, blobs = _value(part, blobs, types)
        values.append(value)
    return values, blobs


def _piece(blobs: memoryview, length: int) -> memoryview:
    if not 0 <= length <= len(blobs):
        raise ValueError("an array of bytes that are not there")
    return blobs[:length]


_COLLECTIONS: Final[dict[str, Callable[[list[Any]], object]]] = {
    "t": tuple,
    "l": list,
    "f": frozenset,
    "s": set,
    "d": lambda values: dict(zip(values[::2], values[1::2], strict=True)),
}


# Inside a worker --------------------------------------------------------------------------------------------


def _answered(name: str, args: tuple[Any, ...]) -> tuple[list[bytes], bool]:
    """The answer, and whether this worker is still as it was."""
    try:
        module, _, function = name.partition(":")
        value = getattr(importlib.import_module(module), function)(*args)
        return _packed(("answer", value)), True
    except (SafetyError, LedgerError) as error:
        reason = error.reason
        return _packed(("refused", type(error).__name__, reason.id, str(error), reason.remedy)), True
    except (Exception, SystemExit) as error:  # noqa: BLE001 — whatever it was, the answer is that there is none
        # Its name only: what an error says may quote what it was about.
        return _packed(("failed", type(error).__name__)), False


def _serve(line: socket.socket) -> None:
    sound = True
    while sound:
        try:
            (length,) = _LENGTH.unpack(_read(line, _LENGTH.size))
            name, args, timeout_s = pickle.loads(_read(line, length))  # noqa: S301 — the service's own question
        except (EOFError, OSError):
            return
        # The system's own answer to it ends the process, whatever native code it is in.
        signal.setitimer(signal.ITIMER_REAL, timeout_s + 1)
        pieces, sound = _answered(name, args)
        with suppress(OSError):
            line.sendall(_LENGTH.pack(sum(map(len, pieces))))
            for piece in pieces:
                line.sendall(piece)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _read(line: socket.socket, length: int) -> bytearray:
    taken = bytearray(length)
    view = memoryview(taken)
    while view:
        count = line.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    return taken


def _bound(life: int, memory_mb: int) -> None:
    # Data, not addresses: the libraries here reserve far more of those than they ever use.
    resource.setrlimit(resource.RLIMIT_DATA, (memory_mb << 20, memory_mb << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold faces
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(life, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)


if __name__ == "__main__":
    _bound(int(sys.argv[2]), int(sys.argv[3]))
    _serve(socket.socket(fileno=int(sys.argv[1])))
