"""`countersign watermark`: the invisible mark by hand, on any video; `embed` writes one, `detect` reads it.

What `embed` writes is marked and no more: no manifest, no entry in the log, so `countersign verify` says of it that a
mark was found which the ledger knows nothing of. `detect` says what number is in a file, not what the number stands
for. The file is decoded as `verify` does it, within the same bounds, in a process that reaches nothing but the file and
knows no key; and no container is read that can name other files.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from numpy.typing import NDArray

from gateway.settings import Settings
from ledger.keys import Keyring
from ledger.log.policy import shown
from ledger.provenance import media
from ledger.provenance.look import sample
from ledger.provenance.verdict import LOOK_WITHIN_S
from ledger.provenance.watermark import PAYLOAD_BYTES, Detected, Embedder
from ledger.provenance.watermark import find as find_in_picture
from ledger.provenance.watermark.sound import find_in_sound, through
from ledger.sandbox import Sandbox
from ledger.workers import Workers

KEY_BYTES: Final = 32
LIMITS: Final = media.Limits()
TELL_EVERY_S: Final = 2.0
KEY = click.option(
    "--key",
    "key_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=f"A file of {KEY_BYTES} bytes. Default: this installation's own.",
)


@click.group("watermark")
def watermarking() -> None:
    """The invisible mark in a video."""


@watermarking.command()
@click.argument("source", metavar="IN", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("target", metavar="OUT", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--payload", required=True, metavar="HEX", help=f"{2 * PAYLOAD_BYTES} hexadecimal digits.")
@KEY
@click.option("--force", is_flag=True, help="Replace OUT.")
def embed(source: Path, target: Path, payload: str, key_file: Path | None, force: bool) -> None:
    """Write the video IN to OUT, an MP4, with a number hidden in its picture, and in its sound if it has one."""
    number = payload_of(payload)
    if target.exists() and target.samefile(source):
        raise click.UsageError(f"IN and OUT are the same file, `{source}`: write to another one")
    if target.exists() and not force:
        raise click.UsageError(f"`{target}` exists: give --force to replace it")
    if not target.parent.is_dir():
        raise click.UsageError(f"there is no folder `{target.parent}`")
    key = key_of(key_file)
    height, width, _ = next(pictures(source)).shape
    marked = Progress(Embedder(key, number, width=width, height=height))
    media.restamp(source, target, marked, through=through(key, number), any_container=True)
    click.echo(f"{shown(str(target))}: {marked.frames} frames marked with {number.hex()}")


@watermarking.command("detect")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@KEY
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def find(file: Path, key_file: Path | None, as_json: bool) -> None:
    """Read the number hidden in FILE: first in its picture, then in its sound.

    Exit status 1 where there is none under this key. `seconds`: how long the video is.
    """
    found = looked_for(file, key_of(key_file))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif found["detected"]:
        click.echo(f"{found['payload']}  in the {found['via']}: {found['where']}")
        click.echo(f"  {found['confidence']:.0%} of what was read agrees with it")
    else:
        click.echo(f"no mark of this key was found: {found['where']}")
    sys.exit(0 if found["detected"] else 1)


def looked_for(file: Path, key: bytes) -> dict[str, Any]:
    """What `detect` prints. Raises MediaError for what is no video, or one too large to be looked at."""
    with closing(Workers(1, sandbox=Sandbox(whole=Settings().sandbox == "whole"))) as closed:
        sampled = closed.call(sample, file.resolve(), LIMITS, timeout_s=LOOK_WITHIN_S)
    via, mark = "picture", find_in_picture(sampled.picture, key)
    if not isinstance(mark, Detected) and sampled.sound is not None:
        heard = find_in_sound(sampled.sound, key)
        via, mark = ("sound", heard) if isinstance(heard, Detected) else (via, mark)
    detected = isinstance(mark, Detected)
    return {
        "detected": detected,
        "payload": mark.payload.hex() if isinstance(mark, Detected) else None,
        "confidence": round(mark.confidence, 4) if isinstance(mark, Detected) else 0.0,
        "where": mark.where if isinstance(mark, Detected) else mark.reason,
        "via": via if detected else None,
        "seconds": round(sampled.probe.seconds, 3),
    }


class Progress:
    """Marks frames, and says on stderr every few seconds how many."""

    def __init__(self, embedder: Embedder) -> None:
        self.frames = 0
        self._embedder = embedder
        self._began = self._told = time.monotonic()

    def __call__(self, frame: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
        marked = self._embedder(frame, index)
        self.frames, now = self.frames + 1, time.monotonic()
        if now - self._told > TELL_EVERY_S:
            self._told = now
            click.echo(f"{self.frames} frames, {self.frames / (now - self._began):.0f} a second", err=True)
        return marked


def pictures(file: Path) -> Iterator[NDArray[np.uint8]]:
    return (picture for _, picture in media.frames(file, any_container=True))


def payload_of(text: str) -> bytes:
    try:
        payload = bytes.fromhex(text)
    except ValueError:
        raise click.UsageError(
            f"--payload `{shown(text)}` is not hexadecimal: give {2 * PAYLOAD_BYTES} of the digits 0-9 and a-f"
        ) from None
    if len(payload) != PAYLOAD_BYTES:
        raise click.UsageError(
            f"--payload has `{len(payload)}` bytes: give {PAYLOAD_BYTES}, as {2 * PAYLOAD_BYTES} digits"
        )
    return payload


def key_of(file: Path | None) -> bytes:
    if file is None:
        return Keyring.open(Settings().home / "keys").watermark
    with file.open("rb") as opened:
        key = opened.read(KEY_BYTES + 1)
    if len(key) != KEY_BYTES:
        raise click.UsageError(f"`{file}` is not a watermark key: it does not hold {KEY_BYTES} bytes")
    return key
