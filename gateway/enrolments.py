"""`countersign enrolments`: the films of people who want a likeness here, listed, accepted or turned down.

Accepting is an operator's word, and only their own key says it: this signs the same statement that
`POST /v1/cameos/vouched` takes, with a key file that never leaves this machine. Look at the film first, on the
operator's desk (`/operator`): what is signed names it by its SHA-256.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from gateway.orders import operator_key
from gateway.owners.enrolment import RefuseIn, enrol_filmed, refuse_film, waiting_films
from gateway.service import Service, open_service
from gateway.settings import Settings
from ledger.canonical import canonical
from ledger.consent.grant import zulu
from ledger.consent.statement import ENROLMENT_TAG, encode_key, sign
from ledger.errors import NotFound
from ledger.log.policy import shown
from safety.errors import Refused

KEY = click.option(
    "--key",
    "key_file",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file with your own key, made by `countersign keys new`.",
)


@click.group()
def enrolments() -> None:
    """Films of people who want their likeness here."""


@enrolments.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print everything.")
def print_films(as_json: bool) -> None:
    """List the films that wait, and what each person was asked to do in theirs."""
    with open_service(Settings()) as service:
        waiting = waiting_films(service)
    if as_json:
        click.echo(json.dumps(waiting, indent=2))
        return
    for one in waiting:
        born = f", born {one['born_on']}" if one["born_on"] else ""
        click.echo(shown(f"{one['capture_id']}  {one['display_name']}{born}, sent {one['sent_at']}"))
        click.echo(f"    digits {one['digits']}, then {', '.join(one['turns'])}")
        for finding in one["findings"]:
            if finding["doubted"]:
                click.echo(shown(f"    doubtful: {finding['sentence']} ({finding['score']})"))
    click.echo(f"{len(waiting)} waiting")


@enrolments.command("show")
@click.argument("capture")
def print_film(capture: str) -> None:
    """What a machine makes of CAPTURE, the worst first: 0 to 1000, and 1000 is as it should be."""
    with open_service(Settings()) as service:
        film = _waiting(service, capture)
    click.echo(shown(f"{film['capture_id']}  {film['display_name']}, sent {film['sent_at']}"))
    click.echo(f"digits {film['digits']}, then {', '.join(film['turns'])}")
    for finding in film["findings"]:
        mark = "doubtful" if finding["doubted"] else "as it should be"
        click.echo(shown(f"{finding['score']:5}  {finding['check']:8} {finding['sentence']} ({mark})"))


@enrolments.command()
@click.argument("capture")
@KEY
@click.option(
    "--alike",
    is_flag=True,
    help="You know that a face like this one is enrolled already, and that it is right.",
)
@click.option(
    "--born-on",
    type=click.DateTime(["%Y-%m-%d"]),
    help="The birth date you saw proof of. Without it, nobody has vouched for an age.",
)
def accept(capture: str, key_file: Path, born_on: datetime | None, *, alike: bool) -> None:
    """Vouch that CAPTURE shows whose account it is. You have looked at it, and know who they are."""
    with open_service(Settings()) as service:
        key = operator_key(key_file)
        operator = operator_of(service, key)
        film = _waiting(service, capture)
        statement = {
            "schema": "countersign/enrolment/v1",
            "path": "vouched",
            "operator": operator,
            "display_name": film["display_name"],
            "person_id": film["person_id"],
            "born_on": born_on.date().isoformat() if born_on else None,
            "portrait_sha256": film["sha256"],
            "issued": zulu(service.clock()),
            **({"alike": True} if alike else {}),
        }
        signed = canonical(statement)
        evidence = sign(ENROLMENT_TAG, signed, key)
        enrolled = enrol_filmed(service, signed.decode(), evidence.model_dump_json(), capture)
    click.echo(shown(f"{film['display_name']} is here as {enrolled['cameo_id']}, vouched for by {operator}"))


@enrolments.command()
@click.argument("capture")
@KEY
@click.option("--reason", required=True, help="Why, in words that the person will read.")
def refuse(capture: str, key_file: Path, reason: str) -> None:
    """Turn CAPTURE down. The film is destroyed, and the person reads why."""
    try:
        why = RefuseIn(reason=reason)
    except ValidationError as error:
        raise click.BadParameter("say why in 3 to 300 characters", param_hint="--reason") from error
    with open_service(Settings()) as service:
        refuse_film(service, operator_of(service, operator_key(key_file)), capture, why)
    click.echo(f"{capture} is turned down, and destroyed")


def _waiting(service: Service, capture: str) -> dict[str, Any]:
    film = next((one for one in waiting_films(service) if one["capture_id"] == capture), None)
    if film is None:
        raise NotFound(
            "enrolment.unknown",
            f"no film `{capture[:40]}` waits to be looked at",
            "see `countersign enrolments list`",
        )
    return film


def operator_of(service: Service, key: Ed25519PrivateKey) -> str:
    """Whose key this is. Raises Refused for one that is nobody's."""
    with service.ledger.reading() as tx:
        operator = tx.operator_by_key(encode_key(key.public_key()))
    if operator is None:
        raise Refused(
            "operator.unknown",
            "this key is registered for no operator",
            "register it with `countersign keys create operator NAME --public-key …`",
        )
    return operator
