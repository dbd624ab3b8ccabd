"""Key files are made once and guarded; what is sealed opens only for whom and for what it was sealed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from ledger.errors import LedgerError, NotFound, Unavailable
from ledger.ids import LeafIndex
from ledger.keys import (
    Keyring,
    Rotated,
    Wrapping,
    list_key,
    new_person_key,
    seal,
    tag_of,
    unseal,
)
from ledger.log.merkle import leaf_hash
from ledger.log.public import public_bytes
from ledger.store.journal import About
from world import World, check_log, open_ledger, stored_leaves

LAW = settings(deadline=None)
WRAPPING = "wrapping/0000000000000000.key"
NAMES = {"log", "service", "receipt", "permit", "watermark"}
FILES = {WRAPPING, *(f"{name}.key" for name in NAMES)}
ROLES: tuple[Rotated, ...] = get_args(Rotated)
KEY = bytes(range(32))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("keys")
    ledger, keyring = open_ledger(home)
    yield World(ledger, keyring, home)
    ledger.close()


def files(directory: Path) -> dict[str, Path]:
    """Every file below, temporary ones too, by its name from there."""
    return {str(path.relative_to(directory)): path for path in directory.rglob("*") if path.is_file()}


def raw(keyring: Keyring) -> dict[str, bytes]:
    """Every key as bytes, by the name of its file."""
    return {name: path.read_bytes() for name, path in files(keyring.directory).items()}


def public(keyring: Keyring, role: Rotated) -> bytes:
    return public_bytes(getattr(keyring, role))


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_keys_are_made_once_and_are_all_different(tmp_path: Path) -> None:
    first = raw(Keyring.open(tmp_path / "keys"))
    assert raw(Keyring.open(tmp_path / "keys")) == first
    assert first.keys() == FILES
    assert len(set(first.values())) == len(FILES)
    keyring = Keyring.open(tmp_path / "keys")
    assert len({public(keyring, role) for role in ROLES} | {public_bytes(keyring.permit)}) == 4
    assert not set(raw(Keyring.open(tmp_path / "others")).values()) & set(first.values())


def test_nobody_else_on_the_machine_reads_a_key(tmp_path: Path) -> None:
    before = os.umask(0)  # the most careless surroundings there are
    try:
        Keyring.open(tmp_path / "keys")
    finally:
        os.umask(before)
    for folder in ("keys", "keys/wrapping"):
        assert (tmp_path / folder).stat().st_mode & 0o777 == 0o700
    found = {name: path.stat().st_mode & 0o777 for name, path in files(tmp_path / "keys").items()}
    assert found == dict.fromkeys(FILES, 0o600), "a temporary file was left, or a key can be read"


RACER = """
import sys, time
from pathlib import Path
from ledger.keys import Keyring

print("ready", flush=True)
sys.stdin.readline()
keyring = Keyring.open(Path(sys.argv[1]))
wrapped = keyring.wrapping.wrap(bytes(32), context="a")
assert keyring.wrapping.unwrap(wrapped, context="a") == bytes(32)
print(keyring.wrapping.current, keyring.receipt.private_numbers().private_value)
print(keyring.watermark.hex(), *(key.private_bytes_raw().hex() for key in (keyring.log, keyring.service)))
"""


def test_processes_that_start_together_agree_on_the_keys(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path / "keys")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
        )
        for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    told = {racer.communicate(timeout=60)[0] for racer in racers}
    assert [racer.returncode for racer in racers] == [0] * 4
    assert len(told) == 1
    assert files(tmp_path / "keys").keys() == FILES


def test_a_key_file_that_appears_while_ours_is_being_written_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = os.urandom(32)
    link = os.link

    def late(source: Path, target: Path) -> None:
        if target.name == "watermark.key":
            target.write_bytes(theirs)
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    assert Keyring.open(tmp_path).watermark == theirs


@pytest.mark.parametrize("name", sorted(FILES - {WRAPPING}))
@pytest.mark.parametrize("content", [b"", b"\x00" * 31, b"\x00" * 33, b"0" * 64])
def test_a_damaged_key_file_is_refused_and_never_replaced(tmp_path: Path, name: str, content: bytes) -> None:
    """A new key in its place would make everything sealed or signed before unreadable for good."""
    Keyring.open(tmp_path)
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(Unavailable) as error:
        Keyring.open(tmp_path)
    assert error.value.reason.id == "keys.damaged"
    assert path.read_bytes() == content


def test_a_crash_while_a_key_is_made_leaves_no_half_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_disk(descriptor: int) -> None:
        raise OSError("injected")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_disk)
        with pytest.raises(OSError, match="injected"):
            Keyring.open(tmp_path)
    assert not files(tmp_path).keys() & FILES
    Keyring.open(tmp_path)


def test_no_key_shows_in_a_log_line_or_a_traceback(tmp_path: Path) -> None:
    keyring = Keyring.open(tmp_path)
    keyring.wrapping.wrap(bytes(32), context="a")  # it remembers the keys it has read
    told = f"{keyring} {keyring!r} {keyring.wrapping}"
    for key in raw(keyring).values():
        assert key.hex() not in told
        assert repr(key) not in told
        assert str(int.from_bytes(key, "big")) not in told


# ── keys that succeed each other ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("role", ROLES)
def test_a_key_that_waits_is_loaded_only_once_it_was_adopted(tmp_path: Path, role: Rotated) -> None:
    keyring = Keyring.open(tmp_path)
    before = {role: public(keyring, role) for role in ROLES}
    waiting = public_bytes(keyring.candidate(role))
    assert waiting not in before.values()
    # Whoever asks again, in this process or after a crash, gets the same one.
    assert public_bytes(Keyring.open(tmp_path).candidate(role)) == waiting
    assert {role: public(Keyring.open(tmp_path), role) for role in ROLES} == before
    adopted = keyring.adopt(role)
    assert {role: public(adopted, role) for role in ROLES} == before | {role: waiting}
    assert public(Keyring.open(tmp_path), role) == waiting
    assert public_bytes(adopted.candidate(role)) not in (waiting, *before.values())


@pytest.mark.parametrize("role", ROLES)
def test_keys_are_numbered_past_nine_and_the_newest_is_in_force(tmp_path: Path, role: Rotated) -> None:
    keyring, used = Keyring.open(tmp_path), []
    for _ in range(11):
        used.append(public(keyring, role))
        new = public_bytes(keyring.candidate(role))
        keyring = keyring.adopt(role)
        assert public(keyring, role) == new
    assert (tmp_path / f"{role}-12.key").exists()
    assert public(Keyring.open(tmp_path), role) not in used
    retired = [public_bytes(key) for key in Keyring.open(tmp_path).log_retired]
    assert retired == (used if role == "log" else [])
    # Gone, and not made anew: what it signed is checked with its public half.
    (tmp_path / f"{role}.key").unlink()
    assert len(Keyring.open(tmp_path).log_retired) == (10 if role == "log" else 0)
    assert not (tmp_path / f"{role}.key").exists()


def test_a_key_that_another_process_adopted_is_adopted_once(tmp_path: Path) -> None:
    first, second = Keyring.open(tmp_path), Keyring.open(tmp_path)
    waiting = public_bytes(first.candidate("service"))
    assert public(first.adopt("service"), "service") == public(second.adopt("service"), "service") == waiting
    assert sorted(name for name in files(tmp_path) if "service" in name) == ["service-2.key", "service.key"]


# ── keys that wrap keys ───────────────────────────────────────────────────────────────────────────────────


def test_a_wrapping_key_that_is_gone_opens_nothing_and_is_not_made_up(tmp_path: Path) -> None:
    wrapping = Wrapping(tmp_path)
    old = wrapping.wrap(KEY, context="key/a")
    assert wrapping.is_current(old)
    wrapping.renew()
    assert not wrapping.is_current(old)
    assert wrapping.unwrap(old, context="key/a") == KEY, "both are here until the old one is destroyed"
    new = wrapping.wrap(KEY, context="key/a")
    assert wrapping.destroy_old() == 1
    for one in (wrapping, Wrapping(tmp_path)):
        assert one.unwrap(new, context="key/a") == KEY
        with pytest.raises(Unavailable) as error:
            one.unwrap(old, context="key/a")
        assert error.value.reason.id == "keys.wrapping"
    assert wrapping.destroy_old() == 0
    assert len(files(tmp_path)) == 1


def test_a_wrapped_key_is_one_persons(tmp_path: Path) -> None:
    wrapping = Wrapping(tmp_path)
    wrapped = wrapping.wrap(KEY, context="key/a")
    with pytest.raises(Unavailable):
        wrapping.unwrap(wrapped, context="key/b")
    for length in (0, 7, 8, 20, len(wrapped) - 1):
        with pytest.raises(Unavailable):
            wrapping.unwrap(wrapped[:length], context="key/a")


@pytest.mark.parametrize("content", [b"", b"\x00" * 31, b"0" * 64])
def test_a_damaged_wrapping_key_is_refused_and_never_replaced(tmp_path: Path, content: bytes) -> None:
    wrapped = Wrapping(tmp_path).wrap(KEY, context="a")
    (path,) = files(tmp_path).values()
    path.write_bytes(content)
    damaged = Wrapping(tmp_path)
    for attempt, value in ((damaged.unwrap, wrapped), (damaged.wrap, KEY)):
        with pytest.raises(Unavailable) as error:
            attempt(value, context="a")
        assert error.value.reason.id == "keys.damaged"
    assert path.read_bytes() == content


def test_another_process_finds_a_new_wrapping_key_at_once(tmp_path: Path) -> None:
    one, other = Wrapping(tmp_path), Wrapping(tmp_path)
    assert one.unwrap(other.wrap(KEY, context="a"), context="a") == KEY
    one.renew()
    assert other.current == one.current
    assert one.is_current(other.wrap(KEY, context="a"))
    assert other.unwrap(one.wrap(KEY, context="a"), context="a") == KEY


def test_the_age_of_the_wrapping_key_is_that_of_the_newest(tmp_path: Path) -> None:
    wrapping = Wrapping(tmp_path)
    for _ in range(2):
        written = 1_700_000_000
        os.utime(tmp_path / f"{wrapping.current}.key", (written, written))
        assert wrapping.age_s(datetime.fromtimestamp(written + 90, UTC)) == 90
        wrapping.renew()


# ── tags ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_list_keys_and_tags_are_the_bytes_the_module_describes() -> None:
    """Written out with hashes only, from RFC 2104: a reader computes them without our code."""

    def hmac_sha256(key: bytes, message: bytes) -> bytes:
        padded = key.ljust(64, b"\x00")
        inner = sha256(bytes(b ^ 0x36 for b in padded) + message).digest()
        return sha256(bytes(b ^ 0x5C for b in padded) + inner).digest()

    held = list_key(KEY)
    assert held == hmac_sha256(KEY, b"countersign/list-key/v1")
    assert held.hex() == "209ad902974337469015a957f629a69d1de882bdd06277795b9bf9431a81717b"
    for n in (0, 1, 255, 256, 2**64 - 1):
        assert tag_of(held, n) == hmac_sha256(held, b"countersign/tag/v1\x00" + n.to_bytes(8, "big"))
    assert tag_of(held, 1).hex() == "ae1fc882e3dd1e3a278f9b98dcabda38aefedac78b3df59246f5d2525f685c86"


# ── sealing ───────────────────────────────────────────────────────────────────────────────────────────────


@LAW
@given(st.binary(max_size=200), st.text(max_size=30))
def test_what_is_sealed_opens_to_the_same_bytes(plaintext: bytes, context: str) -> None:
    sealed = seal(KEY, plaintext, context=context)
    assert unseal(KEY, sealed, context=context) == plaintext
    assert seal(KEY, plaintext, context=context) != sealed, "a nonce was used twice"


@LAW
@given(st.binary(min_size=1, max_size=60), st.data())
def test_one_flipped_bit_is_noticed(plaintext: bytes, data: st.DataObject) -> None:
    sealed = bytearray(seal(KEY, plaintext, context="a"))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(Unavailable):
        unseal(KEY, bytes(sealed), context="a")


@LAW
@given(st.integers(0, 48))
def test_cut_off_data_is_refused_and_not_a_crash(length: int) -> None:
    sealed = seal(KEY, b"twenty bytes of text", context="a")
    assert len(sealed) == 48
    with pytest.raises(Unavailable):
        unseal(KEY, sealed[: min(length, 47)], context="a")


def test_another_key_or_another_context_opens_nothing() -> None:
    sealed = seal(KEY, b"secret", context="entry/person_a/0")
    for key, context in (
        (new_person_key(), "entry/person_a/0"),
        (KEY, "entry/person_a/1"),
        (KEY, "entry/person_b/0"),
        (KEY, "key/person_a"),
        (KEY, ""),
    ):
        with pytest.raises(Unavailable) as error:
            unseal(key, sealed, context=context)
        assert b"secret" not in str(error.value).encode()


# ── in the database ───────────────────────────────────────────────────────────────────────────────────────


def run_sql(world: World, statement: str, **values: object) -> None:
    with world.ledger.database.writing() as session:
        session.connection().execute(text(statement), values)


def sealed_rows(world: World, subject_id: str) -> list[tuple[bytes, bytes]]:
    """(tag, sealed) of each record about someone, first to last."""
    with world.ledger.reading() as tx:
        held = tx.held(subject_id)
    with world.ledger.database.engine.connect() as connection:
        found = {row.tag: row.sealed for row in connection.execute(text("SELECT tag, sealed FROM record"))}
    return [(tag, found[tag]) for tag in (tag_of(held.list_key, n) for n in range(held.count))]


def put_row(world: World, tag: bytes, sealed: bytes) -> None:
    run_sql(world, "UPDATE record SET sealed = :sealed WHERE tag = :tag", sealed=sealed, tag=tag)


def test_rows_swapped_between_people_or_places_do_not_open(world: World) -> None:
    """Someone with the database but no key cannot put one person's story under another's name."""
    ada, bob = world.enrol(), world.enrol()
    app = world.app()
    world.grant(ada, app)
    world.grant(bob, app)
    (first, second), theirs = sealed_rows(world, ada.person_id), sealed_rows(world, bob.person_id)
    for (tag, own), foreign in ((first, second[1]), (second, first[1]), (second, theirs[1][1])):
        put_row(world, tag, foreign)
        with pytest.raises(Unavailable):
            world.entries(ada.person_id)
        put_row(world, tag, own)
    assert len(world.entries(ada.person_id)) == 2
    run_sql(
        world,
        "UPDATE subject_key SET wrapped = (SELECT wrapped FROM subject_key WHERE subject_id = :theirs)"
        " WHERE subject_id = :who",
        who=ada.person_id,
        theirs=bob.person_id,
    )
    with pytest.raises(Unavailable):
        world.entries(ada.person_id)
    assert len(world.entries(bob.person_id)) == 2


def test_no_body_lies_readable_in_the_database(tmp_path: Path) -> None:
    ledger, keyring = open_ledger(tmp_path)
    world = World(ledger, keyring, tmp_path)
    someone = world.enrol()
    grant_id = world.grant(
        someone, world.app(), language="zz", notice={"sha256": "0" * 64, "version": "canary-7"}
    )
    ledger.close()
    written = b"".join(path.read_bytes() for path in tmp_path.glob("ledger.db*"))
    assert grant_id.encode() in written, "the entry is found by its reference"
    for secret in (b"canary-7", b"dpv:NonCommercial", b"born_on", *raw(keyring).values()):
        assert secret not in written


def test_destroying_ones_key_hides_ones_entries_and_breaks_nobody_elses_proof(world: World) -> None:
    ada, bob, app = world.enrol(), world.enrol(), world.app()
    world.grant(ada, app)
    world.grant(bob, app)
    sealed = sealed_rows(world, ada.person_id)
    before = world.ledger.checkpoint()
    run_sql(world, "UPDATE subject_key SET wrapped = NULL WHERE subject_id = :who", who=ada.person_id)
    with pytest.raises(NotFound):
        world.entries(ada.person_id)
    # Not with the service's own keys either: what they could unwrap is gone.
    for tag, row in sealed:
        for key in raw(world.keyring).values():
            with pytest.raises(Unavailable):
                unseal(key, row, context=f"entry/{tag.hex()}")
    # Nothing new can be written about them, and nothing half.
    with pytest.raises(LedgerError):
        world.grant(ada, app)
    body = {"auditor": "a", "asked": "b"}
    about = [About(one.person_id, "depicted", body) for one in (ada, bob)]
    with pytest.raises(NotFound):
        world.ledger.transact(lambda tx: tx.append("audit", "both", about, at=world.at))
    world.grant(bob, app)
    assert [entry.kind for entry in world.entries(bob.person_id)] == ["enrolment", "grant", "grant"]
    size = check_log(world.ledger, before)
    for index, leaf in enumerate(stored_leaves(world.ledger)):
        world.ledger.proof(LeafIndex(index)).verify(leaf_hash(leaf), world.ledger.verifier)
    assert size == len(stored_leaves(world.ledger))
