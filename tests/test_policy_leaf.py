"""Which policy set decides: what operators sign, what is in force at each leaf, and every order that does not count."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.canonical import challenge
from ledger.errors import LogError, Violation
from ledger.log.leaf import make_leaf
from ledger.log.public import (
    LAST_SECOND,
    POLICIES_TAG,
    SIGNERS,
    WHOLE,
    InForce,
    KeyChange,
    PolicyChange,
    make_public,
    open_public,
    policies_after,
    public_bytes,
)
from ledger.log.replica import Growth, Replica
from world import check_rules, statement, verify_ed25519

LAW = settings(deadline=None, max_examples=60)
ORIGIN = "ledger.example/likeness"
TIME = 1_772_366_400
AT = datetime.fromtimestamp(TIME, UTC)


def ed25519(n: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32)


SERVICE, ADA, BOB, EVE = ed25519(0x33), ed25519(0x44), ed25519(0x55), ed25519(0x66)
A, B, C = ("ab" * 32, "cd" * 32, "ef" * 32)
BEFORE = InForce(A, None, 0, 7)
CHANGE = PolicyChange.following(BEFORE, B, share=250, at=AT).sign(ORIGIN, ADA).sign(ORIGIN, BOB)

GOLDEN_STATEMENT = (
    b'{"number":7,"origin":"ledger.example/likeness",'
    b'"policies":"' + b"cd" * 32 + b'","previous":"' + b"ab" * 32 + b'","share":250}'
)
GOLDEN_LEAF = (
    "d2845875a4012703782c6170706c69636174696f6e2f766e642e636f756e7465727369676e2e706f6c69636965732e76"
    "312b63626f7204486c8f8607dbe870770fa201776c65646765722e6578616d706c652f6c696b656e65737302781b7572"
    "6e3a636f756e7465727369676e3a706f6c69636965733a7631a059015ea6017840636463646364636463646364636463"
    "646364636463646364636463646364636463646364636463646364636463646364636463646364636463646364636463"
    "64021a69a42a400318fa0478406162616261626162616261626162616261626162616261626162616261626162616261"
    "62616261626162616261626162616261626162616261626162616261620582825820c6822637c7d310ec57627be00ba2"
    "59d253749f4aaf644470cffbe53a35f732425840602bedd63ba94c46f23d8c8c296c6dfa8446a59dcf91bbd5e710b131"
    "f92fd965e804bbd6bd9d633ec9e56318dcee5742989fee0b1ce6138280dad2718729c803825820d759793bbc13a2819a"
    "827c76adb6fba8a49aee007f49f2d0992d99b825ad2c485840c7a3102baedd757af34e672cc9a7ddbf9fb944a5a3fcc6"
    "de0e74a6c84ae7ecc3c03ca57b8ba2fc8fafc4c23fd9bb6c00cea08beb41c0d9b89f58d43ba70bcb06060758407568dc"
    "a42cb8042ff71139ccf6cde1288412270b14a61ba8c047d212378dee898c9c31ef649d9b8caaeac8b25d2426407b6390"
    "34a13173c90c449b842c23f40b"
)


# ── the bytes ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_leaf_is_the_golden_bytes() -> None:
    """Written down once, with fixed keys: who kept such a leaf must be able to read it for ever."""
    assert make_public("policies", CHANGE.payload(), ORIGIN, SERVICE).hex() == GOLDEN_LEAF
    opened = open_public(bytes.fromhex(GOLDEN_LEAF), ORIGIN, [public_bytes(SERVICE)])
    assert PolicyChange.parse(opened.payload, ORIGIN) == CHANGE


def test_what_operators_sign_is_the_bytes_the_module_describes() -> None:
    assert CHANGE.statement(ORIGIN) == GOLDEN_STATEMENT
    digest = sha256(b"countersign/policies/v1\x00" + GOLDEN_STATEMENT).digest()
    assert digest == challenge(POLICIES_TAG, GOLDEN_STATEMENT)
    _, _, said, _, _ = statement(bytes.fromhex(GOLDEN_LEAF), ORIGIN)
    assert [public for public, _ in said[5]] == sorted(public_bytes(key) for key in (ADA, BOB))
    for public, signature in said[5]:
        verify_ed25519(public, signature, digest)


def test_the_first_change_needs_nobody_and_says_so() -> None:
    first = PolicyChange.first(A, at=AT)
    assert first.payload() == {1: A, 2: TIME, 3: 1000, 4: None, 5: [], 6: 0}
    assert PolicyChange.parse(first.payload(), ORIGIN).after(None) == InForce(A, None, 0, 1)


hashes = st.binary(min_size=32, max_size=32).map(bytes.hex)
signers = st.lists(st.sampled_from([ADA, BOB, EVE, SERVICE]), min_size=1, max_size=5)


@st.composite
def changes(draw: st.DrawFn) -> PolicyChange:
    policies, previous = draw(st.tuples(hashes, hashes).filter(lambda two: two[0] != two[1]))
    change = PolicyChange(
        policies,
        draw(st.integers(0, LAST_SECOND)),
        draw(st.integers(0, WHOLE)),
        previous,
        draw(st.integers(1, 2**53 - 1)),
    )
    for key in draw(signers):
        change = change.sign(ORIGIN, key)
    return change


@LAW
@given(changes())
def test_a_change_reads_back_as_it_was_written(change: PolicyChange) -> None:
    leaf = make_public("policies", change.payload(), ORIGIN, SERVICE)
    read = PolicyChange.parse(open_public(leaf, ORIGIN, [public_bytes(SERVICE)]).payload, ORIGIN)
    assert read == change
    assert read.payload() == change.payload()


@LAW
@given(st.permutations([ADA, BOB, EVE]), signers)
def test_it_does_not_matter_in_which_order_or_how_often_operators_sign(
    order: Sequence[Ed25519PrivateKey], again: Sequence[Ed25519PrivateKey]
) -> None:
    bare, signed = replace(CHANGE, signatures=()), replace(CHANGE, signatures=())
    for key in (ADA, BOB, EVE):
        bare = bare.sign(ORIGIN, key)
    for key in [*order, *(key for key in again if key is not SERVICE)]:
        signed = signed.bearing(public_bytes(key), key.sign(challenge(POLICIES_TAG, GOLDEN_STATEMENT)))
    assert signed == bare
    assert PolicyChange.parse(signed.payload(), ORIGIN) == bare


# ── what is refused, whatever is in force ─────────────────────────────────────────────────────────────────


def refused(payload: dict[Any, Any], origin: str = ORIGIN) -> None:
    with pytest.raises(LogError) as error:
        PolicyChange.parse(payload, origin)
    assert error.value.reason.id == "log.policies"


@LAW
@given(changes(), st.data())
def test_an_order_holds_for_what_was_signed_and_nothing_else(
    change: PolicyChange, data: st.DataObject
) -> None:
    other = data.draw(changes())
    for name in ("policies", "share", "previous", "number"):
        if getattr(other, name) != getattr(change, name):
            refused(replace(change, **{name: getattr(other, name)}).payload())
    refused(change.payload(), "other.example/log")
    at = data.draw(st.integers(0, len(change.signatures) - 1))
    bit = data.draw(st.integers(0, 8 * 96 - 1))
    pair = bytearray(b"".join(change.signatures[at]))
    pair[bit // 8] ^= 1 << bit % 8
    altered = list(change.signatures)
    altered[at] = (bytes(pair[:32]), bytes(pair[32:]))
    refused(replace(change, signatures=tuple(altered)).payload())


SIGNED = CHANGE.payload()[5]


@pytest.mark.parametrize(
    "altered",
    [
        {1: B.upper()},
        {1: B[:-1]},
        {1: B + "\n"},
        {1: bytes.fromhex(B)},
        {1: None},
        {1: A},  # nothing would change
        {2: -1},
        {2: LAST_SECOND + 1},
        {2: True},
        {2: 7.0},
        {2: "now"},
        {3: 1001},
        {3: -1},
        {3: True},
        {3: 250.0},
        {3: None},
        {4: A.upper()},
        {4: b"\xab" * 32},
        {4: None},  # as if there had been no set before
        {4: None, 6: 0, 5: []},  # … and the share of a roll-out
        {5: None},
        {5: []},
        {5: {}},
        {5: SIGNED[::-1]},
        {5: [SIGNED[0], SIGNED[0]]},
        {5: [*SIGNED, SIGNED[1]]},
        {5: [SIGNED[0][::-1]]},
        {5: [[*SIGNED[0], b""]]},
        {5: [SIGNED[0][:1]]},
        {5: [tuple(SIGNED[0])]},
        {5: [[SIGNED[0][0], SIGNED[0][1].hex()]]},
        {5: [[SIGNED[0][0], SIGNED[1][1]]]},
        {5: [[SIGNED[0][0] + b"\x00", SIGNED[0][1]]]},
        {5: [[SIGNED[0][0], SIGNED[0][1] + b"\x00"]]},
        {5: [[b"\xff" * 32, SIGNED[0][1]]]},  # no point of the curve
        {5: [None]},
        {5: [7]},
        {6: -1},
        {6: 0},
        {6: 2**53},
        {6: True},
        {6: None},
        {7: 0},
        {"1": B},
    ],
    ids=lambda altered: str(altered)[:60],
)
def test_a_change_of_any_other_form_is_refused(altered: dict[Any, Any]) -> None:
    refused(CHANGE.payload() | altered)


@pytest.mark.parametrize("name", range(1, 7))
def test_a_change_that_lacks_a_field_is_refused(name: int) -> None:
    refused({field: value for field, value in CHANGE.payload().items() if field != name})


def test_more_signatures_than_anyone_would_check_are_refused() -> None:
    change = CHANGE
    for n in range(SIGNERS - 2):
        change = change.sign(ORIGIN, ed25519(n + 0x80))
    PolicyChange.parse(change.payload(), ORIGIN)
    refused(change.sign(ORIGIN, EVE).payload())


@LAW
@given(st.binary(max_size=60))
def test_no_payload_makes_the_reader_fall_over(payload: bytes) -> None:
    try:
        said = cbor2.loads(payload)
    except Exception:  # noqa: BLE001 — whatever it is, it is no payload
        return
    if isinstance(said, dict):
        refused(said)


# ── what is in force ──────────────────────────────────────────────────────────────────────────────────────


def test_a_roll_out_goes_up_and_ends_in_force_or_dropped() -> None:
    state = InForce(A, None, 0, 1)
    for policies, share, expected in (
        (B, 10, InForce(A, B, 10, 2)),
        (B, 999, InForce(A, B, 999, 3)),
        (C, 1, InForce(A, C, 1, 4)),  # another one instead
        (C, 0, InForce(A, None, 0, 5)),
        (B, 500, InForce(A, B, 500, 6)),
        (C, 1000, InForce(C, None, 0, 7)),  # at once, and the other roll-out is over
        (A, 1000, InForce(A, None, 0, 8)),  # back
    ):
        change = PolicyChange.following(state, policies, share=share, at=AT).sign(ORIGIN, ADA)
        state = PolicyChange.parse(change.payload(), ORIGIN).after(state)
        assert state == expected


moves = st.tuples(st.sampled_from([A, B, C]), st.sampled_from([0, 1, 999, 1000]), st.integers(-1, 1))


@LAW
@given(st.lists(moves, max_size=12))
def test_only_what_continues_the_state_changes_it(wanted: Sequence[tuple[str, int, int]]) -> None:
    state: InForce | None = policies_after(None, PolicyChange.first(A, at=AT).payload(), ORIGIN)
    assert state is not None
    used: list[PolicyChange] = []
    for policies, share, skipped in wanted:
        change = PolicyChange.following(state, policies, share=share, at=AT)
        change = replace(change, number=change.number + skipped).sign(ORIGIN, ADA)
        fine = policies != state.current and not skipped and (share > 0 or policies == state.incoming)
        try:
            state = policies_after(state, change.payload(), ORIGIN)
        except LogError:
            assert not fine
        else:
            assert fine
            used.append(change)
        assert state is not None
        # No order that was carried out can be carried out again, wherever the log has got to.
        for old in used:
            with pytest.raises(LogError):
                policies_after(state, old.payload(), ORIGIN)
    assert state.changes == len(used) + 1
    assert (state.incoming is None) == (state.share == 0)


# ── in a log ──────────────────────────────────────────────────────────────────────────────────────────────


def changed(growth: Growth, change: PolicyChange) -> None:
    """As the journal does it."""
    growth.policies = policies_after(growth.policies, change.payload(), ORIGIN)
    growth.add(make_public("policies", change.payload(), ORIGIN, growth.service), [], TIME)


def order(before: InForce | None, policies: str, share: int = WHOLE) -> PolicyChange:
    assert before is not None
    return PolicyChange.following(before, policies, share=share, at=AT).sign(ORIGIN, ADA)


def a_log() -> list[bytes]:
    """A set announced as earlier versions did, then changes: A; B for some, dropped; C for some, and for all."""
    growth = Growth(Replica(ORIGIN), SERVICE)
    key = KeyChange.make("service", ORIGIN, SERVICE)
    growth.keys = growth.keys.changed(
        key, growth.add(make_public("keys", key.payload(), ORIGIN, SERVICE), [], TIME)
    )
    growth.add(make_public("policies", {1: C, 2: TIME}, ORIGIN, SERVICE), [], TIME)
    growth.end_epoch()  # 2
    changed(growth, PolicyChange.first(A, at=AT))  # 3
    entry = make_leaf([sha256(b"commitment").digest()], ORIGIN, SERVICE)
    growth.add(entry, [sha256(b"tag").digest()], TIME)
    changed(growth, order(growth.policies, B, 250))  # 5
    growth.end_epoch()  # 6
    changed(growth, order(growth.policies, B, 0))  # 7
    growth.end_epoch()  # 8
    changed(growth, order(growth.policies, C, 1))  # 9
    changed(growth, order(growth.policies, C))  # 10
    growth.end_epoch()  # 11
    return growth.leaves


GOOD = a_log()
STATES = {
    2: None,
    3: InForce(A, None, 0, 1),
    5: InForce(A, B, 250, 2),
    7: InForce(A, None, 0, 3),
    9: InForce(A, C, 1, 4),
    10: InForce(C, None, 0, 5),
}


def rebuilt(leaves: Sequence[bytes]) -> Replica:
    replica = Replica(ORIGIN)
    replica.extend(leaves)
    return replica


def test_the_log_that_is_broken_below_keeps_every_rule_and_says_what_is_in_force() -> None:
    check_rules(GOOD, ORIGIN)
    for at, in_force in STATES.items():
        assert rebuilt(GOOD[: at + 1]).policies == in_force
    replayed = Replica(ORIGIN)
    replayed.replay([GOOD[:6], GOOD[6:]], {7, 12})
    assert replayed.policies == replayed.head.policies == STATES[10]
    # Who holds an earlier checkpoint is told what was in force under that.
    assert replayed.covered(7).policies == rebuilt(GOOD).covered(7).policies == STATES[5]
    assert Growth(replayed, SERVICE).policies == STATES[10]


def leaf(change: PolicyChange) -> bytes:
    return make_public("policies", change.payload(), ORIGIN, SERVICE)


def bare(before: InForce | None, policies: str, share: int = WHOLE) -> PolicyChange:
    return replace(order(before, policies, share), signatures=())


@dataclass(frozen=True)
class Broken:
    """`GOOD` up to `at`, and there a change that does not count."""

    what: str
    at: int
    leaf: bytes


TWICE = bare(STATES[5], C).sign(ORIGIN, ADA).sign(ORIGIN, BOB)
BROKEN = [
    Broken("no signature", 7, leaf(bare(STATES[5], C))),
    Broken("a roll-out without a signature", 5, leaf(bare(STATES[3], B, 250))),
    Broken("a roll-out dropped without a signature", 7, leaf(bare(STATES[5], B, 0))),
    Broken("a signature of another log", 7, leaf(bare(STATES[5], C).sign("other.example", ADA))),
    Broken("a signature over another share", 7, leaf(replace(order(STATES[5], C, 1), share=WHOLE))),
    Broken("a signature over another set", 7, leaf(replace(order(STATES[5], C), policies=B))),
    Broken("one good signature and a false one", 7, leaf(order(STATES[5], C).bearing(public_bytes(BOB), bytes(64)))),
    Broken("signatures out of order", 7, leaf(replace(TWICE, signatures=TWICE.signatures[::-1]))),
    Broken("a signature twice", 7, leaf(replace(TWICE, signatures=TWICE.signatures[:1] * 2))),
    Broken("a share above the whole", 7, leaf(order(STATES[5], C, 1001))),
    Broken("a share below none", 7, leaf(order(STATES[5], B, -1))),
    Broken("another set in force before", 7, leaf(order(replace(BEFORE, current=C, changes=2), B))),
    Broken("the incoming set as the one before", 7, leaf(order(replace(BEFORE, current=B, changes=2), C))),
    Broken("no set in force before", 7, leaf(PolicyChange.first(B, at=AT))),
    Broken("the set in force put in force", 7, leaf(order(STATES[5], A))),
    Broken("a number that has been", 7, leaf(order(STATES[3], C))),
    Broken("a number left out", 7, leaf(order(STATES[7], C))),
    Broken("the order before again", 7, GOOD[5]),
    Broken("a roll-out that was dropped, by its old order", 9, GOOD[5]),
    Broken("a set dropped that is not the incoming one", 7, leaf(order(STATES[5], C, 0))),
    Broken("a set dropped when there is none incoming", 9, leaf(order(STATES[7], B, 0))),
    Broken("a set dropped after it came in force", 11, leaf(order(STATES[10], B, 0))),
    Broken("a first change for some apps", 3, leaf(replace(PolicyChange.first(A, at=AT), share=999))),
    Broken("a first change that is not the first", 3, leaf(order(InForce(C, None, 0, 1), A))),
    Broken("a set announced after there were changes", 7, make_public("policies", {1: B, 2: TIME}, ORIGIN, SERVICE)),
    Broken("a change and a field more", 7, make_public("policies", order(STATES[5], C).payload() | {7: 0}, ORIGIN, SERVICE)),
]  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.what)
def test_a_change_that_does_not_count_is_found_at_its_leaf_and_nothing_is_taken_in(broken: Broken) -> None:
    leaves = [*GOOD[: broken.at], broken.leaf, *GOOD[broken.at + 1 :]]
    for start in (0, 4, broken.at):
        replica = rebuilt(GOOD[: min(start, broken.at)])
        before = replica.policies
        with pytest.raises(Violation) as error:
            replica.extend(leaves[replica.size :])
        found = error.value
        assert (found.index, found.evidence, found.reason.id) == (broken.at, broken.leaf, "log.policies")
        assert replica.policies == before
        replica.extend(GOOD[replica.size :])
        assert replica.policies == STATES[10]
    with pytest.raises(Violation) as error:
        Replica(ORIGIN).replay([leaves], {12})
    assert (error.value.index, error.value.reason.id) == (broken.at, "log.policies")


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.what)
def test_a_plain_reading_of_the_rules_finds_it_too(broken: Broken) -> None:
    with pytest.raises(Exception) as error:  # it asserts, unpacks and verifies as it goes
        check_rules([*GOOD[: broken.at], broken.leaf], ORIGIN)
    assert "leaves that no epoch covers" not in str(error.value)
