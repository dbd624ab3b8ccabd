"""Fixtures every test may use."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from world import World, open_ledger


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    ledger, keyring = open_ledger(tmp_path)
    yield World(ledger, keyring, tmp_path)
    ledger.close()
