"""`countersign`: serve, verify, audit, consent, enrolments, policy, apps, takedowns, lists, reviews, models, keys, export, watermark, witness, demo.

Commands work on the installation in `COUNTERSIGN_HOME` (default `var/countersign`), beside a running service or
without one. Exit status: 0 done, 1 the answer is no, 2 the command was not right, 3 a second operator has to sign.
"""

import json
import sys
from pathlib import Path
from typing import Any, cast, get_args

import click

from gateway import access, retention, signing_keys
from gateway.access import Role
from gateway.audit import (
    USES,
    Memory,
    certified,
    lines_of,
    log_key_of,
    read_bundle,
    redecided,
    told,
    trust,
    uses_of,
)
from gateway.consent import consent
from gateway.enrolments import enrolments
from gateway.hash_lists import lists
from gateway.log import export, published_size
from gateway.models import model_files
from gateway.monitor import watch
from gateway.notices.deciding import takedowns
from gateway.orders import new_operator_key
from gateway.policy import apps, policy
from gateway.problems import Problem
from gateway.reviewing import reviews
from gateway.service import open_service
from gateway.settings import Settings
from gateway.verifying import verify
from gateway.watermarking import watermarking
from generator.errors import GeneratorError
from ledger.consent import certificate
from ledger.consent.certificate import DELETION, ERASURE
from ledger.consent.statement import decode_bytes
from ledger.errors import LedgerError, LogError
from ledger.ids import CameoId
from ledger.keys import Rotated
from ledger.log import completeness
from ledger.log.note import VerifierKey
from ledger.log.policy import Policy, shown
from safety.errors import SafetyError
from safety.replay import Lost


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


@cli.group()
def audit() -> None:
    """Ask who used whose face, and check the answer."""


AUDITOR = click.option("--auditor", default="local operator", help="Who asks. The owner is told.")
POLICY = click.option(
    "--policy",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A tlog-policy file: the log, its witnesses, and how many must have cosigned.",
)
LOG_KEY = click.option("--log-key", help="The log's verifier key, from a source you trust.")
MEMORY = click.option(
    "--memory",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path(click.get_app_dir("countersign")) / "seen.json",
    help="Where what you saw is remembered, for your next visit.",
)


@audit.command()
@click.option("--cameo", required=True, help="The likeness asked about.")
@AUDITOR
@click.option("--json", "as_json", is_flag=True, help="Print the whole proof.")
def uses(cameo: str, auditor: str, as_json: bool) -> None:
    """List every use and refusal of a likeness, proven to be all there are."""
    with open_service(Settings()) as service:
        bundle = uses_of(service, CameoId(cameo), auditor, at=service.clock())
        verified = completeness.verify(bundle, Policy.alone(service.ledger.verifier))
    if as_json:
        click.echo(json.dumps(bundle, indent=2))
        return
    for line in lines_of(verified.records, USES):
        click.echo(line)
    click.echo(
        f"{len(verified.records)} records, proven to be all that {verified.seen.origin} holds about this likeness"
    )


@audit.command()
@click.option("--cameo", required=True, help="The likeness asked about.")
@AUDITOR
@click.option(
    "--since", type=int, help="The size of the log at your last visit. Default: what is remembered."
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Default: CAMEO.proof.json.")
@MEMORY
def prove(cameo: str, auditor: str, since: int | None, out: Path | None, memory: Path) -> None:
    """Write everything recorded about a likeness to one file that anyone can check without us."""
    with open_service(Settings()) as service:
        seen = Memory(memory).seen(service.ledger.origin, cameo)
        size = since if since is not None else (seen.size if seen else 0)
        bundle = uses_of(service, CameoId(cameo), auditor, at=service.clock(), since=size)
    path = out or Path(f"{cameo}.proof.json")
    path.write_text(json.dumps(bundle, indent=1))
    click.echo(f"{path}: {len(bundle['records'])} records. Check it with: countersign audit verify {path}")


@audit.command("verify")
@click.argument("bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@POLICY
@LOG_KEY
@MEMORY
def verify_list(bundle: Path, policy: Path | None, log_key: str | None, memory: Path) -> None:
    """Check a proof file, offline: is it everything, and does the story hold? Says what was proven and what not.

    A certificate that something was destroyed is checked as well.
    """
    content, remembered = read_bundle(bundle), Memory(memory)
    if content.get("schema") in {ERASURE, DELETION}:
        _verify_certificate(content, policy, log_key, remembered)
        return
    rules, rests_on = trust(content, policy, log_key, remembered)
    seen = remembered.seen(str(content.get("origin")), str(content.get("cameo_id")))
    try:
        verified = completeness.verify(content, rules, seen)
    except LogError as error:
        click.echo(f"NOT PROVEN: {shown(str(error))}\n  ({error.reason.id}) {error.reason.remedy}")
        sys.exit(1)
    for line in (
        *lines_of(verified.records),
        "",
        *told(verified, rests_on=rests_on, first_visit=seen is None),
    ):
        click.echo(line)
    # The key in force, not the one this visit began with: that one may be retired by the next.
    remembered.keep(verified, str(log_key_of(content)))


def _verify_certificate(
    content: dict[str, Any], policy: Path | None, log_key: str | None, remembered: Memory
) -> None:
    origin = str(content.get("origin"))
    known = remembered.log(origin)
    if policy is None and log_key is None and known is None:
        raise click.UsageError("a certificate names no key: give the log's with --log-key, or a --policy")
    rules, rests_on = trust(content, policy, log_key, remembered)
    try:
        found = certificate.verify(content, rules)
    except LogError as error:
        click.echo(f"NOT PROVEN: {shown(str(error))}\n  ({error.reason.id}) {error.reason.remedy}")
        sys.exit(1)
    for line in certified(found, rests_on):
        click.echo(line)


@audit.command()
@click.argument("url")
@POLICY
@LOG_KEY
@click.option("--follow", type=click.FloatRange(min=0.1), metavar="SECONDS", help="Look again, for ever.")
@click.option("--signatures", is_flag=True, help="Verify the signature of each entry too; slow.")
@click.option(
    "--evidence",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("violation.json"),
    show_default=True,
    help="Where to write what shows a broken rule.",
)
@click.option(
    "--memory",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path(click.get_app_dir("countersign")) / "monitor.json",
    help="Where the checkpoint verified last is remembered, for your next visit.",
)
def monitor(
    url: str,
    policy: Path | None,
    log_key: str | None,
    follow: float | None,
    signatures: bool,
    evidence: Path,
    memory: Path,
) -> None:
    """Read the whole log at URL, or in a folder, and check every rule it must keep. Needs nothing from us."""
    if policy is not None and log_key is not None:
        raise click.UsageError("give --policy or --log-key, not both")
    rules = Policy.parse(policy.read_bytes()) if policy else None
    if log_key is not None:
        rules = Policy.alone(VerifierKey.parse(log_key))
    holds = watch(url, rules, memory=memory, evidence=evidence, signatures=signatures, follow_s=follow)
    sys.exit(0 if holds else 1)


@audit.command()
@click.argument("entry")
@AUDITOR
@click.option("--json", "as_json", is_flag=True, help="Print everything the decision was made on.")
def redecide(entry: str, auditor: str, as_json: bool) -> None:
    """Make a decision again, from the ledger alone, and compare it byte for byte. ENTRY: an index, or a video's id."""
    with open_service(Settings()) as service:
        made = redecided(service, entry, auditor, at=service.clock())
    if isinstance(made, Lost):
        click.echo(f"entry {made.index} cannot be decided again: {made.why}")
        sys.exit(1)
    decision = made.decision
    if as_json:
        click.echo(
            json.dumps([part._asdict() for part in decision.parts(service.keyring.facts_key)], indent=2)
        )
    else:
        for line in (
            f"entry {made.index}  {made.at:%Y-%m-%dT%H:%M:%SZ}  {decision.asked.video_id} for {decision.asked.requester.app_id}",
            f"decided     {'allowed' if decision.allowed else 'refused'}, by {', '.join(decision.policy_ids)}",
            f"policy set  {decision.general.policy_set_hash}",
            f"screening   {decision.asked.screening}: {json.dumps(dict(decision.asked.request.scores))}",
            *(f"reason      {reason.id}: {reason.sentence}" for reason in decision.reasons("auditor")),
        ):
            click.echo(shown(line))
    for line in made.differs:
        click.echo(f"DIFFERS     {shown(line)}")
    click.echo(
        "decided again: not what is recorded" if made.differs else "decided again: the same, byte for byte"
    )
    sys.exit(1 if made.differs else 0)


@cli.group()
def keys() -> None:
    """API keys of apps, operators and auditors."""


@keys.command()
@click.argument("role", type=click.Choice(get_args(Role)))
@click.argument("name")
@click.option(
    "--public-key",
    default="",
    help="Ed25519 (base64url): with it an operator vouches, and an app passes on grants that say so.",
)
def create(role: Role, name: str, public_key: str) -> None:
    """Create a key. It is shown once."""
    if role == "operator" and not public_key:
        raise click.UsageError("an operator signs what they vouch for: give --public-key")
    if public_key:
        decode_bytes(public_key, 32)
    with open_service(Settings()) as service:
        secret, holder = access.create_key(service, role, name, public_key=public_key)
    click.echo(json.dumps({"role": role, "holder": holder, "key": secret}))


@keys.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def new(file: Path) -> None:
    """Make an operator's key in FILE, and print the public key to register it with."""
    click.echo(new_operator_key(file))


@keys.command()
@click.argument("hint")
def revoke(hint: str) -> None:
    """Revoke the key whose last six characters are HINT."""
    with open_service(Settings()) as service:
        count = access.revoke_key(service, hint)
    click.echo(f"{count} revoked")
    sys.exit(0 if count else 1)


@keys.command()
@click.argument("role", type=click.Choice([*get_args(Rotated), "wrapping"]))
def rotate(role: str) -> None:
    """Replace one of the service's own keys. The old one and the new one sign the change, in the log.

    `wrapping` wraps people's keys: rotating it makes old backups unreadable where someone has been erased.
    """
    with open_service(Settings()) as service:
        if role == "wrapping":
            click.echo(f"{service.ledger.rotate_wrapping()} old wrapping keys destroyed")
        else:
            index = service.ledger.rotate(cast("Rotated", role), at=service.clock())
            click.echo(f"the new {role} key counts from entry {index + 1} on")


cli.add_command(verify)
for command in signing_keys.COMMANDS:
    keys.add_command(command)
cli.add_command(policy)
cli.add_command(apps)
cli.add_command(consent)
cli.add_command(enrolments)
cli.add_command(takedowns)
cli.add_command(lists)
cli.add_command(reviews)
cli.add_command(model_files)
cli.add_command(watermarking)


@cli.command("export")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
def export_log(directory: Path) -> None:
    """Write the published log to DIRECTORY as static files, for any web server. Run it again to add what is new."""
    with open_service(Settings()) as service:
        written = export(service.ledger, directory)
        click.echo(
            f"{written} new files; {published_size(service.ledger)} entries under {directory}/checkpoint"
        )


@cli.group("retention")
def keep() -> None:
    """How long things are kept, and destroying what is over."""


@keep.command("run")
def run_retention() -> None:
    """Destroy now what the schedule says is over. The service itself does this every hour."""
    with open_service(Settings()) as service:
        report = retention.run(service)
    for rule, count in sorted(report.destroyed.items()):
        click.echo(f"{count:>6}  {rule}")
    if report.announced:
        click.echo(f"{report.announced:>6}  told that their likeness will be destroyed")


@keep.command("show")
def show_retention() -> None:
    """Print the schedule."""
    for rule in retention.SCHEDULE:
        click.echo(f"{rule.id}: {rule.what['en']}\n    {rule.how_long['en']}. {rule.law}")


@cli.group()
def witness() -> None:
    """Watch someone else's log, and cosign it while it only grows."""


@witness.command("serve")
@click.option("--home", type=click.Path(file_okay=False, path_type=Path), default=Path("var/witness"))
@click.option("--name", required=True, help="The witness's name, for ever; like witness.example/w1.")
@click.option("--log", "logs", multiple=True, required=True, help="A log's verifier key. Once for each log.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=int, default=8461, show_default=True)
@click.option("--stop-after", type=float, metavar="SECONDS", help="Stop by itself.")
def serve_witness(
    home: Path, name: str, logs: tuple[str, ...], host: str, port: int, stop_after: float | None
) -> None:
    """Run a witness (C2SP tlog-witness). Its state must never be restored from a backup."""
    from gateway.witness import run_witness  # noqa: PLC0415 — the server is not needed by the other commands

    run_witness(home, name, list(logs), host, port, stop_after_s=stop_after)


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
        cli.main(prog_name="countersign", standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.Abort:
        sys.exit(130)
    except (LedgerError, SafetyError, GeneratorError, Problem) as error:
        reason = error.reasons[0] if isinstance(error, Problem) else error.reason
        click.echo(f"countersign: {reason.sentence}\n  {reason.remedy}", err=True)
        sys.exit(2)
