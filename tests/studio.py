"""Clips in a :class:`world.World` without a model: finished as a stamper leaves them, then released or held for real."""

import secrets
from dataclasses import dataclass, field
from typing import Any

from generator.drafts import Drafts
from generator.stamp import Held, Released, release
from ledger.consent.approval import Answer, Decision, answer_draft
from ledger.consent.fold import Role
from ledger.consent.story import Story, replay
from ledger.ids import AppId, VideoId
from ledger.provenance.jumbf import C2PA_UUID
from ledger.store.objects import Objects
from ledger.store.records import Video
from safety.chain import Stamped, cleared, raw_clip, stamped
from safety.gate import Denied
from world import Someone, World


def box(kind: bytes, *content: bytes) -> bytes:
    """An ISO base media box, or a JUMBF one."""
    return (8 + len(data := b"".join(content))).to_bytes(4, "big") + kind + data


def superbox(label: str, *children: bytes) -> bytes:
    """A JUMBF superbox. One with nothing in it does not exist."""
    return box(
        b"jumb",
        box(b"jumd", bytes(16), b"\x03", label.encode() + b"\x00"),
        *(children or [box(b"free")]),
    )


def carried(*manifest_ids: str) -> bytes:
    """The box of an MP4 that holds a manifest store, its manifests empty."""
    store = superbox("c2pa", *map(superbox, manifest_ids))
    return box(b"uuid", C2PA_UUID, bytes(4), b"manifest\x00", bytes(8), store)


@dataclass
class Studio:
    world: World
    objects: Objects = field(init=False)
    drafts: Drafts = field(init=False)

    def __post_init__(self) -> None:
        self.objects = Objects.local(self.world.home / "objects")
        self.restart()

    def restart(self) -> None:
        """Another process on the same home: it knows only what is durable."""
        self.drafts = Drafts(self.world.gate, self.objects, self.world.home / "work", lambda: self.world.at)

    def make(
        self,
        app: AppId,
        *people: Someone,
        film: bytes | None = None,
        review: tuple[str, ...] = (),
        looks: str = "",
        **changes: Any,
    ) -> Stamped:
        """A clip that was allowed, made, looked at and stamped. `film`: its bytes; noise if they do not matter.

        `review`: what people have to judge before it goes on. `looks`: its fingerprint.
        """
        allowed = self.world.allow(app, *people, **changes)
        self.world.ledger.transact(lambda tx: tx.take_job(allowed.permit.video))
        path = self.world.home / f"{allowed.permit.video}.mp4"
        manifest_id = f"urn:c2pa:{allowed.permit.video}"
        path.write_bytes((film or box(b"mdat", secrets.token_bytes(3_000_000))) + carried(manifest_id))
        raw = raw_clip(allowed, path, backend="countersign-reference", version="1", closed=True)
        places = ((400, 10, 60, 60, 10),) if review else ()
        clear = cleared(raw, checks=("faces", "prompt"), review=review, places=places)
        return stamped(clear, path, manifest_id=manifest_id, payload=secrets.token_hex(8), fingerprint=looks)

    def release(self, clip: Stamped) -> Released | Held | Denied:
        return release(clip, self.world.gate, self.objects, at=self.world.at)

    def out(self, app: AppId, *people: Someone, **changes: Any) -> VideoId:
        """A clip that is released."""
        clip = self.make(app, *people, **changes)
        answer = self.release(clip)
        assert isinstance(answer, Released), answer
        return clip.permit.video

    def waiting(self, app: AppId, *people: Someone, **changes: Any) -> VideoId:
        """A clip that waits for somebody's word."""
        clip = self.make(app, *people, **changes)
        answer = self.release(clip)
        assert isinstance(answer, Held), answer
        clip.path.unlink()  # what waits needs nothing but the store
        return clip.permit.video

    def say(
        self,
        video_id: VideoId,
        owner: Someone,
        decision: Decision,
        *,
        by: Someone | None = None,
        role: Role = "owner",
    ) -> None:
        """A word on a draft, and what follows from it."""
        answer = Answer(video_id, owner.person_id, (by or owner).person_id, role, decision)
        answer_draft(self.world.ledger, answer, at=self.world.at)
        self.drafts.settle(video_id)

    # -- what became of it --------------------------------------------------------------------------------------

    def video(self, video_id: VideoId) -> Video:
        with self.world.ledger.reading() as tx:
            video = tx.video(video_id)
        assert video is not None
        return video

    def state(self, video_id: VideoId) -> tuple[str, str | None]:
        video = self.video(video_id)
        return video.status, video.error_code

    def may_download(self, video_id: VideoId, viewer: AppId) -> set[str]:
        """The reasons against it; none if it may be had."""
        with self.world.ledger.reading() as tx:
            video = tx.video(video_id)
            assert video is not None
            denied = self.world.gate.may_download(tx, video, viewer, at=self.world.at)
        return {reason.id for reason in denied.reasons} if denied else set()

    def stored(self) -> int:
        """How many clips lie in the object store."""
        return sum(path.is_file() for path in (self.world.home / "objects" / "clips").rglob("*"))

    def held(self, video_id: VideoId) -> bool:
        with self.world.ledger.reading() as tx:
            return tx.held_clip(video_id) is not None

    def uses(self, someone: Someone) -> int:
        with self.world.ledger.reading() as tx:
            grants = tx.standing(someone.person_id).grants
        return sum(len(held.uses) for held in grants.values())

    def told(self, someone: Someone) -> Story:
        """The person's whole list, once it keeps every rule that an auditor replays it by."""
        return replay([(one.index, one.body) for one in self.world.entries(someone.person_id)], until=1 << 40)
