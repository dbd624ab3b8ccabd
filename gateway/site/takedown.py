"""Pages for people without an account: report a video, confirm it from the letter, see how it goes, object.

The token of the letter is in the address it gives and in the forms of the page that opens; it is kept nowhere else.
"""

from typing import Any

from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler

from gateway.notices import giving
from gateway.problems import Problem, problem, problem_of
from gateway.service import Service
from gateway.site.posts import Form, do, on
from gateway.site.render import Ask, on_page_error, page
from gateway.site.words import COUNTRIES, spoken
from ledger.errors import LedgerError
from ledger.ids import is_id
from safety.errors import SafetyError

FIELDS = ("kind", "video", "shown", "relation", "reason", "intimate", "name", "email", "country", "signature")


@get("/takedown", include_in_schema=False, sync_to_thread=True, exception_handlers={Exception: on_page_error})
def ask(request: Ask, video: str = "") -> Response[str]:
    """The form; `video`: the clip it is about, where somebody comes from having checked one."""
    return _form(request, dict.fromkeys(FIELDS, "") | {"video": video if is_id(video, "video") else ""})


def _form(request: Ask, given: dict[str, str], refused: Problem | None = None) -> Response[str]:
    """The form, with what was typed still in it, and what is wrong with it."""
    why = (
        " ".join(f"{spoken(one.sentence)} {spoken(one.remedy)}" for one in refused.reasons) if refused else ""
    )
    status = refused.status if refused else 200
    return page(request, "takedown", status=status, given=given, problem=why, countries=COUNTRIES)


@post("/takedown", status_code=200, include_in_schema=False, exception_handlers={Exception: on_page_error})
async def give(request: Ask, service: Service) -> Response[str]:
    """Send a notice. Nothing happens before the letter is answered, so another site's page gains nothing by it."""
    try:
        made = await do(giving.give_notice, request, service)
    except (Problem, LedgerError, SafetyError) as error:
        refused = problem_of(error)
        if refused.status not in {400, 404, 413, 415} or refused.reasons[0].id == "request.length":
            raise
        sent = Form(tuple((await request.form()).multi_items()))
        return _form(request, {name: sent.one(name) for name in FIELDS}, refused)
    return _notice(request, str(made["notice_id"]), None, "")


@get(
    "/takedowns/{notice_id:str}",
    include_in_schema=False,
    sync_to_thread=True,
    exception_handlers={Exception: on_page_error},
)
def status(request: Ask, service: Service, notice_id: str, token: str = "") -> Response[str]:
    """Where the letter leads. Opening it confirms nothing: programs open the links in people's mail."""
    found = do(giving.notice_status, service, notice_id, token)
    return _notice(request, notice_id, found, token)


def _notice(request: Ask, notice_id: str, notice: dict[str, Any] | None, token: str) -> Response[str]:
    return page(request, "takedown_status", notice=notice, notice_id=notice_id, token=token)


@on("/takedowns/{notice_id:str}/confirm")
def confirm(request: Ask, service: Service, form: Form) -> Response[Any]:
    said = giving.TokenIn(token=form.one("token").strip())
    return _answered(request, do(giving.confirm_notice, service, _id(request), said), said.token)


@on("/takedowns/{notice_id:str}/appeal")
def appeal(request: Ask, service: Service, form: Form) -> Response[Any]:
    try:
        said = giving.AppealIn(text=form.one("text").replace("\r\n", "\n"), token=form.one("token"))
    except ValueError as error:
        raise problem(400, "takedown.appeal", "it is not said why", "go back and say why") from error
    found = do(giving.appeal_decision, request, service, _id(request), said)
    return _answered(request, found, form.one("token"))


@on("/takedowns/{notice_id:str}/withdraw")
def withdraw(request: Ask, service: Service, form: Form) -> Response[Any]:
    said = giving.TokenIn(token=form.one("token"))
    return _answered(request, do(giving.withdraw_notice, service, _id(request), said), said.token)


def _answered(request: Ask, found: dict[str, Any], token: str) -> Response[Any]:
    return _notice(request, _id(request), found, token)


def _id(request: Ask) -> str:
    return str(request.path_params["notice_id"])


ROUTES: list[HTTPRouteHandler] = [ask, give, status, confirm, appeal, withdraw]
