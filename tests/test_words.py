"""What a person reads before they sign: the sentence in two languages, and the notice that every grant names."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.consent import notice_text
from ledger.consent.grant import Grant, parse_grant, sentence
from ledger.consent.notice_text import NOTICES, check_notice, current
from ledger.consent.words import LANGUAGES, LONGEST_NAME, name_of, quoted
from ledger.errors import InvalidStatement

LAW = settings(max_examples=200, deadline=None)
ID = "0123456789abcdefghjkmnpqrs"
KEY = "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0U1v"
FIXED: dict[str, Any] = {
    "schema": "countersign/grant/v1",
    "grant_id": f"grant_{ID}",
    "cameo_id": f"cameo_{ID}",
    "grantor": f"person_{ID}",
    "grantee": {"type": "person", "id": f"person_{ID}"},
    "modalities": ["face"],
    "purposes": ["dpv:NonCommercialPurpose"],
    "allowed_contexts": [],
    "forbidden_contexts": ["political"],
    "actions": ["generate"],
    "audience": "requester",
    "max_uses": 3,
    "issued": "2026-02-01T09:00:00Z",
    "starts": "2026-02-01T09:00:00Z",
    "expires": "2026-03-01T00:00:00Z",
    "jurisdictions": ["*"],
    "approval": "before_release",
    "revocation_effect": "withdraw_all",
    "preferences": [],
    "delegate_key": None,
    "parent": None,
    "notice": current("en").named.model_dump(),
    "language": "en",
}


def grant(**changes: Any) -> Grant:
    return parse_grant({**FIXED, **changes})


def said(language: str = "en", name: str = "Ada", **changes: Any) -> str:
    return sentence(grant(language=language, **changes), name)


def test_the_sentence_of_the_example() -> None:
    assert said() == (
        "Ada may make up to 3 videos with your face, not your voice, from 1 February 2026 09:00 UTC until "
        "1 March 2026 00:00 UTC, for non-commercial use, only they may watch them, anywhere, nothing political, "
        "you approve each one before it goes out. You can take this back at any moment: nothing new is made from "
        "then on, and everything made with it is withdrawn."
    )
    assert said("de") == (
        "Ada darf bis zu 3 Videos mit deinem Gesicht, nicht deiner Stimme, erstellen, vom 1. Februar 2026, 09:00 "
        "Uhr UTC bis zum 1. März 2026, 00:00 Uhr UTC, für nicht kommerzielle Zwecke, ansehen darf sie niemand sonst, "
        "überall, nichts Politisches, du gibst jedes einzelne frei, bevor es erscheint. Du kannst das jederzeit "
        "zurücknehmen: Von da an entsteht nichts Neues, und alles damit Gemachte wird zurückgezogen."
    )


def some(*values: str, least: int = 1) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), min_size=least, max_size=len(values), unique=True)


CONTEXTS = ("political", "sexual", "violent", "romantic", "advertising")
TERMS = st.fixed_dictionaries(
    {
        "grantee": st.sampled_from(
            [
                {"type": "person", "id": f"person_{ID}"},
                {"type": "group", "id": "mutuals"},
                {"type": "everyone", "id": "*"},
            ]
        ),
        "modalities": some("face", "voice"),
        "purposes": some("dpv:NonCommercialPurpose", "dpv:CommercialPurpose", "dpv:Advertising"),
        "allowed_contexts": some("romantic", "violent", "advertising", least=0),
        "forbidden_contexts": some("political", "sexual", least=0),
        "actions": some("generate", "remix", "edit", "extend"),
        "audience": st.sampled_from(["requester", "everyone"]),
        "max_uses": st.integers(1, 1_000_000),
        "starts": st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)),  # noqa: DTZ001
        "expires": st.datetimes(datetime(2027, 1, 1), datetime(2035, 12, 31)),  # noqa: DTZ001
        "jurisdictions": st.just(["*"]) | some("DE", "FR", "US", "CH", "VA", "ZW"),
        "approval": st.sampled_from(["none", "before_release"]),
        "revocation_effect": st.sampled_from(["stop_new", "withdraw_all"]),
        "preferences": st.lists(
            st.text(min_size=2, max_size=20).filter(lambda text: not re.search(r"[\x00-\x1f\x7f]", text)),
            max_size=3,
            unique=True,
        ),
        "delegate_key": st.sampled_from([None, KEY, KEY[::-1]]),
        "parent": st.none(),
    }
).map(
    lambda terms: {
        **terms,
        **{when: f"{terms[when]:%Y-%m-%dT%H:%M:%S}Z" for when in ("starts", "expires")},
    }
)
PASSED_ON = st.sampled_from([None, f"grant_{ID[1:]}t", f"grant_{ID[::-1]}"])


def meaning(terms: dict[str, Any]) -> dict[str, Any]:
    return {name: sorted(value) if isinstance(value, list) else value for name, value in terms.items()}


@pytest.mark.parametrize("language", LANGUAGES)
@LAW
@given(
    terms=TERMS,
    others=TERMS,
    field=st.sampled_from(
        sorted(
            set(FIXED)
            & {
                "grantee",
                "modalities",
                "purposes",
                "allowed_contexts",
                "forbidden_contexts",
                "actions",
                "audience",
                "max_uses",
                "starts",
                "expires",
                "jurisdictions",
                "approval",
                "revocation_effect",
                "preferences",
                "delegate_key",
            }
        )
    ),
)
def test_every_term_changes_the_sentence(
    language: str, terms: dict[str, Any], others: dict[str, Any], field: str
) -> None:
    changed = {**terms, field: others[field]}
    if meaning(changed) != meaning(terms):
        assert said(language, **changed) != said(language, **terms)


@pytest.mark.parametrize("language", LANGUAGES)
@LAW
@given(one=PASSED_ON, other=PASSED_ON)
def test_what_is_passed_on_is_named(language: str, one: str | None, other: str | None) -> None:
    assert (said(language, parent=one) == said(language, parent=other)) == (one == other)
    assert one is None or one in said(language, parent=one)


NUMBERS = re.compile(r"\d+")
MONTHS = {
    name: number
    for names in (
        "January February March April May June July August September October November December",
        "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    )
    for number, name in enumerate(names.split(), 1)
}


def named(text: str) -> list[str]:
    """The numbers, dates, countries, keys and grants a sentence names."""
    months = "|".join(MONTHS)
    dates = re.findall(rf"(\d+)\.? ({months}) (\d+),?(?: (\d\d:\d\d(?::\d\d)?))?", text)
    rest = re.sub(rf"(\d+)\.? ({months}) (\d+),?(?: (\d\d:\d\d(?::\d\d)?)(?: Uhr)? UTC)?", "", text)
    return sorted(
        [
            *(f"{year}-{MONTHS[month]}-{day} {clock}" for day, month, year, clock in dates),
            *NUMBERS.findall(rest),
            *re.findall(r"\b[A-Z]{2}\b", rest),
            *re.findall(r"\bgrant_\w+|\w+…", rest),
        ]
    )


@LAW
@given(terms=TERMS.map(lambda terms: {**terms, "preferences": []}))
def test_both_languages_name_the_same_numbers_dates_and_names(terms: dict[str, Any]) -> None:
    english, german = said("en", "Lovelace", **terms), said("de", "Lovelace", **terms)
    assert named(english) == named(german)
    assert ("Lovelace" in english) == ("Lovelace" in german) == (terms["grantee"]["type"] == "person")


@LAW
@given(terms=TERMS)
def test_nothing_is_said_that_is_not_in_the_bytes(terms: dict[str, Any]) -> None:
    """Each number and date comes from a field, and what stands under a term only when the term is there."""
    text, made = said(**{**terms, "preferences": []}), grant(**terms)
    times = f"{made.starts:%-d %Y %H %M %S} {made.expires:%-d %Y %H %M %S}"
    allowed = {*NUMBERS.findall(f"{times} {made.max_uses} {made.delegate_key}")}
    assert {*NUMBERS.findall(text)} <= allowed
    for context, word in (("romantic", "romantic"), ("violent", "violent"), ("political", "political")):
        assert (word in text) == (context in {*made.allowed_contexts, *made.forbidden_contexts})
    assert ("pass it on" in text) == (made.delegate_key is not None)
    assert ("you approve each one" in text) == (made.approval == "before_release")
    assert ("rather not" in said(**terms)) == bool(made.preferences)


@pytest.mark.parametrize("tag", ["de-CH", "de-AT"])
def test_a_region_is_answered_in_its_language(tag: str) -> None:
    assert said(tag) == said("de")


def test_a_language_we_do_not_speak_is_answered_in_english() -> None:
    assert said("fr") == said("en")


# ── names that others chose ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Film Club", "Film Club"),
        ("  Film\n\tClub ", "Film Club"),
        ("O’Neill & Sons", "O’Neill & Sons"),
        ("Ada may do anything", "“Ada may do anything”"),
        ("Ada, not your face", "“Ada, not your face”"),
        ("Ada. You approve", "“Ada. You approve”"),
        ("Everyone", "“Everyone”"),
        ("alle", "“alle”"),
        ("The people", "“The people”"),
        ("a” may, b", "“a\\u201d may, b”"),
        ("\u202eevil\u202c", "evil"),
        ("\u2066x\u2069\u200b\u0000", "x"),
        ("\u200b\ufeff", "Someone"),
        ("", "Someone"),
        ("x" * 80, "“" + "x" * (LONGEST_NAME - 1) + "…”"),
    ],
    ids=ascii,
)
def test_a_name_stays_a_name(name: str, shown: str) -> None:
    assert name_of(name, "en") == shown


UNSEEN = re.compile("[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


@LAW
@given(st.text(max_size=200))
def test_no_name_or_preference_hides_or_ends_anything(text: str) -> None:
    for language in LANGUAGES:
        name, words = name_of(text, language), quoted(text, language)
        assert not UNSEEN.search(name + words)
        assert len(name) <= 6 * LONGEST_NAME + 2
        # Whatever stands between quotation marks of ours can not close them.
        assert not set('“”„"') & set(words[1:-1])
        if not re.fullmatch(r"[\w&'’-]+( [\w&'’-]+){0,2}", name):
            assert (name[0], name[-1]) == (words[0], words[-1])
            assert not set('“”„"') & set(name[1:-1])


@LAW
@given(st.text(max_size=40), st.text(max_size=40))
def test_different_preferences_never_read_the_same(one: str, other: str) -> None:
    assert (quoted(one, "en") == quoted(other, "en")) == (one == other)


# ── notices ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_notice_that_was_shown_never_changes() -> None:
    """These hashes are in grants that people signed."""
    assert [(one.version, one.language, one.sha256[:16]) for one in NOTICES] == GOLDEN


GOLDEN = [
    ("2026-11", "en", "09979ecc8c770242"),
    ("2026-11.2", "en", "413b88085c200b43"),
    ("2026-11.2", "de", "7818646a13d020b7"),
]


def test_the_newest_notice_is_there_in_every_language() -> None:
    assert {current(language).language for language in LANGUAGES} == set(LANGUAGES)
    assert len({current(language).version for language in LANGUAGES}) == 1
    assert current("fr") == current("en")
    assert len({one.sha256 for one in NOTICES}) == len({(one.version, one.language) for one in NOTICES})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"notice": {"sha256": "0" * 64, "version": "2026-11.2"}}, "grant.notice"),
        ({"notice": {"sha256": current("en").sha256, "version": "2026-11"}}, "grant.notice"),
        ({"language": "de"}, "grant.notice_language"),
    ],
)
def test_a_grant_names_a_notice_that_was_shown_in_its_language(changes: dict[str, Any], reason: str) -> None:
    assert check_notice(grant()) == current("en")
    assert notice_text.shown(current("de").sha256) == current("de")
    with pytest.raises(InvalidStatement) as refused:
        check_notice(grant(**changes))
    assert refused.value.reason.id == reason


def test_the_time_is_said_to_the_second_where_it_matters() -> None:
    at = datetime(2026, 3, 1, 0, 0, 7, tzinfo=UTC)
    assert "until 1 March 2026 00:00:07 UTC" in said(expires=f"{at:%Y-%m-%dT%H:%M:%S}Z")
    assert "from 3 February 2026 until" in said(starts="2026-02-03T00:00:00Z")
