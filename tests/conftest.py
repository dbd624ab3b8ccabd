"""Fixtures every test may use."""

import json
import os
import shutil
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from world import World, open_ledger


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_AtOnce(config))


class _AtOnce:
    """Says what failed when it fails: a run that is ended from outside never comes to its summary."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and terminal is not None:
            terminal.write_line(f"\n{report.nodeid} ({report.when}, {report.duration:.0f} s)", red=True)
            terminal.write_line("\n".join(report.longreprtext.splitlines()[-40:]))


@pytest.fixture(autouse=True)
def _priority() -> Iterator[None]:
    """What one test leaves of a real-time priority, whatever the next ones start inherits, and then nothing else runs."""
    yield
    left = os.sched_getscheduler(0)
    if left != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    assert left == os.SCHED_OTHER, "the test left this process with a real-time priority"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    ledger, keyring = open_ledger(tmp_path)
    yield World(ledger, keyring, tmp_path)
    ledger.close()


SOURCE = Path(__file__).parent / "interop" / "checknote.go"
GOPATH = Path("/usr/share/gocode")
INSTALL = "run `make setup`, or `apt-get install -y golang-go golang-golang-x-mod-dev`"

Request = dict[str, Any]
Checker = Callable[[list[Request]], list[dict[str, Any]]]


@pytest.fixture(scope="session")
def check(tmp_path_factory: pytest.TempPathFactory) -> Checker:
    """Answers of the Go programme, one for each request."""
    go = shutil.which("go")
    if go is None or not (GOPATH / "src/golang.org/x/mod/sumdb/tlog").is_dir():
        pytest.fail(f"an outsider's check of the log needs Go and its x/mod library: {INSTALL}")
    directory = tmp_path_factory.mktemp("interop")
    offline = {
        "GOPATH": str(GOPATH),
        "GO111MODULE": "off",
        "GOFLAGS": "",
        "GOPROXY": "off",
        "GOCACHE": str(directory / "cache"),
    }
    binary = directory / "checknote"
    built = subprocess.run(
        [go, "build", "-o", binary, SOURCE], env=os.environ | offline, capture_output=True, check=False
    )
    assert built.returncode == 0, built.stderr.decode()

    def run(requests: list[Request]) -> list[dict[str, Any]]:
        lines = "".join(json.dumps(request, default=_base64) + "\n" for request in requests)
        done = subprocess.run([binary], input=lines.encode(), capture_output=True, check=True)
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(answers) == len(requests)
        return answers

    return run


def _base64(value: bytes) -> str:
    return b64encode(value).decode()
