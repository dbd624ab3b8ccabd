"""The reader of manifest stores: it says what c2pa says, or nothing."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import c2pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ledger.errors import MediaError
from ledger.provenance import cose, jumbf
from mutants import Node, parse, walk
from studio import box, carried, superbox
from test_manifest import CLAIM, NOW, dated, parent_of

SIGNATURE_TYPE = b"c2cs" + bytes.fromhex("00110010800000aa00389b71")
FILE_TYPE = box(b"ftyp", b"isom")


def signature(content: bytes, label: bytes = b"c2pa.signature", kind: bytes = SIGNATURE_TYPE) -> bytes:
    return box(b"jumb", box(b"jumd", kind, b"\x03", label, b"\x00"), box(b"cbor", content))


def store(*children: bytes) -> bytes:
    return superbox("c2pa", superbox("urn:c2pa:one", *children))


def test_the_last_manifest_is_the_active_one(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(FILE_TYPE + carried("urn:c2pa:first", "urn:c2pa:last") + box(b"free"))
    found = jumbf.read(path)
    assert found is not None
    assert found.content == superbox("c2pa", superbox("urn:c2pa:first"), superbox("urn:c2pa:last"))
    assert found.active.id == "urn:c2pa:last"
    assert found.active_alone() == superbox("c2pa", superbox("urn:c2pa:last"))


def test_a_signature_is_told_with_its_place_in_the_file(tmp_path: Path) -> None:
    held = box(
        b"uuid", jumbf.C2PA_UUID, bytes(4), b"manifest\x00", bytes(8), store(signature(b"signed")), bytes(9)
    )
    path = tmp_path / "clip.mp4"
    path.write_bytes(FILE_TYPE + held)
    found = jumbf.read(path)
    assert found is not None
    assert found.active.signature == jumbf.Signature(path.read_bytes().index(b"signed"), b"signed")


def test_a_file_of_nobodys_holds_no_store(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(FILE_TYPE + box(b"uuid", bytes(16), jumbf.C2PA_UUID))
    assert jumbf.read(path) is None


def purposed(purpose: bytes) -> bytes:
    return box(b"uuid", carried("urn:c2pa:one")[8:].replace(b"manifest\x00", purpose))


@pytest.mark.parametrize(
    "boxes",
    [
        pytest.param(carried("urn:c2pa:one") * 2, id="two stores"),
        pytest.param(purposed(b"merkle\x00"), id="hashes alone"),
        pytest.param(carried("urn:c2pa:one") + purposed(b"update\x00"), id="a store that goes on elsewhere"),
        pytest.param(carried("urn:c2pa:one", "urn:c2pa:one"), id="two of one id"),
        pytest.param(carried("urn:c2pa:one")[:-8] + b"\x00\x00\x00\x09free", id="a length beyond the end"),
        pytest.param(box(b"uuid", jumbf.C2PA_UUID), id="nothing but the name"),
        pytest.param(
            box(b"uuid", carried("urn:c2pa:one")[8:], superbox("c2pa", superbox("urn:c2pa:two"))),
            id="another store after it",
        ),
    ],
)
def test_what_is_not_one_store_is_refused(tmp_path: Path, boxes: bytes) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(FILE_TYPE + boxes)
    with pytest.raises(MediaError) as refused:
        jumbf.read(path)
    assert refused.value.reason.id == jumbf.MALFORMED


EMPTY = box(b"jumb", box(b"jumd", bytes(16), b"\x03x\x00"))
ONE, OTHER = signature(b"innocent"), signature(b"taken back")
SMUGGLED = {
    "two signatures": ONE + OTHER,
    "one by its type alone": ONE + signature(b"taken back", label=b"other"),
    "one by its label alone": signature(b"innocent", kind=bytes(16)),
    "two contents": box(
        b"jumb", box(b"jumd", SIGNATURE_TYPE, b"\x03c2pa.signature\x00"), box(b"cbor"), box(b"cbor")
    ),
    "an empty superbox, into which a reader may take the next": EMPTY + ONE,
    "a box of type 0, where a reader may think the superbox ends": superbox("x", box(bytes(4), OTHER, EMPTY))
    + ONE,
    "a superbox longer than the one around it": (
        superbox("x", (8 + len(ONE)).to_bytes(4, "big") + b"json") + ONE
    ),
    "a length of 64 bits": box(b"jumb", bytes.fromhex("000000016a736f6e0000000000000010")) + ONE,
    "more in a description than it says": box(
        b"jumb", box(b"jumd", bytes(16), b"\x03x\x00more"), box(b"json")
    )
    + ONE,
    "a private box that is too long": (
        box(b"jumb", box(b"jumd", bytes(16), b"\x13x\x00\x00\x00\x00\x09c2sh"), box(b"json")) + ONE
    ),
}


@pytest.mark.parametrize("children", SMUGGLED.values(), ids=SMUGGLED)
def test_a_second_signature_cannot_hide_behind_the_first(children: bytes) -> None:
    assert jumbf.parse(store(ONE)).active.signature is not None
    with pytest.raises(MediaError):
        jumbf.parse(store(children))


def test_a_salted_description_is_read() -> None:
    salted = box(b"jumb", box(b"jumd", bytes(16), b"\x13x\x00", box(b"c2sh", bytes(16))), box(b"json"))
    assert jumbf.parse(store(salted, ONE)).active.signature is not None


def test_boxes_within_boxes_without_end_are_refused() -> None:
    nested = superbox("x")
    for _ in range(3000):
        nested = superbox("x", nested)
    with pytest.raises(MediaError):
        jumbf.parse(store(nested))


@given(st.data())
def test_no_bytes_at_all_break_the_parser(data: st.DataObject) -> None:
    whole = bytearray(superbox("c2pa", superbox("urn:c2pa:one"), superbox("urn:c2pa:two", ONE)))
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=4)):
        whole[at] = data.draw(st.integers(0, 255))
    cut = bytes(whole)[: data.draw(st.integers(0, len(whole)))]
    try:
        found = jumbf.parse(cut)
    except MediaError:
        return
    assert found.content == cut
    assert jumbf.parse(found.active_alone()).active.id == found.active.id


# --- beside c2pa -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Remix:
    """A signed clip made from another, so that its store holds two manifests. `path`: where a bent one is written."""

    tree: list[Node]
    path: Path

    def boxes(self, tree: list[Node]) -> list[Node]:
        """The box that holds the store, and every one inside."""
        held = next(node for node in tree if node.kind == b"uuid")
        return [held, *(nodes[at] for nodes, at in walk(held.children or []))]


@pytest.fixture(scope="module")
def remix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remix]:
    folder = tmp_path_factory.mktemp("jumbf")
    with contextmanager(dated)(folder, NOW) as bench:
        above = parent_of(bench, bench.signed)
        bench.signer.sign(bench.plain, folder / "child.mp4", replace(CLAIM, parent=above))
        yield Remix(parse((folder / "child.mp4").read_bytes()), folder / "bent.mp4")


def says(path: Path) -> tuple[str, str] | None:
    """The active manifest and the serial number of its signer's certificate, by c2pa. None where it reads none."""
    try:
        with path.open("rb") as file, c2pa.Reader("video/mp4", file) as reader:
            report = json.loads(reader.json())
    except c2pa.C2paError:
        return None
    active = report.get("active_manifest")
    if active is None:
        return None
    return active, report["manifests"][active].get("signature_info", {}).get("cert_serial_number", "")


def agreed(path: Path) -> bool:
    """Whether both read it; where both do, they read the same."""
    try:
        ours = jumbf.read(path)
    except MediaError:
        return False
    theirs = says(path)
    assert (ours is None) <= (theirs is None), "c2pa finds a store where we find none"
    if ours is None or theirs is None:
        return False
    assert ours.active.id == theirs[0]
    if theirs[1]:
        assert [str(one.serial_number) for one in cose.chain(path, theirs[0])[:1]] == [theirs[1]]
    return True


LIES: dict[str, Callable[[int], int]] = {
    "none": lambda _: 0,
    "wide": lambda _: 1,
    "header": lambda _: 8,
    "less": lambda size: size - 1,
    "more": lambda size: size + 1,
    "a box less": lambda size: size - 8,
    "a box more": lambda size: size + 8,
    "double": lambda size: 2 * size,
    "all": lambda _: 2**32 - 1,
    "true": lambda size: size,
}
lies = st.sampled_from(sorted(LIES)).map(LIES.__getitem__) | st.integers(0, 2**16).map(
    lambda size: lambda _: size
)


@pytest.mark.slow
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bent=st.dictionaries(st.integers(0, 200), lies, min_size=1, max_size=3), wide=st.booleans())
@example(bent={0: LIES["true"]}, wide=True)
@example(bent={1: LIES["more"]}, wide=False)
def test_however_lengths_are_bent_it_refuses_or_agrees_with_c2pa(
    remix: Remix, bent: dict[int, Callable[[int], int]], *, wide: bool
) -> None:
    tree = deepcopy(remix.tree)
    boxes = remix.boxes(tree)
    for place, lie in bent.items():
        node = boxes[place % len(boxes)]
        node.size = lie(len(node.encode()))
    boxes[0].wide = wide
    if wide and boxes[0].size is not None:
        boxes[0].size += 8
    remix.path.write_bytes(b"".join(node.encode() for node in tree))
    agreed(remix.path)


@pytest.mark.slow
def test_of_a_remix_both_read_the_child(remix: Remix) -> None:
    remix.path.write_bytes(b"".join(node.encode() for node in remix.tree))
    assert agreed(remix.path)
    found = jumbf.read(remix.path)
    assert found is not None
    assert len(found.manifests) == 2
