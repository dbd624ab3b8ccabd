"""`countersign audit monitor URL`: fetch a log over HTTP or from a folder, watch it, and tell what was found.

What is verified is :mod:`ledger.log.monitor`'s to say; here are its reach, its memory and its words.
"""

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click
import httpx

from ledger.errors import LogError, NotFound, Unavailable, Violation
from ledger.log.merkle import MAX_ENTRY_BYTES, TILE_WIDTH
from ledger.log.monitor import Fetch, Monitor, Visit
from ledger.log.note import VerifierKey
from ledger.log.policy import Policy, shown
from ledger.log.publisher import replace

MAX_BYTES = TILE_WIDTH * (2 + MAX_ENTRY_BYTES)
"""The largest resource a log has: a bundle of 256 of the longest leaves."""
TIMEOUT_S = 20.0
ATTEMPTS = 3


def source(url: str) -> Fetch:
    """How to read the log at `url`: `https://…`, `http://…`, `file:///…`, or the path of a folder."""
    parts = urlsplit(url)
    match parts.scheme:
        case "http" | "https":
            return _from_web(url.rstrip("/"))
        case "file":
            return _from_folder(Path(unquote(parts.path)))
        case _:
            return _from_folder(Path(url))


def _from_folder(folder: Path) -> Fetch:
    if not folder.is_dir():
        raise LogError("monitor.folder", f"there is no folder `{folder}`", "give a URL, or an exported log")

    def fetch(path: str) -> bytes:
        try:
            with (folder / path).open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except FileNotFoundError as error:
            raise NotFound("monitor.missing", f"there is no `{path}`") from error
        except OSError as error:
            raise _unreachable(path) from error
        _check_length(path, len(content))
        return content

    return fetch


def _from_web(base: str) -> Fetch:
    # No redirects: the log is where the user said. No compression: a small answer stays small.
    client = httpx.Client(
        timeout=TIMEOUT_S, follow_redirects=False, headers={"accept-encoding": "identity"}, trust_env=False
    )

    def once(path: str) -> bytes:
        with client.stream("GET", f"{base}/{path}") as response:
            if response.status_code == 404:
                raise NotFound("monitor.missing", f"there is no `{path}`")
            if response.status_code != 200:
                raise Unavailable(
                    "monitor.answer", f"the log answers `{response.status_code}` to `{path}`", "check the URL"
                )
            content = bytearray()
            for piece in response.iter_raw():
                content += piece
                _check_length(path, len(content))
            return bytes(content)

    def fetch(path: str) -> bytes:
        for left in reversed(range(ATTEMPTS)):
            try:
                return once(path)
            except httpx.InvalidURL as error:
                raise LogError("monitor.url", f"`{base}` is no URL of a log", "check the URL") from error
            except httpx.HTTPError as error:
                if not left:
                    raise _unreachable(path) from error
        raise AssertionError("the last attempt returns or raises")

    return fetch


def _check_length(path: str, length: int) -> None:
    if length > MAX_BYTES:
        raise Unavailable("monitor.answer", f"`{path}` is larger than anything a log holds", "check the URL")


def _unreachable(path: str) -> Unavailable:
    return Unavailable(
        "monitor.unreachable", f"`{path}` can not be read", "see whether the log can be reached"
    )


# --- watching -----------------------------------------------------------------------------------------------


def watch(
    url: str,
    policy: Policy | None,
    *,
    memory: Path,
    evidence: Path,
    signatures: bool = False,
    follow_s: float | None = None,
    say: Callable[[str], None] = click.echo,
) -> bool:
    """Visit the log, and again every `follow_s` seconds. False once a rule is broken; the evidence is written."""
    seen = _remembered(memory)
    cores = os.cpu_count() or 1
    monitor = Monitor(policy, source(url), seen, signatures=signatures, workers=cores if cores > 1 else 0)
    size = -1
    try:
        while True:
            try:
                visit = monitor.visit(datetime.now(UTC))
            except Unavailable as error:
                if follow_s is None or size < 0:
                    raise
                say(f"{_now()}  {error.reason.sentence}; trying again")
            else:
                _keep(memory, seen)
                if visit.checkpoint.size != size:
                    for line in told(visit, policy, signatures=signatures) if size < 0 else [grown(visit)]:
                        say(shown(line))
                size = visit.checkpoint.size
            if follow_s is None:
                return True
            time.sleep(follow_s)
    except Violation as violation:
        replace(evidence.absolute(), json.dumps(monitor.evidence(violation), indent=1).encode())
        for line in broken(violation, evidence):
            say(shown(line))
        return False
    finally:
        monitor.close()


def told(visit: Visit, policy: Policy | None, *, signatures: bool) -> list[str]:
    """What was proven and what was not, in plain words."""
    log, at = visit.checkpoint, datetime.fromtimestamp(visit.time, UTC)
    names = ", ".join(sorted({signature.key.name for signature in visit.witnesses}))
    proven = [
        f"all {log.size} leaves of the log {log.origin} lead to the signed root, as of {at:%d %B %Y, %H:%M UTC}",
        f"all {visit.epochs} epochs keep every rule: each entry has tags, no tag is assigned twice, all map roots are true",
        "each key was announced by the one before it, and nothing is signed by a key that was not in force",
        "the hashes the log gives out for proofs are those of its leaves",
    ]
    unproven = ["that the service records everything it does"]
    if visit.extends is None:
        unproven.append("anything about earlier visits: this is your first")
    else:
        proven.append(f"the {visit.extends} leaves of your last visit are all there, unchanged")
    if names:
        proven.append(f"the log was witnessed by {names}")
    else:
        unproven.append("that everyone is shown the same log: no witness you named has cosigned it")
    if signatures:
        proven.append("each entry is signed by the service")
    else:
        unproven.append("that the service signed each entry: ask with --signatures")
    public = visit.keys.current("log")
    if policy is None and public is not None:
        key = VerifierKey(log.origin, public)
        unproven.append(f"that the log's key is the right one: compare it with one from elsewhere: {key}")
    return [*(f"proven      {line}" for line in proven), *(f"not proven  {line}" for line in unproven)]


def grown(visit: Visit) -> str:
    return f"{_now()}  grown to {visit.checkpoint.size} leaves, {visit.epochs} epochs; all rules hold"


def broken(violation: Violation, evidence: Path) -> list[str]:
    where = f", at leaf {violation.index}" if violation.index >= 0 else ""
    return [
        f"BROKEN: {violation.reason.sentence}",
        f"  rule {violation.reason.id}{where}",
        f"  evidence in {evidence}: {violation.reason.remedy}",
    ]


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}Z"


def _remembered(path: Path) -> dict[str, bytes]:
    """By origin, the checkpoint that was verified last."""
    try:
        held = json.loads(path.read_text()) if path.exists() else {}
        return {str(origin): note.encode() for origin, note in held.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise LogError(
            "memory.damaged",
            f"the memory of earlier visits, `{path}`, can not be read",
            "restore it; or remove it, and what you saw before will not be compared",
        ) from error


def _keep(path: Path, seen: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, json.dumps({origin: note.decode() for origin, note in seen.items()}, indent=1).encode())
