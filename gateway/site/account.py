"""What forms do about my own account: ways in, where I am signed in, which apps speak for me, how old I am."""

from typing import Any
from urllib.parse import urlsplit

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from gateway.owners import age, passkeys, sessions, tokens
from gateway.service import Service
from gateway.site.me import security_page, visit
from gateway.site.posts import Form, checked, do, number, on
from gateway.site.render import Ask, on_page_error, page, remember_language, to


@on("/me/security/passkeys/remove")
def remove_passkey(request: Ask, service: Service, form: Form) -> Response[Any]:
    do(passkeys.remove_passkey, request, service, form.one("id"))
    return to("/me/security", "passkey_removed")


@on("/me/security/sessions/end")
def end_session(request: Ask, service: Service, form: Form) -> Response[Any]:
    do(sessions.close_one_session, request, service, form.one("session"))
    return to("/me/security", "signed_out")


@on("/me/security/sessions/others")
def end_others(request: Ask, service: Service, _form: Form) -> Response[Any]:
    do(sessions.close_other_sessions, request, service)
    return to("/me/security", "signed_out")


@on("/me/security/tokens")
def add_token(request: Ask, service: Service, form: Form) -> Response[Any]:
    """Let an app ask in my name. The answer is the only page that ever shows the token."""
    said = checked(tokens.TokenIn, {"app_id": form.one("app").strip(), "days": number(form, "days")})
    made = do(tokens.create_token, request, service, said)
    return security_page(request, service, visit(request, service), made["token"])


@on("/me/security/tokens/remove")
def remove_token(request: Ask, service: Service, form: Form) -> Response[Any]:
    do(tokens.delete_token, request, service, form.one("token"))
    return to("/me/security", "removed")


# -- how old I am ------------------------------------------------------------------------------------------


@on("/me/security/age")
def confirm_age(request: Ask, service: Service, _form: Form) -> Response[Any]:
    """The way to whoever knows how old I am, as a link: our pages' forms lead nowhere else (`form-action`)."""
    seen = visit(request, service)
    location = do(age.start_age_check, request, service)["location"]
    host = urlsplit(location).netloc
    onward = page(request, "onward", **seen.frame | {"tab": ""}, location=location, host=host)
    # The way back brings no session: without this, the page there would not know whose language to speak.
    remember_language(onward, service, seen.language)
    return onward


@get(
    "/age/return", include_in_schema=False, sync_to_thread=True, exception_handlers={Exception: on_page_error}
)
def age_return(request: Ask) -> Response[str]:
    """Where the issuer sends people. It changes nothing: another site's page can lead anybody here."""
    state, code, error = (request.query_params.get(name, "") for name in ("state", "code", "error"))
    answer = {"state": state[:200], "code": code[:2000]} if code and not error else None
    return page(request, "age", answer=answer)


@on("/age/finish")
def age_finish(request: Ask, service: Service, form: Form) -> Response[Any]:
    """That page's own form. Then back to where the person's age is shown."""
    said = checked(age.FinishIn, {"state": form.one("state"), "code": form.one("code")})
    do(age.finish_age_check, request, service, said)
    return to("/me/security", "age")


ROUTES: list[HTTPRouteHandler] = [
    remove_passkey,
    end_session,
    end_others,
    add_token,
    remove_token,
    confirm_age,
    age_return,
    age_finish,
]
