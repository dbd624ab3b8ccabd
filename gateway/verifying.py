"""`countersign verify FILE|DIR`: where a file comes from and whether consent to it stands, or so for every video in a folder.

    0  every file is a clip released here, intact or recovered, and no consent to it was taken back
    1  something else is said of at least one of them
    2  at least one could not be looked at

With `--json`, a file's verdict follows the published schema (`GET /schemas/verdict/v2`); of a folder, each line is
`{"file", "verdict"}` or `{"file", "reasons"}`, and the last one `{"summary"}`.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from gateway.service import Service, open_service
from gateway.settings import Settings
from ledger.errors import LedgerError
from ledger.provenance.sentences import STANDS
from ledger.provenance.verdict import Verdict
from ledger.reasons import Reason
from safety.errors import CheckUnavailable

VIDEOS = frozenset({".mp4", ".m4v", ".mov", ".webm", ".mkv"})


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
def verify(path: Path, as_json: bool) -> None:
    """Say where a file, or each video in a folder, comes from, and whether consent to it stands.

    Exit status: 0 all released here and standing, 1 something is not, 2 something could not be looked at.
    """
    with open_service(Settings()) as service:
        if path.is_dir():
            sys.exit(_folder(service, path, as_json=as_json))
        found = _looked(service, path)
    if isinstance(found, Reason):
        if as_json:
            click.echo(json.dumps({"reasons": [found.as_json()]}, indent=2))
        click.echo(f"countersign: {found.sentence}\n  {found.remedy}", err=True)
        sys.exit(2)
    click.echo(json.dumps(found.as_json(), indent=2) if as_json else "\n".join(lines(found)))
    sys.exit(0 if found.stands else 1)


def _looked(service: Service, path: Path) -> Verdict | Reason:
    try:
        return service.verifier.verify(path, at=service.clock())
    except (LedgerError, CheckUnavailable) as error:
        return error.reason


def _folder(service: Service, folder: Path, *, as_json: bool) -> int:
    states: Counter[str] = Counter()
    for path in _videos(folder):
        found, name = _looked(service, path), str(path.relative_to(folder))
        state = "unreadable" if isinstance(found, Reason) else found.state
        states[state] += 1
        if as_json:
            what: dict[str, Any] = (
                {"reasons": [found.as_json()]} if isinstance(found, Reason) else {"verdict": found.as_json()}
            )
            click.echo(json.dumps({"file": name, **what}))
        else:
            click.echo(f"{state:<20} {_plain(name)}: {_plain(found.sentence)}")
    counted = dict(sorted(states.items()))
    if as_json:
        click.echo(json.dumps({"summary": counted}))
    else:
        said = ", ".join(f"{count} {state}" for state, count in counted.items())
        click.echo(f"{states.total()} videos{': ' if said else ''}{said}")
    return 2 if states["unreadable"] else 0 if set(states) <= STANDS else 1


def _videos(folder: Path) -> Iterator[Path]:
    """Every video in a folder and below it, by name; no links are followed."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in VIDEOS and path.is_file() and not path.is_symlink():
            yield path


def lines(verdict: Verdict) -> Iterator[str]:
    """The verdict as somebody at a terminal reads it: the sentence, what it rests on, and where to look further."""
    yield _plain(verdict.sentence)
    for said in (*verdict.contradictions, *verdict.reasons):
        yield f"  {said.about.removesuffix('_at').replace('_', ' '):<17} {_plain(said.sentence)}"
    if verdict.video_id is not None and verdict.log is not None:
        where = f"log {verdict.log['origin']}, decision {verdict.log['decision']}, release {verdict.log['release']}"
        yield f"  {'recorded':<17} {verdict.video_id}: {where}"
    if verdict.manifest is not None:
        yield f"  {'manifest':<17} {verdict.manifest}"
    yield f"  {'state':<17} {verdict.state}"


def _plain(text: str) -> str:
    """Without what a terminal would obey: a file's name and its signer's are anybody's words."""
    return "".join(one if one.isprintable() else "?" for one in text)
