"""A witness as a service of its own: `POST /add-checkpoint`, and nothing else.

The protocol is C2SP tlog-witness; what is cosigned and what is refused is :class:`ledger.log.witness.Witness`'s
to say, here its answers get their HTTP form. A home holds the key and the state together: losing one without the
other would let the witness start again at zero under a name that is trusted for having a memory.

    home/witness.key        32 bytes, mode 0600, made at the first start
    home/witness/           what was cosigned last, one file for each log; never delete one, never copy one back
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, assert_never

import click
from litestar import Litestar, Request, Response, post
from litestar.exceptions import HTTPException
from litestar.params import RawBody

from gateway.serve import listen
from ledger.errors import Inconsistent, LedgerError
from ledger.keys import load_key
from ledger.log.note import SignatureType, SignerKey, VerifierKey
from ledger.log.witness import MAX_REQUEST_BYTES, PLAIN_TYPE, Cosigned, Refused, Witness

_log = logging.getLogger(__name__)


def create_witness_app(witness: Witness, clock: Callable[[], datetime]) -> Litestar:
    """The protocol over an open witness; `clock` is read once for each request."""

    @post("/add-checkpoint", status_code=200, sync_to_thread=True)
    def add_checkpoint(body: RawBody) -> Response[bytes]:
        """Cosign a checkpoint that extends everything cosigned before."""
        answer = witness.add_checkpoint(body, clock())
        match answer:
            case Cosigned(line):
                return _answer(200, line)
            case Refused(status, refusal, media_type):
                return _answer(status, refusal, media_type)
            case _:
                assert_never(answer)

    return Litestar(
        route_handlers=[add_checkpoint],
        exception_handlers={Exception: _on_error},
        request_max_body_size=MAX_REQUEST_BYTES,
        openapi_config=None,
    )


def _answer(status: int, body: bytes, media_type: str = PLAIN_TYPE, **headers: str) -> Response[bytes]:
    """The type stands as the protocol has it; given as a media type, the framework would add to it."""
    return Response(body, status_code=status, headers={"content-type": media_type, **headers})


def _on_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Plain text, as the rest of the protocol. A log takes each of these for a refusal, and may try again."""
    match error:
        case LedgerError():
            status, sentence = 503, error.reason.sentence
        case HTTPException():
            status, sentence = error.status_code, "a witness answers only `POST /add-checkpoint`"
        case _:
            status, sentence = 500, "something went wrong in this witness"
    if status >= 500:
        _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    if status == 413:
        # The rest of the body stays unread, so this connection can carry no further request: say so.
        return _answer(
            413, f"a request has at most `{MAX_REQUEST_BYTES}` bytes\n".encode(), connection="close"
        )
    return _answer(status, f"{sentence}\n".encode())


def open_witness(home: Path, name: str, logs: list[str]) -> Witness:
    """The witness that lives in `home`, made there if there never was one. Raises LedgerError."""
    keys = [VerifierKey.parse(vkey) for vkey in logs]
    state, key = home / "witness", home / "witness.key"
    if key.exists() and not state.is_dir():
        raise Inconsistent(
            "witness.lost",
            f"the key of the witness is here, but `{state.name}/` with what it cosigned is not",
            "put the folder back, if it is certain that nothing was cosigned after; otherwise retire this key",
        )
    # The folder before the key: a start that is cut short between the two is no lost state.
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Witness(state, SignerKey.from_seed(name, load_key(key), SignatureType.COSIGNATURE), keys)


def run_witness(
    home: Path, name: str, logs: list[str], host: str, port: int, stop_after_s: float | None = None
) -> None:
    """Open the witness, print its vkey and serve it."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    witness = open_witness(home, name, logs)
    click.echo(str(witness.verifier))
    for origin in witness.origins:
        try:
            latest = witness.latest(origin)
        except Inconsistent as error:
            # The other logs' witness goes on; this one gets no cosignature until somebody has looked.
            click.echo(f"{error.reason.sentence}\n  {error.reason.remedy}", err=True)
        else:
            click.echo(f"  {origin}: {latest.size if latest else 'no'} leaves seen", err=True)
    app = create_witness_app(witness, lambda: datetime.now(UTC))
    listen(app, host, port, stop_after_s=stop_after_s)
