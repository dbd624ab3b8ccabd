"""The rules of the log: each broken once and found where it was broken, and what a transaction adds is what replays."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import LogError, Violation
from ledger.ids import Digest, LeafIndex
from ledger.keys import Rotated, SigningKey
from ledger.log.leaf import make_leaf
from ledger.log.merkle import EMPTY_ROOT
from ledger.log.public import (
    EPOCH_LEAVES,
    EPOCH_TAGS,
    WHOLE,
    Assignment,
    Epoch,
    InForce,
    KeyChange,
    PolicyChange,
    make_public,
    parse_public,
    policies_after,
)
from ledger.log.replica import KEPT, Growth, Replica
from ledger.log.signing import revoked, used
from world import check_rules, naive_map_root, naive_root

LAW = settings(deadline=None, max_examples=60)
ORIGIN = "ledger.example/likeness"
NOON = 1_772_366_400


def ed25519(n: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32)


def p256(n: int) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(n, ec.SECP256R1())


SERVICE, SECOND, STRANGER, LOG, RECEIPT = ed25519(1), ed25519(2), ed25519(3), ed25519(4), p256(5)
OPERATOR = ed25519(6)
AT = datetime.fromtimestamp(NOON, UTC)
SETS = [sha256(b"policy set %d" % n).hexdigest() for n in range(3)]


def tag(n: int) -> bytes:
    return sha256(b"tag %d" % n).digest()


def entry(n: int, key: Ed25519PrivateKey = SERVICE, origin: str = ORIGIN) -> bytes:
    return make_leaf([sha256(b"commitment %d" % n).digest()], origin, key)


def announce(growth: Growth, role: Rotated, new: SigningKey, old: SigningKey | None, time: int = 0) -> None:
    """As the journal does it."""
    change = KeyChange.make(role, ORIGIN, new, old)
    leaf = make_public("keys", change.payload(), ORIGIN, growth.service)
    growth.keys = growth.keys.changed(change, growth.add(leaf, [], time))
    if role == "service" and isinstance(new, Ed25519PrivateKey):
        growth.service = new


def following(before: InForce | None, n: int) -> PolicyChange:
    """One of the changes that may stand here."""
    if before is None:
        return PolicyChange.first(SETS[n % len(SETS)], at=AT)
    if before.incoming is not None and n % 3 == 0:
        return PolicyChange.following(before, before.incoming, share=0, at=AT).sign(ORIGIN, OPERATOR)
    others = [one for one in SETS if one != before.current]
    share = WHOLE if n % 3 == 1 else n + 1
    return PolicyChange.following(before, others[n % 2], share=share, at=AT).sign(ORIGIN, OPERATOR)


def policies(growth: Growth, n: int = 0) -> None:
    """As the journal does it."""
    payload = following(growth.policies, n).payload()
    growth.policies = policies_after(growth.policies, payload, ORIGIN)
    growth.add(make_public("policies", payload, ORIGIN, growth.service), [], NOON)


def signing(growth: Growth) -> None:
    """As the journal does it: one certificate more, and the one before it taken back."""
    rows = growth.signing.rows
    payloads = [used(b"certificate %d" % len(rows), time=NOON)]
    if rows and rows[-1].since is None:
        payloads.append(revoked(rows[-1].sha256, time=NOON, reason="superseded"))
    for payload in payloads:
        growth.signing = growth.signing.after(payload)
        growth.add(make_public("signing", payload, ORIGIN, growth.service), [], NOON)


def a_log() -> list[bytes]:
    """Every kind of leaf; the service's key changes at 10."""
    growth = Growth(Replica(ORIGIN), SERVICE)
    announce(growth, "service", SERVICE, None)
    announce(growth, "log", LOG, None)
    announce(growth, "receipt", RECEIPT, None)
    growth.end_epoch()  # 3
    growth.add(entry(4), [tag(0)], NOON)
    growth.add(entry(5), [tag(1), tag(2)], NOON + 5)
    growth.end_epoch()  # 6
    policies(growth)
    growth.add(entry(8), [tag(3)], NOON)
    growth.end_epoch()  # 9
    announce(growth, "service", SECOND, SERVICE)
    growth.add(entry(11, SECOND), [tag(4)], NOON + 60)
    growth.end_epoch()  # 12
    return growth.leaves


GOOD = a_log()
EPOCHS = [3, 6, 9, 12]


def state(replica: Replica) -> tuple[Any, ...]:
    """Everything that can be seen of a replica."""
    head = replica.head
    seen = (head.size, head.epoch, head.epoch_leaf, head.keys, head.map.root, len(head.map), head.time)
    in_force = replica.policies, head.policies, replica.signing, head.signing
    return replica.size, replica.tree.root(), replica.keys, replica.map.root, *in_force, *seen


def rebuilt(leaves: Sequence[bytes]) -> Replica:
    replica = Replica(ORIGIN)
    replica.extend(leaves)
    return replica


# ── each rule, broken once ────────────────────────────────────────────────────────────────────────────────


def test_the_log_that_is_broken_below_keeps_every_rule() -> None:
    replica = rebuilt(GOOD)
    assert replica.size == len(GOOD) == 13
    assert [row[:1] + row[2:] for row in replica.keys.rows] == [
        ("service", 0),
        ("log", 1),
        ("receipt", 2),
        ("service", 11),
    ]
    check_rules(GOOD, ORIGIN)
    assert replica.tree.root() == naive_root(GOOD)


@dataclass(frozen=True)
class Broken:
    """`GOOD` up to `at`, and there a leaf that breaks a rule."""

    rule: int
    what: str
    at: int
    leaf: bytes
    reason: str


def public(kind: Any, payload: Any, key: Ed25519PrivateKey = SERVICE, origin: str = ORIGIN) -> bytes:
    return make_public(kind, payload, origin, key)


def epoch_at(at: int, key: Ed25519PrivateKey | None = None, **changes: Any) -> bytes:
    """The epoch leaf of `GOOD` at `at` with some fields changed, and signed by the key in force."""
    parsed = parse_public(GOOD[at], ORIGIN)
    assert parsed is not None
    epoch = replace(Epoch.parse(parsed[0].payload), **changes)
    return public("epoch", epoch.payload(), key or (SECOND if at > 10 else SERVICE))


def assigned(*pairs: tuple[int, int]) -> tuple[Assignment, ...]:
    return tuple(sorted(Assignment(tag(n), LeafIndex(at)) for n, at in pairs))


def key_change(role: Rotated, new: SigningKey, old: SigningKey | None, **altered: Any) -> bytes:
    return public("keys", replace(KeyChange.make(role, ORIGIN, new, old), **altered).payload())


def change_at(number: int, **changes: Any) -> bytes:
    """A change of policies that nobody signed."""
    change = replace(PolicyChange.first(SETS[0], at=AT), number=number, **changes)
    return public("policies", change.payload())


ZEROS = Digest(bytes(32))
BROKEN = [
    Broken(1, "nothing", 4, b"", "log.leaf"),
    Broken(1, "noise", 4, b"\xd2\x84 noise", "log.leaf"),
    Broken(1, "an entry and a byte", 4, entry(4) + b"\x00", "log.leaf"),
    Broken(1, "an entry less a byte", 4, entry(4)[:-1], "log.leaf"),
    Broken(1, "an entry of another log", 4, entry(4, origin="other.example"), "log.leaf"),
    Broken(1, "an entry like the one before it, but for its framing", 5, entry(4).replace(b"\xa0\x58\x20", b"\xa0\x58\x21"), "log.leaf"),
    Broken(1, "a statement of another log", 7, public("policies", {}, origin="other.example"), "log.leaf"),
    Broken(1, "a statement and a byte", 7, GOOD[7] + b"\x00", "log.leaf"),
    Broken(1, "an epoch with a field more", 6, public("epoch", {1: 1, 7: 0}), "log.epoch"),
    Broken(1, "a key change that says nothing", 10, public("keys", {}), "log.keys"),
    Broken(2, "an entry by a stranger", 4, entry(4, STRANGER), "log.retired_key"),
    Broken(2, "an entry by a stranger after one by the service", 5, entry(5, STRANGER), "log.retired_key"),
    Broken(2, "an entry by the log's key", 5, entry(5, LOG), "log.retired_key"),
    Broken(2, "an entry by the retired key", 11, entry(11, SERVICE), "log.retired_key"),
    Broken(2, "an entry by the next key, too early", 8, entry(8, SECOND), "log.retired_key"),
    Broken(2, "an entry before any key", 0, entry(0), "log.retired_key"),
    Broken(2, "an epoch by a stranger", 6, epoch_at(6, STRANGER), "log.leaf"),
    Broken(2, "an epoch by the retired key", 12, epoch_at(12, SERVICE), "log.leaf"),
    Broken(2, "an epoch before any key", 0, epoch_at(3), "log.leaf"),
    Broken(2, "policies by a stranger", 7, public("policies", {}, STRANGER), "log.leaf"),
    Broken(2, "a statement whose signature is another's", 7, GOOD[7][:-64] + GOOD[3][-64:], "log.leaf"),
    Broken(2, "a log key before the service's", 0, key_change("log", LOG, None), "log.leaf"),
    Broken(2, "a service key that another one signs", 0, public("keys", KeyChange.make("service", ORIGIN, SERVICE).payload(), STRANGER), "log.leaf"),
    Broken(2, "a key change by the new key", 10, public("keys", KeyChange.make("service", ORIGIN, SECOND, SERVICE).payload(), SECOND), "log.leaf"),
    Broken(3, "a change the old key did not sign", 10, key_change("service", SECOND, SERVICE, old_proof=bytes(64)), "log.keys"),
    Broken(3, "a change the new key did not sign", 10, key_change("service", SECOND, SERVICE, proof=bytes(64)), "log.keys"),
    Broken(3, "a change from a key that is not in force", 10, key_change("service", SECOND, STRANGER), "log.keys"),
    Broken(3, "a first key where there is one", 10, key_change("service", SECOND, None), "log.keys"),
    Broken(3, "a log key from the service's", 10, key_change("log", SECOND, SERVICE), "log.keys"),
    Broken(3, "a key in force brought again", 10, key_change("service", SERVICE, SERVICE), "log.keys"),
    Broken(3, "a key of another role", 10, key_change("service", LOG, SERVICE), "log.keys"),
    Broken(3, "a P-256 key that signs leaves", 10, key_change("service", p256(6), SERVICE), "log.keys"),
    Broken(3, "a key of no role", 10, public("keys", KeyChange.make("service", ORIGIN, SECOND, SERVICE).payload() | {1: "permit"}), "log.keys"),
    Broken(4, "an epoch's number left out", 6, epoch_at(6, number=2), "log.epoch_order"),
    Broken(4, "an epoch's number repeated", 6, epoch_at(6, number=0), "log.epoch_order"),
    Broken(4, "a log that starts at epoch 1", 3, epoch_at(3, number=1), "log.epoch_order"),
    Broken(4, "a leaf that no epoch covers", 9, epoch_at(9, first=8), "log.epoch_order"),
    Broken(4, "a leaf that two epochs cover", 9, epoch_at(9, first=6), "log.epoch_order"),
    Broken(4, "the same epoch again", 7, GOOD[6], "log.epoch_order"),
    Broken(4, "a later epoch too early", 6, GOOD[9], "log.epoch_order"),
    Broken(5, "an entry without a tag", 6, epoch_at(6, assignments=assigned((1, 5))), "log.epoch_coverage"),
    Broken(5, "no tags at all", 6, epoch_at(6, assignments=()), "log.epoch_coverage"),
    Broken(5, "a tag for a statement", 9, epoch_at(9, assignments=assigned((3, 8), (9, 7))), "log.epoch_coverage"),
    Broken(5, "a tag for the epoch itself", 6, epoch_at(6, assignments=assigned((0, 4), (1, 5), (9, 6))), "log.epoch_coverage"),
    Broken(5, "a tag for what is not there yet", 6, epoch_at(6, assignments=assigned((0, 4), (1, 5), (9, 7))), "log.epoch_coverage"),
    Broken(5, "a tag in an epoch without entries", 3, epoch_at(3, assignments=assigned((9, 1))), "log.epoch_coverage"),
    Broken(6, "a tag twice", 6, epoch_at(6, assignments=assigned((0, 4), (0, 5))), "log.epoch_order"),
    Broken(6, "a tag twice, for one entry", 6, epoch_at(6, assignments=assigned((0, 4), (1, 5), (1, 5))), "log.epoch_order"),
    Broken(6, "tags out of order", 6, epoch_at(6, assignments=assigned((0, 4), (1, 5), (2, 5))[::-1]), "log.epoch_order"),
    Broken(6, "a tag of an earlier epoch", 9, epoch_at(9, assignments=assigned((1, 8))), "log.duplicate_tag"),
    Broken(7, "another root", 6, epoch_at(6, map_root=ZEROS), "log.epoch_map"),
    Broken(7, "the root before", 9, epoch_at(9, map_root=Digest(naive_map_root({}))), "log.epoch_map"),
    Broken(7, "a root without the tag", 6, epoch_at(6, assignments=assigned((0, 4), (1, 5))), "log.epoch_map"),
    Broken(7, "a root over another entry", 6, epoch_at(6, assignments=assigned((0, 5), (1, 4), (2, 5))), "log.epoch_map"),
    Broken(7, "the digest of another key table", 6, epoch_at(6, keys_digest=ZEROS), "log.epoch_keys"),
    Broken(7, "the digest of the table before", 12, epoch_at(12, keys_digest=rebuilt(GOOD[:10]).keys.digest()), "log.epoch_keys"),
    Broken(8, "a time before the last", 9, epoch_at(9, time=NOON + 4), "log.epoch_time"),
    Broken(8, "no time", 12, epoch_at(12, time=0), "log.epoch_time"),
    Broken(10, "a certificate taken back that was never announced", 7, public("signing", revoked(bytes(32), time=NOON, reason="superseded")), "log.signing"),
    Broken(10, "a certificate announced in another form", 7, public("signing", {**used(b"der", time=NOON), 4: None}), "log.signing"),
    Broken(9, "a first change that follows another", 7, change_at(1, previous=SETS[1]), "log.policies"),
    Broken(9, "a first change for some apps", 7, change_at(0, share=500), "log.policies"),
    Broken(9, "a first change again", 8, change_at(0), "log.policies"),
    Broken(9, "a change that says nothing", 7, public("policies", {}), "log.policies"),
    Broken(9, "an announcement after a change", 8, public("policies", {1: SETS[1], 2: NOON}), "log.policies"),
    Broken(9, "a change without an operator", 8, change_at(1, policies=SETS[1], previous=SETS[0]), "log.policies"),
]  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: f"{broken.rule} {broken.what}")
def test_a_broken_rule_is_found_at_its_leaf_and_nothing_is_taken_in(broken: Broken) -> None:
    leaves = [*GOOD[: broken.at], broken.leaf, *GOOD[broken.at + 1 :]]
    for start in {0, 4, 7, broken.at} - set(range(broken.at + 1, 20)):
        replica = rebuilt(GOOD[:start])
        before = state(replica)
        with pytest.raises(Violation) as error:
            replica.extend(leaves[start:])
        violation = error.value
        assert (violation.index, violation.evidence, violation.reason.id) == (
            broken.at,
            broken.leaf,
            broken.reason,
        )
        assert state(replica) == before
        # What is right is still taken in.
        replica.extend(GOOD[start:])
        assert state(replica) == state(rebuilt(GOOD))


def test_every_rule_is_broken_above() -> None:
    assert {broken.rule for broken in BROKEN} == set(range(1, 11))


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: f"{broken.rule} {broken.what}")
def test_a_plain_reading_of_the_rules_finds_it_too(broken: Broken) -> None:
    """Else the two would not be the same rules."""
    with pytest.raises(Exception) as error:  # it asserts, unpacks and verifies as it goes
        check_rules([*GOOD[: broken.at], broken.leaf], ORIGIN)
    assert "leaves that no epoch covers" not in str(error.value)


def test_an_altered_signature_of_an_entry_is_found_by_the_epoch_over_it() -> None:
    """Of entries only the key's id is read; but what the map holds is the hash of the whole leaf."""
    altered = GOOD[4][:-1] + bytes([GOOD[4][-1] ^ 1])
    with pytest.raises(Violation) as error:
        rebuilt([*GOOD[:4], altered, *GOOD[5:]])
    assert (error.value.index, error.value.reason.id) == (6, "log.epoch_map")


@LAW
@given(st.integers(0, 12), st.integers(0, 2**20))
def test_no_altered_bit_goes_unnoticed(at: int, bit: int) -> None:
    altered = bytearray(GOOD[at])
    altered[bit // 8 % len(altered)] ^= 1 << bit % 8
    replica = Replica(ORIGIN)
    with pytest.raises(Violation) as error:
        replica.extend([*GOOD[:at], bytes(altered), *GOOD[at + 1 :]])
    assert at <= error.value.index <= next(epoch for epoch in EPOCHS if epoch >= at)
    assert state(replica) == state(Replica(ORIGIN))


@LAW
@given(st.permutations(range(13)))
def test_leaves_in_any_other_order_are_refused(order: list[int]) -> None:
    if order != sorted(order):
        with pytest.raises(Violation):
            rebuilt([GOOD[at] for at in order])


@LAW
@given(st.lists(st.integers(0, 13), max_size=6))
def test_a_replica_is_the_same_in_whatever_steps_it_was_built(cuts: list[int]) -> None:
    replica = Replica(ORIGIN)
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), 13], strict=True):
        replica.extend(GOOD[start:stop])
    assert state(replica) == state(rebuilt(GOOD))


# ── what an epoch vouched for ─────────────────────────────────────────────────────────────────────────────


def test_each_checkpoint_has_its_own_map_and_keys_for_as_long_as_it_is_asked_for() -> None:
    replica = rebuilt(GOOD)
    for epoch in EPOCHS:
        then = rebuilt(GOOD[: epoch + 1]).head
        held = replica.covered(epoch + 1)
        assert (held.size, held.epoch, held.epoch_leaf, held.keys, held.policies) == (
            epoch + 1,
            then.epoch,
            GOOD[epoch],
            then.keys,
            InForce(SETS[0], None, 0) if epoch > 7 else None,
        )
        assert held.map.root == then.map.root
    assert (replica.covered(0).size, replica.covered(0).epoch) == (0, None)
    for size in (1, 5, 6, 8, 12, 14, -1):
        with pytest.raises(LogError):
            replica.covered(size)


def test_a_replica_does_not_hold_the_map_of_every_epoch_it_went_through() -> None:
    replica = rebuilt(GOOD)
    replica.needed = frozenset({replica.size})
    sizes = [replica.size]
    for n in range(3 * KEPT):
        growth = Growth(replica, SECOND)
        growth.add(entry(100 + n, SECOND), [tag(100 + n)], growth.time)
        growth.end_epoch()
        replica.grow(growth)
        sizes.append(replica.size)
    assert len(replica._covered) <= 2 * KEPT + 1
    # What was asked to be kept, and the newest, are at hand; the rest is not.
    for size in (sizes[0], *sizes[-KEPT:]):
        assert replica.covered(size).size == size
    with pytest.raises(LogError):
        replica.covered(sizes[1])


def test_a_replay_of_ones_own_log_ends_where_reading_it_epoch_by_epoch_does() -> None:
    replica = Replica(ORIGIN)
    replica.replay([GOOD[:5], GOOD[5:]], {7, 13})
    assert state(replica) == state(rebuilt(GOOD))
    assert replica.covered(7).map.root == rebuilt(GOOD[:7]).map.root
    # Between its stops it has no state of the map: it says so instead of proving under a stale one.
    for size in (4, 10):
        with pytest.raises(LogError):
            replica.covered(size)
    replica.extend([])
    growth = Growth(replica, SECOND)
    growth.add(entry(99, SECOND), [tag(99)], growth.time)
    growth.end_epoch()
    replica.grow(growth)
    assert state(replica) == state(rebuilt([*GOOD, *growth.leaves]))


@pytest.mark.parametrize("wrong", [6, 12])
def test_a_replay_finds_a_false_map_root_where_it_stops(wrong: int) -> None:
    leaves = [*GOOD[:wrong], epoch_at(wrong, map_root=Digest(b"\x01" * 32)), *GOOD[wrong + 1 :]]
    with pytest.raises(Violation) as found:
        Replica(ORIGIN).replay([leaves], {7, 13})
    assert (found.value.index, found.value.reason.id) == (wrong, "log.epoch_map")


# ── what one transaction adds ─────────────────────────────────────────────────────────────────────────────


def test_a_growth_that_is_dropped_leaves_no_trace() -> None:
    replica = rebuilt(GOOD)
    before = state(replica)
    growth = Growth(replica, SECOND)
    growth.add(entry(13, SECOND), [tag(9)], NOON + 99)
    growth.end_epoch()
    announce(growth, "service", STRANGER, SECOND)
    policies(growth)
    signing(growth)
    growth.end_epoch()
    assert growth.size == 19
    del growth
    assert state(replica) == before
    # … and another one starts where it started.
    again = Growth(replica, SECOND)
    again.add(entry(13, SECOND), [tag(9)], NOON + 99)
    again.end_epoch()
    replica.grow(again)
    assert state(replica) == state(rebuilt([*GOOD, *again.leaves]))


def test_after_a_key_changed_in_a_growth_the_retired_key_counts_for_nothing() -> None:
    """A process that changed the key then reads rows of another one that did not know."""
    replica = rebuilt(GOOD[:10])
    replica.extend([entry(10)])
    replica = rebuilt(GOOD[:10])
    growth = Growth(replica, SERVICE)
    growth.add(entry(10), [tag(8)], NOON + 9)
    announce(growth, "service", SECOND, SERVICE)
    growth.end_epoch()
    replica.grow(growth)
    with pytest.raises(Violation) as error:
        replica.extend([entry(13)])
    assert error.value.reason.id == "log.retired_key"
    replica.extend([entry(13, SECOND)])


@dataclass
class Service:
    """A process on the log. `leaves` is what has been committed, by whomever, and `sizes` where a commit ended."""

    replica: Replica
    leaves: list[bytes]
    sizes: set[int]

    def transaction(
        self, steps: Sequence[tuple[str, int]], service: Ed25519PrivateKey, commit: bool
    ) -> Ed25519PrivateKey:
        """Returns the service key that is in force afterwards."""
        self.replica.extend(self.leaves[self.replica.size :])
        growth = Growth(self.replica, service)
        for what, n in steps:
            index = growth.size
            match what:
                case "entry":
                    tags = [tag(1_000 * index + at) for at in range(n % 3 + 1)]
                    growth.add(entry(index, growth.service), tags, NOON + n)
                case "policies":
                    policies(growth, n)
                case "signing":
                    signing(growth)
                case "service":
                    announce(growth, "service", Ed25519PrivateKey.generate(), growth.service, NOON + n)
                case "fails":
                    seen = ("size", "keys", "policies", "signing", "time", "service", "open")
                    before = [getattr(growth, name) for name in seen]
                    mark, pending = growth.mark(), list(growth.assignments)
                    growth.add(entry(index, growth.service), [tag(n)], NOON + 10**6)
                    announce(growth, "service", Ed25519PrivateKey.generate(), growth.service)
                    policies(growth, n)
                    signing(growth)
                    growth.reset(mark)
                    after = [getattr(growth, name) for name in seen]
                    assert (after, growth.assignments) == (before, pending)
                case "epoch" if growth.open:
                    growth.end_epoch()
        if growth.open:
            growth.end_epoch()
        if not commit:
            return service
        self.leaves += growth.leaves
        self.replica.grow(growth)
        self.sizes.add(len(self.leaves))
        return growth.service


steps = st.lists(
    st.tuples(
        st.sampled_from(["entry", "entry", "policies", "signing", "service", "fails", "epoch"]),
        st.integers(0, 99),
    ),
    max_size=6,
)


@LAW
@given(st.lists(st.tuples(steps, st.integers(0, 1), st.booleans()), max_size=6), st.data())
def test_what_grows_in_two_processes_replays_as_one_log(
    transactions: list[tuple[list[tuple[str, int]], int, bool]], data: st.DataObject
) -> None:
    leaves, sizes, service = list(GOOD[:4]), {4}, SERVICE
    processes = [Service(rebuilt(leaves), leaves, sizes) for _ in range(2)]
    for made, which, commit in transactions:
        service = processes[which].transaction(made, service, commit)
    for process in processes:
        process.transaction([], service, commit=True)
    check_rules(leaves, ORIGIN)
    replayed, at = Replica(ORIGIN), 0
    while at < len(leaves):
        upto = data.draw(st.integers(at + 1, len(leaves)))
        replayed.extend(leaves[at:upto])
        at = upto
    assert state(processes[0].replica) == state(processes[1].replica) == state(replayed)
    # A checkpoint may be asked about for as long as readers hold it, whichever process signed it.
    for size in sizes:
        held = [one.covered(size) for one in (processes[0].replica, processes[1].replica, replayed)]
        assert len({(one.epoch, one.map.root, one.keys, one.policies, one.epoch_leaf) for one in held}) == 1


def test_time_in_a_growth_never_runs_backwards() -> None:
    growth = Growth(rebuilt(GOOD), SECOND)
    for clock, time in ((0, 60), (-5, 60), (61, 61), (3, 61)):
        growth.add(entry(growth.size, SECOND), [tag(growth.size)], NOON + clock)
        _, epoch, _ = growth.end_epoch()
        assert epoch.time == growth.time == NOON + time


def test_an_epoch_is_full_before_one_more_operation_might_not_fit() -> None:
    growth = Growth(rebuilt(GOOD), SECOND)
    half, full = EPOCH_TAGS // 2, []
    growth.add(entry(13, SECOND), [tag(n) for n in range(100, 100 + half)], NOON)
    full.append(growth.full)
    growth.check_room(half)
    with pytest.raises(LogError):
        growth.check_room(half + 1)
    growth.add(entry(14, SECOND), [tag(99)], NOON)
    full.append(growth.full)
    _, epoch, leaf = growth.end_epoch()
    full.append(growth.full)
    assert (full, len(epoch.assignments), growth.open) == ([False, True, False], half + 1, False)
    assert len(leaf) < 65_535
    for n in range(EPOCH_TAGS + 1):
        growth.assignments.append(Assignment(tag(10_000 + n), LeafIndex(growth.size)))
    with pytest.raises(LogError):
        growth.end_epoch()


def test_an_epoch_is_full_before_an_entrys_place_does_not_fit_two_bytes() -> None:
    growth = Growth(Replica(ORIGIN), SERVICE)
    full = []
    for leaves in (EPOCH_LEAVES // 2, EPOCH_LEAVES // 2 + 1):
        growth.leaves = [b""] * leaves
        full.append(growth.full)
    assert full == [False, True]


def test_an_empty_replica_is_an_empty_log() -> None:
    replica = Replica(ORIGIN)
    replica.extend([])
    assert (replica.size, replica.tree.root(), replica.map.root, replica.head.time) == (
        0,
        EMPTY_ROOT,
        bytes(32),
        0,
    )
    assert not Growth(replica, SERVICE).open
