"""Worker processes: whatever native code does, the service lives, the question is refused, and the next is answered."""

import json
import logging
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import ill
from ledger import workers
from ledger.errors import LedgerError, MediaError
from ledger.workers import _packed, _types, _unpacked
from safety import models
from safety.errors import CheckUnavailable, InvalidInput, Refused, SafetyError
from safety.workers import Workers

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def two() -> Iterator[Workers]:
    these = Workers(2, memory_mb=400)
    yield these
    these.close()


def lost(these: Workers, function: Callable[..., Any], *args: Any, timeout_s: float = 20.0) -> str:
    """Why there was no answer."""
    with pytest.raises(CheckUnavailable) as refused:
        these.call(function, *args, timeout_s=timeout_s)
    return refused.value.reason.id


def gone(process: int, *, within_s: float) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


# ── what goes wrong inside ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fault", [ill.crash, ill.overrun, ill.leave])
def test_a_crash_is_refused_and_the_next_question_is_answered(
    two: Workers, fault: Callable[..., int]
) -> None:
    assert lost(two, fault) == "check.lost"
    assert two.call(ill.after, 0.0, 7) == 7


def test_a_quit_of_a_library_is_no_answer(two: Workers) -> None:
    assert lost(two, ill.quits) == "check.failed"
    assert two.call(ill.after, 0.0, 7) == 7


def test_a_hang_in_native_code_ends_with_its_time(two: Workers) -> None:
    two.call(ill.process)
    began = time.monotonic()
    assert lost(two, ill.hang, timeout_s=0.5) == "check.lost"
    assert time.monotonic() - began < 5
    assert two.call(ill.after, 0.0, 7) == 7


@pytest.mark.slow
def test_runaway_memory_is_refused_while_the_service_lives(two: Workers) -> None:
    before = two.call(ill.process)
    assert lost(two, ill.hoard) in {"check.failed", "check.lost"}
    # Nor does what it hoarded stay.
    assert two.call(ill.process) != before
    assert gone(before, within_s=5)


def test_an_answer_is_never_that_of_another_question(two: Workers) -> None:
    one = Workers(1)
    try:
        assert lost(one, ill.after, 1.5, 1, timeout_s=0.7) == "check.lost"
        assert one.call(ill.after, 0.0, 2) == 2
        assert one.call(ill.after, 0.0, 3) == 3
    finally:
        one.close()


def test_an_interrupted_question_leaves_no_answer_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Workers(1)
    received = workers._Worker._received

    def interrupted(self: Any, deadline: float) -> Any:
        monkeypatch.setattr(workers._Worker, "_received", received)
        raise KeyboardInterrupt

    try:
        one.call(ill.process)
        monkeypatch.setattr(workers._Worker, "_received", interrupted)
        with pytest.raises(KeyboardInterrupt):
            one.call(ill.after, 0.0, 1)
        assert one.call(ill.after, 0.0, 2) == 2
    finally:
        one.close()


def test_what_a_function_refuses_is_refused_in_its_words(two: Workers) -> None:
    kinds: dict[str, type[SafetyError | LedgerError]] = {
        "refused": Refused,
        "invalid": InvalidInput,
        "media": MediaError,
    }
    for kind, expected in kinds.items():
        with pytest.raises(expected) as raised:
            two.call(ill.raises, kind)
        error: Any = raised.value
        assert error.reason.remedy
    assert lost(two, ill.raises, "foreign") == "check.failed"


def test_a_worker_is_kept_from_question_to_question_and_replaced_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "MOST_ANSWERS", 3)
    one = Workers(1)
    try:
        asked = [one.call(ill.process) for _ in range(4)]
    finally:
        one.close()
    assert len(set(asked[:3])) == 1
    assert asked[3] not in asked[:3]


# ── what comes back ───────────────────────────────────────────────────────────────────────────────────────


def test_an_answer_comes_back_the_same(two: Workers) -> None:
    found, expected = two.call(ill.whole), ill.whole()
    part, same = found.pairs[0].other, expected.pairs[0].other
    assert part is not None
    assert same is not None
    np.testing.assert_array_equal(part.rows, same.rows)
    assert part.rows.dtype == np.float32
    assert (found.pairs[1], found.by_name, found.seen) == (
        expected.pairs[1],
        expected.by_name,
        expected.seen,
    )
    assert (found.raw, found.score) == (expected.raw, expected.score)


@pytest.mark.parametrize("fault", [ill.undeclared, ill.objects, ill.fields_wrong])
def test_nothing_is_built_that_the_function_does_not_declare(
    two: Workers, fault: Callable[..., object]
) -> None:
    if fault is ill.fields_wrong:
        # Only their number and types of data are held: what a lying worker says may still be wrong.
        wrong: Any = two.call(ill.fields_wrong)
        assert wrong.pairs == 1
        return
    assert lost(two, fault) in {"check.lost", "check.failed"}


def test_an_answer_without_end_is_not_taken(two: Workers) -> None:
    assert lost(two, ill.huge) == "check.lost"


LIES: dict[str, Callable[[Path], bytes]] = {
    "a pickle": lambda path: ill.pickled(str(path)),
    "a pickle in our frame": lambda path: framed(ill.pickled(str(path))),
    "a length beyond all bounds": lambda _: struct.pack(">Q", 1 << 62),
    "half an answer, and silence": lambda _: struct.pack(">Q", 1000) + b"x",
    "no JSON": lambda _: framed(struct.pack(">I", 4) + b"\xff\xff\xff\xff"),
    "a head longer than the answer": lambda _: framed(struct.pack(">I", 1 << 30)),
    "a nest without end": lambda _: framed(head("[" * 100_000 + "]" * 100_000)),
    "a number without end": lambda _: framed(head("9" * 100_000)),
    "another class of ours": lambda _: said(["t", "answer", ["o", "safety.chain:Permit"]]),
    "another function": lambda _: said(["t", "answer", ["o", "os:mkdir", "x"]]),
    "an array larger than it is": lambda _: said(["t", "answer", ["a", "<f8", 1 << 40]]),
    "an array of a negative side": lambda _: said(["t", "answer", ["a", "<f8", -1, -8]]),
    "an array of objects": lambda _: said(["t", "answer", ["a", "|O", 1]], bytes(8)),
    "an unknown collection": lambda _: said(["t", "answer", ["x", 1]]),
    "an error that is none": lambda _: said(["t", "refused", "SystemExit", "a", "b", "c"]),
    "an error with a page of text": lambda _: said(["t", "refused", "Refused", "a", "b" * 5000, "c"]),
    "an error that needs more": lambda _: said(["t", "refused", "Violation", "a", "b", "c"]),
    "no known answer": lambda _: said(["t", "granted", True]),
    "nothing": lambda _: said(None),
}


def framed(body: bytes) -> bytes:
    return struct.pack(">Q", len(body)) + body


def head(text: str, blobs: bytes = b"") -> bytes:
    return struct.pack(">I", len(text.encode())) + text.encode() + blobs


def said(answer: object, blobs: bytes = b"") -> bytes:
    return framed(head(json.dumps(answer), blobs))


@pytest.mark.parametrize("lie", LIES)
def test_a_worker_that_was_taken_over_makes_the_service_run_nothing(
    two: Workers, tmp_path: Path, lie: str
) -> None:
    made = tmp_path / "made"
    assert lost(two, ill.says, LIES[lie](made), timeout_s=2.0) in {"check.lost", "check.failed"}
    assert not made.exists()
    assert two.call(ill.after, 0.0, 7) == 7


Answer = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(max_size=50),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        | st.frozensets(st.integers(), max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=60)
@given(Answer)
def test_whatever_is_data_comes_back_as_it_was(value: object) -> None:
    again = _unpacked(memoryview(b"".join(_packed(value))), {})
    assert again == value
    assert type(again) is type(value)


@settings(max_examples=40)
@given(
    arrays(st.sampled_from([np.dtype(kind) for kind in ("?", "u1", "<i4", ">i8", "<f4", "<f8")]), (3, 0, 2))
    | arrays(st.sampled_from([np.dtype(kind) for kind in ("u1", "<i4", "<f8")]), st.tuples(st.integers(0, 5)))
)
def test_an_array_comes_back_as_it_was(array: np.ndarray[Any, Any]) -> None:
    again: Any = _unpacked(memoryview(b"".join(_packed([array, array]))), {})
    for one in again:
        np.testing.assert_array_equal(one, array)
        assert one.dtype == array.dtype
        assert one.shape == array.shape
        assert one.flags.writeable


@settings(max_examples=60)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_answer_are_an_error_and_nothing_else(data: bytes) -> None:
    with suppress(ArithmeticError, LookupError, TypeError, ValueError, RecursionError, struct.error):
        _unpacked(memoryview(data), _types(ill.whole))


# ── what leaks ────────────────────────────────────────────────────────────────────────────────────────────


def test_an_answer_that_would_become_a_mountain_of_objects_is_not_read() -> None:
    head = b"[" + b"[]," * (workers.HEAD_BYTES // 3) + b"[]]"
    with pytest.raises(ValueError, match="more than any answer says"):
        _unpacked(memoryview(struct.pack(">I", len(head)) + head), {})


def test_the_service_s_secrets_do_not_reach_a_worker(two: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERSIGN_DATABASE_URL", "postgresql://someone:secret@host/db")
    seen = two.call(ill.environment)
    assert "secret" not in str(seen)
    assert "PATH" in seen


def test_no_network_reports_to_its_makers(two: Workers, tmp_path: Path) -> None:
    """ONNX Runtime, as it comes, writes a device id at home and sends events to Microsoft."""
    assert two.call(ill.environment)["ORT_DISABLE_TELEMETRY"] == "1"
    weights = models.packaged("silero-vad")
    loading = f"import safety.models, onnxruntime; onnxruntime.InferenceSession({str(weights)!r})"
    env = {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
    }
    subprocess.run([sys.executable, "-P", "-c", loading], env=env, check=True)
    assert list(tmp_path.rglob("*")) == []


def test_nothing_of_a_question_or_an_answer_is_written_down(
    two: Workers, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG):
        two.call(ill.prints, "0.123456")
        lost(two, ill.raises, "foreign")
        lost(two, ill.crash, "0.123456")
    printed = capfd.readouterr()
    assert "a worker was lost at ill:crash" in caplog.text
    assert "a check failed at ill:raises: ValueError" in caplog.text
    assert "0.123456" not in caplog.text + printed.out + printed.err


# ── many at once, and the end ─────────────────────────────────────────────────────────────────────────────


def test_many_threads_each_get_their_own_answer(two: Workers) -> None:
    answers: dict[int, int] = {}

    def ask(number: int) -> None:
        answers[number] = two.call(ill.after, 0.01 * (number % 3), number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: number for number in range(24)}


def test_answers_come_in_order_and_no_more_is_taken_than_is_under_way(two: Workers) -> None:
    taken = 0

    def each() -> Iterator[tuple[float, int]]:
        nonlocal taken
        for number in range(8):
            taken += 1
            yield 0.05 * (number % 2), number

    answers = []
    for answer in two.flow(ill.after, each()):
        answers.append(answer)
        assert taken - len(answers) <= two.count
    assert answers == list(range(8))


def test_after_the_first_failure_nothing_more_is_asked(two: Workers) -> None:
    def each() -> Iterator[tuple[str]]:
        yield ("refused",)
        yield from [("invalid",)] * 50

    with pytest.raises(Refused):
        two.map(ill.raises, each())


def test_too_long_a_queue_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "WAIT_S", 0.3)
    one = Workers(1)
    try:
        one.call(ill.process)
        thread = threading.Thread(target=lambda: one.call(ill.after, 1.0, 1))
        thread.start()
        time.sleep(0.2)
        assert lost(one, ill.process) == "check.busy"
        thread.join()
        assert one.call(ill.after, 0.0, 7) == 7
    finally:
        one.close()


def test_closing_refuses_who_waits_and_leaves_no_process(two: Workers) -> None:
    process = two.call(ill.process)
    reasons: list[str] = []
    thread = threading.Thread(target=lambda: reasons.append(lost(two, ill.after, 30.0, 1)))
    thread.start()
    time.sleep(0.3)
    two.close()
    thread.join(timeout=5)
    assert reasons == ["check.lost"]
    assert gone(process, within_s=2)
    assert two.call(ill.after, 0.0, 7) == 7


SERVICE = """
import ill, sys, threading
from safety.workers import Workers
these = Workers(1)
print(these.call(ill.process), flush=True)
threading.Thread(target=these.call, args=(getattr(ill, sys.argv[1]),), kwargs={"timeout_s": 60.0}, daemon=True).start()
sys.stdin.read()
"""


@pytest.mark.parametrize("doing", ["process", "hang"])
def test_a_worker_ends_with_a_service_that_is_killed(doing: str) -> None:
    service = subprocess.Popen(
        [sys.executable, "-c", SERVICE, doing],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        cwd=ROOT,
    )
    with service:
        assert service.stdout is not None
        worker = int(service.stdout.readline())
        time.sleep(0.3)
        assert not gone(worker, within_s=0.01)
        service.send_signal(signal.SIGKILL)
        service.wait()
        assert gone(worker, within_s=5)


FORK = """
import ill, os, sys
from safety.workers import Workers
these = Workers(1)
mine = these.call(ill.process)
if (child := os.fork()) == 0:
    theirs = these.call(ill.process)
    these.close()
    os._exit(0 if theirs != mine else 3)
_, status = os.waitpid(child, 0)
again = these.call(ill.process)
these.close()
sys.exit(os.waitstatus_to_exitcode(status) or (0 if again == mine else 4))
"""


def test_a_process_that_forks_off_has_workers_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        cwd=ROOT,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0
