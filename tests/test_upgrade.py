"""A home that an older version of the service wrote: what it holds stands, and is decided again as it was."""

import re
import tarfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from command import countersign
from ledger.consent.grant import parse_grant
from ledger.consent.statement import GRANT_TAG, DeviceSignature, device, verify
from ledger.errors import InvalidStatement
from ledger.log.sequencer import Ledger
from safety.chain import Sealer
from safety.gate import Gate
from safety.policy import cedar
from safety.policy.activation import Activated
from safety.policy.facts import LATER
from safety.replay import Redecided, redecide
from world import ORIGIN, POLICIES, START, World, check_log, open_ledger

OLD_HOME = Path(__file__).parent / "golden" / "home-before-consent.tar.gz"


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
