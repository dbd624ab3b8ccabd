"""Standing consent told a second time, in plain Python: every question reads the whole list again, and keeps nothing.

Written from the words of the design (§5) and of the issue, not from the fold: what a person allows now, to whom, and
what a minor and who passes something on can not allow at all. It is slow, and there is nothing in it to go wrong.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

Event = Mapping[str, Any]
"""The body of one entry, in the order of the log."""
Story = Sequence[Event]
SENSITIVE = ("sexual", "violent", "romantic")


def of_kind(story: Story, kind: str) -> list[Event]:
    return [event for event in story if event["kind"] == kind]


def last(values: Iterable[Any], default: Any = None) -> Any:
    return ([default, *values])[-1]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


# ── who somebody is ───────────────────────────────────────────────────────────────────────────────────────


def eighteenth(born_on: str) -> date:
    """Of one born on 29 February, in other years 1 March."""
    born = date.fromisoformat(born_on)
    leap = date(born.year + 18, 3, 1) - date(born.year + 18, 2, 28) == timedelta(days=2)
    if (born.month, born.day) == (2, 29) and not leap:
        return date(born.year + 18, 3, 1)
    return date(born.year + 18, born.month, born.day)


def words_on_age(story: Story) -> list[tuple[str | None, bool | None]]:
    """(birth date, whether 18) of everything said that says anything."""
    said = [
        (event["enrolment"]["born_on"], None)
        if event["kind"] == "enrolment"
        else (event["born_on"], event["over_18"])
        for event in story
        if event["kind"] in {"enrolment", "age"}
    ]
    return [word for word in said if word != (None, None)]


def is_minor(story: Story, at: datetime) -> bool:
    """Unknown age is a minor's, and of several words the one for a minor counts.

    Only "not 18 yet", without a birth date, is true when it is said, and gives way to whatever is said later.
    """
    words = words_on_age(story)
    dates = [born_on for born_on, _ in words if born_on is not None]
    if any(at.date() < eighteenth(born_on) for born_on in dates) or last(words) == (None, False):
        return True
    return not dates and (None, True) not in words


def guardians(story: Story) -> dict[str, dict[str, Any]]:
    """Those who are guardians now, and what each accepted."""
    found: dict[str, dict[str, Any]] = {}
    for event in of_kind(story, "guardian"):
        said = event["guardianship"]
        found.pop(said["guardian"], None)
        if event["standing"]:
            found[said["guardian"]] = said
    return found


def executor(story: Story) -> str | None:
    stands = None
    for event in of_kind(story, "estate"):
        if event["standing"]:
            stands = event["executor"]
        elif stands == event["executor"]:
            stands = None
    return stands


def in_use(story: Story, at: datetime) -> bool:
    """A likeness exists and was not erased; and whoever had a guardian has decided anew since they are of age."""
    kinds = [event["kind"] for event in story]
    if "enrolment" not in kinds or "erasure" in kinds:
        return False
    decisive = [
        event["kind"]
        for event in story
        if event["kind"] == "handover" or (event["kind"] == "guardian" and event["standing"])
    ]
    return last(decisive, "handover") == "handover" or is_minor(story, at)


# ── what was permitted ────────────────────────────────────────────────────────────────────────────────────


def place_of(story: Story, grant_id: str) -> int | None:
    """Where a grant is: the first entry under an id, unless it passed on what it may not, which is nothing at all."""
    for at, event in enumerate(story):
        if event["kind"] == "grant" and event["grant"]["grant_id"] == grant_id:
            terms, before = event["grant"], story[:at]
            if terms["parent"] is None or may_pass_on(before, terms):
                return at
    return None


def terms_of(story: Story, grant_id: str) -> dict[str, Any] | None:
    at = place_of(story, grant_id)
    return None if at is None else story[at]["grant"]


def may_pass_on(before: Story, child: Mapping[str, Any]) -> bool:
    """From a grant that stands and says who may, unless whoever that is has been blocked; and only narrower."""
    parent = terms_of(before, child["parent"])
    if parent is None or parent["delegate_key"] is None or taken_back(before, child["parent"]) is not None:
        return False
    return not is_blocked(before, parent["grantee"]["id"]) and is_narrower(child, parent)


def is_narrower(child: Mapping[str, Any], parent: Mapping[str, Any]) -> bool:
    for lists in ("modalities", "purposes", "actions", "allowed_contexts"):
        if not set(child[lists]) <= set(parent[lists]):
            return False
    for kept in ("forbidden_contexts", "preferences"):
        if not set(parent[kept]) <= set(child[kept]):
            return False
    anywhere = "*" in parent["jurisdictions"]
    return (
        (child["grantor"], child["cameo_id"]) == (parent["grantor"], parent["cameo_id"])
        and (child["grantee"]["type"] in ("app", "person") or child["grantee"] == parent["grantee"])
        and (child["audience"] == "requester" or parent["audience"] == "everyone")
        and child["max_uses"] <= parent["max_uses"]
        and parent["starts"] <= child["starts"]
        and child["expires"] <= parent["expires"]
        and (anywhere or set(child["jurisdictions"]) <= set(parent["jurisdictions"]))
        and (child["approval"] == "before_release" or parent["approval"] == "none")
        and (child["revocation_effect"] == "withdraw_all" or parent["revocation_effect"] == "stop_new")
    )


def taken_back(story: Story, grant_id: str) -> str | None:
    """With what effect a grant was taken back, by name or with the one it came from; None: it was not."""
    at, terms = place_of(story, grant_id), terms_of(story, grant_id)
    if at is None or terms is None:
        return None
    names = {grant_id, terms["parent"]}
    effects = [event["effect"] for event in of_kind(story[at:], "revocation") if event["grant_id"] in names]
    if not effects:
        return None
    return "withdraw_all" if "withdraw_all" in [*effects, terms["revocation_effect"]] else "stop_new"


def is_blocked(story: Story, target: str | None) -> bool:
    words = [event["blocked"] for event in of_kind(story, "block") if event["target"] == target]
    return bool(last(words, default=False))


def uses(story: Story, grant_id: str) -> set[str]:
    """The videos that each took one use of a grant, or of what was passed on from it."""
    taken: dict[str, set[str]] = {}
    for at, event in enumerate(story):
        if event["kind"] not in {"decision", "returned"}:
            continue
        for named in event["grant_ids"]:
            written = place_of(story, named)
            if written is None or written > at:
                continue
            if event["kind"] == "returned":
                taken.setdefault(named, set()).discard(event["video_id"])
            elif event["allowed"]:
                taken.setdefault(named, set()).add(event["video_id"])
    children = [one for one in taken if (terms_of(story, one) or {}).get("parent") == grant_id]
    return set().union(*(taken.get(one, set()) for one in [grant_id, *children]))


def stands(story: Story, grant_id: str, at: datetime) -> bool:
    """Whether anything could be done under a grant at `at`, by whoever it names."""
    place, terms = place_of(story, grant_id), terms_of(story, grant_id)
    if place is None or terms is None or taken_back(story, grant_id) is not None:
        return False
    if not moment(terms["starts"]) <= at < moment(terms["expires"]):
        return False
    signed_too = {one["guardian"] for one in story[place].get("cosignatures", ())}
    if is_minor(story, at):
        # A minor's grant is one that somebody who is their guardian signed too, and is never passed on.
        return terms["parent"] is None and bool(signed_too & guardians(story).keys())
    if signed_too:
        return False
    parent = terms_of(story, terms["parent"]) if terms["parent"] is not None else None
    return parent is None or not is_blocked(story, parent["grantee"]["id"])


def has_use_left(story: Story, grant_id: str) -> bool:
    terms = terms_of(story, grant_id)
    if terms is None or len(uses(story, grant_id)) >= terms["max_uses"]:
        return False
    parent = terms_of(story, terms["parent"]) if terms["parent"] is not None else None
    return parent is None or len(uses(story, terms["parent"])) < parent["max_uses"]


def is_to(story: Story, terms: Mapping[str, Any], app: str, person: str | None) -> bool:
    who = terms["grantee"]
    members = [event["member"] for event in of_kind(story, "group") if event["person_id"] == person]
    return bool(
        who["type"] == "everyone"
        or (who["type"] == "app" and who["id"] == app)
        or (who["type"] == "person" and who["id"] == person)
        or (who["type"] == "group" and last(members, default=False))
    )


def usable(story: Story, app: str, person: str | None, at: datetime) -> set[str]:
    """The grants under which an app, asking for a person or for nobody, could be allowed something now."""
    if not in_use(story, at) or is_blocked(story, app) or is_blocked(story, person):
        return set()
    ids = {event["grant"]["grant_id"] for event in of_kind(story, "grant")}
    return {
        one
        for one in ids
        if stands(story, one, at)
        and has_use_left(story, one)
        and is_to(story, terms_of(story, one) or {}, app, person)
    }


# ── drafts ────────────────────────────────────────────────────────────────────────────────────────────────


def approved(story: Story, video: str, at: datetime) -> bool:
    """A minor's guardian has to say yes, for anyone else they themselves or whoever acts for them; and nobody said no.

    A yes counts from somebody who could give one; of several guardians one no is final.
    """
    words: dict[str, bool] = {}
    for place, event in enumerate(story):
        if event["kind"] != "approval" or event["video_id"] != video:
            continue
        before, role = story[:place], event["role"]
        holders = {
            "owner": executor(before) is None,
            "guardian": bool(guardians(before)),
            "executor": executor(before) is not None,
        }
        if not event["approved"]:
            words[role] = False
        elif holders[role] and not (role == "guardian" and words.get(role) is False):
            words[role] = True
    needed = ["guardian"] if is_minor(story, at) else ["owner", "executor"]
    return all(words.values()) and any(words.get(role) for role in needed)


# ── what a minor can not permit ───────────────────────────────────────────────────────────────────────────


def a_minor_may_sign(story: Story, terms: Mapping[str, Any], signed_too: Iterable[str]) -> bool:
    """The rules for minors, which nothing overrides."""
    limits = guardians(story)
    signed_too = set(signed_too)
    begins = min(moment(terms["starts"]), moment(terms["issued"]))
    ends = moment(terms["expires"])
    dates = [born_on for born_on, _ in words_on_age(story) if born_on is not None]
    return (
        bool(signed_too)
        and signed_too <= limits.keys()
        and terms["modalities"] == ["face"]
        and terms["approval"] == "before_release"
        and terms["grantee"]["type"] in {"app", "person"}
        and terms["audience"] == "requester"
        and not set(terms["allowed_contexts"]) & set(SENSITIVE)
        and terms["delegate_key"] is None
        and terms["parent"] is None
        and ends - begins <= timedelta(days=366)
        # Its last moment is before the day they come of age, by the latest birth date that was said.
        and all((ends - timedelta(seconds=1)).date() < eighteenth(max(dates)) for _ in dates[:1])
        and all(terms["max_uses"] <= one["max_uses"] for one in limits.values())
    )
