"""Native code in processes of its own: what looks at pictures and listens to sound runs there, never in the service.

Guarantees

- A crash, a hang or a runaway memory of native code ends its worker, and the one question it was asked: that raises
  :class:`CheckUnavailable`, which denies. The next question finds a fresh worker.
- A worker's memory (`memory_mb`) and the time for one answer are bounded; it dies with the service.
- What comes back is data. A worker that a hostile file has taken over can answer wrongly; it can not make the service
  run anything (:class:`_Plain`).

    workers.call(faces.find_faces, picture)

The function is named by module and name, so it has to stand at the top of a module of this project. What it raises of
:mod:`safety.errors` and :mod:`ledger.errors` is raised here again; anything else is `check.failed`.
"""

import atexit
import importlib
import io
import logging
import os
import pickle
import queue
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import is_dataclass
from functools import lru_cache
from multiprocessing.connection import Connection
from socket import socketpair
from typing import Any, Final, ParamSpec, TypeVar, cast

from ledger.errors import LedgerError
from safety.errors import CheckUnavailable, SafetyError

P = ParamSpec("P")
T = TypeVar("T")
PACKAGES: Final = ("safety.", "ledger.")
"""Where a function asked for, and the types of an answer, may stand."""
TIMEOUT_S: Final = 60.0
MEMORY_MB: Final = 3_000
_log = logging.getLogger(__name__)


class Workers:
    """At most `count` at once; more questions wait their turn. Thread-safe. Started when they are first needed."""

    def __init__(self, count: int | None = None, *, memory_mb: int = MEMORY_MB) -> None:
        self.count = count or max(1, min(4, os.cpu_count() or 1))
        self.memory_mb = memory_mb
        self._free: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(self.count):
            self._free.put(None)

    def call(self, function: Callable[..., T], /, *args: Any, timeout_s: float = TIMEOUT_S) -> T:
        """What the function answers. Raises CheckUnavailable where there is no answer, or what it raised."""
        worker = self._free.get()
        try:
            if worker is None or not worker.alive:
                worker = _Worker(self.memory_mb)
            return cast("T", worker.ask(function, args, timeout_s))
        finally:
            if worker is not None and not worker.alive:
                worker.close()
                worker = None
            self._free.put(worker)

    def map(
        self, function: Callable[..., T], each: Iterable[tuple[Any, ...]], *, timeout_s: float = TIMEOUT_S
    ) -> list[T]:
        """The answers in order, asked side by side. Raises what the first of them raised."""
        with ThreadPoolExecutor(self.count) as threads:
            waiting = [threads.submit(self.call, function, *args, timeout_s=timeout_s) for args in each]
            return [one.result() for one in waiting]

    def close(self) -> None:
        for _ in range(self.count):
            worker = self._free.get()
            if worker is not None:
                worker.close()
            self._free.put(None)


@lru_cache(maxsize=1)
def shared() -> Workers:
    """Those of this process."""
    workers = Workers()
    atexit.register(workers.close)
    return workers


class _Worker:
    def __init__(self, memory_mb: int) -> None:
        ours, theirs = socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 — our own interpreter, and this module
                [sys.executable, "-m", "safety.workers", str(theirs.fileno()), str(memory_mb)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C ends the service, which then ends its workers
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        self._line = Connection(ours.detach())
        self._lost = False

    @property
    def alive(self) -> bool:
        return not self._lost and self._process.poll() is None

    def ask(self, function: Callable[..., object], args: tuple[Any, ...], timeout_s: float) -> object:
        name = f"{function.__module__}:{function.__qualname__}"
        try:
            self._line.send((name, args))
            answer = self._answer(timeout_s)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            self._lost = True
            _log.warning("a worker was lost at %s: %s", name, type(error).__name__)
            raise CheckUnavailable(
                "check.lost",
                "a check crashed or did not answer in time",
                "try again; what was asked is refused",
            ) from error
        match answer:
            case ("answer", value):
                return value
            case ("refused", str(kind), str(reason), str(sentence), str(remedy)):
                raise _error(kind, reason, sentence, remedy)
            case _:
                raise CheckUnavailable(
                    "check.failed", "a check could not be made", "try again; what was asked is refused"
                )

    def _answer(self, timeout_s: float) -> object:
        if not self._line.poll(timeout_s):
            raise TimeoutError
        return _Plain(io.BytesIO(self._line.recv_bytes())).load()

    def close(self) -> None:
        self._lost = True
        with suppress(OSError):
            self._line.close()
        self._process.kill()
        self._process.wait()


class _Plain(pickle.Unpickler):
    """Reads data only: numbers, text, arrays, and the dataclasses and tuples of this project."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _NUMPY:
            return super().find_class(module, name)
        if module.startswith(PACKAGES) and "." not in name:
            found = super().find_class(module, name)
            if isinstance(found, type) and (is_dataclass(found) or hasattr(found, "_fields")):
                return found
        if (module, name) == ("builtins", "frozenset"):
            return frozenset
        raise pickle.UnpicklingError(f"`{module}.{name}` is no data")


_NUMPY: Final = frozenset(
    {
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy._core.numeric", "_frombuffer"),
    }
)


def _error(kind: str, reason: str, sentence: str, remedy: str) -> SafetyError | LedgerError:
    module, _, name = kind.partition(":")
    found = getattr(importlib.import_module(module), name) if module.startswith(PACKAGES) else None
    if isinstance(found, type) and issubclass(found, (SafetyError, LedgerError)):
        return found(reason, sentence, remedy)
    return CheckUnavailable(
        "check.failed", "a check could not be made", "try again; what was asked is refused"
    )


# Inside a worker --------------------------------------------------------------------------------------------


def _answered(name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    try:
        module, _, function = name.partition(":")
        return "answer", getattr(importlib.import_module(module), function)(*args)
    except (SafetyError, LedgerError) as error:
        kind = f"{type(error).__module__}:{type(error).__qualname__}"
        return "refused", kind, error.reason.id, str(error), error.reason.remedy
    except (Exception, SystemExit):  # noqa: BLE001 — whatever it was, the answer is that there is none
        _log.exception("a check failed")
        return ("failed",)


def _serve(descriptor: int, memory_mb: int) -> None:
    # Data, not addresses: the libraries here reserve far more of those than they ever use.
    resource.setrlimit(resource.RLIMIT_DATA, (memory_mb << 20, memory_mb << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.current_thread().name = "worker"
    line = Connection(descriptor)
    while True:
        try:
            name, args = line.recv()
        except (EOFError, OSError):
            return
        line.send(_answered(name, args))


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]))
