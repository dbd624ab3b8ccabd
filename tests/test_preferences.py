"""What a person would rather not be shown with: found however it is written, and in nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.consent.preference import telling
from ledger.errors import InvalidStatement
from safety.preferences import against
from safety.prompt import readings
from world import World

FOUND = [
    # As it is said.
    ("no alcohol", "a toast with alcohol on a terrace"),
    ("No Alcohol!", "ALCOHOL, neon sign"),
    ("alcohol", "an alcohol-free bar"),
    ("nothing with alcohol or drugs", "a still life of drugs"),
    ("no dogs, cats & horses", "a girl and her cat"),
    ("I would rather not be shown in swimming pools", "two pools for swimming"),
    ("no TV", "in front of the TV"),
    ("no 88", "a shirt that says 88"),
    ("без алкоголя", "портрет алкоголя"),
    ("酒", "他在喝酒"),
    ("술", "그는 술을 마신다"),
    # In its other forms.
    *(("no drink", f"a man {form} by a lake") for form in ("drinks", "drinking", "drank", "drinker")),
    *(("no smoking", f"she {form} a pipe") for form in ("smokes", "smoke", "smoked", "smokers")),
    ("no parties", "a birthday party"),
    ("no party", "partying all night"),
    ("no knives", "a kitchen knife"),
    ("no wolf", "a pack of wolves"),
    ("no gun", "he is gunning for the win"),
    ("no guns", "a gun on the table"),
    ("no running", "to run, and a runner who runs"),
    ("no buses", "a red bus"),
    ("no bus", "two red buses"),
    ("no women", "a woman"),
    ("no man", "three men"),
    ("no glove", "black gloves"),
    ("no potatoes", "a potato"),
    ("no crying", "he cries"),
    ("no alcohol", "an alcoholic drink"),
    ("no weapons", "the weaponry of a samurai"),
    # In disguise.
    ("no alcohol", "a toast with 4lc0h0l"),
    ("no alcohol", "a toast with alc\u043eh\u043el"),
    ("no alcohol", "a l c o h o l"),
    ("no alcohol", "a.l.c.o.h.o.l on the table"),
    ("no alcohol", "al-co-hol"),
    ("no alcohol", "alcooooohol"),
    ("no alcohol", "\uff41\uff4c\uff43\uff4f\uff48\uff4f\uff4c"),
    ("no alcohol", "al\u200bco\u00adhol"),
    ("no alcohol", "a\u0337l\u0337c\u0337o\u0337h\u0337o\u0337l\u0337"),
    ("no alcohol", "aportraitofmewithalcoholinmyhand"),
    ("no dogs", "a walk with my d0g"),
    ("no guns", "a g\u00fcn"),
    # In German.
    *(("keine Hunde", f"ein Bild mit {form}") for form in ("Hund", "Hunden", "Hundes", "Jagdhunden")),
    *(("bitte keine Waffen", f"mit der {form}") for form in ("Waffe", "Schusswaffe")),
    *(("Bär und Messer ohne mich", form) for form in ("zwei Bären", "BAER", "des Messers")),
    *(("keine Getränke", form) for form in ("ein Getränk", "mit Getraenken", "getranke")),
    *(("nicht beim Rauchen", f"beim und {form}") for form in ("raucht", "Rauchen", "rauchend")),
    ("keine Häuser", "ein Haus"),
    ("kein Haus", "zwischen Häusern"),
    ("keine Freundinnen", "eine Freundin"),
    ("ohne Alkohol", "eine Alkoholflasche"),
    ("keine Straßen", "auf der Strasse"),
]


@pytest.mark.parametrize(("preference", "prompt"), FOUND)
def test_what_is_mentioned_is_found(preference: str, prompt: str) -> None:
    assert against(prompt, [preference])
    assert against(f"a sunset; {prompt}, golden light", ["no spiders", preference])


NOT_FOUND = [
    ("no alcohol", "a glass of water at sunset"),
    ("no wine", "the winner of the race, winning by a nose"),
    ("no parties", "a part of the city, and its participants"),
    ("no swimming pools", "a game of pool"),
    ("no dogs", "do go, thunder"),
    ("no guns", "it has begun"),
    ("no fast cars", "a scar, fast asleep; the cards"),
    ("no planes", "a plan of the house"),
    ("no flowers", "the flow of the river"),
    ("no rats", "at any rate"),
    ("no cats", "a category of catalogues"),
    ("keine Hunde", "hundert Leute; thunder"),
    ("kein Wein", "allein im Wald"),
    ("keine Katzen", "eine Katastrophe"),
    ("no bears", "a beard"),
    ("88", "18 people"),
    ("酒", "他在喝茶"),
]


@pytest.mark.parametrize(("preference", "prompt"), NOT_FOUND)
def test_what_is_only_spelt_alike_is_not(preference: str, prompt: str) -> None:
    assert not against(prompt, [preference])


def test_a_grant_in_german_has_german_endings_undone_where_the_words_do_not_show_it() -> None:
    assert not against("die Katze", ["Katzen"], "en")
    assert against("die Katze", ["Katzen"], "de")
    assert against("die Katze", ["Katzen"], "de-AT")


def test_without_preferences_nothing_is_against_them() -> None:
    assert not against("alcohol", [])


@pytest.mark.parametrize(
    "preference", ["no", "please do not show me", "ohne mich", "...", "🍺🍺", "a b", "nichts, bitte"]
)
def test_a_preference_that_names_nothing_rules_everything_out_and_is_not_signed(
    world: World, preference: str
) -> None:
    """It could not be kept to otherwise; so the person is told before they sign it."""
    assert telling(preference) == []
    assert against("a sunset", [preference])
    app, ada = world.app(), world.enrol()
    with pytest.raises(InvalidStatement) as refusal:
        world.grant(ada, app, preferences=["no alcohol", preference])
    assert refusal.value.reason.id == "grant.preference"
    assert f"`{preference}` names nothing" in refusal.value.reason.sentence
    assert world.entries(ada.person_id, "grant") == []
    world.grant(ada, app, preferences=["no alcohol"])


WORDS = st.sampled_from(
    ["alcohol", "dog", "smoke", "drink", "party", "wolf", "Hund", "Waffe", "Bär", "snake", "clown"]
)


AROUND = st.text(alphabet="abcdefghijklmnopqrstuvwxyz ABC.,;!?-'\"()\n", max_size=60)


@given(WORDS, AROUND, AROUND)
def test_law_a_word_that_is_said_is_found_whatever_stands_around_it(
    word: str, before: str, after: str
) -> None:
    assert against(f"{before} {word} {after}", [f"no {word}"], "de")


@given(st.text(max_size=200), st.lists(st.text(min_size=2, max_size=40), max_size=3))
def test_law_holding_words_against_words_never_fails(prompt: str, preferences: list[str]) -> None:
    assert against(prompt, preferences) == against(prompt, preferences)
    assert against(prompt, []) is False


@given(st.lists(WORDS, min_size=1, max_size=4), st.permutations(["a", "red", "and", "old"]))
def test_law_more_preferences_rule_out_no_less(words: list[str], around: list[str]) -> None:
    prompt = " ".join([*around, words[0]])
    assert against(prompt, words)
    assert against(prompt, [*words, "no spiders"])


def test_every_reading_of_a_text_is_read() -> None:
    assert readings("a d0g")[0] == "a d0g"
    assert "a dog" in readings("a d0g")
    assert len(set(readings("c4t5 and d0g5"))) == len(readings("c4t5 and d0g5"))
