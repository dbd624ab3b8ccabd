"""Small pictures of clips: made on demand, kept beside the clip, destroyed with it.

A picture's key follows from its clip's, so no row has to name it: :meth:`~ledger.store.objects.Objects.delete` takes
both, and the sweep of :mod:`gateway.retention` finds a picture whose clip is gone.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from gateway.service import Service
from ledger.errors import NotFound
from ledger.provenance import media
from ledger.store.objects import thumbnail_of


def thumbnail(service: Service, clip_key: str) -> bytes:
    """JPEG, at most 480 pixels on the longer side. Raises NotFound when the clip's file is gone."""
    key = thumbnail_of(clip_key)
    try:
        return service.objects.content(key)
    except NotFound:
        pass
    with TemporaryDirectory(prefix="thumbnail-", dir=service.settings.uploads) as directory:
        path = Path(directory) / "clip"
        with path.open("wb") as out:
            out.writelines(service.objects.read(clip_key, 0, service.objects.size(clip_key)))
        made = media.thumbnail(path)
    service.objects.keep(key, made)
    return made
