"""Laws of the Merkle tree, against a second implementation written straight from RFC 6962 §2.1."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ledger.errors import LogError
from ledger.log.merkle import (
    EMPTY_ROOT,
    MAX_ENTRY_BYTES,
    Tile,
    Tree,
    consistency_proof,
    entry_bundle,
    inclusion_proof,
    leaf_hash,
    node_hash,
    parse_entry_bundle,
    parse_tile_path,
    root_at,
    tile_path,
    verify_consistency,
    verify_inclusion,
)

# The eight leaves Certificate Transparency implementations test with, and the root at every size.
LEAVES = [
    bytes.fromhex(h)
    for h in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LARGEST = 130
sizes = st.integers(1, LARGEST)


def tree_of(leaves: Sequence[bytes]) -> Tree:
    tree = Tree()
    tree.extend(leaf_hash(leaf) for leaf in leaves)
    return tree


def naive_root(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962 §2.1, over leaf hashes."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


DATA = [b"leaf %d" % i for i in range(LARGEST)]
HASHES = [leaf_hash(data) for data in DATA]
TREE = tree_of(DATA)
NAIVE = [naive_root(HASHES[:size]) for size in range(LARGEST + 1)]
COMPLETE = [(level, i) for level in range(8) for i in range(LARGEST >> level)]


# --- vectors ------------------------------------------------------------------------------------------------


def test_roots_are_those_of_the_published_vectors() -> None:
    tree = Tree()
    assert EMPTY_ROOT.hex() == ROOTS[0] == tree.root().hex()
    for size, leaf in enumerate(LEAVES, start=1):
        tree.extend([leaf_hash(leaf)])
        assert (tree.size, tree.root().hex()) == (size, ROOTS[size])


def test_leaves_and_nodes_hash_in_separate_domains() -> None:
    left, right = leaf_hash(b"l"), leaf_hash(b"r")
    assert node_hash(left, right) != leaf_hash(left + right)


# --- a tree that grows --------------------------------------------------------------------------------------


def test_the_root_is_the_naive_root_at_every_size_it_had_or_has() -> None:
    grown = Tree()
    for size, leaf in enumerate(HASHES, start=1):
        grown.extend([leaf])
        assert grown.root() == NAIVE[size] == TREE.root(size) == root_at(size, TREE.node)
    assert [grown.root(size) for size in range(LARGEST + 1)] == NAIVE


def test_every_complete_subtree_is_there_and_no_other() -> None:
    for level, i in COMPLETE:
        assert TREE.node(level, i) == naive_root(HASHES[i << level : (i + 1) << level])
    # A subtree at the right edge that is not complete yet would change later.
    for level in range(10):
        for i in (-1, LARGEST >> level, (LARGEST >> level) + 1):
            with pytest.raises(LogError):
                TREE.node(level, i)
    with pytest.raises(LogError):
        TREE.node(-1, 0)


@given(st.lists(st.integers(0, 40), max_size=12))
def test_a_tree_is_the_same_in_whatever_steps_it_grew(steps: list[int]) -> None:
    tree, at = Tree(), 0
    for step in steps:
        before = tree.size, tree.root()
        tree.extend(HASHES[at : at + step])
        at = min(at + step, LARGEST)
        assert (tree.size, tree.root(), tree.root(before[0])) == (at, NAIVE[at], before[1])
    tree.extend(HASHES[at:])
    assert [tree.node(*place) for place in COMPLETE] == [TREE.node(*place) for place in COMPLETE]


@given(st.lists(st.booleans(), min_size=1, max_size=9).filter(lambda fine: not all(fine)))
def test_a_leaf_that_is_no_hash_is_refused_and_none_beside_it_is_added(fine: list[bool]) -> None:
    tree = tree_of(DATA[:5])
    with pytest.raises(LogError):
        tree.extend([HASHES[5] if good else b"raw data instead of a hash" for good in fine])
    assert (tree.size, tree.root()) == (5, NAIVE[5])
    tree.extend(HASHES[5:])
    assert tree.root() == NAIVE[LARGEST]


@pytest.mark.parametrize("size", [LARGEST + 1, -1, 2**63])
def test_no_root_is_made_up_for_a_size_the_tree_never_had(size: int) -> None:
    with pytest.raises(LogError):
        TREE.root(size)


def test_a_reader_beside_the_writer_never_misses_a_node() -> None:
    """The size it reads is of a tree that is whole already."""
    tree, stop = Tree(), threading.Event()

    def read() -> int:
        read = 0
        while not stop.is_set():
            size = tree.size
            assert tree.root(size) == NAIVE[size]
            read += 1
        return read

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        try:
            for leaf in HASHES:
                tree.extend([leaf])
                time.sleep(0.0002)
        finally:
            stop.set()
        assert reading.result(30)


# --- inclusion ----------------------------------------------------------------------------------------------


def test_every_inclusion_proof_verifies() -> None:
    for size in range(1, 70):
        for index in range(size):
            proof = inclusion_proof(index, size, TREE.node)
            verify_inclusion(HASHES[index], index, size, proof, NAIVE[size])


@st.composite
def placed(draw: st.DrawFn) -> tuple[int, int]:
    size = draw(sizes)
    return draw(st.integers(0, size - 1)), size


@given(placed(), st.data())
def test_inclusion_refuses_any_altered_bit(place: tuple[int, int], data: st.DataObject) -> None:
    index, size = place
    inputs = [HASHES[index], NAIVE[size], *inclusion_proof(index, size, TREE.node)]
    victim = data.draw(st.integers(0, len(inputs) - 1))
    bit = data.draw(st.integers(0, 255))
    inputs[victim] = _flip(inputs[victim], bit)
    leaf, root, *proof = inputs
    with pytest.raises(LogError):
        verify_inclusion(leaf, index, size, proof, root)


@given(placed(), st.integers(-1, LARGEST + 1))
def test_inclusion_refuses_any_other_index(place: tuple[int, int], other: int) -> None:
    index, size = place
    assume(other != index)
    with pytest.raises(LogError):
        verify_inclusion(HASHES[index], other, size, inclusion_proof(index, size, TREE.node), NAIVE[size])


@given(placed(), sizes)
def test_inclusion_refuses_any_other_size_with_its_root(place: tuple[int, int], other: int) -> None:
    index, size = place
    assume(other != size)
    with pytest.raises(LogError):
        verify_inclusion(HASHES[index], index, other, inclusion_proof(index, size, TREE.node), NAIVE[other])


def test_a_false_size_beside_a_true_root_can_pass_so_both_must_come_from_one_checkpoint() -> None:
    """RFC 6962 binds leaves, not the size: this is why TlogProof takes size and root out of signed text."""
    verify_inclusion(HASHES[0], 0, 3, inclusion_proof(0, 4, TREE.node), NAIVE[4])


@given(placed(), st.data())
def test_inclusion_refuses_a_proof_of_another_length(place: tuple[int, int], data: st.DataObject) -> None:
    index, size = place
    proof: list[bytes] = [*inclusion_proof(index, size, TREE.node)]
    at = data.draw(st.integers(0, len(proof)))
    longer = [*proof[:at], NAIVE[1], *proof[at:]]
    with pytest.raises(LogError):
        verify_inclusion(HASHES[index], index, size, longer, NAIVE[size])
    if proof:
        del proof[min(at, len(proof) - 1)]
        with pytest.raises(LogError):
            verify_inclusion(HASHES[index], index, size, proof, NAIVE[size])


def test_inclusion_refuses_a_true_path_at_a_size_it_does_not_reach() -> None:
    """The hashes alone are right in both: only counting the levels refuses them."""
    with pytest.raises(LogError, match="too short"):
        verify_inclusion(HASHES[0], 0, 3, inclusion_proof(0, 2, TREE.node), NAIVE[2])
    with pytest.raises(LogError, match="too long"):
        verify_inclusion(HASHES[3], 1, 2, inclusion_proof(3, 4, TREE.node), NAIVE[4])


def test_inclusion_refuses_hashes_of_shifted_length() -> None:
    """31 bytes beside 33 hash to the same node as 32 beside 32."""
    left, right = HASHES[:2]
    with pytest.raises(LogError, match="32 bytes"):
        verify_inclusion(left + right[:1], 0, 2, [right[1:]], NAIVE[2])


@pytest.mark.parametrize(("index", "size"), [(0, 0), (5, 5), (-1, 5), (0, 2**63)])
def test_inclusion_refuses_a_place_outside_the_tree(index: int, size: int) -> None:
    with pytest.raises(LogError):
        inclusion_proof(index, size, TREE.node)
    with pytest.raises(LogError):
        verify_inclusion(EMPTY_ROOT, index, size, [], EMPTY_ROOT)


def test_a_stored_hash_of_the_wrong_length_stops_the_proof() -> None:
    with pytest.raises(LogError):
        inclusion_proof(0, 2, lambda _level, _position: b"truncated row")


# --- consistency --------------------------------------------------------------------------------------------


def test_any_two_prefixes_are_consistent() -> None:
    for new in range(70):
        for old in range(new + 1):
            proof = consistency_proof(old, new, TREE.node)
            verify_consistency(old, new, proof, NAIVE[old], NAIVE[new])


@st.composite
def grown(draw: st.DrawFn) -> tuple[int, int]:
    new = draw(st.integers(2, LARGEST))
    return draw(st.integers(1, new - 1)), new


@given(grown(), st.data())
def test_consistency_refuses_any_altered_bit(sizes_: tuple[int, int], data: st.DataObject) -> None:
    old, new = sizes_
    inputs = [NAIVE[old], NAIVE[new], *consistency_proof(old, new, TREE.node)]
    victim = data.draw(st.integers(0, len(inputs) - 1))
    inputs[victim] = _flip(inputs[victim], data.draw(st.integers(0, 255)))
    old_root, new_root, *proof = inputs
    with pytest.raises(LogError):
        verify_consistency(old, new, proof, old_root, new_root)


@given(grown(), st.integers(0, LARGEST))
def test_consistency_refuses_any_other_size_with_its_root(sizes_: tuple[int, int], other: int) -> None:
    old, new = sizes_
    proof = consistency_proof(old, new, TREE.node)
    if other != old:
        with pytest.raises(LogError):
            verify_consistency(other, new, proof, NAIVE[other], NAIVE[new])
    if other != new:
        with pytest.raises(LogError):
            verify_consistency(old, other, proof, NAIVE[old], NAIVE[other])


@given(grown(), st.data())
def test_consistency_refuses_a_proof_of_another_length(sizes_: tuple[int, int], data: st.DataObject) -> None:
    old, new = sizes_
    proof: list[bytes] = [*consistency_proof(old, new, TREE.node)]
    at = data.draw(st.integers(0, len(proof)))
    longer = [*proof[:at], NAIVE[1], *proof[at:]]
    with pytest.raises(LogError):
        verify_consistency(old, new, longer, NAIVE[old], NAIVE[new])
    del proof[min(at, len(proof) - 1)]
    with pytest.raises(LogError):
        verify_consistency(old, new, proof, NAIVE[old], NAIVE[new])


def test_consistency_refuses_a_true_path_at_sizes_it_does_not_reach() -> None:
    with pytest.raises(LogError, match="too short"):
        verify_consistency(1, 3, consistency_proof(1, 2, TREE.node), NAIVE[1], NAIVE[2])
    beside = NAIVE[4]  # both roots one level up, under the same neighbour
    longer = [*consistency_proof(3, 4, TREE.node), beside]
    with pytest.raises(LogError, match="too long"):
        verify_consistency(3, 4, longer, node_hash(beside, NAIVE[3]), node_hash(beside, NAIVE[4]))


@given(grown(), st.data())
def test_a_rewritten_leaf_is_never_consistent_with_the_old_tree(
    sizes_: tuple[int, int], data: st.DataObject
) -> None:
    old, new = sizes_
    changed = data.draw(st.integers(0, old - 1))
    forked = tree_of([DATA[i] if i != changed else b"rewritten" for i in range(new)])
    with pytest.raises(LogError):
        verify_consistency(old, new, consistency_proof(old, new, forked.node), NAIVE[old], forked.root())


def test_consistency_at_the_edges() -> None:
    verify_consistency(0, 0, [], EMPTY_ROOT, EMPTY_ROOT)
    verify_consistency(0, 5, [], EMPTY_ROOT, NAIVE[5])
    verify_consistency(5, 5, [], NAIVE[5], NAIVE[5])


@pytest.mark.parametrize(
    ("old", "new", "proof", "old_root", "new_root"),
    [
        (0, 5, [], NAIVE[1], NAIVE[5]),  # size 0 has one root only
        (0, 0, [], EMPTY_ROOT, NAIVE[1]),
        (0, 5, [NAIVE[1]], EMPTY_ROOT, NAIVE[5]),
        (5, 5, [], NAIVE[5], NAIVE[4]),  # a fork at equal size
        (5, 5, [NAIVE[5]], NAIVE[5], NAIVE[5]),
        (6, 5, [], NAIVE[6], NAIVE[5]),  # a shrunk log
        (3, 5, [], NAIVE[3], NAIVE[5]),
        (4, 5, [], NAIVE[4], NAIVE[5]),
        (-1, 5, [], NAIVE[1], NAIVE[5]),
        (1, 2**63, [], NAIVE[1], NAIVE[5]),
        (1, 2, [b"short"], NAIVE[1], NAIVE[2]),
    ],
)
def test_consistency_refuses_degenerate_claims(
    old: int, new: int, proof: list[bytes], old_root: bytes, new_root: bytes
) -> None:
    with pytest.raises(LogError):
        verify_consistency(old, new, proof, old_root, new_root)


@pytest.mark.parametrize(("old", "new"), [(2, 1), (-1, 1), (0, -1)])
def test_no_consistency_proof_is_made_for_a_shrunk_tree(old: int, new: int) -> None:
    with pytest.raises(LogError):
        consistency_proof(old, new, TREE.node)


def test_proofs_in_a_huge_tree_ask_for_few_nodes() -> None:
    """Cost is logarithmic: a proof over 2^62 leaves must not walk them."""
    asked: list[tuple[int, int]] = []

    def node(level: int, position: int) -> bytes:
        asked.append((level, position))
        return EMPTY_ROOT

    size = 2**62 - 1
    assert len(inclusion_proof(0, size, node)) == 62
    assert len(consistency_proof(size // 3, size, node)) < 64
    assert len(asked) < 400


# --- tiles --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 1234067, 256), "tile/0/x001/x234/067"),
        (Tile(0, 0, 1), "tile/0/000.p/1"),
        (Tile(63, 999, 255), "tile/63/999.p/255"),
        (Tile(2, 1000, 256), "tile/2/x001/000"),
        (Tile("entries", 273, 112), "tile/entries/273.p/112"),
        (Tile("entries", 1_000_000, 256), "tile/entries/x001/x000/000"),
    ],
)
def test_tile_paths_are_those_of_the_spec(tile: Tile, path: str) -> None:
    assert tile_path(tile.level, tile.index, tile.width) == path
    assert parse_tile_path(path) == tile


@given(st.one_of(st.integers(0, 63), st.just("entries")), st.integers(0, 2**63 - 1), st.integers(1, 256))
def test_tile_paths_round_trip(level: int, index: int, width: int) -> None:
    assert parse_tile_path(tile_path(level, index, width)) == Tile(level, index, width)


@pytest.mark.parametrize(
    "path",
    [
        "/tile/0/000",
        "tile/0/0",
        "tile/00/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/0/x000/001",  # a second name of tile 1
        "tile/0/001/234",  # inner groups start with x
        "tile/0/x001",
        "tile/0/000.p/0",
        "tile/0/000.p/256",  # a full tile has no suffix
        "tile/0/000.p/012",
        "tile/0/000.p/",
        "tile/0/000\n",
        "tile/0/../000",
        "tile/0/٠٠٠",  # Arabic digits are digits to int()
        "tile/entries/",
        "tile/8/0/000",
        "tile/0/x999/x999/x999/x999/x999/x999/999",  # past 2^63
        "",
    ],
)
def test_parse_tile_path_refuses_every_other_spelling(path: str) -> None:
    with pytest.raises(LogError):
        parse_tile_path(path)


@pytest.mark.parametrize(("level", "index", "width"), [(64, 0, 256), (0, -1, 256), (0, 0, 0), (0, 0, 257)])
def test_tile_path_refuses_tiles_that_do_not_exist(level: int, index: int, width: int) -> None:
    with pytest.raises(LogError):
        tile_path(level, index, width)


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=256))
def test_entry_bundles_round_trip(entries: list[bytes]) -> None:
    assert parse_entry_bundle(entry_bundle(entries)) == entries


def test_entry_bundle_carries_the_longest_entry() -> None:
    longest = bytes(MAX_ENTRY_BYTES)
    assert entry_bundle([b"ab", b""]).hex() == "000261620000"
    assert parse_entry_bundle(entry_bundle([longest])) == [longest]


@pytest.mark.parametrize("entries", [[], [bytes(MAX_ENTRY_BYTES + 1)], [b""] * 257])
def test_entry_bundle_refuses_what_its_framing_cannot_carry(entries: list[bytes]) -> None:
    with pytest.raises(LogError):
        entry_bundle(entries)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x00\x02a", b"\x00\x01ab", bytes(2 * 257)])
def test_parse_entry_bundle_refuses_cut_and_overfull_bundles(data: bytes) -> None:
    with pytest.raises(LogError):
        parse_entry_bundle(data)


def _flip(value: bytes, bit: int) -> bytes:
    return (int.from_bytes(value, "big") ^ (1 << bit)).to_bytes(32, "big")
