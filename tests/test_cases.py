"""The decision table as it is read: strictly, so that no case is passed over or says what nobody meant."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from ledger.errors import Unavailable
from safety.policy import cases
from safety.policy.cases import Case, document, read
from safety.policy.engine import Engine, query
from safety.policy.facts import CameoFacts
from test_policies import BASES, ENGINE, POLICIES, TABLE

CASE = {
    "intent": "the grant has expired",
    "ask": "use_likeness",
    "base": "adult",
    "with": {"cameo.grant.expired": True},
    "forbidden_by": ["consent.expired"],
}
Table = dict[str, Any]


def written(**changes: Any) -> bytes:
    return json.dumps({"bases": BASES, "cases": [{**CASE, **changes}]}).encode()


def test_a_case_is_a_base_with_a_few_facts_replaced() -> None:
    (case,) = read(written())
    assert (case.intent, case.action) == (CASE["intent"], "use_likeness")
    assert case.forbidden_by == frozenset({"consent.expired"})
    cameo: CameoFacts = case.facts["cameo"]
    assert cameo.grant is not None
    assert cameo.grant.expired
    assert cameo.grant.modalities == frozenset({"face", "voice"})
    assert case.facts.keys() == {"requester", "cameo", "request"}
    assert case.query == query(case.action, case.facts)


def test_a_base_may_be_like_another_and_changes_neither() -> None:
    before = json.dumps(BASES)
    minor = document(BASES, "minor", {"cameo.grant.approved": True})
    assert (minor["cameo"]["minor"], minor["cameo"]["grant"]["approved"]) == (True, True)
    assert document(BASES, "adult", {})["cameo"]["minor"] is False
    assert json.dumps(BASES) == before


def test_a_case_says_how_a_set_answers_otherwise() -> None:
    def fault(**changes: Any) -> str | None:
        (case,) = read(written(**changes))
        return case.fault(ENGINE)

    assert fault() is None
    assert fault(**{"with": {}}) == "`the grant has expired`: allowed"
    assert fault(forbidden_by=[]) == "`the grant has expired`: denied by consent.expired"
    assert fault(forbidden_by=["consent.revoked", "consent.expired"]) == (
        "`the grant has expired`: denied by consent.expired, not by consent.expired, consent.revoked"
    )


def test_every_case_is_at_fault_with_a_set_that_denies_everything_or_for_other_reasons() -> None:
    missing = Engine.missing("")
    assert all(case.fault(missing) is not None for case in TABLE)


def _with(at: str, value: object) -> Callable[[Table], None]:
    def change(table: Table) -> None:
        *parents, last = at.split("/")
        inner: Any = table
        for parent in parents:
            inner = inner[int(parent) if parent.isdigit() else parent]
        inner[last] = value

    return change


def _without(name: str) -> Callable[[Table], None]:
    return lambda table: table["cases"][0].pop(name)


def _twice(table: Table) -> None:
    table["cases"].append({**CASE, "with": {}, "forbidden_by": []})


_BAD: dict[str, Callable[[Table], None]] = {
    "no cases": lambda table: table.pop("cases"),
    "no bases": lambda table: table.pop("bases"),
    "cases that are no list": _with("cases", 3),
    "two cases of one intent": _twice,
    **{f"a case without {name}": _without(name) for name in CASE},
    "a case with more than a case has": _with("cases/0/because", "so"),
    "an action that nobody asks about": _with("cases/0/ask", "use_likenes"),
    "a base that is not there": _with("cases/0/base", "adlut"),
    "a base that is like itself": _with("bases/adult", {"like": "adult", "with": {}}),
    "a fact that is not there": _with("cases/0/with", {"cameo.grant.expird": True}),
    "a fact of nothing": _with("cases/0/with", {"cameo.grant.expired.since": True}),
    "a fact beneath no grant": _with("cases/0/with", {"cameo.grant": None, "cameo.grant.expired": True}),
    "a fact of a wrong type": _with("cases/0/with", {"cameo.grant.expired": 1}),
    "a fact out of range": _with("cases/0/with", {"request.depicted": -1}),
    "a word that is none of the fact's": _with("cases/0/with", {"request.contexts": ["sad"]}),
    "facts that are a word": _with("cases/0/with", {"requester": "app_1"}),
    "facts that are missing": _with("cases/0/with", {"requester": None}),
    "facts with one too many": _with("bases/adult/requester/trusted", True),
    "changes that are a list": _with("cases/0/with", ["cameo.grant.expired"]),
    "a case that is a list": _with("cases", [list(CASE)]),
    "policies that are a word": _with("cases/0/forbidden_by", "consent.expired"),
    "an intent that is no text": _with("cases/0/intent", None),
}


@pytest.mark.parametrize("name", _BAD)
def test_a_table_that_is_wrong_is_refused_whole(name: str) -> None:
    table = json.loads(written())
    _BAD[name](table)
    with pytest.raises(Unavailable, match="the decision table cannot be used"):
        read(json.dumps(table).encode())


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b"\xff", b"3", b"[" * 100_000], ids=lambda data: repr(data[:2])
)
def test_bytes_that_are_no_table_are_refused(data: bytes) -> None:
    with pytest.raises(Unavailable, match="the decision table cannot be used"):
        read(data)


def test_a_flaw_names_the_case_and_the_fact() -> None:
    with pytest.raises(
        Unavailable, match=r"`the grant has expired`: the fact `request.depicted` is not a whole"
    ):
        read(written(**{"with": {"request.depicted": 0.5}}))


def test_the_table_of_this_service_has_one_line_for_each_case() -> None:
    lines = (POLICIES / cases.FILE).read_text().splitlines()
    intents = [json.loads(line.rstrip(","))["intent"] for line in lines if line.startswith('  {"intent"')]
    assert intents == [case.intent for case in TABLE]
    for case in TABLE:
        assert isinstance(case, Case)
        assert case.intent[0].islower() or case.intent[0].isdigit()
