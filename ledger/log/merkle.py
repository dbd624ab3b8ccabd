"""The Merkle tree of the log: hashes, a tree that grows, proofs, and the names of tiles.

Implements RFC 6962 §2.1 (SHA-256), the verification procedures of RFC 9162 §2.1.3.2 and §2.1.4.2, and the
paths and entry bundles of C2SP tlog-tiles. Pure: hashes come in through `node(level, i)`, which :class:`Tree`
answers from memory and a client from tiles; `node(0, i)` is the hash of leaf `i`, `node(l, i)` the root of the
*complete* subtree over leaves `i·2^l … (i+1)·2^l - 1`. No other subtree is ever asked for.

The verifiers guarantee that a proof leads from a leaf (or an older root) to the given root. They do not
guarantee that `size` is true: the root alone binds the leaves, and some proofs pass at a second size. Root
and size must come together out of one signed checkpoint.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from ledger.errors import LogError
from ledger.ids import Digest

HASH_BYTES = 32
MAX_SIZE = 2**63 - 1
"""Tree sizes fit a signed 64-bit integer, as other implementations store them."""
TILE_WIDTH = 256
MAX_ENTRY_BYTES = 65_535
EMPTY_ROOT = Digest(sha256(b"").digest())

NodeReader = Callable[[int, int], bytes]
"""`node(level, i)`: the stored hash of a complete subtree."""


# --- hashing ------------------------------------------------------------------------------------------------


def leaf_hash(data: bytes) -> Digest:
    """The prefix 00 keeps an interior node from being presented as a leaf."""
    return Digest(sha256(b"\x00" + data).digest())


def node_hash(left: bytes, right: bytes) -> Digest:
    return Digest(sha256(b"\x01" + left + right).digest())


class Tree:
    """A whole log's hashes in memory, 64 bytes a leaf: it only grows, and answers as the tree of any earlier size.

    One thread extends it while others read: a complete subtree never changes once it is there.
    """

    __slots__ = ("_levels", "_size")

    def __init__(self) -> None:
        self._levels = [bytearray()]
        self._size = 0

    @property
    def size(self) -> int:
        return self._size

    def extend(self, leaf_hashes: Iterable[bytes]) -> None:
        """Add leaves by their hashes, of 32 bytes each."""
        added = list(leaf_hashes)
        _check_hash(*added)
        below = self._levels[0]
        below += b"".join(added)
        for level in range(1, 64):
            complete = len(below) // (2 * HASH_BYTES)
            if level == len(self._levels):
                if not complete:
                    break
                self._levels.append(bytearray())
            above = self._levels[level]
            first = len(above) // HASH_BYTES
            if first == complete:
                break
            pairs = memoryview(below)
            above += b"".join(
                [
                    sha256(b"\x01" + pairs[at : at + 2 * HASH_BYTES]).digest()
                    for at in range(first * 2 * HASH_BYTES, complete * 2 * HASH_BYTES, 2 * HASH_BYTES)
                ]
            )
            pairs.release()
            below = above
        # INVARIANT: last, so that no reader is told of a leaf before the nodes above it are there.
        self._size = len(self._levels[0]) // HASH_BYTES

    def node(self, level: int, position: int) -> bytes:
        """The hash of a complete subtree. Raises LogError for one that is not there."""
        at = position * HASH_BYTES
        found = bytes(self._levels[level][at : at + HASH_BYTES]) if 0 <= level < len(self._levels) else b""
        if position < 0 or len(found) != HASH_BYTES:
            raise LogError("log.range", f"the tree of `{self._size}` leaves has no node `{level}/{position}`")
        return found

    def root(self, size: int | None = None) -> Digest:
        """The root now, or when the tree held `size` leaves."""
        return root_at(self._size if size is None else size, self.node)


def root_at(size: int, node: NodeReader) -> Digest:
    """The root the stored tree had when it held `size` leaves."""
    _check_size(size)
    return _subtree_root(0, size, node) if size else EMPTY_ROOT


# --- proofs -------------------------------------------------------------------------------------------------


def inclusion_proof(index: int, size: int, node: NodeReader) -> list[Digest]:
    """The path from leaf `index` to the root at `size`, sibling of the leaf first (RFC 9162 §2.1.3.1)."""
    _check_size(size)
    if not 0 <= index < size:
        raise LogError("log.range", f"leaf `{index}` is not in a tree of `{size}` leaves")
    path: list[Digest] = []
    low, high = 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append(_subtree_root(middle, high, node))
            high = middle
        else:
            path.append(_subtree_root(low, middle, node))
            low = middle
    return path[::-1]


def consistency_proof(old: int, new: int, node: NodeReader) -> list[Digest]:
    """That the tree at `new` extends the tree at `old` (RFC 9162 §2.1.4.1). Empty for 0 and for equal sizes."""
    _check_size(new)
    if not 0 <= old <= new:
        raise LogError("log.range", f"a tree of `{new}` leaves cannot extend one of `{old}`")
    if old == 0:
        return []
    proof: list[Digest] = []
    low, high = 0, new
    while old < high:
        middle = low + _split(high - low)
        if old <= middle:
            proof.append(_subtree_root(middle, high, node))
            high = middle
        else:
            proof.append(_subtree_root(low, middle, node))
            low = middle
    if low > 0:  # otherwise what is left is the old tree itself, whose root the verifier holds
        proof.append(_subtree_root(low, high, node))
    return proof[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """RFC 9162 §2.1.3.2, by its step numbers. `leaf` is the leaf *hash*. Raises LogError."""
    # A 31-byte sibling beside a 33-byte one hashes to the same node: every length is checked first.
    _check_size(size)
    _check_hash(leaf, root, *proof)
    # 1.
    if not 0 <= index < size:
        raise LogError("log.inclusion", f"leaf `{index}` is not in a tree of `{size}` leaves")
    # 2., 3.
    at, last, computed = index, size - 1, leaf
    # 4.
    for sibling in proof:
        if last == 0:
            raise LogError("log.inclusion", f"the proof for leaf `{index}` is too long")
        if at & 1 or at == last:
            computed = node_hash(sibling, computed)
            at, last = _climb_left_edge(at, last)
        else:
            computed = node_hash(computed, sibling)
        at, last = at >> 1, last >> 1
    # 5.
    if last != 0:
        raise LogError("log.inclusion", f"the proof for leaf `{index}` is too short")
    if computed != root:
        raise LogError("log.inclusion", f"the proof for leaf `{index}` does not lead to the root")


def verify_consistency(  # noqa: C901, PLR0912 — one numbered procedure, read beside the RFC
    old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> None:
    """RFC 9162 §2.1.4.2, by its step numbers; sizes 0 and equal sizes take an empty proof. Raises LogError."""
    _check_size(new)
    _check_hash(old_root, new_root, *proof)
    if not 0 <= old <= new:
        raise LogError("log.consistency", f"a tree of `{new}` leaves cannot extend one of `{old}`")
    for size, root in ((old, old_root), (new, new_root)):
        if size == 0 and root != EMPTY_ROOT:
            raise LogError("log.consistency", "the root of a tree without leaves is not the empty root")
    if old in (0, new):
        if proof:
            raise LogError("log.consistency", f"nothing is to be proved from `{old}` to `{new}` leaves")
        if old == new and old_root != new_root:
            raise LogError("log.consistency", f"two different roots are given for `{old}` leaves")
        return
    # 1., 2.
    path = [old_root, *proof] if old.bit_count() == 1 else list(proof)
    if not path:
        raise LogError("log.consistency", f"the proof from `{old}` to `{new}` leaves is empty")
    # 3., 4.
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    # 5.
    computed_old = computed_new = path[0]
    # 6.
    for sibling in path[1:]:
        if last == 0:
            raise LogError("log.consistency", f"the proof from `{old}` to `{new}` leaves is too long")
        if at & 1 or at == last:
            computed_old = node_hash(sibling, computed_old)
            computed_new = node_hash(sibling, computed_new)
            at, last = _climb_left_edge(at, last)
        else:
            computed_new = node_hash(computed_new, sibling)
        at, last = at >> 1, last >> 1
    # 7.
    if last != 0:
        raise LogError("log.consistency", f"the proof from `{old}` to `{new}` leaves is too short")
    if computed_old != old_root or computed_new != new_root:
        raise LogError("log.consistency", f"the tree of `{new}` leaves does not extend the one of `{old}`")


# --- tiles --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tile:
    """One static resource of the log; `width` is 256 when it is full."""

    level: int | Literal["entries"]
    index: int
    width: int


def tile_path(level: int | Literal["entries"], index: int, width: int = TILE_WIDTH) -> str:
    """`tile/<L>/<N>[.p/<W>]`, relative to the log's prefix: `tile_path(0, 1234067)` ends `x001/x234/067`."""
    if level != "entries" and not 0 <= level <= 63:
        raise LogError("log.tile", f"there is no tile level `{level}`")
    if not 0 <= index <= MAX_SIZE or not 1 <= width <= TILE_WIDTH:
        raise LogError("log.tile", f"there is no tile `{index}` of width `{width}`")
    groups = [f"{index % 1000:03}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03}")
    partial = "" if width == TILE_WIDTH else f".p/{width}"
    return f"tile/{level}/{'/'.join(reversed(groups))}{partial}"


_TILE = re.compile(
    r"tile/(entries|[0-9]{1,2})/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([0-9]{1,3}))?", flags=re.ASCII
)


def parse_tile_path(path: str) -> Tile:
    """The inverse of :func:`tile_path`. Raises LogError for any other spelling."""
    match = _TILE.fullmatch(path)
    if match is None:
        raise LogError("log.tile", "the path names no tile")
    index = int(match[2].replace("/", "").replace("x", ""))
    width = int(match[3]) if match[3] else TILE_WIDTH
    tile = Tile("entries" if match[1] == "entries" else int(match[1]), index, width)
    # One resource has one name: leading zeros, empty groups and `.p/256` would poison a cache.
    if tile_path(tile.level, tile.index, tile.width) != path:
        raise LogError("log.tile", "the path does not name its tile in the one canonical way")
    return tile


def tiles_of(size: int) -> Iterator[Tile]:
    """Every tile and bundle a tree of `size` leaves has, partial ones included."""
    count, level = size, 0
    while count:
        for index in range(-(-count // TILE_WIDTH)):
            width = min(TILE_WIDTH, count - index * TILE_WIDTH)
            if level == 0:
                yield Tile("entries", index, width)
            yield Tile(level, index, width)
        count, level = count // TILE_WIDTH, level + 1


def entry_bundle(entries: Sequence[bytes]) -> bytes:
    """`u16be length ‖ entry` for each of 1 to 256 entries."""
    if not 1 <= len(entries) <= TILE_WIDTH:
        raise LogError("log.bundle", f"a bundle holds 1 to 256 entries, not `{len(entries)}`")
    if any(len(entry) > MAX_ENTRY_BYTES for entry in entries):
        raise LogError("log.bundle", "an entry is longer than 65,535 bytes")
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def parse_entry_bundle(data: bytes) -> list[bytes]:
    """The inverse of :func:`entry_bundle`. Raises LogError for a cut or overfull bundle."""
    entries: list[bytes] = []
    at = 0
    while at < len(data):
        start = at + 2
        at = start + int.from_bytes(data[at:start], "big")
        entries.append(data[start:at])
    if at != len(data) or not 1 <= len(entries) <= TILE_WIDTH:
        raise LogError("log.bundle", "the bundle is cut short, empty or holds more than 256 entries")
    return entries


# --- the shape of the tree ----------------------------------------------------------------------------------


def _split(size: int) -> int:
    """The largest power of two below `size`: how many leaves hang left of the root."""
    return 1 << (size - 1).bit_length() - 1


def _climb_left_edge(at: int, last: int) -> tuple[int, int]:
    """Skip the levels at which the rightmost node has no sibling and is carried up unchanged."""
    while at and not at & 1:
        at, last = at >> 1, last >> 1
    return at, last


def _complete_subtrees(low: int, high: int, node: NodeReader) -> list[Digest]:
    """Leaves `low…high-1` as complete subtrees, largest first; `low` is a multiple of the first one's size."""
    hashes: list[Digest] = []
    while low < high:
        level = (high - low).bit_length() - 1
        stored = node(level, low >> level)
        _check_hash(stored)
        hashes.append(Digest(stored))
        low += 1 << level
    return hashes


def _subtree_root(low: int, high: int, node: NodeReader) -> Digest:
    return _fold(_complete_subtrees(low, high, node))


def _fold(hashes: Sequence[Digest]) -> Digest:
    root = hashes[-1]
    for left in reversed(hashes[:-1]):
        root = node_hash(left, root)
    return root


def _check_hash(*hashes: bytes) -> None:
    for value in hashes:
        if len(value) != HASH_BYTES:
            raise LogError("log.hash", f"a hash has 32 bytes, not `{len(value)}`")


def _check_size(size: int) -> None:
    if not 0 <= size <= MAX_SIZE:
        raise LogError("log.range", f"`{size}` is not the size of a tree")
