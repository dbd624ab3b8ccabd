"""The service lies with every key it has. Whoever holds one file, the log's key and a memory finds out.

:class:`Forger` is the whole service in the attacker's hands: it writes any leaf, any map, any key table, and signs
it all. What a list alone can not show, a monitor (:class:`~ledger.log.replica.Replica`), a witness or an app can;
then the test names who.
"""

import copy
import json
import sqlite3
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.canonical import canonical
from ledger.consent.registry import erase
from ledger.errors import Inconsistent, LogError, NotFound, Violation
from ledger.ids import CameoId, Digest, LeafIndex
from ledger.keys import SigningKey, tag_of
from ledger.log.completeness import Seen, Verified, find, prove, verify
from ledger.log.leaf import Opening, commit, make_leaf
from ledger.log.merkle import Tree, consistency_proof, inclusion_proof, leaf_hash
from ledger.log.note import Checkpoint, SignatureType, SignerKey, add_cosignature, sign_note
from ledger.log.policy import ListedLog, ListedWitness, Policy
from ledger.log.prefixmap import PrefixMap, value_of
from ledger.log.public import Assignment, Epoch, KeyChange, KeyTable, make_public, public_bytes
from ledger.log.receipt import make_receipt, verify_receipt
from ledger.log.replica import Covered, Replica
from ledger.log.witness import Cosigned, Witness
from test_story_replay import LIES, STRANGE, Life, at, honest, places, put, told
from world import START, World, open_ledger, stored_leaves

LAW = settings(deadline=None, max_examples=150)
ORIGIN = "liar.example/log"
Body = Mapping[str, Any]


@dataclass
class Listed:
    """One person or app, as the service numbers them."""

    key: bytes
    cameo: str
    records: list[SimpleNamespace] = field(default_factory=list)
    """What the service will show: index, body, opening."""

    @classmethod
    def of(cls, life: Life) -> "Listed":
        return cls(sha256(life.cameo.encode()).digest(), life.cameo)


def share(who: Listed, body: Body, *, n: int | None = None, role: str = "depicted", secret: int = 0) -> Any:
    """One person's part of an entry: (who, n, opening, body)."""
    number = len(who.records) if n is None else n
    seed = sha256(canonical(body) + bytes([secret])).digest()
    return who, number, Opening(seed, role, number, Digest(sha256(canonical(body)).digest())), body


class Forger:
    """A service without scruples. What it does by default is honest; every step can be told otherwise."""

    def __init__(self) -> None:
        self.origin = ORIGIN
        self.service: Ed25519PrivateKey = Ed25519PrivateKey.generate()
        self.log: Ed25519PrivateKey = Ed25519PrivateKey.generate()
        self.receipt = ec.generate_private_key(ec.SECP256R1())
        self.leaves: list[bytes] = []
        self.commitments: dict[int, list[bytes]] = {}
        self.map, self.table = PrefixMap(), KeyTable()
        self.epochs: dict[int, Covered] = {}
        self.pending: list[Assignment] = []
        self.first = self.number = 0
        self.announce("service", self.service)
        self.announce("log", self.log)
        self.announce("receipt", self.receipt)

    # -- writing ----------------------------------------------------------------------------------------

    def add(self, leaf: bytes) -> LeafIndex:
        self.leaves.append(leaf)
        return LeafIndex(len(self.leaves) - 1)

    def announce(self, role: Any, new: SigningKey, old: SigningKey | None = None) -> None:
        change = KeyChange.make(role, ORIGIN, new, old)
        index = self.add(make_public("keys", change.payload(), ORIGIN, self.service))
        self.table = self.table.changed(change, index)

    def say(self, *shares: Any, tags: Sequence[bytes] | None = None) -> LeafIndex:
        """One entry about these people. `tags`: other ones than their numbers ask for."""
        committed = sorted(commit(opening) for _, _, opening, _ in shares)
        index = self.add(make_leaf(committed, ORIGIN, self.service))
        self.commitments[index] = committed
        given_tags = [tag_of(who.key, n) for who, n, _, _ in shares] if tags is None else tags
        self.pending += [Assignment(tag, index) for tag in given_tags]
        for who, _, opening, body in shares:
            who.records.append(SimpleNamespace(index=index, body=body, opening=opening))
        return index

    def tell(self, who: Listed, records: Sequence[tuple[int, Body]]) -> "Forger":
        for _, body in records:
            named = (
                {"list_key": sha256(who.key).hexdigest()} if body["kind"] in {"account", "enrolment"} else {}
            )
            self.say(share(who, {**body, **named}))
        return self

    def epoch(self, when: datetime = START, **lies: Any) -> bytes:
        """Close the epoch, and sign the checkpoint over it. `lies`: fields of the epoch, or `tags`, `table`."""
        hashes = [leaf_hash(leaf) for leaf in self.leaves]
        tags = sorted(lies.pop("tags", self.pending))
        table = lies.pop("table", self.table)
        self.map = lies.pop("map", None) or self.map.insert((t, value_of(e, hashes[e])) for t, e in tags)
        epoch = replace(
            Epoch(
                self.number,
                LeafIndex(self.first),
                self.map.root,
                table.digest(),
                int(when.timestamp()),
                tuple(tags),
            ),
            **lies,
        )
        leaf = make_public("epoch", epoch.payload(), ORIGIN, self.service)
        self.add(leaf)
        self.pending, self.first, self.number = [], len(self.leaves), self.number + 1
        self.epochs[self.first] = Covered(self.first, self.map, epoch, leaf, table)
        return self.note()

    def note(self, size: int | None = None, *signers: Ed25519PrivateKey) -> bytes:
        size = len(self.leaves) if size is None else size
        text = Checkpoint(ORIGIN, size, self.tree.root(size)).text()
        held = signers or (self.log,)
        return sign_note(text, [SignerKey.from_seed(ORIGIN, key.private_bytes_raw()) for key in held])

    def fork(self, *lies: tuple[int, bytes]) -> "Forger":
        """Another history with the same keys; `lies`: leaves that stand in it instead."""
        other = copy.copy(self)
        other.leaves, other.pending = list(self.leaves), list(self.pending)
        other.commitments, other.epochs = dict(self.commitments), dict(self.epochs)
        for index, leaf in lies:
            other.leaves[index] = leaf
        return other

    # -- answering: what :func:`prove` asks of a database and a replica ----------------------------------

    @property
    def tree(self) -> Tree:
        tree = Tree()
        tree.extend([leaf_hash(leaf) for leaf in self.leaves])
        return tree

    def held(self, who: Listed) -> Any:
        return SimpleNamespace(list_key=who.key)

    def entries(self, who: Listed) -> list[SimpleNamespace]:
        return who.records

    def statements(self, indices: Any) -> dict[int, tuple[bytes, list[bytes]]]:
        return {index: (self.leaves[index], self.commitments[index]) for index in indices}

    def covered(self, size: int) -> Covered:
        return self.epochs.get(size) or replace(
            self.epochs[max(self.epochs)], epoch_leaf=self.leaves[size - 1]
        )

    def bundle(self, who: Listed, note: bytes, since: int = 0) -> dict[str, Any]:
        me, them = cast("Any", self), cast("Any", who)
        made = prove(me, me, them, CameoId(who.cameo), note, since=since)
        # As it travels.
        read: dict[str, Any] = json.loads(json.dumps(made))
        return read

    # -- outsiders ---------------------------------------------------------------------------------------

    @property
    def policy(self) -> Policy:
        return Policy.alone(SignerKey.from_seed(ORIGIN, self.log.private_bytes_raw()).verifier)

    def monitor(self) -> Replica:
        """Someone who replays the public log. Raises Violation."""
        replica = Replica(ORIGIN)
        replica.extend(self.leaves)
        return replica

    def shows(self, who: Listed, note: bytes, seen: Seen | None = None) -> Verified:
        return verify(self.bundle(who, note, seen.size if seen else 0), self.policy, seen)


def refused(reason: str, act: Callable[..., object], *given: Any, **named: Any) -> LogError:
    with pytest.raises(LogError) as caught:
        act(*given, **named)
    assert caught.value.reason.id == reason, caught.value
    return caught.value


@pytest.fixture
def forger() -> Forger:
    return Forger()


def start(forger: Forger, uses: int = 1) -> tuple[Listed, Life, str]:
    """Someone enrolled, with a grant and a few uses of it; no epoch yet."""
    life = Life().enrol()
    grant = life.grant(max_uses=99)
    for n in range(uses):
        life.decide(f"v{n}", grant)
    who = Listed.of(life)
    forger.tell(who, life.records)
    return who, life, grant


def add(forger: Forger, who: Listed, life: Life) -> LeafIndex:
    """Log the newest record of the life."""
    forger.tell(who, life.records[-1:])
    return LeafIndex(who.records[-1].index)


def test_the_forger_can_be_honest_and_then_everyone_believes_it(forger: Forger) -> None:
    who, life, grant = start(forger)
    first = forger.shows(who, forger.epoch())
    add(forger, who, life.wait(days=1).release("v0", grant))
    second = forger.shows(who, forger.epoch(life.at), first.seen)
    assert (second.seen.count, second.story.released, second.extends) == (4, 1, first.seen.size)
    assert forger.monitor().size == len(forger.leaves)


# --- 1. rewritten -------------------------------------------------------------------------------------------


def alter(who: Listed, n: int, **changes: Any) -> None:
    """Show the n-th record in other words, with an opening made for them."""
    body = {**who.records[n].body, **changes}
    _, _, opening, _ = share(who, body, n=n)
    who.records[n] = SimpleNamespace(index=who.records[n].index, body=body, opening=opening)


def test_a_body_in_other_words_is_not_what_the_leaf_commits_to(forger: Forger) -> None:
    who, _, _ = start(forger)
    note = forger.epoch()
    alter(who, 2, prompt="something harmless")
    refused("log.opening", forger.shows, who, note)
    # Nor with the commitments of the new words, ...
    forger.commitments[who.records[2].index] = [commit(who.records[2].opening)]
    refused("log.opening", forger.shows, who, note)
    # ... nor with a leaf signed anew over those: the tree under the checkpoint is another.
    index = who.records[2].index
    forger.leaves[index] = make_leaf(forger.commitments[index], ORIGIN, forger.service)
    refused("log.inclusion", forger.shows, who, note)


def test_a_log_signed_anew_over_a_rewritten_leaf_is_another_log(forger: Forger) -> None:
    """The map, the epoch and the checkpoint are made to match: only memory tells."""
    who, life, _ = start(forger)
    seen = forger.shows(who, forger.epoch()).seen
    other, twin = Forger.__new__(Forger), Listed.of(life)
    other.__dict__ = {**Forger().__dict__, "service": forger.service, "log": forger.log}
    other.leaves, other.table = forger.leaves[:3], forger.table
    other.first, other.pending, other.map, other.epochs = 0, [], PrefixMap(), {}
    life.records[2][1]["prompt"] = "something harmless"
    other.tell(twin, life.records)
    note = other.epoch()
    assert other.shows(twin, note).seen.size == seen.size
    refused("list.rewritten", other.shows, twin, note, seen)
    # Someone else in the same log sees nothing of their own change, and notices all the same.
    refused("list.forked", other.shows, twin, note, replace(other.shows(twin, note).seen, root=seen.root))


@pytest.mark.parametrize(
    "rewrite",
    [
        "UPDATE log_entry SET leaf = x'00' WHERE kind = 'grant'",
        "DELETE FROM log_entry WHERE kind = 'grant'",
        "UPDATE log_entry SET leaf = (SELECT leaf FROM log_entry WHERE kind = 'enrolment') WHERE kind = 'grant'",
        "UPDATE log_entry SET leaf = (SELECT leaf FROM log_entry WHERE ref = '0') WHERE ref = '1'",
        "UPDATE head SET size = size - 1",
    ],
)
def test_a_service_whose_rows_were_rewritten_signs_nothing_more(tmp_path: Path, rewrite: str) -> None:
    world = small_world(tmp_path)
    world.grant(world.enrol(), world.app())
    world.ledger.close()
    database = sqlite3.connect(tmp_path / "ledger.db")
    with database:
        assert database.execute(rewrite).rowcount
    database.close()
    with pytest.raises(Inconsistent) as caught:
        open_ledger(tmp_path)
    assert caught.value.reason.id in {"log.damaged", "log.forked", "log.rolled_back"}


# --- 2. less than before ------------------------------------------------------------------------------------


def test_a_checkpoint_over_a_cut_log_has_no_epoch_to_end_it(forger: Forger) -> None:
    who, _, _ = start(forger)
    forger.epoch()
    refused("log.leaf", forger.shows, who, forger.note(len(forger.leaves) - 1))


def test_leaves_after_the_last_epoch_are_not_hidden_below_it(forger: Forger) -> None:
    """Leaves without tags under the checkpoint could be uses that no list has yet."""
    who, life, grant = start(forger)
    forger.epoch()
    add(forger, who, life.decide("v", grant))
    listed, who.records = who.records, who.records[:-1]
    refused("log.leaf", forger.shows, who, forger.note())
    who.records = listed


def test_the_older_checkpoint_is_refused_by_whoever_saw_the_newer(forger: Forger) -> None:
    who, life, grant = start(forger)
    old = forger.epoch()
    forger.shows(who, old)
    add(forger, who, life.revoke(grant))
    seen = forger.shows(who, forger.epoch()).seen
    assert forger.shows(who, old).story.standing.grants
    refused("list.shrunk_log", forger.shows, who, old, seen)


def test_a_restored_backup_that_went_on_otherwise_is_refused_by_memory(forger: Forger) -> None:
    who, life, grant = start(forger)
    forger.epoch()
    backup, before = forger.fork(), copy.deepcopy(who)
    add(forger, who, life.revoke(grant))
    seen = forger.shows(who, forger.epoch()).seen
    life.records.pop()
    add(backup, before, life.decide("v1", grant))
    note = backup.epoch()
    assert backup.shows(before, note).seen.size == seen.size
    refused("list.rewritten", backup.shows, before, note, seen)
    # Had the person nothing new in either, the log itself would not fit.
    refused(
        "list.forked",
        backup.shows,
        before,
        note,
        replace(backup.shows(before, note).seen, root=seen.root),
    )
    add(backup, before, life.release("v1", grant))
    later = backup.epoch()
    mine = replace(backup.shows(before, note).seen, root=seen.root)
    refused("list.forked", backup.shows, before, later, mine)


def test_a_dropped_epoch_is_found_by_whoever_replays_the_log(forger: Forger) -> None:
    who, life, grant = start(forger)
    forger.epoch()
    forger.leaves.pop()
    forger.first -= 1
    add(forger, who, life.revoke(grant))
    forger.epoch()
    refused("log.epoch_order", forger.monitor)


# --- 3. two views -------------------------------------------------------------------------------------------


def test_one_answer_without_the_connection_does_not_launder_a_fork(forger: Forger) -> None:
    """Otherwise memory would take over the fork, and from then on hold the log to that."""
    who, life, grant = start(forger)
    seen = forger.shows(who, forger.epoch()).seen
    add(forger, who, life.revoke(grant))
    bundle = forger.bundle(who, forger.epoch(), seen.size)
    verify(bundle, forger.policy, seen)
    for extends in (None, {**bundle["extends"], "size": seen.size - 1}):
        refused("list.unconnected", verify, {**bundle, "extends": extends}, forger.policy, seen)


def test_a_fork_gets_no_quorum_from_a_witness_that_saw_the_other_side(forger: Forger, tmp_path: Path) -> None:
    who, life, grant = start(forger)
    seed = SignerKey.from_seed("witness.example/w1", bytes([7]) * 32, SignatureType.COSIGNATURE)
    witness = Witness(tmp_path, seed, [log.key for log in forger.policy.logs])
    listed = (ListedWitness("w1", witness.verifier, "http://w1"),)
    policy = Policy(forger.policy.logs, listed, (), "w1")

    def cosigned(of: Forger, note: bytes, clock: datetime = START) -> bytes:
        """The note as the witness returns it: without a cosignature when it gives none."""
        latest = witness.latest(ORIGIN)
        old = latest.size if latest else 0
        path = consistency_proof(old, len(of.leaves), of.tree.node)
        head = [f"old {old}", *(b64encode(one).decode() for one in path), "", ""]
        answer = witness.add_checkpoint("\n".join(head).encode() + note, clock)
        return add_cosignature(note, answer.line, witness.verifier) if isinstance(answer, Cosigned) else note

    fork, twin = forger.fork(), copy.deepcopy(who)
    add(forger, who, life.revoke(grant))
    note = forger.epoch()
    refused("log.quorum", verify, forger.bundle(who, note), policy)
    good = cosigned(forger, note)
    assert len(verify(forger.bundle(who, good), policy).witnesses) == 1
    # The other side, of the same size.
    life.records.pop()
    add(fork, twin, life.decide("w", grant))
    other = fork.epoch()
    refused("log.quorum", verify, fork.bundle(twin, cosigned(fork, other)), policy)
    # A cosignature is no use below another tree.
    stolen = other + good.split(b"\n\n")[1].splitlines(keepends=True)[1]
    refused("log.note", verify, fork.bundle(twin, stolen), policy)
    # Grown past it.
    add(fork, twin, life.release("w", grant))
    refused("log.quorum", verify, fork.bundle(twin, cosigned(fork, fork.epoch())), policy)
    # And the log can not run ahead of its witnesses' clocks, to be inside a grant that has not begun.
    late = cosigned(forger, forger.epoch(START + timedelta(hours=1)))
    refused("list.time", verify, forger.bundle(who, late), policy)


# --- 4. order -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "order", [[0, 2, 1, 3], [0, 1, 1, 3], [0, 1, 3], [1, 2, 3], [0, 1, 2, 3, 3], [3, 2, 1, 0], []]
)
def test_records_in_another_order_twice_or_with_a_gap_do_not_stand_under_their_tags(
    forger: Forger, order: list[int]
) -> None:
    who, _, _ = start(forger, uses=2)
    note = forger.epoch()
    bundle = forger.bundle(who, note)
    verify(bundle, forger.policy)
    with pytest.raises(LogError):
        verify({**bundle, "records": [bundle["records"][n] for n in order]}, forger.policy)
    who.records = [who.records[n] for n in order]
    with pytest.raises(LogError):
        forger.shows(who, note)


def test_one_record_at_two_places_is_under_its_tag_at_one(forger: Forger) -> None:
    """A revocation logged twice, to be shown early to the owner and late to an auditor."""
    who, life, grant = start(forger)
    life.revoke(grant)
    early = forger.say(share(who, life.records[-1][1]))
    life.decide("late", grant)
    forger.say(share(who, life.records[-1][1]))
    who.records.append(who.records[3])
    late = forger.say(share(Listed(bytes(32), ""), life.records[-2][1], n=3), tags=[tag_of(who.key, 5)])
    note = forger.epoch()
    del who.records[5:]
    moved = SimpleNamespace(**{**vars(who.records[3]), "index": late})
    truth, who.records[3] = who.records[3], moved
    refused("log.map_presence", forger.shows, who, note)
    assert truth.index == early


def test_an_entry_that_counts_twice_about_one_person_is_refused(forger: Forger) -> None:
    who, life, grant = start(forger)
    body = life.decide("v", grant).records[-1][1]
    forger.say(share(who, body, n=3), share(who, {**body, "video_id": "w"}, n=4))
    refused("story.order", forger.shows, who, forger.epoch())


def test_a_tag_that_is_assigned_again_is_found_by_whoever_replays_the_log(forger: Forger) -> None:
    """So that the second record of someone becomes a harmless one, in the list and in the log's map."""
    who, life, _ = start(forger)
    first = forger.shows(who, forger.epoch())
    harmless = life.tell("audit", auditor="x", asked="uses").records[-1][1]
    index = forger.say(share(who, harmless, n=2), tags=[])
    shown = [*who.records[:2], who.records.pop()]
    others = forger.map
    forger.map = PrefixMap().insert(
        (tag_of(who.key, n), value_of(one.index, leaf_hash(forger.leaves[one.index])))
        for n, one in enumerate(shown)
    )
    note = forger.epoch(map=forger.map, assignments=(Assignment(tag_of(who.key, 2), index),))
    who.records = shown
    assert forger.shows(who, note).story.allowed == 0, "the list alone can not show it"
    refused("log.duplicate_tag", forger.monitor)
    refused("list.rewritten", forger.shows, who, note, first.seen)
    assert len(others) == 3


def test_time_never_runs_backwards_in_a_list_between_visits_or_in_the_log(forger: Forger) -> None:
    who, life, grant = start(forger)
    life.wait(days=2)
    seen = forger.shows(who, forger.epoch(life.at)).seen
    add(forger, who, life.wait(days=-1).decide("v", grant))
    note = forger.epoch(START + timedelta(days=2))
    assert forger.shows(who, note).story.allowed == 2, "no list shows what it was like between two records"
    refused("list.backdated", forger.shows, who, note, seen)
    earlier = forger.epoch(START + timedelta(days=1))
    refused("list.shrunk_log", forger.shows, who, earlier, seen)
    refused("log.epoch_time", forger.monitor)


# --- 5. hidden ----------------------------------------------------------------------------------------------


def test_a_number_that_is_skipped_is_missed(forger: Forger) -> None:
    who, life, grant = start(forger)
    forger.say(share(who, life.decide("hidden", grant).records[-1][1]))
    add(forger, who, life.decide("shown", grant))
    note = forger.epoch()
    del who.records[3]
    refused("log.opening", forger.shows, who, note)
    # Counted as if it had not been, its own number is nowhere.
    alter(who, 3)
    refused("log.opening", forger.shows, who, note)


def test_the_last_records_can_not_be_kept_back(forger: Forger) -> None:
    who, life, grant = start(forger)
    add(forger, who, life.decide("hidden", grant))
    note, bundle = forger.epoch(), {}
    whole = forger.bundle(who, note)
    who.records.pop()
    refused("list.incomplete", forger.shows, who, note)
    # What is absent is t_5; t_4 must be, for four records shown it is t_3.
    bundle = {**whole, "records": whole["records"][:-1]}
    refused("list.incomplete", verify, bundle, forger.policy)
    elsewhere = forger.map.prove(bytes(32)).as_json()
    refused("list.incomplete", verify, {**bundle, "absent": elsewhere}, forger.policy)
    present = forger.map.prove(tag_of(who.key, 3)).as_json()
    refused("list.incomplete", verify, {**bundle, "absent": present}, forger.policy)


def test_an_older_map_or_epoch_does_not_end_a_newer_list(forger: Forger) -> None:
    who, life, grant = start(forger)
    old = forger.epoch()
    before = forger.bundle(who, old)
    add(forger, who, life.decide("hidden", grant))
    note = forger.epoch()
    now = forger.bundle(who, note)
    for lies in (
        {"absent": before["absent"], "records": now["records"][:-1]},
        {"epoch": before["epoch"]},
        {"epoch": {**now["epoch"], "leaf": before["epoch"]["leaf"]}},
        {**before, "checkpoint": now["checkpoint"]},
        {**before, "checkpoint": now["checkpoint"], "epoch": now["epoch"]},
    ):
        with pytest.raises(LogError):
            verify({**now, **lies}, forger.policy)


@pytest.mark.parametrize("change", ["cut", "cut front", "longer", "zeros", "none", "swapped"])
def test_a_path_of_absence_of_another_length_or_order_is_refused(forger: Forger, change: str) -> None:
    for _ in range(40):  # enough that no path is short
        who, _, _ = start(forger)
    note = forger.epoch()
    bundle = forger.bundle(who, note)
    path = bundle["absent"]["siblings"]
    assert len(path) > 2
    changed = {
        "cut": path[:-1],
        "cut front": path[1:],
        "longer": [*path, path[-1]],
        "zeros": [*path, ""],
        "none": [],
        "swapped": [path[1], path[0], *path[2:]],
    }[change]
    with pytest.raises(LogError):
        verify({**bundle, "absent": {**bundle["absent"], "siblings": changed}}, forger.policy)


def test_a_shorter_list_under_a_second_key_is_refused_where_the_first_is_known(forger: Forger) -> None:
    """The same likeness, enrolled again under another key: alone it is a whole list, of somebody with no uses."""
    who, life, _ = start(forger)
    seen = forger.shows(who, forger.epoch()).seen
    second = Listed(bytes([9]) * 32, who.cameo)
    forger.tell(second, life.records[:1])
    note = forger.epoch()
    assert forger.shows(second, note).seen.count == 1
    refused("list.key", forger.shows, second, note, seen)
    # And it can not be slipped under the enrolment that is known.
    bundle = forger.bundle(who, note)
    other = forger.bundle(second, note)
    for part in ("list_key", "records"):
        with pytest.raises(LogError):
            verify({**bundle, part: other[part]}, forger.policy)
    second.records = [who.records[0]]
    with pytest.raises(LogError):
        forger.shows(second, note)


def test_a_list_numbered_with_another_key_than_its_enrolment_names_is_refused(forger: Forger) -> None:
    life = Life().enrol()
    who = Listed.of(life)
    forger.say(share(who, {**life.records[0][1], "list_key": sha256(b"another").hexdigest()}))
    refused("list.key", forger.shows, who, forger.epoch())


def test_somebody_elses_list_is_not_mine(forger: Forger) -> None:
    mine, _, _ = start(forger)
    theirs, _, _ = start(forger, uses=0)
    note = forger.epoch()
    seen = forger.shows(mine, note).seen
    refused("list.other", forger.shows, theirs, note, seen)
    refused(
        "list.enrolment",
        verify,
        {**forger.bundle(theirs, note), "cameo_id": mine.cameo},
        forger.policy,
    )
    # Even under their own key and with my name in every record, it begins with an enrolment I know.
    app = Listed(bytes([3]) * 32, mine.cameo)
    app.records = []
    refused("list.enrolment", forger.shows, app, note)


def test_fewer_records_than_at_the_last_visit_are_refused(forger: Forger) -> None:
    """The key table, the map and the log all agree: the map was made anew without the last tag."""
    who, _, _ = start(forger)
    seen = forger.shows(who, forger.epoch()).seen
    last = who.records.pop()
    smaller = PrefixMap().insert(
        (tag_of(who.key, n), value_of(one.index, leaf_hash(forger.leaves[one.index])))
        for n, one in enumerate(who.records)
    )
    note = forger.epoch(map=smaller)
    assert forger.shows(who, note).story.allowed == 0, "the list alone can not show it"
    refused("list.shrunk", forger.shows, who, note, seen)
    refused("log.epoch_map", forger.monitor)
    assert last.index < seen.size


def test_a_record_that_appears_in_the_past_was_left_out_before(forger: Forger) -> None:
    who, life, grant = start(forger)
    body = life.decide("hidden", grant).records[-1][1]
    forger.say(share(who, body), tags=[sha256(b"a tag of nobody's").digest()])
    hidden = who.records.pop()
    seen = forger.shows(who, forger.epoch()).seen
    who.records.append(hidden)
    # A later epoch can not even say so of an entry before it: its map just holds it.
    value = value_of(hidden.index, leaf_hash(forger.leaves[hidden.index]))
    note = forger.epoch(map=forger.map.insert([(tag_of(who.key, 3), value)]))
    assert forger.shows(who, note).story.allowed == 2
    refused("list.rewritten", forger.shows, who, note, seen)
    refused("log.epoch_map", forger.monitor)


# --- 5. what an app holds -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Evidence:
    """What an app keeps of one use: its own record, and the opening of the person depicted."""

    index: LeafIndex
    leaf: bytes
    commitments: list[bytes]
    opening: Opening
    body: Body

    def against(self, forger: Forger, verified: Verified, **changes: Any) -> LeafIndex:
        size = verified.seen.size
        path = inclusion_proof(self.index, size, forger.tree.node)
        known = {
            "leaf": self.leaf,
            "commitments": self.commitments,
            "opening": self.opening,
            "body": self.body,
        }
        return find(verified, self.index, path=path, **{**known, **changes})


def used(forger: Forger, who: Listed, life: Life, **say: Any) -> Evidence:
    """Log the newest record, a use of which the app keeps the evidence."""
    body = life.records[-1][1]
    app = Listed(sha256(canonical(body)).digest(), "")
    asked = {name: value for name, value in body.items() if name != "cameo_id"}
    index = forger.say(share(who, body), share(app, asked, role="requester"), **say)
    return Evidence(index, forger.leaves[index], forger.commitments[index], who.records[-1].opening, body)


def test_evidence_of_a_listed_use_is_found_where_it_is(forger: Forger) -> None:
    who, life, grant = start(forger)
    evidence = used(forger, who, life.decide("v", grant))
    verified = forger.shows(who, forger.epoch())
    assert evidence.against(forger, verified) == who.records[-1].index


def test_a_use_without_a_tag_of_the_persons_is_convicted_by_the_app_that_asked_for_it(forger: Forger) -> None:
    """Every rule of the log holds, the list is whole: only somebody who was there can tell."""
    who, life, grant = start(forger)
    strangers = [sha256(b"one").digest(), sha256(b"two").digest()]
    evidence = used(forger, who, life.decide("hidden", grant), tags=strangers)
    who.records.pop()
    verified = forger.shows(who, forger.epoch())
    forger.monitor()
    violation = refused("list.hidden", evidence.against, forger, verified)
    assert isinstance(violation, Violation)
    assert (violation.index, violation.evidence) == (evidence.index, evidence.leaf)


def test_a_use_that_the_list_shows_in_other_words_is_convicted_too(forger: Forger) -> None:
    who, life, grant = start(forger)
    evidence = used(forger, who, life.decide("v", grant), tags=[bytes([1]) * 32, bytes([2]) * 32])
    who.records.pop()
    life.records[-1] = (life.records[-1][0], {**life.records[-1][1], "allowed": False})
    forger.tell(who, life.records[-1:])
    verified = forger.shows(who, forger.epoch())
    refused("list.hidden", evidence.against, forger, verified)


def test_a_leaf_with_two_faces_is_convicted_by_memory_by_an_app_and_by_comparing(forger: Forger) -> None:
    """One entry commits to a refusal and to a use, both as this person's third record: one for each reader."""
    who, life, grant = start(forger, uses=0)
    yes = life.decide("v", grant).records[-1][1]
    no = {**yes, "allowed": False, "grant_ids": []}
    index = forger.say(share(who, yes, n=2), share(who, no, n=2), tags=[tag_of(who.key, 2)])
    faces = [[*who.records[:2], one] for one in who.records[2:]]
    note = forger.epoch()
    shown = []
    for who.records in faces:
        shown.append(forger.shows(who, note))
    assert [verified.story.allowed for verified in shown] == [1, 0]
    assert shown[0].seen.records_sha256 != shown[1].seen.records_sha256
    refused("list.rewritten", forger.shows, who, note, shown[0].seen)
    evidence = Evidence(index, forger.leaves[index], forger.commitments[index], faces[0][2].opening, yes)
    refused("list.hidden", evidence.against, forger, shown[1])


def test_no_app_can_accuse_with_what_the_log_does_not_say(forger: Forger) -> None:
    who, life, grant = start(forger)
    other, other_life, other_grant = start(forger)
    mine = used(forger, who, life.decide("v", grant))
    theirs = used(forger, other, other_life.decide("v", other_grant))
    verified = forger.shows(who, forger.epoch())
    # Somebody else's use; my number and place, in words that were never signed; the app's own number.
    refused("list.other", theirs.against, forger, verified)
    forged = {**theirs.body, "cameo_id": who.cameo}
    refused("log.opening", theirs.against, forger, verified, body=forged)
    refused("log.opening", mine.against, forger, verified, body={**mine.body, "video_id": "w"})
    refused("log.opening", mine.against, forger, verified, opening=replace(mine.opening, n=9))
    refused("list.other", mine.against, forger, verified, opening=replace(mine.opening, label="requester"))
    refused("list.form", mine.against, forger, verified, body={**mine.body, "x": 0.5})
    # A leaf of its own making.
    made = make_leaf([commit(mine.opening)], ORIGIN, Ed25519PrivateKey.generate())
    refused("log.inclusion", mine.against, forger, verified, leaf=made, commitments=[commit(mine.opening)])
    # Of a log that went on since, a longer list must be asked for.
    later = used(forger, who, life.release("v", grant))
    forger.epoch()
    refused("log.range", later.against, forger, verified)


def test_what_the_product_gives_an_app_is_such_evidence(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    app, someone = world.app(), world.enrol()
    grant = world.grant(someone, app)
    world.release(world.allow(app, someone).permit)
    ledger = world.ledger
    with ledger.reading() as tx:
        bundle = prove(tx, ledger.replica, someone.person_id, someone.cameo_id, ledger.checkpoint())
        kept = [one for one in tx.entries(app) if one.others]
        statements = tx.statements(one.index for one in kept)
    verified = verify(bundle, Policy.alone(ledger.verifier))
    assert [one.kind for one in kept] == ["decision", "release"]
    for one in kept:
        ((cameo, opening),) = one.others.items()
        # Of what they were told, only the likeness is not the app's own record already.
        shared = {name: value for name, value in one.body.items() if name not in {"facts", "named"}}
        body = {**shared, "cameo_id": cameo, "grant_ids": [grant]}
        leaf, commitments = statements[one.index]
        path = inclusion_proof(one.index, verified.seen.size, ledger.replica.tree.node)
        assert find(verified, one.index, leaf, path, commitments, opening, body) == one.index
        short = replace(
            verified, seen=replace(verified.seen, count=opening.n), records=verified.records[: opening.n]
        )
        refused("list.hidden", find, short, one.index, leaf, path, commitments, opening, body)
    ledger.close()


# --- 6. the story -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LIES)
def test_a_lie_that_is_logged_and_signed_to_the_last_byte_is_still_a_lie(forger: Forger, name: str) -> None:
    life, rule = told(name)
    who = Listed.of(life)
    note = forger.tell(who, life.records).epoch(START + timedelta(days=365))
    forger.monitor()
    violation = refused(rule, forger.shows, who, note)
    assert isinstance(violation, Violation)
    assert violation.index == who.records[-1].index


# --- 8. receipts --------------------------------------------------------------------------------------------


def test_a_receipts_place_and_size_are_no_order(forger: Forger) -> None:
    """Two receipts for one leaf say that it stood early and late; both verify, and so neither says it."""
    for number in range(3):
        forger.say(share(Listed(bytes([number]) * 32, ""), {"n": number}))
    leaf, tree = forger.leaves[4], forger.tree
    true = make_receipt(forger.receipt, ORIGIN, 4, 5, inclusion_proof(4, 5, tree.node), tree.root(5))
    false = make_receipt(forger.receipt, ORIGIN, 1, 2, inclusion_proof(4, 5, tree.node), tree.root(5))
    keys = [forger.receipt.public_key()]
    assert verify_receipt(true, leaf, keys, ORIGIN) == verify_receipt(false, leaf, keys, ORIGIN)
    assert {name for name in dir(verify_receipt(true, leaf, keys, ORIGIN)) if name[0] != "_"} == {"root"}


# --- 10. keys -----------------------------------------------------------------------------------------------


def rotate(forger: Forger, role: str) -> Ed25519PrivateKey:
    """Returns the key that was in force."""
    old: Ed25519PrivateKey = getattr(forger, role)
    new = Ed25519PrivateKey.generate()
    forger.announce(role, new, old)
    setattr(forger, role, new)
    return old


def test_a_leaf_by_the_retired_service_key_counts_for_nothing(forger: Forger) -> None:
    who, life, grant = start(forger)
    forger.epoch()
    stolen = rotate(forger, "service")
    newest, forger.service = forger.service, stolen
    add(forger, who, life.revoke(grant))
    forger.service = newest
    note = forger.epoch()
    refused("log.leaf", forger.shows, who, note)
    refused("log.retired_key", forger.monitor)


def test_an_epoch_by_the_retired_service_key_counts_for_nothing(forger: Forger) -> None:
    who, _, _ = start(forger)
    forger.service = rotate(forger, "service")
    refused("log.leaf", forger.shows, who, forger.epoch())
    refused("log.leaf", forger.monitor)


def test_the_retired_log_key_signs_no_checkpoint_alone(forger: Forger) -> None:
    who, _, _ = start(forger)
    knows_the_old = forger.policy
    seen = forger.shows(who, forger.epoch()).seen
    stolen = rotate(forger, "log")
    forger.epoch()
    size = len(forger.leaves)
    both = forger.note(size, forger.log, stolen)
    for policy in (knows_the_old, forger.policy):
        assert verify(forger.bundle(who, both, seen.size), policy, seen).extends == seen.size
    alone = forger.bundle(who, forger.note(size, stolen), seen.size)
    refused("log.note", verify, alone, knows_the_old, seen)
    refused("log.note", verify, alone, forger.policy, seen)


def test_a_thief_of_the_retired_log_key_who_undoes_the_rotation_is_refused_by_memory(forger: Forger) -> None:
    """A first visitor who knows only the old key can not tell; that is what witnesses are for."""
    who, _, _ = start(forger)
    forger.epoch()
    thief, mark = forger.fork(), copy.deepcopy(who)
    rotate(forger, "log")
    seen = verify(forger.bundle(who, forger.epoch()), forger.policy).seen
    for number in range(5):
        thief.say(share(Listed(bytes([number]) * 32, ""), {"n": number}))
    note = thief.epoch()
    assert thief.shows(mark, note).seen.size > seen.size
    refused("list.forked", thief.shows, mark, note, seen)


def test_a_log_that_names_no_key_for_its_checkpoints_or_ends_with_another_statement_is_refused(
    forger: Forger,
) -> None:
    who, _, _ = start(forger)
    note = forger.epoch()
    refused("list.origin", verify, {**forger.bundle(who, note), "origin": "other.example/log"}, forger.policy)
    rotate(forger, "service")
    refused("list.epoch", forger.shows, who, forger.note())
    nameless = KeyTable(tuple(row for row in forger.table.rows if row[0] != "log"))
    refused("list.keys", forger.shows, who, forger.epoch(table=nameless))


@pytest.mark.parametrize("change", ["extra", "missing", "other", "moved", "reordered", "empty"])
def test_a_table_of_keys_that_the_epoch_does_not_name_is_refused(forger: Forger, change: str) -> None:
    who, _, _ = start(forger)
    rotate(forger, "service")
    bundle = forger.bundle(who, forger.epoch())
    rows = bundle["keys"]
    mine = {"role": "service", "public": rows[1]["public"], "since": 0}
    changed = {
        "extra": [*rows, {**mine, "since": 2**40}],
        "missing": rows[:-2] + rows[-1:],
        "other": [mine, *rows[1:]],
        "moved": [{**rows[0], "since": 1}, *rows[1:]],
        "reordered": rows[::-1],
        "empty": [],
    }[change]
    with pytest.raises(LogError):
        verify({**bundle, "keys": changed}, forger.policy)


def test_a_table_that_the_epoch_names_and_the_log_does_not_is_found_by_whoever_replays_it(
    forger: Forger,
) -> None:
    who, life, grant = start(forger)
    backdoor = Ed25519PrivateKey.generate()
    size = len(forger.leaves)
    table = KeyTable((*forger.table.rows, ("service", public_bytes(backdoor), size)))
    forger.service = backdoor
    add(forger, who, life.decide("v", grant))
    note = forger.epoch(table=table)
    assert forger.shows(who, note).story.allowed == 2, "the list alone can not show it"
    with pytest.raises(Violation):
        forger.monitor()


# --- 11. erasure, with the real thing -----------------------------------------------------------------------


def small_world(home: Path) -> World:
    ledger, keyring = open_ledger(home)
    return World(ledger, keyring, home)


def test_somebodys_erasure_changes_nothing_in_anyone_elses_proof(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    app, gone, stays = world.app(), world.enrol(), world.enrol()
    world.grant(gone, app)
    world.grant(stays, app)
    world.release(world.allow(app, gone, stays).permit)
    ledger, note = world.ledger, world.ledger.checkpoint()

    def mine(note: bytes, since: int = 0) -> dict[str, Any]:
        with ledger.reading() as tx:
            return prove(tx, ledger.replica, stays.person_id, stays.cameo_id, note, since=since)

    before = mine(note)
    seen = verify(before, Policy.alone(ledger.verifier)).seen
    with ledger.reading() as tx:
        held = tx.held(gone.person_id)
        indices = [one.index for one in tx.entries(gone.person_id)]
    leaves = stored_leaves(ledger)
    erase(ledger, gone.person_id, gone.cameo_id, at=world.at)
    assert json.dumps(mine(note)) == json.dumps(before)
    after = mine(ledger.checkpoint(), seen.size)
    assert verify(after, Policy.alone(ledger.verifier), seen).extends == seen.size
    assert [one["body"] for one in after["records"]] == [one["body"] for one in before["records"]]
    # The leaves and tags stay, and nothing here says any more that some of them belong together.
    assert stored_leaves(ledger)[: len(leaves)] == leaves
    with pytest.raises(NotFound), ledger.reading() as tx:
        prove(tx, ledger.replica, gone.person_id, gone.cameo_id, ledger.checkpoint())
    ledger.rotate_wrapping()
    ledger.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert held.key not in kept
    assert held.list_key not in kept
    for n, index in enumerate(indices):
        assert ledger.replica.map.get(tag_of(held.list_key, n)) == value_of(index, leaf_hash(leaves[index]))
    assert ledger.replica.map.get(tag_of(held.list_key, len(indices) + 1)) is None


def test_tags_of_one_person_and_of_many_are_alike(forger: Forger) -> None:
    """Nothing in the public log differs with how many people its entries are about."""
    twin, alone = Forger(), Listed(bytes([1]) * 32, "")
    for number in range(6):
        forger.say(share(alone, {"n": number}))
        twin.say(share(Listed(bytes([number]) * 32, ""), {"n": number}))
    for one in (forger, twin):
        one.epoch()
    assert [len(leaf) for leaf in forger.leaves] == [len(leaf) for leaf in twin.leaves]
    tags = [tag for tag, _ in forger.epochs[len(forger.leaves)].epoch.assignments]  # type: ignore[union-attr]
    assert tags == sorted(tags), "their order is that of random numbers, not of records"


# --- 13. any alteration -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    bundle: dict[str, Any]
    policy: Policy
    seen: Seen


@pytest.fixture(scope="module")
def shown() -> Shown:
    forger, life = Forger(), honest()
    who = Listed.of(life)
    start(forger)
    forger.tell(who, life.records[:4])
    seen = forger.shows(who, forger.epoch(START + timedelta(minutes=1))).seen
    forger.tell(who, life.records[4:])
    note = forger.epoch(life.at)
    bundle = forger.bundle(who, note, seen.size)
    assert verify(bundle, forger.policy, seen).seen.count == len(life.records)
    return Shown(bundle, forger.policy, seen)


@LAW
@given(data=st.data())
def test_one_altered_character_anywhere_is_refused(shown: Shown, data: st.DataObject) -> None:
    bundle = shown.bundle
    path = data.draw(st.sampled_from([p for p in places(bundle) if isinstance(at(bundle, p), str)]))
    text = at(bundle, path)
    where = data.draw(st.integers(0, len(text)))
    same = st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\n —\ud800")
    other = data.draw(st.just("") | same | st.characters())
    altered = put(bundle, path, text[:where] + other + text[where + data.draw(st.integers(0, 1)) :])
    if altered != bundle:
        with pytest.raises(LogError):
            verify(altered, shown.policy, shown.seen)


@LAW
@given(data=st.data(), value=STRANGE)
def test_any_other_value_in_any_place_is_refused(shown: Shown, data: st.DataObject, value: object) -> None:
    altered = put(shown.bundle, data.draw(st.sampled_from(list(places(shown.bundle)))), value)
    if repr(altered) != repr(shown.bundle):
        with pytest.raises(LogError):
            verify(altered, shown.policy, shown.seen)


@LAW
@given(data=st.data(), name=st.text(max_size=4), value=STRANGE)
def test_a_missing_or_additional_part_is_refused(
    shown: Shown, data: st.DataObject, name: str, value: object
) -> None:
    altered = copy.deepcopy(shown.bundle)
    path = data.draw(st.sampled_from(list(places(altered))))
    inner = at(altered, path[:-1])
    if data.draw(st.booleans()):
        del inner[path[-1]]
    elif isinstance(inner, list):
        inner.insert(place := int(path[-1]), inner[place])
    elif name not in inner:
        inner[name] = value
    if altered != shown.bundle:
        with pytest.raises(LogError):
            verify(altered, shown.policy, shown.seen)


@LAW
@given(data=st.data())
def test_parts_do_not_mix(shown: Shown, data: st.DataObject) -> None:
    """One value of the file in the place of another of its kind."""
    bundle = shown.bundle
    one = data.draw(st.sampled_from(list(places(bundle))))
    kin = [
        p
        for p in places(bundle)
        if type(at(bundle, p)) is type(at(bundle, one)) and at(bundle, p) != at(bundle, one)
    ]
    if kin:
        with pytest.raises(LogError):
            verify(put(bundle, one, at(bundle, data.draw(st.sampled_from(kin)))), shown.policy, shown.seen)


def test_base64_has_one_spelling(shown: Shown) -> None:
    """The unused bits of a last character would make a second file of the same list."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    padded = [p for p in places(shown.bundle) if str(at(shown.bundle, p)).endswith("=")]
    assert {p[0] for p in padded} >= {"list_key", "keys", "epoch", "records", "absent", "extends"}
    for path in padded:
        text = at(shown.bundle, path)
        end = len(text.rstrip("=")) - 1
        other = alphabet[alphabet.index(text[end]) ^ 1]
        twin = text[:end] + other + text[end + 1 :]
        assert b64decode(twin) == b64decode(text)
        with pytest.raises(LogError):
            verify(put(shown.bundle, path, twin), shown.policy, shown.seen)


@pytest.mark.parametrize("file", [None, [], "", 7, {}, [["schema", "countersign/list/v1"]], {"schema": None}])
def test_what_is_no_list_is_refused(shown: Shown, file: Any) -> None:
    refused("list.form", verify, file, shown.policy)


def test_a_body_too_deep_or_a_number_too_long_is_refused_like_any_other(shown: Shown) -> None:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    for value in (deep, 10**4000, float("nan"), 2**53):
        refused(
            "list.form",
            verify,
            put(shown.bundle, ("records", 0, "body", "x"), value),
            shown.policy,
        )
    for _ in range(100_000):
        # Taken down by hand: the interpreter would recurse.
        deep = deep["a"]


def test_a_policy_without_logs_believes_nothing(shown: Shown) -> None:
    with pytest.raises(LogError):
        verify(shown.bundle, Policy(()), shown.seen)
    stranger = SignerKey.from_seed(ORIGIN, bytes(32)).verifier
    with pytest.raises(LogError):
        verify(shown.bundle, Policy.alone(stranger))
    with pytest.raises(LogError):
        verify(
            shown.bundle, Policy((ListedLog(replace(shown.policy.logs[0].key, name="other.example/log")),))
        )
