"""`countersign reviews`: the clips that were held for people to look at, listed, shown, let pass or refused.

Who speaks is whoever holds an operator's own signing key; the file never leaves this machine. What is shown is blurred
unless `--sharp` asks otherwise, and a sharp look is in the log before there is a picture. See :mod:`gateway.held`.
"""

import json
from pathlib import Path
from typing import Any

import click

from gateway import held
from gateway.enrolments import KEY, operator_of
from gateway.orders import operator_key
from gateway.service import Service, open_service
from gateway.settings import Settings
from ledger.errors import NotFound
from ledger.log.policy import shown

NOTE = click.option("--note", required=True, help="Why, in words that the app and everyone shown will read.")
SECOND = 3
"""Exit status: another operator has to say the same."""


@click.group()
def reviews() -> None:
    """Clips that a machine held for people to look at."""


@reviews.command("list")
@KEY
@click.option("--json", "as_json", is_flag=True, help="Print everything.")
def print_queue(key_file: Path, as_json: bool) -> None:
    """List what waits, the next to lapse first."""
    with open_service(Settings()) as service:
        waiting = held.queue(service, operator_of(service, operator_key(key_file)))
    if as_json:
        click.echo(json.dumps(waiting, indent=2))
        return
    for one in waiting:
        said = ", let pass by one" if one["passed_by_others"] or one["passed_by_me"] else ""
        click.echo(shown(f"{one['video_id']}  {one['waits_for']} until {one['until']}{said}"))
        click.echo(shown(f"    {one['app_name']}: “{one['prompt']}”; {', '.join(one['policies'])}"))
    click.echo(f"{len(waiting)} waiting")


@reviews.command()
@click.argument("clip")
@KEY
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder for the pictures.",
)
@click.option("--sharp", is_flag=True, help="As they are, not blurred. That you looked is recorded.")
def show(clip: str, key_file: Path, out: Path, sharp: bool) -> None:
    """Write the pictures of CLIP in which something was found, the faces in question marked."""
    with open_service(Settings()) as service:
        operator = operator_of(service, operator_key(key_file))
        one = _waiting(service, operator, clip)
        kept = held.look(service, operator, clip) if sharp else held.unseen(service, clip)
        out.mkdir(parents=True, exist_ok=True)
        for number, _ in enumerate(one["pictures"]):
            path = out / f"{clip}-{number}.jpg"
            path.write_bytes(held.picture(service, kept, number, sharp=sharp))
            click.echo(str(path))


@reviews.command("pass")
@click.argument("clip")
@KEY
@NOTE
def let_pass(clip: str, key_file: Path, note: str) -> None:
    """Let CLIP go on. It takes two operators who have looked at it; the first is told so, with exit status 3."""
    answer = _say(clip, key_file, "pass", note)
    if answer["status"] == "waiting":
        click.echo(f"{clip} waits: another operator has to look at it and let it pass")
        raise SystemExit(SECOND)
    click.echo(
        {
            "released": f"{clip} is out",
            "approval": f"{clip} waits for those it shows",
            "ended": f"{clip} does not go out: something else stands against it",
        }[answer["status"]]
    )


@reviews.command()
@click.argument("clip")
@KEY
@NOTE
def refuse(clip: str, key_file: Path, note: str) -> None:
    """Do not let CLIP go out. It is kept for 14 days, in which its app may ask that others look."""
    _say(clip, key_file, "refuse", note)
    click.echo(f"{clip} is refused")


def _say(clip: str, key_file: Path, decision: held.Decision, note: str) -> dict[str, Any]:
    if not 3 <= len(note) <= 300:
        raise click.BadParameter("say why in 3 to 300 characters", param_hint="--note")
    with open_service(Settings()) as service:
        return held.decide(service, operator_of(service, operator_key(key_file)), clip, decision, note)


def _waiting(service: Service, operator: str, clip: str) -> dict[str, Any]:
    found = next((one for one in held.queue(service, operator) if one["video_id"] == clip), None)
    if found is None:
        raise NotFound("review.unknown", f"no clip `{clip[:40]}` waits", "see `countersign reviews list`")
    return found
