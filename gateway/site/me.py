"""Pages about my likeness, or about that of someone I answer for (`?for=person_…`): they only read."""

from dataclasses import dataclass
from typing import Annotated, Any

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter

from gateway.access import Acting, SignedIn, acting, signed_in
from gateway.owners import accounts, approvals, circle, enrolment, family, grants, timeline, tokens
from gateway.owners.reasons import told
from gateway.problems import problem
from gateway.service import Service
from gateway.site.render import Ask, language_of, on_page_error, page
from gateway.site.words import COUNTRIES, Language, region, spoken, translator
from ledger.log.merkle import MAX_SIZE

LOOKED_BACK = 200
"""How many entries are looked through for what was made with one permission."""
_OPTIONS: dict[str, Any] = {
    "include_in_schema": False,
    "sync_to_thread": True,
    "exception_handlers": {Exception: on_page_error},
}


@dataclass(frozen=True, slots=True)
class Visit:
    """Who looks, and at whose likeness. `actor`: their account; `owner`: the account of whom it is about."""

    here: SignedIn
    who: Acting
    actor: dict[str, Any]
    owner: dict[str, Any]
    language: Language

    @property
    def frame(self) -> dict[str, Any]:
        """What every page of a signed-in person shows around its own."""
        other = None
        if self.who.role != "owner":
            other = {"role": self.who.role, "name": self.owner["display_name"]}
        return {
            "signed_in": True,
            "language": self.language,
            "acting_for": other,
            "for_query": self.query,
            "tab": "home",
        }

    @property
    def query(self) -> str:
        return "" if self.who.role == "owner" else f"?for={self.who.owner}"


def visit(request: Ask, service: Service, *, recovered: bool = False) -> Visit:
    """Raises the problems of :func:`gateway.access.acting`."""
    here = signed_in(request, service, recovered=recovered)
    who = acting(request, service, recovered=recovered)
    actor = accounts.me(service, here)
    owner = actor
    if who.owner != who.actor:
        owner = accounts.me(service, SignedIn(who.owner, b"", None))
    return Visit(here, who, actor, owner, language_of(request, actor["language"]))


@get("/me", **_OPTIONS)
def home(request: Ask, service: Service) -> Response[str]:
    """The state of my likeness: what waits for me first, then what I allow, then what happened."""
    seen = visit(request, service, recovered=True)
    mine = permissions(service, seen)
    # Who came in with a recovery code may take permissions back, and sees no more than that.
    whole = not seen.here.recovered
    over = [one for one in mine if one["status"] not in {"live", "not_started"}]
    return page(
        request,
        "me",
        **seen.frame,
        me=seen.owner,
        drafts=approvals.approvals(service, seen.who)["drafts"] if whole else [],
        grants=mine,
        out=[one for one in over if one["out"]],
        past=[one for one in over if not one["out"]],
        events=recent(service, seen, limit=5)["events"] if whole else [],
    )


def permissions(service: Service, seen: Visit) -> list[dict[str, Any]]:
    """The grants of a person, each with a name for whom it is to, and whether what was made with it is `out`."""
    t = translator(seen.language)
    found = grants.grants_of(service, seen.who.owner)["grants"]
    for one in found:
        to = one["grantee"]
        other = f"grantee.{to['type']}" if to["type"] in {"group", "everyone"} else "grantee.gone"
        to["name"] = to["name"] or t(other)
        one["out"] = one["uses"] > 0 and one["effect"] != "withdraw_all"
    return list(found)


def recent(service: Service, seen: Visit, *, limit: int, before: int = MAX_SIZE) -> dict[str, Any]:
    return timeline.timeline(service, seen.who.owner, language=seen.language, before=before, limit=limit)


@get("/me/permissions/{grant_id:str}", **_OPTIONS)
def permission(request: Ask, service: Service, grant_id: str) -> Response[str]:
    seen = visit(request, service)
    found = next((one for one in permissions(service, seen) if one["grant_id"] == grant_id), None)
    if found is None:
        raise problem(404, "grant.unknown", "there is no such permission of yours", "look at what you allow")
    made = [
        one
        for one in recent(service, seen, limit=LOOKED_BACK)["events"]
        if one["video_id"] in found["videos"]
    ]
    file = f"/v1/grants/{grant_id}"
    papers: dict[str, Any] = {"receipt": f"{file}/receipt{seen.query}", "signed": f"{file}{seen.query}"}
    return page(request, "permission", **seen.frame, grant=found, events=made, **papers)


@get("/me/permissions/new", **_OPTIONS)
def new_permission(request: Ask, service: Service) -> Response[str]:
    """What may be allowed, each question with its narrowest answer chosen."""
    seen = visit(request, service)
    asked = {name: request.query_params.get(name, "")[:64] for name in ("who", "app", "person")}
    return page(
        request,
        "permission_new",
        **seen.frame,
        chosen=asked,
        apps=_apps(service),
        people=circle.circle_of(service, seen.who.owner)["members"],
        countries=COUNTRIES,
        home_country=region(request.headers.get("accept-language", "")),
    )


def _apps(service: Service) -> list[dict[str, str]]:
    with service.ledger.reading() as tx:
        return [{"id": app.id, "name": app.name} for app in tx.apps() if not app.suspended]


@get("/me/drafts/{video_id:str}", **_OPTIONS)
def draft(request: Ask, service: Service, video_id: str) -> Response[str]:
    seen = visit(request, service)
    waiting = approvals.approvals(service, seen.who)["drafts"]
    found = next((one for one in waiting if one["video_id"] == video_id), None)
    if found is None:
        raise problem(404, "approval.unknown", "this video no longer waits for you", "look at your record")
    return page(request, "draft", **seen.frame, draft=found)


@get("/me/timeline", **_OPTIONS)
def record(
    request: Ask, service: Service, before: Annotated[int, Parameter(ge=0, le=MAX_SIZE)] = MAX_SIZE
) -> Response[str]:
    seen = visit(request, service)
    found = recent(service, seen, limit=20, before=before)
    return page(request, "timeline", **seen.frame | {"tab": "record"}, **found)


@get("/me/people", **_OPTIONS)
def people(request: Ask, service: Service) -> Response[str]:
    seen = visit(request, service)
    mine = circle.circle_of(service, seen.who.owner)
    return page(request, "people", **seen.frame | {"tab": "people"}, me=seen.owner, circle=mine)


@get("/me/family", **_OPTIONS)
def my_family(request: Ask, service: Service) -> Response[str]:
    return family_page(request, service, visit(request, service))


def family_page(request: Ask, service: Service, seen: Visit, invitation: str = "") -> Response[str]:
    own, actor = seen.who.role == "owner", seen.who.actor
    about: dict[str, Any] = {
        "me": seen.owner,
        "pending": family.pending_for(service, actor)["pending"] if own else [],
        # What may be done about them is only for whoever answers for them.
        "wards": family.wards_of(service, actor) if own else [],
        "invitation": invitation,
    }
    return page(request, "family", **seen.frame | {"tab": "family"}, **about)


@get("/me/security", **_OPTIONS)
def security(request: Ask, service: Service) -> Response[str]:
    """My own account, whoever I act for. All that somebody who came in with a recovery code sees."""
    return security_page(request, service, visit(request, service, recovered=True))


def security_page(request: Ask, service: Service, seen: Visit, token: str = "") -> Response[str]:
    """`token`: one just made, which is shown this once."""
    own = seen.frame | {"tab": "security", "acting_for": None, "for_query": ""}
    held = [] if seen.here.recovered else tokens.tokens(service, seen.who.actor)["tokens"]
    about: dict[str, Any] = {"me": seen.actor, "apps": _apps(service), "tokens": held, "token": token}
    return page(request, "security", **own, **about)


@get("/me/enrol", **_OPTIONS)
def enrol(request: Ask, service: Service) -> Response[str]:
    seen = visit(request, service)
    # A film is of whoever is in front of the camera: nobody sends one for another.
    own = seen.frame | {"acting_for": None, "for_query": ""}
    about = enrolment.enrolment_of(service, seen.who.actor)
    why = [
        {"reason": spoken(one["reason"]), "remedy": spoken(one["remedy"])}
        for one in told(about["reasons"], seen.language)
    ]
    return page(request, "enrol", **own, enrolment=about | {"reasons": why})


@get("/me/export-erase", **_OPTIONS)
def leave(request: Ask, service: Service) -> Response[str]:
    seen = visit(request, service)
    return page(request, "leave", **seen.frame, me=seen.owner, wrong=False)


ROUTES: list[HTTPRouteHandler] = [
    home,
    permission,
    new_permission,
    draft,
    record,
    people,
    my_family,
    security,
    enrol,
    leave,
]
