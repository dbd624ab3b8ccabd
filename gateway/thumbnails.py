"""Small pictures of clips: made on demand from the first good frame, kept beside the clip, gone with it.

A picture's key follows from its clip's (`thumbnails/<digest>.jpg`), so nothing has to name it: the sweep of
:mod:`gateway.retention` destroys it together with the clip.
"""

import io
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ledger.errors import MediaError, NotFound
from ledger.provenance import media

if TYPE_CHECKING:
    from gateway.service import Service

PREFIX = "thumbnails/"
LONGEST_SIDE = 480
LOOKED_AT = 72
"""Frames: three seconds at 24 a second."""
_EVEN = 8.0
"""A frame whose brightness varies less than this (0–255) is black, white or a fade, and tells nothing."""


def thumbnail(service: "Service", clip_key: str) -> bytes:
    """JPEG, at most 480 pixels on the longer side. Raises NotFound when the clip's file is gone."""
    key = key_of(clip_key)
    try:
        return service.objects.content(key)
    except NotFound:
        pass
    made = _made(service, clip_key)
    service.objects.keep(key, made)
    return made


def key_of(clip_key: str) -> str:
    """Where a clip's picture lies."""
    return f"{PREFIX}{clip_key.rpartition('/')[2]}.jpg"


def clip_of(key: str) -> str:
    """The clip a picture is of."""
    digest = key.removeprefix(PREFIX).removesuffix(".jpg")
    return f"clips/{digest[:2]}/{digest}"


def _made(service: "Service", clip_key: str) -> bytes:
    with TemporaryDirectory(prefix="thumbnail-", dir=service.settings.uploads) as directory:
        path = Path(directory) / "clip"
        with path.open("wb") as out:
            for piece in service.objects.read(clip_key, 0, service.objects.size(clip_key)):
                out.write(piece)
        picture = Image.fromarray(first_good(path))
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=82, optimize=True)
    return jpeg.getvalue()


def first_good(path: Path) -> NDArray[np.uint8]:
    """The first frame that shows something, uint8 [h, w, 3] RGB; of a clip that never does, its first.

    Raises MediaError for a file without a frame.
    """
    first: NDArray[np.uint8] | None = None
    for _, frame in islice(media.frames(path), LOOKED_AT):
        if frame.mean(axis=2).std() >= _EVEN:
            return frame
        first = frame if first is None else first
    if first is None:
        raise MediaError("media.not_video", "the file holds no picture that can be decoded")
    return first
