"""Files that strangers send: taken in bounded, looked at in turn, never kept.

A file lies in `uploads` while it is being looked at and no longer; what a killed process leaves there is gone at the
next start (:func:`gateway.service.running_jobs`). It is written as it comes, in pieces, up to a limit, also out of a
form; how many may be on their way, at all and from one address, how long one may take and how many are looked at side
by side is bounded.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import BoundedSemaphore
from typing import Any, BinaryIO, Final, TypeVar

from litestar import Request
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from gateway.problems import problem
from gateway.service import Service
from gateway.throttle import address

Ask = Request[Any, Any, Any]
R = TypeVar("R")
AT_ONCE: Final = 2
"""Looked at side by side."""
_LOOKING: Final = ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="verify")
"""Threads of their own: a queue of strangers' files never holds up a revocation."""
_PLACES: Final = BoundedSemaphore(16)
_COMING: Final = BoundedSemaphore(16)
_FROM_ONE: Final = 8
"""How many may be on their way from one address: nobody holds all places alone, however slowly they send."""
_SENDERS: Final = Counter[str]()
_WITHIN_S: Final = 300.0
_PARTS: Final = 16
_FORM: Final = "multipart/form-data"
_KINDS: Final = ("video/", "application/octet-stream", "application/mp4", "application/x-www-form-urlencoded")
"""The last is what a well-known command line says of any file that it is not told the kind of."""


async def in_turn(job: Callable[[], R]) -> R:
    """Look at what a stranger sent, two at a time. Raises a 503 problem when too many wait."""
    with _place(_PLACES):
        return await asyncio.get_running_loop().run_in_executor(_LOOKING, job)


@asynccontextmanager
async def received(request: Ask, service: Service) -> AsyncIterator[Path]:
    """The body, or the form's file `file`, as a file that is gone afterwards. Raises a 4xx problem, or a 503 one."""
    form = _boundary(request)
    with (
        _share(address(request, service)),
        _place(_COMING),
        TemporaryDirectory(prefix="verify-", dir=service.settings.uploads) as directory,
    ):
        path = Path(directory) / "upload"
        try:
            async with asyncio.timeout(_WITHIN_S):
                with path.open("wb") as out:
                    taking = _Taken(out, service.settings.max_upload_mb << 20)
                    await (taking.body(request) if form is None else taking.form(request, form))
        except TimeoutError:
            raise problem(
                408, "request.slow", "the file took too long to arrive", "send it over a faster line"
            ) from None
        yield path


@contextmanager
def _share(sender: str) -> Iterator[None]:
    """On the loop's own thread, as all that counts here is."""
    if _SENDERS[sender] >= _FROM_ONE:
        raise problem(
            429,
            "verify.share",
            f"`{_FROM_ONE}` files from your address are on their way already",
            "wait until one of them has been answered",
        )
    _SENDERS[sender] += 1
    try:
        yield
    finally:
        _SENDERS[sender] -= 1
        if not _SENDERS[sender]:
            del _SENDERS[sender]


@contextmanager
def _place(places: BoundedSemaphore) -> Iterator[None]:
    if not places.acquire(blocking=False):
        raise problem(
            503, "verify.busy", "too many files are being checked right now", "try again in a minute"
        )
    try:
        yield
    finally:
        places.release()


def _boundary(request: Ask) -> str | None:
    """Of a form; None for a file that is the body itself. Raises a 415 problem for what is neither."""
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind == _FORM:
        if not options.get("boundary"):
            raise problem(400, "request.form", "the form does not say where its parts end", "send it again")
        return str(options["boundary"])
    if kind and not kind.lower().startswith(_KINDS):
        raise problem(
            415,
            "request.kind",
            f"`{kind[:80]}` is no kind of video",
            "send a video, as the body or as a form",
        )
    return None


class _Taken:
    """What has come, up to a limit."""

    def __init__(self, out: BinaryIO, limit: int) -> None:
        self._out, self._left, self._limit = out, limit, limit

    async def body(self, request: Ask) -> None:
        async for chunk in request.stream():
            self._take(chunk)

    async def form(self, request: Ask, boundary: str) -> None:
        files = 0
        try:
            with PushMultipartParser(boundary, max_segment_count=_PARTS) as parser:
                ours = False
                async for chunk in request.stream():
                    for part in parser.parse(chunk):
                        if isinstance(part, MultipartSegment):
                            ours = part.name == "file" and bool(part.filename)
                            files += ours
                        elif part and ours and files == 1:
                            self._take(part)
        except MultipartError as error:
            raise problem(400, "request.form", "the form is damaged or too long", "send it again") from error
        if files != 1:
            raise problem(400, "request.file", "the one file `file` is missing", "send a video")

    def _take(self, chunk: bytes | bytearray) -> None:
        self._left -= len(chunk)
        if self._left < 0:
            raise problem(
                413, "media.too_large", f"the file is over `{self._limit >> 20}` MB", "send a shorter clip"
            )
        self._out.write(chunk)
