"""The log as an outsider sees it: Go's `sumdb/note` and `sumdb/tlog` check our notes, proofs and tile names.

The programme is `tests/interop/checknote.go`, built from two Debian packages without a network.
"""

from datetime import UTC, datetime

import pytest

from conftest import Checker, Request
from ledger.log.merkle import (
    Tree,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    tile_path,
)
from ledger.log.note import Checkpoint, SignatureType, SignerKey, cosign, sign_note

pytestmark = pytest.mark.slow

ORIGIN = "ledger.example/likeness"
LOG = SignerKey.from_seed(ORIGIN, b"\x11" * 32)
WITNESS = SignerKey.from_seed("witness.example/w1", b"\x22" * 32, SignatureType.COSIGNATURE)
SIZE = 40


class Log:
    """A small log with a checkpoint at every size."""

    def __init__(self) -> None:
        self.entries = [b"entry %d" % i for i in range(SIZE)]
        self.tree = Tree()
        self.tree.extend(map(leaf_hash, self.entries))

    def checkpoint(self, size: int) -> bytes:
        return sign_note(Checkpoint(ORIGIN, size, self.tree.root(size)).text(), [LOG])

    def logged(self, index: int, size: int) -> Request:
        return {
            "vkey": str(LOG.verifier),
            "note": self.checkpoint(size),
            "leaf": self.entries[index],
            "index": index,
            "proof": inclusion_proof(index, size, self.tree.node),
        }

    def extended(self, old: int, size: int) -> Request:
        return {
            "vkey": str(LOG.verifier),
            "note": self.checkpoint(size),
            "oldSize": old,
            "oldRoot": self.tree.root(old),
            "consistency": consistency_proof(old, size, self.tree.node),
        }


LOGGED = Log()


def test_go_accepts_every_inclusion_proof(check: Checker) -> None:
    places = [(index, size) for size in range(1, SIZE + 1) for index in range(size)]
    answers = check([LOGGED.logged(index, size) for index, size in places])
    assert answers == [{"origin": ORIGIN, "size": size} for _, size in places]


def test_go_accepts_every_consistency_proof(check: Checker) -> None:
    grown = [(old, size) for size in range(1, SIZE + 1) for old in range(1, size + 1)]
    answers = check([LOGGED.extended(old, size) for old, size in grown])
    assert answers == [{"origin": ORIGIN, "size": size} for _, size in grown]


def test_go_refuses_what_was_altered_so_its_acceptance_means_something(check: Checker) -> None:
    logged, extended = LOGGED.logged(13, SIZE), LOGGED.extended(13, SIZE)
    other = bytes(32)
    altered = [
        logged | {"leaf": b"entry 14"},
        logged | {"index": 14},
        logged | {"proof": logged["proof"][:-1]},
        logged | {"proof": [*logged["proof"][:-1], other]},
        logged | {"note": LOGGED.checkpoint(SIZE - 1)},
        logged | {"note": logged["note"].replace(b"\n40\n", b"\n41\n")},
        logged | {"vkey": str(SignerKey.from_seed(ORIGIN, b"\x44" * 32).verifier)},
        logged | {"vkey": str(WITNESS.verifier)},
        extended | {"oldRoot": other},
        extended | {"oldSize": 14},
        extended | {"consistency": extended["consistency"][1:]},
    ]
    assert ["error" in answer for answer in check(altered)] == [True] * len(altered)


def test_go_opens_a_checkpoint_that_witnesses_cosigned(check: Checker) -> None:
    request = LOGGED.logged(0, SIZE)
    text = Checkpoint(ORIGIN, SIZE, LOGGED.tree.root()).text()
    request["note"] += cosign(text, WITNESS, datetime(2026, 1, 1, tzinfo=UTC))
    assert check([request]) == [{"origin": ORIGIN, "size": SIZE}]


def test_go_names_tiles_as_we_do(check: Checker) -> None:
    tiles = [
        (level, index, width)
        for level in (0, 1, 7)
        for index in (0, 9, 999, 1000, 273_112, 1_234_067, 999_999_999)
        for width in (1, 112, 255, 256)
    ]
    answers = check([{"tile": {"level": lv, "index": i, "width": w}} for lv, i, w in tiles])
    assert [answer["tile"] for answer in answers] == [tile_path(*tile) for tile in tiles]
