"""`countersign` as typed, run in this process: starting Python takes longer than any command here."""

import io
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from gateway.cli import main


class Said(NamedTuple):
    status: int
    text: str


def countersign(home: Path, *arguments: str | Path, **settings: str) -> Said:
    """The exit status of a command on the installation in `home`, and all it says. `settings`: `ORIGIN` and the like."""
    out, status = io.StringIO(), 0
    with (
        patch.object(sys, "argv", ["countersign", *map(str, arguments)]),
        patch.dict(os.environ, {f"COUNTERSIGN_{name}": value for name, value in settings.items()}),
        patch.dict(os.environ, {"COUNTERSIGN_HOME": str(home)}),
        redirect_stdout(out),
        redirect_stderr(out),
    ):
        try:
            main()
        except SystemExit as stop:
            status = int(stop.code or 0)
    return Said(status, out.getvalue())
