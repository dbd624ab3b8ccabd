"""The report on a policy set, and what makes a change of it dangerous: one test for each way around it."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from safety.policy import cases, cedar
from safety.policy.check import Comparison, check, compare

POLICIES = Path(__file__).parent.parent / "policies"
FILES = cedar.read(POLICIES)
SET = cedar.Policies(FILES)


def edited(*changes: tuple[str, str]) -> dict[str, bytes]:
    """The set with some text of it replaced, wherever it stands."""
    files = dict(FILES)
    for old, new in changes:
        holders = [name for name, data in files.items() if old.encode() in data]
        assert holders, old
        for name in holders:
            files[name] = files[name].replace(old.encode(), new.encode())
    return files


def without(policy_id: str) -> dict[str, bytes]:
    cut = re.compile(rf'@id\("{re.escape(policy_id)}"\).*?(?=@id\(|\Z)', re.DOTALL)
    return {name: cut.sub("", data.decode()).encode() for name, data in FILES.items()}


def compared(files: Mapping[str, bytes]) -> Comparison:
    return compare(SET, cedar.Policies(files))


def test_a_set_that_only_forbids_more_of_clips_takes_one_operator() -> None:
    prohibited = FILES["prohibited.cedar"].replace(b"scores.hate >= 500", b"scores.hate >= 450")
    tighter = compared({**FILES, "prohibited.cedar": prohibited})
    assert tighter.differences
    assert {found.newly for found in tighter.differences} == {"denied"}
    assert not tighter.loosens


@pytest.mark.parametrize("permit", ["permit.audit", "permit.erase_own_list", "permit.read_own_list"])
def test_taking_a_right_away_takes_two_operators_although_it_only_denies(permit: str) -> None:
    found = compared(without(permit))
    assert {one.newly for one in found.differences} == {"denied"}
    assert found.loosens


def test_a_set_that_no_operator_could_ever_replace_takes_two_operators() -> None:
    rule = (
        '@id("operator.never") @reason("no") @remedy("no") @source("rule: no") @told("anyone")'
        ' forbid (principal, action == Action::"activate_policies", resource);'
    )
    assert compared({**FILES, "zz.cedar": rule.encode()}).loosens


def test_dropping_an_invariant_that_still_holds_takes_two_operators() -> None:
    found = compared(without("never.unchecked"))
    assert found.dropped == ("never.unchecked",)
    assert not found.differences
    assert found.loosens


def test_telling_a_reason_to_more_people_takes_two_operators() -> None:
    """Else one operator could let any app find out who is enrolled, or who has blocked it."""
    standing = FILES["standing.cedar"].decode().replace('@told("holder")', '@told("anyone")')
    found = compared({**FILES, "standing.cedar": standing.encode()})
    assert "standing.blocked" in found.told
    assert not found.differences
    assert found.loosens


def test_quoting_more_in_a_reason_takes_two_operators() -> None:
    found = compared(
        edited(('@reason("this grant has expired")', '@reason("expired after `{grant.uses}` uses")'))
    )
    assert found.told == ("consent.expired",)
    assert found.loosens


def test_a_policy_by_another_name_takes_two_operators() -> None:
    """What is recorded and told goes by it, and so does what the gate makes of a refusal."""
    found = compared(edited(('@id("consent.quorum")', '@id("consent.everyone")')))
    assert found.told == ("consent.quorum",)
    assert found.loosens


def test_a_reason_that_would_tell_anyone_about_a_stranger_does_not_pass() -> None:
    rules = (
        ('@id("x.minor")', "resource.minor"),
        ('@id("x.grant")', "resource has grant && resource.grant.expired"),
    )
    table = (POLICIES / cases.FILE).read_bytes()
    for named, condition in rules:
        rule = (
            f'{named} @reason("r") @remedy("m") @source("rule: s") @told("anyone")'
            f' forbid (principal, action == Action::"use_likeness", resource is Cameo) when {{ {condition} }};'
        )
        report = check({**FILES, "zz.cedar": rule.encode()}, table)
        assert any("tells anyone about a person" in fault for fault in report.faults)
        assert not report.passed


def test_a_set_that_does_not_know_a_fact_does_not_pass() -> None:
    """It would be asked without it: only what was decided under such a set is decided by it again."""
    rules = (
        '@id("all") @reason("r") @remedy("m") @source("rule: s") @told("anyone") permit (principal, action, resource);'
        '@id("x") @reason("r") @remedy("m") @source("rule: s") @told("anyone")'
        " forbid (principal is App, action, resource) when { principal.suspended };"
    )
    table = cases.read((POLICIES / cases.FILE).read_bytes())
    asked = next(case for case in table if case.action == "ask" and not case.forbidden_by)
    assert asked
    schema = FILES[cedar.SCHEMA].decode()
    cut = re.sub(r'\n  @doc\("[^"]*"\) within_countries: Bool,', "", schema)
    assert cut != schema
    bases = (POLICIES / cases.FILE).read_text()
    report = check({cedar.SCHEMA: cut.encode(), "a.cedar": rules.encode()}, bases.encode())
    assert "the schema does not know `Grant.within_countries`" in report.faults
    assert not report.passed
    whole = check({cedar.SCHEMA: schema.encode(), "a.cedar": rules.encode()}, bases.encode())
    assert not any("does not know" in fault for fault in whole.faults)


def test_a_set_without_a_table_or_with_a_wrong_case_does_not_pass() -> None:
    assert any("no decision table" in fault for fault in check(FILES, None).faults)
    table = (POLICIES / cases.FILE).read_text()
    wrong = re.sub(r'"forbidden_by": \["standing\.suspended"\]', '"forbidden_by": []', table, count=1)
    assert wrong != table
    report = check(FILES, wrong.encode())
    assert len(report.faults) == 1
    assert not report.passed
    assert any("not tried" in line for line in report.lines())


def test_a_broken_set_is_a_report_and_no_exception() -> None:
    report = check({**FILES, "zz.cedar": b"permit ("}, None)
    assert not report.passed
    assert "does not parse" in report.faults[0]


@pytest.mark.slow
def test_the_policies_as_they_stand_pass_every_check() -> None:
    report = check(FILES, (POLICIES / cases.FILE).read_bytes())
    assert report.passed, list(report.lines())
    assert report.cases >= 150
    assert len(report.proofs) >= 20
