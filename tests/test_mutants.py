"""What a damaged or forged clip is taken for: never for the true one, unless everything that counts is as it was.

Every run looks at a sample; all of them, with a report of what was done and what came of it:

    COUNTERSIGN_MUTANTS=10000 pytest -n 0 -s tests/test_mutants.py
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ledger.errors import MediaError
from ledger.provenance import jumbf, media
from mutants import Material, Node, mutant, parse, walk
from test_manifest import CLAIM, NOW, Bench, dated

pytestmark = pytest.mark.slow

SAMPLE = 400
PIECES = 4
COUNT = int(os.environ.get("COUNTERSIGN_MUTANTS", SAMPLE))
LONGEST_S = 2.0
"""Of the processor's time, for one file of 18 kB."""


@dataclass(frozen=True)
class Ground:
    bench: Bench
    material: Material
    path: Path


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("mutants")
    for name in ("ours", "theirs"):
        (folder / name).mkdir()
    with ExitStack() as stack:
        bench, stranger = (
            stack.enter_context(contextmanager(dated)(folder / name, NOW)) for name in ("ours", "theirs")
        )
        yield _ground(folder, bench, stranger)


def _ground(folder: Path, bench: Bench, stranger: Bench) -> Ground:
    media.write_pattern(folder / "other.mp4", count=9)
    bench.signer.sign(folder / "other.mp4", folder / "sibling.mp4", CLAIM)
    clips = (bench.signed, folder / "sibling.mp4", stranger.signed)
    return Ground(bench, Material(*(path.read_bytes() for path in clips)), folder / "mutant.mp4")


def hashed(path: Path) -> list[tuple[int, bytes]]:
    """Place and bytes of every box but those that the manifest's docstring says no hash covers."""
    content, found = path.read_bytes(), []
    for box in media.boxes(path):
        data = content[box.start : box.end]
        if box.kind not in {b"ftyp", b"mfra"} and not (box.kind == b"uuid" and jumbf.C2PA_UUID in data[:32]):
            found.append((box.start, data))
    return found


def test_the_parts_put_together_again_are_the_clip(ground: Ground) -> None:
    assert b"".join(node.encode() for node in parse(ground.material.clip)) == ground.material.clip


def longer(tree: list[Node]) -> None:
    """The store says that it is longer than its box; c2pa reads it all the same."""
    store = next(nodes[at] for nodes, at in walk(tree) if nodes[at].kind == b"jumb")
    store.size = len(store.encode()) + 1


def second(tree: list[Node]) -> None:
    """After the store comes another, which is empty."""
    store = next(node for node in tree if node.kind == b"uuid")
    tree.append(Node(store.kind, store.head))


@pytest.mark.parametrize("bent", [longer, second])
def test_a_signer_whose_certificate_cannot_be_told_is_not_trusted(
    ground: Ground, bent: Callable[[list[Node]], None]
) -> None:
    """That it was taken back is looked up by the certificate: unread, it would be as good as any."""
    tree = parse(ground.material.clip)
    bent(tree)
    ground.path.write_bytes(b"".join(node.encode() for node in tree))
    found = ground.bench.read(ground.path)
    assert not found.manifest_trusted
    assert (found.signer, found.consent, found.signed_at) == (None, None, None)


@pytest.mark.parametrize("piece", range(PIECES))
def test_no_mutant_is_taken_for_what_it_is_not(ground: Ground, piece: int) -> None:
    """Nothing raises, nothing hangs, and what is trusted and bound has every hashed byte and every statement."""
    ground.path.write_bytes(ground.material.clip)
    whole, believed = hashed(ground.path), ground.bench.read(ground.bench.signed)
    outcomes: Counter[str] = Counter()
    for seed in range(piece, COUNT, PIECES):
        did, content = mutant(ground.material, seed)
        ground.path.write_bytes(content)
        began = time.process_time()
        found = ground.bench.read(ground.path)
        assert time.process_time() - began < LONGEST_S, (seed, did)
        if found.manifest_trusted and found.asset_bound:
            assert hashed(ground.path) == whole, (seed, did)
            assert replace(found, signed_at=NOW) == believed, (seed, did)
            assert found.signed_at in (NOW, None), (seed, did)
        outcomes[f"{found.state}, {'bound' if found.asset_bound else 'not bound'}"] += 1
        try:
            outcomes["no store"] += jumbf.read(ground.path) is None
        except MediaError:
            outcomes["no one store"] += 1
    print(dict(outcomes))
    # Some of everything: a sample that is always refused shows little.
    assert outcomes["trusted, bound"] > 0
    assert outcomes["invalid, not bound"] > outcomes["trusted, bound"]
