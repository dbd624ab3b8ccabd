"""Laws of the prefix map, against the definition written down as a recursion; and forgeries, each refused.

`python tests/test_prefix_map.py` prints the golden roots from the recursion alone.
"""

import gc
import json
import random
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import LogError
from ledger.log.prefixmap import (
    NOTHING,
    MapProof,
    Other,
    PrefixMap,
    value_of,
    verify_absent,
    verify_present,
)

pytestmark = pytest.mark.slow

Items = dict[bytes, bytes]
ZEROS = bytes(32)


# --- the definition -----------------------------------------------------------------------------------------


def bit(tag: bytes, depth: int) -> int:
    return tag[depth // 8] >> (7 - depth % 8) & 1


def leaf(tag: bytes, v: bytes) -> bytes:
    return sha256(b"\x02" + tag + v).digest()


def parent(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x03" + left + right).digest()


def defined_root(items: Mapping[bytes, bytes], depth: int = 0) -> bytes:
    """Missing: zeros. Alone: its leaf hash, however deep. More: the hash of both halves."""
    if not items:
        return ZEROS
    if len(items) == 1:
        return leaf(*next(iter(items.items())))
    left = {tag: v for tag, v in items.items() if not bit(tag, depth)}
    right = {tag: v for tag, v in items.items() if tag not in left}
    return parent(defined_root(left, depth + 1), defined_root(right, depth + 1))


def defined_proof(items: Mapping[bytes, bytes], tag: bytes) -> MapProof:
    siblings: list[bytes] = []
    here = dict(items)
    while len(here) > 1:
        depth = len(siblings)
        beside = {t: v for t, v in here.items() if bit(t, depth) != bit(tag, depth)}
        here = {t: v for t, v in here.items() if t not in beside}
        siblings.append(defined_root(beside, depth + 1))
    found = next(iter(here.items()), None)
    return MapProof(tuple(siblings), Other(*found) if found and found[0] != tag else None)


# --- maps to try --------------------------------------------------------------------------------------------


def sample(count: int, common_bits: int = 0, seed: int = 0) -> Items:
    """`count` tags, or as many as there are, that agree in their first `common_bits` bits."""
    source = random.Random(seed)
    prefix = source.getrandbits(256) >> (256 - common_bits) << (256 - common_bits) if common_bits else 0
    count = min(count, 2 ** (256 - common_bits))
    items: Items = {}
    while len(items) < count:
        tag = (prefix | source.getrandbits(256 - common_bits)) if common_bits < 256 else prefix
        items[tag.to_bytes(32, "big")] = source.randbytes(32)
    return items


def built(items: Mapping[bytes, bytes]) -> PrefixMap:
    return PrefixMap().insert(items.items())


def flip(data: bytes, at: int) -> bytes:
    return (int.from_bytes(data, "big") ^ 1 << (8 * len(data) - 1 - at)).to_bytes(len(data), "big")


def blend(spread: int, crowd: int, common_bits: int, seed: int) -> Items:
    return sample(spread, seed=seed) | sample(crowd, common_bits, seed + 1)


LAW = settings(deadline=None, max_examples=60)  # hundreds of tags in one narrow place are slow on purpose
seeds = st.integers(0, 2**32)
sizes = st.integers(0, 40) | st.integers(0, 4) | st.integers(250, 300)
maps = st.builds(blend, sizes, sizes, st.sampled_from([0, 3, 8, 200, 247, 255]), seeds)
small = st.dictionaries(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), max_size=8)


@st.composite
def absent_tags(draw: st.DrawFn, items: Items) -> bytes:
    """Anywhere, or one bit beside a tag that is in."""
    near = [flip(tag, at) for tag in sorted(items)[:20] for at in (0, 7, 8, 9, 100, 199, 200, 248, 255)]
    free = [tag for tag in near if tag not in items]
    return draw(st.sampled_from(free) if free else st.just(sha256(b"elsewhere").digest()))


BIG = sample(70_000)
"""More than 256 pages can hold: branches below branches, and places with one tag among branches."""


@pytest.fixture(scope="module")
def big() -> PrefixMap:
    return built(BIG)


# --- vectors ------------------------------------------------------------------------------------------------

PAIR = {bytes(32): b"\x01" * 32, b"\x20" + bytes(31): b"\x02" * 32}


def vector(count: int) -> Items:
    """Tags SHA256("tag n"), of entries n with leaf hash SHA256("leaf n")."""
    return {
        sha256(b"tag %d" % n).digest(): sha256(
            n.to_bytes(8, "big") + sha256(b"leaf %d" % n).digest()
        ).digest()
        for n in range(count)
    }


ROOTS = {
    0: "0000000000000000000000000000000000000000000000000000000000000000",
    1: "b4a1f45b95c402a907be7e17c4b29495ff5c54e00e49dc452c592e6343e65cc6",
    2: "97f56c8ed351be2d87a6029da4f0fc457097819f23da900549b8c43bbf0b57bf",
    3: "d4404db243469cbb7b3e9cd49a55614f9622dada2536b239ead2f4a58963f51c",
    8: "af989c8d704ec8bfdf696d1167bbd30413962283eaa6a7d2a04e2aab94e85a6b",
    300: "725b9fef5af45a83c5c570680b0c3aa4cf83d12c4aeaf960007439734901c579",
}
PAIR_ROOT = "7f1cab6d851b716b71771c2fc3d7f5477ec70eef955e37ff97e903841a11558e"


@pytest.mark.parametrize("count", ROOTS)
def test_roots_are_the_golden_ones(count: int) -> None:
    items = [
        (sha256(b"tag %d" % n).digest(), value_of(n, sha256(b"leaf %d" % n).digest())) for n in range(count)
    ]
    assert PrefixMap().insert(items).root.hex() == ROOTS[count] == defined_root(dict(items)).hex()


def test_the_example_of_the_module_docstring() -> None:
    (one, v), (other, w) = PAIR.items()
    assert built(PAIR).root == parent(parent(parent(leaf(one, v), leaf(other, w)), ZEROS), ZEROS)
    assert built(PAIR).root.hex() == PAIR_ROOT


def test_the_smallest_maps() -> None:
    assert PrefixMap().root == NOTHING == ZEROS
    assert len(PrefixMap()) == 0
    assert PrefixMap().insert([(b"t" * 32, b"v" * 32)]).root == leaf(b"t" * 32, b"v" * 32)


def test_a_value_binds_the_index_and_the_leaf() -> None:
    assert value_of(7, b"h" * 32) == sha256(bytes(7) + b"\x07" + b"h" * 32).digest()
    for index, digest in [(-1, ZEROS), (2**64, ZEROS), (0, b"short"), (0, bytes(33))]:
        with pytest.raises(LogError):
            value_of(index, digest)


# --- the root -----------------------------------------------------------------------------------------------


@given(maps | small)
@LAW
def test_the_root_is_the_defined_one(items: Items) -> None:
    assert built(items).root == defined_root(items)


@given(maps, st.integers(1, 60), seeds)
@settings(LAW, max_examples=25)
def test_the_root_does_not_depend_on_order_or_batches(items: Items, batch: int, seed: int) -> None:
    shuffled = list(items.items())
    random.Random(seed).shuffle(shuffled)
    grown = PrefixMap()
    for at in range(0, len(shuffled), batch):
        grown = grown.insert(shuffled[at : at + batch])
        assert len(grown) == min(at + batch, len(shuffled))
    assert grown.root == defined_root(items)
    assert all(grown.get(tag) == v for tag, v in items.items())


def test_every_size_around_a_split_has_the_defined_root() -> None:
    items = list(sample(260).items())
    grown = PrefixMap()
    for size, item in enumerate(items, 1):
        grown = grown.insert([item])
        assert grown.root == defined_root(dict(items[:size]))


def test_a_large_map_has_the_defined_root_and_grows_to_it(big: PrefixMap) -> None:
    assert big.root == defined_root(BIG)
    more = sample(1_000, seed=1)
    assert big.insert(more.items()).root == defined_root(BIG | more)
    assert len(big) == len(BIG)


@given(maps, maps)
@settings(LAW, max_examples=40)
def test_a_snapshot_does_not_change_when_tags_are_added(items: Items, more: Items) -> None:
    before = built(items)
    root = before.root
    new = {tag: v for tag, v in more.items() if tag not in items}
    after = before.insert(new.items())
    assert (before.root, len(before)) == (root, len(items))
    for tag in [*new, *items]:
        assert before.get(tag) == items.get(tag)
    for tag in [*list(new)[:2], *list(items)[:2]]:
        assert before.prove(tag) == defined_proof(items, tag)
    assert after.root == defined_root(items | new)


def test_nothing_added_is_the_same_map() -> None:
    assert built(PAIR).insert([]).root == built(PAIR).root


def test_a_large_map_gives_the_collector_little_to_visit() -> None:
    gc.collect()
    before = len(gc.get_objects())
    grown = built(BIG)
    gc.collect()
    assert len(gc.get_objects()) - before < len(grown) / 50


# --- what insert refuses ------------------------------------------------------------------------------------


@given(maps.filter(bool), st.data())
@LAW
def test_a_tag_is_never_taken_twice(items: Items, data: st.DataObject) -> None:
    tag = data.draw(st.sampled_from(sorted(items)))
    grown = built(items)
    new = vector(data.draw(st.integers(0, 20)))
    for v in (items[tag], flip(items[tag], 0)):
        with pytest.raises(LogError, match=tag.hex()):
            grown.insert([*new.items(), (tag, v)])
        with pytest.raises(LogError, match=tag.hex()):
            PrefixMap().insert([*items.items(), (tag, v)])
    assert grown.root == defined_root(items)


@pytest.mark.parametrize("count", [2, 255, 256, 600])
def test_many_of_one_tag_are_refused(count: int) -> None:
    with pytest.raises(LogError, match="already"):
        PrefixMap().insert([(ZEROS, sha256(b"%d" % n).digest()) for n in range(count)])


@pytest.mark.parametrize("count", [150, 200, 255, 256])
def test_duplicates_among_tags_that_differ_in_their_last_byte_only_are_refused(count: int) -> None:
    """Where the tag's bits run out, two records with one tag must not be told apart by their values."""
    items = {bytes(31) + bytes([n]): sha256(b"%d" % n).digest() for n in range(count)}
    assert built(items).root == defined_root(items)
    for tag, v in items.items():
        for other in (v, flip(v, 0), flip(v, 7)):
            with pytest.raises(LogError, match="already"):
                built(items).insert([(tag, other)])
        if tag[-1] > 3:
            break


@pytest.mark.parametrize(
    ("tag", "v"), [(bytes(31), bytes(33)), (bytes(33), bytes(31)), (b"", ZEROS), (ZEROS, b"")]
)
def test_insert_refuses_other_lengths(tag: bytes, v: bytes) -> None:
    with pytest.raises(LogError, match="32 bytes"):
        PrefixMap().insert([(tag, v)])
    with pytest.raises(LogError, match="32 bytes"):
        built(PAIR).insert([(b"t" * 32, b"v" * 32), (tag, v)])


@pytest.mark.parametrize("tag", [b"", bytes(31), bytes(33)])
def test_a_look_up_refuses_other_lengths(tag: bytes) -> None:
    for ask in (built(PAIR).get, built(PAIR).prove):
        with pytest.raises(LogError, match="32 bytes"):
            ask(tag)


# --- proofs that hold ---------------------------------------------------------------------------------------


@given(maps.filter(bool))
@LAW
def test_every_tag_that_is_in_is_provably_in(items: Items) -> None:
    grown = built(items)
    for tag, v in list(items.items())[:40]:
        proof = grown.prove(tag)
        assert grown.get(tag) == v
        verify_present(grown.root, tag, v, proof)
        with pytest.raises(LogError):
            verify_absent(grown.root, tag, proof)
    assert proof == defined_proof(items, tag)
    assert proof == MapProof.parse(json.loads(json.dumps(proof.as_json())))


@given(maps, st.data())
@LAW
def test_every_other_tag_is_provably_absent(items: Items, data: st.DataObject) -> None:
    grown = built(items)
    for tag in [sha256(b"a").digest(), data.draw(absent_tags(items))]:
        proof = grown.prove(tag)
        assert proof == MapProof.parse(json.loads(json.dumps(proof.as_json())))
        assert grown.get(tag) is None
        verify_absent(grown.root, tag, proof)
        with pytest.raises(LogError):
            verify_present(grown.root, tag, proof.other.v if proof.other else ZEROS, proof)
    assert proof == defined_proof(items, tag)


def test_proofs_in_a_large_map_are_those_of_the_definition(big: PrefixMap) -> None:
    for tag, v in list(BIG.items())[:200]:
        verify_present(big.root, tag, v, big.prove(tag))
        absent = flip(tag, 17)
        verify_absent(big.root, absent, big.prove(absent))
    for tag in list(BIG)[:1]:
        assert big.prove(tag) == defined_proof(BIG, tag)


def test_a_path_of_256_siblings_works() -> None:
    items = sample(2, 255)
    grown = built(items)
    for tag, v in items.items():
        proof = grown.prove(tag)
        assert len(proof.siblings) == 256
        verify_present(grown.root, tag, v, proof)
        assert len(json.dumps(proof.as_json())) < 1200, "empty siblings must not cost 44 characters each"


# --- proofs that do not -------------------------------------------------------------------------------------


def holds(root: bytes, tag: bytes, v: bytes | None, proof: MapProof) -> bool:
    try:
        verify_absent(root, tag, proof) if v is None else verify_present(root, tag, v, proof)
    except LogError:
        return False
    return True


def mutations(proof: MapProof) -> Iterator[MapProof]:
    """Every single bit of a proof, flipped."""
    for d, sibling in enumerate(proof.siblings):
        for at in range(256):
            yield replace(proof, siblings=(*proof.siblings[:d], flip(sibling, at), *proof.siblings[d + 1 :]))
    if proof.other:
        for at in range(256):
            yield replace(proof, other=Other(flip(proof.other.tag, at), proof.other.v))
            yield replace(proof, other=Other(proof.other.tag, flip(proof.other.v, at)))


@pytest.mark.parametrize("items", [sample(1), sample(2), sample(12), sample(5, 9)], ids=len)
def test_every_single_flipped_bit_is_refused(items: Items) -> None:
    grown = built(items)
    tag, v = next(iter(items.items()))
    free = [flip(tag, at) for at in (0, 3, 255)]
    for claim, value in [(tag, v), *((t, None) for t in free if t not in items)]:
        proof = grown.prove(claim)
        assert holds(grown.root, claim, value, proof)
        assert not any(holds(grown.root, claim, value, changed) for changed in mutations(proof))
        for at in range(256):
            assert not holds(flip(grown.root, at), claim, value, proof)
            if value is not None:
                assert not holds(grown.root, claim, flip(value, at), proof)
                assert not holds(grown.root, flip(claim, at), value, proof)
            elif holds(grown.root, flip(claim, at), None, proof):  # another tag of the same place
                assert flip(claim, at) not in items
                assert grown.prove(flip(claim, at)) == proof


@given(maps.filter(bool), st.data())
@LAW
def test_proofs_cut_or_extended_anywhere_are_refused(items: Items, data: st.DataObject) -> None:
    grown = built(items)
    inside = data.draw(st.sampled_from(sorted(items)))
    for tag, v in [(inside, items[inside]), (data.draw(absent_tags(items)), None)]:
        proof = grown.prove(tag)
        path = proof.siblings
        cut = [path[:d] for d in range(len(path))] + [path[d:] for d in range(1, len(path) + 1)]
        extra = [ZEROS, grown.root, *path[:1], leaf(inside, items[inside])]
        extended = [(*path[:d], e, *path[d:]) for d in (0, len(path) // 2, len(path)) for e in extra]
        for siblings in cut + [e for e in extended if len(e) <= 256]:
            changed = replace(proof, siblings=siblings)
            assert not holds(grown.root, tag, v, changed)
            assert not holds(grown.root, tag, None, replace(changed, other=None)), "the place is not empty"


@given(maps.filter(bool), st.data())
@LAW
def test_no_proof_made_from_true_ones_shows_the_opposite(items: Items, data: st.DataObject) -> None:
    """Any true path, at any length, with any record of the map shown in the place."""
    grown = built(items)
    chosen = data.draw(st.lists(st.sampled_from(sorted(items)), min_size=1, max_size=4))
    absent = data.draw(absent_tags(items))
    shown = [None, *(Other(tag, items[tag]) for tag in chosen)]
    for path in [grown.prove(tag).siblings for tag in [*chosen, absent]]:
        for depth in {len(path), len(path) - 1, len(path) // 2, 0} - {-1}:
            for other in shown:
                proof = MapProof(path[:depth], other)
                assert not any(holds(grown.root, tag, None, proof) for tag in chosen)
                assert not any(holds(grown.root, absent, items[tag], proof) for tag in chosen)


# --- forged roots: whoever made the tree, one tag has one truth ------------------------------------------------

Tree = Any  # None, ("leaf", tag, v), or ("node", left, right)
TAGS = [bytes([n << 5]) + bytes(31) for n in range(8)]
trees: st.SearchStrategy[Tree] = st.recursive(
    st.none() | st.tuples(st.just("leaf"), st.sampled_from(TAGS), st.sampled_from([b"v" * 32, b"w" * 32])),
    lambda inner: st.tuples(st.just("node"), inner, inner),
    max_leaves=12,
)


def tree_hash(tree: Tree) -> bytes:
    match tree:
        case None:
            return ZEROS
        case ("leaf", tag, v):
            return leaf(tag, v)
        case (_, left, right):
            return parent(tree_hash(left), tree_hash(right))
    raise AssertionError


def paths_along(tree: Tree, tag: bytes) -> list[tuple[bytes, ...]]:
    """Every true path from the root of a forged tree along the tag, ending anywhere."""
    found: list[tuple[bytes, ...]] = [()]
    while tree is not None and tree[0] == "node":
        side = bit(tag, len(found) - 1)
        found.append((*found[-1], tree_hash(tree[2 - side])))
        tree = tree[1 + side]
    return found


@given(trees)
@settings(LAW, max_examples=200)
def test_under_any_root_at_most_one_claim_about_a_tag_verifies(tree: Tree) -> None:
    root = tree_hash(tree)
    records = [Other(tag, v) for tag in TAGS for v in (b"v" * 32, b"w" * 32)]
    for tag in TAGS:
        accepted: set[bytes | None] = set()
        for path in paths_along(tree, tag):
            accepted |= {v for v in (b"v" * 32, b"w" * 32) if holds(root, tag, v, MapProof(path))}
            accepted |= {None for other in [None, *records] if holds(root, tag, None, MapProof(path, other))}
        assert len(accepted) <= 1


T, U = TAGS[0], TAGS[7]  # they differ in their first bit
V, W = b"v" * 32, b"w" * 32


def test_an_inner_node_is_no_leaf() -> None:
    """The children's hashes offered as tag and value: only the first byte hashed tells the two apart."""
    root = parent(leaf(T, V), leaf(U, W))
    assert built({T: V, U: W}).root == root
    with pytest.raises(LogError, match="does not lead"):
        verify_present(root, leaf(T, V), leaf(U, W), MapProof(()))
    with pytest.raises(LogError, match="does not lead"):
        verify_absent(root, T, MapProof((), Other(leaf(T, V), leaf(U, W))))


def test_a_leaf_is_no_inner_node() -> None:
    """A "tag" and "value" that are hashes of another tree do not open that tree."""
    hidden = (leaf(T, V), leaf(U, W))
    root = leaf(*hidden)
    with pytest.raises(LogError, match="does not lead"):
        verify_present(root, T, V, MapProof((hidden[1],)))


def test_the_border_between_tag_and_value_cannot_move() -> None:
    root = leaf(T, V)
    with pytest.raises(LogError, match="32 bytes"):
        verify_present(root, T + V[:1], V[1:], MapProof(()))
    with pytest.raises(LogError, match="32 bytes"):
        verify_present(root, T[:31], T[31:] + V, MapProof(()))
    with pytest.raises(LogError, match="32 bytes"):
        verify_present(leaf(T, V + W), T, V + W, MapProof(()))
    with pytest.raises(LogError, match="32 bytes"):
        MapProof((), Other(T + V[:1], V[1:]))
    with pytest.raises(LogError, match="32 bytes"):
        MapProof((bytes(31),))
    with pytest.raises(LogError, match="32 bytes"):
        verify_absent(root, U[:31], MapProof((), Other(T, V)))


def test_the_tag_itself_in_its_place_is_not_absence() -> None:
    with pytest.raises(LogError, match="itself"):
        verify_absent(leaf(T, V), T, MapProof((), Other(T, V)))


def test_a_proof_that_shows_a_leaf_in_the_place_is_none_of_presence() -> None:
    """Nothing of a proof goes unread: what it shows beside the claim cannot be swapped."""
    with pytest.raises(LogError, match="shows the tag"):
        verify_present(leaf(T, V), T, V, MapProof((), Other(U, W)))


def test_a_leaf_off_the_path_does_not_show_absence() -> None:
    """A leaf with another first bit under the tag's half: no map's tree, though the hashes fit."""
    root = parent(leaf(U, W), parent(leaf(TAGS[4], V), leaf(TAGS[6], V)))
    with pytest.raises(LogError, match="cannot be in the place"):
        verify_absent(root, T, MapProof((parent(leaf(TAGS[4], V), leaf(TAGS[6], V)),), Other(U, W)))


def test_a_single_tag_below_its_place_is_refused() -> None:
    root = parent(leaf(T, V), ZEROS)
    with pytest.raises(LogError, match="goes on below"):
        verify_present(root, T, V, MapProof((ZEROS,)))
    with pytest.raises(LogError, match="goes on below"):
        verify_absent(root, TAGS[1], MapProof((ZEROS,), Other(T, V)))
    with pytest.raises(LogError, match="goes on below"):
        verify_absent(parent(ZEROS, ZEROS), T, MapProof((ZEROS,)))


def test_an_empty_place_beside_a_misplaced_leaf_passes_and_excludes_presence_all_the_same() -> None:
    """The limit the module docstring names: a hash does not tell a leaf from a node."""
    root = parent(leaf(T, V), ZEROS)
    verify_absent(root, U, MapProof((leaf(T, V),)))
    for v in (V, W):
        for siblings in ((), (leaf(T, V),), (ZEROS,), (ZEROS, leaf(T, V)), (leaf(T, V), ZEROS)):
            assert not holds(root, U, v, MapProof(siblings))


def test_no_place_is_empty_below_the_last_bit() -> None:
    one, other = sample(2, 255)
    path = built({one: V, other: W}).prove(one).siblings
    root = ZEROS
    for depth in range(255, -1, -1):
        root = parent(path[depth], root) if bit(one, depth) else parent(root, path[depth])
    with pytest.raises(LogError, match="256"):
        verify_absent(root, one, MapProof(path))


def test_a_path_is_never_longer_than_a_tag() -> None:
    MapProof((V,) * 256)
    with pytest.raises(LogError, match="256"):
        MapProof((V,) * 257)
    with pytest.raises(LogError, match="256"):
        MapProof.parse({"siblings": ["not even base64"] * 257})


def test_the_empty_map_holds_nothing_and_no_other_root_passes_for_it() -> None:
    verify_absent(NOTHING, T, PrefixMap().prove(T))
    with pytest.raises(LogError):
        verify_absent(leaf(U, W), T, PrefixMap().prove(T))
    with pytest.raises(LogError):
        verify_absent(b"", T, PrefixMap().prove(T))
    with pytest.raises(LogError):
        verify_present(NOTHING, T, V, MapProof(()))


# --- the spelling -------------------------------------------------------------------------------------------

B64 = b64encode(V).decode()


def test_the_spelling_is_this_one() -> None:
    proof = MapProof((V, ZEROS), Other(T, W))
    assert proof.as_json() == {
        "siblings": [B64, ""],
        "other": {"tag": b64encode(T).decode(), "v": b64encode(W).decode()},
    }
    assert MapProof((ZEROS, V)).as_json() == {"siblings": ["", B64]}
    assert MapProof.parse(proof.as_json()) == proof


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "",
        {},
        {"siblings": None},
        {"siblings": B64},
        {"siblings": {}},
        {"siblings": [], "more": 1},
        {"siblings": [], "other": None},
        {"siblings": [], "other": {}},
        {"siblings": [], "other": {"tag": B64}},
        {"siblings": [], "other": {"tag": B64, "v": ""}},
        {"siblings": [], "other": {"tag": B64, "v": B64, "w": B64}},
        {"siblings": [], "other": {"tag": B64, "v": 1}},
        {"siblings": [None]},
        {"siblings": [0]},
        {"siblings": [[]]},
        {"siblings": [V]},
        {"siblings": [b64encode(ZEROS).decode()]},  # the second spelling of ""
        {"siblings": [b64encode(V[:31]).decode()]},
        {"siblings": [b64encode(V + V).decode()]},
        {"siblings": [B64[:-1]]},
        {"siblings": [B64 + "\n"]},
        {"siblings": [" " + B64]},
        {"siblings": [B64[:-2] + chr(ord(B64[-2]) + 1) + "="]},  # bits a lax decoder drops
        {"siblings": ["é" * 44]},
        {"siblings": ["_" * 43 + "="]},
    ],
    ids=repr,
)
def test_any_other_spelling_is_refused(value: object) -> None:
    with pytest.raises(LogError):
        MapProof.parse(value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=50) | st.just(B64),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["siblings", "other", "tag", "v", "x"]), inner, max_size=4)
    ),
)


@given(json_values)
@LAW
def test_parse_refuses_or_gives_back_what_it_was_given(value: object) -> None:
    try:
        proof = MapProof.parse(value)
    except LogError:
        return
    assert proof.as_json() == value


if __name__ == "__main__":
    for size in ROOTS:
        print(size, defined_root(vector(size)).hex())
    print("pair", defined_root(PAIR).hex())
