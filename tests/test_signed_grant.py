"""A grant somebody takes along: the file holds what was signed, and nothing in it can be changed unnoticed."""

import copy
import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authenticator import PRESENT, b64url, unb64url
from gateway.cli import cli
from ledger.canonical import canonical
from ledger.consent.grant import parse_grant
from ledger.consent.registry import taken_along
from ledger.consent.signed_grant import Verified, verify
from ledger.consent.statement import GRANT_TAG, device, encode_key, sign
from ledger.errors import LedgerError, NotFound
from ledger.ids import GrantId, PersonId
from ledger.log.policy import Policy
from live import Site, collins_picture
from people import Visitor, visitor_at
from world import ORIGIN, World, vkey_of

pytest_plugins = ["live"]
File = dict[str, Any]


def alone(world: World) -> Policy:
    return Policy.alone(world.ledger.verifier)


def taken(world: World, owner: PersonId, grant_id: GrantId) -> File:
    """The file, as it is after it was sent."""
    found: File = json.loads(json.dumps(taken_along(world.ledger, owner, grant_id)))
    return found


def test_a_grant_taken_along_says_who_signed_it_and_where_it_is_recorded(world: World) -> None:
    someone = world.enrol()
    grant_id = world.grant(someone, world.app(), max_uses=2)
    found = verify(taken(world, someone.person_id, grant_id), alone(world))
    assert (found.grant.id, found.grant.max_uses, found.parent) == (grant_id, 2, None)
    assert found.signer.public_key == encode_key(someone.device.public_key())
    assert found.log is not None
    assert found.checkpoint is not None
    assert found.log.index < found.checkpoint.checkpoint.size


def test_it_still_verifies_after_it_was_revoked_and_its_key_taken_away(world: World) -> None:
    someone = world.enrol()
    grant_id = world.grant(someone, world.app())
    world.revoke(someone, grant_id)
    world.tell(someone, "device", change="removed", key=someone.signer, how="session")
    assert verify(taken(world, someone.person_id, grant_id), alone(world)).grant.id == grant_id


def test_only_ones_own_grant_is_taken_along(world: World) -> None:
    someone, other = world.enrol(), world.enrol()
    grant_id = world.grant(someone, world.app())
    with pytest.raises(NotFound):
        taken_along(world.ledger, other.person_id, grant_id)


def test_a_minors_grant_names_the_guardian_who_signed_too(world: World) -> None:
    child, parent = world.enrol(date(2012, 5, 1)), world.enrol()
    world.guardian(child, parent)
    grant_id = world.grant(child, world.app(), cosigned_by=[parent], approval="before_release")
    file = taken(world, child.person_id, grant_id)
    found = verify(file, alone(world))
    assert {who: key.model_dump() for who, key in found.guardians.items()} == {
        parent.person_id: parent.signer
    }
    forged = copy.deepcopy(file)
    stranger = Ed25519PrivateKey.generate()
    evidence = sign(GRANT_TAG, parse_grant(file["grant"]).signed_bytes(), stranger).model_dump()
    forged["cosignatures"][0]["evidence"] = evidence
    assert refused(forged, world) == "statement.wrong_signer"
    forged["cosignatures"] = []
    assert refused(forged, world) == "signed_grant.other"
    forged["cosignatures"] = file["cosignatures"] * 2
    assert refused(forged, world) == "signed_grant.twice"


@pytest.fixture
def passed_on(world: World) -> File:
    someone, agent = world.enrol(), Ed25519PrivateKey.generate()
    key = encode_key(agent.public_key())
    above = world.grant(someone, world.app(), max_uses=3, delegate_key=key)
    below = world.delegate(someone, above, agent, world.app("Other"), max_uses=1)
    return taken(world, someone.person_id, below)


def test_a_grant_that_was_passed_on_carries_the_one_it_narrows(world: World, passed_on: File) -> None:
    found = verify(passed_on, alone(world))
    assert found.parent is not None
    assert found.parent.grant.delegate_key == found.signer.public_key
    assert (found.parent.grant.max_uses, found.grant.max_uses) == (3, 1)


def test_passing_on_is_checked_against_the_grant_above(world: World, passed_on: File) -> None:
    assert refused({**passed_on, "parent": None}, world) == "signed_grant.parent"
    assert refused({**passed_on, "parent": passed_on}, world) == "signed_grant.parent"
    other = world.enrol()
    above = taken(world, other.person_id, world.grant(other, world.app()))
    assert refused({**passed_on, "parent": above}, world) == "signed_grant.parent"
    broken = copy.deepcopy(passed_on)
    broken["parent"]["grant"]["max_uses"] = 1000
    assert refused(broken, world) == "statement.altered"
    # Whoever may pass it on signed more than they may.
    agent, someone = Ed25519PrivateKey.generate(), world.enrol()
    key = encode_key(agent.public_key())
    parent = world.grant(someone, world.app(), delegate_key=key, max_uses=3)
    wider = world.draft(someone, world.app(), parent=parent, max_uses=4)
    file = {
        **passed_on,
        "grant": wider,
        "evidence": sign(GRANT_TAG, canonical(wider), agent).model_dump(),
        "parent": taken(world, someone.person_id, parent),
        "log": None,
    }
    assert refused(file, world) == "grant.wider"
    file["grant"] = wider | {"max_uses": 3}
    file["evidence"] = sign(GRANT_TAG, canonical(file["grant"]), agent).model_dump()
    assert verify(file, alone(world)).grant.max_uses == 3


def refused(file: File, world: World) -> str:
    with pytest.raises(LedgerError) as caught:
        verify(file, alone(world))
    return caught.value.reason.id


def changed(file: File, *path: str | int, to: Any) -> File:
    copied = copy.deepcopy(file)
    place: Any = copied
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to(place[path[-1]]) if callable(to) else to
    return copied


def flipped(text: str) -> str:
    raw = bytearray(b64decode(text))
    raw[-1] ^= 1
    return b64encode(raw).decode()


def another_signer(_: Any) -> Any:
    return device(another_key("")).model_dump()


def another_key(key: str) -> str:
    return encode_key(Ed25519PrivateKey.generate().public_key())


ALTERED: dict[str, tuple[Callable[[File], File], str]] = {
    "more uses": (lambda f: changed(f, "grant", "max_uses", to=99), "statement.altered"),
    "another grantee": (
        lambda f: changed(f, "grant", "grantee", to={"type": "everyone", "id": "*"}),
        "statement.altered",
    ),
    "a field more": (lambda f: changed(f, "grant", "note", to="x"), "grant.malformed"),
    "a field more of the file": (lambda f: changed(f, "trusted", to=True), "signed_grant.form"),
    "another kind of file": (lambda f: changed(f, "schema", to="countersign/list/v1"), "signed_grant.form"),
    "no signers": (lambda f: changed(f, "signers", to=[]), "statement.wrong_signer"),
    "a signer under another's name": (
        lambda f: changed(f, "signers", 0, "public_key", to=another_key),
        "signed_grant.form",
    ),
    "another signer": (lambda f: changed(f, "signers", 0, to=another_signer), "statement.wrong_signer"),
    "another place": (lambda f: changed(f, "log", "index", to=lambda i: i + 1), "certificate.other"),
    "another time": (lambda f: changed(f, "log", "body", "at", to="2020-01-01T00:00:00Z"), "log.opening"),
    "another body": (
        lambda f: changed(f, "log", "body", "grant", "max_uses", to=99),
        "signed_grant.other",
    ),
    "another secret": (lambda f: changed(f, "log", "secret", to=flipped), "log.opening"),
    "another number": (lambda f: changed(f, "log", "n", to=7), "log.opening"),
    "another leaf": (lambda f: changed(f, "log", "leaf", to=flipped), "log.inclusion"),
    "no proof": (lambda f: changed(f, "log", "proof", to=None), "certificate.no_proof"),
    "another log": (lambda f: changed(f, "log", "origin", to="evil.example/log"), "certificate.other"),
}


@pytest.mark.parametrize("name", ALTERED)
def test_whatever_is_altered_is_named(world: World, name: str) -> None:
    someone = world.enrol()
    file = taken(world, someone.person_id, world.grant(someone, world.app()))
    alter, reason = ALTERED[name]
    assert refused(alter(file), world) == reason


def test_another_logs_word_is_not_believed(world: World) -> None:
    someone = world.enrol()
    file = taken(world, someone.person_id, world.grant(someone, world.app()))
    other = Policy.parse(f"log {vkey_of_another()}\nquorum none\n".encode())
    with pytest.raises(LedgerError):
        verify(file, other)
    with pytest.raises(LedgerError):
        verify(file, None)
    assert isinstance(verify({**file, "log": None}, None), Verified)


def vkey_of_another() -> str:
    return vkey_of(Ed25519PrivateKey.generate().public_key().public_bytes_raw(), ORIGIN)


# As a passkey signs, and as people run it --------------------------------------------------------------------


@pytest.fixture(scope="module")
def signed(live: Site) -> File:
    """A grant signed by passkey over HTTP, as its owner downloads it."""
    visitor: Visitor = visitor_at(live)()
    cameo_id = visitor.enrol(collins_picture())
    grant_id = visitor.grant(cameo_id).json()["grant_id"]
    answer = visitor.web.get(f"/v1/grants/{grant_id}")
    assert answer.status_code == 200, answer.text
    assert visitor.web.get("/v1/grants/grant_00000000000000000000000000").status_code == 404
    other = visitor_at(live)()
    assert other.web.get(f"/v1/grants/{grant_id}").status_code == 404
    theirs = {"for": visitor.person_id}
    assert other.web.get(f"/v1/grants/{grant_id}", params=theirs).status_code == 403
    for one in (visitor, other):
        one.web.close()
    file: File = answer.json()
    return file


def checked(file: File, path: Path, *options: str) -> tuple[int, str]:
    path.write_text(json.dumps(file))
    done = CliRunner().invoke(cli, ["consent", "verify", str(path), *options])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


@pytest.mark.slow
def test_the_command_says_what_was_allowed_by_whom_on_which_page(
    live: Site, signed: File, tmp_path: Path
) -> None:
    code, said = checked(signed, tmp_path / "grant.json")
    assert code == 0, said
    assert "1 video" in said.splitlines()[0]
    assert f"on {live.url}, and the device verified who held it" in said
    assert f"entry {signed['log']['index']}" in said
    assert "compare it with one from elsewhere" in said
    code, said = checked(signed, tmp_path / "grant.json", "--log-key", signed["log"]["vkey"])
    assert (code, "the log's key you gave" in said) == (0, True)
    assert checked(signed, tmp_path / "grant.json", "--log-key", vkey_of_another())[0] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("alter", "reason"),
    [
        (lambda f: changed(f, "grant", "max_uses", to=99), "statement.altered"),
        (lambda f: changed(f, "signers", 0, "origin", to="https://evil.example"), "passkey.origin"),
        (lambda f: changed(f, "signers", 0, "rp_id", to="evil.example"), "passkey.rp_id"),
        (
            lambda f: changed(f, "evidence", "authenticator_data", to=unverified),
            "passkey.user_verification",
        ),
        (lambda f: changed(f, "evidence", "signature", to=lambda s: s[:-4] + "AAAA"), "statement.altered"),
        (lambda f: changed(f, "evidence", "client_data_json", to="e30"), "passkey.malformed"),
        (lambda f: [f], "list.form"),
    ],
    ids=["uses", "page", "site", "unverified", "signature", "client data", "a list"],
)
def test_the_command_names_what_does_not_hold(
    signed: File, alter: Callable[[File], File], reason: str, tmp_path: Path
) -> None:
    code, said = checked(alter(signed), tmp_path / "grant.json")
    assert (code, f"({reason})" in said) == (1, True), said
    assert said.startswith("NOT PROVEN: ")


def unverified(data: str) -> str:
    raw = bytearray(unb64url(data))
    raw[32] = PRESENT
    return b64url(bytes(raw))
