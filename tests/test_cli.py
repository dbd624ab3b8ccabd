"""The command line, as an operator and an auditor use it: prove, verify, rotate, export.

Verifying is what a reader does who trusts nobody here: each way a service could lie is played, with its own keys.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest

from command import Said, countersign
from gateway.cli import cli
from ledger.ids import new_id
from ledger.log import completeness
from ledger.log.note import SignatureType, SignerKey, VerifierKey, add_cosignature, cosign
from world import ORIGIN, Someone, World, naive_root, open_ledger, signed_head

pytestmark = pytest.mark.slow

WITNESS = SignerKey.from_seed("witness.example/w1", b"\x22" * 32, SignatureType.COSIGNATURE)
SECOND = SignerKey.from_seed("witness.example/w2", b"\x33" * 32, SignatureType.COSIGNATURE)


@dataclass(frozen=True)
class Home:
    """An installation with a story: someone granted, was shown, and took it back; somebody else enrolled."""

    path: Path
    someone: Someone
    other: Someone
    vkey: str

    def copy(self, path: Path) -> "Home":
        shutil.copytree(self.path, path)
        return Home(path, self.someone, self.other, self.vkey)

    @contextmanager
    def world(self) -> Iterator[World]:
        """More happens here."""
        ledger, keyring = open_ledger(self.path)
        yield World(ledger, keyring, self.path, at=datetime.now(UTC))
        ledger.close()

    def run(self, *arguments: str | Path) -> Said:
        """A command, and all it says."""
        return countersign(self.path, *arguments, ORIGIN=ORIGIN)

    def proof(self, *more: str, to: str = "list.json", memory: Path | None = None) -> Path:
        """A proof file, freshly asked for."""
        out = self.path / to
        remembered = memory or self.memory
        said = self.run(
            "audit", "prove", "--cameo", self.someone.cameo_id, "--out", out, "--memory", remembered, *more
        )
        assert said.status == 0, said
        return out

    def verify(self, file: Path, *more: str | Path) -> Said:
        return self.run("audit", "verify", file, "--memory", self.memory, *more)

    @property
    def memory(self) -> Path:
        """What the auditor remembers."""
        return self.path / "auditor" / "seen.json"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Home:
    path = tmp_path_factory.mktemp("cli") / "home"
    path.mkdir()
    ledger, keyring = open_ledger(path)
    world = World(ledger, keyring, path, at=datetime.now(UTC))
    app, stranger = world.app(), world.app("Stranger")
    someone, other = world.enrol(), world.enrol()
    grant = world.grant(someone, app)
    assert world.release(world.allow(app, someone).permit) is None
    world.gate.decide(world.request(stranger, someone, prompt="on a beach"), at=world.at)
    world.revoke(someone, grant)
    home = Home(path, someone, other, str(ledger.verifier))
    ledger.close()
    return home


@pytest.fixture
def home(built: Home, tmp_path: Path) -> Home:
    return built.copy(tmp_path / "home")


def happens(home: Home, times: int = 1) -> None:
    """Something that is not about the person whose list is looked at."""
    with home.world() as world:
        for _ in range(times):
            world.grant(home.other, world.app())


def lines(said: Said, start: str) -> str:
    return "\n".join(line for line in said.text.splitlines() if line.startswith(start))


# Asking -------------------------------------------------------------------------------------------------------


def test_uses_lists_what_was_done_and_that_it_is_all(home: Home) -> None:
    said = home.run("audit", "uses", "--cameo", home.someone.cameo_id, "--auditor", "press council")
    assert said.status == 0
    kinds = [line.split()[2] for line in said.text.splitlines()[:-1]]
    assert kinds == ["allowed", "released", "refused", "revoked"]
    assert "on a beach" in said.text
    # Enrolment, grant, those four, and the question itself.
    assert f"7 records, proven to be all that {ORIGIN} holds" in said.text
    again = home.run("audit", "uses", "--cameo", home.someone.cameo_id, "--json")
    bundle = json.loads(again.text)
    assert [record["body"]["kind"] for record in bundle["records"]][-2:] == ["audit", "audit"]
    asked = [record["body"]["auditor"] for record in bundle["records"][-2:]]
    assert asked == ["press council", "local operator"]


def test_a_likeness_nobody_enrolled_is_not_asked_about(home: Home) -> None:
    for command in ("uses", "prove"):
        said = home.run("audit", command, "--cameo", new_id("cameo"))
        assert said.status == 2
        assert said.text.startswith("countersign: there is no likeness `cameo_")
        assert "Traceback" not in said.text


def test_a_prompt_can_not_write_lines_into_the_auditors_list(home: Home) -> None:
    forged = "\n   999  2026-01-01T00:00:00Z  revoked   everything\x1b[2K\x1b[1A\u202e"
    with home.world() as world:
        world.gate.decide(world.request(world.app(), home.someone, prompt=f"a dog{forged}"), at=world.at)
    for said in (home.run("audit", "uses", "--cameo", home.someone.cameo_id), home.verify(home.proof())):
        assert said.status == 0
        assert "a dog" in said.text
        assert lines(said, "   999") == ""
        assert all(char.isprintable() for char in said.text.replace("\n", ""))


# Proving and verifying ----------------------------------------------------------------------------------------


def test_a_proof_is_written_where_asked_and_the_next_command_is_said(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home.path)
    cameo = home.someone.cameo_id
    said = home.run("audit", "prove", "--cameo", cameo, "--memory", home.memory)
    assert said == (
        0,
        f"{cameo}.proof.json: 7 records. Check it with: countersign audit verify {cameo}.proof.json\n",
    )
    assert home.verify(Path(f"{cameo}.proof.json")).status == 0


def test_a_first_visit_says_what_is_proven_and_what_is_not(home: Home) -> None:
    said = home.verify(home.proof())
    assert said.status == 0, said.text
    proven, unproven = lines(said, "proven"), lines(said, "not proven")
    assert "this is everything" in proven
    assert "7 records" in proven
    assert "uses allowed: 1, each under a grant its owner signed" in proven
    assert "clips released: 1, none after consent" in proven
    assert "requests refused: 1" in proven
    assert "last visit" not in proven
    assert "this is your first" in unproven
    assert f"compare it with one from elsewhere: {home.vkey}" in unproven
    assert "no witness" in unproven
    # The records themselves come first, in log order.
    places = [int(line.split()[0]) for line in said.text.split("\n\n")[0].splitlines()]
    assert places == sorted(places)
    assert len(places) == 7


def test_verifying_needs_neither_the_service_nor_its_files(home: Home, tmp_path: Path) -> None:
    file = home.proof().rename(tmp_path / "list.json")
    elsewhere = Home(tmp_path / "laptop", home.someone, home.other, home.vkey)
    said = elsewhere.verify(file, "--log-key", home.vkey)
    assert said.status == 0
    assert "that the log's key you gave is the right one" in lines(said, "not proven")
    assert [path.name for path in elsewhere.path.rglob("*")] == ["auditor", "seen.json"]


def test_a_second_visit_proves_that_the_log_only_grew(home: Home) -> None:
    assert home.verify(home.proof()).status == 0
    happens(home)
    said = home.verify(home.proof())
    assert said.status == 0, said.text
    assert "nothing you saw at your last visit was removed or rewritten" in lines(said, "proven")
    assert "first" not in lines(said, "not proven").replace("at your first visit was the right one", "")
    # The same file once more is no news, and no alarm.
    assert home.verify(home.path / "list.json").status == 0


def test_a_proof_that_is_not_tied_to_the_last_visit_proves_nothing_to_who_was_here(home: Home) -> None:
    assert home.verify(home.proof()).status == 0
    for since in ("0", "7", "999999"):
        said = home.verify(home.proof("--since", since))
        assert said.status == 1
        assert "NOT PROVEN: nothing shows that the log extends" in said.text
        assert "ask for the proof again" in said.text
    assert home.verify(home.proof()).status == 0


def test_an_older_proof_than_remembered_is_a_shrunken_log(home: Home) -> None:
    older = home.proof(to="older.json")
    happens(home)
    assert home.verify(home.proof(to="newer.json")).status == 0
    said = home.verify(older)
    assert said.status == 1
    assert re.search(r"NOT PROVEN: the log holds `\d+` leaves; at your last visit it held `\d+`", said.text)
    assert "(list.shrunk_log)" in said.text
    # What was seen stays what is compared with.
    assert home.verify(home.path / "newer.json").status == 0


def test_a_service_that_starts_over_from_an_older_copy_is_found_out(home: Home, tmp_path: Path) -> None:
    """Keys, rows and checkpoints are all the service's own: only the reader's memory tells."""
    earlier = home.copy(tmp_path / "earlier")
    with home.world() as world:
        world.grant(home.someone, world.app())
    assert home.verify(home.proof()).status == 0
    remembered = home.memory.read_text()

    # 1. Shorter, in a log that has grown past what was seen.
    happens(earlier, 4)
    forked = earlier.proof(memory=home.memory)
    said = home.verify(forked)
    assert said.status == 1
    assert "NOT PROVEN: `7` records are listed; at your last visit there were `8`" in said.text
    # 2. As long again, with something else in it.
    for _ in range(2):
        earlier.proof(memory=home.memory)
    said = home.verify(earlier.proof(memory=home.memory))
    assert said.status == 1
    assert "NOT PROVEN: the records are not those of your last visit" in said.text
    assert home.memory.read_text() == remembered
    # To somebody who was never here before, each of the two is whole.
    home.memory.unlink()
    assert home.verify(forked).status == 0


def owners(home: Home, since: int) -> Path:
    """The proof as its owner gets it: asking leaves no record."""
    with home.world() as world, world.ledger.reading() as tx:
        who = home.someone
        note = world.ledger.checkpoint()
        bundle = completeness.prove(tx, world.ledger.replica, who.person_id, who.cameo_id, note, since=since)
    file = home.path / "owners.json"
    file.write_text(json.dumps(bundle))
    return file


def test_the_same_list_in_another_log_is_a_fork(home: Home, tmp_path: Path) -> None:
    twin = home.copy(tmp_path / "twin")
    happens(home)
    file = owners(home, 0)
    assert home.verify(file).status == 0
    size, _ = signed_head(json.loads(file.read_text())["checkpoint"].encode(), home.vkey)
    happens(twin)
    for _ in range(2):
        said = home.verify(owners(twin, size))
        assert said.status == 1
        assert "NOT PROVEN: the log does not extend the one you saw last" in said.text
        assert "tell others" in said.text
        happens(twin)
    assert home.verify(owners(home, size)).status == 0


def test_another_logs_key_proves_nothing(home: Home) -> None:
    file = home.proof()
    other = VerifierKey(ORIGIN, SignerKey.from_seed(ORIGIN, b"\x07" * 32).verifier.public)
    said = home.verify(file, "--log-key", str(other))
    assert said.status == 1
    assert "NOT PROVEN: none of the known keys signed the note" in said.text
    assert not home.memory.exists()
    # Once it is known, no file can bring its own.
    assert home.verify(file).status == 0
    forged = json.loads(file.read_text())
    (row,) = [row for row in forged["keys"] if row["role"] == "log"]
    row["public"] = str(other).rpartition("+")[2]
    file.write_text(json.dumps(forged))
    assert home.verify(file).status == 1


@pytest.mark.parametrize("wrong", ["", "key", "a+b+c", "test.example/log+00000000+AAAA"])
def test_a_key_that_is_none_is_the_callers_mistake(home: Home, wrong: str) -> None:
    said = home.verify(home.proof(), "--log-key", wrong)
    assert said.status == 2
    assert said.text.startswith("countersign: ")


def policy(home: Home, quorum: str, *before: str) -> Path:
    file = home.path / "policy"
    witnesses = [f"witness w1 {WITNESS.verifier}", f"witness w2 {SECOND.verifier}", "group both all w1 w2"]
    file.write_text("\n".join([*before, f"log {home.vkey}", *witnesses, f"quorum {quorum}", ""]))
    return file


def cosigned(file: Path, *witnesses: SignerKey) -> None:
    bundle = json.loads(file.read_text())
    note = bundle["checkpoint"].encode()
    text = bundle["checkpoint"].rpartition("\n\n")[0] + "\n"
    for witness in witnesses:
        note = add_cosignature(note, cosign(text, witness, datetime.now(UTC)), witness.verifier)
    file.write_text(json.dumps(bundle | {"checkpoint": note.decode()}))


def test_a_policy_wants_its_quorum_of_witnesses(home: Home) -> None:
    file = home.proof()
    said = home.verify(file, "--policy", policy(home, "both"))
    assert said.status == 1
    assert "NOT PROVEN: the quorum `both` does not hold: no cosignature by `w1`, `w2`" in said.text
    cosigned(file, WITNESS)
    said = home.verify(file, "--policy", policy(home, "both"))
    assert said.status == 1
    assert "no cosignature by `w2`" in said.text
    assert home.verify(file, "--policy", policy(home, "w1")).status == 0
    cosigned(file, SECOND)
    said = home.verify(file, "--policy", policy(home, "both"))
    assert said.status == 0, said.text
    assert "witnessed by witness.example/w1, witness.example/w2" in lines(said, "proven")
    assert "witness" not in lines(said, "not proven")
    assert "policy file" in lines(said, "not proven")


def test_a_policy_that_lists_other_logs_too_leaves_the_right_key_remembered(home: Home) -> None:
    other = SignerKey.from_seed("ledger.example/other", b"\x08" * 32).verifier
    assert home.verify(home.proof(), "--policy", policy(home, "none", f"log {other}")).status == 0
    said = home.verify(home.proof())
    assert said.status == 0, said.text
    assert "only grew" in lines(said, "proven")


def test_a_policy_that_can_not_be_read_is_the_callers_mistake(home: Home) -> None:
    file = policy(home, "nobody")
    said = home.verify(home.proof(), "--policy", file)
    assert said.status == 2
    assert "policy" in said.text


# Tampering ----------------------------------------------------------------------------------------------------


def _record(n: int, **changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda bundle: bundle["records"][n].update(changes)


def _swap(bundle: dict[str, Any]) -> None:
    records = bundle["records"]
    records[2], records[3] = records[3], records[2]


TAMPERED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a prompt": (
        lambda b: b["records"][2]["body"].update(prompt="a cat"),
        "opening is for another body|opens none",
    ),
    "a refusal": (lambda b: b["records"][4]["body"].update(allowed=True), "opens none"),
    "one record left out": (lambda b: b["records"].pop(3), "opens none"),
    "the newest left out": (
        lambda b: b["records"].pop(),
        "list ends at `6` records, but the log was not shown",
    ),
    "all left out": (lambda b: b["records"].clear(), "list ends at `0` records, but the log was not shown"),
    "two swapped": (_swap, "opens none"),
    "a place": (_record(2, index=0), "proof for leaf `0`"),
    "a role": (_record(2, role="requester"), "opens none"),
    "a secret": (_record(2, secret="A" * 43 + "="), "opens none"),
    "no commitments": (_record(2, commitments=[]), "at least one commitment"),
    "another likeness": (
        lambda b: b.update(cameo_id=new_id("cameo")),
        "does not begin with the account or the enrolment",
    ),
    "another list key": (lambda b: b.update(list_key="A" * 43 + "="), "."),
    "another log": (lambda b: b.update(origin="other.example/log"), "."),
    "a larger log": (
        lambda b: b.update(
            checkpoint=re.sub(r"\n(\d+)\n", lambda m: f"\n{int(m[1]) + 1}\n", b["checkpoint"])
        ),
        "signature .* does not verify",
    ),
    "no signature": (lambda b: b.update(checkpoint=b["checkpoint"].split("—")[0]), "."),
    "a key's date": (lambda b: b["keys"][0].update(since=1), "."),
    "a key removed": (lambda b: b["keys"].pop(0), "."),
    "an epoch": (lambda b: b["epoch"].update(leaf=b["records"][0]["leaf"]), "proof for leaf"),
    "an unknown field": (lambda b: b.update(note="all is well"), "not a list as we write it: see `note`"),
    "a missing field": (lambda b: b.pop("absent"), "not a list as we write it: see `absent`"),
    "a number as text": (_record(2, index="7"), "not a list as we write it: see `records.2.index`"),
    "another schema": (lambda b: b.update(schema="countersign/list/v2"), "see `schema`"),
    "not base64": (_record(2, leaf="!"), "not base64"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_file_proves_nothing_and_it_is_said_what_is_wrong(
    home: Home, name: str, proof_text: str
) -> None:
    spoil, words = TAMPERED[name]
    bundle = json.loads(proof_text)
    spoil(bundle)
    file = home.path / "list.json"
    file.write_text(json.dumps(bundle))
    said = home.verify(file, "--log-key", home.vkey)
    assert said.status == 1, said.text
    first = said.text.splitlines()[0]
    assert first.startswith("NOT PROVEN: ")
    assert re.search(words, first), first
    assert lines(said, "proven") == ""
    assert "Traceback" not in said.text
    assert not home.memory.exists()


@pytest.fixture(scope="module")
def proof_text(built: Home, tmp_path_factory: pytest.TempPathFactory) -> str:
    return built.copy(tmp_path_factory.mktemp("proof") / "home").proof().read_text()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"7", b"[" * 100_000, b"{}", b'{"keys": 7}'])
def test_what_is_no_proof_file_is_refused_without_a_traceback(home: Home, content: bytes) -> None:
    file = home.path / "list.json"
    file.write_bytes(content)
    said = home.verify(file)
    assert said.status in {1, 2}
    assert said.text.startswith(("countersign: ", "NOT PROVEN: "))


def test_a_damaged_memory_is_not_taken_for_a_first_visit(home: Home) -> None:
    file = home.proof()
    assert home.verify(file).status == 0
    kept = home.memory.read_text()
    for damaged in ("", "{", "[]", kept[:-20], kept.replace('"size"', '"length"')):
        home.memory.write_text(damaged)
        said = home.verify(file)
        assert said.status == 2, damaged
        assert "memory of earlier visits" in said.text
        assert home.memory.read_text() == damaged


# Keys ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["service", "log", "receipt"])
def test_a_rotated_key_counts_from_its_leaf_on_and_old_proofs_hold(home: Home, role: str) -> None:
    before = home.proof(to="before.json")
    assert home.verify(before).status == 0
    said = home.run("keys", "rotate", role)
    found = re.fullmatch(rf"the new {role} key counts from entry (\d+) on\n", said.text)
    assert said.status == 0, said.text
    assert found is not None
    after = home.proof(to="after.json")
    rows = [row for row in json.loads(after.read_text())["keys"] if row["role"] == role]
    assert [row["since"] for row in rows][1:] == [int(found[1])]
    # Whoever was here before the change, and whoever comes after it, is shown one and the same log.
    said = home.verify(after)
    assert said.status == 0, said.text
    assert "only grew" in lines(said, "proven")
    home.memory.unlink()
    assert home.verify(before).status == 0
    home.memory.unlink()
    assert home.verify(after).status == 0


def test_a_reader_follows_the_log_from_key_to_key(home: Home) -> None:
    """The first log key is gone at last: who came by meanwhile remembers its successor."""
    assert home.verify(home.proof()).status == 0
    assert home.run("keys", "rotate", "log").status == 0
    assert home.verify(home.proof()).status == 0
    first_key = home.path / "keys" / "log.key"
    assert first_key.read_bytes()
    first_key.unlink()
    happens(home)
    said = home.verify(home.proof())
    assert said.status == 0, said.text
    assert "only grew" in lines(said, "proven")
    # Who comes with the first key only is not shown anything it signed alone, and is told.
    assert home.verify(home.path / "list.json", "--log-key", home.vkey).status == 1


def test_rotating_the_wrapping_key_destroys_the_one_before(home: Home) -> None:
    folder = home.path / "keys" / "wrapping"
    (old,) = folder.iterdir()
    content = old.read_bytes()
    assert home.run("keys", "rotate", "wrapping") == (0, "1 old wrapping keys destroyed\n")
    (new,) = folder.iterdir()
    assert new.name != old.name
    assert new.read_bytes() != content
    assert home.verify(home.proof()).status == 0


def test_an_unknown_key_is_not_rotated(home: Home) -> None:
    for role in ("permit", "watermark", "master", ""):
        said = home.run("keys", "rotate", role)
        assert said.status == 2
        assert "is not one of" in said.text


# Export -------------------------------------------------------------------------------------------------------


def test_an_export_holds_the_whole_published_log(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "public" / "log"
    said = home.run("export", folder)
    size, root = signed_head((folder / "checkpoint").read_bytes(), home.vkey)
    assert said == (0, f"2 new files; {size} entries under {folder}/checkpoint\n")
    bundle, leaves = (folder / "tile" / "entries" / f"000.p/{size}").read_bytes(), []
    while bundle:
        end = 2 + int.from_bytes(bundle[:2], "big")
        leaves.append(bundle[2:end])
        bundle = bundle[end:]
    assert naive_root(leaves) == root
    assert home.run("export", folder).text.startswith("0 new files")
    happens(home)
    assert home.run("export", folder).text.startswith("2 new files")
    assert (folder / "tile" / "entries" / f"000.p/{size}").exists()


# Help ---------------------------------------------------------------------------------------------------------


def commands(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", list(commands(cli)), ids=" ".join)
def test_every_command_explains_itself(built: Home, path: tuple[str, ...]) -> None:
    for option in ("-h", "--help"):
        said = built.run(*path, option)
        assert said.status == 0
        assert said.text.startswith(f"Usage: countersign {' '.join(path)}".rstrip())
        sentence = said.text.splitlines()[2].strip()
        assert len(sentence) > 10
        assert sentence[0].isupper()


def test_a_command_that_is_not_right_says_how_it_would_be(home: Home) -> None:
    for arguments, words in (
        (["audit", "verify"], "Missing argument"),
        (["audit", "verify", "nowhere.json"], "does not exist"),
        (["audit", "prove"], "Missing option '--cameo'"),
        (["keys", "rotate"], "Missing argument"),
        (["export"], "Missing argument"),
        (["exprot"], "No such command"),
        (["audit", "prove", "--cameo", "x", "--since", "last week"], "not a valid integer"),
    ):
        said = home.run(*arguments)
        assert said.status == 2, arguments
        assert words in said.text
        assert "Usage: countersign" in said.text
