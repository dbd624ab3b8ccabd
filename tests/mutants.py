"""Damaged and forged versions of a signed clip, as many as wanted, each made again from its seed.

What is damaged is the structure as much as the bytes: boxes are taken out, doubled, moved, renamed, resized and put
into one another, in the file as well as in the manifest store inside it; CBOR and JSON are decoded, changed and
written again with every length above them put right, and with the signature's padding giving back what was added, so
that all that follows stays where it was; samples are moved to where no hash reaches; manifests of other clips, of
strangers and of both at once take the place of the true one.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

import cbor2

from ledger.provenance.jumbf import C2PA_UUID

_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the curve P-256."""
_CONTAINERS: Final = frozenset(
    {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"udta", b"jumb"}
)
_KINDS: Final = b"free skip mdat moov moof mfra uuid ftyp styp meta sidx trak stco co64 stsz edts jumb jumd cbor json".split()
_PREFACE: Final = 16 + 4 + 9 + 8
"""Of the box that holds a manifest store: UUID, version, purpose, offset."""


@dataclass
class Node:
    """A box. `head`: what stands before its children; a box without children is all `head`. `size`: a lie."""

    kind: bytes
    head: bytes = b""
    children: "list[Node] | None" = None
    size: int | None = None
    wide: bool = False
    """Whether its length is written in 64 bits."""

    def encode(self) -> bytes:
        content = self.head + b"".join(child.encode() for child in self.children or ())
        length = len(content) + (16 if self.wide else 8) if self.size is None else self.size
        if self.wide:
            return (1).to_bytes(4, "big") + self.kind + (length % 2**64).to_bytes(8, "big") + content
        return (length % 2**32).to_bytes(4, "big") + self.kind + content


def parse(data: bytes) -> list[Node]:
    """The boxes of a file that was written by us."""
    found, at = [], 0
    while at < len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        content = data[at + 8 : at + length]
        if kind in _CONTAINERS:
            found.append(Node(kind, children=parse(content)))
        elif kind == b"uuid" and content.startswith(C2PA_UUID):
            found.append(Node(kind, content[:_PREFACE], parse(content[_PREFACE:])))
        else:
            found.append(Node(kind, content))
        at += length
    return found


def walk(nodes: list[Node]) -> Iterator[tuple[list[Node], int]]:
    """Every box, as the list that holds it and its place there."""
    for place, node in enumerate(nodes):
        yield nodes, place
        yield from walk(node.children or [])


@dataclass(frozen=True)
class Material:
    """What mutants are made of: the clip, another one by the same signer, and one by a stranger of the same name."""

    clip: bytes
    sibling: bytes
    stranger: bytes


@dataclass
class Maker:
    material: Material
    rng: random.Random

    # --- bytes ---

    def flipped(self, data: bytes) -> bytes:
        altered = bytearray(data)
        for _ in range(self.rng.choice((1, 1, 1, 2, 8))):
            altered[self.rng.randrange(len(altered))] ^= 1 << self.rng.randrange(8)
        return bytes(altered)

    def overwritten(self, data: bytes) -> bytes:
        at, size = self.rng.randrange(len(data)), self.rng.choice((1, 4, 8, 64, 1000))
        fill = self.rng.choice((bytes(size), b"\xff" * size, self.rng.randbytes(size)))
        return (data[:at] + fill + data[at + size :])[: len(data)]

    def inserted(self, data: bytes) -> bytes:
        at = self.rng.randrange(len(data) + 1)
        return data[:at] + self.rng.randbytes(self.rng.choice((1, 4, 8, 100))) + data[at:]

    def cut_out(self, data: bytes) -> bytes:
        at = self.rng.randrange(len(data))
        return data[:at] + data[at + self.rng.choice((1, 4, 8, 100, 4000)) :]

    def truncated(self, data: bytes) -> bytes:
        return data[: self.rng.randrange(len(data))]

    def repeated(self, data: bytes) -> bytes:
        start, stop = sorted(self.rng.randrange(len(data)) for _ in range(2))
        return data[:stop] + data[start:stop] + data[stop:]

    def exchanged(self, data: bytes) -> bytes:
        a, b, c, d = sorted(self.rng.randrange(len(data)) for _ in range(4))
        return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]

    # --- boxes ---

    def boxes(self, data: bytes, change: Callable[[list[Node]], None]) -> bytes:
        tree = parse(data)
        change(tree)
        return b"".join(node.encode() for node in tree)

    def somewhere(
        self, tree: list[Node], within: Callable[[Node], bool] = lambda _: True
    ) -> tuple[list[Node], int]:
        return self.rng.choice([(nodes, at) for nodes, at in walk(tree) if within(nodes[at])])

    def box_gone(self, tree: list[Node]) -> None:
        nodes, at = self.somewhere(tree)
        del nodes[at]

    def box_doubled(self, tree: list[Node]) -> None:
        nodes, at = self.somewhere(tree)
        nodes.insert(self.rng.randrange(len(nodes) + 1), deepcopy(nodes[at]))

    def box_moved(self, tree: list[Node]) -> None:
        nodes, at = self.somewhere(tree)
        node = nodes.pop(at)
        others = [tree, *(one.children for one in (n[i] for n, i in walk(tree)) if one.children is not None)]
        into = self.rng.choice(others)
        into.insert(self.rng.randrange(len(into) + 1), node)

    def box_renamed(self, tree: list[Node]) -> None:
        nodes, at = self.somewhere(tree)
        nodes[at].kind = self.rng.choice((*_KINDS, self.rng.randbytes(4)))

    def box_resized(self, tree: list[Node]) -> None:
        nodes, at = self.somewhere(tree)
        true = len(nodes[at].encode())
        lies = (
            0,
            1,
            7,
            8,
            15,
            true - 1,
            true + 1,
            true + 8,
            2 * true,
            2**31,
            2**32 - 1,
            self.rng.randrange(2**32),
        )
        nodes[at].wide = self.rng.random() < 0.3
        nodes[at].size = self.rng.choice((*lies, 2**63, 2**64 - 1))

    def box_widened(self, tree: list[Node]) -> None:
        nodes, at = self.somewhere(tree)
        nodes[at].wide = True

    def box_added(self, tree: list[Node]) -> None:
        content = self.rng.choice((b"", bytes(8), self.rng.randbytes(60), self.material.clip[-2000:]))
        if self.rng.random() < 0.3:
            node = Node(
                b"uuid",
                C2PA_UUID + bytes(4) + self.rng.choice((b"manifest\0", b"merkle\0")) + bytes(8) + content,
            )
        else:
            node = Node(self.rng.choice(_KINDS), content)
        nodes, _ = self.somewhere(tree)
        where = self.rng.choice((nodes, tree))
        where.insert(self.rng.randrange(len(where) + 1), node)

    def box_wrapped(self, tree: list[Node]) -> None:
        nodes, at = self.somewhere(tree)
        nodes[at] = Node(self.rng.choice(_KINDS), children=[nodes[at]])

    def box_deepened(self, tree: list[Node]) -> None:
        nodes, at = self.somewhere(tree)
        content, kind = nodes[at].encode(), self.rng.choice((b"jumb", b"moov"))
        for _ in range(self.rng.choice((10, 200, 3000))):
            content = Node(kind, content).encode()
        nodes[at] = Node(kind, content)

    def free_swallows_media(self, tree: list[Node]) -> None:
        for node in tree:
            if node.kind == b"mdat":
                node.kind = self.rng.choice((b"free", b"skip", b"mfra", b"ftyp", b"uuid"))
                if node.kind == b"uuid":
                    node.head = C2PA_UUID + bytes(4) + b"merkle\0" + node.head

    def samples_moved(self, tree: list[Node]) -> None:
        """The index points to other pictures, which stand where a manifest's exclusions may reach."""
        clip = self.material.clip
        start = clip.index(b"mdat") + 4
        other = self.flipped(clip[start:])
        kind = self.rng.choice((b"free", b"mfra", b"mdat", b"uuid"))
        head = C2PA_UUID + bytes(4) + b"merkle\0" if kind == b"uuid" else b""
        tree.append(Node(kind, head + other))
        moved = len(clip) + 8 + len(head) - start
        for nodes, at in walk(tree):
            if nodes[at].kind == b"stco":
                table = nodes[at].head
                places = [int.from_bytes(table[i : i + 4], "big") + moved for i in range(8, len(table), 4)]
                nodes[at].head = table[:8] + b"".join((one % 2**32).to_bytes(4, "big") for one in places)

    # --- manifests ---

    def store(self, tree: list[Node]) -> Node:
        return next(node for node in tree if node.kind == b"uuid" and node.children)

    def swapped(self, tree: list[Node]) -> None:
        other = self.rng.choice((self.material.sibling, self.material.stranger))
        self.store(tree).children = self.store(parse(other)).children

    def joined(self, tree: list[Node]) -> None:
        """Manifests of two clips in one store, either as the active one."""
        other = self.rng.choice((self.material.sibling, self.material.stranger))
        ours, theirs = self.store(tree).children or [], self.store(parse(other)).children or []
        manifests = [*(ours[0].children or [])[1:], *(theirs[0].children or [])[1:]]
        self.rng.shuffle(manifests)
        ours[0].children = [(ours[0].children or [])[0], *manifests]

    def two_stores(self, tree: list[Node]) -> None:
        other = self.store(parse(self.rng.choice((self.material.sibling, self.material.stranger))))
        tree.insert(self.rng.randrange(len(tree) + 1), other)

    def transplanted(self, tree: list[Node]) -> None:
        """A box of another clip's manifest in the place of the one of the same label here."""
        other = parse(self.rng.choice((self.material.sibling, self.material.stranger)))
        theirs = [nodes[at] for nodes, at in walk(self.store(other).children or [])]
        nodes, at = self.rng.choice([*walk(self.store(tree).children or [])])
        alike = [one for one in theirs if one.kind == nodes[at].kind and _label(one) == _label(nodes[at])]
        nodes[at] = self.rng.choice(alike or theirs)

    def rewritten(self, tree: list[Node]) -> None:
        """A value of some CBOR or JSON is another; every length above it is right again."""
        manifest = self.store(tree)
        before = len(manifest.encode())
        node = self.rng.choice(
            [n[i] for n, i in walk(manifest.children or []) if n[i].kind in {b"cbor", b"json"}]
        )
        if node.kind == b"json":
            node.head = json.dumps(self.changed(json.loads(node.head)), default=str).encode()
        else:
            node.head = cbor2.dumps(self.changed(cbor2.loads(node.head)))
        if self.rng.random() < 0.7:
            self.pad(manifest, before)

    def resealed(self, tree: list[Node]) -> None:
        """Something of the signature that it does not cover, or its other form, is changed."""
        manifest = self.store(tree)
        before = len(manifest.encode())
        box = next(
            n[i]
            for n, i in walk(manifest.children or [])
            if n[i].kind == b"cbor" and n[i].head[:1] == b"\xd2"
        )
        tag = cbor2.loads(box.head)
        protected, unprotected, payload, signature = tag.value
        unprotected = dict(unprotected)
        match self.rng.randrange(7):
            case 0:
                unprotected.pop("sigTst2", None)
            case 1:
                unprotected["sigTst2"] = self.changed(unprotected.get("sigTst2", {}))
            case 2:
                unprotected["sigTst2"] = _unprotected(
                    self.rng.choice((self.material.sibling, self.material.stranger))
                )
            case 3:
                s = (_ORDER - int.from_bytes(signature[32:], "big")) % _ORDER
                signature = signature[:32] + s.to_bytes(32, "big")
            case 4:
                unprotected[self.rng.choice((1, 33, "x5chain", "rVals", "pad2"))] = self.rng.randbytes(20)
            case 5:
                payload = self.rng.choice((b"", b"other claim", self.rng.randbytes(100)))
            case _:
                head = cbor2.loads(protected)
                protected = cbor2.dumps(self.changed(dict(head)))
        box.head = cbor2.dumps(cbor2.CBORTag(tag.tag, [protected, unprotected, payload, signature]))
        if self.rng.random() < 0.8:
            self.pad(manifest, before)

    def pad(self, manifest: Node, before: int) -> None:
        """Let the signature's padding give back what was added, so that what follows stays in its place."""
        for nodes, at in walk(manifest.children or []):
            box = nodes[at]
            if box.kind == b"cbor" and box.head[:1] == b"\xd2":
                tag = cbor2.loads(box.head)
                if not (
                    isinstance(tag, cbor2.CBORTag) and isinstance(tag.value, list) and len(tag.value) == 4
                ):
                    return
                unprotected = dict(tag.value[1])
                room = len(unprotected.get("pad", b"")) + before - len(manifest.encode())
                unprotected["pad"] = bytes(max(0, room))
                tag.value[1] = unprotected
                box.head = cbor2.dumps(tag)

    def changed(self, value: Any) -> Any:
        """The value, with one thing in it different."""
        match value:
            case cbor2.CBORTag():
                return cbor2.CBORTag(self.rng.choice((value.tag, value.tag + 1)), self.changed(value.value))
            case bool():
                return not value
            case int():
                return self.rng.choice((value + 1, -value - 1, 0, 2**63, 2**64 - 1))
            case str() if value:
                at = self.rng.randrange(len(value))
                return self.rng.choice((value[:at] + "x" + value[at + 1 :], value[:at], value + "/../x", ""))
            case bytes() if value:
                return self.flipped(value)
            case list() | tuple() if value:
                at = self.rng.randrange(len(value))
                match self.rng.randrange(4):
                    case 0:
                        return [*value[:at], *value[at + 1 :]]
                    case 1:
                        return [*value, value[at]]
                    case _:
                        return [*value[:at], self.changed(value[at]), *value[at + 1 :]]
            case Mapping() if value:
                key = self.rng.choice(list(value))
                match self.rng.randrange(5):
                    case 0:
                        return {one: said for one, said in value.items() if one != key}
                    case 1:
                        return {**value, "added": self.rng.choice((1, "x", None, [], {}))}
                    case _:
                        return {**value, key: self.changed(value[key])}
        return self.rng.choice((None, 0, "", [], {}, b""))


def _label(node: Node) -> bytes:
    described = (node.children or [Node(b"")])[0]
    return described.head[17:] if described.kind == b"jumd" else b""


def _unprotected(clip: bytes) -> Any:
    """The time-stamp of another clip."""
    for nodes, at in walk(parse(clip)):
        if nodes[at].kind == b"cbor" and nodes[at].head[:1] == b"\xd2":
            return dict(cbor2.loads(nodes[at].head).value[1])["sigTst2"]
    raise AssertionError("the clip carries no time-stamp")


BYTES = ("flipped", "overwritten", "inserted", "cut_out", "truncated", "repeated", "exchanged")
BOXES = [
    "box_gone",
    "box_doubled",
    "box_moved",
    "box_renamed",
    "box_resized",
    "box_widened",
    "box_added",
    "box_wrapped",
    "box_deepened",
    "free_swallows_media",
    "samples_moved",
    "swapped",
    "joined",
    "two_stores",
    "transplanted",
    "rewritten",
    "rewritten",
    "resealed",
    "resealed",
]


def mutant(material: Material, seed: int) -> tuple[str, bytes]:
    """What was done, and the file; never the clip as it was."""
    rng = random.Random(f"countersign/mutant/{seed}")
    maker = Maker(material, rng)
    while True:
        data = material.clip
        did: list[str] = []
        for name in rng.choices((*BOXES, *BOXES, *BYTES), k=rng.choice((1, 1, 1, 2))):
            if name in BYTES:
                data = getattr(maker, name)(data or b"\0")
            elif not did:  # what was damaged is not parsed again
                data = maker.boxes(data, getattr(maker, name))
            else:
                continue
            did.append(name)
        if data != material.clip:
            return "+".join(did), data
