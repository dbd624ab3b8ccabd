"""Who is named: everybody knows them, or they are enrolled here; and nobody who is not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safety.afterwards import Denied
from safety.prompt import people, screen
from world import World

NAMED = [
    "Taylor Swift sings on a rooftop",
    "T4ylor Sw1ft on a horse",
    "e l o n   m u s k in a car",
    "E.l.o.n M.u.s.k waves",
    "ｔａｙｌｏｒ ｓｗｉｆｔ",
    "tailor swyft dances",
    "taylorswift and a cat",
    "Beyoncé's concert",
    "beyonce walks through rain",
    "Angela Merkels Rede im Bundestag",
    "Barak Obama eats ice cream",
    "keanu reaves as a knight",
    "President Trump at a desk",
    "donald trumps speech",
    "Трамп на сцене",
    "特朗普在跳舞",
    "テイラースウィフトのライブ",
    "Zelenskyy in a studio",
    "Lionel\u200b Messi scores",
    "Rowan Аtkinson drives a small car",
    "Will Smith laughs",
    "egats eht no sgnis tfiws rolyat",
]
NOBODY = [
    "a man named Chris",
    "a woman called Taylor repairs a swift boat",
    "he will smith a sword by hand",
    "nothing can trump this view",
    "a trump card on the table",
    "Madonna and child, oil painting",
    "a jack black as coal",
    "an adele penguin on the ice",
    "the prince kisses the rose",
    "Michael and Jordan play chess",
    "a tall president gives a speech",
    "a portrait in golden sunset light, dust drifting through the air, slow push in",
    "a street by night in the style of Wes Anderson",
    "a swift flies over the tailor's shop",
    "musk ox in the snow",
    "an allen key and a mask",
    "the pope mobile is a white car",
]


@pytest.mark.parametrize("text", NAMED)
def test_somebody_everybody_knows_is_found(text: str) -> None:
    assert screen(text).figures, text


@pytest.mark.parametrize("text", NOBODY)
def test_ordinary_words_name_nobody(text: str) -> None:
    assert not screen(text).figures, text


def test_each_person_counts_once() -> None:
    assert len(screen("Taylor Swift and taylor swift, Swift Taylor").figures) == 1
    assert len(screen("Michelle Obama").figures) == 1
    assert len(screen("Taylor Swift meets Elon Musk").figures) == 2


@given(st.text(st.characters(), min_size=1, max_size=300))
@settings(deadline=None, max_examples=60)
def test_law_looking_for_names_never_fails(text: str) -> None:
    people.figures([text])
    assert all(len(key) >= 5 for key in people.keys([text]))


@pytest.mark.parametrize(
    "name", ["Ada", "Golden Light", "a", "Red Car", "", "Ed Li", "one two three four five six"]
)
def test_a_name_that_could_be_anything_is_not_looked_up(name: str) -> None:
    assert people.key(name) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Mirela Vantongeren", "mirela vantongeren on a beach"),
        ("Mirela Vantongeren", "@mirelavantongeren on a beach"),
        ("Mirela Vantongeren", "M1rela Vantongeren's dog"),
        ("Zoë O'Shaughnessy", "zoe o'shaughnessy smiles"),
    ],
)
def test_an_enrolled_name_is_among_what_is_looked_up(name: str, text: str) -> None:
    assert people.key(name) in screen(text).name_keys


# At the gate --------------------------------------------------------------------------------------------------------

WITH_HER = "mirela vantongeren walks along a beach"


def refused(world: World, request: object) -> set[str]:
    answer = world.gate.decide(request, at=world.at)  # type: ignore[arg-type]
    return {reason.id for reason in answer.reasons} if isinstance(answer, Denied) else set()


def test_a_prompt_that_names_somebody_known_is_refused(world: World) -> None:
    app, ada = world.app(), world.enrol()
    world.grant(ada, app)
    assert refused(world, world.request(app, ada, prompt="Taylor Swift in golden light")) == {
        "prohibited.named_person"
    }
    assert refused(world, world.request(app, ada, prompt="a portrait in golden light")) == set()


def test_somebody_enrolled_may_be_named_only_where_they_are_depicted_and_agreed(world: World) -> None:
    app, ada = world.app(), world.enrol(name="Ada Lovelace")
    her = world.enrol(name="Mirela Vantongeren")
    world.grant(ada, app)
    assert refused(world, world.request(app, ada, prompt=WITH_HER)) == {"prohibited.named_person"}
    # Naming her without a grant tells nothing about what she is called.
    assert "prohibited.named_person" in refused(world, world.request(app, ada, her, prompt=WITH_HER))
    world.grant(her, app)
    assert refused(world, world.request(app, ada, her, prompt=WITH_HER)) == set()


def test_a_precheck_does_not_tell_who_is_enrolled(world: World) -> None:
    app, ada = world.app(), world.enrol(name="Ada Lovelace")
    world.enrol(name="Mirela Vantongeren")
    world.grant(ada, app)
    answers = [
        world.gate.precheck(world.request(app, ada, prompt=prompt), at=world.at)
        for prompt in (WITH_HER, "nora quillfeather walks along a beach")
    ]
    assert answers[0] == answers[1]


def test_who_is_erased_is_not_looked_up_any_more(world: World) -> None:
    app, ada = world.app(), world.enrol(name="Ada Lovelace")
    her = world.enrol(name="Mirela Vantongeren")
    world.grant(ada, app)
    with world.ledger.reading() as tx:
        assert tx.called({"mirelavantongeren"}) == {her.person_id}
    world.ledger.transact(lambda tx: tx.name_cameo(her.person_id, None))
    assert refused(world, world.request(app, ada, prompt=WITH_HER)) == set()
