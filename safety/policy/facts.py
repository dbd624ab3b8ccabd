"""What the policies are asked about: facts, each of an exact type and in a range, and nothing else.

    {"requester": {"app_id": "app_…", "suspended": false},
     "request": {"job_id": "video_…", "action": "generate", "scores": {"sexual": 12, …}, "depicted": 1, …},
     "cameo": {"cameo_id": "cameo_…", "minor": false, "grant": {"uses": 3, "max_uses": 3, …}, …}}

A field's name is the attribute's name in `policies/schema.cedarschema`, and its declared type is the whole range
the policies have to answer for: :data:`DOMAINS` is that range, and proofs quantify over it. Types are compared
exactly: `True` is no count, and a score has no fraction. :data:`QUESTIONS` says which facts each action needs.
"""

import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from types import UnionType
from typing import Annotated, Any, Literal, NewType, get_args, get_origin, get_type_hints

from ledger.canonical import canonical
from ledger.consent.grant import Action, Approval, Audience, Context, Modality, Purpose
from ledger.ids import AppId, CameoId, GrantId, VideoId
from safety.errors import CheckUnavailable

Category = Literal[
    "sexual",
    "minors",
    "violence",
    "hate",
    "self_harm",
    "illicit",
    "obfuscated",
    "harassment",
    "impersonation",
    "political",
]
Check = Literal["nudity", "violence", "minors", "text", "speech", "voices", "known_bad"]
"""What a finished clip is looked at for, beside its faces."""
UNSAFE_FOR_MINORS: frozenset[Context] = frozenset({"sexual", "violent", "romantic"})
MOST = 1_000_000_000
Count = Annotated[int, MOST]
Score = Annotated[int, 1000]
Scores = Mapping[Category, Score]
"""Exactly one score for each category."""


@dataclass(frozen=True, slots=True)
class RequesterFacts:
    app_id: AppId
    suspended: bool


@dataclass(frozen=True, slots=True)
class TrafficFacts:
    """What the app has asked for lately. A minute is a minute of the clock, a day a day in UTC."""

    asked_this_minute: Count
    asked_today: Count
    running: Count
    prechecked_this_minute: Count


@dataclass(frozen=True, slots=True)
class GrantFacts:
    """One grant as it stands at the moment of asking."""

    grant_id: GrantId
    for_requester: bool
    offered_to_everyone: bool
    started: bool
    expired: bool
    revoked: bool
    withdrawn: bool
    """Revoked with the effect `withdraw_all`: clips already made must no longer be shown."""
    modalities: frozenset[Modality]
    purposes: frozenset[Purpose]
    actions: frozenset[Action]
    allowed_contexts: frozenset[Context]
    forbidden_contexts: frozenset[Context]
    audience: Audience
    within_countries: bool
    """The clip is only to be shown where the grant allows it."""
    against_preferences: bool
    """The prompt mentions what the person would rather not be shown with."""
    uses: Count
    max_uses: Count
    approval: Approval
    approved: bool


@dataclass(frozen=True, slots=True)
class CameoFacts:
    cameo_id: CameoId
    active: bool
    erased: bool
    minor: bool
    """Under 18, or of unknown age."""
    guardian_consent: bool
    """A guardian on record signed this grant too."""
    with_adult: bool
    """The request also names somebody of age who is not this person's guardian."""
    guardians_allow_adults: bool
    blocks_requester: bool
    cooling_off: bool
    """The likeness came in by a film, too short a time ago."""
    grant: GrantFacts | None
    """The candidate grant, or none at all."""


@dataclass(frozen=True, slots=True)
class JobFacts:
    job_id: VideoId
    consenting: Count
    """Of the people depicted, how many allow it by their own answer."""
    recorded: bool
    """The ledger holds a decision that allows this very clip. Only asked about at release."""
    copies: Count
    """Clips that were taken down or withdrawn, of which the finished one is a copy. None before there is one."""


@dataclass(frozen=True, slots=True)
class RequestFacts:
    action: Action
    purpose: Purpose
    audience: Audience
    """Whom the clip is meant for."""
    modalities: frozenset[Modality]
    contexts: frozenset[Context]
    scores: Scores
    classifiers_ok: bool
    """Every check of the prompt and the inputs ran; scores and counts mean nothing otherwise."""
    depicted: Count
    """People whose likeness the clip uses."""
    unknown_faces: Count
    """Recognisable people in the inputs whom the request does not name."""
    do_not_generate_matches: Count
    named_people: Count
    """People whom the words name, and the request does not: public figures, and people enrolled here."""
    known_bad_matches: Count
    """Pictures sent that are on a list of known prohibited ones."""
    ledger_ok: bool


@dataclass(frozen=True, slots=True)
class OutputFacts:
    unreadable: bool
    faces_checked: bool
    classifiers_ok: bool
    """Every check other than that of granted faces ran; the rest means nothing otherwise."""
    granted_faces_seen: Count
    """Distinct people seen whom this job has a grant for."""
    ungranted_faces: Count
    """Faces that match none of them."""
    enrolled_faces: Count
    """Of those, faces of people who are enrolled and have not agreed to this clip."""
    ungranted_voices: Count
    """Voices that are of nobody who agreed to be heard."""
    enrolled_voices: Count
    """Of those, voices of people who are enrolled."""
    apparent_minors: Count
    """Faces that may be a minor's, other than those of minors this job has a grant for."""
    do_not_generate_matches: Count
    known_bad_matches: Count
    unchecked: frozenset[Check]
    """What the clip could not be looked at for: there is no model for it here."""
    closed_model: bool
    """The model draws nothing of its own: scenes that come with it, and the portraits of those who agreed."""
    reviewed: bool
    """Reviewers have looked at this very clip, and let it pass."""
    contexts: frozenset[Context]
    """What is written and said in the clip reads as."""
    agreed_contexts: frozenset[Context]
    """Those that everyone this job has a grant of agrees to be shown in."""
    against_preferences: bool
    """It mentions what somebody this job has a grant of would rather not be shown with."""
    granted_minors: Count
    """People under 18, or of unknown age, whom this job has a grant of."""
    scores: Scores


@dataclass(frozen=True, slots=True)
class ClipFacts:
    clip_id: VideoId
    depicted: Count
    released: bool
    quarantined: bool
    taken_down: bool
    viewer_is_requester: bool
    ledger_ok: bool


@dataclass(frozen=True, slots=True)
class ReaderFacts:
    reader_id: str
    role: Literal["owner", "auditor", "operator"]


@dataclass(frozen=True, slots=True)
class ListFacts:
    """Everything recorded about one person."""

    cameo_id: CameoId
    own: bool
    recorded: bool
    """The question is in the log, where the owner sees it."""


@dataclass(frozen=True, slots=True)
class OperatorFacts:
    operator_id: str
    registered: bool


@dataclass(frozen=True, slots=True)
class OrderFacts:
    order_id: str
    seconded: bool
    checked: bool
    """Of an activation: everything :mod:`safety.policy.check` looks at holds."""
    loosens: bool
    """Of an activation: it allows more, takes a right away, drops an invariant or tells people more."""


Facts = (
    RequesterFacts
    | TrafficFacts
    | CameoFacts
    | GrantFacts
    | JobFacts
    | RequestFacts
    | OutputFacts
    | ClipFacts
    | ReaderFacts
    | ListFacts
    | OperatorFacts
    | OrderFacts
)

KINDS: Mapping[str, type[Facts]] = {
    "requester": RequesterFacts,
    "traffic": TrafficFacts,
    "cameo": CameoFacts,
    "job": JobFacts,
    "request": RequestFacts,
    "output": OutputFacts,
    "clip": ClipFacts,
    "reader": ReaderFacts,
    "list": ListFacts,
    "operator": OperatorFacts,
    "order": OrderFacts,
}
QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "ask": ("requester", "traffic"),
    "precheck": ("requester", "traffic"),
    "generate": ("requester", "job", "request"),
    "use_likeness": ("requester", "cameo", "request"),
    "clear": ("job", "request", "output"),
    "release": ("requester", "job", "request"),
    "release_likeness": ("requester", "cameo", "request"),
    "download": ("requester", "clip", "cameo"),  # no cameo for a clip that shows nobody
    "read_list": ("reader", "list"),
    "erase_list": ("reader", "list"),
    "suspend_app": ("operator", "order"),
    "reinstate_app": ("operator", "order"),
    "activate_policies": ("operator", "order"),
    "pass_clip": ("operator", "order"),
    "refuse_clip": ("operator", "order"),
}
"""For each action, the facts it is decided on."""

PRINCIPALS: Mapping[str, str] = {"requester": "App", "reader": "Reader", "operator": "Operator"}
"""Facts about whoever asks, and their entity type; where there are none, the service asks for itself."""
RESOURCES: Mapping[str, str] = {
    "job": "Job",
    "cameo": "Cameo",
    "clip": "Clip",
    "list": "List",
    "order": "Order",
}
CONTEXTS: Mapping[str, str] = {"traffic": "Traffic", "request": "Request", "output": "Output"}
IDS = frozenset(
    {"app_id", "cameo_id", "grant_id", "job_id", "clip_id", "reader_id", "operator_id", "order_id"}
)
FIELDS = {kind: tuple(f.name for f in fields(kind)) for kind in (*KINDS.values(), GrantFacts)}
TYPES: Mapping[type[Facts], str] = {
    **{KINDS[name]: kind for name, kind in {**PRINCIPALS, **RESOURCES, **CONTEXTS}.items()},
    GrantFacts: "Grant",
}
"""The entity type that facts are in the schema."""


@dataclass(frozen=True, slots=True)
class Later:
    """A fact that schemas from before it do not know."""

    before: Any
    """What it was when nothing said it."""
    at_rest: Callable[[Any], bool]
    """Whether it says nothing against a request; of the facts, or the scores, that it is among."""


def _none(name: str) -> Later:
    return Later(0, lambda facts: getattr(facts, name) == 0)


def _safe_for_minors(output: Any) -> bool:
    """Whether a clip may show minors whom it is granted for; see `policies/minors.cedar`."""
    dangerous = bool(UNSAFE_FOR_MINORS & output.contexts) or output.scores["violence"] >= 300
    return not dangerous and output.ungranted_faces == 0


LATER: Mapping[str, Later] = {
    "Cameo.with_adult": Later(False, lambda cameo: not (cameo.minor and cameo.with_adult)),
    "Cameo.guardians_allow_adults": Later(False, lambda _: True),
    "Grant.within_countries": Later(True, lambda grant: bool(grant.within_countries)),
    "Grant.against_preferences": Later(False, lambda grant: not grant.against_preferences),
    "Cameo.cooling_off": Later(False, lambda cameo: not cameo.cooling_off),
    "Request.named_people": _none("named_people"),
    "Request.known_bad_matches": _none("known_bad_matches"),
    "Output.enrolled_faces": _none("enrolled_faces"),
    "Output.ungranted_voices": _none("ungranted_voices"),
    "Output.enrolled_voices": _none("enrolled_voices"),
    "Output.known_bad_matches": _none("known_bad_matches"),
    "Output.unchecked": Later(frozenset(), lambda output: output.closed_model or not output.unchecked),
    "Output.closed_model": Later(False, lambda _: True),
    "Output.reviewed": Later(False, lambda _: True),
    "Output.contexts": Later(frozenset(), lambda output: output.contexts <= output.agreed_contexts),
    "Output.agreed_contexts": Later(frozenset(), lambda _: True),
    "Output.against_preferences": Later(False, lambda output: not output.against_preferences),
    "Output.granted_minors": Later(0, lambda output: output.granted_minors == 0 or _safe_for_minors(output)),
    "Job.copies": _none("copies"),
    "Scores.harassment": Later(0, lambda scores: scores["harassment"] < 500),
    "Scores.impersonation": Later(0, lambda scores: scores["impersonation"] < 500),
    "Scores.political": Later(0, lambda _: True),
}
"""By `Type.attribute`. Append only, and no fact is taken away: a set that ever decided is asked again in the words it had."""


def attributes(facts: Facts) -> dict[str, object]:
    """What Cedar sees of these facts: all but the id, and but what is an entity of its own."""
    return {name: getattr(facts, name) for name in FIELDS[type(facts)] if name not in IDS and name != "grant"}


# As they are written down ------------------------------------------------------------------------------


def as_json(facts: Facts | None, *, unknown: frozenset[str] = frozenset()) -> dict[str, Any] | None:
    """Sets become sorted lists; everything else is JSON as it is. `unknown`: those of :data:`LATER` to leave out."""
    if facts is None:
        return None
    kind = TYPES[type(facts)]
    return {
        name: _plain(getattr(facts, name), unknown)
        for name in FIELDS[type(facts)]
        if f"{kind}.{name}" not in unknown
    }


def known(scores: Mapping[str, int], unknown: frozenset[str]) -> dict[str, int]:
    """The scores that a schema knows."""
    return {category: score for category, score in scores.items() if f"Scores.{category}" not in unknown}


def filled(kind: type[Any], written: Mapping[str, Any]) -> dict[str, Any]:
    """What was written, with what it is from before of. Scores, too."""
    name = TYPES[kind]
    values = {key.partition(".")[2]: one.before for key, one in LATER.items() if key.startswith(f"{name}.")}
    plain = {field: _plain(value, frozenset()) for field, value in values.items()}
    made = {**plain, **written}
    if "scores" in made:
        made["scores"] = filled_scores(made["scores"])
    return made


def filled_scores(scores: Mapping[Any, int]) -> dict[Category, int]:
    """One score for each category, whenever they were written down."""
    return {**{key.partition(".")[2]: 0 for key in LATER if key.startswith("Scores.")}, **scores}


def highest(readings: Iterable[Mapping[Category, int]]) -> dict[Category, Score]:
    """Of each category the highest score that any reading gives it. Raises CheckUnavailable for what is no score.

    A score that is not a number is higher than nothing, so taking the highest would lose it, and allow.
    """
    scores: dict[Category, Score] = dict.fromkeys(get_args(Category), 0)
    for reading in readings:
        for category, score in reading.items():
            if category not in scores or type(score) is not int or not 0 <= score <= get_args(Score)[1]:
                raise CheckUnavailable(
                    "check.no_score",
                    "a check gave an answer that is no score",
                    "try again; what was asked is refused",
                )
            scores[category] = max(scores[category], score)
    return scores


def all_scored(scores: Mapping[Category, int]) -> dict[Category, Score]:
    """A score for each category. Raises CheckUnavailable where one is missing, or is none."""
    found = highest((scores,))
    if scores.keys() != found.keys():
        raise CheckUnavailable(
            "check.no_score", "a check left out some of its scores", "try again; what was asked is refused"
        )
    return found


def _plain(value: Any, unknown: frozenset[str]) -> Any:
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, Mapping):
        return known(value, unknown)
    return as_json(value, unknown=unknown) if isinstance(value, GrantFacts) else value


def from_json(kind: type[Any], written: Mapping[str, Any] | None) -> Any:
    """The facts that :func:`as_json` wrote, now or before some were added. What is wrong with them, if anything, :func:`flaws` says."""
    if written is None:
        return None
    values = {name: frozenset(v) if isinstance(v, list) else v for name, v in filled(kind, written).items()}
    if kind is CameoFacts:
        values["grant"] = from_json(GrantFacts, written["grant"])
    return kind(**values)


def digest(key: bytes, **facts: Any) -> str:
    """HMAC-SHA256, hex, of the RFC 8785 JSON of these facts. Keyed: so few facts could be found by trying them all."""
    return hmac.digest(key, canonical(facts), "sha256").hex()


# As stated ---------------------------------------------------------------------------------------------

_TERM = re.compile(r"[A-Za-z0-9][A-Za-z0-9:/._#-]{0,199}")
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,200}")


@dataclass(frozen=True, slots=True)
class Truth:
    """True or false."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from 0 to `most`."""

    most: int


@dataclass(frozen=True, slots=True)
class OneOf:
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SetOf:
    words: tuple[str, ...]


Domain = Truth | Whole | OneOf | SetOf


def _domains() -> dict[str, Domain]:
    found: dict[str, Domain] = {
        f"Scores.{category}": Whole(get_args(Score)[1]) for category in get_args(Category)
    }
    for facts, name in TYPES.items():
        for field, hint in get_type_hints(facts, include_extras=True).items():
            domain = _domain(hint)
            if field not in IDS and domain is not None:
                found[f"{name}.{field}"] = domain
    return found


def _domain(hint: Any) -> Domain | None:
    if hint is bool:
        return Truth()
    match get_origin(hint):
        case origin if origin is Annotated:
            return Whole(get_args(hint)[1])
        case origin if origin is Literal:
            return OneOf(get_args(hint))
        case origin if origin is frozenset:
            return SetOf(get_args(get_args(hint)[0]))
        case _:
            return None


DOMAINS = _domains()
"""Every value that can reach a policy, by `Type.attribute` of the schema: `{"Grant.uses": Whole(10**9), …}`."""


def flaws(name: str, kind: type[Facts], facts: object) -> list[str]:
    """What is wrong with these facts: one sentence each, quoting no value that came from outside."""
    if type(facts) is not kind:
        return [f"the facts about the {name} are missing"]
    found: list[str] = []
    for field, valid, expected in _RULES[kind]:
        value = getattr(facts, field)
        if not valid(value):
            found.append(f"the fact `{name}.{field}` is not {expected}")
        elif field == "grant" and value is not None:
            found += flaws("grant", GrantFacts, value)
    return found


_Rule = tuple[Callable[[Any], bool], str]


def _rule_of(hint: Any) -> _Rule:  # noqa: PLR0911 — one line for each type a fact may have
    """The test that a field's declared type stands for."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is bool:
        return lambda v: type(v) is bool, "true or false"
    if hint is str:
        return lambda v: type(v) is str and _NAME.fullmatch(v) is not None, "a name"
    if isinstance(hint, NewType):
        return lambda v: type(v) is str and _TERM.fullmatch(v) is not None, "an identifier"
    if origin is Annotated:
        limit = args[1]
        return lambda v: type(v) is int and 0 <= v <= limit, f"a whole number from `0` to `{limit}`"
    if origin is Literal:
        return lambda v: type(v) is str and v in args, "one of " + ", ".join(f"`{a}`" for a in args)
    if origin is frozenset:
        valid, expected = _rule_of(args[0])
        return lambda v: type(v) is frozenset and all(map(valid, v)), f"a set of: {expected}"
    if origin is UnionType:
        return lambda v: v is None or type(v) is args[0], "a grant or none"
    if hint == Scores:
        valid, expected = _rule_of(Score)
        named = frozenset(get_args(Category))
        return (
            lambda v: isinstance(v, Mapping) and v.keys() == named and all(map(valid, v.values())),
            f"one score for each category, {expected}",
        )
    raise TypeError(f"`{hint}` is not a type of fact")


_RULES = {
    kind: tuple((f, *_rule_of(hint)) for f, hint in get_type_hints(kind, include_extras=True).items())
    for kind in FIELDS
}
