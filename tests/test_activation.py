"""Which policy set decides, who may change that, and what a candidate that is only watched may never do."""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import lru_cache, partial
from hashlib import sha256
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from gateway.orders import SIGNATURE_LIFE_S, STANDING_TAG, Done, Waiting, activate, stand
from gateway.service import Service
from ledger.canonical import canonical, challenge
from ledger.consent.statement import encode_key
from ledger.errors import LedgerError, NotFound, Unavailable
from ledger.ids import AppId, new_id
from ledger.log.public import InForce
from ledger.store.transaction import Transaction
from safety.chain import Allowed, Sealer
from safety.errors import Refused
from safety.gate import Denied, Gate
from safety.policy import cedar
from safety.policy.activation import Activated, archive, chosen, seed
from safety.policy.engine import Engine
from world import (
    ORIGIN,
    POLICIES,
    World,
    check_log,
    open_ledger,
    statement,
    stored_leaves,
    verify_ed25519,
)

pytestmark = pytest.mark.slow

ALICE, BOB, EVE = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2, 3))
OPERATORS = {"alice": ALICE, "bob": BOB}
BASE = cedar.read(POLICIES)
COMMERCIAL = "dpv:CommercialPurpose"
Files = Mapping[str, bytes]


def rule(name: str, scope: str, condition: str = "") -> bytes:
    """One forbid, as a file of policies."""
    return f"""
@id("{name}")
@reason("the test says so")
@remedy("change the test")
@source("rule: a test")
@told("anyone")
forbid ({scope}) {condition};
""".encode()


def with_rule(name: str, scope: str, condition: str = "") -> Files:
    return {**BASE, "test.cedar": rule(name, scope, condition)}


GENERATE = 'principal, action == Action::"generate", resource is Job'
COMMERCE = 'when { context.request.purpose == "dpv:CommercialPurpose" }'
NO_COMMERCE = with_rule("test.no_commerce", GENERATE, COMMERCE)
"""Tighter than the base: nothing is made for a commercial purpose."""
NOTHING = with_rule("test.nothing", GENERATE)
"""Tighter still: nothing is made."""


def without(policy_id: str) -> Files:
    """The base without one of its policies."""
    for name, data in BASE.items():
        before, found, rest = data.decode().partition(f'@id("{policy_id}")')
        if found and name.endswith(".cedar") and name != cedar.INVARIANTS:
            return {**BASE, name: (before + rest.partition(";\n")[2]).encode()}
    raise AssertionError(policy_id)


@lru_cache(maxsize=1)
def base() -> Engine:
    return Engine.of(BASE)


def hash_of(files: Files) -> str:
    return cedar.set_hash(files)


@dataclass
class Ruled(World):
    """A world whose gate decides by the sets that its log says are in force; two operators are registered."""

    sets: Activated = field(init=False)
    auditor: Activated = field(default_factory=Activated)
    """The sets as somebody else reads them, who decides nothing here."""

    def __post_init__(self) -> None:
        self.forget()
        for sets in (self.sets, self.auditor):
            sets._engines[hash_of(BASE)] = base()  # reading it takes longer than most tests
        self.ledger.transact(lambda tx: seed(tx, BASE, at=self.at))
        for name, key in OPERATORS.items():
            self.register(name, key)

    def forget(self) -> None:
        """As a process that has just started: no set was read yet."""
        self.sets = Activated()
        self.gate = Gate(self.ledger, self.sets, Sealer(self.keyring.permit))

    def register(self, name: str, key: Ed25519PrivateKey) -> None:
        public = encode_key(key.public_key())
        self.ledger.transact(lambda tx: tx.register_operator(name, public))

    @property
    def service(self) -> Service:
        """What of a service carries out orders."""
        parts = {"ledger": self.ledger, "gate": self.gate, "sets": self.sets, "clock": lambda: self.at}
        return cast("Service", SimpleNamespace(**parts))

    @property
    def in_force(self) -> InForce:
        with self.ledger.reading() as tx:
            found = tx.policies()
        assert found is not None
        return found

    def order(
        self, files: Files, key: Ed25519PrivateKey, *, share: int = 1000, **said: Any
    ) -> Done | Waiting:
        said = {"checked": True, "loosens": False, "compared_with": self.in_force, **said}
        return activate(self.service, files, key, share=share, **said)

    def rule(self, files: Files, *, share: int = 1000) -> Done:
        """Put a set in force that does not loosen."""
        done = self.order(files, ALICE, share=share)
        assert isinstance(done, Done)
        return done

    def suspend(self, app_id: AppId, key: Ed25519PrivateKey, *, suspended: bool = True) -> Done | Waiting:
        return stand(self.service, app_id, key, suspended=suspended, reason="spam")

    def decided_by(self, app_id: AppId) -> str:
        """The set that the next decision for this app is recorded to be made by."""
        self.gate.decide(self.request(app_id), at=self.at)
        found: str = self.entries(app_id, "decision")[-1].body["policy_set"]
        return found

    def answers(self, app_id: AppId, **changes: Any) -> set[str]:
        """The reasons of the next decision; none when it allows."""
        answer = self.gate.decide(self.request(app_id, **changes), at=self.at)
        return {reason.id for reason in answer.reasons} if isinstance(answer, Denied) else set()

    def shadow(self, files: Files | None) -> None:
        def operation(tx: Transaction) -> None:
            tx.set_shadow(archive(tx, files, at=self.at) if files is not None else None)

        self.ledger.transact(operation)

    def counted(self, files: Files) -> dict[tuple[str, str], int]:
        with self.ledger.reading() as tx:
            return {(what, by): count for what, by, count in tx.shadow_counts(hash_of(files))}

    def sql(self, statement: str, **values: Any) -> None:
        """What somebody with a hand in the database does."""
        with self.ledger.database.writing() as session:
            session.execute(text(statement), values)


def opened(home: Path) -> Ruled:
    ledger, keyring = open_ledger(home)
    return Ruled(ledger, keyring, home)


@pytest.fixture
def ruled(tmp_path: Path) -> Iterator[Ruled]:
    world = opened(tmp_path)
    yield world
    check_log(world.ledger)
    world.ledger.close()


def refused(order: Callable[[], Any], reason_id: str) -> None:
    with pytest.raises((LedgerError, Refused)) as error:
        order()
    found: Any = error.value
    assert found.reason.id == reason_id, found.reason


# ── from which place on ───────────────────────────────────────────────────────────────────────────────────


def test_the_first_set_needs_nobody_and_a_second_start_does_not_seed_again(ruled: Ruled) -> None:
    assert ruled.in_force == InForce(hash_of(BASE), None, 0, 1)
    (said,) = changes(ruled)
    assert (said[1], said[5]) == (hash_of(BASE), [])
    again = ruled.ledger.transact(lambda tx: seed(tx, NOTHING, at=ruled.at))
    assert again == ruled.in_force == InForce(hash_of(BASE), None, 0, 1)
    with ruled.ledger.reading() as tx:
        assert tx.policy_sets() == [hash_of(BASE)], "a folder that changes nothing is not kept either"


def test_before_any_set_is_in_force_everything_is_denied(world: World) -> None:
    world.gate = Gate(world.ledger, Activated(), Sealer(world.keyring.permit))
    answer = world.gate.decide(world.request(world.app()), at=world.at)
    assert isinstance(answer, Denied)
    assert [reason.id for reason in answer.reasons] == ["policy.unreadable"]


def test_a_change_counts_from_its_leaf_on_without_a_restart(ruled: Ruled) -> None:
    app = ruled.app()
    assert ruled.answers(app, purpose=COMMERCIAL) == set()
    index = ruled.rule(NO_COMMERCE).index
    assert ruled.answers(app, purpose=COMMERCIAL) == {"test.no_commerce"}
    for entry in ruled.entries(app, "decision"):
        expected = BASE if entry.index < index else NO_COMMERCE
        assert entry.body["policy_set"] == hash_of(expected)
        assert entry.index != index


def test_a_second_process_decides_by_the_new_set_from_the_same_place_on(ruled: Ruled) -> None:
    app = ruled.app()
    other = opened(ruled.home)  # has its own sets, and reads nothing when the first one orders
    assert other.answers(app, purpose=COMMERCIAL) == set()
    ruled.rule(NO_COMMERCE)
    assert other.answers(app, purpose=COMMERCIAL) == {"test.no_commerce"}
    assert other.decided_by(app) == ruled.decided_by(app) == hash_of(NO_COMMERCE)
    other.ledger.close()


def test_a_permit_from_before_a_change_is_released_by_the_new_set(ruled: Ruled) -> None:
    app = ruled.app()
    permit = ruled.allow(app).permit
    ruled.rule(with_rule("test.no_release", 'principal, action == Action::"release", resource is Job'))
    denied = ruled.release(permit)
    assert denied is not None
    assert [reason.id for reason in denied.reasons] == ["test.no_release"]


def test_an_older_set_can_be_brought_back_under_its_hash(ruled: Ruled) -> None:
    for files in (NO_COMMERCE, BASE, NO_COMMERCE):
        ruled.rule(files)
        assert ruled.decided_by(ruled.app()) == hash_of(files)
    assert ruled.in_force.changes == 4


# ── for a share of the apps ───────────────────────────────────────────────────────────────────────────────


def test_a_roll_out_decides_always_for_the_same_apps_and_grows(ruled: Ruled) -> None:
    apps = [ruled.app() for _ in range(12)]
    incoming: list[set[AppId]] = []
    for share in (300, 700):
        ruled.rule(NOTHING, share=share)
        for _ in range(2):
            incoming.append({app for app in apps if ruled.answers(app) == {"test.nothing"}})
            assert {app for app in apps if ruled.decided_by(app) == hash_of(NOTHING)} == incoming[-1]
        ruled.forget()
    assert incoming[0] == incoming[1] < incoming[2] == incoming[3] < set(apps)
    assert incoming[0]
    ruled.rule(NOTHING, share=0)
    assert ruled.in_force == InForce(hash_of(BASE), None, 0, 4)
    assert not any(ruled.answers(app) for app in apps)
    ruled.rule(NOTHING, share=500)
    ruled.rule(NOTHING)
    assert ruled.in_force == InForce(hash_of(NOTHING), None, 0, 6)
    assert all(ruled.answers(app) for app in apps)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 999), st.integers(1, 999), st.binary(min_size=8, max_size=8))
def test_who_is_in_a_roll_out_stays_in_it_while_it_grows(one: int, other: int, seed_: bytes) -> None:
    incoming, app = sha256(seed_).hexdigest(), AppId(f"app_{seed_.hex()}")
    places = [chosen(InForce("ab" * 32, incoming, share), app) == incoming for share in sorted((one, other))]
    assert places[0] <= places[1]
    assert chosen(InForce("ab" * 32, incoming, 999), None) == "ab" * 32


def test_a_share_is_about_that_share_of_the_apps_and_others_than_last_time() -> None:
    apps = [AppId(new_id("app")) for _ in range(4000)]
    picked = [
        {app for app in apps if chosen(InForce("ab" * 32, incoming, 250), app) == incoming}
        for incoming in ("cd" * 32, "ef" * 32)
    ]
    assert all(850 < len(one) < 1150 for one in picked)
    # An app that is among the first once is not among the first every time.
    assert 150 < len(picked[0] & picked[1]) < 350


def test_orders_are_judged_by_the_set_in_force_and_not_by_the_one_on_its_way_in(ruled: Ruled) -> None:
    free = without("operator.reinstate_alone")
    app = ruled.app()
    ruled.suspend(app, ALICE)
    for key in (ALICE, BOB):
        ruled.order(free, key, share=999, loosens=True)
    assert ruled.in_force.incoming == hash_of(free)
    assert isinstance(ruled.suspend(app, ALICE, suspended=False), Waiting)


# ── who has to sign ───────────────────────────────────────────────────────────────────────────────────────


def test_a_set_that_loosens_needs_two_operators_and_one_that_does_not_needs_one(ruled: Ruled) -> None:
    waiting = ruled.order(NOTHING, ALICE, loosens=True)
    assert isinstance(waiting, Waiting)
    assert [reason.id for reason in waiting.reasons] == ["operator.two_people"]
    assert ruled.in_force.current == hash_of(BASE)
    done = ruled.order(NOTHING, BOB, loosens=True)
    assert isinstance(done, Done)
    assert done.operators == ("alice", "bob")
    assert ruled.in_force.current == hash_of(NOTHING)
    alone = ruled.order(BASE, BOB)
    assert isinstance(alone, Done)
    assert alone.operators == ("bob",)


def test_the_same_operator_twice_is_one_operator(ruled: Ruled) -> None:
    for _ in range(3):
        assert isinstance(ruled.order(NOTHING, ALICE, loosens=True), Waiting)
    # Nor under a new key: the one it replaces is nobody's from then on.
    new = Ed25519PrivateKey.generate()
    ruled.register("alice", new)
    assert isinstance(ruled.order(NOTHING, new, loosens=True), Waiting)
    assert ruled.in_force.changes == 1


def test_a_key_that_nobody_registered_orders_nothing_and_seconds_nothing(ruled: Ruled) -> None:
    for said in ({}, {"loosens": True}):
        refused(partial(ruled.order, NOTHING, EVE, **said), "operator.unregistered")
    assert isinstance(ruled.order(NOTHING, ALICE, loosens=True), Waiting)
    refused(partial(ruled.order, NOTHING, EVE, loosens=True), "operator.unregistered")
    done = ruled.order(NOTHING, BOB, loosens=True)
    assert isinstance(done, Done)
    assert done.operators == ("alice", "bob")


def test_a_key_that_was_taken_away_meanwhile_no_longer_seconds(ruled: Ruled) -> None:
    assert isinstance(ruled.order(NOTHING, ALICE, loosens=True), Waiting)
    ruled.register("alice", EVE)
    assert isinstance(ruled.order(NOTHING, BOB, loosens=True), Waiting)
    refused(partial(ruled.order, NOTHING, ALICE, loosens=True), "operator.unregistered")
    done = ruled.order(NOTHING, EVE, loosens=True)
    assert isinstance(done, Done)
    signers = {public for public, _ in changes(ruled)[-1][5]}
    assert signers == {key.public_key().public_bytes_raw() for key in (BOB, EVE)}


def test_a_signature_waits_a_day_and_no_longer(ruled: Ruled) -> None:
    assert isinstance(ruled.order(NOTHING, ALICE, loosens=True), Waiting)
    ruled.wait(seconds=SIGNATURE_LIFE_S)
    assert isinstance(ruled.order(NOTHING, BOB, loosens=True), Waiting)
    ruled.wait(seconds=SIGNATURE_LIFE_S - 1)
    assert isinstance(ruled.order(NOTHING, ALICE, loosens=True), Done)


def test_a_signature_counts_for_one_set_one_share_and_one_place(ruled: Ruled) -> None:
    assert isinstance(ruled.order(NOTHING, ALICE, loosens=True), Waiting)
    assert isinstance(ruled.order(NO_COMMERCE, BOB, loosens=True), Waiting)
    assert isinstance(ruled.order(NOTHING, BOB, share=999, loosens=True), Waiting)
    # The place moves on: what was signed for the earlier one is worth nothing there, nor when the set is back.
    ruled.rule(NO_COMMERCE)
    assert isinstance(ruled.order(NOTHING, BOB, loosens=True), Waiting)
    ruled.rule(BASE)
    assert isinstance(ruled.order(NOTHING, BOB, loosens=True), Waiting)
    assert isinstance(ruled.order(NOTHING, ALICE, loosens=True), Done)


def test_a_signature_for_another_log_does_not_count_here(ruled: Ruled) -> None:
    """Alice runs two services; what she signs for one must not second an order at the other."""
    here = vars(ruled.service)
    ledger = SimpleNamespace(origin="other.example/log", transact=ruled.ledger.transact)
    there = cast("Service", SimpleNamespace(**{**here, "ledger": ledger}))
    order = partial(activate, compared_with=ruled.in_force, checked=True, loosens=True)
    assert isinstance(order(there, NOTHING, ALICE), Waiting)
    assert isinstance(order(ruled.service, NOTHING, BOB), Waiting)


def test_a_row_that_nobody_signed_does_not_second_an_order(ruled: Ruled) -> None:
    """Whoever can write to the database knows every operator's public key."""
    app = ruled.app()
    ruled.suspend(app, ALICE)
    orders: list[Callable[[], Done | Waiting]] = [
        partial(ruled.order, NOTHING, ALICE, loosens=True),
        partial(ruled.suspend, app, ALICE, suspended=False),
    ]
    for order in orders:
        assert isinstance(order(), Waiting)
        ruled.sql("UPDATE order_signature SET public_key = :key", key=BOB.public_key().public_bytes_raw())
        assert isinstance(order(), Waiting)
        ruled.sql("DELETE FROM order_signature")
    assert ruled.in_force.changes == 1


def test_an_unchecked_set_is_refused_whoever_signs(ruled: Ruled) -> None:
    for loosens in (False, True):
        for key in (ALICE, BOB):
            order = partial(ruled.order, NOTHING, key, checked=False, loosens=loosens)
            refused(order, "operator.unchecked")
    assert ruled.in_force.changes == 1
    with ruled.ledger.reading() as tx:
        assert tx.policy_set(hash_of(NOTHING)) is None, "what was refused is not kept"


def test_an_order_is_refused_where_another_set_came_into_force_after_it_was_checked(ruled: Ruled) -> None:
    compared = ruled.in_force
    ruled.rule(NO_COMMERCE)
    refused(partial(ruled.order, NOTHING, ALICE, compared_with=compared), "policy.moved")
    assert ruled.in_force.current == hash_of(NO_COMMERCE)


def test_orders_without_a_meaning_change_nothing(ruled: Ruled) -> None:
    refused(partial(ruled.order, BASE, ALICE), "log.policies")
    refused(partial(ruled.order, NOTHING, ALICE, share=0), "log.policies")
    ruled.rule(NOTHING, share=10)
    refused(partial(ruled.order, NO_COMMERCE, ALICE, share=0), "log.policies")
    assert ruled.in_force == InForce(hash_of(BASE), hash_of(NOTHING), 10, 2)


def test_a_set_that_no_other_could_ever_follow_is_refused(ruled: Ruled) -> None:
    """It only forbids more, so one operator alone could have locked everyone out for ever."""
    for condition in ("", "when { resource.loosens }"):
        last = with_rule(
            "test.last", 'principal, action == Action::"activate_policies", resource is Order', condition
        )
        for share in (1, 1000):
            refused(partial(ruled.order, last, ALICE, share=share), "policy.last")
    assert ruled.in_force.changes == 1


# ── what an outsider sees ─────────────────────────────────────────────────────────────────────────────────


def changes(world: World) -> list[dict[int, Any]]:
    """Every change of policies in the log, from the leaves alone."""
    said = [statement(leaf, ORIGIN) for leaf in stored_leaves(world.ledger)]
    return [payload for kind, _, payload, _, _ in said if kind == "policies"]


def test_an_outsider_reads_from_the_leaf_which_set_and_who_signed(ruled: Ruled) -> None:
    for key in (ALICE, BOB):
        ruled.order(NO_COMMERCE, key, share=250, loosens=True)
    said = changes(ruled)[-1]
    assert (said[1], said[3], said[4], said[6]) == (hash_of(NO_COMMERCE), 250, hash_of(BASE), 1)
    spelt = canonical(
        {"number": 1, "origin": ORIGIN, "policies": said[1], "previous": said[4], "share": said[3]}
    )
    digest = sha256(b"countersign/policies/v1\x00" + spelt).digest()
    signers = [public for public, _ in said[5]]
    assert signers == sorted(key.public_key().public_bytes_raw() for key in (ALICE, BOB))
    for public, signature in said[5]:
        verify_ed25519(public, signature, digest)
    # And the files under that hash are the ones, byte for byte.
    with ruled.ledger.reading() as tx:
        assert tx.policy_set(said[1]) == NO_COMMERCE


# ── an archive that is damaged ────────────────────────────────────────────────────────────────────────────

DAMAGE = {
    "missing": "DELETE FROM policy_set",
    "not JSON": "UPDATE policy_set SET files = CAST('nonsense' AS BLOB)",
    "no set": "UPDATE policy_set SET files = CAST('{}' AS BLOB)",
    "under another name": "UPDATE policy_set SET sha256 = '" + "ab" * 32 + "'",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_archive_denies_everything_and_says_so(
    ruled: Ruled, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    app, ada = ruled.app(), ruled.enrol()
    ruled.grant(ada, app)
    made, done = ruled.allow(app, ada).permit, ruled.allow(app).permit
    assert ruled.release(done) is None
    ruled.forget()
    ruled.sql(DAMAGE[damage])
    everything = {"policy.unreadable"}
    assert ruled.answers(app) == everything
    assert ruled.answers(app, cameo_ids=(ada.cameo_id,)) == everything
    prechecked = ruled.gate.precheck(ruled.request(app), at=ruled.at)
    assert isinstance(prechecked, Denied)
    assert {reason.id for reason in prechecked.reasons} == everything
    with ruled.ledger.reading() as tx:
        video = tx.video(done.video)
        assert video is not None
        download = ruled.gate.may_download(tx, video, app, at=ruled.at)
    for denied in (ruled.release(made), download):
        assert denied is not None
        assert {reason.id for reason in denied.reasons} <= everything | {"release.unrecorded"}
    # Nor can anyone order a way around it.
    refused(partial(ruled.order, NO_COMMERCE, ALICE), "policy.unreadable")
    assert f"policy set {hash_of(BASE)} can not be used" in caplog.text
    # The refusal is recorded, and what is restored beneath a running service is taken up again.
    assert ruled.entries(app, "decision")[-1].body["policy_ids"] == ["policy.unreadable"]
    ruled.ledger.transact(lambda tx: archive(tx, BASE, at=ruled.at))
    assert ruled.answers(app) == set()


def test_a_weaker_set_slipped_into_the_archive_is_not_decided_by(ruled: Ruled) -> None:
    """Valid, and under the right hash as far as the row says."""
    app = ruled.app()
    suspended = ruled.suspend(app, ALICE)
    assert isinstance(suspended, Done)
    weaker = canonical({name: data.decode() for name, data in without("standing.suspended").items()})
    ruled.forget()
    ruled.sql("UPDATE policy_set SET files = :files", files=weaker)
    assert ruled.answers(app) == {"policy.unreadable"}


def test_an_incoming_set_that_is_lost_denies_only_the_apps_it_decides_for(ruled: Ruled) -> None:
    apps = [ruled.app() for _ in range(24)]
    ruled.rule(NO_COMMERCE, share=500)
    ruled.sql("DELETE FROM policy_set WHERE sha256 = :lost", lost=hash_of(NO_COMMERCE))
    ruled.forget()
    answers = {app: ruled.answers(app) for app in apps}
    lost = {app for app in apps if chosen(ruled.in_force, app) == hash_of(NO_COMMERCE)}
    assert {app for app, reasons in answers.items() if reasons == {"policy.unreadable"}} == lost
    assert all(not reasons for app, reasons in answers.items() if app not in lost)
    assert 0 < len(lost) < 24
    ruled.rule(NO_COMMERCE, share=0)
    assert not any(ruled.answers(app) for app in apps)


# ── a crash ───────────────────────────────────────────────────────────────────────────────────────────────

STEPS = ["keep_policy_set", "order_signatures", "forget_order", "activate"]


def crash(monkeypatch: pytest.MonkeyPatch, step: str, *, after: bool) -> None:
    original = getattr(Transaction, step)

    def dying(self: Transaction, *args: Any, **options: Any) -> None:
        if after:
            original(self, *args, **options)
        raise Unavailable("test.crash", "the power is gone")

    monkeypatch.setattr(Transaction, step, dying)


def test_an_order_that_stops_half_way_leaves_nothing_of_it(
    ruled: Ruled, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(ruled.order(NO_COMMERCE, ALICE, loosens=True, share=7), Waiting)
    seen, before = ruled.ledger.checkpoint(), ruled.in_force
    for step, after in product(STEPS, (False, True)):
        with monkeypatch.context() as patch:
            crash(patch, step, after=after)
            refused(partial(ruled.order, NOTHING, BOB), "test.crash")
            refused(partial(ruled.order, NO_COMMERCE, BOB, loosens=True, share=7), "test.crash")
    assert (ruled.in_force, ruled.ledger.checkpoint()) == (before, seen)
    with ruled.ledger.reading() as tx:
        assert tx.policy_set(hash_of(NOTHING)) is None
    assert ruled.decided_by(ruled.app()) == hash_of(BASE)
    # The first signature still waits: the second operator only has to try again.
    assert isinstance(ruled.order(NO_COMMERCE, BOB, loosens=True, share=7), Done)


def test_a_suspension_that_stops_half_way_leaves_nothing_of_it(
    ruled: Ruled, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = ruled.app()
    for step in ("set_suspended", "append", "forget_order"):
        with monkeypatch.context() as patch:
            crash(patch, step, after=True)
            refused(partial(ruled.suspend, app, ALICE), "test.crash")
    assert ruled.entries(app) == []
    assert ruled.answers(app) == set()
    assert isinstance(ruled.suspend(app, ALICE), Done)


def test_what_was_in_force_is_in_force_after_a_restart(ruled: Ruled) -> None:
    app = ruled.app()
    ruled.rule(NO_COMMERCE, share=400)
    before, by = ruled.in_force, ruled.decided_by(app)
    again = opened(ruled.home)
    assert (again.in_force, again.decided_by(app)) == (before, by)
    again.ledger.close()


# ── which apps are let in ─────────────────────────────────────────────────────────────────────────────────


def test_a_suspension_counts_from_the_next_decision_on_and_for_what_is_under_way(ruled: Ruled) -> None:
    app, other, ada = ruled.app(), ruled.app(), ruled.enrol()
    ruled.grant(ada, app)
    made, shown = ruled.allow(app, ada).permit, ruled.allow(app, ada).permit
    assert ruled.release(shown) is None
    done = ruled.suspend(app, ALICE)
    assert isinstance(done, Done)
    assert done.operators == ("alice",)
    assert ruled.answers(app) == {"standing.suspended"}
    with ruled.ledger.reading() as tx:
        video = tx.video(shown.video)
        assert video is not None
        download = ruled.gate.may_download(tx, video, app, at=ruled.at)
    for denied in (ruled.release(made), download):
        assert denied is not None
        assert "standing.suspended" in {reason.id for reason in denied.reasons}
    assert ruled.answers(other) == set()
    # Whose likeness it was learns why, and is not told that somebody else refused.
    ruled.gate.decide(ruled.request(app, ada), at=ruled.at)
    hers = ruled.entries(ada.person_id, "decision")[-1].body
    assert [reason["id"] for reason in hers["reasons"]] == ["standing.suspended"]


def test_letting_an_app_back_in_takes_two_operators_who_say_the_same(ruled: Ruled) -> None:
    app, other = ruled.app(), ruled.app()
    for one in (app, other):
        assert isinstance(ruled.suspend(one, ALICE), Done)
    waiting = ruled.suspend(app, ALICE, suspended=False)
    assert isinstance(waiting, Waiting)
    assert [reason.id for reason in waiting.reasons] == ["operator.reinstate_alone"]
    assert isinstance(ruled.suspend(app, ALICE, suspended=False), Waiting)
    assert isinstance(ruled.suspend(other, BOB, suspended=False), Waiting)
    said = partial(stand, ruled.service, app, BOB, suspended=False)
    assert isinstance(said(reason="another reason"), Waiting)
    refused(partial(ruled.suspend, app, EVE, suspended=False), "operator.unregistered")
    assert ruled.answers(app) == {"standing.suspended"}
    done = ruled.suspend(app, BOB, suspended=False)
    assert isinstance(done, Done)
    assert done.operators == ("alice", "bob")
    assert ruled.answers(app) == set()
    # An old yes does not let it in again after the next suspension.
    assert isinstance(ruled.suspend(app, BOB), Done)
    assert isinstance(ruled.suspend(app, BOB, suspended=False), Waiting)


def test_the_app_holds_the_operators_word_on_its_own_list(ruled: Ruled) -> None:
    app = ruled.app()
    ruled.suspend(app, BOB)
    for key in (ALICE, BOB):
        ruled.suspend(app, key, suspended=False)
    told = [entry.body for entry in ruled.entries(app, "standing")]
    assert [(body["suspended"], body["number"], len(body["operators"])) for body in told] == [
        (True, 0, 1),
        (False, 1, 2),
    ]
    for body in told:
        order = {name: body[name] for name in ("app_id", "suspended", "reason", "number")}
        digest = challenge(STANDING_TAG, canonical({"origin": ORIGIN, **order}))
        for public, signature in body["operators"]:
            verify_ed25519(bytes.fromhex(public), bytes.fromhex(signature), digest)


def test_an_order_about_an_app_that_is_as_it_should_be_is_refused(ruled: Ruled) -> None:
    app = ruled.app()
    refused(partial(ruled.suspend, app, ALICE, suspended=False), "app.unchanged")
    ruled.suspend(app, ALICE)
    refused(partial(ruled.suspend, app, ALICE), "app.unchanged")
    refused(partial(ruled.suspend, AppId("app_none"), ALICE), "app.unknown")
    refused(partial(ruled.suspend, ruled.app(), EVE), "operator.unregistered")
    assert len(ruled.entries(app)) == 1


# ── a candidate that is only watched ──────────────────────────────────────────────────────────────────────


def test_a_shadow_is_counted_exactly_by_outcome_and_policy(ruled: Ruled) -> None:
    app = ruled.app()
    ruled.shadow(NO_COMMERCE)
    expected: Counter[tuple[str, str]] = Counter()
    random.seed(4)
    for _ in range(24):
        purpose = random.choice([COMMERCIAL, "dpv:NonCommercialPurpose"])
        named = random.choice([(), (new_id("cameo"),)])
        ruled.answers(app, purpose=purpose, cameo_ids=named)
        by = ["test.no_commerce"] if purpose == COMMERCIAL else []
        what = "reasons" if by and named else "newly_denied" if by else "same"
        expected.update((what, policy) for policy in ("", *by))
    assert ruled.counted(NO_COMMERCE) == expected
    # The other way round: what the active set forbids, and the candidate does not.
    ruled.rule(NO_COMMERCE)
    ruled.shadow(BASE)
    ruled.answers(app, purpose=COMMERCIAL)
    assert ruled.counted(BASE) == {("newly_allowed", ""): 1, ("newly_allowed", "test.no_commerce"): 1}


def test_a_shadow_changes_no_answer_no_record_and_no_use(ruled: Ruled) -> None:
    app, ada = ruled.app(), ruled.enrol()
    ruled.grant(ada, app, max_uses=2)
    ruled.shadow(NOTHING)
    for _ in range(2):
        ruled.allow(app, ada)
    assert ruled.answers(app, cameo_ids=(ada.cameo_id,)) == {"consent.used_up"}
    assert [one.body["allowed"] for one in ruled.entries(app, "decision")] == [True, True, False]
    assert {one.body["policy_set"] for one in ruled.entries(app, "decision")} == {hash_of(BASE)}
    with ruled.ledger.reading() as tx:
        (held,) = tx.standing(ada.person_id).grants.values()
    assert held.uses_left == 0
    assert ruled.counted(NOTHING)[("newly_denied", "")] == 2


def test_a_broken_candidate_changes_no_decision_and_is_counted_as_such(ruled: Ruled) -> None:
    app = ruled.app()
    ruled.shadow(NOTHING)
    ruled.sql("UPDATE policy_set SET files = CAST('{}' AS BLOB) WHERE shadow")
    assert ruled.answers(app) == set()
    assert ruled.counted(NOTHING) == {("unusable", ""): 1}
    ruled.sql("DELETE FROM policy_set WHERE shadow")
    assert ruled.answers(app) == set()


def test_a_candidate_that_raises_changes_no_decision(ruled: Ruled, monkeypatch: pytest.MonkeyPatch) -> None:
    app = ruled.app()
    ruled.shadow(NO_COMMERCE)
    assert ruled.answers(app) == set()  # both sets are read
    about = cedar.Policies.about

    def raising(self: cedar.Policies, entities: Any) -> Any:
        if cedar.set_hash(self.files) == hash_of(NO_COMMERCE):
            raise GeneratorExit("no Exception, as a panic in Rust is none")
        return about(self, entities)

    monkeypatch.setattr(cedar.Policies, "about", raising)
    assert ruled.answers(app) == set()
    assert ruled.counted(NO_COMMERCE) == {
        ("same", ""): 1,
        ("newly_denied", ""): 1,
        ("newly_denied", "policy.error"): 1,
    }


def test_a_candidate_with_endless_names_changes_no_decision(ruled: Ruled) -> None:
    endless = with_rule("test." + "x" * 5000, GENERATE)
    ruled.shadow(endless)
    assert ruled.answers(ruled.app()) == set()
    assert ruled.counted(endless)[("newly_denied", "")] == 1


def test_counts_survive_a_restart_and_two_processes_add_up(ruled: Ruled) -> None:
    app = ruled.app()
    ruled.shadow(NOTHING)
    ruled.answers(app)
    other = opened(ruled.home)
    for world in (other, ruled, other):
        world.answers(app)
    other.ledger.close()
    assert ruled.counted(NOTHING) == {("newly_denied", ""): 4, ("newly_denied", "test.nothing"): 4}


def test_counting_begins_anew_for_another_candidate_and_goes_on_for_the_same(ruled: Ruled) -> None:
    app = ruled.app()
    for files, expected in ((NOTHING, 1), (NOTHING, 2), (NO_COMMERCE, 1), (NOTHING, 1)):
        ruled.shadow(files)
        ruled.answers(app)
        assert sum(count for (_, by), count in ruled.counted(files).items() if not by) == expected
    ruled.shadow(None)
    ruled.answers(app)
    assert sum(count for (_, by), count in ruled.counted(NOTHING).items() if not by) == 1


def test_the_active_set_in_its_own_shadow_is_not_decided_twice(ruled: Ruled) -> None:
    ruled.shadow(NOTHING)
    ruled.rule(NOTHING)
    assert ruled.answers(ruled.app()) == {"test.nothing"}
    assert ruled.counted(NOTHING) == {}


def test_a_shadow_sees_the_people_as_the_decision_saw_them(ruled: Ruled) -> None:
    """Each decision uses up a grant; the candidate must not count its own answer's use as spent already."""
    app, ada = ruled.app(), ruled.enrol()
    ruled.grant(ada, app, max_uses=1)
    copy = {**BASE, "test.cedar": b"// the same rules\n"}
    ruled.shadow(copy)
    ruled.allow(app, ada)
    ruled.answers(app, cameo_ids=(ada.cameo_id,))
    assert ruled.counted(copy) == {("same", ""): 2}


def test_a_set_is_read_once_and_only_if_it_is_whole(ruled: Ruled) -> None:
    with ruled.ledger.reading() as tx:
        ruled.forget()
        first = ruled.sets.engine(tx)
        assert ruled.sets.engine(tx) is first
        assert isinstance(first, Engine)
        lost = ruled.sets.of(tx, "ab" * 32)
        assert lost.policies is None
        assert lost.policy_set_hash == "ab" * 32
        assert ruled.sets.of(tx, "ab" * 32) is not lost


def test_a_prompt_refused_by_both_sets_for_the_same_is_the_same(ruled: Ruled) -> None:
    ruled.shadow(NO_COMMERCE)
    request = replace(ruled.request(ruled.app()), cameo_ids=(ruled.enrol().cameo_id,))
    assert isinstance(ruled.gate.decide(request, at=ruled.at + timedelta(seconds=1)), Denied)
    assert ruled.counted(NO_COMMERCE) == {("same", ""): 1}


def test_nothing_is_ordered_without_a_key(ruled: Ruled) -> None:
    """The statement is signed by whoever orders, not by whoever is named."""
    app = ruled.app()
    assert isinstance(ruled.gate.decide(ruled.request(app), at=ruled.at), Allowed)
    refused(partial(ruled.suspend, AppId(new_id("app")), ALICE), "app.unknown")
    with pytest.raises(NotFound):
        ruled.suspend(AppId("x" * 9000), ALICE)
