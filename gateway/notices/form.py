"""How a notice comes in: JSON or a form, read into :class:`ledger.consent.notices.Form`.

What was typed is somebody's name and address, so no answer ever repeats a value: only which field is wrong, and how
to put it right.
"""

import json
from collections.abc import Mapping
from typing import Any

from litestar import Request
from litestar.datastructures import UploadFile
from pydantic import ValidationError

from gateway.access import JSON_BYTES
from gateway.problems import Problem, problem
from ledger.consent.notices import Form
from ledger.reasons import Reason

MOST_PICTURES = 4
PICTURE_BYTES = 20 << 20
Body = tuple[dict[str, Any], UploadFile | None, list[bytes]]
"""The fields, the file `clip`, and the files `pictures`."""
_CHECKED = {"true", "on", "1", "yes"}
_FIELDS: dict[str, tuple[str, str]] = {
    "kind": ("`takedown` or `do_not_generate`", "say what you ask for"),
    "name": ("your name", "give your name, at most 200 characters"),
    "email": ("an e-mail address", "give one whose mail you can read"),
    "shown": ("who is shown", "say who it is, at most 200 characters"),
    "relation": (
        "how you stand to that person",
        "choose `self`, `parent_or_guardian`, `representative` or `family_of_the_dead`",
    ),
    "good_faith": ("your statement of good faith", "state that you believe this in good faith"),
    "signature": ("your signature", "type your name again to sign"),
    "country": ("a country", "give its ISO 3166-1 code, like `IN` or `US`"),
    "intimate": ("`true` or `false`", "say whether the clip is intimate"),
    "reason": ("why", "say why, in at most 4000 characters"),
}


async def read_body(request: Request[Any, Any, Any]) -> Body:
    """Raises a 4xx problem for what is neither JSON nor a form, or holds what is not expected."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    length = request.content_length
    if kind != "multipart/form-data" and (length is None or length > JSON_BYTES):
        # Only files are large. Whatever else anyone sends is parsed whole, while everybody waits.
        raise problem(
            413,
            "request.length",
            "the body is over 64 KiB, or does not say how long it is",
            "send files as a form",
        )
    if kind == "application/json":
        try:
            fields = json.loads(await request.body())
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            raise problem(400, "request.body", "the body is not a JSON object", "send one")
        return fields, None, []
    if kind not in {"multipart/form-data", "application/x-www-form-urlencoded"}:
        raise problem(415, "request.content_type", "the body is neither JSON nor a form", "send a form")
    fields, files = {}, list[tuple[str, UploadFile]]()
    for key, value in (await request.form()).multi_items():
        if isinstance(value, UploadFile):
            # A page sends a file without a name where none was chosen.
            files += [(key, value)] if value.filename else []
        elif key in fields:
            raise problem(400, "request.field", "a field is sent twice", "send it once")
        else:
            fields[key] = value.lower() in _CHECKED if key in {"good_faith", "intimate"} else value
    clips = [file for key, file in files if key == "clip"]
    pictures = [file for key, file in files if key == "pictures"]
    if len(clips) > 1 or len(pictures) > MOST_PICTURES or len(clips) + len(pictures) < len(files):
        raise problem(
            400,
            "request.file",
            "a file is not expected, or is one too many",
            f"send one `clip`, or up to {MOST_PICTURES} `pictures`",
        )
    return fields, next(iter(clips), None), [await one.read(PICTURE_BYTES + 1) for one in pictures]


def read_form(fields: Mapping[str, Any]) -> Form:
    """Raises a 400 problem with one reason for each field that is wrong."""
    try:
        return Form.model_validate(fields, strict=True)
    except ValidationError as error:
        wrong = {str(one["loc"][0]) for one in error.errors(include_input=False) if one["loc"]}
    reasons = [
        Reason(f"takedown.{name}", f"the field `{name}` is not {what}", remedy)
        for name, (what, remedy) in _FIELDS.items()
        if name in wrong
    ]
    unknown = Reason("request.field", "a field is not known here", f"send only `{'`, `'.join(_FIELDS)}`")
    raise Problem(400, *(reasons or [unknown]))
