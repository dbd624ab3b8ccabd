"""What a file itself shows: one look at bytes that anybody may have made, and no opinion about them.

:func:`look` opens the file, reads its manifest, decodes it **once**, and keeps of its pixels what a mark can be looked
for in. It needs no key, no ledger and no clock, and is meant to run where nothing but the file can be reached
(:mod:`ledger.sandbox`). Whatever it answers may have been made up by the file: it says nothing about any other file, and
:func:`~ledger.provenance.verdict.judge` takes nothing from it for the ledger's word.

A file whose manifest is trusted and fits its bytes is not decoded to its end: the signature fixes every pixel already.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import Final, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ledger.provenance import media, watermark
from ledger.provenance.manifest import ManifestFinding, read

T = TypeVar("T")
Frame = NDArray[np.uint8]
_AHEAD: Final = 4
"""Frames that wait for whoever is slowest."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look showed. `probe` and `picture` are None where the manifest made them needless."""

    manifest: ManifestFinding
    probe: media.Probe | None = None
    picture: watermark.Sampled | watermark.NotDetected | None = field(default=None, repr=False)


def look(path: Path, limits: media.Limits, anchors_pem: bytes) -> Seen:
    """Raises MediaError for what is not a whole video within limits."""
    found = read(path, anchors_pem)
    if found.manifest_trusted and found.asset_bound:
        # That it plays at all is asked: what its hash leaves out says how to open it.
        next(media.frames(path), None)
        return Seen(found)
    with _Audience() as audience:
        picture = audience.follows(lambda frames: watermark.sample(frame for _, frame in frames))
        probe = media.probe(path, limits, audience.show)
    return Seen(found, probe, picture.answer())


class _Audience:
    """Several readers of one stream of frames, each at its own pace, none far ahead of another."""

    def __init__(self) -> None:
        self._all: list[_Follower[object]] = []

    def follows(self, reader: Callable[[Iterable[tuple[float, Frame]]], T]) -> "_Follower[T]":
        follower = _Follower(reader)
        self._all.append(follower)  # type: ignore[arg-type]  # only shown frames, never asked
        return follower

    def show(self, seconds: float, frame: Frame) -> None:
        frame.setflags(write=False)
        for follower in self._all:
            follower.show((seconds, frame))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for follower in self._all:
            follower.end()


class _Follower(Generic[T]):
    def __init__(self, reader: Callable[[Iterable[tuple[float, Frame]]], T]) -> None:
        self._waiting: Queue[tuple[float, Frame] | None] = Queue(_AHEAD)
        self._found: list[T] = []
        self._fault: Exception | None = None
        self._thread = threading.Thread(target=self._follow, args=(reader,), daemon=True)
        self._thread.start()

    def show(self, shown: tuple[float, Frame] | None) -> None:
        self._waiting.put(shown)

    def end(self) -> None:
        self.show(None)
        self._thread.join()

    def answer(self) -> T:
        if self._fault is not None:
            raise self._fault
        return self._found[0]

    def _follow(self, reader: Callable[[Iterable[tuple[float, Frame]]], T]) -> None:
        shown = self._shown()
        try:
            self._found.append(reader(shown))
        except Exception as fault:  # noqa: BLE001 — it is told by the thread that asks for the answer
            self._fault = fault
        for _ in shown:
            pass  # who has seen enough does not hold up the others

    def _shown(self) -> Iterator[tuple[float, Frame]]:
        while (one := self._waiting.get()) is not None:
            yield one
