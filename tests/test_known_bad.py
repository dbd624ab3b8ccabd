"""Known prohibited pictures: found however they were changed, missed by no search, dropped by nobody unnoticed."""

import contextlib
import io
import json
from base64 import b64encode
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import cbook
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from skimage import data as _samples
from sqlalchemy import text

from command import countersign
from ledger.canonical import canonical, challenge
from ledger.errors import LedgerError, NotFound
from ledger.provenance.pdq import BITS, MOST_BITS, Index, Picture
from safety import hash_lists, known_bad, pdq
from safety.errors import CheckUnavailable, InvalidInput, Refused
from safety.known_bad import TAG, Lists
from world import ORIGIN, World

SAMPLES: Any = _samples
KEY = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)


def hopper() -> Picture:
    return np.asarray(Image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)).convert("RGB"))


PICTURES: dict[str, Callable[[], Picture]] = {
    "astronaut": SAMPLES.astronaut,
    "hopper": hopper,
    "coffee": SAMPLES.coffee,
    "chelsea": SAMPLES.chelsea,
    "rocket": SAMPLES.rocket,
}


def jpeg(picture: Picture, quality: int) -> Picture:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def scaled(picture: Picture, x: float, y: float) -> Picture:
    size = (round(picture.shape[1] * x), round(picture.shape[0] * y))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def cropped(picture: Picture, part: float) -> Picture:
    y, x = (round(side * part / 2) for side in picture.shape[:2])
    return np.ascontiguousarray(picture[y : picture.shape[0] - y, x : picture.shape[1] - x])


CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "as it is": lambda one: one,
    "encoded again": lambda one: jpeg(one, 20),
    "half the size": lambda one: scaled(one, 0.5, 0.5),
    "squashed": lambda one: scaled(one, 1, 0.7),
    "blurred": lambda one: np.asarray(Image.fromarray(one).filter(ImageFilter.GaussianBlur(2))),
    "mirrored": lambda one: np.ascontiguousarray(one[:, ::-1]),
    "turned by 90°": lambda one: np.ascontiguousarray(np.rot90(one)),
    "upside down": lambda one: np.ascontiguousarray(np.rot90(one, 2)),
    "between bars": lambda one: np.pad(one, ((80, 80), (0, 0), (0, 0))),
    "framed": lambda one: np.pad(one, ((30, 60), (40, 20), (0, 0)), constant_values=200),
    "turned by 2°": lambda one: np.asarray(Image.fromarray(one).rotate(2, Image.Resampling.BILINEAR)),
}


@pytest.fixture(scope="module")
def listed() -> dict[str, bytes]:
    hashes = {name: pdq.plain(load()) for name, load in PICTURES.items()}
    assert None not in hashes.values()
    return {name: one for name, one in hashes.items() if one is not None}


def distance(view: pdq.Hashed, one: bytes) -> int:
    words = np.frombuffer(one, ">u8").astype(np.uint64)
    return int(np.bitwise_count(view.hashes ^ words).sum(axis=1).min())


# ── hashes ────────────────────────────────────────────────────────────────────────────────────────────────


def by_definition(grey: NDArray[np.float64]) -> bytes:
    """PDQ of 64×64 luminances, which no filter touches: 16×16 of the DCT without its first row and column, by the median."""
    i, j = np.arange(1, 17)[:, None], np.arange(64)[None, :]
    dct = np.sqrt(2 / 64) * np.cos(np.pi / 128 * i * (2 * j + 1))
    coefficients = dct @ grey @ dct.T
    bits = (coefficients > np.sort(coefficients.ravel())[127]).ravel()
    # The published form: sixteen words of sixteen bits, the last first, and in each the last bit first.
    return np.packbits(bits[::-1]).tobytes()


def test_the_hash_is_pdq_and_not_something_like_it() -> None:
    smooth = Image.fromarray(SAMPLES.astronaut()).convert("L").resize((64, 64), Image.Resampling.BOX)
    grey = np.asarray(smooth)
    ours = pdq.plain(np.repeat(grey[..., None], 3, axis=2))
    assert ours is not None
    # Grey of a grey pixel is the pixel, but for the rounding of the luminance's weights.
    theirs = np.unpackbits(np.frombuffer(by_definition(grey.astype(np.float64)), np.uint8))
    assert int((np.unpackbits(np.frombuffer(ours, np.uint8)) ^ theirs).sum()) <= 2


@pytest.mark.parametrize("change", CHANGES)
def test_a_listed_picture_is_found_however_it_was_changed(change: str, listed: dict[str, bytes]) -> None:
    missed = {}
    for name, load in PICTURES.items():
        away = distance(pdq.hashed([CHANGES[change](load())]), listed[name])
        if away > MOST_BITS:
            missed[name] = away
    assert not missed


def test_a_crop_of_a_listed_picture_is_found(listed: dict[str, bytes]) -> None:
    away = {
        name: distance(pdq.hashed([cropped(load(), 0.05)]), listed[name]) for name, load in PICTURES.items()
    }
    assert sum(bits <= MOST_BITS for bits in away.values()) >= len(away) - 1, away


def test_different_pictures_stay_apart(listed: dict[str, bytes]) -> None:
    for name, load in PICTURES.items():
        view = pdq.hashed([load()])
        for other, one in listed.items():
            assert other == name or distance(view, one) >= 80, (name, other)


@pytest.mark.parametrize("quick", [False, True])
def test_a_plain_picture_resembles_nothing(quick: bool) -> None:
    plain: list[Picture] = [np.full((240, 320, 3), grey, np.uint8) for grey in (0, 128, 255)]
    gradient = np.repeat(np.linspace(100, 110, 320).astype(np.uint8)[None, :, None], 240, axis=0)
    plain.append(np.repeat(gradient, 3, axis=2))
    found = pdq.hashed(plain, quick=quick)
    assert (found.seen, len(found.hashes)) == (0, 0)
    assert [pdq.plain(one) for one in plain] == [None] * 4


@pytest.mark.parametrize("shape", [(8, 8, 3), (64, 64), (64, 64, 4), (0, 64, 3)])
def test_what_is_no_picture_raises(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput):
        pdq.hashed([np.zeros(shape, np.uint8)])


# ── search ────────────────────────────────────────────────────────────────────────────────────────────────


def flipped(one: NDArray[np.uint64], bits: Sequence[int]) -> NDArray[np.uint64]:
    other = one.copy()
    for bit in bits:
        other[bit // 64] ^= np.uint64(1 << (bit % 64))
    return other


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_search_misses_what_is_within_reach(data: st.DataObject) -> None:
    """The index answers as comparing with every hash does, also just at and just beyond the limit."""
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    held = random.integers(0, 2**64, (200, 4), np.uint64)
    asked = []
    for _ in range(8):
        bits = data.draw(st.sets(st.integers(0, BITS - 1), max_size=34))
        asked.append(flipped(held[data.draw(st.integers(0, 199))], sorted(bits)))
    # The worst case: the difference spread as evenly over the sixteen pieces as it goes.
    asked.append(
        flipped(held[0], [16 * piece + 3 for piece in range(16)] + [16 * piece + 9 for piece in range(15)])
    )
    queries = np.array(asked)
    away = np.bitwise_count(queries[:, None] ^ held[None, :]).sum(axis=2, dtype=int)
    expected = {(int(i), int(j), int(away[i, j])) for i, j in np.argwhere(away <= MOST_BITS)}
    found = {tuple(map(int, row)) for row in zip(*Index(held).within(queries), strict=True)}
    assert found == expected
    assert (8, 0, 31) in found


def test_an_index_of_nothing_finds_nothing() -> None:
    empty = Index(np.empty((0, 4), np.uint64))
    assert [len(one) for one in empty.within(np.ones((3, 4), np.uint64))] == [0, 0, 0]


# ── lists ─────────────────────────────────────────────────────────────────────────────────────────────────


def lines(*hashes: bytes) -> bytes:
    return b"".join(one.hex().encode() + b"\n" for one in hashes)


def put(world: World, content: bytes, name: str = "partners", category: Any = "ncii", **changes: Any) -> Any:
    asked: dict[str, Any] = {"source": "an exchange", "bits": MOST_BITS, "operator": "the office", **changes}
    found = hash_lists.read(content, category=category, format=asked.pop("format", None))
    return world.ledger.transact(
        lambda tx: known_bad.put(tx, found, name, category, key=KEY, origin=ORIGIN, at=world.at, **asked)
    )


def take_away(world: World, name: str = "partners") -> None:
    world.ledger.transact(
        lambda tx: known_bad.take_away(tx, name, operator="the office", key=KEY, origin=ORIGIN, at=world.at)
    )


def look(world: World, lists: Lists, *pictures: Picture, clip: bool = False) -> known_bad.Found:
    with world.ledger.reading() as tx:
        return lists.found(tx, pdq.hashed(pictures, quick=clip))


def frames_of(*hashes: bytes) -> bytes:
    return b"".join(b"%d,100,%s,%d.0\n" % (i, one.hex().encode(), i) for i, one in enumerate(hashes))


def test_a_picture_on_a_list_is_found_and_another_is_not(world: World, listed: dict[str, bytes]) -> None:
    lists = Lists()
    assert look(world, lists, SAMPLES.astronaut()).lists == ()
    put(world, lines(listed["astronaut"]))
    found = look(world, lists, hopper(), jpeg(SAMPLES.astronaut(), 40))
    assert (set(found.pictures), list(found.lists)) == ({1}, ["partners"])


def test_a_list_of_exact_copies_is_kept_to(world: World, listed: dict[str, bytes]) -> None:
    put(world, lines(listed["coffee"]), bits=0)
    lists = Lists()
    assert look(world, lists, SAMPLES.coffee()).lists == ("partners",)
    near = flipped(np.frombuffer(listed["coffee"], ">u8").astype(np.uint64), [5])
    put(world, lines(near.astype(">u8").tobytes()), bits=0)
    assert look(world, lists, SAMPLES.coffee()).lists == ()


def test_a_list_that_another_process_changes_counts_at_once(world: World, listed: dict[str, bytes]) -> None:
    ours = Lists()
    put(world, lines(listed["hopper"]))
    assert look(world, ours, hopper()).lists == ("partners",)
    put(world, lines(listed["coffee"]))
    assert look(world, ours, hopper()).lists == ()
    assert look(world, ours, SAMPLES.coffee()).lists == ("partners",)
    take_away(world)
    assert look(world, ours, SAMPLES.coffee()).lists == ()


@pytest.mark.parametrize(
    ("category", "counts"), [("csam", True), ("ncii", True), ("terror", False), ("own", False)]
)
def test_one_frame_of_a_listed_video(
    world: World, listed: dict[str, bytes], category: str, counts: bool
) -> None:
    """A frame that a video shares with others, like a channel's logo, counts only where one frame is enough."""
    put(world, frames_of(listed["astronaut"], listed["hopper"], listed["coffee"]), category=category)
    clip = [SAMPLES.chelsea(), hopper(), SAMPLES.rocket()]
    assert bool(look(world, Lists(), *clip, clip=True).lists) is counts


def test_a_video_that_is_mostly_a_listed_one(world: World, listed: dict[str, bytes]) -> None:
    put(world, frames_of(*(listed[name] for name in ("astronaut", "hopper", "coffee"))), category="terror")
    inside = [SAMPLES.astronaut(), SAMPLES.chelsea(), hopper(), SAMPLES.coffee(), SAMPLES.rocket()]
    # The whole of it inside a longer one, and a piece of it alone.
    assert look(world, Lists(), *inside, clip=True).pictures == {0, 2, 3}
    assert look(world, Lists(), SAMPLES.astronaut(), hopper(), clip=True).pictures == {0, 1}


def test_the_log_says_who_changed_which_list(world: World, listed: dict[str, bytes]) -> None:
    put(world, lines(listed["hopper"]))
    put(world, lines(listed["hopper"], listed["coffee"]), category="csam")
    take_away(world)
    with world.ledger.reading() as tx:
        said = known_bad.history(tx)
        assert known_bad.in_force(tx) == ()
    assert [(one["action"], one["version"], one["count"]) for one in said] == [
        ("imported", 1, 1),
        ("imported", 2, 2),
        ("removed", 2, 2),
    ]
    for body in said:
        public, signature = (bytes.fromhex(str(one)) for one in cast("list[str]", body["signed"]))
        signed = {key: value for key, value in body.items() if key not in {"kind", "at", "signed"}}
        statement = challenge(TAG, canonical({**signed, "origin": ORIGIN}))
        Ed25519PublicKey.from_public_bytes(public).verify(signature, statement)


LOSSES = {
    "a list": "DELETE FROM hash_list",
    "the count": "UPDATE hash_list SET count = 1",
    "the distance": "UPDATE hash_list SET bits = 0",
    "what is on it": "UPDATE hash_list SET sealed = X'00'",
    "the name": "UPDATE hash_list SET name = 'another'",
    "the key": "UPDATE subject_key SET wrapped = NULL WHERE subject_id = 'hash_lists'",
    "key and lists": "DELETE FROM subject_key WHERE subject_id = 'hash_lists'",
    "what was recorded": "DELETE FROM record",
}


@pytest.mark.parametrize("loss", LOSSES)
def test_nobody_drops_a_list_by_deleting_rows(world: World, listed: dict[str, bytes], loss: str) -> None:
    put(world, lines(listed["hopper"], listed["coffee"]))
    lists = Lists()
    assert look(world, lists, hopper()).lists
    with world.ledger.database.writing() as session:
        if loss == "key and lists":
            session.execute(text("DELETE FROM hash_list"))
        session.execute(text(LOSSES[loss]))
    for one in (Lists(), lists):
        # What was read before the loss may go on being compared with, but never less.
        try:
            assert look(world, one, hopper()).lists
            assert one is lists
        except (LedgerError, CheckUnavailable):
            pass


def test_a_list_whose_rows_were_lost_is_mended_by_importing_it_again(
    world: World, listed: dict[str, bytes]
) -> None:
    put(world, lines(listed["hopper"]))
    with pytest.raises(Refused, match="exactly these"):
        put(world, lines(listed["hopper"]))
    with world.ledger.database.writing() as session:
        session.execute(text("DELETE FROM hash_list"))
    put(world, lines(listed["hopper"]))
    assert look(world, Lists(), hopper()).lists == ("partners",)


def test_only_a_list_in_force_can_be_taken_away(world: World) -> None:
    with pytest.raises(NotFound):
        take_away(world)


def test_an_import_that_fails_changes_nothing(world: World, listed: dict[str, bytes]) -> None:
    put(world, lines(listed["hopper"]))
    with pytest.raises(InvalidInput):
        put(world, lines(listed["coffee"]), name="No Such Name")
    with pytest.raises(InvalidInput):
        put(world, lines(listed["coffee"]) + b"not a hash\n")
    with world.ledger.reading() as tx:
        (one,) = known_bad.in_force(tx)
        assert (one.name, one.version, one.count) == ("partners", 1, 1)


def test_nothing_of_a_list_is_shown_or_kept_in_the_open(
    world: World, listed: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    secret = listed["hopper"]
    put(world, lines(secret))
    lists = Lists()
    found = look(world, lists, hopper())
    with world.ledger.reading() as tx:
        shown = "".join(map(repr, (lists, found, lists._held, known_bad.in_force(tx), known_bad.history(tx))))
    with pytest.raises(InvalidInput) as caught:
        hash_lists.read(secret.hex().encode() + b"0\n", category="own")
    shown += str(caught.value) + caplog.text
    stored = b"".join(path.read_bytes() for path in world.home.rglob("*.db*"))
    for form in (secret, secret.hex().encode(), b64encode(secret)):
        assert form not in stored
        assert form not in shown.encode()


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────────

A, B, C = ("a1" * 32, "b2" * 32, "c3" * 32)
NCMEC = f"""<?xml version="1.0" encoding="UTF-8"?>
<queryResult xmlns="https://hashsharing.example/hashsharing/v2">
  <images count="3" maxTimestamp="2026-01-03T00:00:00Z">
    <image>
      <member id="7">A Member</member>
      <timestamp>2026-01-01T00:00:00Z</timestamp>
      <id>one</id>
      <classification>A1</classification>
      <fingerprints><md5>{"0" * 32}</md5><pdq>{A}</pdq></fingerprints>
    </image>
    <image>
      <member id="7">A Member</member>
      <timestamp>2026-01-01T00:00:00Z</timestamp>
      <id>two</id>
      <fingerprints><PDQ>{B}</PDQ></fingerprints>
    </image>
    <deletedImage>
      <member id="7">A Member</member>
      <id>two</id>
      <timestamp>2026-01-02T00:00:00Z</timestamp>
    </deletedImage>
  </images>
</queryResult>"""
STOPNCII = {
    "count": 3,
    "hasMoreRecords": False,
    "hashRecords": [
        {"signalType": "ImagePDQ", "hashValue": A, "hashStatus": "Active", "caseNumbers": {}},
        {"signalType": "ImagePDQ", "hashValue": B, "hashStatus": "Deleted"},
        {"signalType": "VideoMD5", "hashValue": "0" * 32, "hashStatus": "Active"},
    ],
}
DESCRIPTORS = {
    "data": [
        {"id": "1", "type": "HASH_PDQ", "indicator": A},
        {"id": "2", "type": "HASH_MD5", "indicator": "0" * 32},
        {"id": "3", "type": "HASH_PDQ", "indicator": B, "should_delete": True},
    ]
}
CSV = f"""td_description,td_indicator_type,td_raw_indicator,td_subjective_tags
"two
lines",HASH_PDQ,{A},"one;two"
plain,HASH_PDQ,{B},
other,HASH_SHA1,{"0" * 40},
"""
GOOD: dict[str, tuple[str, str, set[str], dict[str, int]]] = {
    "plain": ("plain", f"# ours\n{A}\n\n{B.upper()}, ncii\n{A}\n", {A, B}, {}),
    "signals": ("signals", f"pdq {A}\nvideo_md5 {'0' * 32}\n", {A}, {"video_md5": 1}),
    "signals of a video": (
        "signals",
        "vpdq " + json.dumps([f"{A},100,0.000", f"{B},49,1.5"]),
        {A},
        {"quality below 50": 1},
    ),
    "hash, id, time, tags": ("threatexchange", f"{A},123,2026-01-01T00:00:00+0000,tag one\n", {A}, {}),
    "csv": ("threatexchange", CSV, {A, B}, {"hash_sha1": 1}),
    "descriptors": ("threatexchange", json.dumps(DESCRIPTORS), {A}, {"hash_md5": 1, "deleted": 1}),
    "vpdq": ("vpdq", f"0,100,{A},0.000\n1,12,{B},1.000\n2,50,{C},2.000\n", {A, C}, {"quality below 50": 1}),
    "vpdq by frame": ("vpdq", json.dumps({"0": {"hash": A, "quality": 80, "timestamp": 0.0}}), {A}, {}),
    "ncmec": ("ncmec", NCMEC, {A}, {"md5": 1, "deleted": 1}),
    "stopncii": ("stopncii", json.dumps(STOPNCII), {A}, {"deleted": 1, "videomd5": 1}),
}


@pytest.mark.parametrize("name", GOOD)
def test_each_format_is_recognised_and_read(name: str) -> None:
    expected, written, hashes, skipped = GOOD[name]
    found = hash_lists.read(written.encode(), category="ncii")
    held = {row.tobytes().hex() for row in found.held.hashes.astype(">u8")}
    assert (found.format, held, dict(found.skipped)) == (expected, hashes, skipped)
    again = hash_lists.Hashed.from_bytes(found.held.to_bytes())
    assert hash_lists.digest(again) == hash_lists.digest(found.held)
    assert bool(again.videos.all()) is (name in {"vpdq", "vpdq by frame", "signals of a video"})


BAD: dict[str, tuple[str, str, str]] = {
    "a short hash": ("plain", f"{A}\n{A[:-1]}\n", "line 2"),
    "a line of another category": ("plain", f"{A}\n# x\n{B},csam\n", "line 3"),
    "a signal without its kind": ("signals", f"pdq {A}\n{B}\n", "line 2"),
    "a frame without its quality": ("vpdq", f"0,100,{A},0\n1,{B},1\n", "line 2"),
    "a quality beyond the best": ("vpdq", f"0,101,{A},0\n", "line 1"),
    "a time that is none": ("vpdq", f"0,100,{A},nan\n", "line 1"),
    "a row with a field too many": ("threatexchange", CSV + f"x,HASH_PDQ,{C},,\n", "line 6"),
    "an open quote": ("threatexchange", CSV + '"x,HASH_PDQ', "line"),
    "a descriptor without its kind": ("threatexchange", json.dumps({"data": [{"indicator": A}]}), "record 1"),
    "more in another file": (
        "threatexchange",
        json.dumps({**DESCRIPTORS, "paging": {"next": "https://x"}}),
        "more of the list",
    ),
    "half a json": ("stopncii", json.dumps(STOPNCII)[:-9], "line 1"),
    "more records": ("stopncii", json.dumps({**STOPNCII, "hasMoreRecords": True}), "more of the list"),
    "a record that is none": ("stopncii", json.dumps({"hashRecords": [None]}), "record 1"),
    "half an xml": ("ncmec", NCMEC[:-20], "line 22"),
    "another xml": ("ncmec", "<html><body/></html>", "line 1"),
    "an entity": ("ncmec", '<!DOCTYPE queryResult [<!ENTITY a "b">]><queryResult/>', "line 1"),
    "a page of many": (
        "ncmec",
        NCMEC.replace("</queryResult>", "<paging><next>/v2?x</next></paging></queryResult>"),
        "more",
    ),
    "no hash at all": ("plain", "# nothing\n", "no PDQ hash"),
    "bytes": ("plain", f"{A}\n\udcff\n", "line 2"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_not_as_it_should_be_says_where(name: str) -> None:
    chosen, written, where = BAD[name]
    with pytest.raises(InvalidInput) as caught:
        hash_lists.read(written.encode("utf-8", "surrogateescape"), category="ncii", format=chosen)  # type: ignore[arg-type]
    assert where in str(caught.value)
    assert caught.value.reason.remedy
    assert not {A, B, C} & set(str(caught.value).replace("`", " ").split())


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(hash_lists.FORMATS))
def test_no_file_breaks_the_reader(junk: bytes, chosen: hash_lists.Format) -> None:
    for content in (junk, GOOD[next(n for n in GOOD if GOOD[n][0] == chosen)][1].encode()[:150] + junk):
        with contextlib.suppress(InvalidInput):
            hash_lists.read(content, category="own", format=chosen)


# ── the command ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_the_command_imports_shows_checks_and_removes(tmp_path: Path, listed: dict[str, bytes]) -> None:
    home, key, file, picture = (tmp_path / name for name in ("home", "mine.key", "theirs.txt", "sent.jpg"))
    file.write_bytes(lines(listed["hopper"]))
    Image.fromarray(hopper()).save(picture, quality=50)
    public = countersign(home, "keys", "new", key).text.strip()
    taking = ("lists", "import", file, "--name", "ours", "--category", "own", "--key", key)
    assert countersign(home, *taking).status == 2  # nobody has registered this key
    assert countersign(home, "keys", "create", "operator", "the office", "--public-key", public).status == 0
    assert countersign(home, *taking).status == 0
    again = countersign(home, *taking)
    assert (again.status, "exactly these hashes" in again.text) == (2, True)
    shown = countersign(home, "lists", "show")
    assert "ours  own, version 1, 1 hashes" in shown.text
    found = countersign(home, "lists", "check", picture)
    assert (found.status, found.text) == (1, "on: ours\n")
    Image.fromarray(SAMPLES.coffee()).save(picture)
    assert countersign(home, "lists", "check", picture).text == "on no list\n"
    assert countersign(home, "lists", "remove", "ours", "--key", key).status == 0
    history = countersign(home, "lists", "show", "--history").text
    assert [line.split()[1] for line in history.splitlines()] == ["imported", "removed"]
    assert listed["hopper"].hex() not in shown.text + found.text + history


@pytest.mark.parametrize(
    ("written", "chosen"),
    [
        ('{"1": {"hash": "H", "quality": 100}, "1": {"hash": "G", "quality": 100}}', "vpdq"),
        ('{"hashRecords": [], "hashRecords": [{"signalType": "ImagePDQ", "hashValue": "H"}]}', "stopncii"),
        ('{"data": [{"type": "HASH_PDQ", "indicator": "H", "x": ' + "9" * 5_000 + "}]}", "threatexchange"),
        (
            (
                "<queryResult><images><image><member id='1'/><id>1</id><fingerprints><pdq>H</pdq><pdq>G</pdq>"
                "</fingerprints></image></images></queryResult>"
            ),
            "ncmec",
        ),
    ],
)
def test_what_is_said_twice_gets_not_lost_in_silence(written: str, chosen: Any) -> None:
    for mark, one in (("H", "ab" * 32), ("G", "cd" * 32)):
        written = written.replace(f'"{mark}"', f'"{one}"').replace(f">{mark}<", f">{one}<")
    content = written.encode()
    with pytest.raises(InvalidInput):
        hash_lists.read(content, category="ncii", format=chosen)
