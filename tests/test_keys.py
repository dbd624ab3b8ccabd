"""Key files are made once and guarded; what is sealed opens only for whom and for what it was sealed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from ledger.errors import LedgerError, NotFound, Unavailable
from ledger.ids import LeafIndex
from ledger.keys import Keyring, new_person_key, seal, unseal
from ledger.log.merkle import leaf_hash
from ledger.store.journal import About
from world import World, check_log, open_ledger, stored_leaves

LAW = settings(deadline=None)
NAMES = {field.name for field in fields(Keyring)}
FILES = {f"{name}.key" for name in NAMES}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("keys")
    ledger, keyring = open_ledger(home)
    yield World(ledger, keyring, home)
    ledger.close()


def raw(keyring: Keyring) -> dict[str, bytes]:
    """Every key as bytes, by name."""
    return {
        name: key.private_bytes_raw() if isinstance(key, Ed25519PrivateKey) else key
        for name, key in ((name, getattr(keyring, name)) for name in NAMES)
    }


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_keys_are_made_once_and_are_all_different(tmp_path: Path) -> None:
    first = raw(Keyring.open(tmp_path / "keys"))
    assert raw(Keyring.open(tmp_path / "keys")) == first
    assert len(set(first.values())) == len(NAMES)
    assert not set(raw(Keyring.open(tmp_path / "others")).values()) & set(first.values())


def test_nobody_else_on_the_machine_reads_a_key(tmp_path: Path) -> None:
    before = os.umask(0)  # the most careless surroundings there are
    try:
        Keyring.open(tmp_path / "keys")
    finally:
        os.umask(before)
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    found = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "keys").iterdir()}
    assert found == dict.fromkeys(FILES, 0o600), "a temporary file was left, or a key can be read"


RACER = """
import sys, time
from pathlib import Path
from ledger.keys import Keyring

print("ready", flush=True)
sys.stdin.readline()
keyring = Keyring.open(Path(sys.argv[1]))
print(keyring.master.hex(), keyring.watermark.hex(), keyring.log.private_bytes_raw().hex())
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
    assert {path.name for path in (tmp_path / "keys").iterdir()} == FILES


def test_a_key_file_that_appears_while_ours_is_being_written_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = os.urandom(32)
    link = os.link

    def late(source: Path, target: Path) -> None:
        if target.name == "master.key":
            target.write_bytes(theirs)
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    assert Keyring.open(tmp_path).master == theirs


@pytest.mark.parametrize("name", sorted(NAMES))
@pytest.mark.parametrize("content", [b"", b"\x00" * 31, b"\x00" * 33, b"0" * 64])
def test_a_damaged_key_file_is_refused_and_never_replaced(tmp_path: Path, name: str, content: bytes) -> None:
    """A new key in its place would make everything sealed or signed before unreadable for good."""
    Keyring.open(tmp_path)
    path = tmp_path / f"{name}.key"
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
    assert not {path.name for path in tmp_path.iterdir()} & FILES
    Keyring.open(tmp_path)


def test_no_key_shows_in_a_log_line_or_a_traceback(tmp_path: Path) -> None:
    keyring = Keyring.open(tmp_path)
    told = f"{keyring} {keyring!r}"
    assert not any(key.hex() in told or repr(key) in told for key in raw(keyring).values())


# ── sealing ───────────────────────────────────────────────────────────────────────────────────────────────

KEY = bytes(range(32))


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


def sealed_rows(world: World, subject_id: str) -> list[bytes]:
    with world.ledger.database.engine.connect() as connection:
        query = text("SELECT sealed FROM subject WHERE subject_id = :who ORDER BY n")
        return list(connection.execute(query, {"who": subject_id}).scalars())


def test_rows_swapped_between_people_or_places_do_not_open(world: World) -> None:
    """Someone with the database but not the master key cannot put one person's story under another's name."""
    ada, bob = world.enrol(), world.enrol()
    app = world.app()
    world.grant(ada, app)
    world.grant(bob, app)
    rows = sealed_rows(world, ada.person_id)
    assert len(rows) == 2
    for contents in (rows[::-1], rows):
        for n, sealed in enumerate(contents):
            run_sql(
                world,
                "UPDATE subject SET sealed = :sealed WHERE subject_id = :who AND n = :n",
                sealed=sealed,
                who=ada.person_id,
                n=n,
            )
        if contents != rows:
            with pytest.raises(Unavailable):
                world.entries(ada.person_id)
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
    for secret in (b"canary-7", b"dpv:NonCommercial", b"born_on", keyring.master):
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
    # Not with the master key either: what it could unwrap is gone.
    for row in sealed:
        for key in raw(world.keyring).values():
            with pytest.raises(Unavailable):
                unseal(key, row, context=f"entry/{ada.person_id}/0")
    # Nothing new can be written about them, and nothing half.
    with pytest.raises(LedgerError):
        world.grant(ada, app)
    about = [About(ada.person_id, "depicted", {}), About(bob.person_id, "depicted", {})]
    with pytest.raises(NotFound):
        world.ledger.transact(lambda tx: tx.append("note", "both", about, at=world.at))
    world.grant(bob, app)
    assert [entry.kind for entry in world.entries(bob.person_id)] == ["enrolment", "grant", "grant"]
    size = check_log(world.ledger, before)
    for index, leaf in enumerate(stored_leaves(world.ledger)):
        world.ledger.proof(LeafIndex(index)).verify(leaf_hash(leaf), world.ledger.verifier)
    assert size == len(stored_leaves(world.ledger))
    for item in world.ledger.disclosures(bob.person_id):
        assert item["body"]["kind"] == item["kind"]
