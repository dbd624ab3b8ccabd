"""mypy rejects a call that skips a step: exactly the lines marked in `tests/typing/`, each for the reason marked."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "tests" / "typing").glob("*.py"))
Line = tuple[str, int, str]
"""File, line number, error code."""


def marked() -> Iterator[Line]:
    for path in FILES:
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if mark := re.search(r"# error: ([a-z, -]+)$", line):
                for code in mark[1].split(", "):
                    yield path.name, number, code


def rejected() -> Iterator[Line]:
    # The project's own settings and cache: `make lint` has filled it, and a second run takes a second.
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        "--hide-error-context",
        *map(str, FILES),
    ]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    for found in re.finditer(r"^(.+?):(\d+): error: .*\[([a-z-]+)\]$", answer.stdout, re.MULTILINE):
        if Path(found[1]).parent.name == "typing":
            yield Path(found[1]).name, int(found[2]), found[3]


@pytest.mark.slow
def test_mypy_rejects_every_call_out_of_order_and_no_other() -> None:
    expected = set(marked())
    assert {path.name for path in FILES} == {"in_order.py", "out_of_order.py"}
    assert len(expected) >= 40
    assert set(rejected()) == expected
