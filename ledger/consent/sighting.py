"""Telling people that they were found where they had not agreed to be: in a picture somebody sent, or in a clip.

Whoever is enrolled has a right to know who used their face or voice. So each of them gets an entry of their own: which
app, when, for what, where they were found, and what came of it. Not the words of the request, which are somebody
else's and may name others; and nobody else who was found there. The app is not told: that a face is enrolled here is
its owner's to tell.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Literal

from ledger.ids import AppId, CameoId, LeafIndex, VideoId
from ledger.store.journal import About
from ledger.store.transaction import Transaction

Where = Literal["pictures", "clip", "voices"]
"""In the pictures sent, in the frames of a finished clip, or in its sound."""
Outcome = Literal["refused", "used"]


def tell_seen(
    tx: Transaction,
    cameo_ids: Collection[CameoId],
    *,
    video_id: VideoId,
    app_id: AppId,
    where: Where,
    outcome: Outcome,
    asked: Mapping[str, Any],
    at: datetime,
) -> LeafIndex | None:
    """Tell everyone who was found; once for each request and place, however often it is looked at.

    `asked`: what the request was for, of which they may know `action`, `purpose` and `audience`.
    """
    ref = f"{video_id}/{where}"
    if not cameo_ids or tx.find("sighting", ref) is not None:
        return None
    said = {name: asked[name] for name in ("action", "purpose", "audience")}
    owners = ((tx.owner(cameo_id), cameo_id) for cameo_id in sorted(set(cameo_ids)))
    body = {"video_id": video_id, "app_id": app_id, "where": where, "outcome": outcome, **said}
    about = [
        About(owner, "depicted", {**body, "cameo_id": cameo_id})
        for owner, cameo_id in owners
        if owner is not None and not tx.erased(owner)
    ]
    return tx.append("sighting", ref, about, at=at) if about else None
