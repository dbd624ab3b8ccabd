"""What a file itself shows: one look at bytes that anybody may have made, and no opinion about them.

:func:`look` opens the file, reads its manifest, decodes it **once**, and keeps of its pixels what a mark can be looked
for in. It needs no key, no ledger and no clock, and is meant to run where nothing but the file can be reached
(:mod:`ledger.sandbox`). Whatever it answers may have been made up by the file: it says nothing about any other file, and
:func:`~ledger.provenance.verdict.judge` takes nothing from it for the ledger's word.

A file whose manifest is ours and fits its bytes is not decoded to its end: the signature fixes every pixel already. What
somebody else signed is: they may have signed a copy of a clip.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import Final, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ledger.errors import MediaError
from ledger.provenance import fingerprint, media, watermark
from ledger.provenance.fingerprint import Fingerprint
from ledger.provenance.manifest import ManifestFinding, read
from ledger.provenance.trust import Anchors
from ledger.provenance.watermark.sound import SampledSound, sample_sound

T = TypeVar("T")
Frame = NDArray[np.uint8]
_AHEAD: Final = 4
"""Frames that wait for whoever is slowest."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look showed. All but `manifest` is None where the manifest made it needless; `sound` also where there is
    none that can be heard.
    """

    manifest: ManifestFinding
    probe: media.Probe | None = None
    picture: watermark.Sampled | watermark.NotDetected | None = field(default=None, repr=False)
    sound: SampledSound | None = field(default=None, repr=False)
    prints: Fingerprint | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Sampled:
    """What a mark can be looked for in: a clip's picture, and its sound where there is any that can be heard."""

    probe: media.Probe
    picture: watermark.Sampled | watermark.NotDetected = field(repr=False)
    sound: SampledSound | None = field(repr=False)


def look(path: Path, limits: media.Limits, anchors: Anchors) -> Seen:
    """Raises MediaError for what is not a whole video within limits."""
    found = read(path, anchors)
    if found.trusted_by == "ours" and found.asset_bound:
        # That it plays at all is asked: what its hash leaves out says how to open it.
        next(media.frames(path), None)
        return Seen(found)
    looking = fingerprint.Looking()
    with _Reader(watermark.sample) as picture:

        def each(seconds: float, frame: Frame) -> None:
            picture.show(frame)
            looking.see(seconds, frame)

        probe = media.probe(path, limits, each)
    return Seen(found, probe, picture.answer(), _sound(path), looking.made())


def sample(path: Path, limits: media.Limits) -> Sampled:
    """:func:`look` for a mark and nothing else, in any container. Raises MediaError likewise."""
    with _Reader(watermark.sample) as picture:
        probe = media.probe(path, limits, lambda _, frame: picture.show(frame), any_container=True)
    return Sampled(probe, picture.answer(), _sound(path, any_container=True))


def _sound(path: Path, *, any_container: bool = False) -> SampledSound | None:
    try:
        heard = media.sound(path, any_container=any_container)
        if heard is None:
            return None
        middle, side = heard.samples
        return sample_sound(np.stack([middle + side, middle - side], axis=1), heard.rate_hz)
    except MediaError:
        return None  # a clip is found by its pictures first; one whose sound is damaged has them all the same


class _Reader(Generic[T]):
    """Something that takes frames as it needs them, shown them as they come; on a thread of its own, a few frames behind."""

    def __init__(self, reader: Callable[[Iterable[Frame]], T]) -> None:
        self._waiting: Queue[Frame | None] = Queue(_AHEAD)
        self._found: list[T] = []
        self._fault: Exception | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._read, args=(reader,), daemon=True)

    def show(self, frame: Frame) -> None:
        frame.setflags(write=False)
        self._waiting.put(frame)

    def answer(self) -> T:
        if self._fault is not None:
            raise self._fault
        return self._found[0]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.put(None)
        self._thread.join()

    def _read(self, reader: Callable[[Iterable[Frame]], T]) -> None:
        try:
            self._found.append(reader(self._shown()))
        except Exception as fault:  # noqa: BLE001 — it is told by the thread that asks for the answer
            self._fault = fault
        # Who has seen enough, or stumbled, does not hold up who shows.
        for _ in self._shown():
            pass

    def _shown(self) -> Iterator[Frame]:
        while not self._ended:
            one = self._waiting.get()
            if one is None:
                self._ended = True
            else:
                yield one
