"""A form of a page that was sent: read once, acted on in a thread, and answered with a page or the way to one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from litestar import Response, post
from litestar.concurrency import sync_to_thread
from litestar.handlers import HTTPRouteHandler

from gateway.access import JSON_BYTES
from gateway.service import Service
from gateway.site.render import Ask, on_page_error
from ledger.errors import InvalidStatement


@dataclass(frozen=True, slots=True)
class Form:
    """The text fields of a form. Files are read by the JSON routes that take them."""

    fields: Sequence[tuple[str, object]]

    def one(self, name: str) -> str:
        """The field's first value; empty where there is none."""
        return next(iter(self.all(name)), "")

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name and isinstance(value, str)]


def do(route: HTTPRouteHandler, *given: Any) -> Any:
    """What a JSON route does, done for a page: by the route's own function, with all its checks."""
    function: Callable[..., Any] = route.fn
    return function(*given)


def checked(kind: Any, fields: dict[str, Any]) -> Any:
    """A form's fields as the JSON route takes them. Raises InvalidStatement for what the page's own form never sends."""
    try:
        return kind.model_validate(fields)
    except ValueError as error:
        raise InvalidStatement(
            "request.form", "something in the form is missing or not possible", "go back and check it"
        ) from error


def number(form: Form, name: str) -> int:
    """A field's number; 0, which no form of ours asks for, where it is none."""
    text = form.one(name)
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0


Act = Callable[[Ask, Service, Form], Response[Any]]


def on(path: str) -> Callable[[Act], HTTPRouteHandler]:
    """Do this when a form is sent to `path`. What it needs of the path is in `request.path_params`."""

    def register(act: Act) -> HTTPRouteHandler:
        @post(
            path,
            status_code=200,
            include_in_schema=False,
            request_max_body_size=JSON_BYTES,
            exception_handlers={Exception: on_page_error},
        )
        async def sent(request: Ask, service: Service) -> Response[Any]:
            form = Form(tuple((await request.form()).multi_items()))
            return await sync_to_thread(act, request, service, form)

        return sent

    return register
