"""The insert-only map from tags to log entries: proofs that a tag is in the log, and proofs that it is not.

A map of two tags that differ in their third bit (`00…` and `20…`), by depth:

    0  root  SHA256(03 ‖ the node at 1 ‖ 00…00)               nothing starts with bit 1
    1        SHA256(03 ‖ the node at 2 ‖ 00…00)
    2        SHA256(03 ‖ leaf of 00… ‖ leaf of 20…)
    3  leaf  SHA256(02 ‖ tag ‖ v),  v = SHA256(u64be index ‖ leaf hash of the log's entry)

Tags and values are 32 bytes; bits are read most significant first. A subtree without tags hashes to 32 zero
bytes, one with a single tag to the hash of its leaf, at whatever depth it starts, and one with more to
SHA256(03 ‖ left ‖ right). So the root says which tags are in and with which values, and nothing about the
order they came in.

Soundness. Under one root, whoever made it and however, and for one tag, no two of "present with v", "present
with another v" and "absent" both verify. An accepted proof is a walk from the root along the tag's bits that
opens each hash on the way as `03 ‖ left ‖ right` and ends at one opened as `02 ‖ tag ‖ v`, or at zeros. Two
walks for one tag meet the same hashes while both go on. Where the first ends, the other goes on (it opens that
hash as `03…`) or ends too (with another tag or value, or with zeros): each time two inputs of SHA-256 collide,
or one hashes to zeros. An honest map can prove what is true of a tag, so against its root nothing else verifies.

That argument never asks whether nodes lie where the rules put them. The verifiers still refuse every
misplacement they can see: a leaf or an empty place beside an empty place, another's leaf off the tag's path, an
empty place at depth 256. One they cannot see: an empty place whose sibling is a lone leaf, which belonged one
level higher; a hash does not tell its kind. A root with such a node is no map's root, and still excludes the
opposite claim. That a root is the map of the log's entries and no others is for who replays the log to find;
root and log must come out of one signed checkpoint.

Tags are taken to be uniformly random, as HMAC outputs are: long common prefixes are right, but slow.
"""

from base64 import b64decode, b64encode
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from operator import add
from typing import Any, NamedTuple, TypeAlias

from ledger.errors import LogError
from ledger.ids import Digest

TAG_BYTES = 32
TAG_BITS = 256
NOTHING = Digest(bytes(32))
"""The hash of a subtree without tags, and the root of the empty map."""

_LEAF, _PARENT = b"\x02", b"\x03"


def value_of(index: int, leaf_hash: bytes) -> bytes:
    """What the map holds for a tag: where its entry is in the log, and which entry it is."""
    if not 0 <= index < 2**64:
        raise LogError("log.range", f"the index `{index}` does not fit 64 bits")
    _check_length("leaf hash", leaf_hash)
    return sha256(index.to_bytes(8, "big") + leaf_hash).digest()


# --- proofs -------------------------------------------------------------------------------------------------


class Other(NamedTuple):
    """The only tag in a subtree where another one was looked for."""

    tag: bytes
    v: bytes


@dataclass(frozen=True, slots=True)
class MapProof:
    """A walk from the root to a tag's place, and whose leaf is there when it is not the tag's own.

    As JSON: `{"siblings": ["<base64>", "", …], "other": {"tag": "<base64>", "v": "<base64>"}}`, where `""`
    spells an empty subtree and `other` is left out where there is none. Each proof has one spelling.
    """

    siblings: tuple[bytes, ...]
    """From the root down: `siblings[d]` is the hash beside the walk at depth d + 1."""
    other: Other | None = None
    """None in a proof of presence, and in one of absence whose place is empty."""

    def __post_init__(self) -> None:
        if len(self.siblings) > TAG_BITS:
            raise LogError("log.map_proof", f"a path has at most `{TAG_BITS}` siblings")
        for sibling in self.siblings:
            _check_length("sibling", sibling)
        if self.other is not None:
            _check_length("other tag", self.other.tag)
            _check_length("other value", self.other.v)

    def as_json(self) -> dict[str, Any]:
        siblings = ["" if sibling == NOTHING else b64encode(sibling).decode() for sibling in self.siblings]
        if self.other is None:
            return {"siblings": siblings}
        return {
            "siblings": siblings,
            "other": {name: b64encode(data).decode() for name, data in self.other._asdict().items()},
        }

    @classmethod
    def parse(cls, value: object) -> "MapProof":
        match value:
            case {"siblings": list(siblings), **rest} if rest.keys() <= {"other"}:
                other = _parse_other(rest["other"]) if rest else None
            case _:
                raise LogError(
                    "log.map_proof", "a map proof is an object of a list `siblings` and maybe `other`"
                )
        if len(siblings) > TAG_BITS:  # before decoding a stranger's list
            raise LogError("log.map_proof", f"a path has at most `{TAG_BITS}` siblings")
        return cls(tuple(map(_parse_sibling, siblings)), other)


def verify_present(root: bytes, tag: bytes, v: bytes, proof: MapProof) -> None:
    """That the map with this root holds `v` for `tag`. Raises LogError."""
    # 1. Both are 32 bytes: 31 beside 33 would hash to the same leaf.
    _check_length("tag", tag)
    _check_length("value", v)
    # 2. The place holds the tag's own leaf, as high as it can be.
    if proof.other is not None:
        raise LogError("log.map_presence", f"the proof shows the tag `{proof.other.tag.hex()}` in the place")
    _check_not_too_deep(proof)
    # 3. The walk back up ends at the root.
    if _climb(_leaf(tag + v), tag, proof.siblings) != root:
        raise LogError("log.map_presence", f"the proof does not lead from the tag `{tag.hex()}` to the root")


def verify_absent(root: bytes, tag: bytes, proof: MapProof) -> None:
    """That the map with this root holds nothing for `tag`. Raises LogError."""
    _check_length("tag", tag)
    depth = len(proof.siblings)
    # 1. What is in the place is not the tag, and may be there.
    if proof.other is None:
        if depth == TAG_BITS:  # its sibling is one whole tag, which belongs higher
            raise LogError("log.map_absence", "no place is empty at depth `256`")
        found: bytes = NOTHING
    else:
        if proof.other.tag == tag:
            raise LogError("log.map_absence", f"the proof shows the tag `{tag.hex()}` itself in the place")
        if any(_bit(tag, d) != _bit(proof.other.tag, d) for d in range(depth)):
            raise LogError(
                "log.map_absence",
                f"the tag `{proof.other.tag.hex()}` cannot be in the place of `{tag.hex()}`",
            )
        found = _leaf(proof.other.tag + proof.other.v)
    # 2. The place is as high as it can be.
    _check_not_too_deep(proof)
    # 3. The walk back up ends at the root.
    if _climb(found, tag, proof.siblings) != root:
        raise LogError(
            "log.map_absence", f"the proof does not lead from the place of `{tag.hex()}` to the root"
        )


def _climb(found: bytes, tag: bytes, siblings: tuple[bytes, ...]) -> bytes:
    for depth in range(len(siblings) - 1, -1, -1):
        beside = siblings[depth]
        found = _parent(beside, found) if _bit(tag, depth) else _parent(found, beside)
    return found


def _check_not_too_deep(proof: MapProof) -> None:
    """A parent stands above two tags or more; one with at most one tag below it is no node of a map."""
    if proof.siblings and proof.siblings[-1] == NOTHING:
        raise LogError("log.map_proof", "the walk goes on below the place where a single tag can be")


# --- the map ------------------------------------------------------------------------------------------------
#
# A tree of 256-way branches, one byte of the tag a level, over pages of up to 255 records. Both begin with a
# crown: the binary nodes above 2^bits slots, hashed and stored, so that one record more costs one hash a level.
# A branch's slots are its 256 children; a page's hold its records by their next `bits` bits, about one a slot.
#
#     crown  = count[2^(bits+1)] ‖ hash[2^(bits+1)]   count[0] is `bits`; node 1 is the top, node i has the
#                                                     children 2i and 2i+1, the slots are the second half
#     page   = crown ‖ records, sorted                record = tag ‖ v
#     branch = crown, children
#
# INVARIANT: a count is exact in a page's slots; elsewhere only whether it is 0, 1 or more means anything. A page is
# one bytes object, so the cyclic collector has one branch to visit for thousands of tags. What is stored never
# changes: inserting copies what lies on the way.

_PAGE_RECORDS = 255
_RECORD = 64


class _Branch(NamedTuple):
    crown: bytes
    children: tuple["_Node", ...]


_Node: TypeAlias = bytes | _Branch

_EMPTY_PAGE = bytes(66)
_BARE_BRANCH = _Branch(b"\x08" + bytes(66 * 256 - 1), (_EMPTY_PAGE,) * 256)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PrefixMap:
    """One state of the map, never changed; states share what they have in common, and readers need no lock."""

    _top: _Node = _EMPTY_PAGE
    _size: int = 0

    def __len__(self) -> int:
        return self._size

    @property
    def root(self) -> Digest:
        return Digest(_top_hash(_crown(self._top)))

    def insert(self, items: Iterable[tuple[bytes, bytes]]) -> "PrefixMap":
        """The map with these (tag, v) too. All or nothing; a tag that is in already is refused."""
        records = []
        for tag, v in items:
            if len(tag) != TAG_BYTES or len(v) != TAG_BYTES:
                _check_length("tag", tag)
                _check_length("value", v)
            records.append(tag + v)
        if not records:
            return self
        return PrefixMap(_grow(self._top, records, 0), self._size + len(records))

    def get(self, tag: bytes) -> bytes | None:
        """The v of `tag`."""
        _check_length("tag", tag)
        node, depth = self._top, 0
        while isinstance(node, _Branch):
            node, depth = node.children[tag[depth]], depth + 1
        slots = 1 << node[0]
        # Where a page has one slot, there may be no byte of the tag left to choose it by.
        slot = tag[depth] >> (8 - node[0]) if slots > 1 else 0
        found = (record[TAG_BYTES:] for record in _below(node, slots + slot) if record.startswith(tag))
        return next(found, None)

    def prove(self, tag: bytes) -> MapProof:
        """Of the tag's presence if it is in, else of its absence."""
        siblings, found = self._walk(tag)
        if found is None or found.startswith(tag):
            return MapProof(siblings)
        return MapProof(siblings, Other(found[:TAG_BYTES], found[TAG_BYTES:]))

    def _walk(self, tag: bytes) -> tuple[tuple[bytes, ...], bytes | None]:
        """The hashes beside the way to the tag's place, from the root down, and the record found there."""
        _check_length("tag", tag)
        siblings: list[bytes] = []
        node = self._top
        position = _descend(_crown(node), tag, siblings)
        while isinstance(node, _Branch) and node.crown[position] > 1:
            node = node.children[position - 256]
            position = _descend(_crown(node), tag, siblings)
        records = _below(node, position)
        while len(records) > 1:
            depth = len(siblings)
            beside = [record for record in records if _bit(record, depth) != _bit(tag, depth)]
            records = [record for record in records if _bit(record, depth) == _bit(tag, depth)]
            siblings.append(_fold(beside, depth + 1))
        return tuple(siblings), records[0] if records else None


def _descend(crown: bytes, tag: bytes, siblings: list[bytes]) -> int:
    """Walk from the top of a crown towards `tag` while two tags or more are below; the node where that ends."""
    slots = 1 << crown[0]
    node = 1
    while node < slots and crown[node] > 1:
        node = 2 * node + _bit(tag, len(siblings))
        at = 2 * slots + 32 * (node ^ 1)
        siblings.append(crown[at : at + 32])
    return node


def _below(node: _Node, position: int) -> list[bytes]:
    """The records below one position of a node's crown, sorted."""
    crown = _crown(node)
    slots = 1 << crown[0]
    height = crown[0] + 1 - position.bit_length()
    first, end = position << height, (position + 1) << height
    if isinstance(node, _Branch):
        return [r for child in node.children[first - slots : end - slots] for r in _below(child, 1)]
    start = 66 * slots + _RECORD * sum(node[slots:first])
    stop = start + _RECORD * sum(node[first:end])
    return [node[at : at + _RECORD] for at in range(start, stop, _RECORD)]


def _grow(node: _Node, added: list[bytes], depth: int) -> _Node:
    """The node at `depth` bytes with the records in `added` too."""
    if isinstance(node, bytes):
        count = _count(node) + len(added)
        if depth == TAG_BYTES and count > 1:  # nothing is left to tell two records apart by
            raise _duplicate(added[0])
        if count <= _PAGE_RECORDS:
            return _fill(node, added, count, depth)
        node, added = _BARE_BRANCH, _below(node, 1) + added
    groups: defaultdict[int, list[bytes]] = defaultdict(list)
    for record in added:
        groups[record[depth]].append(record)
    crown, children = bytearray(node.crown), list(node.children)
    with memoryview(crown) as view:
        for byte, group in groups.items():
            child = children[byte] = _grow(children[byte], group, depth + 1)
            below = _crown(child)
            _set(view, 256 + byte, below[1], _top_hash(below))
        _settle(view, [256 + byte for byte in groups])
    return _Branch(bytes(crown), tuple(children))


def _fill(page: bytes, added: list[bytes], count: int, depth: int) -> bytes:
    """The page at `depth` bytes with the records in `added` too, `count` together: made anew if that costs less."""
    bits = (count + count // 3).bit_length() - 1
    if bits != page[0] or len(added) > 8:
        return _pack(_below(page, 1) + added, bits, depth)
    for record in added:
        page = _splice(page, record, depth)
    return page


def _pack(records: list[bytes], bits: int, depth: int) -> bytes:
    """A page made anew: its slots, then its crown level by level from the slots up."""
    records.sort()
    leaves = [sha256(_LEAF + record).digest() for record in records]
    slots = [record[depth] >> (8 - bits) for record in records]
    counts = [0] * (1 << bits)
    hashes: list[bytes] = [NOTHING] * (1 << bits)
    low = 0
    for high, (slot, following) in enumerate(zip(slots, [*slots[1:], -1], strict=True), 1):
        if slot != following:
            counts[slot] = high - low
            hashes[slot] = (
                _fork(records, leaves, low, high, 8 * depth + bits) if high - low > 1 else leaves[low]
            )
            low = high
    all_counts, all_hashes = counts, hashes
    while len(counts) > 1:
        hashes = [
            sha256(_PARENT + left + right).digest() if m + n > 1 else right if n else left  # a lone tag rises
            for left, right, m, n in zip(hashes[::2], hashes[1::2], counts[::2], counts[1::2], strict=True)
        ]
        counts = list(map(add, counts[::2], counts[1::2]))
        all_counts, all_hashes = counts + all_counts, hashes + all_hashes
    return b"".join((bytes((bits, *all_counts)), NOTHING, *all_hashes, *records))


def _splice(page: bytes, record: bytes, depth: int) -> bytes:
    """The page with one record more, its crown as wide as before."""
    slots = 1 << page[0]
    node = slots + (record[depth] >> (8 - page[0]))
    start = 66 * slots + _RECORD * sum(page[slots:node])
    stop = start + _RECORD * page[node]
    bucket = sorted([*_below(page, node), record])
    crown = bytearray(page[: 66 * slots])
    with memoryview(crown) as view:
        _set(view, node, len(bucket), _fold(bucket, 8 * depth + page[0]))
        _settle(view, [node])
    return b"".join((crown, page[66 * slots : start], *bucket, page[stop:]))


def _set(crown: memoryview, node: int, count: int, top: bytes) -> None:
    at = (2 << crown[0]) + 32 * node
    crown[node] = count
    crown[at : at + 32] = top


def _settle(crown: memoryview, changed: Iterable[int]) -> None:
    """Bring the nodes above the changed slots up to date, each once."""
    start = 2 << crown[0]
    above: set[int] = set()
    for node in changed:
        while (node := node >> 1) and node not in above:
            above.add(node)
    for node in sorted(above, reverse=True):
        at = start + 32 * node
        below = at + 32 * node
        if crown[node] < 2:  # until now
            left, right = crown[2 * node], crown[2 * node + 1]
            if left + right == 1:  # a lone tag rises
                crown[node] = 1
                crown[at : at + 32] = crown[below + 32 : below + 64] if right else crown[below : below + 32]
                continue
            crown[node] = 2
        crown[at : at + 32] = sha256(_PARENT + crown[below : below + 64]).digest()


def _fold(records: list[bytes], depth: int) -> bytes:
    """The hash of the subtree at `depth` bits over these sorted records, which agree in all bits before."""
    leaves = [sha256(_LEAF + record).digest() for record in records]
    if len(leaves) < 2:
        return leaves[0] if leaves else NOTHING
    return _fork(records, leaves, 0, len(records), depth)


def _fork(records: list[bytes], leaves: list[bytes], low: int, high: int, depth: int) -> bytes:
    """The same over `records[low:high]`, two or more."""
    # Sorted, so all agree for as long as the first and the last do.
    first, last = records[low], records[high - 1]
    for fork in range(depth, TAG_BITS):
        byte, mask = fork >> 3, 128 >> (fork & 7)
        if (first[byte] ^ last[byte]) & mask:
            break
    else:
        raise _duplicate(first)
    middle = low + 1
    while not records[middle][byte] & mask:
        middle += 1
    left = leaves[low] if middle - low == 1 else _fork(records, leaves, low, middle, fork + 1)
    right = leaves[middle] if high - middle == 1 else _fork(records, leaves, middle, high, fork + 1)
    top = _parent(left, right)
    for above in range(fork - 1, depth - 1, -1):
        top = _parent(NOTHING, top) if _bit(first, above) else _parent(top, NOTHING)
    return top


# --- hashes, bits and spelling ------------------------------------------------------------------------------


def _leaf(record: bytes) -> bytes:
    return sha256(_LEAF + record).digest()


def _parent(left: bytes, right: bytes) -> bytes:
    return sha256(_PARENT + left + right).digest()


def _count(page: bytes) -> int:
    return (len(page) - (66 << page[0])) // _RECORD


def _top_hash(crown: bytes) -> bytes:
    at = (2 << crown[0]) + 32
    return crown[at : at + 32]


def _crown(node: _Node) -> bytes:
    """The crown, to be read from the front; a page's records follow."""
    return node.crown if isinstance(node, _Branch) else node


def _bit(tag: bytes, depth: int) -> int:
    return tag[depth >> 3] >> (7 - (depth & 7)) & 1


def _duplicate(record: bytes) -> LogError:
    return LogError(
        "log.duplicate_tag",
        f"the tag `{record[:TAG_BYTES].hex()}` is in the map already",
        "use each tag once",
    )


def _check_length(name: str, data: bytes) -> None:
    if len(data) != TAG_BYTES:
        raise LogError("log.map_length", f"a {name} has 32 bytes, not `{len(data)}`")


def _parse_other(value: object) -> Other:
    match value:
        case {"tag": tag, "v": v, **rest} if not rest:
            return Other(_from_base64(tag), _from_base64(v))
        case _:
            raise LogError("log.map_proof", "`other` is an object of a `tag` and a `v`")


def _parse_sibling(text: object) -> bytes:
    if text == "":
        return NOTHING
    sibling = _from_base64(text)
    if sibling == NOTHING:
        raise LogError("log.map_proof", "an empty subtree is spelled as the empty string")
    return sibling


def _from_base64(text: object) -> bytes:
    """Canonical only: a lax decoder would take other spellings of the same proof."""
    try:
        data = b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError as error:
        raise LogError("log.map_proof", "a hash is not base64") from error
    if not data or b64encode(data).decode() != text:
        raise LogError("log.map_proof", "a hash is not canonical base64")
    return data
