"""`countersign`: serve, verify, audit, keys, demo.

Commands work on the installation in `COUNTERSIGN_HOME` (default `var/countersign`), beside a running service or
without one. Exit status: 0 done, 1 the answer is no, 2 the command was not right.
"""

import json
import sys
from pathlib import Path
from typing import get_args

import click

from gateway import access
from gateway.access import Role
from gateway.audit import log_keys_of, proven_lines, uses_of
from gateway.service import open_service
from gateway.settings import Settings
from generator.errors import GeneratorError
from ledger.errors import LedgerError
from ledger.ids import CameoId
from safety.errors import SafetyError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="countersign")
def cli() -> None:
    """The consent and provenance ledger for AI video of real people."""


@cli.command()
@click.option("--host", help="Address to listen on. Default: 127.0.0.1.")
@click.option("--port", type=int, help="Port to listen on. Default: 8460.")
@click.option("--stop-after", type=float, metavar="SECONDS", help="Stop by itself.")
def serve(host: str | None, port: int | None, stop_after: float | None) -> None:
    """Run the service."""
    from gateway.serve import run  # noqa: PLC0415 — the server is not needed by the other commands

    chosen = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    run(Settings(**chosen), stop_after_s=stop_after)  # type: ignore[arg-type]  # checked by pydantic


@cli.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
def verify(file: Path, as_json: bool) -> None:
    """Say where FILE comes from, and whether consent to it stands."""
    with open_service(Settings()) as service:
        verdict = service.verifier.verify(file, at=service.clock())
    if as_json:
        click.echo(json.dumps(verdict.as_json(), indent=2))
    else:
        click.echo(verdict.summary)
        click.echo(
            f"  signed by        {verdict.signer or 'nobody we trust'}{f', {verdict.signed_at}' if verdict.signed_at else ''}"
        )
        click.echo(f"  manifest         {'trusted' if verdict.manifest_trusted else verdict.manifest_state}")
        click.echo(
            f"  bytes            {'as signed' if verdict.asset_bound else 'not the ones that were signed'}"
        )
        click.echo(f"  found through    {verdict.recovered_via}")
        if verdict.log is not None:
            click.echo(
                f"  recorded         log {verdict.log['origin']}, decision {verdict.log['decision']}, release {verdict.log['release']}"
            )
            click.echo(
                f"  consent then     {'given by everyone shown' if verdict.consent_then else 'not known'}"
            )
            changed = f" since {verdict.consent_changed_at}" if verdict.consent_changed_at else ""
            click.echo(f"  consent now      {verdict.consent_now}{changed}")
        for note in (*verdict.contradictions, *verdict.notes):
            click.echo(f"  note: {note}")
    sys.exit(0 if verdict.released else 1)


@cli.group()
def audit() -> None:
    """Ask who used whose face."""


@audit.command()
@click.option("--cameo", required=True, help="The likeness asked about.")
@click.option("--auditor", default="local operator", help="Who asks. The owner is told.")
@click.option("--json", "as_json", is_flag=True, help="Print every entry with its proof.")
def uses(cameo: str, auditor: str, as_json: bool) -> None:
    """List every use and refusal of a likeness, each proven to be in the signed log."""
    with open_service(Settings()) as service:
        answer = uses_of(service, CameoId(cameo), auditor, at=service.clock())
        lines = proven_lines(answer, log_keys_of(service))
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    for line in lines:
        click.echo(line)


@cli.group()
def keys() -> None:
    """API keys of apps, operators and auditors."""


@keys.command()
@click.argument("role", type=click.Choice(get_args(Role)))
@click.argument("name")
@click.option(
    "--public-key", default="", help="An operator's Ed25519 public key (base64url), with which they vouch."
)
def create(role: Role, name: str, public_key: str) -> None:
    """Create a key. It is shown once."""
    if role == "operator" and not public_key:
        raise click.UsageError("an operator signs what they vouch for: give --public-key")
    with open_service(Settings()) as service:
        secret, holder = access.create_key(service, role, name, public_key=public_key)
    click.echo(json.dumps({"role": role, "holder": holder, "key": secret}))


@keys.command()
@click.argument("hint")
def revoke(hint: str) -> None:
    """Revoke the key whose last six characters are HINT."""
    with open_service(Settings()) as service:
        count = access.revoke_key(service, hint)
    click.echo(f"{count} revoked")
    sys.exit(0 if count else 1)


@cli.command()
@click.option(
    "--video", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Your own footage."
)
@click.option(
    "--stay/--no-stay", default=True, help="Leave the service running for 15 minutes, to look around."
)
def demo(video: Path | None, stay: bool) -> None:
    """Play a clip's whole life against a running service, and say what happens."""
    from gateway.demo import play  # noqa: PLC0415 — needs the development dependencies

    play(video, stay=stay)


def main() -> None:
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.Abort:
        sys.exit(130)
    except (LedgerError, SafetyError, GeneratorError) as error:
        click.echo(f"countersign: {error.reason.sentence}\n  {error.reason.remedy}", err=True)
        sys.exit(2)
