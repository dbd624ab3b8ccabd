"""Closed workers: whatever a file makes the code that reads it do, it reaches nothing, and costs no more than it may."""

import platform
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

import elsewhere
import ill
from ledger import sandbox
from ledger.errors import MediaError, Unavailable
from ledger.sandbox import Sandbox
from ledger.workers import Workers


@pytest.fixture(scope="module")
def closed() -> Iterator[Workers]:
    these = Workers(1, sandbox=Sandbox(cpu_s=1, memory_mb=200))
    yield these
    these.close()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(b"a key")
    return path


def test_what_decoding_needs_works(closed: Workers) -> None:
    assert closed.call(ill.works) == 5


def test_nothing_can_be_connected_to(closed: Workers) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = Path(str(listening.getsockname()[1]))
        # A path that is not there grants nothing; its name carries the port.
        assert ill.tries("connect", port) == "done", "there is somebody to connect to"
        assert closed.call(ill.tries, "connect", port) == "PermissionError"


@pytest.mark.parametrize("what", ["listen", "a socket by name", "a datagram"])
def test_no_socket_can_be_made(closed: Workers, what: str) -> None:
    assert closed.call(ill.tries, what, Path("x")) == "PermissionError"


@pytest.mark.parametrize("what", ["write", "append", "make", "remove", "rename"])
def test_nothing_can_be_written_not_even_to_the_file_it_was_given(
    closed: Workers, secret: Path, what: str
) -> None:
    assert closed.call(ill.tries, what, secret) in {"PermissionError", "OSError"}
    assert secret.read_bytes() == b"a key"
    assert [one.name for one in secret.parent.iterdir()] == ["secret"]


def test_only_what_it_was_given_can_be_read(closed: Workers, secret: Path) -> None:
    assert closed.call(ill.tries, "read", secret) == "done"
    assert closed.call(ill.tries, "list", secret) == "PermissionError"
    # Not by a path of another name, either: what a question does not name as a path is not its own.
    assert closed.call(ill.reads, str(secret)) == "PermissionError"
    assert closed.call(ill.reads, "/etc/passwd") == "PermissionError"


@pytest.mark.parametrize(
    "what", ["the environment of the service", "start a program", "fork", "signal", "trace", "more time"]
)
def test_no_other_process_can_be_made_or_reached(closed: Workers, secret: Path, what: str) -> None:
    assert closed.call(ill.tries, what, secret) in {"PermissionError", "ValueError"}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only this machine has two sets of numbers")
def test_a_call_by_another_machines_numbers_ends_the_process(closed: Workers, secret: Path) -> None:
    with pytest.raises(MediaError) as refused:
        closed.call(ill.tries, "by another machine's numbers", secret)
    assert refused.value.reason.id == "media.crashed"


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (ill.overrun, "media.crashed"),
        (ill.leave, "media.crashed"),
        (ill.spins, "media.costly"),
        (ill.hoard, "media.costly"),
    ],
)
def test_a_file_that_breaks_the_decoder_is_told_so_and_the_next_one_is_looked_at(
    closed: Workers, fault: object, why: str
) -> None:
    before = closed.call(ill.parent)
    with pytest.raises(MediaError) as refused:
        closed.call(fault)  # type: ignore[arg-type]
    assert refused.value.reason.id == why
    assert closed.call(ill.parent) == before, "the process that forks was not touched by it"


def test_a_hang_ends_with_its_time(closed: Workers) -> None:
    with pytest.raises(MediaError) as refused:
        closed.call(ill.after, 60.0, 1, timeout_s=0.3)
    assert refused.value.reason.id == "media.costly"


def test_no_answer_comes_from_the_process_of_another_question(closed: Workers) -> None:
    one, two = closed.call(ill.process), closed.call(ill.process)
    assert one != two


def test_where_it_can_not_be_closed_in_nothing_is_looked_at() -> None:
    """Unless the operator says otherwise."""
    these = Workers(1, sandbox=Sandbox())
    lenient = Workers(1, sandbox=Sandbox(whole=False))
    try:
        with pytest.raises(Unavailable) as refused:
            these.call(elsewhere.answers)
        assert refused.value.reason.id == "sandbox.missing"
        assert "COUNTERSIGN_SANDBOX" in refused.value.reason.remedy
        assert lenient.call(elsewhere.answers) == "answered"
    finally:
        these.close()
        lenient.close()


def test_every_jump_of_the_filter_lands_inside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel refuses what does not; of the machine this does not run on, only this test says so."""
    for machine in sandbox._ARCHITECTURES:
        monkeypatch.setattr(platform, "machine", lambda machine=machine: machine)
        program = list(struct.iter_unpack("=HBBI", b"".join(sandbox._program())))
        for at, (code, then, otherwise, _) in enumerate(program):
            if code in {sandbox._EQUAL, sandbox._AT_LEAST, sandbox._ANY_BIT}:
                assert at + 1 + max(then, otherwise) < len(program)
        assert program[-1] == (sandbox._RETURN, 0, 0, 0x00050001)
    monkeypatch.setattr(platform, "machine", lambda: "vax")
    with pytest.raises(OSError, match="vax"):
        list(sandbox._program())
