"""Native code in processes of its own: what looks at pictures and listens to sound runs there, never in the service.

Two kinds. **Kept** workers hold weights, and answer question after question. **Closed** ones (`sandbox`) fork for each
question, and the fork is closed in (:mod:`ledger.sandbox`): no network, no writing, nothing to read but the files it was
asked about. They are for what strangers send.

Guarantees

- A crash, a hang or a runaway memory of native code ends its worker, and the one question it was asked: that raises
  :class:`~ledger.errors.Unavailable` (in :mod:`safety.workers`, `CheckUnavailable`), which denies; in a closed worker
  MediaError, for it is the file that did it. The next question finds a fresh worker.
- A worker's memory (`memory_mb`), the time for one answer and the size of it are bounded. No answer is ever taken for
  that of another question: a worker that did not give its answer, whole and in time, is never asked again.
- It ends with the service: at once where the system tells it (Linux), and at the latest when the time for its answer
  is over, even inside native code that never returns.
- What comes back is data. A worker that a hostile file has taken over can answer wrongly, for as long as it lives
  (:data:`MOST_ANSWERS`; a closed one for that file only); it can not make the service run anything, nor build anything but numbers, text, arrays and
  the dataclasses and tuples that the function it was asked for declares to return. It never holds the service's
  environment, but runs as the same user: what that user may read, it may read, unless it is closed.
- Nothing it prints is kept, and nothing of a question or an answer is ever written to a log.

    Workers(2, sandbox=Sandbox()).call(look, path, limits, anchors)

The function is named by module and name, so it has to stand at the top of a module. A closed worker may read each
`Path` among its arguments, and nothing else. What it raises of the trees in :attr:`Workers.trees` is raised here
again; anything else is `check.failed`.

On the line, each way: u64 length ‖ body. A question is a pickle, from the service, which the worker trusts. An answer
is u32 length ‖ JSON ‖ the bytes of its arrays, one after the other; see :func:`_packed`.
"""

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
from dataclasses import asdict, dataclass, fields, is_dataclass
from datetime import datetime
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from select import select
from typing import Any, ClassVar, Final, Protocol, TypeVar, cast, get_args, get_type_hints

import numpy as np

from ledger.errors import LedgerError, MediaError, Unavailable, Violation
from ledger.reasons import Reason
from ledger.sandbox import Sandbox, enter

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
_GRACE_S: Final = 3.0
"""How much later than a closed worker the service gives up: so that it can say what became of the file."""
_ENVIRONMENT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
_LENGTH: Final = struct.Struct(">Q")
_HEAD: Final = struct.Struct(">I")
_KINDS: Final = frozenset("biuf")
"""Of arrays: truth, whole numbers and fractions. No objects."""
_log = logging.getLogger(__name__)


class Refusal(Protocol):
    """What every exception of ours is made of."""

    def __call__(self, reason_id: str, sentence: str, remedy: str, /) -> Exception: ...


class Workers:
    """At most `count` at once; more questions wait their turn. Thread-safe. Started when they are first needed.

    `sandbox`: each question is answered by a process of its own, closed in so.
    """

    unavailable: ClassVar[Refusal] = Unavailable
    """What is raised where there is no answer."""
    trees: ClassVar[tuple[type[Exception], ...]] = (LedgerError,)
    """What a function may raise: these and what is derived from them."""

    def __init__(
        self, count: int | None = None, *, memory_mb: int = MEMORY_MB, sandbox: Sandbox | None = None
    ) -> None:
        self.count = count or max(1, min(4, os.cpu_count() or 1))
        self.order = _Order(memory_mb, None if sandbox is None else asdict(sandbox))
        self._starting = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._running: set[_Worker] = set()
        self._free: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(self.count):
            self._free.put(None)

    def call(self, function: Callable[..., T], /, *args: Any, timeout_s: float = TIMEOUT_S) -> T:
        """What the function answers. Raises `unavailable` where there is no answer, or what it raised."""
        self._after_a_fork()
        try:
            worker = self._free.get(timeout=WAIT_S)
        except queue.Empty:
            raise self.unavailable(
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
            worker = _Worker(self.order, self.unavailable, _kinds(self.trees))
        except OSError as error:
            raise self.unavailable(
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


@dataclass(frozen=True, slots=True)
class _Order:
    """How a worker is to be started."""

    memory_mb: int
    sandbox: dict[str, Any] | None = None


class _Worker:
    """One process, and the line to it. Asked by one thread at a time."""

    def __init__(self, order: _Order, unavailable: Refusal, kinds: dict[str, type[Exception]]) -> None:
        ours, theirs = socket.socketpair()
        # Nothing is ever written to the second pair. The worker is told when our end of it is gone.
        self._life, life = socket.socketpair()
        kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        with theirs, life:
            self._process = subprocess.Popen(  # noqa: S603 — our own interpreter, and this module
                [
                    *(sys.executable, "-P", "-m", "ledger.workers"),
                    *(str(theirs.fileno()), str(life.fileno()), json.dumps(asdict(order))),
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
                    "OPENCV_FOR_THREADS_NUM": "1",
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                },
            )
        self._line = ours
        self.unavailable, self._kinds = unavailable, kinds
        self._grace_s = _GRACE_S if order.sandbox else 0.0
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
            deadline = time.monotonic() + timeout_s + self._grace_s
            self._send(question, deadline)
            answer = _unpacked(self._received(deadline), types)
        except Exception as error:  # noqa: BLE001 — a lying worker may make it any
            self.close()
            _log.warning(
                "a worker was lost at %s: %s, exit %s", name, type(error).__name__, self._process.returncode
            )
            raise self.unavailable(
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
            case ("refused", str(kind), str(reason), str(sentence), str(remedy)) if kind in self._kinds:
                # They are shown to whoever asked.
                if all(one.isprintable() and len(one) <= 1_000 for one in (reason, sentence, remedy)):
                    raise self._kinds[kind](reason, sentence, remedy)
            case ("failed", str(kind)):
                _log.warning("a check failed at %s: %s", name, kind[:80] if kind.isidentifier() else "?")
        # Whatever it was, it is not known what it left behind.
        self._lost = True
        raise self.unavailable(
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


@lru_cache(maxsize=8)
def _kinds(trees: tuple[type[Exception], ...]) -> dict[str, type[Exception]]:
    """Every exception of these trees by its name, but the one that carries a log's evidence."""
    found: dict[str, type[Exception]] = {}
    left = list(trees)
    while left:
        one = left.pop()
        found[one.__name__] = one
        left += one.__subclasses__()
    return {name: kind for name, kind in found.items() if kind is not Violation}


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
    named tuple is `["o", "module:name", field, …]`; `["w", …]` is a moment, `["r", above, below]` a ratio. Of bytes
    and arrays, their type and shape.
    """
    blobs: list[bytes] = []
    head = json.dumps(_plain(answer, blobs)).encode()
    return [_HEAD.pack(len(head)), head, *blobs]


def _plain(value: object, blobs: list[bytes]) -> object:  # noqa: C901, PLR0911 — one for each kind of data
    match value:
        case None | bool() | str():
            return value
        case int() | np.integer():
            return int(value)
        case float() | np.floating():
            return float(value)
        case datetime():
            return ["w", value.isoformat()]
        case Fraction():
            return ["r", value.numerator, value.denominator]
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


def _value(  # noqa: PLR0911 — one for each kind of data
    plain: object, blobs: memoryview, types: dict[str, type]
) -> tuple[Any, memoryview]:
    """The value, and the bytes that are left. Raises whatever a malformed answer makes it raise."""
    match plain:
        case None | bool() | int() | float() | str():
            return plain, blobs
        case ["b", int(length)]:
            return bytes(_piece(blobs, length)), blobs[length:]
        case ["w", str(moment)]:
            return datetime.fromisoformat(moment), blobs
        case ["r", int(above), int(below)]:
            return Fraction(above, below), blobs
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
        return _packed(("answer", _called(name, args))), True
    except (Exception, SystemExit) as error:  # noqa: BLE001 — whatever it was, the answer is that there is none
        return _packed(_failure(error)), isinstance(getattr(error, "reason", None), Reason)


def _called(name: str, args: tuple[Any, ...]) -> object:
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)(*args)


def _failure(error: BaseException) -> tuple[str, ...]:
    reason = getattr(error, "reason", None)
    if isinstance(reason, Reason):
        return "refused", type(error).__name__, reason.id, reason.sentence, reason.remedy
    # Its name only: what an error says may quote what it was about.
    return "failed", type(error).__name__


def _serve(line: socket.socket, sandbox: Sandbox | None) -> None:
    sound = True
    while sound:
        try:
            (length,) = _LENGTH.unpack(_read(line, _LENGTH.size))
            name, args, timeout_s = pickle.loads(_read(line, length))  # noqa: S301 — the service's own question
        except (EOFError, OSError):
            return
        # The system's own answer to it ends the process, whatever native code it is in.
        signal.setitimer(signal.ITIMER_REAL, timeout_s + 1 + (_GRACE_S if sandbox else 0))
        pieces, sound = (
            _answered(name, args) if sandbox is None else _enclosed(name, args, timeout_s, sandbox)
        )
        with suppress(OSError):
            line.sendall(_LENGTH.pack(sum(map(len, pieces))))
            for piece in pieces:
                line.sendall(piece)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _enclosed(
    name: str, args: tuple[Any, ...], timeout_s: float, sandbox: Sandbox
) -> tuple[list[bytes], bool]:
    """The answer of a process that lives for this question alone, and is gone before its answer is passed on."""
    with suppress(Exception):  # what can not be loaded is told by the one that needs it
        importlib.import_module(name.partition(":")[0])  # once for all of them, and it is code of ours
    taking, giving = os.pipe()
    child = os.fork()
    if child == 0:
        _alone(giving, name, args, sandbox)
    os.close(giving)
    words = _CRASHED
    try:
        answer = _taken(taking, time.monotonic() + timeout_s)
    except TimeoutError:
        answer, words = None, _COSTLY
    finally:
        os.close(taking)
        # INVARIANT: nothing of it is left that could answer, or read, the next question.
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if answer is not None:
        return [answer], True
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in {signal.SIGXCPU, signal.SIGKILL}:
        words = _COSTLY
    return _packed(("refused", MediaError.__name__, *words)), True


_COSTLY: Final = (
    "media.costly",
    "looking at this file took longer, or more, than anybody's file may",
    "export the clip again, or send a shorter one",
)
_CRASHED: Final = (
    "media.crashed",
    "the program that reads videos breaks off at this file",
    "export the clip again with another program",
)


def _alone(giving: int, name: str, args: tuple[Any, ...], sandbox: Sandbox) -> None:
    """In the fork: close in, answer, end. Never returns."""
    try:
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.closerange(3, giving)
        os.closerange(giving + 1, 1 << 16)
        enter(sandbox, (one for one in args if isinstance(one, Path) and one.exists()))
        pieces = _packed(("answer", _called(name, args)))
    except MemoryError:
        pieces = _packed(("refused", MediaError.__name__, *_COSTLY))
    except BaseException as error:  # noqa: BLE001 — the fork ends here, whatever it was
        pieces = _packed(_failure(error))
    with suppress(BaseException):
        whole = memoryview(_LENGTH.pack(sum(map(len, pieces))) + b"".join(pieces))
        while whole:
            whole = whole[os.write(giving, whole) :]
    os._exit(0)


def _taken(taking: int, deadline: float) -> bytes | None:
    """The answer; None where it ends before it is whole, or is too long. Raises TimeoutError."""
    taken = bytearray()
    while True:
        if not select([taking], [], [], _left(deadline))[0]:
            raise TimeoutError
        piece = os.read(taking, 1 << 20)
        if not piece:
            return None
        taken += piece
        if len(taken) < _LENGTH.size:
            continue
        (length,) = _LENGTH.unpack_from(taken)
        if length > ANSWER_BYTES:
            return None
        if len(taken) >= _LENGTH.size + length:
            return bytes(taken[_LENGTH.size : _LENGTH.size + length])


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
    asked = _Order(**json.loads(sys.argv[3]))
    _bound(int(sys.argv[2]), asked.memory_mb)
    _serve(
        socket.socket(fileno=int(sys.argv[1])), None if asked.sandbox is None else Sandbox(**asked.sandbox)
    )
