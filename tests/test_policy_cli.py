"""`countersign policy`, `apps` and `audit redecide`, as an operator types them: what is said, and the exit status."""

import csv
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from command import Said, countersign
from ledger.canonical import canonical
from ledger.consent.registry import erase
from ledger.consent.statement import encode_key
from ledger.ids import AppId, new_id
from safety.policy import cedar
from safety.policy.cases import FILE
from test_activation import ALICE, BOB, COMMERCIAL, EVE, GENERATE, Ruled, hash_of, rule
from test_replay import lying
from world import ORIGIN, POLICIES, World, check_log, open_ledger

pytestmark = pytest.mark.slow

KEYS = {"alice": ALICE, "bob": BOB, "eve": EVE}
REGISTERED = ("alice", "bob")
ASKED = {
    *("ask", "precheck", "generate"),
    *("suspend_app", "reinstate_app", "activate_policies", "pass_clip", "refuse_clip"),
}
PERMITS = ("permit.operate", "permit.generate", "permit.ask")


# A set small enough to be checked in a moment -----------------------------------------------------------------


@lru_cache(maxsize=1)
def blocks() -> dict[str, str]:
    """Every policy and invariant of the real set, by id."""
    found = {}
    for path in POLICIES.glob("*.cedar"):
        for block in re.split(r"(?=@id\()", path.read_text())[1:]:
            found[block.split('"')[1]] = block.split("\n//")[0]
    return found


def reason_of(policy_id: str) -> str:
    return blocks()[policy_id].partition('@reason("')[2].partition('")')[0]


def rules(*more: str, leave_out: str = "") -> str:
    operating = [name for name in blocks() if name.startswith("operator.")]
    named = [*PERMITS, *operating, "standing.prechecks", *more]
    return "\n".join(blocks()[name] for name in named if name != leave_out)


def table(*more: dict[str, Any], leave_out: str = "") -> str:
    """The real cases about what the small set speaks of, and `more`."""
    whole = json.loads((POLICIES / FILE).read_text())
    known = set(re.findall(r'@id\("([^"]+)"', rules(leave_out=leave_out)))
    cases = [case for case in whole["cases"] if case["ask"] in ASKED and set(case["forbidden_by"]) <= known]
    unreleased = {"intent": "nothing is released", "ask": "release", "base": "adult", "with": {}}
    listed = [*cases, {**unreleased, "forbidden_by": ["policy.default_deny"]}, *more]
    return json.dumps({**whole, "cases": listed})


def write(folder: Path, policies: str, cases: str | None, *, invariant: str = "never.loosened_alone") -> Path:
    folder.mkdir()
    (folder / cedar.SCHEMA).write_bytes((POLICIES / cedar.SCHEMA).read_bytes())
    (folder / "rules.cedar").write_text(policies)
    if invariant:
        (folder / cedar.INVARIANTS).write_text(blocks()[invariant])
    if cases is not None:
        (folder / FILE).write_text(cases)
    return folder


def commerce(purpose: str, *forbidden_by: str) -> dict[str, Any]:
    case = {"intent": f"a clip for {purpose}", "ask": "generate", "base": "nobody"}
    return {**case, "with": {"request.purpose": f"dpv:{purpose}"}, "forbidden_by": list(forbidden_by)}


def unlike(purpose: str, policy_id: str) -> tuple[str, tuple[dict[str, Any], ...]]:
    """A rule against making clips for a purpose, and the cases that notice every mistake in it."""
    condition = f'when {{ context.request.purpose == "dpv:{purpose}" }}'
    about_clips = {
        "intent": f"a clip for {purpose} that nobody looked at",
        "ask": "clear",
        "base": "nobody",
        "with": {"request.purpose": f"dpv:{purpose}"},
        "forbidden_by": ["policy.default_deny"],
    }
    cases = (commerce(purpose, policy_id), commerce("NonCommercialPurpose"), about_clips)
    return rule(policy_id, GENERATE, condition).decode(), cases


TIGHT_RULE, TIGHT_CASES = unlike("CommercialPurpose", "test.no_commerce")
OTHER_RULE, OTHER_CASES = unlike("Advertising", "test.no_advertising")


@dataclass(frozen=True)
class Sets:
    """Folders. `tight` and `other` forbid more than `small`, `loose` less; `untested` has a rule no case is about."""

    small: Path
    tight: Path
    other: Path
    loose: Path
    untested: Path
    broken: Path
    bare: Path
    """Without a decision table."""


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Sets:
    root = tmp_path_factory.mktemp("sets")
    tight = f"{rules()}\n{TIGHT_RULE}"
    freed = "standing.prechecks"
    return Sets(
        small=write(root / "small", rules(), table()),
        tight=write(root / "tight", tight, table(*TIGHT_CASES)),
        other=write(root / "other", f"{rules()}\n{OTHER_RULE}", table(*OTHER_CASES)),
        loose=write(root / "loose", rules(leave_out=freed), table(leave_out=freed)),
        untested=write(root / "untested", tight, table()),
        broken=write(root / "broken", "forbit (principal, action, resource);", table()),
        bare=write(root / "bare", tight, None),
    )


# An installation --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Home:
    path: Path
    sets: Sets
    app: AppId

    def run(self, *arguments: str | Path) -> Said:
        said = countersign(self.path, *arguments, ORIGIN=ORIGIN, POLICIES=str(self.sets.small))
        assert "Traceback" not in said.text
        return said

    def ok(self, *arguments: str | Path) -> str:
        said = self.run(*arguments)
        assert said.status == 0, said
        return said.text

    def fails(self, status: int, *arguments: str | Path) -> str:
        """A command that does not do what it was asked, and says why in words."""
        said = self.run(*arguments)
        assert said.status == status, said
        assert said.text.strip()
        assert all(char.isprintable() for char in said.text.replace("\n", "").replace("\r", ""))
        return said.text

    def key(self, name: str) -> Path:
        return self.path / f"{name}.key"

    @contextmanager
    def world(self) -> Iterator[Ruled]:
        ledger, keyring = open_ledger(self.path)
        yield Ruled(ledger, keyring, self.path, at=datetime.now(UTC))
        ledger.close()

    def sql(self, statement: str, **values: Any) -> None:
        database = create_engine(f"sqlite:///{self.path / 'ledger.db'}")
        with database.begin() as connection:
            connection.execute(text(statement), values)
        database.dispose()

    def in_force(self) -> tuple[str, str | None, int]:
        with self.world() as world:
            found = world.in_force
        return found.current, found.incoming, found.share


@pytest.fixture(scope="module")
def built(sets: Sets, tmp_path_factory: pytest.TempPathFactory) -> Home:
    path = tmp_path_factory.mktemp("policy") / "home"
    path.mkdir()
    ledger, keyring = open_ledger(path)
    world = World(ledger, keyring, path)
    home = Home(path, sets, world.app("Film Club \x1b[2K"))
    ledger.close()
    for name, key in KEYS.items():
        home.key(name).write_bytes(key.private_bytes_raw())
    for name in REGISTERED:
        home.ok("keys", "create", "operator", name, "--public-key", encode_key(KEYS[name].public_key()))
    assert home.ok("policy", "status") == f"in force  {of(sets.small)}\n"
    return home


@pytest.fixture
def home(built: Home, tmp_path: Path) -> Home:
    shutil.copytree(built.path, tmp_path / "home")
    return Home(tmp_path / "home", built.sets, built.app)


def of(folder: Path) -> str:
    return hash_of(cedar.read(folder))


# Checking and comparing ---------------------------------------------------------------------------------------


def test_a_set_that_passes_says_what_was_found(home: Home) -> None:
    for folder in (home.sets.small, home.sets.tight, home.sets.loose):
        said = home.ok("policy", "check", folder)
        assert said.splitlines()[0].endswith(f"set {of(folder)}")
        assert said.splitlines()[-1] == "passed"
    found = json.loads(home.ok("policy", "check", "--json", home.sets.small))
    assert (found["passed"], found["policy_set"], found["faults"]) == (True, of(home.sets.small), [])


def test_a_set_that_does_not_pass_exits_1_and_names_what_is_wrong(home: Home) -> None:
    said = home.fails(1, "policy", "check", home.sets.untested)
    assert "SURVIVES  `test.no_commerce`" in said
    assert said.endswith("NOT PASSED\n")
    assert "there is no decision table `cases.json`" in home.fails(1, "policy", "check", home.sets.bare)
    assert "the policy set cannot be used" in home.fails(1, "policy", "check", home.sets.broken)
    found = json.loads(home.fails(1, "policy", "check", "--json", home.sets.bare))
    assert found["passed"] is False


def test_a_folder_that_is_none_can_not_be_checked(home: Home, tmp_path: Path) -> None:
    assert "does not exist" in home.fails(2, "policy", "check", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "there is no `schema.cedarschema`" in home.fails(1, "policy", "check", tmp_path / "empty")
    (tmp_path / "file").write_text("x")
    home.fails(2, "policy", "check", tmp_path / "file")


def test_a_table_that_can_not_be_read_is_a_fault_of_the_set(home: Home, tmp_path: Path) -> None:
    for n, content in enumerate(("", "{", "[]", '{"bases": {}, "cases": 7}', "\x00")):
        folder = write(tmp_path / str(n), rules(), content)
        assert "the decision table cannot be used" in home.fails(1, "policy", "check", folder)


def test_what_a_set_would_change_is_said_with_an_example(home: Home) -> None:
    small, tight, loose = home.sets.small, home.sets.tight, home.sets.loose
    said = home.ok("policy", "diff", small, tight)
    assert "newly denied: `generate`, by `test.no_commerce`" in said
    assert "dpv:CommercialPurpose" in said
    assert "newly allowed: `generate`" in home.fails(1, "policy", "diff", tight, "active")
    said = home.fails(1, "policy", "diff", "active", loose)
    assert "newly allowed: `precheck`, no longer forbidden by `standing.prechecks`" in said
    assert (
        home.ok("policy", "diff", small, of(small)[:8]) == "no request there can be is decided differently\n"
    )
    found = json.loads(home.fails(1, "policy", "diff", "--json", small, loose))
    assert found["loosens"] is True


def test_an_invariant_that_is_no_longer_stated_is_said(home: Home, tmp_path: Path) -> None:
    """Gone from one set, it is not proven of the next."""
    unstated = write(tmp_path / "unstated", rules(), table(), invariant="")
    assert "`never.loosened_alone`" in home.fails(1, "policy", "diff", "active", unstated)


@pytest.mark.parametrize("name", ["nowhere", "abcdef", "", "f" * 64, "x" * 5000, "..", "/", "active2"])
def test_a_set_that_nobody_knows_is_not_found(home: Home, name: str) -> None:
    for command in (("diff", "active", name), ("replay", name), ("shadow", name)):
        said = home.fails(2, "policy", *command)
        assert said.startswith("countersign: "), said
        assert len(said) < 400


def test_a_folder_called_active_does_not_pass_for_the_set_in_force(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(home.sets.loose, tmp_path / "active")
    monkeypatch.chdir(tmp_path)
    assert (
        home.ok("policy", "diff", "active", home.sets.small)
        == "no request there can be is decided differently\n"
    )


def test_a_set_that_was_swapped_in_the_archive_is_not_taken_for_the_one_named(home: Home) -> None:
    """An operator who names a hash must not sign what somebody put into the database under it."""
    loose = {name: data.decode() for name, data in cedar.read(home.sets.loose).items()}
    home.ok("policy", "shadow", home.sets.tight)
    swap = "UPDATE policy_set SET files = :files WHERE sha256 = :named"
    home.sql(swap, files=canonical(loose), named=of(home.sets.tight))
    named = of(home.sets.tight)
    for command in (
        ("activate", named, "--key", home.key("alice")),
        ("diff", "active", named),
        ("replay", named),
    ):
        assert "is not in the archive as it was" in home.fails(2, "policy", *command)
    assert home.in_force() == (of(home.sets.small), None, 0)


# Activating ---------------------------------------------------------------------------------------------------


def activate(home: Home, candidate: str | Path, by: str, *more: str) -> list[str | Path]:
    return ["policy", "activate", candidate, "--key", home.key(by), *more]


def test_one_operator_activates_what_only_forbids_more(home: Home) -> None:
    said = home.ok(*activate(home, home.sets.tight, "alice"))
    assert "passed\n" in said
    assert "newly denied: `generate`" in said
    done = re.search(
        r"done: policy set ([0-9a-f]{16})…, from entry (\d+) of the log on; signed by alice\n$", said
    )
    assert done is not None
    assert of(home.sets.tight).startswith(done[1])
    with home.world() as world, world.ledger.reading() as tx:
        place = tx.find("policies", "1")
        assert place is not None
        assert int(done[2]) == place.index + 1
        check_log(world.ledger)
    assert f"in force  {of(home.sets.tight)}\n" in home.ok("policy", "status")
    # By its hash, later, once another one is in force.
    assert (
        home.fails(3, *activate(home, of(home.sets.small)[:10], "bob"))
        .splitlines()[-2]
        .startswith("signed, and waiting")
    )


def test_two_operators_activate_what_allows_more(home: Home) -> None:
    waiting = home.fails(3, *activate(home, home.sets.loose, "alice"))
    assert "newly allowed: `precheck`" in waiting
    assert f"signed, and waiting: {reason_of('operator.two_people')}\n" in waiting
    assert "have another operator give the same order" in waiting
    home.fails(3, *activate(home, home.sets.loose, "alice"))
    home.fails(3, *activate(home, home.sets.loose, "bob", "--share", "10"))
    assert home.in_force() == (of(home.sets.small), None, 0)
    assert home.ok(*activate(home, home.sets.loose, "bob")).endswith("signed by alice, bob\n")
    assert home.in_force() == (of(home.sets.loose), None, 0)


def test_a_roll_out_is_begun_widened_ended_and_completed(home: Home) -> None:
    small, tight = of(home.sets.small), of(home.sets.tight)
    for share, signers, now in (
        (100, ["alice"], (small, tight, 100)),
        (400, ["bob"], (small, tight, 400)),
        # Its apps come back to rules that allow more, whether all of them or some.
        (200, ["bob", "alice"], (small, tight, 200)),
        (0, ["alice", "bob"], (small, None, 0)),
        (5, ["bob"], (small, tight, 5)),
        (1000, ["bob"], (tight, None, 0)),
    ):
        *first, last = signers
        for by in first:
            home.fails(3, *activate(home, home.sets.tight, by, "--share", str(share)))
        home.ok(*activate(home, home.sets.tight, last, "--share", str(share)))
        assert home.in_force() == now
        status = home.ok("policy", "status")
        assert (f"incoming  {tight}, for {share} of 1000 apps" in status) == (now[1] is not None)


def test_a_roll_out_is_not_undone_by_one_operator_under_another_name(home: Home) -> None:
    """What is tighter than the set in force may still be looser than the one that is on its way in."""
    home.ok(*activate(home, home.sets.tight, "alice", "--share", "900"))
    for share in ("1000", "900", "1"):
        waiting = home.fails(3, *activate(home, home.sets.other, "bob", "--share", share))
        assert "newly allowed: `generate`, no longer forbidden by `test.no_commerce`" in waiting
    assert home.in_force() == (of(home.sets.small), of(home.sets.tight), 900)


@pytest.mark.parametrize("damage", ["swapped", "lost"])
def test_a_roll_out_is_not_undone_by_one_operator_and_the_database(home: Home, damage: str) -> None:
    """Compared with another set than the one that decides, going back would look like no change."""
    home.ok(*activate(home, home.sets.tight, "alice", "--share", "900"))
    loose = {name: data.decode() for name, data in cedar.read(home.sets.loose).items()}
    files = canonical(loose) if damage == "swapped" else b"{}"
    home.sql(
        "UPDATE policy_set SET files = :files WHERE sha256 = :named", files=files, named=of(home.sets.tight)
    )
    waiting = home.fails(3, *activate(home, home.sets.tight, "bob", "--share", "5"))
    assert "the set on its way in is lost" in waiting


def test_one_operator_takes_no_right_from_anybody(home: Home, tmp_path: Path) -> None:
    """To forbid more is safe for whoever is shown, but not where it is their own list, or an order, that is denied."""
    mute = rule("test.mute", 'principal, action == Action::"suspend_app", resource is Order').decode()
    muting = write(tmp_path / "mute", f"{rules()}\n{mute}", None)
    assert "newly denied: `suspend_app`, by `test.mute`" in home.fails(1, "policy", "diff", "active", muting)


@pytest.mark.parametrize("name", ["untested", "bare", "broken"])
def test_a_set_that_did_not_pass_its_check_is_refused_whoever_signs(home: Home, name: str) -> None:
    for by in ("alice", "bob"):
        said = home.fails(1, *activate(home, getattr(home.sets, name), by))
        assert "NOT PASSED\n" in said
        assert "refused: a policy set goes into force only when every case, invariant and mutant" in said
    assert home.in_force() == (of(home.sets.small), None, 0)


def test_orders_that_are_not_right_are_refused_in_words(home: Home, tmp_path: Path) -> None:
    sets = home.sets
    assert "no operator is registered with this key" in home.fails(1, *activate(home, sets.tight, "eve"))
    # Told what is wrong with the key, and not to look for somebody to second it.
    assert "refused: no operator" in home.fails(1, *activate(home, sets.loose, "eve"))
    assert "is in force already" in home.fails(2, *activate(home, "active", "alice"))
    assert "is in force already" in home.fails(2, *activate(home, sets.small, "alice"))
    assert "not being rolled out" in home.fails(2, *activate(home, sets.tight, "alice", "--share", "0"))
    for share in ("-1", "1001", "x"):
        home.fails(2, *activate(home, sets.tight, "alice", "--share", share))
    assert "Missing option '--key'" in home.fails(2, "policy", "activate", sets.tight)
    assert "there is no key file" in home.fails(2, *activate(home, sets.tight, "nobody"))
    home.key("damaged").write_bytes(b"x" * 31)
    assert "holds 31 bytes, not 32" in home.fails(2, *activate(home, sets.tight, "damaged"))
    assert "is no folder and no policy set" in home.fails(2, *activate(home, tmp_path / "x", "alice"))
    assert home.in_force() == (of(sets.small), None, 0)


def test_a_set_in_other_words_counts_as_one_that_allows_more(home: Home, tmp_path: Path) -> None:
    """Where two sets can not be compared, nobody can say that nothing is loosened."""
    other = write(tmp_path / "other", rules(), table())
    schema = (other / cedar.SCHEMA).read_text()
    (other / cedar.SCHEMA).write_text(schema.replace("action asking;", "action asking;\naction nothing;"))
    said = home.fails(3, *activate(home, other, "alice"))
    assert "different schemas" in said


# Who is let in ------------------------------------------------------------------------------------------------


def test_an_app_is_suspended_by_one_and_let_back_in_by_two(home: Home) -> None:
    alice, bob = (["--key", str(home.key(name))] for name in REGISTERED)
    spam = ["--reason", "spam"]
    assert re.fullmatch(rf"{home.app}  ok +  Film Club .*\n", home.ok("apps", "list"))
    assert home.ok("apps", "suspend", home.app, *spam, *alice).startswith(
        f"done: {home.app} is suspended, from"
    )
    assert f"{home.app}  suspended" in home.ok("apps", "list")
    assert "is suspended already" in home.fails(1, "apps", "suspend", home.app, *spam, *bob)
    waiting = home.fails(3, "apps", "reinstate", home.app, *spam, *bob)
    assert "letting a suspended app back in takes two operators" in waiting
    assert f"{home.app}  suspended" in home.ok("apps", "list")
    assert home.ok("apps", "reinstate", home.app, *spam, *alice).endswith("signed by alice, bob\n")
    assert "is in good standing already" in home.fails(1, "apps", "reinstate", home.app, *spam, *alice)
    with home.world() as world:
        assert [entry.body["suspended"] for entry in world.entries(home.app)] == [True, False]
        check_log(world.ledger)


def test_orders_about_apps_that_are_not_right_are_refused_in_words(home: Home) -> None:
    alice, eve = (["--key", str(home.key(name)), "--reason", "spam"] for name in ("alice", "eve"))
    for app in (new_id("app"), "x" * 5000, "", "\x1b[2K"):
        assert "there is no app" in home.fails(2, "apps", "suspend", app, *alice)
    assert "no operator is registered" in home.fails(1, "apps", "suspend", home.app, *eve)
    assert "Missing option '--reason'" in home.fails(2, "apps", "suspend", home.app, *alice[:2])
    bytes_ = ["--key", str(home.key("alice")), "--reason", "\udcff"]
    assert "not plain JSON" in home.fails(2, "apps", "suspend", home.app, *bytes_)


def test_a_new_key_is_made_once_and_only_its_owner_reads_it(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "carol.key"
    public = home.ok("keys", "new", file).strip()
    assert (file.stat().st_mode & 0o777, len(file.read_bytes())) == (0o600, 32)
    seen = file.read_bytes()
    assert "there is a file" in home.fails(2, "keys", "new", file)
    assert file.read_bytes() == seen
    assert "cannot be used" in home.fails(2, "keys", "new", tmp_path / "nowhere" / "carol.key")
    home.fails(2, "keys", "new", tmp_path)
    home.ok("keys", "create", "operator", "carol", "--public-key", public)
    suspended = home.ok("apps", "suspend", home.app, "--key", file, "--reason", "spam")
    assert suspended.endswith("signed by carol\n")


# Watching -----------------------------------------------------------------------------------------------------


def test_a_candidate_is_watched_and_counted_until_it_is_taken_off(home: Home) -> None:
    tight = of(home.sets.tight)
    assert home.ok("policy", "shadow", home.sets.tight) == f"in shadow: {tight}\n"
    with home.world() as world:
        for purpose in (COMMERCIAL, COMMERCIAL, "dpv:NonCommercialPurpose"):
            assert world.answers(home.app, purpose=purpose) == set()
    lines = [line.split() for line in home.ok("policy", "status").splitlines()]
    assert lines[1:] == [
        ["shadow", tight],
        ["2", "newly_denied"],
        ["1", "same"],
        ["2", "newly_denied", "by", "test.no_commerce"],
    ]
    # The same again counts on, another one anew.
    home.ok("policy", "shadow", tight[:12])
    assert "2  newly_denied" in home.ok("policy", "status")
    home.ok("policy", "shadow", home.sets.loose)
    home.ok("policy", "shadow", home.sets.tight)
    assert home.ok("policy", "status").splitlines()[1:] == [f"shadow    {tight}"]
    assert home.ok("policy", "shadow", "--off") == ""
    assert home.ok("policy", "status") == f"in force  {of(home.sets.small)}\n"


def test_a_candidate_that_can_not_be_used_is_not_watched(home: Home) -> None:
    assert "the policy set cannot be used" in home.fails(2, "policy", "shadow", home.sets.broken)
    assert "give a set, or --off" in home.fails(2, "policy", "shadow")
    assert "give a set, or --off" in home.fails(2, "policy", "shadow", home.sets.tight, "--off")
    assert "shadow" not in home.ok("policy", "status")


def test_the_status_says_that_a_set_in_force_is_lost(home: Home) -> None:
    home.sql("DELETE FROM policy_set")
    elsewhere = home.sets.small.with_name("gone")
    home.sets.small.rename(elsewhere)
    said = home.fails(1, "policy", "status")
    elsewhere.rename(home.sets.small)
    assert f"LOST      {of(home.sets.small)} is not in the archive as it was" in said
    # The folder it came from brings it back.
    assert "LOST" not in home.ok("policy", "status")


def test_an_installation_that_begins_with_a_broken_set_says_so(home: Home, tmp_path: Path) -> None:
    for folder in (home.sets.broken, tmp_path / "nowhere"):
        said = countersign(tmp_path / folder.name, "policy", "status", ORIGIN=ORIGIN, POLICIES=str(folder))
        assert said.status == 2
        assert "no policy set is in force" in said.text
        assert "Traceback" not in said.text


# Replaying and deciding again ---------------------------------------------------------------------------------


@pytest.fixture
def told(home: Home) -> Home:
    """Five decisions, the last two a day later, about nobody."""
    with home.world() as world:
        for purpose in (COMMERCIAL, "dpv:NonCommercialPurpose", COMMERCIAL):
            world.answers(home.app, purpose=purpose)
        world.wait(days=1)
        for purpose in (COMMERCIAL, "dpv:NonCommercialPurpose"):
            world.answers(home.app, purpose=purpose)
    return home


def decisions(home: Home) -> list[Any]:
    with home.world() as world:
        return world.entries(home.app, "decision")


def test_a_replay_says_what_a_candidate_would_have_changed(told: Home, tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    said = told.ok("policy", "replay", told.sets.tight, "--csv", out)
    assert [line.split() for line in said.splitlines()] == [
        ["3", "newly", "denied"],
        ["3", "test.no_commerce"],
        ["2", "same"],
        ["5", "decisions", "replayed"],
    ]
    rows = list(csv.DictReader(out.read_text().splitlines()))
    entries = decisions(told)
    assert [(int(row["index"]), row["video"], row["at"]) for row in rows] == [
        (entry.index, entry.body["video_id"], entry.body["at"]) for entry in entries
    ]
    assert {row["decided"] for row in rows} == {"allowed"}
    # From a place, or a day, on.
    index, day = entries[2].index, entries[3].body["at"]
    assert told.ok("policy", "replay", "active", "--since", str(index)).endswith("3 decisions replayed\n")
    assert told.ok("policy", "replay", "active", "--since", day).endswith("2 decisions replayed\n")
    assert told.ok("policy", "replay", "active", "--since", "2100-01-01") == "0 decisions replayed\n"


def test_a_replay_that_is_not_right_is_refused_in_words(told: Home, tmp_path: Path) -> None:
    for since in ("yesterday", "", "2026-13-01", "-5", "9" * 5000, "²"):
        said = told.fails(2, "policy", "replay", "active", "--since", since)
        assert "is neither a date nor an index" in said
    nowhere = tmp_path / "nowhere" / "rows.csv"
    assert "cannot be written" in told.fails(2, "policy", "replay", "active", "--csv", nowhere)
    assert "cannot be used" in told.fails(2, "policy", "replay", told.sets.broken)


def test_what_can_not_be_decided_again_is_counted_apart(told: Home, tmp_path: Path) -> None:
    with told.world() as world:
        ada = world.enrol()
        request = world.request(told.app, ada)
        world.gate.decide(request, at=world.at)
        erase(world.ledger, ada.person_id, ada.cameo_id, at=world.at)
    said = told.ok("policy", "replay", told.sets.tight)
    assert "1  could not be decided again: the likeness `cameo_" in said
    assert said.endswith("5 decisions replayed\n")
    assert "has been erased since" in told.fails(1, "audit", "redecide", request.video_id)
    assert told.ok("policy", "replay", "active", "--since", "2100-01-01") == "0 decisions replayed\n"


def test_a_decision_is_made_again_from_the_command_line(told: Home) -> None:
    first = decisions(told)[0]
    said = told.ok("audit", "redecide", first.body["video_id"])
    assert said == told.ok("audit", "redecide", str(first.index))
    assert said.startswith(
        f"entry {first.index}  {first.body['at']}  {first.body['video_id']} for {told.app}\n"
    )
    assert f"policy set  {of(told.sets.small)}" in said
    assert said.endswith("decided again: the same, byte for byte\n")
    assert "differs" not in said.lower()


def test_a_decision_that_is_not_what_is_recorded_exits_1(told: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with told.world() as world, monkeypatch.context() as patch:
        lying(patch, "requester", {"prompt": "\x1b[2Ksomething else", "reasons": [{}]})
        video = world.allow(told.app).permit.video
    said = told.fails(1, "audit", "redecide", video)
    assert "DIFFERS     `requester`: `reasons`" in said
    assert said.endswith("decided again: not what is recorded\n")
    parts = json.loads(told.fails(1, "audit", "redecide", "--json", video).partition("DIFFERS")[0])
    assert [part["subject_id"] for part in parts] == [told.app]


def test_a_decision_that_is_none_is_not_found(told: Home) -> None:
    for entry in ("0", "9" * 5000, "video_1", new_id("video"), ""):
        assert "there is no decision" in told.fails(2, "audit", "redecide", entry)


def test_a_decision_whose_set_is_gone_is_said(told: Home) -> None:
    told.sql("DELETE FROM policy_set")
    first = decisions(told)[0]
    elsewhere = told.sets.small.with_name("elsewhere")
    told.sets.small.rename(elsewhere)
    said = told.fails(1, "audit", "redecide", str(first.index))
    elsewhere.rename(told.sets.small)
    assert (
        said
        == f"entry {first.index} cannot be decided again: the policy set `{of(told.sets.small)}` is not in the archive\n"
    )
