"""`countersign consent`: what somebody allowed, checked without the service that keeps it."""

import sys
from pathlib import Path
from typing import Any

import click

from gateway.audit import read_bundle
from ledger.consent.grant import zulu
from ledger.consent.signed_grant import Verified, read, verify
from ledger.consent.statement import Signer
from ledger.consent.words import sentence
from ledger.errors import LedgerError
from ledger.log.note import VerifierKey
from ledger.log.policy import Policy, shown


@click.group()
def consent() -> None:
    """What somebody allowed, and whether they signed it."""


@consent.command("verify")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--policy",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A tlog-policy file: the log, its witnesses, and how many must have cosigned.",
)
@click.option("--log-key", help="The log's verifier key, from a source you trust.")
def verify_file(file: Path, policy: Path | None, log_key: str | None) -> None:
    """Check a signed grant, offline: what it allows, who signed it, and that the log holds it.

    FILE is what /v1/grants/{grant_id} answers. Exit status 1, and the reason by name, when anything does not hold.
    """
    if policy is not None and log_key is not None:
        raise click.UsageError("give --policy or --log-key, not both")
    try:
        content = read_bundle(file)
        rules, rests_on = _trust(content, policy, log_key)
        found = verify(content, rules)
    except LedgerError as error:
        click.echo(f"NOT PROVEN: {shown(str(error))}\n  ({error.reason.id}) {error.reason.remedy}")
        sys.exit(1)
    for line in (*told(found), f"This rests on {rests_on}."):
        click.echo(shown(line))


def _trust(content: dict[str, Any], policy: Path | None, log_key: str | None) -> tuple[Policy | None, str]:
    """Whom to believe about the log, and in words what that rests on."""
    if policy is not None:
        return Policy.parse(policy.read_bytes()), "the keys in your policy file being the right ones"
    if log_key is not None:
        return Policy.alone(VerifierKey.parse(log_key)), "the log's key you gave being the right one"
    place = read(content)
    if place is None:
        return None, "the file alone: it names no place in a log"
    key = VerifierKey.parse(place.vkey)
    return Policy.alone(key), f"the log's key being the right one, compare it with one from elsewhere: {key}"


def told(found: Verified) -> list[str]:
    """What was shown, in words."""
    grant = found.grant
    lines = [
        sentence(grant, grant.grantee.id if grant.grantee.type in {"app", "person"} else ""),
        "",
        f"grant       {grant.grant_id}, of the likeness {grant.cameo_id}",
        f"signed      {_key(found.signer)}; prepared {zulu(grant.issued)}",
        *(f"guardian    {who}: {_key(key)}" for who, key in found.guardians.items()),
    ]
    if found.log is not None and found.checkpoint is not None:
        at, size = found.log.body.get("at"), found.checkpoint.checkpoint.size
        lines.append(f"recorded    log {found.log.origin}, entry {found.log.index}, {at}; of {size} entries")
    else:
        lines.append("recorded    nowhere that this file shows")
    if found.parent is not None:
        lines += ["", "It passes on this grant, and narrows it:", ""]
        lines += [f"  {line}" for line in told(found.parent)]
        return lines
    return [
        *lines,
        "",
        "Not shown by this file: whose key that is, which the person's whole list says;",
        "and whether the grant still stands, which only the service knows.",
    ]


def _key(signer: Signer) -> str:
    if signer.kind == "device":
        return f"with a device's own key `{signer.id}`"
    name = f"{signer.id[:16]}…" if len(signer.id) > 16 else signer.id
    return f"with the passkey `{name}`, on {signer.origin}, and the device verified who held it"
