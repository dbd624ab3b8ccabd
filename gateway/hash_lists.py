"""`countersign lists`: the known prohibited pictures and videos that everything is compared with.

Importing a list, or taking one away, is an operator's word: it is signed with their own key and stands in the log,
so that whoever audits the service sees which lists were in force when. What is on a list is printed nowhere.
"""

import json
import sys
from pathlib import Path

import click
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image, UnidentifiedImageError

from gateway.enrolments import KEY
from gateway.orders import operator_key
from gateway.service import open_service
from gateway.settings import Settings
from ledger.consent.statement import encode_key
from ledger.errors import MediaError
from ledger.log.policy import shown
from ledger.provenance import media
from ledger.provenance.pdq import MOST_BITS, Picture
from ledger.store.records import HashList
from ledger.store.transaction import Transaction
from safety import known_bad
from safety.errors import InvalidInput, Refused
from safety.hash_lists import FORMATS, Format, read
from safety.known_bad import CATEGORIES, ListCategory

FRAMES_EVERY_S = 0.4
_PICTURES = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")


@click.group()
def lists() -> None:
    """Known prohibited pictures and videos, by their hashes."""


@lists.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--name", required=True, help="What the list is called here. One of this name is replaced, whole."
)
@click.option("--category", required=True, type=click.Choice(CATEGORIES))
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    help="plain: HASH[,CATEGORY] a line. signals: `pdq HASH`, `vpdq JSON`. threatexchange: CSV or JSON of descriptors. "
    "vpdq: FRAME,QUALITY,HASH,SECONDS, or JSON. ncmec: XML. stopncii: JSON. Default: what the file looks like.",
)
@click.option("--source", default="", help="Who made the list. Default: the file's name.")
@click.option(
    "--bits",
    type=click.IntRange(0, MOST_BITS),
    default=MOST_BITS,
    show_default=True,
    help="How many of a hash's 256 bits may differ.",
)
@KEY
def import_list(
    file: Path,
    name: str,
    category: ListCategory,
    format_: Format | None,
    source: str,
    bits: int,
    key_file: Path,
) -> None:
    """Put the list in FILE in force. It replaces the one of that name, or nothing changes."""
    key = operator_key(key_file)
    found = read(file.read_bytes(), category=category, format=format_)
    with open_service(Settings()) as service:

        def operation(tx: Transaction) -> HashList:
            return known_bad.put(
                tx,
                found,
                name,
                category,
                source=source or file.name[:200],
                bits=bits,
                operator=_operator(tx, key),
                key=key,
                origin=service.ledger.origin,
                at=service.clock(),
            )

        one = service.ledger.transact(operation)
    click.echo(
        f"{one.name}: version {one.version}, {one.count} hashes ({found.format}), SHA-256 {one.sha256}"
    )
    for why, count in sorted(found.skipped.items()):
        click.echo(f"  not compared with anything: {count} ({shown(why)})")


@lists.command("show")
@click.option("--history", is_flag=True, help="Every change there was, as the log has it.")
@click.option("--json", "as_json", is_flag=True)
def show_lists(history: bool, as_json: bool) -> None:
    """Print the lists in force. Fails where they are not those the log says there are."""
    with open_service(Settings()) as service, service.ledger.reading() as tx:
        said = [dict(body) for body in known_bad.history(tx)]
        held = known_bad.in_force(tx)
    if as_json:
        names = {one.name for one in held}
        current = {body["list"]: body for body in said if body["list"] in names}
        click.echo(json.dumps(said if history else [current[name] for name in sorted(names)], indent=2))
        return
    if history:
        for body in said:
            line = f"{body['at']}  {body['action']:<8}  {body['list']} version {body['version']}, {body['count']} hashes"
            click.echo(shown(f"{line}, by {body['operator']}  {body['sha256']}"))
        return
    for one in held:
        click.echo(
            shown(
                f"{one.name}  {one.category}, version {one.version}, {one.count} hashes, within {one.bits} bits"
            )
        )
        click.echo(shown(f"    from {one.source} ({one.format}), by {one.imported_by}, entry {one.place}"))
    click.echo(f"{len(held)} lists, {sum(one.count for one in held)} hashes")


@lists.command("remove")
@click.argument("name")
@KEY
def remove_list(name: str, key_file: Path) -> None:
    """Compare with the list NAME no more, and destroy its hashes. That it was there, the log goes on saying."""
    key = operator_key(key_file)
    with open_service(Settings()) as service:
        service.ledger.transact(
            lambda tx: known_bad.take_away(
                tx,
                name,
                operator=_operator(tx, key),
                key=key,
                origin=service.ledger.origin,
                at=service.clock(),
            )
        )
    click.echo(f"{name}: compared with no more")


@lists.command("check")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def check_file(file: Path) -> None:
    """Say on which lists the picture or video in FILE is. Exit status 1 where it is on one."""
    pictures, clip = _opened(file)
    hashed = known_bad.hashed(pictures, clip=clip)
    with open_service(Settings()) as service, service.ledger.reading() as tx:
        found = service.gate.lists.found(tx, hashed)
    if not hashed.seen:
        click.echo("there is too little in it to tell")
    click.echo(f"on: {', '.join(found.lists)}" if found.lists else "on no list")
    sys.exit(1 if found.lists else 0)


def _operator(tx: Transaction, key: Ed25519PrivateKey) -> str:
    operator = tx.operator_by_key(encode_key(key.public_key()))
    if operator is None:
        raise Refused(
            "operator.unregistered",
            "no operator is registered with this key",
            "have the key registered: `countersign keys create operator`",
        )
    return operator


def _opened(file: Path) -> tuple[list[Picture], bool]:
    try:
        # Of whatever is suspected: decoders that start programs are never reached.
        with Image.open(file, formats=_PICTURES) as picture:
            if not getattr(picture, "is_animated", False):
                return [np.asarray(picture.convert("RGB"))], False
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError):
        pass
    try:
        return [frame for _, frame in media.frames(file, every_s=FRAMES_EVERY_S)], True
    except MediaError as error:
        raise InvalidInput(
            "lists.no_picture", "this is neither a picture nor a video", "give a JPEG, a PNG or an MP4"
        ) from error
