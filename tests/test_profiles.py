"""What places ask of a clip: the data, and that nothing asked for is lost when several ask."""

import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.settings import Settings
from ledger.provenance.label import Label, Language
from ledger.provenance.profiles import AIGC, PROFILES, UNMARKED, Marking, ProfileId

IDS: tuple[ProfileId, ...] = get_args(ProfileId)
MARKINGS = st.builds(
    Marking,
    profiles=st.lists(st.sampled_from(IDS), unique=True).map(tuple),
    visible_label=st.booleans(),
    language=st.sampled_from(get_args(Language)),
)


def test_every_profile_has_its_data() -> None:
    assert set(PROFILES) == set(IDS)
    assert all(profile.law and profile.says for profile in PROFILES.values())


@given(MARKINGS, MARKINGS)
def test_nothing_that_either_asks_for_is_lost(one: Marking, other: Marking) -> None:
    both = one.beside(other)
    assert set(both.profiles) == {*one.profiles, *other.profiles}
    assert both.says == one.says | other.says
    for asked in (one.label, other.label):
        if asked is not None:
            assert both.label is not None
            assert both.label.least_height >= asked.least_height
            assert both.label.least_area >= asked.least_area
    if one.label is not None and both.label is not None:
        assert set(one.label.languages) <= set(both.label.languages)


@given(MARKINGS)
def test_it_survives_the_permit(marking: Marking) -> None:
    assert Marking.model_validate(json.loads(marking.model_dump_json())) == marking
    assert marking.beside() == marking == marking.beside(UNMARKED)


def test_a_label_is_shown_where_a_law_or_the_app_asks_for_it() -> None:
    assert UNMARKED.label is None
    assert Marking(profiles=("us-ca",)).label is None
    assert Marking(visible_label=True, language="hi").label == Label(("hi",))
    assert Marking(profiles=("eu",), language="de").label == Label(("de",))
    assert Marking(profiles=("in-draft", "cn"), language="en").label == Label(("zh", "en"), 0.06, 0.10)
    assert Marking(profiles=("cn",), language="fr").label == Label(("zh",))


def test_chinas_metadata_has_its_seven_fields() -> None:
    said = Marking(profiles=("cn",)).metadata(provider="Studio Süd", video_id="video_1", payload="00ff")
    assert set(said) == {AIGC}
    assert json.loads(said[AIGC]) == {
        "Label": "1",
        "ContentProducer": "Studio Süd",
        "ProduceID": "video_1",
        "ReservedCode1": "00ff",
        "ContentPropagator": "",
        "PropagateID": "",
        "ReservedCode2": "",
    }
    for other in IDS:
        if other != "cn":
            assert Marking(profiles=(other,)).metadata(provider="x", video_id="y", payload="z") == {}


@pytest.mark.parametrize("said", [{"profiles": ["mars"]}, {"language": "tlh"}, {"profile": ["eu"]}])
def test_what_nobody_knows_is_refused(said: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Marking.model_validate(said)


def test_the_operator_names_them_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERSIGN_PROFILES", "eu, cn")
    assert Settings().profiles == ("eu", "cn")
    monkeypatch.setenv("COUNTERSIGN_PROFILES", "eu,mars")
    with pytest.raises(ValidationError):
        Settings()
