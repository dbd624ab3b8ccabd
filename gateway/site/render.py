"""One template, in one language, as a page: escaped throughout, never kept by a cache on the way.

Whose language: the signed-in person's setting, else the cookie the footer's switch sets, else `Accept-Language`.
An error on a page is a page too; somebody who is not signed in is sent to sign in, and back.
"""

import logging
from functools import cache
from typing import Any
from urllib.parse import quote, urlencode

from litestar import Request, Response
from litestar.response import Redirect
from minijinja import Environment

from gateway.problems import Problem, problem_of
from gateway.service import Service
from gateway.site.words import (
    CATALOGUES,
    LANGUAGES,
    Language,
    country,
    day,
    moment,
    negotiated,
    spoken,
    translator,
)

_log = logging.getLogger(__name__)
Ask = Request[Any, Any, Any]
LANGUAGE_COOKIE = "countersign_language"
YEAR_S = 365 * 86_400
DONE = (
    *("recorded", "revoked", "withdrawn", "approved", "refused", "blocked", "unblocked", "added", "removed"),
    *("kept", "passkey_added", "passkey_removed", "recovered", "sent", "age", "pending", "declined"),
    *("limits", "left", "signed_out", "again"),
)
"""What a page may say was just done: the query names one of these, and no text of its own."""
_WITH_FORMS = ("/me/people", "/me/family", "/me/security", "/me/enrol", "/me")


@cache
def _environment() -> Environment:
    """Every template, parsed once. What is not given to one is an error, not a blank."""
    templates = {path.name: path.read_text("utf-8") for path in sorted(CATALOGUES.glob("*.html.jinja"))}
    return Environment(
        templates=templates,
        filters={"day": day, "moment": moment},
        globals={"country": country},
        auto_escape_callback=lambda _name: "html",
        undefined_behavior="strict",
        trim_blocks=True,
        lstrip_blocks=True,
    )


def rendered(template: str, language: Language, **context: Any) -> str:
    """The text of a page. `context`: what the template names; the frame's own values have defaults here."""
    frame = {"signed_in": False, "acting_for": None, "for_query": "", "done": "", "here": "/", "tab": ""}
    return _environment().render_template(
        f"{template}.html.jinja", **(frame | context), t=translator(language), language=language
    )


def page(
    request: Ask, template: str, *, language: Language | None = None, status: int = 200, **context: Any
) -> Response[str]:
    """A page for this request."""
    tongue = language or language_of(request)
    done = request.query_params.get("done", "")
    text = rendered(
        template,
        tongue,
        **({"done": done if done in DONE else "", "here": here(request)} | context),
    )
    return Response(
        text,
        status_code=status,
        media_type="text/html; charset=utf-8",
        headers={"cache-control": "no-store", "vary": "accept-language, cookie", "content-language": tongue},
    )


def language_of(request: Ask, setting: str = "") -> Language:
    for wanted in (setting, request.cookies.get(LANGUAGE_COOKIE, "")):
        for language in LANGUAGES:
            if wanted == language:
                return language
    return negotiated(request.headers.get("accept-language", ""))


def remember_language(answer: Response[Any], service: Service, language: Language) -> None:
    """In this browser, for pages that do not know who looks."""
    secure = service.settings.url.startswith("https:")
    answer.set_cookie(LANGUAGE_COOKIE, language, max_age=YEAR_S, samesite="lax", httponly=True, secure=secure)


def here(request: Ask) -> str:
    """The page's own address, without what was just done: where to come back to."""
    kept = [(name, value) for name, value in request.query_params.multi_items() if name != "done"]
    if request.method != "GET":
        # A form's own address shows nothing: back to the page it stands on.
        return next((one for one in _WITH_FORMS if request.url.path.startswith(one)), "/")
    return request.url.path + (f"?{urlencode(kept)}" if kept else "")


def to(path: str, done: str = "", *, person: str = "") -> Redirect:
    """On to another page of ours, by GET. `person`: whose likeness it is about, where not one's own."""
    query = urlencode({name: value for name, value in (("for", person), ("done", done)) if value})
    return Redirect(f"{path}?{query}" if query else path, status_code=303)


def local(path: str) -> str:
    """A path of ours, or `/me`: nobody is sent to another site from here (`//elsewhere`, `/\\elsewhere`)."""
    inside = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if inside and "\\" not in path else "/me"


def on_page_error(request: Ask, error: Exception) -> Response[Any]:
    """What went wrong, as a page. Only reasons are shown, as everywhere."""
    found: Problem = problem_of(error)
    if found.status >= 500:
        _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    if found.reasons[0].id == "access.recovered":
        return Redirect("/me/security", status_code=303)
    again = found.reasons[0].id == "access.again"
    if found.status == 401 or again:
        why = "&done=again" if again else ""
        return Redirect(f"/signin?next={quote(local(here(request)), safe='')}{why}", status_code=303)
    known = {403: "refused", 404: "unknown", 429: "often"}
    kind = known.get(found.status, "fault" if found.status >= 500 else "input")
    reasons = [{"sentence": spoken(one.sentence), "remedy": spoken(one.remedy)} for one in found.reasons]
    answer = page(request, "problem", status=found.status, kind=kind, reasons=reasons)
    if found.status == 413:
        # As in `gateway.problems`: the rest of the body stays unread.
        answer.headers["connection"] = "close"
    return answer
