"""The policy engine: facts in, a ruling with reasons out. It never fails open.

A ruling is allowed only if the policy set was read whole, every fact is of its exact type and in its range,
Cedar answered without a single error, and at least one permit and no forbid applied. Everything else is a
denial with at least one :class:`~ledger.reasons.Reason`, and no method here raises:

| reason id             | what happened                                                         |
|-----------------------|-----------------------------------------------------------------------|
| a policy's id         | that forbid applied; sentence and remedy are the policy's own         |
| `policy.unreadable`   | the policy set is missing, empty or invalid: everything is denied     |
| `policy.error`        | Cedar reported an error, was not decided, or something raised         |
| `policy.default_deny` | no forbid applied and no permit either                                |
| `facts.invalid`       | a fact is missing, of a wrong type, or out of range                   |

The caller folds the ledger into facts at one moment, asks :meth:`Engine.generate` once and
:meth:`Engine.use_likeness` for every person depicted, and needs every ruling to be allowed. What the reasons
say may be shown to the requester: what concerns a grant is left out unless the grant is theirs. `policy_ids`
is complete and meant for the ledger.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, NewType, assert_never, get_args, get_origin, get_type_hints

from ledger.consent.grant import Action, Approval, Audience, Context, Modality, Purpose
from ledger.errors import Unavailable
from ledger.ids import AppId, CameoId, GrantId, VideoId
from ledger.reasons import Reason
from safety import cedar
from safety.cedar import Policy, Query, Uid

Category = Literal["sexual", "minors", "violence", "hate", "self_harm", "illicit", "obfuscated"]
Count = Annotated[int, 1_000_000_000]
Score = Annotated[int, 1000]
Scores = Mapping[Category, Score]
"""Exactly one score for each category."""


@dataclass(frozen=True, slots=True)
class RequesterFacts:
    app_id: AppId
    suspended: bool


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
    uses_left: Count
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
    blocks_requester: bool
    grant: GrantFacts | None
    """The candidate grant, or none at all."""


@dataclass(frozen=True, slots=True)
class RequestFacts:
    job_id: VideoId
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
    apparent_minors: Count
    """Faces that may be a minor's, other than those of minors this job has a grant for."""
    do_not_generate_matches: Count
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


Facts = RequesterFacts | CameoFacts | GrantFacts | RequestFacts | OutputFacts | ClipFacts

_KINDS: Mapping[str, type[Facts]] = {
    "requester": RequesterFacts,
    "cameo": CameoFacts,
    "request": RequestFacts,
    "output": OutputFacts,
    "clip": ClipFacts,
}
_IDS = frozenset({"app_id", "cameo_id", "grant_id", "job_id", "clip_id"})
_SERVICE = Uid("Service", "countersign")


@dataclass(frozen=True, slots=True)
class Ruling:
    allowed: bool
    policy_ids: tuple[str, ...]
    """The policies, or engine rules, that determined it."""
    reasons: tuple[Reason, ...]
    """Why it was denied; none when allowed."""
    policy_set_hash: str

    def __post_init__(self) -> None:
        if self.allowed == bool(self.reasons):
            raise ValueError("a denial has reasons and an allowance has none")


class Engine:
    """One policy set, read once. Immutable, and safe to share between threads."""

    def __init__(
        self, policies: cedar.Policies | None, policy_set_hash: str, fault: Reason | None = None
    ) -> None:
        self._policies = policies
        self.policy_set_hash = policy_set_hash
        self.fault = fault
        """What is wrong with the policy set, for the operator; while there is anything, all is denied."""

    @classmethod
    def load(cls, directory: Path, *, expected: str | None = None) -> "Engine":
        """Never raises: a broken set gives an engine that denies everything and says so.

        `expected` pins the set by its hash: with a file missing or changed, what is left may be valid and weaker.
        """
        files: dict[str, bytes] = {}
        try:
            files = cedar.read(directory)
            found = cedar.set_hash(files)
            if expected not in {None, found}:
                sentence = f"the policy set has the hash `{found}`, not the pinned `{expected}`"
                return cls(
                    None,
                    found,
                    Reason("policy.not_pinned", sentence, "restore the policies, or pin the new hash"),
                )
            return cls(cedar.Policies(files), found)
        except Unavailable as error:
            return cls(None, cedar.set_hash(files), error.reason)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001 — as in `_rule`
            return cls(None, cedar.set_hash(files), _UNREADABLE)

    @property
    def policies(self) -> tuple[Policy, ...]:
        return self._policies.all if self._policies else ()

    def generate(self, requester: RequesterFacts, request: RequestFacts) -> Ruling:
        """Whether the request may be rendered at all, apart from the likenesses it uses."""
        return self._rule("generate", {"requester": requester, "request": request})

    def use_likeness(self, requester: RequesterFacts, cameo: CameoFacts, request: RequestFacts) -> Ruling:
        """Whether one person's likeness may be used, under the one grant in `cameo`."""
        return self._rule("use_likeness", {"requester": requester, "cameo": cameo, "request": request})

    def clear(self, request: RequestFacts, output: OutputFacts) -> Ruling:
        """Whether the rendered clip passes, by what its checks found."""
        return self._rule("clear", {"request": request, "output": output})

    def release(self, requester: RequesterFacts, cameo: CameoFacts, request: RequestFacts) -> Ruling:
        """Whether the clip may go out, by one person's consent as it stands now."""
        return self._rule("release", {"requester": requester, "cameo": cameo, "request": request})

    def download(self, cameo: CameoFacts | None, clip: ClipFacts) -> Ruling:
        """Whether a clip may be fetched; asked for each person in it, or once with none if it shows nobody."""
        return self._rule("download", {"clip": clip} if cameo is None else {"clip": clip, "cameo": cameo})

    def _rule(self, action: str, facts: Mapping[str, Any]) -> Ruling:
        """The one place a ruling is made; every way of failing ends in a denial."""
        try:
            if self._policies is None:
                return self._deny(_UNREADABLE)
            flaws = [flaw for name, value in facts.items() for flaw in _flaws(name, _KINDS[name], value)]
            if flaws:
                return self._deny(*(_invalid(flaw) for flaw in flaws))
            answer = self._policies.ask(_query(action, facts))
            match answer:
                case cedar.Permitted(by):
                    return Ruling(True, tuple(p.id for p in by), (), self.policy_set_hash)
                case cedar.Forbidden(by):
                    return self._forbid(by, facts)
                case cedar.Undecided():
                    return self._deny(_ERROR)
                case _:
                    assert_never(answer)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001 — a panic in Cedar's Rust is not an Exception; none may allow
            return self._deny(_ERROR)

    def _forbid(self, by: tuple[Policy, ...], facts: Mapping[str, Any]) -> Ruling:
        grant = facts["cameo"].grant if "cameo" in facts else None
        holder = grant is not None and grant.for_requester
        values = _values(facts)
        reasons = tuple(_reason(p, values) for p in by if p.told == "anyone" or holder)
        ids = tuple(p.id for p in by) or (_DEFAULT.id,)
        return Ruling(False, ids, reasons or (_DEFAULT,), self.policy_set_hash)

    def _deny(self, *reasons: Reason) -> Ruling:
        ids = tuple(dict.fromkeys(reason.id for reason in reasons))
        return Ruling(False, ids, reasons, self.policy_set_hash)


_UNREADABLE = Reason(
    "policy.unreadable",
    "this service's policies cannot be read, so everything is refused",
    "try again later; the operator has to restore the policies",
)
_ERROR = Reason(
    "policy.error",
    "this service's policies could not decide, so the answer is no",
    "try again later; the operator can find the cause in the service's own records",
)
_DEFAULT = Reason(
    "policy.default_deny",
    "no rule allows this",
    "check the request against the published policies",
)


def _invalid(flaw: str) -> Reason:
    return Reason("facts.invalid", flaw, "this is a fault in the service: report it to the operator")


# Facts to Cedar ---------------------------------------------------------------------------------------


def _query(action: str, facts: Mapping[str, Any]) -> Query:
    """Field names are attribute names; ids become entities; request and output are the context."""
    entities: dict[Uid, Mapping[str, object]] = {}
    principal = resource = _SERVICE
    if "requester" in facts:
        principal = _entity(entities, "App", facts["requester"])
    else:
        entities[_SERVICE] = {}
    if "request" in facts:
        resource = Uid("Job", facts["request"].job_id)
        entities[resource] = {}
    refs: dict[str, Uid] = {}
    if "cameo" in facts:
        grant = facts["cameo"].grant
        held = {} if grant is None else {"grant": _entity(entities, "Grant", grant)}
        resource = refs["cameo"] = _entity(entities, "Cameo", facts["cameo"], held)
    if "clip" in facts:
        resource = _entity(entities, "Clip", facts["clip"], refs)
    context = {name: _attributes(facts[name]) for name in ("request", "output") if name in facts}
    return Query(principal, action, resource, entities, context)


def _entity(
    entities: dict[Uid, Mapping[str, object]], kind: str, facts: Facts, refs: Mapping[str, Uid] | None = None
) -> Uid:
    uid = Uid(kind, next(getattr(facts, f) for f in _FIELDS[type(facts)] if f in _IDS))
    entities[uid] = {**_attributes(facts), **(refs or {})}
    return uid


def _attributes(facts: Facts) -> dict[str, object]:
    return {n: getattr(facts, n) for n in _FIELDS[type(facts)] if n not in _IDS and n != "grant"}


_FIELDS = {kind: tuple(f.name for f in fields(kind)) for kind in (*_KINDS.values(), GrantFacts)}


# Facts to words ---------------------------------------------------------------------------------------


def _values(facts: Mapping[str, Any]) -> dict[str, str]:
    """What a policy's sentence may quote, e.g. `{request.scores.sexual}` or `{grant.uses_left}`."""
    cameo, request = facts.get("cameo"), facts.get("request")
    grant = cameo.grant if cameo is not None else None
    values: dict[str, str] = {}
    for name, part in {**facts, "grant": grant}.items():
        for field, value in _attributes(part).items() if part is not None else ():
            if isinstance(value, Mapping):
                values |= {f"{name}.{field}.{key}": str(inner) for key, inner in value.items()}
            else:
                values[f"{name}.{field}"] = _shown(value)
    if grant is not None and request is not None:
        values["beyond.modalities"] = _shown(request.modalities - grant.modalities)
        values["beyond.contexts"] = _shown(request.contexts - grant.allowed_contexts)
        values["forbidden.contexts"] = _shown(request.contexts & grant.forbidden_contexts)
    return values


def _shown(value: object) -> str:
    if isinstance(value, frozenset):
        return ", ".join(sorted(value)) or "none named"
    return str(value)


def _reason(policy: Policy, values: Mapping[str, str]) -> Reason:
    sentence = re.sub(r"\{([a-z_.]+)\}", lambda m: values.get(m[1], "unknown"), policy.reason)
    return Reason(policy.id, sentence, policy.remedy)


# Facts as stated --------------------------------------------------------------------------------------

_TERM = re.compile(r"[A-Za-z0-9][A-Za-z0-9:/._#-]{0,199}")


def _flaws(name: str, kind: type[Facts], facts: object) -> list[str]:
    """What is wrong with these facts: one sentence each, quoting no value that came from outside."""
    if type(facts) is not kind:
        return [f"the facts about the {name} are missing"]
    found: list[str] = []
    for field, valid, expected in _RULES[kind]:
        value = getattr(facts, field)
        if not valid(value):
            found.append(f"the fact `{name}.{field}` is not {expected}")
        elif field == "grant" and value is not None:
            found += _flaws("grant", GrantFacts, value)
    return found


_Rule = tuple[Callable[[Any], bool], str]


def _rule_of(hint: Any) -> _Rule:  # noqa: PLR0911 — one line for each type a fact may have
    """The test that a field's declared type stands for. Types are compared exactly: `True` is no count."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is bool:
        return lambda v: type(v) is bool, "true or false"
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
    for kind in _FIELDS
}
