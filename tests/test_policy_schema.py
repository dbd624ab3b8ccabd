"""The vocabulary is read whole or not at all."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import Unavailable
from safety.policy.cedar import SCHEMA, Policies, read
from safety.policy.facts import DOMAINS, QUESTIONS, OneOf, SetOf, Truth, Whole
from safety.policy.schema import PLAIN, Action, Attribute, Schema

POLICIES = Path(__file__).parent.parent / "policies"
RULE = b'@id("p") @reason("a") @remedy("b") @source("rule: c") @told("anyone") permit (principal, action, resource);'


def normalised(text: str) -> str:
    """As Cedar writes this schema."""
    return Policies({SCHEMA: text.encode(), "all.cedar": RULE}).schema


ACTION = "entity A; action ask appliesTo { principal: [A], resource: [A], context: {} };"


def test_nothing_of_the_schema_is_lost() -> None:
    text = Policies(read(POLICIES)).schema
    assert normalised(str(Schema.parse(text))) == text


names = st.from_regex(r"[a-z][a-z_]{0,6}x", fullmatch=True)  # no reserved word ends so
docs = st.text(st.characters(codec="utf-8"), max_size=12)


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    kinds = draw(st.lists(names.map(str.capitalize), min_size=2, max_size=5, unique=True))
    records = kinds[: draw(st.integers(0, len(kinds) - 1))]
    entities = kinds[len(records) :]

    def record(*named: str) -> dict[str, Attribute]:
        types = st.sampled_from((*PLAIN, *named))
        return draw(st.dictionaries(names, st.builds(Attribute, types, st.booleans(), docs), max_size=4))

    groups = draw(st.lists(names, max_size=3, unique=True))
    actions = {}
    for name in draw(st.lists(names.filter(lambda n: n not in groups), min_size=1, max_size=3, unique=True)):
        parents = tuple(draw(st.lists(st.sampled_from(groups), unique=True))) if groups else ()
        # Each group is in the one before it.
        above = frozenset(groups[: max((groups.index(parent) + 1 for parent in parents), default=0)])
        who, what = (tuple(draw(st.lists(st.sampled_from(entities), min_size=1, unique=True))) for _ in "12")
        context = draw(st.dictionaries(names, st.sampled_from((*PLAIN, *kinds)), max_size=3))
        actions[name] = Action(parents, above, who, what, context)
    return Schema(
        # A record may hold entities and the records before it: Cedar refuses circles.
        {kind: record(*entities, *records[:n]) for n, kind in enumerate(records)},
        {kind: record(*kinds) for kind in entities},
        actions,
        {name: tuple(groups[n - 1 : n] if n else ()) for n, name in enumerate(groups)},
    )


@given(schemas())
def test_what_is_written_is_read_as_it_was(schema: Schema) -> None:
    assert Schema.parse(normalised(str(schema))) == schema


def test_what_it_offers() -> None:
    schema = Schema.parse(Policies(read(POLICIES)).schema)
    assert schema.actions.keys() == QUESTIONS.keys()
    assert schema.actions["use_likeness"].groups == {"making", "depicting"}
    assert schema.actions["clear"].principals == ("Service",)
    assert schema.actions["clear"].context == {"output": "Output", "request": "Request"}
    assert schema.entities["Cameo"]["grant"] == Attribute("Grant", optional=True, doc="a grant to ask under")
    assert schema.types["Grant"]["allowed_contexts"] == "Set<String>"
    assert schema.doc("Grant", "uses") == "the number of uses made of the grant"
    assert schema.doc("Operator", "registered") == "the operator's key is registered"
    assert schema.doc("Grant", "nothing_of_the_kind") == "`nothing_of_the_kind`"


def test_every_attribute_has_a_domain_of_its_type_and_every_domain_an_attribute() -> None:
    schema = Schema.parse(Policies(read(POLICIES)).schema)
    kinds = {Truth: "Bool", Whole: "Long", OneOf: "String", SetOf: "Set<String>"}
    plain = {
        f"{kind}.{attr}": type_
        for kind, record in schema.types.items()
        for attr, type_ in record.items()
        if type_ in PLAIN
    }
    assert plain == {key: kinds[type(domain)] for key, domain in DOMAINS.items()}


def test_every_attribute_says_what_it_states() -> None:
    schema = Schema.parse(Policies(read(POLICIES)).schema)
    records = {**schema.records, **schema.entities}
    assert [f"{k}.{a}" for k, record in records.items() for a, one in record.items() if not one.doc] == []


def test_groups_are_found_through_groups() -> None:
    schema = Schema.parse(
        normalised(f"action top; action mid in [top]; {ACTION.replace('ask', 'ask in [mid]')}")
    )
    assert schema.actions["ask"].groups == {"mid", "top"}
    assert schema.groups == {"mid": ("top",), "top": ()}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("entity B = { n: decimal };", "decimal"),
        ("entity B = { n: ipaddr };", "ipaddr"),
        ("entity B = { n: datetime };", "datetime"),
        ("entity B = { n: Set<Long> };", "Long"),
        ("entity B = { n: Set<A> };", "A"),
        ("entity B = { n: Set<Set<String>> };", "Set"),
        ("entity B = { n: { inner: Long } };", "{"),
        ("entity B = { n: __cedar::Long };", "::"),
        ('entity B = { "a name": Long };', '"a name"'),
        ('entity B = { @because("x") n: Long };', "because"),
        ("entity B = { @doc n: Long };", '@doc("")'),
        ('@doc("x") entity B;', "@"),
        ("entity B in [A];", "in"),
        ("entity B tags String;", "tags"),
        ('entity B enum ["x", "y"];', "enum"),
        ("entity String;", "String"),
        ("type B = Long;", "Long"),
        ("namespace N { entity C; }", "namespace"),
        ("type C = { n: Long }; action b appliesTo { principal: [A], resource: [A], context: C };", "C"),
        ("action b appliesTo { principal: [A], resource: [A], context: { n?: Long } };", "n?"),
        ('action b appliesTo { principal: [A], resource: [A], context: { @doc("x") n: Long } };', "@doc"),
    ],
)
def test_what_it_has_no_place_for_is_refused_by_name(text: str, named: str) -> None:
    with pytest.raises(Unavailable) as refusal:
        Schema.parse(normalised(ACTION + text))
    assert refusal.value.reason.id == "policy.unreadable"
    assert f"the schema uses `{named}`" in refusal.value.reason.sentence


@pytest.mark.parametrize("text", ["entity", "entity A", "entity A = {", "action x appliesTo {", "entity A;;"])
def test_half_a_schema_is_refused(text: str) -> None:
    with pytest.raises(Unavailable):
        Schema.parse(text)
