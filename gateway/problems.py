"""How errors leave the service: RFC 9457 problems, and the OpenAI error object under `/v1/videos`.

    {"type": "urn:countersign:problem:grant.expired", "title": "…", "status": 400, "detail": "…",
     "reasons": [{"id", "reason", "remedy"}]}

Nothing that is not a :class:`~ledger.reasons.Reason` is ever shown: an unforeseen fault says so and no more.
A refusal under `/v1/videos` is 403 (consent) or 400 (content), never 409 or 5xx, which clients would retry.
"""

import logging
from collections.abc import Sequence
from typing import Any, assert_never

from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException

from generator.errors import GeneratorError
from ledger.errors import Inconsistent, InvalidStatement, LedgerError, MediaError, NotFound, Unavailable
from ledger.reasons import Reason
from safety.errors import CheckUnavailable, SafetyError
from safety.gate import Denied

_log = logging.getLogger(__name__)

_TITLES = {
    400: "The request is not right",
    401: "Who is asking is not known",
    403: "This is refused",
    404: "There is no such thing here",
    405: "This cannot be done here",
    408: "This took too long to arrive",
    409: "This was already done",
    413: "This is too large",
    414: "This is too long for an address",
    415: "This is not a kind of content we read",
    416: "There are no such bytes",
    422: "This cannot be read",
    429: "This was asked too often",
    500: "Something went wrong here",
    503: "This cannot be done right now",
}
_STATUS_OF = {
    "media.too_large": 413,
    "log.not_yet": 503,
    "grant.replayed": 409,
    "statement.wrong_signer": 403,
    "statement.altered": 403,
    "grant.not_yours": 403,
    "grant.minor": 403,
    "grant.not_guardian": 403,
    "grant.not_delegable": 403,
    "guardian.replayed": 409,
    "guardian.age": 403,
    "guardian.of_age": 403,
    "guardian.not_you": 403,
    "guardian.wider": 403,
    "handover.minor": 403,
    "approval.guardian": 403,
    "approval.not_theirs": 403,
    "approval.decided": 409,
    "takedown.confirmed": 409,
    "takedown.decided": 409,
    "takedown.not_decided": 409,
    "takedown.appealed": 409,
    "takedown.too_late": 409,
    "takedown.same_operator": 403,
}


class Problem(Exception):  # noqa: N818 — RFC 9457's own word
    def __init__(
        self,
        status: int,
        *reasons: Reason,
        kind: str = "invalid_request_error",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(reasons[0].sentence)
        self.status, self.kind, self.headers = status, kind, headers or {}
        self.reasons = tuple(Reason(*map(_sendable, (r.id, r.sentence, r.remedy))) for r in reasons)


def _sendable(text: str) -> str:
    """JSON can smuggle in half a character that no answer can be written with."""
    return text.encode("utf-8", "replace").decode()


def problem(status: int, reason_id: str, sentence: str, remedy: str) -> Problem:
    return Problem(status, Reason(reason_id, sentence, remedy))


def refused(denied: Denied) -> Problem:
    match denied.kind:
        case "content":
            return Problem(400, *denied.reasons, kind="content_policy_violation")
        case "consent":
            return Problem(403, *denied.reasons, kind="consent_denied")
        case "output":
            return Problem(403, *denied.reasons, kind="output_refused")
        case "traffic":
            # The one refusal that asking again later changes: clients may retry it by themselves.
            headers = {"retry-after": "60"}
            return Problem(429, *denied.reasons, kind="rate_limit_error", headers=headers)
        case _:
            assert_never(denied.kind)


def on_error(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    """The one exception handler."""
    found = problem_of(error)
    if found.status >= 500:
        _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    path = request.url.path
    body = _openai(found) if path.startswith("/v1/videos") else _rfc9457(found.status, found.reasons)
    media_type = MediaType.JSON if path.startswith("/v1/videos") else "application/problem+json"
    headers = dict(found.headers)
    if found.status == 413:
        # The rest of the body stays unread, so this connection can carry no further request: say so.
        headers["connection"] = "close"
    return Response(body, status_code=found.status, media_type=media_type, headers=headers)


def problem_of(error: Exception) -> Problem:
    """What may be said about any error."""
    match error:
        case Problem():
            return error
        case LedgerError() | SafetyError() | GeneratorError():
            return Problem(_status(error), error.reason)
        case HTTPException():
            return problem(
                error.status_code, f"http.{error.status_code}", _plain(error), "see the API's description"
            )
        case RecursionError():
            # Only a parser of somebody's JSON goes that deep here.
            return problem(400, "request.body", "the body is nested too deeply", "send it flatter")
        case _:
            return problem(500, "service.fault", "something went wrong in the service", "try again later")


def _status(error: LedgerError | SafetyError | GeneratorError) -> int:
    match error:
        case _ if error.reason.id in _STATUS_OF:
            return _STATUS_OF[error.reason.id]
        case NotFound():
            return 404
        case Unavailable() | Inconsistent() | CheckUnavailable():
            return 503
        case InvalidStatement() | MediaError() | SafetyError():
            return 400
        case _:
            return 500


def _plain(error: HTTPException) -> str:
    """Litestar's own text can quote Python; these say the same in our words."""
    words = {
        401: "this needs a key or a session",
        404: "there is nothing at this address",
        405: "this method does not work at this address",
        413: "the upload is larger than this service accepts",
        415: "this kind of content is not read here",
    }
    return words.get(error.status_code, "the request cannot be read")


def _rfc9457(status: int, reasons: Sequence[Reason]) -> dict[str, Any]:
    return {
        "type": f"urn:countersign:problem:{reasons[0].id}",
        "title": _TITLES.get(status, "Error"),
        "status": status,
        "detail": "; ".join(reason.sentence for reason in reasons),
        "reasons": [reason.as_json() for reason in reasons],
    }


def _openai(found: Problem) -> dict[str, Any]:
    first = found.reasons[0]
    text = "; ".join(f"{reason.sentence} ({reason.remedy})" for reason in found.reasons)
    area, _, rest = first.id.partition(".")
    param = {"request": rest, "prompt": "prompt", "media": "input_reference"}.get(area)
    kinds = {401: "authentication_error", 404: "not_found_error", 500: "server_error", 503: "server_error"}
    return {
        "error": {
            "message": text,
            "type": kinds.get(found.status, found.kind),
            "param": param,
            "code": first.id,
            "reasons": [reason.as_json() for reason in found.reasons],
        }
    }
