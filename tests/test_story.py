"""Whole lives at random: people enrol, grant, revoke; apps ask, release, fetch; time passes, the service restarts.

Every answer is compared with a model a few lines long, and after every step an auditor who knows nothing but the
entries replays the log: no use and no release without consent standing at its place in the log.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from ledger.canonical import canonical, sha256
from ledger.errors import InvalidStatement, NotFound
from ledger.ids import AppId, GrantId
from ledger.log import completeness
from ledger.log.completeness import Seen
from ledger.log.leaf import open_leaf, verify_opening
from ledger.log.merkle import leaf_hash
from ledger.log.note import open_checkpoint
from ledger.log.policy import Policy
from ledger.log.public import parse_public
from ledger.store.journal import Opened
from safety.chain import Allowed, Permit
from world import ORIGIN, Someone, World, open_ledger, zulu

pytestmark = pytest.mark.slow

REASON = [{"id": "render.failed", "reason": "the model stopped", "remedy": "try again"}]
WHICH = st.integers(0, 11)
"""Which of those there are by then."""
T = TypeVar("T")


@dataclass
class Held:
    """A grant, as the model sees it."""

    id: GrantId
    owner: Someone
    app: AppId
    starts: datetime
    ends: datetime
    max_uses: int
    effect: str
    revoked: bool = False
    uses: set[str] = field(default_factory=set)

    def live(self, at: datetime) -> bool:
        return not self.revoked and self.starts <= at < self.ends


@dataclass
class Job:
    permit: Permit
    app: AppId
    under: list[Held]
    state: Literal["open", "ended", "released"] = "open"


class Story(RuleBasedStateMachine):
    directory: TemporaryDirectory[str] | None = None

    @initialize()
    def begin(self) -> None:
        """Two apps, two people who agreed to both, and a clip of each under way."""
        self.directory = TemporaryDirectory(prefix="story-")
        home = Path(self.directory.name)
        self.world = World(*open_ledger(home), home)
        self.held: list[Held] = []
        self.jobs: list[Job] = []
        self.leaves: list[object] = []
        self.seen: dict[str, Seen] = {}
        self.turn = 0
        self.minors: list[Someone] = []
        self.apps = [self.world.app("Film Club"), self.world.app("Postcards")]
        self.people = [self.world.enrol() for _ in range(2)]
        for person, effect in enumerate(["stop_new", "withdraw_all"]):
            self.grant(person, app=person, max_uses=2, delay_h=0, hours=30, effect=effect)
            self.ask(self.apps[person], [self.people[person]])

    def teardown(self) -> None:
        if self.directory is None:
            return
        try:
            for someone in self.people:
                self.audit(someone)
        finally:
            self.world.ledger.close()
            self.directory.cleanup()

    # -- what people do ---------------------------------------------------------------------------------

    @rule(minor=st.sampled_from([False, False, True]))
    def enrol(self, minor: bool) -> None:
        someone = self.world.enrol(date(2010, 1, 1) if minor else date(1990, 7, 1))
        self.people.append(someone)
        if minor:
            self.minors.append(someone)

    @rule(
        owner=WHICH,
        app=WHICH,
        max_uses=st.integers(1, 2),
        delay_h=st.sampled_from([0, 0, 0, 5]),
        hours=st.integers(1, 40),
        effect=st.sampled_from(["stop_new", "withdraw_all"]),
    )
    def grant(self, owner: int, app: int, max_uses: int, delay_h: int, hours: int, effect: str) -> None:
        someone, app_id = one(self.people, owner), one(self.apps, app)
        starts = self.world.at + timedelta(hours=delay_h)
        ends = starts + timedelta(hours=hours)
        said: dict[str, Any] = {
            "starts": zulu(starts),
            "expires": zulu(ends),
            "max_uses": max_uses,
            "revocation_effect": effect,
        }
        if someone in self.minors:
            with pytest.raises(InvalidStatement):
                self.world.grant(someone, app_id, **said)
            return
        grant_id = self.world.grant(someone, app_id, **said)
        self.held.append(Held(grant_id, someone, app_id, starts, ends, max_uses, effect))

    @rule(which=WHICH)
    def revoke(self, which: int) -> None:
        held, before = one(self.held, which), self.size()
        self.world.revoke(held.owner, held.id)
        # In the same transaction, what is being made under it ends, and gives its uses back.
        stopped = [job for job in self.jobs if held in job.under and job.state == "open"]
        grown = 0 if held.revoked else 1 + len(stopped)
        assert self.size() == before + grown, "a second revocation changes nothing"
        held.revoked = True
        for job in stopped:
            self.stop(job)
        for job in self.jobs:
            if held in job.under:
                self.publish(job)

    # -- what apps do -----------------------------------------------------------------------------------

    @rule(app=WHICH, shown=st.lists(WHICH, max_size=2))
    def decide(self, app: int, shown: list[int]) -> None:
        self.ask(one(self.apps, app), [one(self.people, which) for which in shown])

    @rule(which=WHICH)
    def use_a_grant(self, which: int) -> None:
        held = one(self.held, which)
        self.ask(held.app, [held.owner])

    @rule(which=WHICH)
    def end_job(self, which: int) -> None:
        job, before = one(self.jobs, which), self.size()
        self.world.ledger.transact(
            lambda tx: tx.end_job(job.permit.video, "render", REASON, at=self.world.at)
        )
        assert self.size() == before + (job.state == "open")
        if job.state == "open":
            self.stop(job)

    def stop(self, job: Job) -> None:
        job.state = "ended"
        for held in job.under:
            held.uses.discard(job.permit.video_id)

    @rule(which=WHICH, after_h=st.sampled_from([0, 0, 0.5, 20]))
    def release(self, which: int, after_h: float) -> None:
        """The model takes its time; then the clip is to go out."""
        self.world.wait(hours=after_h)
        self.publish(one(self.jobs, which))

    # -- what happens -----------------------------------------------------------------------------------

    @rule(hours=st.sampled_from([0.5, 2, 5, 20]))
    def time_passes(self, hours: float) -> None:
        self.world.wait(hours=hours)

    @rule()
    def restart(self) -> None:
        self.world.ledger.close()
        self.world = World(*open_ledger(self.world.home), self.world.home, self.world.at)

    # -- what must hold ---------------------------------------------------------------------------------

    @invariant()
    def the_log_only_grows(self) -> None:
        with self.world.ledger.reading() as tx:
            leaves: list[object] = list(tx.leaves())
        assert leaves[: len(self.leaves)] == self.leaves
        self.leaves = leaves
        signed = open_checkpoint(self.world.ledger.checkpoint(), self.world.ledger.verifier)
        assert signed.checkpoint.size == len(leaves)

    @invariant()
    def someones_entries_hold_out_against_an_auditor(self) -> None:
        """One person's after each step; at the end everyone's, and they hold the whole story."""
        self.turn += 1
        self.audit(one(self.people, self.turn))

    @invariant()
    def someones_list_is_proven_whole_and_to_extend_the_one_before(self) -> None:
        """As its owner checks it, who has the log's key and remembers their last visit."""
        someone, ledger = one(self.people, self.turn), self.world.ledger
        seen = self.seen.get(someone.cameo_id)
        with ledger.reading() as tx:
            bundle = completeness.prove(
                tx,
                ledger.replica,
                someone.person_id,
                someone.cameo_id,
                ledger.checkpoint(),
                since=seen.size if seen else 0,
            )
        whole = completeness.verify(bundle, Policy.alone(ledger.verifier), seen)
        assert whole.extends == (seen.size if seen else None)
        assert list(whole.records) == [
            (entry.index, entry.body) for entry in self.world.entries(someone.person_id)
        ]
        # The story it tells is the model's.
        mine = [job for job in self.jobs if any(held.owner is someone for held in job.under)]
        assert whole.story.allowed == len(mine)
        assert whole.story.released == sum(job.state == "released" for job in mine)
        self.seen[someone.cameo_id] = whole.seen

    @invariant()
    def what_an_app_holds_proves_the_entry_and_who_else_it_is_about(self) -> None:
        ledger, entries = self.world.ledger, self.world.entries(one(self.apps, self.turn))
        if entries:
            entry = one(entries, self.turn)
            with ledger.reading() as tx:
                leaf, commitments = tx.statements([entry.index])[entry.index]
            ledger.proof(entry.index).verify(leaf_hash(leaf), ledger.verifier)
            signed = open_leaf(leaf, ORIGIN, [self.world.keyring.service.public_key()])
            verify_opening(signed, commitments, entry.opening, sha256(canonical(entry.body)))
            for opening in entry.others.values():
                verify_opening(signed, commitments, opening, opening.value)
            assert len(entry.others) == len(commitments) - 1

    # -- how --------------------------------------------------------------------------------------------

    def ask(self, app: AppId, shown: Sequence[Someone]) -> None:
        """Ask, and hold the answer against the model's."""
        shown = list({someone.cameo_id: someone for someone in shown}.values())
        usable = [
            [
                held
                for held in self.held
                if (held.owner, held.app) == (someone, app)
                and held.live(self.world.at)
                and len(held.uses) < held.max_uses
            ]
            for someone in shown
        ]
        before = self.size()
        answer = self.world.gate.decide(self.world.request(app, *shown), at=self.world.at)
        assert self.size() == before + 1, "every answer is an entry"
        assert isinstance(answer, Allowed) == all(usable)
        if isinstance(answer, Allowed):
            named = [use.grant_id for use in answer.permit.uses]
            under = [held for held in self.held if held.id in named]
            assert len(named) == len(under) == len(shown)
            assert all(any(held in under for held in choice) for choice in usable)
            for held in under:
                held.uses.add(answer.permit.video_id)
            self.jobs.append(Job(answer.permit, app, under))

    def publish(self, job: Job) -> None:
        before, agreed = self.size(), all(held.live(self.world.at) for held in job.under)
        try:
            out = self.world.release(job.permit) is None
        except NotFound:
            out = False
        assert out == (agreed and job.state == "open")
        assert self.size() == before + out
        job.state = "released" if out else job.state
        for app in self.apps:
            self.fetch(job, app)

    def fetch(self, job: Job, app: AppId) -> None:
        with self.world.ledger.reading() as tx:
            video = tx.video(job.permit.video_id)
            assert video is not None
            denied = self.world.gate.may_download(tx, video, app, at=self.world.at)
        withdrawn = any(held.revoked and held.effect == "withdraw_all" for held in job.under)
        foreign = bool(job.under) and app != job.app
        assert (denied is None) == (job.state == "released" and not withdrawn and not foreign)

    def audit(self, someone: Someone) -> None:
        known = {held.id: held.uses for held in self.held if held.owner is someone}
        assert audited(self.world.entries(someone.person_id)) == known

    def size(self) -> int:
        """How many entries about somebody there are; what the log says about itself is not counted."""
        with self.world.ledger.reading() as tx:
            return sum(parse_public(leaf, ORIGIN) is None for _, leaf in tx.leaves())


def one(some: Sequence[T], which: int) -> T:
    return some[which % len(some)]


def audited(entries: Iterable[Opened]) -> dict[str, set[str]]:
    """The uses of each grant, from one person's entries in log order, without any code of ours that decides."""
    grants: dict[str, Any] = {}
    uses: dict[str, set[str]] = {}
    revoked: set[str] = set()
    last = -1
    for entry in entries:
        body = entry.body
        assert entry.index > last
        last = entry.index
        match entry.kind:
            case "grant":
                grants[body["grant"]["grant_id"]] = body["grant"]
                uses[body["grant"]["grant_id"]] = set()
            case "revocation":
                revoked.add(body["grant_id"])
            case "decision" | "release" if body.get("allowed", True):
                assert body["grant_ids"]
                for grant_id in body["grant_ids"]:
                    grant = grants[grant_id]
                    assert grant_id not in revoked
                    # Zulu times sort as text.
                    assert grant["starts"] <= body["at"] < grant["expires"]
                    if entry.kind == "decision":
                        uses[grant_id].add(body["video_id"])
                    assert body["video_id"] in uses[grant_id]
                    assert len(uses[grant_id]) <= grant["max_uses"]
            case "returned":
                for grant_id in body["grant_ids"]:
                    uses[grant_id].remove(body["video_id"])
    return uses


def test_no_life_leads_to_a_clip_without_consent() -> None:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    modest = settings(max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=checks)
    run_state_machine_as_test(Story, settings=modest)
