"""`countersign models`: what each check runs on, and bringing the weights that no package carries.

`list` says of every check whether it runs, on what, what is missing, and whose clips are refused for it. `add` takes
weights from a file, if they have the SHA-256 they should have; `fetch` gets that file from its publisher's address
first, and is the only command that asks the network for anything. `verify` hashes every file once more.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, get_args

import click
import httpx

from gateway.service import Service, open_service
from gateway.settings import Settings
from ledger.ids import AppId, VideoId
from ledger.log.policy import shown
from safety import clearing, models
from safety.errors import CheckUnavailable, InvalidInput
from safety.models import CATALOGUE, PACKAGED, Folder
from safety.policy.engine import Engine
from safety.policy.facts import (
    FIELDS,
    LATER,
    TYPES,
    Category,
    Check,
    JobFacts,
    OutputFacts,
    RequestFacts,
    from_json,
)

FILMS: Final = "enrolment"
"""What is looked at before there is a likeness; no clip depends on it."""
EVERY: tuple[str, ...] = ("faces", "prompt", *clearing.CHECKS, FILMS)
WORDS: Mapping[str, str] = {
    **clearing.WORDS,
    "prompt": "words of a request",
    FILMS: "films of new likenesses",
}
TIMEOUT_S: Final = 60.0
SHA256 = click.option(
    "--sha256", default="", help="The SHA-256 that its publisher states, where we know none."
)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a check stands. refused: the models, of those this service has, no clip of which is let through.

    `open_refused`: whether those of a model that draws of its own would be refused, too.
    """

    check: str
    runs: bool
    on: tuple[str, ...]
    missing: str
    remedy: str
    refused: tuple[str, ...]
    open_refused: bool


@click.group("models")
def model_files() -> None:
    """The weights that checks run on."""


@model_files.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print everything.")
def print_checks(as_json: bool) -> None:
    """List every check: whether it runs, on what, and what it costs where it does not.

    Exit status 1 where clips of a model that this service has are refused for want of one.
    """
    with open_service(Settings()) as service:
        found = list(standings(service))
        added = Folder(service.settings.models).added()
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], indent=2))
    else:
        for one in found:
            for line in _told(one):
                click.echo(shown(line))
        if added:
            click.echo(
                "How well added models find what they look for is not measured: nothing here vouches for it."
            )
    sys.exit(1 if any(one.refused for one in found) else 0)


def standings(service: Service) -> Iterator[Standing]:
    """How each check stands, and what follows from that under the policies in force."""
    folder = Folder(service.settings.models)
    with service.ledger.reading() as tx:
        engine = service.sets.engine(tx, AppId("app_none"))
    closed = {name: backend.closed for name, backend in service.pipeline.backends.items()}
    for check in EVERY:
        needs = [name for name, one in PACKAGED.items() if check in one.checks]
        on, missing, remedy = list[str](), "", ""
        try:
            for name in needs:
                models.packaged(name)
                on.append(f"{name} ({PACKAGED[name].origin})")
            if any(check in known.checks for known in CATALOGUE.values()):
                chosen = folder.chosen()
                if chosen is None:
                    missing = "no package carries weights for it, and none were added"
                    remedy = f"countersign models fetch {next(iter(CATALOGUE))}"
                else:
                    chosen.verified()
                    on.append(f"{chosen.name} (added, quality not measured)")
        except CheckUnavailable as error:
            missing, remedy = str(error), error.reason.remedy
        refused = tuple(
            name
            for name, draws_nothing in closed.items()
            if missing and _refuses(engine, check, draws_nothing)
        )
        yield Standing(
            check,
            not missing,
            tuple(on),
            missing,
            remedy,
            refused,
            open_refused=bool(missing) and _refuses(engine, check, closed=False),
        )


def _refuses(engine: Engine, check: str, closed: bool) -> bool:
    """Whether the policies refuse a clip, in which nothing is wrong, for want of this check alone."""
    return not _passes(engine, closed, lacking=check) and _passes(engine, closed)


def _passes(engine: Engine, closed: bool, *, lacking: str = "") -> bool:
    nothing = dict.fromkeys(get_args(Category), 0)
    unchecked = sorted({lacking} & set(get_args(Check)))
    seen = dict.fromkeys(FIELDS[OutputFacts], 0) | {
        "unreadable": False,
        "faces_checked": lacking != "faces",
        "classifiers_ok": lacking != "prompt",
        "unchecked": unchecked,
        "closed_model": closed,
        "scores": nothing,
    }
    asked = dict.fromkeys(FIELDS[RequestFacts], 0) | {
        "action": "generate",
        "purpose": "dpv:NonCommercialPurpose",
        "audience": "requester",
        "modalities": ["face"],
        "contexts": [],
        "classifiers_ok": True,
        "ledger_ok": True,
        "scores": nothing,
    }
    output, request = _facts(OutputFacts, seen), _facts(RequestFacts, asked)
    job = JobFacts(VideoId("video_asked"), consenting=0, recorded=False, copies=0)
    return engine.rule("clear", job=job, request=request, output=output).allowed


def _facts(kind: type[Any], said: Mapping[str, object]) -> Any:
    """Facts of a kind. What they have come to say lately is as it was before they said it."""
    lately = {name for name in said if f"{TYPES[kind]}.{name}" in LATER and not said[name]}
    return from_json(kind, {name: value for name, value in said.items() if name not in lately})


def _told(one: Standing) -> Iterator[str]:
    what = WORDS[one.check]
    if one.runs:
        yield f"runs     {what:28} {', '.join(one.on) or 'lists of hashes; no weights'}"
        return
    yield f"missing  {what:28} {one.missing}"
    if one.check == FILMS:
        yield f"         {'':28} refused for it: every film somebody sends of themselves"
        yield f"         {'':28} {one.remedy}"
        return
    whose = (*one.refused, *(["every model that draws of its own"] if one.open_refused else []))
    cost = f"refused for it: clips of {' and '.join(whose)}" if whose else "no clip is refused for it"
    yield f"         {'':28} {cost}"
    yield f"         {'':28} {one.remedy}"


@model_files.command("add")
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@SHA256
def add_file(name: str, file: Path, sha256: str) -> None:
    """Use the weights in FILE as the model NAME, if they have the SHA-256 they should have."""
    _added(name, file, sha256)


@model_files.command("fetch")
@click.argument("name")
@SHA256
def fetch_file(name: str, sha256: str) -> None:
    """Fetch the model NAME from its publisher, and use it if it has the SHA-256 it should have."""
    known, _ = models.expected_of(name, sha256)
    with TemporaryDirectory(prefix="fetched-") as directory:
        file = Path(directory) / known.url.rpartition("/")[2]
        with click.progressbar(
            _fetched(known.url, file, known.most_bytes), label=name, show_pos=True
        ) as parts:
            for _ in parts:
                pass
        _added(name, file, sha256)


def _fetched(url: str, file: Path, most_bytes: int) -> Iterator[int]:
    """Write what lies at `url` to `file`, and yield how much there is so far. Raises CheckUnavailable."""
    size = 0
    try:
        with (
            httpx.stream("GET", url, follow_redirects=True, timeout=TIMEOUT_S) as answer,
            file.open("wb") as out,
        ):
            answer.raise_for_status()
            for part in answer.iter_bytes(models.CHUNK):
                size += len(part)
                if size > most_bytes:
                    raise InvalidInput(
                        "models.size",
                        f"more than `{most_bytes}` bytes came",
                        "see whether the address is right",
                    )
                out.write(part)
                yield size
    except (httpx.HTTPError, OSError) as error:
        raise CheckUnavailable(
            "models.fetch",
            f"the weights could not be fetched from `{url}`",
            "fetch that file some other way, and use `countersign models add`",
        ) from error


def _added(name: str, file: Path, sha256: str) -> None:
    folder = Folder(Settings().models)
    made = folder.add(name, file, sha256=sha256)
    click.echo(f"{made.name} is in use: {made.bytes} bytes, SHA-256 {made.sha256}")
    click.echo(
        "How well it finds what it looks for is not measured. It adds reasons to refuse a clip, none to allow."
    )


@model_files.command("verify")
def verify_files() -> None:
    """Hash every file that a check runs on, and compare. Exit status 1 where one is missing or altered."""
    wrong = 0
    for name, said in _verified(Folder(Settings().models)):
        click.echo(shown(f"{'ok' if not said else 'WRONG':6} {name}{f': {said}' if said else ''}"))
        wrong += bool(said)
    click.echo(f"{wrong} wrong" if wrong else "every file is the one expected")
    sys.exit(1 if wrong else 0)


def _verified(folder: Folder) -> Iterator[tuple[str, str]]:
    """Each model, and what is wrong with it, if anything."""
    checks: Mapping[str, object] = {**PACKAGED, **CATALOGUE}
    for name in checks:
        try:
            if name in PACKAGED:
                models.packaged.__wrapped__(name)
            else:
                added = folder.one(name)
                if added is None:
                    continue
                added.verified()
        except CheckUnavailable as error:
            yield name, str(error)
        else:
            yield name, ""
