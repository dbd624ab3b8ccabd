"""A home that an older version of the service wrote: what it holds stands, and is decided again as it was."""

import json
import re
import tarfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from command import countersign
from gateway.orders import Done, Waiting
from generator.stamp import release
from ledger.consent.approval import Answer, answer_draft
from ledger.consent.grant import parse_grant
from ledger.consent.statement import GRANT_TAG, DeviceSignature, device, verify
from ledger.errors import InvalidStatement
from ledger.ids import LeafIndex, PersonId, VideoId
from ledger.log.sequencer import Ledger
from ledger.store.objects import Objects
from safety.chain import Cleared, RawClip, Sealer, Stamped, stamped
from safety.gate import Denied, Gate
from safety.policy import cedar
from safety.policy.activation import Activated
from safety.policy.engine import Engine
from safety.policy.facts import LATER
from safety.replay import Change, Redecided, redecide, replay
from studio import Studio
from test_activation import ALICE, BASE, BOB, Ruled, hash_of
from test_gate import Spy, pipeline
from world import ORIGIN, POLICIES, START, World, check_log, open_ledger

GOLDEN = Path(__file__).parent / "golden"
OLD_HOME = GOLDEN / "home-before-consent.tar.gz"
UNMEASURED_HOME = GOLDEN / "home-before-measuring.tar.gz"
CONSENT = {
    "Cameo.with_adult",
    "Cameo.guardians_allow_adults",
    "Grant.within_countries",
    "Grant.against_preferences",
}
"""The facts that came with consent, before safety was measured."""


@pytest.fixture
def old(tmp_path: Path) -> Iterator[World]:
    """The old home, opened by this version, which migrates its database."""
    with tarfile.open(OLD_HOME) as archive:
        archive.extractall(tmp_path, filter="data")
    ledger, keyring = open_ledger(tmp_path)
    yield World(ledger, keyring, tmp_path, START + timedelta(hours=1))
    ledger.close()


def asked(world: World) -> list[str]:
    return (world.home / "asked").read_text().split()


def subjects(ledger: Ledger, table: str) -> list[str]:
    with ledger.database.engine.connect() as connection:
        return [row[0] for row in connection.exec_driver_sql(f'SELECT id FROM "{table}"')]


def test_the_log_of_an_old_home_is_whole(old: World) -> None:
    assert check_log(old.ledger) > len(asked(old))


def test_every_decision_of_an_old_home_is_made_again_byte_for_byte(old: World) -> None:
    """Under the policies of then, whose schema knows nothing of countries, preferences or who stands beside a minor."""
    answers = []
    for video_id in asked(old):
        with old.ledger.reading() as tx:
            made = redecide(tx, Activated(), video_id, facts_key=old.keyring.facts_key)
        assert isinstance(made, Redecided), made
        assert made.differs == ()
        assert made.decision.unknown == LATER.keys()
        answers.append(made.decision.allowed)
    assert answers == [True, True, False, True, False, False]


def test_grants_of_an_old_home_stand_and_their_signatures_verify(old: World) -> None:
    found = [one for person in subjects(old.ledger, "person") for one in old.entries(person, "grant")]
    assert len(found) == 3
    for entry in found:
        grant = parse_grant(entry.body["grant"])
        assert (grant.preferences, grant.delegate_key, grant.parent) == ((), None, None)
        evidence = DeviceSignature.model_validate(entry.body["evidence"])
        signers = [device(evidence.public_key)]
        assert verify(GRANT_TAG, grant.signed_bytes(), evidence, signers=signers).signer == signers[0]


def test_no_grant_is_signed_without_the_fields_that_came_later(world: World) -> None:
    app, ada = world.app(), world.enrol()
    for field in ("preferences", "delegate_key", "parent"):
        draft = world.draft(ada, app)
        del draft[field]
        with pytest.raises(InvalidStatement, match=f"field `{field}` is wrong: field required"):
            world.record(ada, draft)


def test_the_status_says_what_the_policies_of_an_old_home_do_not_know(old: World) -> None:
    old.ledger.close()
    said = countersign(old.home, "policy", "status", ORIGIN=ORIGIN)
    assert said.status == 0, said
    assert re.search(
        "^OLDER .* does not know .*`Grant.against_preferences`, `Grant.within_countries`, .*:$",
        said.text,
        re.MULTILINE,
    )


def test_an_old_home_goes_on_under_its_own_policies_until_new_ones_are_put_in_force(old: World) -> None:
    """What they can read they decide; a limit they do not know is kept to by refusing."""
    old.gate = Gate(old.ledger, Activated(), Sealer(old.keyring.permit))
    app, eve = old.app("Another"), old.enrol()
    old.grant(eve, app)
    entry = old.entries(app, "decision")
    assert not entry
    old.allow(app, eve)
    assert old.entries(app, "decision")[-1].body["policy_set"] != cedar.set_hash(cedar.read(POLICIES))
    fay = old.enrol()
    old.grant(fay, app, preferences=["no alcohol"])
    old.allow(app, fay)
    answer = old.gate.decide(old.request(app, fay, prompt="a toast with alcohol"), at=old.at)
    assert [reason.id for reason in answer.reasons] == ["policy.outdated"]  # type: ignore[union-attr]


# ── from before safety was measured ───────────────────────────────────────────────────────────────────────


@pytest.fixture
def unmeasured(tmp_path: Path) -> Iterator[Ruled]:
    """A home in which jobs were on their way when it was upgraded, and whose policies know of seven scores."""
    with tarfile.open(UNMEASURED_HOME) as archive:
        archive.extractall(tmp_path, filter="data")
    ledger, keyring = open_ledger(tmp_path)
    yield Ruled(ledger, keyring, tmp_path, START + timedelta(hours=1))
    check_log(ledger)
    ledger.close()


def told(world: World) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((world.home / "told.json").read_text())
    return found


def guardian_approves(world: World, video_id: str) -> None:
    people = {name: PersonId(one) for name, one in told(world)["people"].items()}
    answer = Answer(VideoId(video_id), people["kid"], people["mum"], "guardian", "approve")
    answer_draft(world.ledger, answer, at=world.at)


@pytest.mark.slow
def test_decisions_of_an_unmeasured_home_are_made_again_with_what_is_new_unknown(unmeasured: Ruled) -> None:
    answers = []
    for video_id in told(unmeasured)["asked"]:
        with unmeasured.ledger.reading() as tx:
            made = redecide(tx, Activated(), video_id, facts_key=unmeasured.keyring.facts_key)
        assert isinstance(made, Redecided), made
        assert made.differs == ()
        assert made.decision.unknown == LATER.keys() - CONSENT
        assert made.decision.asked.request.named_people == 0
        assert made.decision.asked.request.scores["harassment"] == 0
        answers.append(made.decision.allowed)
    assert answers == [True, True, False, False, False, False, False, False, True, False, True]


@pytest.mark.slow
def test_the_policies_of_today_would_have_decided_an_unmeasured_home_as_it_was(unmeasured: Ruled) -> None:
    """What nobody looked for then counts for nobody now: a replay holds no record's silence against it."""
    with unmeasured.ledger.reading() as tx:
        found = list(replay(tx, Activated(), Engine.load(POLICIES), since=LeafIndex(0)))
    assert all(isinstance(one, Change) for one in found), found
    assert {one.what for one in found if isinstance(one, Change)} == {"same"}


@pytest.mark.slow
def test_a_job_that_was_queued_before_the_upgrade_is_made_and_looked_at_after_it(unmeasured: Ruled) -> None:
    """Its permit has seven scores; what is new is nothing that its words were scored for."""
    queued = told(unmeasured)["queued"]
    line = pipeline(unmeasured, Spy(unmeasured))
    made = line.attempt("render", queued)
    assert made["reasons"] == []
    raw = unmeasured.gate.sealer.open(made["sealed"], RawClip, at=unmeasured.at)
    assert len(raw.permit.scores) == 7
    assert line.attempt("clear", made["sealed"])["reasons"] == []
    assert unmeasured.release(raw.permit) is None


@pytest.mark.slow
def test_a_draft_that_waited_through_the_upgrade_goes_out_at_its_guardians_word(unmeasured: Ruled) -> None:
    studio, waiting = Studio(unmeasured), VideoId(told(unmeasured)["waiting"])
    studio.drafts.settle(waiting)
    assert studio.state(waiting) == ("queued", None)
    guardian_approves(unmeasured, waiting)
    studio.drafts.settle(waiting)
    assert studio.state(waiting) == ("completed", None)


@pytest.mark.slow
def test_a_clip_that_was_looked_at_before_the_upgrade_is_released_after_it(unmeasured: Ruled) -> None:
    """And one that was only made is of a model that nobody vouches for: it is looked at as any open model's."""
    sealed, path = told(unmeasured)["sealed"], unmeasured.home / "raw.mp4"
    sealer = unmeasured.gate.sealer
    raw = sealer.open(sealed["RawClip"], RawClip, at=unmeasured.at, moved_to=path)
    assert raw.closed is False
    clear = sealer.open(sealed["Cleared"], Cleared, at=unmeasured.at, moved_to=path)
    done = stamped(clear, path, manifest_id="urn:c2pa:made-before", payload="ab" * 8)
    assert isinstance(sealer.open(sealer.seal(done), Stamped, at=unmeasured.at), Stamped)
    objects = Objects.local(unmeasured.home / "objects")
    assert not isinstance(release(done, unmeasured.gate, objects, at=unmeasured.at), Denied)


@pytest.mark.slow
def test_two_operators_put_measured_policies_in_force_over_unmeasured_ones(unmeasured: Ruled) -> None:
    before = unmeasured.in_force.current
    assert before != hash_of(BASE)
    assert isinstance(unmeasured.order(BASE, ALICE, loosens=True), Waiting)
    assert unmeasured.in_force.current == before
    assert isinstance(unmeasured.order(BASE, BOB, loosens=True), Done)
    app = unmeasured.app("Another")
    assert unmeasured.decided_by(app) == hash_of(BASE)
    with unmeasured.ledger.reading() as tx:
        last = unmeasured.entries(app, "decision")[-1]
        made = redecide(tx, Activated(), str(last.index), facts_key=unmeasured.keyring.facts_key)
        again = [
            redecide(tx, Activated(), one, facts_key=unmeasured.keyring.facts_key)
            for one in told(unmeasured)["asked"]
        ]
    assert isinstance(made, Redecided)
    assert (made.differs, made.decision.unknown) == ((), frozenset())
    # What was decided before is still decided by the words of before.
    assert all(isinstance(one, Redecided) and one.differs == () for one in again)
    assert studio_released(unmeasured)


def studio_released(world: World) -> bool:
    """Whether the clip that was out before the upgrade still may be had."""
    found = told(world)
    return Studio(world).may_download(VideoId(found["released"]), found["app"]) == set()
