"""Finished clips, by content: local files here, S3 through the same interface.

A key is the SHA-256 of the bytes. A put never overwrites, which is probed at start: a store that silently
replaces objects could swap a released clip.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore

from ledger.errors import NotFound, Unavailable

_PROBE = "probe/create-only"
_CHUNK = 1 << 20
CLIPS, THUMBNAILS = "clips/", "thumbnails/"


def thumbnail_of(key: str) -> str:
    """Where the picture of a clip lies; :func:`clip_of` is the way back."""
    return f"{THUMBNAILS}{key.rpartition('/')[2]}.jpg"


def clip_of(thumbnail: str) -> str:
    digest = thumbnail.removeprefix(THUMBNAILS).removesuffix(".jpg")
    return f"{CLIPS}{digest[:2]}/{digest}"


class Objects:
    def __init__(self, store: ObjectStore, *, root: Path | None = None) -> None:
        self._store = store
        self._root = root
        self._refuse_overwriting_store()

    @classmethod
    def local(cls, directory: Path) -> "Objects":
        directory.mkdir(parents=True, exist_ok=True)
        return cls(LocalStore(directory), root=directory)

    def put(self, path: Path) -> str:
        """Store a file under its digest. Returns the key; a file that is already there costs nothing."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        key = f"{CLIPS}{digest[:2]}/{digest}"
        try:
            obstore.put(self._store, key, path, mode="create")
        except AlreadyExistsError:
            if self._digest(key) != digest:
                # A power cut can leave a name without all its bytes. Putting back what it names harms nobody.
                obstore.put(self._store, key, path)
        except BaseError as error:
            raise Unavailable(
                "objects.unavailable", "the clip could not be stored", "try again later"
            ) from error
        self._make_durable(key)
        return key

    def _digest(self, key: str) -> str:
        digest = hashlib.sha256()
        for piece in self.read(key, 0, self.size(key)):
            digest.update(piece)
        return digest.hexdigest()

    def size(self, key: str) -> int:
        try:
            return int(obstore.head(self._store, key)["size"])
        except FileNotFoundError as error:
            raise NotFound("objects.missing", "the clip's file is gone", "render it again") from error

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        """Bytes [start, end) in pieces of at most 1 MiB."""
        for offset in range(start, end, _CHUNK):
            yield bytes(obstore.get_range(self._store, key, start=offset, end=min(end, offset + _CHUNK)))

    def content(self, key: str) -> bytes:
        """The whole of a small object. Raises NotFound."""
        return b"".join(self.read(key, 0, self.size(key)))

    def fetch(self, key: str, path: Path) -> Path:
        """Write an object to a file of this machine. Raises NotFound."""
        with path.open("wb") as out:
            for piece in self.read(key, 0, self.size(key)):
                out.write(piece)
        return path

    def keep(self, key: str, content: bytes) -> None:
        """Store something small that can be made again; what is there already stays."""
        try:
            obstore.put(self._store, key, content, mode="create")
        except AlreadyExistsError:
            return
        except BaseError as error:
            raise Unavailable(
                "objects.unavailable", "the object could not be stored", "try again later"
            ) from error

    def listed(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        """Every object under a prefix, and when it was written."""
        for part in obstore.list(self._store, prefix):
            yield from ((str(one["path"]), one["last_modified"]) for one in part)

    def delete(self, key: str) -> None:
        """Destroy an object, and the picture of it. What is gone already is as it should be."""
        for gone in (thumbnail_of(key), key):
            with suppress(FileNotFoundError):
                obstore.delete(self._store, gone)

    def _make_durable(self, key: str) -> None:
        """The local store does not fsync; the release transaction that follows must never outlive its file."""
        if self._root is None:
            return
        for path in (self._root / key, (self._root / key).parent):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _refuse_overwriting_store(self) -> None:
        try:
            obstore.put(self._store, _PROBE, b"1", mode="create")
        except AlreadyExistsError:
            return  # an earlier start left it, and it was not replaced
        try:
            obstore.put(self._store, _PROBE, b"2", mode="create")
        except AlreadyExistsError:
            return
        raise Unavailable(
            "objects.overwrites",
            "the object store replaces objects although it was told to create only",
            "use a store that honours conditional writes",
        )
