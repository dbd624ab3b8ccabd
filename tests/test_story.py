"""Whole lives at random: people enrol, grant, revoke; apps ask, release, fetch; time passes, the service restarts.

Every answer is compared with a model a few lines long, and after every step an auditor who knows nothing but the
entries replays the log: no use and no release without consent standing at its place in the log.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ledger.errors import InvalidStatement, NotFound
from ledger.ids import AppId, GrantId
from ledger.log.disclosure import disclose, verify_disclosure
from ledger.log.note import open_checkpoint
from ledger.store.transaction import Opened
from safety.chain import Allowed, Permit
from safety.gate import Denied
from world import Someone, World, open_ledger, zulu

REASON = [{"id": "render.failed", "reason": "the model stopped", "remedy": "try again"}]


@dataclass
class Held:
    """A grant, as the model sees it."""

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
    people: Bundle[Someone] = Bundle("people")
    grants: Bundle[GrantId] = Bundle("grants")
    jobs: Bundle[Job] = Bundle("jobs")

    directory: TemporaryDirectory[str] | None = None

    @initialize(target=people)
    def begin(self) -> Someone:
        self.directory = TemporaryDirectory(prefix="story-")
        home = Path(self.directory.name)
        self.world = World(*open_ledger(home), home)
        self.held: dict[GrantId, Held] = {}
        self.everyone: list[Someone] = []
        self.leaves: list[bytes] = []
        self.turn = 0
        self.apps = [self.world.app("Film Club"), self.world.app("Postcards")]
        return self.enrolled(date(1980, 1, 1))

    def teardown(self) -> None:
        if self.directory is not None:
            self.world.ledger.close()
            self.directory.cleanup()

    # -- what people do ---------------------------------------------------------------------------------

    @rule(target=people)
    def enrol(self) -> Someone:
        return self.enrolled(date(1990, 7, 1))

    @rule()
    def a_minor_cannot_grant(self) -> None:
        minor = self.enrolled(date(2010, 1, 1))
        with pytest.raises(InvalidStatement):
            self.world.grant(minor, self.apps[0])
        assert isinstance(self.ask(self.apps[0], [minor]), Denied)

    @rule(
        target=grants,
        owner=people,
        app=st.integers(0, 1),
        max_uses=st.integers(1, 2),
        delay_h=st.sampled_from([0, 0, 0, 5]),
        hours=st.integers(1, 30),
        effect=st.sampled_from(["stop_new", "withdraw_all"]),
    )
    def grant(
        self, owner: Someone, app: int, max_uses: int, delay_h: int, hours: int, effect: str
    ) -> GrantId:
        starts = self.world.at + timedelta(hours=delay_h)
        held = Held(owner, self.apps[app], starts, starts + timedelta(hours=hours), max_uses, effect)
        grant_id = self.world.grant(
            owner,
            held.app,
            starts=zulu(held.starts),
            expires=zulu(held.ends),
            max_uses=max_uses,
            revocation_effect=effect,
        )
        self.held[grant_id] = held
        return grant_id

    @rule(grant_id=grants)
    def revoke(self, grant_id: GrantId) -> None:
        before = self.size()
        held = self.held[grant_id]
        self.world.revoke(held.owner, grant_id)
        assert self.size() == before + (not held.revoked), "a second revocation changes nothing"
        held.revoked = True

    # -- what apps do -----------------------------------------------------------------------------------

    @rule(target=jobs, app=st.integers(0, 1), shown=st.lists(people, max_size=2, unique=True))
    def decide(self, app: int, shown: list[Someone]) -> Any:
        return self.asked(self.apps[app], shown)

    @rule(target=jobs, grant_id=grants)
    def use_a_grant(self, grant_id: GrantId) -> Any:
        return self.asked(self.held[grant_id].app, [self.held[grant_id].owner])

    @rule(job=jobs)
    def end_job(self, job: Job) -> None:
        before = self.size()
        self.world.ledger.transact(
            lambda tx: tx.end_job(job.permit.video, "render", REASON, at=self.world.at)
        )
        assert self.size() == before + (job.state == "open")
        if job.state == "open":
            job.state = "ended"
            for held in job.under:
                held.uses.discard(job.permit.video_id)

    @rule(job=jobs)
    def release(self, job: Job) -> None:
        before, agreed = self.size(), all(held.live(self.world.at) for held in job.under)
        try:
            out = self.world.release(job.permit) is None
        except NotFound:
            out = False
        assert out == (agreed and job.state == "open")
        assert self.size() == before + out
        job.state = "released" if out else job.state

    @rule(job=jobs, viewer=st.integers(0, 1))
    def download(self, job: Job, viewer: int) -> None:
        app = self.apps[viewer]
        with self.world.ledger.reading() as tx:
            video = tx.video(job.permit.video_id)
            assert video is not None
            denied = self.world.gate.may_download(tx, video, app, at=self.world.at)
        withdrawn = any(held.revoked and held.effect == "withdraw_all" for held in job.under)
        foreign = bool(job.under) and app != job.app
        assert (denied is None) == (job.state == "released" and not withdrawn and not foreign)

    # -- what happens -----------------------------------------------------------------------------------

    @rule(hours=st.sampled_from([0.5, 2, 5, 24]))
    def time_passes(self, hours: float) -> None:
        self.world.wait(hours=hours)

    @precondition(lambda self: self.turn > 5)
    @rule()
    def restart(self) -> None:
        self.world.ledger.close()
        self.world = World(*open_ledger(self.world.home), self.world.home, self.world.at)

    # -- what must hold ---------------------------------------------------------------------------------

    @invariant()
    def the_log_only_grows(self) -> None:
        with self.world.ledger.reading() as tx:
            leaves = list(tx.leaves())
        assert leaves[: len(self.leaves)] == self.leaves
        self.leaves = leaves
        signed = open_checkpoint(self.world.ledger.checkpoint(), self.world.ledger.verifier)
        assert signed.checkpoint.size == len(leaves)

    @invariant()
    def an_auditor_finds_nothing(self) -> None:
        for someone in self.everyone:
            audit(self.world.entries(someone.person_id))

    @invariant()
    def uses_are_those_of_the_model(self) -> None:
        with self.world.ledger.reading() as tx:
            for someone in self.everyone:
                found = {
                    grant_id: set(held.uses)
                    for grant_id, held in tx.standing(someone.person_id).grants.items()
                }
                assert found == {g: h.uses for g, h in self.held.items() if h.owner is someone}

    @invariant()
    def a_disclosed_entry_verifies(self) -> None:
        self.turn += 1
        subjects = [someone.person_id for someone in self.everyone] + self.apps
        entries = self.world.entries(subjects[self.turn % len(subjects)])
        for entry in entries[-1:] + entries[self.turn % (len(entries) or 1) :][:1]:
            item = disclose(entry, self.world.ledger.proof(entry.index))
            keys = [self.world.keyring.service.public_key()]
            assert verify_disclosure(item, self.world.ledger.verifier, keys) == entry.body

    # -- how --------------------------------------------------------------------------------------------

    def enrolled(self, born_on: date) -> Someone:
        someone = self.world.enrol(born_on)
        self.everyone.append(someone)
        return someone

    def ask(self, app: AppId, shown: list[Someone]) -> Allowed | Denied:
        before = self.size()
        answer = self.world.gate.decide(self.world.request(app, *shown), at=self.world.at)
        assert self.size() == before + 1, "every answer is an entry"
        return answer

    def asked(self, app: AppId, shown: list[Someone]) -> Any:
        """Ask, and hold the answer against the model's. A refusal is no job."""
        usable = [
            [
                held
                for held in self.held.values()
                if held.owner is someone
                and held.app == app
                and held.live(self.world.at)
                and len(held.uses) < held.max_uses
            ]
            for someone in shown
        ]
        answer = self.ask(app, shown)
        assert isinstance(answer, Allowed) == all(usable)
        if isinstance(answer, Denied):
            return multiple()
        under = [self.held[use.ids[2]] for use in answer.permit.uses]
        assert len(under) == len(shown)
        for held, one_of in zip(under, usable, strict=True):
            assert held in one_of
            held.uses.add(answer.permit.video_id)
        return Job(answer.permit, app, under)

    def size(self) -> int:
        with self.world.ledger.reading() as tx:
            return tx.size()


def audit(entries: Iterable[Opened]) -> None:
    """One person's entries, in log order, read without any code of ours that decides."""
    grants: dict[str, Any] = {}
    revoked: set[str] = set()
    uses: defaultdict[str, set[str]] = defaultdict(set)
    last = -1
    for entry in entries:
        body = entry.body
        assert entry.index > last
        last = entry.index
        match entry.kind:
            case "grant":
                grants[body["grant"]["grant_id"]] = body["grant"]
            case "revocation":
                revoked.add(body["grant_id"])
            case "decision" | "release" if body.get("allowed", True):
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


@pytest.mark.slow
def test_no_life_leads_to_a_clip_without_consent() -> None:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    modest = settings(max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=checks)
    run_state_machine_as_test(Story, settings=modest)
