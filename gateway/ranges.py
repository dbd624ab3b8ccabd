"""A stored clip over HTTP: whole, or the one range of its bytes that was asked for (RFC 9110 §14)."""

import re
from dataclasses import dataclass
from typing import Any

from litestar import Request, Response
from litestar.response import Stream

from gateway.problems import problem
from ledger.store.objects import Objects

Ask = Request[Any, Any, Any]


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes [start, end) of an object."""

    key: str
    size: int
    start: int
    end: int
    partial: bool
    """Whether the answer is 206: a range was asked for, and it is one we serve alone."""

    @property
    def etag(self) -> str:
        return _etag(self.key)


def wanted_piece(request: Ask, objects: Objects, key: str) -> Piece:
    """What of a clip is asked for. Raises a 416 problem for bytes it does not have."""
    size = objects.size(key)
    whole = Piece(key, size, 0, size, partial=False)
    wanted = request.headers.get("range") if request.method == "GET" else None
    if not wanted or request.headers.get("if-range", _etag(key)) != _etag(key):
        return whole
    # At most 18 digits: Python refuses to read thousands of them, and no clip is that long.
    found = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", wanted.strip())
    # Anything but one byte range may be answered with the whole (RFC 9110 §14.2).
    if not found or found.group(0) == "bytes=-":
        return whole
    first, last = found.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if start >= size or start >= end:
        error = problem(416, "request.range", f"the clip has `{size}` bytes", "ask for bytes it has")
        error.headers["content-range"] = f"bytes */{size}"
        raise error
    return Piece(key, size, start, end, partial=True)


def send(request: Ask, objects: Objects, piece: Piece) -> Response[Any]:
    """The bytes; to a HEAD only what would be said about them."""
    headers = {
        "accept-ranges": "bytes",
        "content-length": str(piece.end - piece.start),
        "etag": piece.etag,
    }
    if piece.partial:
        headers["content-range"] = f"bytes {piece.start}-{piece.end - 1}/{piece.size}"
    status = 206 if piece.partial else 200
    if request.method == "HEAD":
        return Response(b"", media_type="video/mp4", status_code=status, headers=headers)
    return Stream(
        objects.read(piece.key, piece.start, piece.end),
        media_type="video/mp4",
        status_code=status,
        headers=headers,
    )


def _etag(key: str) -> str:
    return f'"{key.rsplit("/", 1)[-1]}"'
