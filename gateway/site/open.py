"""Pages for anyone: check a clip, open an account, sign in, the operator's desk, the language of all of them."""

import json
from typing import Any

from litestar import Response, get
from pydantic import ValidationError

from gateway.access import refuse_other_sites, signed_in
from gateway.owners import accounts, sessions
from gateway.problems import Problem
from gateway.service import Service
from gateway.site.posts import Form, do, on
from gateway.site.render import Ask, language_of, local, on_page_error, page, remember_language, to
from gateway.site.words import CATALOGUES, LANGUAGES, Language, catalogue
from ledger.provenance.sentences import SENTENCES, STATES
from safety.clearing import WORDS


@get("/", include_in_schema=False, sync_to_thread=True, exception_handlers={Exception: on_page_error})
def home(request: Ask) -> Response[str]:
    """The page where anyone checks a clip."""
    return page(request, "check", **verdict_in(language_of(request)))


@get("/verify", include_in_schema=False, sync_to_thread=True, exception_handlers={Exception: on_page_error})
def verify(request: Ask) -> Response[str]:
    """The same, by the name under which people look for it. Litestar wraps a handler of two paths twice."""
    return page(request, "check", **verdict_in(language_of(request)))


def verdict_in(language: Language) -> dict[str, Any]:
    """All that the page may have to say of a verdict, by its ids."""
    said: dict[str, str] = STATES | SENTENCES
    if language != "en":
        said = json.loads((CATALOGUES / f"verdict.{language}.json").read_text("utf-8"))
    words = words_under("verdict.", language)
    checks = {name: words.pop(f"check.{name}") for name in WORDS}
    return {"verdict_words": words, "said": said, "checks": checks}


@get("/join", include_in_schema=False, sync_to_thread=True, exception_handlers={Exception: on_page_error})
def join(request: Ask) -> Response[str]:
    return page(request, "join")


@get("/signin", include_in_schema=False, sync_to_thread=True, exception_handlers={Exception: on_page_error})
def signin(request: Ask) -> Response[str]:
    return page(request, "signin", next=local(request.query_params.get("next", "/me")), refused=False)


@get("/operator", include_in_schema=False, sync_to_thread=True, exception_handlers={Exception: on_page_error})
def desk(request: Ask) -> Response[str]:
    """The page holds nothing: what it shows is asked for with the key that an operator types in."""
    language = language_of(request)
    words = words_under("operator.", language) | words_under("takedown.action.", language)
    return page(request, "operator", operator_words=words)


def words_under(prefix: str, language: Language) -> dict[str, str]:
    """What a script of a page says: the part of the catalogue that is its own."""
    found = catalogue(language).items()
    return {key.removeprefix(prefix): text for key, text in found if key.startswith(prefix)}


@on("/signin/code")
def recover(request: Ask, service: Service, form: Form) -> Response[Any]:
    """Sign in with a recovery code; the next page is the one where a passkey is added."""
    try:
        answer = do(sessions.recover, request, service, sessions.CodeIn(code=form.one("code").strip()))
    except (ValidationError, Problem) as refused:
        if isinstance(refused, Problem) and refused.status != 401:
            raise
        return page(request, "signin", status=401, next="/me", refused=True)
    onward = to("/me/security", "recovered")
    onward.cookies.extend(answer.cookies)
    return onward


@on("/signout")
def sign_out(request: Ask, service: Service, _form: Form) -> Response[Any]:
    answer = do(sessions.close_session, request, service)
    onward = to("/")
    onward.cookies.extend(answer.cookies)
    return onward


@on("/language")
def speak(request: Ask, service: Service, form: Form) -> Response[Any]:
    """Speak this language from now on, in this browser; and for the account, where somebody is signed in."""
    refuse_other_sites(request, service)
    wanted: Language = next((one for one in LANGUAGES if one == form.one("language")), "en")
    try:
        signed_in(request, service)
        do(accounts.change_me, request, service, accounts.MeIn(language=wanted))
    except Problem as nobody:
        if nobody.status not in {401, 403}:
            raise
    onward = to(local(form.one("to") or "/"))
    remember_language(onward, service, wanted)
    return onward


ROUTES = [home, verify, join, signin, desk, recover, sign_out, speak]
