"""A process that may compute and read what it was given, and nothing else: where files of strangers are decoded.

:func:`enter` closes the calling process in, for good and for everything it becomes. From then on

- there is **no network**: no socket can be made, of any kind (seccomp);
- **nothing can be written**: no file can be opened for writing or made, and none grow (seccomp, `RLIMIT_FSIZE`, Landlock);
- only `readable` and this program's own code **can be read** (Landlock);
- no other program can be started, no process forked, signalled or looked into (seccomp allows what is on its list);
- computing time, memory and open files are bounded, and no core file is left, which would hold the stranger's pictures.

It needs Linux 5.13 or later on x86_64 or aarch64 and no privilege; as root in a container it does the same. Whatever
of it can not be set up raises :class:`~ledger.errors.Unavailable`, and the caller looks at nothing. What stays
possible: to give a wrong answer about the file it was given, and to take all of the time and memory it was allowed.

seccomp-bpf as in the kernel's `Documentation/userspace-api/seccomp_filter.rst`, Landlock as in `landlock.rst` there.
"""

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from ledger.errors import Unavailable

OURS: Final = Path(__file__).resolve().parent.parent
_ARCHITECTURES: Final = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""AUDIT_ARCH, and the column of the tables below."""
_FREE: Final = {
    "read": (0, 63),
    "readv": (19, 65),
    "pread64": (17, 67),
    "preadv": (295, 69),
    "write": (1, 64),
    "writev": (20, 66),
    "close": (3, 57),
    "close_range": (436, 436),
    "fstat": (5, 80),
    "stat": (4, None),
    "lstat": (6, None),
    "newfstatat": (262, 79),
    "statx": (332, 291),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "getdents64": (217, 61),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "getcwd": (79, 17),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "fcntl": (72, 25),
    "pipe2": (293, 59),
    "futex": (202, 98),
    "futex_waitv": (449, 449),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "set_tid_address": (218, 96),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "gettid": (186, 178),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "sched_getaffinity": (204, 123),
    "sched_yield": (24, 124),
    "sched_getscheduler": (145, 120),
    "sched_getparam": (143, 121),
    "getcpu": (309, 168),
    "getrandom": (318, 278),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "getrusage": (98, 165),
    "times": (100, 153),
    "uname": (63, 160),
    "sysinfo": (99, 179),
    "getrlimit": (97, 163),
    "poll": (7, None),
    "ppoll": (271, 73),
    "select": (23, None),
    "pselect6": (270, 72),
    "epoll_create1": (291, 20),
    "epoll_wait": (232, None),
    "epoll_pwait": (281, 22),
    "epoll_ctl": (233, 21),
    "eventfd2": (290, 19),
    "fadvise64": (221, 223),
    "statfs": (137, 43),
    "fstatfs": (138, 44),
    "membarrier": (324, 283),
    "restart_syscall": (219, 128),
}
_OPENAT, _OPEN, _CLONE, _CLONE3 = (257, 56), (2, None), (56, 220), (435, 435)
_PRCTL, _PRLIMIT, _TGKILL = (157, 167), (302, 261), (234, 131)
_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CLONE_THREAD: Final = 0x10000
_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 15, 22, 38
_EPERM, _ENOSYS = 1, 38

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_KILL, _ALLOW, _FAIL = 0x80000000, 0x7FFF0000, 0x00050000

_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FILE_RIGHTS: Final = ((1, 13), (2, 14), (3, 15), (5, 16))
"""(first version of Landlock, how many rights over files it knows)."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """How much one look may take. `whole`: False where the operator lets a system without all of this look as well."""

    cpu_s: int = 120
    memory_mb: int = 1_500
    files: int = 64
    whole: bool = True


def enter(sandbox: Sandbox, readable: Iterable[Path]) -> None:
    """Close this process in; it must have one thread. Raises Unavailable where the system lacks something it needs."""
    libc = ctypes.CDLL(None, use_errno=True)
    _bound(sandbox)
    try:
        _require(libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
        _require(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _allow_only(libc, [*_code(), *readable])
        _filter(libc)
    except OSError as error:
        if sandbox.whole:
            raise Unavailable(
                "sandbox.missing",
                "this system can not close in what strangers send, so it is not looked at",
                "the operator runs the service on Linux 5.13 or later with seccomp and Landlock, or sets "
                "COUNTERSIGN_SANDBOX=partial",
            ) from error


def _bound(sandbox: Sandbox) -> None:
    reserved = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    memory = sandbox.memory_mb << 20
    for limit, most in (
        (resource.RLIMIT_CPU, sandbox.cpu_s),
        (resource.RLIMIT_DATA, memory),
        # Over what the libraries reserved when they were loaded.
        (resource.RLIMIT_AS, reserved + memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, sandbox.files),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    with suppress(OSError):  # where memory runs out all the same, this ends before anything else does
        Path("/proc/self/oom_score_adj").write_text("1000")


def _require(status: int) -> int:
    if status < 0:
        raise OSError(ctypes.get_errno(), "the system refused")
    return status


# --- files -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _code() -> tuple[Path, ...]:
    """Where this program's own code lies. Never the folder above our packages: the home with its keys may be in it."""
    installed = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    of_the_path = {one for one in sys.path if one and Path(one).name in {"site-packages", "lib-dynload"}}
    ours = (OURS / name for name in ("ledger", "safety", "policies"))
    found = [*map(Path, installed | of_the_path), *ours, Path("/usr/lib"), Path("/usr/share/zoneinfo")]
    return tuple(one for one in found if one.is_dir())


def _allow_only(libc: ctypes.CDLL, readable: Iterable[Path]) -> None:
    version = _require(libc.syscall(_LANDLOCK_CREATE, None, 0, 1))
    rights = (1 << max(count for since, count in _FILE_RIGHTS if version >= since)) - 1
    # From version 4 on also ports, from 6 on also sockets by name and signals: all of them, with no exception.
    fields = (rights, *((0b11,) if version >= 4 else ()), *((0b11,) if version >= 6 else ()))
    rules = struct.pack(f"={len(fields)}Q", *fields)
    ruleset = _require(libc.syscall(_LANDLOCK_CREATE, rules, len(rules), 0))
    try:
        for path in readable:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                allowed = _READ_FILE | _READ_DIR if path.is_dir() else _READ_FILE
                _require(libc.syscall(_LANDLOCK_ADD, ruleset, 1, struct.pack("=Qi", allowed, place), 0))
            finally:
                os.close(place)
        _require(libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0))
    finally:
        os.close(ruleset)


# --- calls of the system -----------------------------------------------------------------------------------------


def _filter(libc: ctypes.CDLL) -> None:
    program = b"".join(_program())
    buffer = ctypes.create_string_buffer(program)
    head = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    _require(libc.prctl(_PR_SET_SECCOMP, 2, head, 0, 0))


def _program() -> Iterator[bytes]:
    """What is not on the list fails with EPERM; a call by another machine's numbers ends the process."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise OSError(_ENOSYS, f"no filter for {machine}")
    arch, column = _ARCHITECTURES[machine]
    yield _do(_LOAD, 4)
    yield from _if(_EQUAL, arch, then=b"", otherwise=_do(_RETURN, _KILL))
    yield _do(_LOAD, 0)
    if machine == "x86_64":  # the same calls by the x32 numbers
        yield from _if(_AT_LEAST, 0x40000000, then=_do(_RETURN, _KILL))
    for call in _FREE.values():
        yield from _on(call[column], _do(_RETURN, _ALLOW))
    allow, fail = _do(_RETURN, _ALLOW), _do(_RETURN, _FAIL | _EPERM)
    # To read only.
    for call, flags in ((_OPENAT, 2), (_OPEN, 1)):
        yield from _on(call[column], _argument(flags), *_if(_ANY_BIT, _WRITES, then=fail), allow)
    # Threads, and no processes. What the newer call asks for can not be seen from here; without it, the older is used.
    yield from _on(_CLONE[column], _argument(0), *_if(_ANY_BIT, _CLONE_THREAD, then=allow), fail)
    yield from _on(_CLONE3[column], _do(_RETURN, _FAIL | _ENOSYS))
    # A thread's name; limits to be read; an end of its own making.
    yield from _on(_PRCTL[column], _argument(0), *_if(_EQUAL, _PR_SET_NAME, then=allow), fail)
    new = [*_if(_EQUAL, 0, then=b"", otherwise=fail)]
    yield from _on(_PRLIMIT[column], _argument(2), *new, _argument(2, high=True), *new, allow)
    yield from _on(_TGKILL[column], _argument(0), *_if(_EQUAL, os.getpid(), then=allow), fail)
    yield fail


def _do(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, then, otherwise, value)


def _argument(index: int, *, high: bool = False) -> bytes:
    return _do(_LOAD, 16 + 8 * index + 4 * high)


def _if(test: int, value: int, *, then: bytes, otherwise: bytes = b"") -> Iterator[bytes]:
    """`then` where the test holds, which returns unless it is empty; `otherwise` likewise."""
    if then:
        yield _do(test, value, 0, len(then) // 8)
        yield then
    else:
        yield _do(test, value, len(otherwise) // 8, 0)
        yield otherwise


def _on(call: int | None, *what: bytes) -> Iterator[bytes]:
    """What is done for one call, by its number; it returns in the end."""
    if call is not None:
        body = b"".join(what)
        yield _do(_EQUAL, call, 0, len(body) // 8)
        yield body
