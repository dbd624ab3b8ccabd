"""One clip, marked and signed for real, once for all tests of a session; and the ledgers it is released in.

As a pytest plugin it offers `stamped` and `eyes`.

PYTEST_DONT_REWRITE
"""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from generator.stamp import Stamper
from ledger.ids import AppId, GrantId, VideoId
from ledger.provenance import media, tsa
from ledger.provenance.manifest import Claim, Signer
from ledger.provenance.pki import Authority
from ledger.provenance.verdict import Verdict, Verifier
from ledger.sandbox import Sandbox
from ledger.store.transaction import Transaction
from ledger.workers import Workers
from safety.chain import cleared, raw_clip
from world import START, Someone, World, open_ledger

SIZE = (640, 360)
KEY = bytes(range(32))


@dataclass(frozen=True)
class Clip:
    """A stamped clip and what made it. `other`: footage that no mark is on; so small that none is looked for, which
    takes seconds."""

    file: Path
    other: Path
    video_id: VideoId
    manifest_id: str
    payload: str
    prints: bytes
    authority: Authority
    signer: Signer
    claim: Claim
    eyes: Workers
    minds: Workers

    def verifier(self, world: World) -> Verifier:
        return Verifier(
            world.ledger, lambda: self.authority.anchors, KEY, media.Limits(), self.eyes, self.minds
        )

    def verdict(self, world: World, file: Path) -> Verdict:
        return self.verifier(world).verify(file, at=world.at)

    def release(self, world: World, *people: Someone, app: AppId | None = None) -> GrantId | None:
        """Into this ledger, as the clip that it is; the grant of the last person shown."""
        app = app or world.app()
        grants = [world.grant(one, app) for one in people]
        permit = world.allow(app, *people, video_id=self.video_id).permit
        record = {
            "sha256": "0" * 64,
            "manifest_id": self.manifest_id,
            "payload": self.payload,
            "backend": "countersign-reference",
            "checks": ["faces", "prompt"],
        }

        def publish(tx: Transaction) -> None:
            tx.finish_job(permit.video, record, f"clips/{self.video_id}", at=world.at)
            tx.put_fingerprint(permit.video, self.prints)

        world.ledger.transact(publish)
        return grants[-1] if grants else None


def film(path: Path, picture: NDArray[np.uint8], *, count: int = 36, size: tuple[int, int] = SIZE) -> Path:
    """A slow pan over a picture."""
    width, height = size
    large = np.asarray(Image.fromarray(picture).resize((width + count * 2, height + count)))
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=24, options={"crf": "18", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for at in range(count):
            shown = np.ascontiguousarray(large[at : at + height, 2 * at : 2 * at + width])
            out.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        out.mux(stream.encode())
    return path


def made(place: Path, eyes: Workers, minds: Workers, at: datetime = START) -> Iterator[Clip]:
    ledger, keyring = open_ledger(place)
    world = World(ledger, keyring, place, at)
    authority = Authority.open(place / "pki", at=at)
    raw = film(place / "raw.mp4", data.astronaut())  # type: ignore[no-untyped-call]
    other = film(place / "other.mp4", data.coffee(), size=(160, 120))  # type: ignore[no-untyped-call]
    with tsa.serve(authority, lambda: at) as url:
        signer = Signer(authority, url)
        stamper = Stamper(KEY, signer, lambda: authority.anchors, ledger.origin, "http://localhost")
        app, ada = world.app(), world.enrol()
        world.grant(ada, app)
        allowed = world.allow(app, ada)
        clip = cleared(raw_clip(allowed, raw, backend="model", version="1", closed=True), checks=("faces",))
        stamped = stamper.stamp(clip, place, at=at)
        claim = stamper._claim(clip, bytes.fromhex(stamped.payload), at, None)
        yield Clip(
            stamped.path,
            other,
            allowed.permit.video,
            stamped.manifest_id,
            stamped.payload,
            base64.b64decode(stamped.fingerprint),
            authority,
            signer,
            claim,
            eyes,
            minds,
        )
    ledger.close()


@pytest.fixture(scope="session")
def eyes() -> Iterator[Workers]:
    these = Workers(1, sandbox=Sandbox())
    yield these
    these.close()


@pytest.fixture(scope="session")
def minds() -> Iterator[Workers]:
    these = Workers(1)
    yield these
    these.close()


@pytest.fixture(scope="session")
def stamped(tmp_path_factory: pytest.TempPathFactory, eyes: Workers, minds: Workers) -> Iterator[Clip]:
    yield from made(tmp_path_factory.mktemp("stamped"), eyes, minds)
