"""A disclosed entry says one thing only: every alteration of it, however small, is refused."""

import copy
import json
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import LogError
from ledger.ids import AppId, PersonId, new_id
from ledger.log.disclosure import verify_disclosure
from ledger.log.note import SignerKey, VerifierKey
from ledger.store.records import App
from ledger.store.transaction import About, Transaction
from world import START, World, open_ledger

LAW = settings(deadline=None, max_examples=200)


@dataclass(frozen=True)
class Disclosed:
    """What one person was shown of entries 0 … 4; the second is about someone else beside them."""

    items: list[dict[str, Any]]
    others: list[dict[str, Any]]
    log: VerifierKey
    service: Ed25519PublicKey

    def verify(self, item: Mapping[str, Any]) -> Mapping[str, Any]:
        return verify_disclosure(item, self.log, [self.service])


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disclosed]:
    home = tmp_path_factory.mktemp("disclosure")
    ledger, keyring = open_ledger(home)
    one, other = (AppId(new_id("app")) for _ in range(2))

    def operation(tx: Transaction) -> None:
        for app in (one, other):
            tx.add_app(App(app, "Film Club", created_at=0))
        for n in range(5):
            body = {"video_id": f"video {n}", "prompt": "a café at dusk", "list": [1, {"deep": None}]}
            about = [About(one, "depicted", body)]
            about += [About(other, "requester", {**body, "seen": "otherwise"})] if n == 1 else []
            tx.append("decision", str(n), about, at=START)

    ledger.transact(operation)
    yield Disclosed(
        ledger.disclosures(one), ledger.disclosures(other), ledger.verifier, keyring.service.public_key()
    )
    ledger.close()


Path = tuple[str | int, ...]


def places(value: Any, here: Path = ()) -> Iterator[Path]:
    """Every text, number and null inside."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*here, name))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from places(inner, (*here, at))
    else:
        yield here


def at(item: Any, path: Path) -> Any:
    for step in path:
        item = item[step]
    return item


def put(item: dict[str, Any], path: Path, value: object) -> dict[str, Any]:
    altered = copy.deepcopy(item)
    at(altered, path[:-1])[path[-1]] = value
    return altered


def test_what_was_disclosed_verifies_and_returns_the_body(shown: Disclosed) -> None:
    for n, item in enumerate(shown.items):
        body = shown.verify(json.loads(json.dumps(item)))
        assert (body["kind"], body["video_id"]) == ("decision", f"video {n}")
    assert [shown.verify(item)["seen"] for item in shown.others] == ["otherwise"]


@LAW
@given(data=st.data())
def test_one_altered_character_anywhere_is_refused(shown: Disclosed, data: st.DataObject) -> None:
    item = data.draw(st.sampled_from(shown.items))
    path = data.draw(st.sampled_from([p for p in places(item) if isinstance(at(item, p), str)]))
    text = at(item, path)
    where = data.draw(st.integers(0, len(text) - 1))
    same_alphabet = st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\n —")
    other = data.draw((same_alphabet | st.characters()).filter(lambda c: c != text[where]))
    with pytest.raises(LogError):
        shown.verify(put(item, path, text[:where] + other + text[where + 1 :]))


@LAW
@given(data=st.data())
def test_one_character_more_or_less_anywhere_is_refused(shown: Disclosed, data: st.DataObject) -> None:
    item = data.draw(st.sampled_from(shown.items))
    path = data.draw(st.sampled_from([p for p in places(item) if isinstance(at(item, p), str)]))
    text = at(item, path)
    where = data.draw(st.integers(0, len(text)))
    more = data.draw(st.sampled_from(["", *"A=\n \r—0"]))
    cut = "" if more else text[where : where + 1] or text[-1:]
    altered = text[:where] + more + text[where + len(cut) :] if more or where < len(text) else text[:-1]
    with pytest.raises(LogError):
        shown.verify(put(item, path, altered))


@LAW
@given(
    data=st.data(),
    value=st.none()
    | st.integers(-3, 9)
    | st.floats()
    | st.text(max_size=5)
    | st.lists(st.integers(), max_size=2)
    | st.just({}),
)
def test_any_other_value_in_any_place_is_refused(
    shown: Disclosed, data: st.DataObject, value: object
) -> None:
    item = data.draw(st.sampled_from(shown.items))
    inner = sorted({path[:length] for path in places(item) for length in range(1, len(path) + 1)}, key=str)
    path = data.draw(st.sampled_from(inner))
    altered = put(item, path, value)
    if json.dumps(altered) == json.dumps(item):
        return
    # Exactly LogError: a reader's page shows a refusal, not a fault of its own.
    with pytest.raises(LogError):
        shown.verify(altered)


@LAW
@given(data=st.data())
def test_a_missing_part_is_refused(shown: Disclosed, data: st.DataObject) -> None:
    item = copy.deepcopy(data.draw(st.sampled_from(shown.items)))
    paths = {path[:length] for path in places(item) for length in range(1, len(path) + 1)}
    path = data.draw(st.sampled_from(sorted(paths, key=str)))
    del at(item, path[:-1])[path[-1]]
    with pytest.raises(LogError):
        shown.verify(item)


@pytest.mark.parametrize("part", ["kind", "index", "body", "leaf", "commitments", "opening", "proof"])
def test_parts_of_two_entries_do_not_mix(shown: Disclosed, part: str) -> None:
    first, second, _, last = shown.items[0], shown.items[1], *shown.items[3:]
    for mine, theirs in ((first, second), (second, first), (first, last), (second, shown.others[0])):
        if mine[part] != theirs[part]:
            with pytest.raises(LogError):
                shown.verify({**mine, part: theirs[part]})


def test_one_person_cannot_pass_off_anothers_view_as_their_own(shown: Disclosed) -> None:
    mine, theirs = shown.items[1], shown.others[0]
    assert mine["leaf"] == theirs["leaf"]
    with pytest.raises(LogError):
        shown.verify({**mine, "body": theirs["body"]})
    with pytest.raises(LogError):
        shown.verify({**mine, "opening": {**mine["opening"], "label": "requester"}})


def test_base64_has_one_spelling(shown: Disclosed) -> None:
    """The unused bits of the last character would make a second disclosure of the same entry."""
    item = shown.items[0]
    for path in (("opening", "secret"), ("commitments", 0)):
        text = at(item, path)
        assert text.endswith("=")
        twins = [
            text[:-2] + c + "="
            for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
            if b64decode(text[:-2] + c + "=") == b64decode(text)
        ]
        assert len(twins) == 4
        for twin in set(twins) - {text}:
            with pytest.raises(LogError):
                shown.verify(put(item, path, twin))


def test_an_unknown_service_key_or_log_key_verifies_nothing(shown: Disclosed) -> None:
    stranger = Ed25519PrivateKey.generate()
    item = shown.items[0]
    with pytest.raises(LogError):
        verify_disclosure(item, shown.log, [stranger.public_key()])
    with pytest.raises(LogError):
        verify_disclosure(item, shown.log, [])
    for name in (shown.log.name, "other.example/log"):
        signer = SignerKey.from_seed(name, stranger.private_bytes_raw())
        with pytest.raises(LogError):
            verify_disclosure(item, signer.verifier, [shown.service])
    # The right key under another name is another log.
    with pytest.raises(LogError):
        verify_disclosure(item, VerifierKey("other.example/log", shown.log.public), [shown.service])


@pytest.mark.parametrize("index", [1.0, "1", None, [1], 2])
def test_an_index_is_a_whole_number(shown: Disclosed, index: object) -> None:
    with pytest.raises(LogError):
        shown.verify({**shown.items[1], "index": index})


@pytest.mark.parametrize("item", [None, [], "", 7, {}, {"body": []}, {"body": None, "leaf": None}])
def test_what_is_no_disclosure_is_refused(shown: Disclosed, item: Any) -> None:
    with pytest.raises(LogError):
        shown.verify(item)


def test_nobody_learns_of_the_others_an_entry_is_about(shown: Disclosed) -> None:
    told = json.dumps(shown.items[1])
    assert "otherwise" not in told
    assert all(b64encode(b64decode(c)).decode() == c for c in shown.items[1]["commitments"])
    assert shown.items[1]["commitments"] == sorted(shown.items[1]["commitments"], key=b64decode), (
        "the order of commitments would tell who came first"
    )


def test_entries_of_one_answer_are_proven_under_one_checkpoint(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    home = tmp_path_factory.mktemp("one")
    ledger, keyring = open_ledger(home)
    world = World(ledger, keyring, home)
    someone = world.enrol()
    world.grant(someone, world.app())
    items = ledger.disclosures(PersonId(someone.person_id))
    heads = {item["proof"].partition("\n\n")[2] for item in items}
    ledger.close()
    assert [item["kind"] for item in items] == ["enrolment", "grant"]
    assert len(heads) == 1
