"""`countersign keys signing | rotate-signing | revoke-signing`: certificates that clips are signed with."""

from datetime import UTC, datetime
from hashlib import sha256
from typing import cast, get_args

import click
from cryptography import x509

from gateway.service import Service, open_service
from gateway.settings import Settings
from gateway.signing import Signing
from ledger.errors import ProvenanceError
from ledger.log.signing import Certified, Reason, revoked
from ledger.provenance import pki
from ledger.provenance.trust import DEVELOPMENT, fingerprint


def rotated(signing: Signing, *, issuing: bool) -> x509.Certificate:
    """A new claim signer in force from the next clip on. Raises ProvenanceError where it is not ours to make."""
    if signing.configured is not None:
        raise ProvenanceError(
            "signing.elsewhere",
            "the key that signs clips is not made here",
            "get a new certificate, put it in COUNTERSIGN_SIGNING_CHAIN, and restart; clips signed before stay trusted",
        )
    signing.authority()  # there is one to succeed
    return pki.rotate(
        signing.directory,
        at=signing.clock(),
        url=signing.settings.url,
        announce=signing.announce,
        issuing=issuing,
    )


def take_back(service: Service, serial: int, reason: Reason, since: datetime | None) -> Certified:
    """Revoke a certificate; the one in use is succeeded first. Raises ProvenanceError, LogError."""
    signing, at = service.signing, service.clock()
    held = [row for row in signing.table().rows if _certificate(row).serial_number == serial]
    if len(held) != 1:
        raise ProvenanceError(
            "signing.unknown",
            f"no certificate with the serial number `{serial:x}` signed here",
            "list them: countersign keys signing",
        )
    if since is not None and reason != "keyCompromise":
        raise ProvenanceError(
            "signing.since",
            "only a compromised key reaches back",
            "leave --since out, or give --reason keyCompromise",
        )
    row = held[0]
    if signing.configured is None and fingerprint(signing.authority().claims.certificate) == row.sha256.hex():
        rotated(signing, issuing=False)

    def record(time: int) -> dict[int, object]:
        reaches = min(time, int(since.timestamp())) if since is not None else None
        return revoked(row.sha256, time=time, reason=reason, since=reaches)

    service.ledger.transact(lambda tx: tx.announce_signing(record(int(tx.dated(at).timestamp())), at=at))
    found = signing.table().find(sha256(row.der).digest())
    return found or row


@click.command("signing")
def show() -> None:
    """List the certificates that clips are or were signed with."""
    with open_service(Settings()) as service:
        signing = service.signing
        if signing.development:
            click.echo(DEVELOPMENT)
        current = signing.configured or signing.authority().claims
        rows = signing.table().rows
    for row in rows:
        leaf = _certificate(row)
        state = "in use" if leaf == current.certificate else "retired"
        if row.since is not None:
            state = f"revoked ({row.reason}), counts until {_day(row.since)}"
        click.echo(f"{leaf.serial_number:x}  from {_day(row.used_from)}  {state}")
        click.echo(f"    {leaf.subject.rfc4514_string()}")


@click.command("rotate-signing")
@click.option("--issuing", is_flag=True, help="A new root and issuing certificate too.")
def rotate_signing(*, issuing: bool) -> None:
    """Put a new certificate of the development authority in force. Clips signed before stay trusted."""
    with open_service(Settings()) as service:
        leaf = rotated(service.signing, issuing=issuing)
    click.echo(f"{leaf.serial_number:x} signs from the next clip on")
    if issuing:
        click.echo("hand out the new anchors: GET /root.pem (the old ones are still among them)")


@click.command("revoke-signing")
@click.argument("serial")
@click.option("--reason", type=click.Choice(get_args(Reason)), required=True)
@click.option(
    "--since", type=click.DateTime(["%Y-%m-%dT%H:%M:%SZ"]), help="UTC; when a stolen key may have left."
)
def revoke_signing(serial: str, reason: str, since: datetime | None) -> None:
    """Take back the certificate with this SERIAL (hex): what it signs from now on, or since then, is not trusted."""
    try:
        number = int(serial.replace(":", ""), 16)
    except ValueError as error:
        raise click.UsageError("SERIAL is hexadecimal, as `countersign keys signing` prints it") from error
    moment = since.replace(tzinfo=UTC) if since else None
    with open_service(Settings()) as service:
        row = take_back(service, number, cast("Reason", reason), moment)
        bought = service.signing.configured is not None
    click.echo(f"revoked: nothing it signed from {_day(row.since or 0)} on is trusted")
    if bought:
        click.echo(
            "others learn of it from the authority that issued it: ask it to revoke the certificate as well"
        )


COMMANDS = (show, rotate_signing, revoke_signing)


def _certificate(row: Certified) -> x509.Certificate:
    return x509.load_der_x509_certificate(row.der)


def _day(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
