"""Passkeys: who may register and sign, what is refused by which name, and the specification's own examples.

`authenticator.py` makes the answers; `golden/webauthn.json` holds those of W3C Web Authentication Level 3, §16.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from authenticator import BACKED_UP as BS
from authenticator import MAY_BACK_UP as BE
from authenticator import ORIGIN, RP_ID, Algorithm, Authenticator
from authenticator import PRESENT as UP
from authenticator import VERIFIED as UV
from authenticator import b64url as b64
from ledger.canonical import canonical, challenge
from ledger.consent import passkey
from ledger.consent.grant import parse_grant
from ledger.consent.passkey import Assertion, creation_options, register, request_options
from ledger.consent.registry import SignedGrant, record_grant
from ledger.consent.statement import (
    GRANT_TAG,
    SESSION_TAG,
    Evidence,
    PasskeyAssertion,
    Signer,
    verify,
)
from ledger.consent.story import replay
from ledger.errors import InvalidStatement
from ledger.ids import CameoId, PersonId, new_id
from ledger.store.journal import About
from ledger.store.records import Cameo, Credential, Person
from ledger.store.transaction import Transaction
from world import Someone, World, open_ledger

LAW = settings(deadline=None, max_examples=60)
NONCE = bytes(range(32))
TEXT = canonical({"what": "a statement"})
GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "webauthn.json").read_text())
EVIDENCE: TypeAdapter[Evidence] = TypeAdapter(Evidence)


def reason(error: pytest.ExceptionInfo[InvalidStatement]) -> str:
    assert error.value.reason.remedy
    assert error.value.reason.sentence[0].islower()
    return error.value.reason.id


def checked(answer: dict[str, str], of: Authenticator, *, text: bytes = TEXT, sign_count: int = 0) -> int:
    """What the counter says, of an assertion over a grant's text by a credential registered as usual."""
    registered = Signer.model_validate({**of.signer(), "rp_id": RP_ID, "origin": ORIGIN})
    evidence = EVIDENCE.validate_python(answer)
    return verify(GRANT_TAG, text, evidence, signers=[registered], sign_count=sign_count).sign_count


def refused(answer: dict[str, str], of: Authenticator, **what: Any) -> str:
    with pytest.raises(InvalidStatement) as error:
        checked(answer, of, **what)
    return reason(error)


def over(text: bytes = TEXT, tag: str = GRANT_TAG) -> bytes:
    return challenge(tag, text)


# ── registering ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "RS256"])
def test_a_credential_that_was_registered_signs_what_it_is_asked_to(algorithm: Algorithm) -> None:
    device = Authenticator(algorithm, counter=7)
    made = register(device.register(NONCE), challenge=NONCE, rp_id=RP_ID, origin=ORIGIN)
    assert (made.credential_id, made.synced, made.sign_count) == (device.id, True, 0)
    assert made.public_key == device.public_key
    assert checked(device.sign(over()), device) == 7


LIES: list[tuple[str, dict[str, Any]]] = [
    ("passkey.rp_id", {"rp_id": "other.example"}),
    ("passkey.origin", {"origin": "https://likeness.example.evil.example"}),
    ("passkey.origin", {"origin": "http://likeness.example"}),
    ("passkey.origin", {"origin": "https://likeness.example/"}),
    ("passkey.origin", {"cross_origin": True}),
    ("passkey.user_presence", {"flags": UV}),
    ("passkey.user_verification", {"flags": UP}),
    ("passkey.user_verification", {"flags": UP | BE | BS}),
    ("passkey.malformed", {"flags": UP | UV | BS}),
]


@pytest.mark.parametrize(("expected", "lie"), LIES, ids=str)
def test_a_registration_made_elsewhere_or_by_nobody_is_refused_by_name(
    expected: str, lie: dict[str, Any]
) -> None:
    with pytest.raises(InvalidStatement) as error:
        register(Authenticator(**lie).register(NONCE), challenge=NONCE, rp_id=RP_ID, origin=ORIGIN)
    assert reason(error) == expected


def test_a_registration_over_another_challenge_or_from_an_assertion_is_refused() -> None:
    device = Authenticator()
    for answer, expected in (
        (device.register(bytes(32)), "statement.altered"),
        (device.register(NONCE, ceremony="webauthn.get"), "passkey.ceremony"),
    ):
        with pytest.raises(InvalidStatement) as error:
            register(answer, challenge=NONCE, rp_id=RP_ID, origin=ORIGIN)
        assert reason(error) == expected


def test_an_answer_that_names_another_credential_registers_the_one_that_was_made() -> None:
    """Otherwise somebody could take the id of a credential that is not theirs."""
    device, victim = Authenticator(), Authenticator()
    answer = {**device.register(NONCE), "id": victim.id, "rawId": victim.id}
    assert register(answer, challenge=NONCE, rp_id=RP_ID, origin=ORIGIN).credential_id == device.id


def places(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for step, inner in value.items() if isinstance(value, dict) else ():
        yield (*here, step)
        yield from places(inner, (*here, step))


GARBAGE = (
    st.none()
    | st.integers()
    | st.text(max_size=8)
    | st.binary(max_size=80).map(b64)
    | st.lists(st.none(), max_size=2)
    | st.dictionaries(st.text(max_size=3), st.none(), max_size=2)
    | st.sampled_from(
        ["=", "AA==", "A" * 4000, b64(b"[" * 3000), b64(b"{}"), b64(b"\xff\xfe"), "\ud800", "ö"]
    )
    | st.sampled_from(
        [b64(cbor2.dumps(one)) for one in (cbor2.undefined, {"fmt": "none"}, {"authData": b""})]
    )
)


@LAW
@given(data=st.data(), value=GARBAGE)
def test_whatever_a_registration_holds_it_is_refused_by_name_and_nothing_breaks(
    data: st.DataObject, value: object
) -> None:
    answer = Authenticator("EdDSA").register(NONCE)
    path = data.draw(st.sampled_from(list(places(answer))))
    item: Any = answer
    for step in path[:-1]:
        item = item[step]
    if data.draw(st.booleans()):
        item[path[-1]] = value
    else:
        del item[path[-1]]
    # What says nothing about the key may say anything.
    if path[0] == "clientExtensionResults" or path[-1] == "transports":
        register(answer, challenge=NONCE, rp_id=RP_ID, origin=ORIGIN)
        return
    with pytest.raises(InvalidStatement) as error:
        register(answer, challenge=NONCE, rp_id=RP_ID, origin=ORIGIN)
    assert reason(error) in {"passkey.malformed", "passkey.rp_id", "statement.altered"}


@pytest.mark.parametrize("response", [{}, {"response": None}, {"response": {}}, {"response": []}], ids=str)
def test_no_registration_at_all_is_refused_by_name(response: dict[str, Any]) -> None:
    with pytest.raises(InvalidStatement) as error:
        register(response, challenge=NONCE, rp_id=RP_ID, origin=ORIGIN)
    assert reason(error) == "passkey.malformed"


def test_browsers_are_asked_to_verify_who_holds_the_device_and_for_no_attestation() -> None:
    device = Authenticator()
    made = creation_options(rp_id=RP_ID, handle=b"h" * 32, name="Ada", challenge=NONCE, exclude=[device.id])
    assert made["authenticatorSelection"]["userVerification"] == "required"
    assert made["authenticatorSelection"]["residentKey"] == "required"
    assert made.get("attestation", "none") == "none"
    assert (made["challenge"], made["user"]["id"]) == (b64(NONCE), b64(b"h" * 32))
    assert [one["id"] for one in made["excludeCredentials"]] == [device.id]
    asked = request_options(rp_id=RP_ID, challenge=NONCE, allow=[device.id])
    assert (asked["userVerification"], asked["challenge"], asked["rpId"]) == ("required", b64(NONCE), RP_ID)
    assert [one["id"] for one in asked["allowCredentials"]] == [device.id]


# ── signing ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("expected", "lie"), LIES, ids=str)
def test_an_assertion_made_elsewhere_or_by_nobody_is_refused_by_name(
    expected: str, lie: dict[str, Any]
) -> None:
    device = Authenticator(**lie)
    assert refused(device.sign(over()), device) == expected


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "RS256"])
def test_a_signature_over_another_text_is_refused(algorithm: Algorithm) -> None:
    device = Authenticator(algorithm)
    answer = device.sign(over())
    assert refused(answer, device, text=canonical({"what": "another"})) == "statement.altered"
    # … nor is one over the same text as another kind of statement, such as a login.
    assert refused(device.sign(over(tag=SESSION_TAG)), device) == "statement.altered"


def test_a_registration_is_not_taken_for_a_signature() -> None:
    device = Authenticator()
    assert refused(device.sign(over(), ceremony="webauthn.create"), device) == "passkey.ceremony"
    assert refused(device.sign(over(), ceremony="payment.get"), device) == "passkey.ceremony"


@pytest.mark.parametrize(
    ("said", "last", "expected"),
    [
        (5, 4, None),
        (1, 0, None),
        (None, 0, None),
        (4, 4, "passkey.counter"),
        (3, 4, "passkey.counter"),
        (None, 4, "passkey.counter"),
        (2**32 - 1, 2**32 - 2, None),
    ],
)
def test_a_counter_that_goes_back_is_a_copy(said: int | None, last: int, expected: str | None) -> None:
    device = Authenticator(counter=said)
    answer = device.sign(over())
    if expected is None:
        assert checked(answer, device, sign_count=last) == (said or 0)
    else:
        assert refused(answer, device, sign_count=last) == expected


def test_another_credential_or_another_key_under_its_id_does_not_sign() -> None:
    device, other = Authenticator(), Authenticator()
    assert refused(other.sign(over()), device) == "statement.wrong_signer"
    forged = {**other.sign(over()), "credential_id": device.id}
    assert refused(forged, device) == "statement.altered"
    # A device's key is no passkey, whatever is said of it.
    with pytest.raises(InvalidStatement) as error:
        verify(
            GRANT_TAG,
            TEXT,
            EVIDENCE.validate_python({"type": "device", "public_key": device.id, "signature": "A" * 86}),
            signers=[Signer.model_validate(device.signer())],
        )
    assert reason(error) == "statement.wrong_signer"


@pytest.mark.parametrize("field", ["authenticator_data", "client_data_json", "signature"])
@pytest.mark.parametrize("spelling", ["{}=", "{}\n", " {}", "{}A", "", "{}!!!!", "ö{}"])
def test_evidence_has_one_spelling(field: str, spelling: str) -> None:
    device = Authenticator("EdDSA")
    answer = device.sign(over())
    assert refused({**answer, field: spelling.format(answer[field])}, device) in {
        "passkey.malformed",
        "statement.altered",
    }


@LAW
@given(data=st.data())
def test_no_bit_of_an_assertion_can_be_changed(data: st.DataObject) -> None:
    device = Authenticator("EdDSA")
    answer = device.sign(over())
    field = data.draw(st.sampled_from(["authenticator_data", "client_data_json", "signature"]))
    raw = bytearray(passkey._decoded(answer[field]))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert refused({**answer, field: b64(bytes(raw))}, device)


@LAW
@given(field=st.sampled_from(["authenticator_data", "client_data_json", "signature"]), value=GARBAGE)
def test_whatever_an_assertion_holds_it_is_refused_by_name_and_nothing_breaks(field: str, value: Any) -> None:
    device = Authenticator("EdDSA")
    whole = Assertion(device.id, *list(device.sign(over()).values())[2:])
    with pytest.raises(InvalidStatement) as error:
        passkey.check(
            over(),
            replace(whole, **{field: value}),
            public_key=device.public_key,
            rp_id=RP_ID,
            origin=ORIGIN,
        )
    assert reason(error) in {
        "passkey.malformed",
        "passkey.rp_id",
        "passkey.user_presence",
        "statement.altered",
    }


@pytest.mark.parametrize("key", ["", "AAAA", "!", b64(cbor2.dumps({1: 2})), b64(cbor2.dumps([]))])
def test_a_key_on_record_that_is_none_verifies_nothing(key: str) -> None:
    device = Authenticator()
    signer = Signer.model_validate({**device.signer(), "public_key": key})
    with pytest.raises(InvalidStatement) as error:
        verify(GRANT_TAG, TEXT, EVIDENCE.validate_python(device.sign(over())), signers=[signer])
    assert reason(error) == "statement.altered"


@pytest.mark.parametrize(
    "signer",
    [
        {"id": "a", "kind": "device", "public_key": "b"},
        {"id": "a", "kind": "device", "public_key": "a", "rp_id": RP_ID},
        {"id": "a", "kind": "passkey", "public_key": "k"},
        {"id": "a", "kind": "passkey", "public_key": "k", "rp_id": RP_ID},
    ],
    ids=str,
)
def test_a_signer_is_what_it_says(signer: dict[str, str]) -> None:
    """Evidence finds its key by the id: another key behind a device's would sign in its name."""
    with pytest.raises(ValueError, match=r"key is its own id|bound to a site"):
        Signer.model_validate(signer)


# ── a person with a passkey grants ────────────────────────────────────────────────────────────────────────


class Owner:
    """Somebody with an account, a likeness that an operator vouched for, and one passkey."""

    def __init__(self, world: World) -> None:
        self.world, self.passkey, self.app = world, Authenticator(counter=3), world.app()
        # Their account has no device key: this one is never on record.
        self.someone = Someone(
            PersonId(new_id("person")), CameoId(new_id("cameo")), Ed25519PrivateKey.generate()
        )
        self.person = person = self.someone.person_id
        held = Signer.model_validate(self.passkey.signer())

        def operation(tx: Transaction) -> None:
            key = Credential(held.id, person, held.kind, held.public_key, 0, held.rp_id, held.origin)
            tx.add_person(Person(person, "Ada", created_at=0), key)
            tx.add_cameo(Cameo(self.someone.cameo_id, person, likeness=b"", portrait=b""))
            list_key = tx.held(person).list_key_digest
            account = {"key": held.model_dump(mode="json"), "list_key": list_key}
            tx.append("account", person, [About(person, "owner", account)], at=world.at)
            likeness = {
                "cameo_id": self.someone.cameo_id,
                "enrolment": {"born_on": "1980-01-01", "person_id": person},
                "list_key": list_key,
            }
            tx.append("enrolment", self.someone.cameo_id, [About(person, "owner", likeness)], at=world.at)

        world.ledger.transact(operation)

    def draft(self, **changes: Any) -> dict[str, Any]:
        return self.world.draft(self.someone, self.app, **changes)

    def signed(self, draft: dict[str, Any]) -> dict[str, str]:
        return self.passkey.sign(over(parse_grant(draft).signed_bytes()))

    def record(self, draft: dict[str, Any], answer: dict[str, str]) -> None:
        evidence = EVIDENCE.validate_python(answer)
        record_grant(self.world.ledger, SignedGrant(self.person, draft, evidence), at=self.world.at)

    def refused(self, draft: dict[str, Any], answer: dict[str, str]) -> str:
        before = self.world.ledger.checkpoint()
        with pytest.raises(InvalidStatement) as error:
            self.record(draft, answer)
        assert self.world.ledger.checkpoint() == before
        return reason(error)

    def counter(self) -> int:
        with self.world.ledger.reading() as tx:
            held = tx.credential(self.passkey.id)
        assert held is not None
        return held.sign_count


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    ledger, keyring = open_ledger(tmp_path)
    yield Owner(World(ledger, keyring, tmp_path))
    ledger.close()


def test_a_grant_is_signed_with_a_passkey_and_its_evidence_convinces_anyone_later(owner: Owner) -> None:
    draft = owner.draft(max_uses=2)
    owner.record(draft, owner.signed(draft))
    assert owner.counter() == 3
    (entry,) = owner.world.entries(owner.person, "grant")
    kept = json.loads(json.dumps(entry.body))
    # Offline: the text, the evidence and the key as it was registered, and nothing of ours.
    evidence = EVIDENCE.validate_python(kept["evidence"])
    assert isinstance(evidence, PasskeyAssertion)
    text = parse_grant(kept["grant"]).signed_bytes()
    signer = Signer.model_validate(owner.world.entries(owner.person, "account")[0].body["key"])
    assert verify(GRANT_TAG, text, evidence, signers=[signer]).signer == signer
    # … and the whole list tells the same, in order.
    story = replay([(one.index, one.body) for one in owner.world.entries(owner.person)], 2**40)
    assert [str(grant) for grant in story.standing.grants] == [draft["grant_id"]]


@pytest.mark.parametrize(
    "change", [{"max_uses": 1000}, {"audience": "everyone"}, {"preferences": []}], ids=str
)
def test_a_grant_altered_after_the_passkey_signed_it_is_not_recorded(
    owner: Owner, change: dict[str, Any]
) -> None:
    draft = owner.draft(preferences=["no alcohol"])
    assert owner.refused({**draft, **change}, owner.signed(draft)) == "statement.altered"
    assert owner.counter() == 0


def test_an_assertion_is_good_for_one_grant_once(owner: Owner) -> None:
    draft = owner.draft()
    answer = owner.signed(draft)
    owner.record(draft, answer)
    assert owner.refused(draft, answer) == "grant.replayed"
    assert owner.refused(owner.draft(), answer) == "statement.altered"


def test_a_copied_passkey_is_found_out_by_its_counter(owner: Owner) -> None:
    first = owner.draft()
    owner.passkey.counter = 9
    owner.record(first, owner.signed(first))
    assert owner.counter() == 9
    for said in (9, 4, 0):
        owner.passkey.counter = said
        draft = owner.draft()
        assert owner.refused(draft, owner.signed(draft)) == "passkey.counter"
    owner.passkey.counter = 10
    owner.record(draft, owner.signed(draft))
    assert owner.counter() == 10


def test_a_refused_grant_leaves_the_counter_where_it_was(owner: Owner) -> None:
    draft = owner.draft(grantee={"type": "app", "id": new_id("app")})
    assert owner.refused(draft, owner.signed(draft)) == "grant.unknown_grantee"
    assert owner.counter() == 0


def test_a_passkey_that_was_removed_signs_nothing_more_and_what_it_signed_stays(owner: Owner) -> None:
    draft, later = owner.draft(), owner.draft()
    owner.record(draft, owner.signed(draft))
    answer = owner.signed(later)
    removed = {"change": "removed", "key": owner.passkey.signer(), "how": "session"}
    owner.world.tell(owner.someone, "device", **removed)
    assert owner.refused(later, answer) == "statement.wrong_signer"
    assert owner.world.allow(owner.app, owner.someone)
    replay([(one.index, one.body) for one in owner.world.entries(owner.person)], 2**40)


# ── the specification's examples ──────────────────────────────────────────────────────────────────────────

UNVERIFIED = "passkey.user_verification"
EXPECTED: dict[str, tuple[str | None, str | None]] = {
    "none-es256": (UNVERIFIED, UNVERIFIED),
    "packed-self-es256": (None, UNVERIFIED),
    "none-es256-crossOrigin": ("passkey.origin", "passkey.origin"),
    "none-es256-topOrigin": ("passkey.origin", "passkey.origin"),
    "none-es256-long-credential-id": (UNVERIFIED, None),
    "packed-es256": (None, None),
    "packed-es384": (UNVERIFIED, "statement.altered"),  # an algorithm nobody is offered here
    "packed-es512": ("passkey.malformed", UNVERIFIED),
    "packed-rs256": (None, UNVERIFIED),
    "packed-eddsa": (UNVERIFIED, UNVERIFIED),
    "packed-ed448": (UNVERIFIED, "statement.altered"),
}
"""Of each of the specification's examples: why its registration and its assertion are refused here, if they are.

Most of them are of a holder who was not verified, or of a page inside another one. Both count for nothing here."""


def test_every_example_of_the_specification_is_looked_at() -> None:
    assert [vector["section"] for vector in GOLDEN["vectors"]] == [
        f"#sctn-test-vectors-{name}" for name in EXPECTED
    ]


@pytest.mark.parametrize("vector", GOLDEN["vectors"], ids=lambda vector: vector["section"])
def test_the_specifications_examples_are_verified_or_refused_by_name(vector: dict[str, Any]) -> None:
    where: dict[str, Any] = {"rp_id": GOLDEN["rp_id"], "origin": GOLDEN["origin"]}
    made, asserted = (
        {name: bytes.fromhex(value) for name, value in vector[which].items()}
        for which in ("registration", "authentication")
    )
    names = b64(made["credential_id"])
    fields = {name: b64(made[name]) for name in ("clientDataJSON", "attestationObject")}
    answer = {"id": names, "rawId": names, "type": "public-key", "response": fields}
    # The key as the authenticator said it (§6.5.1): after the credential's id, to the end.
    key = cbor2.loads(made["attestationObject"])["authData"].split(made["credential_id"])[1]
    evidence = Assertion(
        names, *(b64(asserted[name]) for name in ("authenticatorData", "clientDataJSON", "signature"))
    )

    def outcome(act: Callable[[], object]) -> str | None:
        try:
            act()
        except InvalidStatement as error:
            return error.reason.id
        return None

    def registration() -> None:
        registered = register(answer, challenge=made["challenge"], **where)
        assert (registered.credential_id, registered.public_key) == (names, b64(key))

    def assertion() -> None:
        assert passkey.check(asserted["challenge"], evidence, public_key=b64(key), **where) == 0
        for other in (made["challenge"], bytes(32)):
            with pytest.raises(InvalidStatement):
                passkey.check(other, evidence, public_key=b64(key), **where)

    expected = EXPECTED[vector["section"].removeprefix("#sctn-test-vectors-")]
    assert (outcome(registration), outcome(assertion)) == expected
