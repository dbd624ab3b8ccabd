"""Deciding again: the same byte for byte, or it is said; and what a candidate would have made of the past."""

import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import cbor2
import pytest
from sqlalchemy import text

from gateway.policy import _rows, _since
from ledger.canonical import canonical
from ledger.consent.registry import erase
from ledger.errors import NotFound
from ledger.ids import AppId, CameoId, GrantId, LeafIndex, VideoId, new_id
from ledger.keys import seal, tag_of, unseal
from ledger.log.public import InForce
from ledger.store.journal import About, Journal
from ledger.store.transaction import Transaction
from safety import gate
from safety.decision import Decision, Part, decide
from safety.gate import Denied
from safety.policy import cedar
from safety.policy.activation import Activated, archive, chosen, difference
from safety.policy.engine import Engine
from safety.policy.facts import LATER
from safety.prompt import screen
from safety.replay import Change, Lost, Redecided, _People, redecide, replay
from test_activation import (
    ALICE,
    BASE,
    BOB,
    COMMERCIAL,
    NO_COMMERCE,
    NOTHING,
    Files,
    Ruled,
    hash_of,
    opened,
    without,
)
from test_engine import before
from world import Someone, zulu

pytestmark = pytest.mark.slow

WIDE: dict[str, Any] = {"purposes": [COMMERCIAL, "dpv:NonCommercialPurpose"], "max_uses": 3}
PROMPTS = [
    "a portrait in golden light",
    "a sexy dance",
    "a bloody battle",
    "a campaign rally for the senator",
]


@pytest.fixture
def ruled(tmp_path: Path) -> Iterator[Ruled]:
    world = opened(tmp_path)
    yield world
    world.ledger.close()


def again(world: Ruled, entry: str) -> Redecided | Lost:
    with world.ledger.reading() as tx:
        return redecide(tx, world.auditor, entry, facts_key=world.keyring.facts_key)


def redone(world: Ruled, entry: str) -> Redecided:
    made = again(world, entry)
    assert isinstance(made, Redecided), made
    return made


def lost(world: Ruled, entry: str) -> str:
    made = again(world, entry)
    assert isinstance(made, Lost), made
    return made.why


def differs(world: Ruled, entry: str) -> str:
    """Where it is not what was recorded; something must be found."""
    found = redone(world, entry).differs
    assert found
    return "; ".join(found)


def replayed(world: Ruled, files: Files, since: int = 0) -> list[Change | Lost]:
    with world.ledger.reading() as tx:
        return list(replay(tx, world.auditor, Engine.of(files), LeafIndex(since)))


class Story:
    """A random story: people grant, take back and are used, refused and erased, while the rules change."""

    def __init__(self, world: Ruled, seed: int) -> None:
        self.world, self.random = world, random.Random(seed)
        self.apps = [world.app(), world.app()]
        self.people = [world.enrol(), world.enrol(), world.enrol(born_on=date(2015, 5, 5))]
        self.grants: list[tuple[Someone, GrantId]] = []
        self.asked: list[VideoId] = []
        self.erased: set[CameoId] = set()
        self.keys = [ALICE, BOB]

    def tell(self, steps: int) -> None:
        # The index decides, never the clock: most of it happens within one second.
        telling = [*[self.ask] * 6, *[self.grant] * 4, self.revoke, self.rule, self.suspend, self.release]
        telling += [self.know]
        for _ in range(steps):
            self.random.choice(telling)()
            if self.random.random() < 0.3:
                self.world.wait(seconds=self.random.choice([0.4, 3, 90_000]))

    def ask(self) -> None:
        pick = self.random
        named = [one.cameo_id for one in pick.sample(self.people, pick.choice([0, 1, 1, 2]))]
        if pick.random() < 0.15:
            named.append(CameoId(new_id("cameo")))
        request = self.world.request(
            pick.choice(self.apps),
            cameo_ids=tuple(named),
            prompt=pick.choice(PROMPTS),
            purpose=pick.choice([COMMERCIAL, "dpv:NonCommercialPurpose"]),
            audience=pick.choice(["requester", "everyone"]),
            person=pick.choice([None, None, *(one.person_id for one in self.people)]),
            countries=pick.choice([("*",), ("DE",), ("DE", "FR")]),
        )
        self.world.gate.decide(request, at=self.world.at)
        self.asked.append(request.video_id)

    def grant(self) -> None:
        pick, one = self.random, self.random.choice(self.people)
        if one is self.people[2]:
            self.grant_for_the_child(one)
            return
        others = [("everyone", "*"), ("group", "mutuals"), ("person", self.people[1].person_id)]
        kind, name = pick.choice([*(("app", app) for app in self.apps), *others])
        given = {
            **WIDE,
            "grantee": {"type": kind, "id": name},
            "audience": pick.choice(["requester", "everyone"]),
            "jurisdictions": pick.choice([["*"], ["*"], ["DE"], ["DE", "FR"]]),
            "preferences": pick.choice([[], [], ["no battles"], ["nothing sexy", "keine Hunde"]]),
        }
        self.grants.append((one, self.world.grant(one, self.apps[0], **given)))

    def grant_for_the_child(self, child: Someone) -> None:
        guardian = self.people[0]
        self.world.guardian(child, guardian, with_adults=self.random.random() < 0.5)
        kept = {**WIDE, "approval": "before_release"}
        grant = self.world.grant(child, self.random.choice(self.apps), cosigned_by=[guardian], **kept)
        self.grants.append((child, grant))

    def know(self) -> None:
        """Let somebody in or out, or block somebody or something, or no longer."""
        pick, one, other = self.random, *self.random.sample(self.people, 2)
        self.world.befriend(one, other, member=pick.random() < 0.6)
        target = pick.choice([*self.apps, other.person_id])
        self.world.block(one, target, blocked=pick.random() < 0.3)

    def revoke(self) -> None:
        if self.grants:
            self.world.revoke(*self.grants.pop(self.random.randrange(len(self.grants))))

    def rule(self) -> None:
        now = self.world.in_force.current
        files = self.random.choice([one for one in (BASE, NO_COMMERCE) if hash_of(one) != now])
        self.world.rule(files, share=self.random.choice([500, 1000, 1000]))

    def suspend(self) -> None:
        app = self.random.choice(self.apps)
        if self.world.answers(app) == {"standing.suspended"}:
            for key in self.keys:
                self.world.suspend(app, key, suspended=False)
        else:
            self.world.suspend(app, ALICE)

    def release(self) -> None:
        app = self.random.choice(self.apps)
        answer = self.world.gate.decide(self.world.request(app, self.people[0]), at=self.world.at)
        if not isinstance(answer, Denied):
            self.world.release(answer.permit)


# ── byte for byte ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", range(2))
def test_every_decision_of_a_random_story_is_the_same_when_it_is_made_again(ruled: Ruled, seed: int) -> None:
    story = Story(ruled, seed)
    story.tell(60)
    outcomes, sets = set(), set()
    for app in story.apps:
        for entry in ruled.entries(app, "decision"):
            made = redone(ruled, str(entry.index))
            assert (made.differs, made.index) == ((), entry.index)
            assert redone(ruled, entry.body["video_id"]).decision == made.decision
            assert made.decision.allowed == entry.body["allowed"]
            outcomes.add(made.decision.allowed)
            sets.add(made.decision.general.policy_set_hash)
    assert outcomes == {True, False}
    assert sets == {hash_of(BASE), hash_of(NO_COMMERCE)}
    # And the active set makes of them what was made, in one go.
    changes = replayed(ruled, BASE)
    assert all(isinstance(one, Change) for one in changes)
    assert [one.index for one in changes] == sorted(one.index for one in changes)


def test_a_decision_is_made_again_with_the_consent_of_its_own_place(ruled: Ruled) -> None:
    """Not of today: it was used up and taken back since, and granted anew."""
    app, ada = ruled.app(), ruled.enrol()
    early = ruled.request(app, ada)
    ruled.gate.decide(early, at=ruled.at)
    grant = ruled.grant(ada, app, max_uses=1)
    made = ruled.allow(app, ada).permit
    late = ruled.request(app, ada)
    ruled.gate.decide(late, at=ruled.at)
    ruled.revoke(ada, grant)
    ruled.grant(ada, app)
    ids = [redone(ruled, one).decision.policy_ids for one in (early.video_id, made.video, late.video_id)]
    assert "consent.no_grant" in ids[0]
    assert ids[1] == ("permit.generate", "permit.use_likeness")
    assert "consent.used_up" in ids[2]


def test_who_enrolled_only_later_was_nobody_then(ruled: Ruled, monkeypatch: pytest.MonkeyPatch) -> None:
    app, cameo = ruled.app(), CameoId(new_id("cameo"))
    request = ruled.request(app, cameo_ids=(cameo,))
    ruled.gate.decide(request, at=ruled.at)
    monkeypatch.setattr("world.CameoId", lambda _: cameo)
    ada = ruled.enrol()
    assert ada.cameo_id == cameo
    ruled.grant(ada, app)
    assert redone(ruled, request.video_id).differs == ()


def test_nobody_is_disturbed_by_a_decision_that_is_made_again(ruled: Ruled) -> None:
    app, ada = ruled.app(), ruled.enrol()
    ruled.grant(ada, app, max_uses=2)
    video = ruled.allow(app, ada).permit.video
    ruled.shadow(NOTHING)
    seen = ruled.ledger.checkpoint()
    for _ in range(3):
        redone(ruled, video)
        replayed(ruled, NOTHING)
    assert ruled.ledger.checkpoint() == seen
    assert ruled.counted(NOTHING) == {}
    assert isinstance(ruled.allow(app, ada).permit.video, str)


NO_DECISIONS = (
    *("0", "7", "999999", "9" * 40, "1" * 5000),  # indices, of something else or of nothing
    *("٣", "²", "-1", "", "video_1", new_id("video"), "\udcff", "x" * 9000),
)


def test_what_is_no_decision_is_not_found(ruled: Ruled) -> None:
    ruled.enrol()
    ruled.app()
    for entry in NO_DECISIONS:
        with pytest.raises(NotFound) as error:
            again(ruled, entry)
        assert error.value.reason.id == "replay.no_decision"
        assert len(str(error.value)) < 90


# ── what was altered ──────────────────────────────────────────────────────────────────────────────────────

ALTERED: dict[str, Mapping[str, Any]] = {
    "allowed": {"allowed": False},
    "policy_ids": {"policy_ids": ["permit.generate"]},
    "reasons": {"reasons": [{"id": "x", "reason": "y", "remedy": "z"}]},
    "grant_ids": {"grant_ids": []},
    "digest": {"facts_digest": "0" * 64},
    "scores": {
        "scores": dict.fromkeys(
            ("sexual", "minors", "violence", "hate", "self_harm", "illicit", "obfuscated"), 1
        )
    },
    "contexts": {"contexts": ["romantic"]},
    "audience": {"audience": "everyone"},
    "screening": {"screening": "another"},
    "prompt": {"prompt": "a portrait in golden lighT"},
    "more": {"more": 1},
}


def lying(monkeypatch: pytest.MonkeyPatch, role: str, changes: Mapping[str, Any]) -> None:
    """A service that records something else than it decided."""
    append = Journal.append

    def altered(self: Journal, kind: str, ref: str, about: list[About], **options: Any) -> LeafIndex:
        def told(one: About) -> About:
            body = {**one.body, **changes}
            return replace(one, body=body) if kind == "decision" and one.role == role else one

        return append(self, kind, ref, [told(one) for one in about], **options)

    monkeypatch.setattr(Transaction, "append", altered)


@pytest.mark.parametrize("role", ["requester", "depicted"])
def test_a_record_that_says_something_else_than_was_decided_is_noticed(
    ruled: Ruled, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    app, ada = ruled.app(), ruled.enrol()
    for what, changes in ALTERED.items():
        ruled.grant(ada, app)
        with monkeypatch.context() as patch:
            lying(patch, role, changes)
            video = ruled.allow(app, ada).permit.video
        assert differs(ruled, video), what


@pytest.mark.parametrize(
    "facts", [{"suspended": True}, {"depicted": 2}, {"unknown_faces": 1}, {"classifiers_ok": False}]
)
def test_facts_that_were_other_ones_are_noticed(
    ruled: Ruled, monkeypatch: pytest.MonkeyPatch, facts: Mapping[str, Any]
) -> None:
    app = ruled.app()
    ruled.allow(app)
    recorded = ruled.entries(app, "decision")[-1].body["facts"]
    lying(monkeypatch, "requester", {"facts": {**recorded, **facts}})
    assert "facts_digest" in differs(ruled, ruled.allow(app).permit.video)


def test_facts_that_are_missing_are_said_and_do_not_stop_a_replay(
    ruled: Ruled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in records from before facts were kept."""
    app = ruled.app()
    with monkeypatch.context() as patch:
        lying(patch, "requester", {"facts": None})
        video = ruled.allow(app).permit.video
    assert "facts" in lost(ruled, video)
    ruled.allow(app)
    kinds = [type(one) for one in replayed(ruled, BASE)]
    assert kinds == [Lost, Change]


def test_somebody_left_off_the_record_is_noticed(ruled: Ruled, monkeypatch: pytest.MonkeyPatch) -> None:
    """The use is hidden from the one it was of."""
    app, ada = ruled.app(), ruled.enrol()
    ruled.grant(ada, app)
    append = Journal.append
    monkeypatch.setattr(
        Transaction,
        "append",
        lambda self, kind, ref, about, **o: append(self, kind, ref, about[:1], **o),
    )
    found = differs(ruled, ruled.allow(app, ada).permit.video)
    assert "`0` people were recorded as depicted, not `1`" in found
    assert f"the entry is not on the list of `{ada.cameo_id}`" in found


def resealed(world: Ruled, subject: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Write a subject's newest record anew, as whoever holds every key could: the leaf in the log stays."""
    with world.ledger.reading() as tx:
        held = tx.held(subject)
    tag = tag_of(held.list_key, held.count - 1)
    context = f"entry/{tag.hex()}"
    with world.ledger.database.writing() as session:
        row = session.execute(text("SELECT sealed FROM record WHERE tag = :tag"), {"tag": tag}).scalar_one()
        opened = cbor2.loads(unseal(held.key, row, context=context))
        body = dict(world.entries(subject)[-1].body)
        change(body)
        opened[4] = canonical(body)
        sealed = seal(held.key, cbor2.dumps(opened), context=context)
        session.execute(
            text("UPDATE record SET sealed = :sealed WHERE tag = :tag"), {"sealed": sealed, "tag": tag}
        )


def test_a_record_written_anew_by_whoever_holds_the_keys_is_noticed(ruled: Ruled) -> None:
    """Everywhere alike, so that deciding again finds no difference: but the leaf was made over other bytes."""
    app, ada = ruled.app(), ruled.enrol()
    ruled.grant(ada, app)
    video = ruled.allow(app, ada).permit.video
    assert redone(ruled, video).differs == ()
    for subject in (app, ada.person_id):
        resealed(ruled, subject, lambda body: body.update(prompt=body["prompt"].capitalize()))
    assert redone(ruled, video).differs == ("what is stored is not what the leaf in the log was made over",)


@pytest.mark.parametrize("whose", ["app", "person"])
def test_a_damaged_row_is_noticed(ruled: Ruled, whose: str) -> None:
    app, ada = ruled.app(), ruled.enrol()
    ruled.grant(ada, app)
    video = ruled.allow(app, ada).permit.video
    with ruled.ledger.reading() as tx:
        held = tx.held(app if whose == "app" else ada.person_id)
    ruled.sql(
        "UPDATE record SET sealed = CAST('x' AS BLOB) WHERE tag = :tag",
        tag=tag_of(held.list_key, held.count - 1),
    )
    if whose == "app":
        assert "not what was recorded" in lost(ruled, video)
    else:
        # Their whole list is unreadable then: nothing is decided about them, now or again.
        with pytest.raises(Exception, match="does not open"):
            again(ruled, video)


# ── which set it was ──────────────────────────────────────────────────────────────────────────────────────


def test_a_set_that_was_not_in_force_is_noticed(ruled: Ruled, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that decides by rules of its own, and keeps them in the archive."""
    app = ruled.app()
    ruled.ledger.transact(lambda tx: archive(tx, NO_COMMERCE, at=ruled.at))
    with monkeypatch.context() as patch:
        patch.setattr(Activated, "engine", lambda *_: Engine.of(NO_COMMERCE))
        video = ruled.allow(app).permit.video
    assert differs(ruled, video) == "the log says that another policy set was in force"
    # In force it came only later.
    ruled.rule(NO_COMMERCE)
    assert "another policy set" in differs(ruled, video)


def test_a_set_that_decided_for_the_wrong_share_of_apps_is_noticed(
    ruled: Ruled, monkeypatch: pytest.MonkeyPatch
) -> None:
    ruled.rule(NO_COMMERCE, share=500)
    apps = [ruled.app() for _ in range(60)]
    incoming = [app for app in apps if chosen(ruled.in_force, app) == hash_of(NO_COMMERCE)]
    apps = incoming[:3] + [app for app in apps if app not in incoming][:3]
    with monkeypatch.context() as patch:
        patch.setattr(Activated, "engine", lambda *_: Engine.of(NO_COMMERCE))
        videos = {app: ruled.allow(app).permit.video for app in apps}
    found = {app for app, video in videos.items() if redone(ruled, video).differs}
    rightly = {app for app in apps if ruled.decided_by(app) == hash_of(NO_COMMERCE)}
    assert found == set(apps) - rightly
    assert found
    assert rightly


@pytest.mark.parametrize(
    "damage", ["DELETE FROM policy_set", "UPDATE policy_set SET files = CAST('{}' AS BLOB)"]
)
def test_a_set_that_is_gone_is_said(ruled: Ruled, damage: str) -> None:
    video = ruled.allow(ruled.app()).permit.video
    ruled.auditor = Activated()
    ruled.sql(damage)
    assert lost(ruled, video) == f"the policy set `{hash_of(BASE)}` is not in the archive"
    assert [type(one) for one in replayed(ruled, NOTHING)] == [Lost]


def test_an_honest_refusal_for_want_of_a_set_is_no_forgery_once_it_is_restored(ruled: Ruled) -> None:
    app = ruled.app()
    ruled.forget()
    ruled.sql("DELETE FROM policy_set")
    request = ruled.request(app)
    assert isinstance(ruled.gate.decide(request, at=ruled.at), Denied)
    ruled.ledger.transact(lambda tx: archive(tx, BASE, at=ruled.at))
    assert "could not be read" in lost(ruled, request.video_id)


# ── somebody who is gone ──────────────────────────────────────────────────────────────────────────────────


def test_a_decision_about_somebody_erased_is_lost_and_said(ruled: Ruled) -> None:
    app, ada, bob = ruled.app(), ruled.enrol(), ruled.enrol()
    ruled.grant(ada, app)
    ruled.grant(bob, app)
    hers, both, his = (ruled.allow(app, *people).permit.video for people in ((ada,), (ada, bob), (bob,)))
    nobodys = ruled.allow(app).permit.video
    erase(ruled.ledger, ada.person_id, ada.cameo_id, at=ruled.at)
    after = ruled.request(app, ada)
    ruled.gate.decide(after, at=ruled.at)
    for video in (hers, both):
        assert lost(ruled, video) == f"the likeness `{ada.cameo_id}` has been erased since"
    for video in (his, nobodys, after.video_id):
        assert redone(ruled, video).differs == ()
    found = replayed(ruled, NOTHING)
    assert [type(one) for one in found] == [Lost, Lost, Change, Change, Change]
    assert [one.index for one in found] == sorted(one.index for one in found)


# ── under a candidate ─────────────────────────────────────────────────────────────────────────────────────


def by_hand(world: Ruled, files: Files) -> list[tuple[LeafIndex, str, tuple[str, ...]]]:
    """What the candidate answers where each decision was made, each list folded anew."""
    found = []
    engine = Engine.of(files)
    with world.ledger.reading() as tx:
        for app in tx.apps():
            for entry in tx.decisions_since(app.id, 0):
                made = redecide(tx, world.auditor, str(entry.index), facts_key=world.keyring.facts_key)
                assert isinstance(made, Redecided)
                people = _People(tx).at(made.decision.asked.named, entry)
                other = decide(engine, made.decision.asked, people, at=made.at)
                found.append((entry.index, *difference(made.decision, other)))
    return sorted(found)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (NOTHING, {"newly_denied", "reasons"}),
        (NO_COMMERCE, {"newly_denied", "reasons", "same"}),
        (without("consent.audience"), {"newly_allowed", "same"}),
        (BASE, {"same"}),
    ],
    ids=["nothing", "no commerce", "any audience", "as it is"],
)
def test_a_replay_says_of_each_decision_what_a_candidate_would_have_made_of_it(
    ruled: Ruled, files: Files, expected: set[str]
) -> None:
    app, ada, bob = ruled.app(), ruled.enrol(), ruled.enrol()
    for person in (ada, bob):
        ruled.grant(person, app, **{**WIDE, "max_uses": 30})
    for people in ((), (ada,), (ada, bob)):
        for purpose in (COMMERCIAL, "dpv:NonCommercialPurpose"):
            for audience in ("requester", "everyone"):
                ruled.answers(
                    app,
                    cameo_ids=tuple(one.cameo_id for one in people),
                    purpose=purpose,
                    audience=audience,
                )
    found = replayed(ruled, files)
    assert [(one.index, one.what, one.policies) for one in found if isinstance(one, Change)] == by_hand(
        ruled, files
    )
    assert {one.what for one in found if isinstance(one, Change)} == expected
    for one in found:
        assert isinstance(one, Change)
        recorded = next(entry for entry in ruled.entries(app, "decision") if entry.index == one.index)
        assert (one.allowed, one.video_id) == (recorded.body["allowed"], recorded.body["video_id"])
        if one.what == "newly_allowed":
            assert (one.allowed, "consent.audience" in one.policies) == (False, True)
        if one.what == "newly_denied":
            assert one.allowed
            assert set(one.policies) & {"test.nothing", "test.no_commerce"}


def test_a_replay_agrees_with_what_the_shadow_counted(ruled: Ruled) -> None:
    ruled.shadow(NOTHING)
    Story(ruled, 11).tell(25)
    counted = {what: count for (what, by), count in ruled.counted(NOTHING).items() if not by}
    found = [one.what for one in replayed(ruled, NOTHING) if isinstance(one, Change)]
    assert {what: found.count(what) for what in set(found)} == counted


def test_a_replay_begins_at_an_index(ruled: Ruled) -> None:
    app, other = ruled.app(), ruled.app()
    for one in (app, other, app, other):
        ruled.allow(one)
    indices = [one.index for one in replayed(ruled, BASE)]
    assert len(indices) == 4
    for since in range(indices[-1] + 2):
        assert [one.index for one in replayed(ruled, BASE, since)] == [at for at in indices if at >= since]


def test_a_record_that_is_not_what_is_decided_again_is_not_replayed_as_if_it_were(
    ruled: Ruled, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = ruled.app()
    with monkeypatch.context() as patch:
        lying(patch, "requester", {"allowed": False, "policy_ids": ["x"]})
        ruled.allow(app)
    (found,) = replayed(ruled, NOTHING)
    assert isinstance(found, Lost)
    assert "see `audit redecide`" in found.why


def test_since_is_an_index_or_a_moment_in_utc_unless_it_says_otherwise() -> None:
    assert _since("17")[0] == 17
    index, moment = _since("2026-03-01")
    assert (index, moment.isoformat()) == (0, "2026-03-01T00:00:00+00:00")
    assert _since("2026-03-01T02:00:00+02:00") == _since("2026-03-01")
    assert _since("2026-03-01T00:00:00Z") == _since("2026-03-01")


def test_the_table_has_a_row_for_each_decision(ruled: Ruled, tmp_path: Path) -> None:
    app, ada = ruled.app(), ruled.enrol()
    ruled.grant(ada, app)
    ruled.allow(app, ada)
    ruled.allow(app)
    erase(ruled.ledger, ada.person_id, ada.cameo_id, at=ruled.at)
    ruled.answers(app, purpose=COMMERCIAL)
    found = replayed(ruled, NO_COMMERCE)
    with (tmp_path / "rows.csv").open("w", newline="") as out:
        _rows(out, found)
    rows = [row.split(",") for row in (tmp_path / "rows.csv").read_text().splitlines()]
    assert rows[0] == ["index", "at", "video", "app", "decided", "candidate", "policies"]
    assert [(row[4], row[5], row[6]) for row in rows[2:]] == [
        ("allowed", "same", ""),
        ("allowed", "newly_denied", "test.no_commerce"),
    ]
    assert (rows[1][5], rows[1][1]) == ("lost", rows[2][1])
    assert {row[3] for row in rows[2:]} == {app}
    assert [int(row[0]) for row in rows[1:]] == [one.index for one in found]


def test_what_is_in_force_at_a_place_is_told_leaf_by_leaf(ruled: Ruled) -> None:
    app = AppId(ruled.app())
    before = ruled.rule(NO_COMMERCE, share=5).index
    after = ruled.rule(NO_COMMERCE).index
    ruled.answers(app)
    with ruled.ledger.reading() as tx:
        assert tx.policies_at(LeafIndex(0)) is None
        assert tx.policies_at(before) == InForce(hash_of(BASE), None, 0, 1)
        assert tx.policies_at(LeafIndex(before + 1)) == InForce(hash_of(BASE), hash_of(NO_COMMERCE), 5, 2)
        assert tx.policies_at(LeafIndex(after + 1)) == tx.policies()


# ── what only the rest of the ledger refutes ──────────────────────────────────────────────────────────────


def test_a_decision_dated_otherwise_than_the_log_is_noticed(
    ruled: Ruled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dated back, an expired grant would look as if it had stood; dated apart, each reader has their own story."""
    app, ada = ruled.app(), ruled.enrol()
    ruled.grant(ada, app, max_uses=9)
    ruled.allow(app, ada)
    ruled.wait(hours=3)
    early = zulu(ruled.at - timedelta(hours=2))
    for roles in (("requester", "depicted"), ("depicted",)):
        with monkeypatch.context() as patch:
            for role in roles:
                lying(patch, role, {"at": early})
            video = ruled.allow(app, ada).permit.video
        assert differs(ruled, video), roles


def test_a_suspension_that_the_rows_deny_is_noticed(ruled: Ruled) -> None:
    app = ruled.app()
    ruled.suspend(app, ALICE)
    ruled.sql("UPDATE app SET suspended = false")
    assert "suspended" in differs(ruled, ruled.allow(app).permit.video)


def test_scores_that_the_prompt_does_not_have_are_noticed(
    ruled: Ruled, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = ruled.app()
    true = screen("a portrait in golden light")
    made_up = replace(true, scores={**true.scores, "violence": 1})
    with monkeypatch.context() as patch:
        patch.setattr(gate, "screen", lambda _: made_up)
        video = ruled.allow(app).permit.video
    assert "does not score" in differs(ruled, video)


# ── from before ───────────────────────────────────────────────────────────────────────────────────────────


SPELT = {
    "Cameo": "resource",
    "Job": "resource",
    "Grant": "grant",
    "Request": "request",
    "Output": "output",
    "Scores": "scores",
}


def older() -> Files:
    """The base as it was before the facts that came later: no word of it speaks of them."""
    texts = {name: data.decode() for name, data in BASE.items() if name != cedar.INVARIANTS}
    later = [key.partition(".") for key in LATER]
    speaks = re.compile("|".join(rf"\b{SPELT[kind]}\.{name}\b" for kind, _, name in later))
    for name in [name for name in texts if name.endswith(".cedar")]:
        kept = re.split(r"(?=^@id\()", texts[name], flags=re.MULTILINE)
        texts[name] = "".join(one for one in kept if not speaks.search(one))
    return {name: text.encode() for name, text in texts.items()} | {cedar.SCHEMA: before(*LATER)}


def test_a_decision_under_a_set_from_before_a_fact_is_made_again(ruled: Ruled) -> None:
    app, ada, bob = ruled.app(), ruled.enrol(), ruled.enrol()
    ruled.grant(ada, app, max_uses=9)
    ruled.grant(bob, app, jurisdictions=["DE"])
    ruled.rule(older())
    requests = [
        ruled.request(app, ada),
        ruled.request(app, bob),
        ruled.request(app, bob, countries=("DE",)),
        ruled.request(app, ada, bob, countries=("FR",)),
        ruled.request(app, bob, purpose=COMMERCIAL),
    ]
    answers = [ruled.gate.decide(one, at=ruled.at) for one in requests]
    said = [[r.id for r in a.reasons] if isinstance(a, Denied) else [] for a in answers]
    assert said == [[], ["policy.outdated"], [], ["policy.outdated"], ["consent.purpose"]]
    for one in requests:
        assert redone(ruled, one.video_id).differs == ()
    # And what was decided under it, the set that came after it decides in the words it has.
    ruled.rule(BASE)
    changes = [one for one in replayed(ruled, BASE) if isinstance(one, Change)]
    assert [one.what for one in changes] == ["same", "reasons", "same", "reasons", "reasons"]
    assert {policy for one in changes for policy in one.policies} == {"consent.countries", "policy.outdated"}


def test_a_record_that_was_stripped_of_what_came_later_is_found_out(
    ruled: Ruled, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, ada = ruled.app(), ruled.enrol()
    ruled.grant(ada, app, jurisdictions=["DE"], max_uses=9)
    request = ruled.request(app, ada, countries=("DE",))
    with monkeypatch.context() as patched:
        honest = Decision.parts

        def parts(self: Decision, facts_key: bytes) -> list[Part]:
            made = honest(self, facts_key)
            for part in made:
                del part.body["countries"]
            return made

        patched.setattr(Decision, "parts", parts)
        ruled.gate.decide(request, at=ruled.at)
    found = differs(ruled, request.video_id)
    assert "`requester`: `allowed`" in found
    assert "`requester`: `facts_digest`" in found


def test_preferences_read_by_another_version_are_no_ground_to_accuse(
    ruled: Ruled, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, ada, bob = ruled.app(), ruled.enrol(), ruled.enrol()
    ruled.grant(ada, app, preferences=["no alcohol"])
    ruled.grant(bob, app)
    with_hers, without_her = ruled.request(app, ada), ruled.request(app, bob)
    for one in (with_hers, without_her):
        ruled.gate.decide(one, at=ruled.at)
        assert redone(ruled, one.video_id).differs == ()
    monkeypatch.setattr("safety.preferences.VERSION", "another")
    assert "another version" in lost(ruled, with_hers.video_id)
    assert redone(ruled, without_her.video_id).differs == ()


# ── what came with measured safety ────────────────────────────────────────────────────────────────────────

NEW: dict[str, Any] = {"named_people": 2, "known_bad_matches": 1}


@pytest.fixture
def measured(ruled: Ruled, monkeypatch: pytest.MonkeyPatch) -> VideoId:
    """A refusal for nothing but what nobody looked for before: names, a known picture, harassment."""
    honest = gate._asked

    def asked(*args: Any, **options: Any) -> Any:
        found = honest(*args, **options)
        scores = {**found.request.scores, "harassment": 700, "impersonation": 499}
        # Of another version than the screen's own: scores that it would not give are no contradiction.
        return replace(found, screening="test/1", request=replace(found.request, **NEW, scores=scores))

    monkeypatch.setattr(gate, "_asked", asked)
    request = ruled.request(ruled.app())
    answer = ruled.gate.decide(request, at=ruled.at)
    assert isinstance(answer, Denied)
    assert {one.id for one in answer.reasons} == {
        "prohibited.named_person",
        "prohibited.known_bad",
        "prohibited.harassment",
    }
    return request.video_id


def test_a_decision_on_the_new_facts_is_made_again_from_its_record(ruled: Ruled, measured: VideoId) -> None:
    made = redone(ruled, measured)
    assert (made.differs, made.decision.allowed, made.decision.unknown) == ((), False, frozenset())
    request = made.decision.asked.request
    assert (request.named_people, request.known_bad_matches, request.scores["harassment"]) == (2, 1, 700)


@pytest.mark.parametrize("fact", [*NEW, "harassment"])
def test_a_new_fact_that_was_changed_in_the_record_is_noticed(
    ruled: Ruled, measured: VideoId, fact: str
) -> None:
    """What decided is under the digest that every reader's record has, and in the leaf."""
    app = redone(ruled, measured).decision.asked.requester.app_id
    resealed(ruled, app, lambda body: body["facts" if fact in NEW else "scores"].update({fact: 0}))
    found = differs(ruled, measured)
    assert "`requester`: `facts_digest`" in found
    assert "`requester`: `reasons`" in found
    assert "not what the leaf in the log was made over" in found


def test_a_replay_shows_what_a_set_without_the_new_rules_would_have_allowed(
    ruled: Ruled, measured: VideoId
) -> None:
    (same,) = replayed(ruled, BASE)
    assert isinstance(same, Change)
    assert (same.what, same.video_id) == ("same", measured)
    (other,) = replayed(ruled, without("prohibited.named_person"))
    assert isinstance(other, Change)
    assert (other.what, other.policies) == ("reasons", ("prohibited.named_person",))


def test_a_decision_about_a_name_is_made_again_as_it_was(ruled: Ruled) -> None:
    app, ada = ruled.app(), ruled.enrol(name="Ada Lovelace")
    ruled.enrol(name="Mirela Vantongeren")
    ruled.grant(ada, app)
    for prompt in ("mirela vantongeren walks along a beach", "Taylor Swift in golden light"):
        request = ruled.request(app, ada, prompt=prompt)
        assert isinstance(ruled.gate.decide(request, at=ruled.at), Denied)
        made = redone(ruled, request.video_id)
        assert made.differs == ()
        assert made.decision.asked.request.named_people == 1
