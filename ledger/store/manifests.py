"""Manifests of released clips, kept for whoever has a clip that lost its own.

A manifest names clips, grants and a place in the log, and nobody; it was published with the clip. So it is kept when
the clip's file is destroyed: copies of it go on being recognised. Each is a subject of the log of its own, with one
entry that says its digest, and whose opening anyone may have (:mod:`ledger.provenance.anchored`).
"""

from dataclasses import asdict
from datetime import datetime

from sqlmodel import SQLModel, select

from ledger.canonical import sha256
from ledger.ids import LeafIndex, VideoId
from ledger.store import tables
from ledger.store.journal import About, Journal, Opened
from ledger.store.records import Manifest, copied

ROLE = "published"
_MANIFESTS = SQLModel.metadata.tables["manifest"]


class Manifests(Journal):
    """The part of a transaction that is about manifests of released clips."""

    def keep_manifest(self, manifest: Manifest, *, at: datetime) -> LeafIndex:
        """Keep a clip's manifest store, and say so in the log."""
        subject = _subject(manifest.video_id)
        self.new_subject(subject)
        body = {
            "video_id": manifest.video_id,
            "manifest_id": manifest.id,
            "sha256": sha256(manifest.store).hex(),
        }
        self.session.add(tables.Manifest(**asdict(manifest)))
        return self.append("manifest", manifest.id, [About(subject, ROLE, body)], at=at)

    def manifest(self, manifest_id: str) -> Manifest | None:
        return copied(Manifest, self.session.get(tables.Manifest, manifest_id))

    def manifest_of(self, video_id: VideoId) -> str | None:
        """The id of a released clip's manifest."""
        return self._rows().execute(select(_MANIFESTS.c.id).where(_MANIFESTS.c.video_id == video_id)).scalar()

    def manifest_entry(self, manifest: Manifest) -> Opened:
        """What the log says of a manifest that is kept."""
        return self.entries(_subject(manifest.video_id))[0]


def _subject(video_id: VideoId) -> str:
    return f"manifest/{video_id}"
