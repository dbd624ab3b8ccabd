"""The roots of the map of tags, epoch after epoch, for whoever replays a whole log and proves nothing.

It is the map of :mod:`ledger.log.prefixmap`, and so are its rules. That one answers questions about every state it
ever had; this one keeps the newest only, in flat arrays, and brings in a thousand tags at a time:

    hashes  [2^(depth+1), 32]   node i has the children 2i and 2i+1; the slots, where tags are put, are the last half
    counts  [2^(depth+1)]       tags below a node: none, one, or two and more

A slot holds the few tags that agree in their first bits. A :class:`MapRoots` may also be one of the `2^skip` equal
parts of a map, for the tags that agree in their first `skip` bits; :func:`joined` puts two parts together. So the
work can be shared: a :class:`LocalHalf` does it at once, a :class:`RemoteHalf` in a process of its own.
"""

import gc
import hashlib
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ledger.errors import LogError, Unavailable
from ledger.ids import Digest
from ledger.log.prefixmap import NOTHING, TAG_BITS, TAG_BYTES
from ledger.reasons import Reason

_LEAF, _PARENT = 2, 3
_Bytes = NDArray[np.uint8]
_Places = NDArray[np.int64]


class Part(NamedTuple):
    """A subtree, as its parent needs to know it: a subtree with one tag is that tag's leaf, whatever its depth."""

    tags: int
    """None, one, or two for any larger number."""
    hash: bytes


def joined(left: Part, right: Part) -> Part:
    """The subtree above two that lie side by side."""
    if left.tags + right.tags < 2:
        return right if right.tags else left
    return Part(2, _sha256(bytes([_PARENT]) + left.hash + right.hash).digest())


class MapRoots:
    """A map, or a part of one, that only grows."""

    def __init__(self, *, skip: int = 0, expected: int = 1024) -> None:
        """`expected`: about how many tags there will be; a better guess saves time only."""
        self._skip = skip
        self._records = bytearray()  # tag ‖ leaf hash, in the order they came
        self._lay_out(expected)

    @property
    def top(self) -> Part:
        return Part(int(self._counts[1]), self._hashes[1].tobytes())

    @property
    def root(self) -> Digest:
        """Of a map that is not a part."""
        return Digest(self.top.hash)

    def add(self, tags: bytes, values: bytes) -> None:
        """Both 32 bytes for each. Raises LogError for a tag that is in already; then this map is of no more use."""
        if not tags:
            return
        records = np.hstack([_rows(tags, TAG_BYTES), _rows(values, 32)])
        records[:, TAG_BYTES:] = _hashed(_LEAF, records)
        self._records += records.tobytes()
        if len(self._records) > 64 * 2 << self._depth:
            self._lay_out(4 * len(self._records) // 64)
            records = _rows(bytes(self._records), 64)
        self._place(records, len(self._records) // 64 - len(records))

    def _lay_out(self, expected: int) -> None:
        self._depth = max(4, expected.bit_length() + 1)
        self._hashes: _Bytes = np.zeros((2 << self._depth, 32), np.uint8)
        self._counts: _Bytes = np.zeros(2 << self._depth, np.uint8)
        self._only: NDArray[np.uint32] = np.zeros(1 << self._depth, np.uint32)
        """The number of the record in a slot that has one."""
        self._shared: dict[int, list[bytes]] = {}
        """The records of each slot that has several, sorted."""

    def _place(self, records: _Bytes, first: int) -> None:
        """Put records into their slots; `first` is the number of the first one."""
        bits = records[:, :8].copy().view(">u8").ravel().astype(np.uint64) << np.uint64(self._skip)
        slots = (bits >> np.uint64(64 - self._depth)).astype(np.int64)
        order = np.argsort(slots, kind="stable")
        starts = np.flatnonzero(np.diff(slots[order], prepend=-1))
        places, sizes = slots[order[starts]], np.diff(starts, append=len(order))
        nodes = places + (1 << self._depth)
        alone = (sizes == 1) & (self._counts[nodes] == 0)
        chosen = order[starts[alone]]
        self._only[places[alone]] = chosen + first
        self._hashes[nodes[alone]] = records[chosen, TAG_BYTES:]
        self._counts[nodes[alone]] = 1
        several = np.flatnonzero(~alone)
        placed, cuts = records[order].tobytes(), (64 * np.append(starts, len(order))).tolist()
        self._share(
            [
                (place, placed[cuts[at] : cuts[at + 1]])
                for at, place in zip(several.tolist(), places[several].tolist(), strict=True)
            ]
        )
        self._climb(nodes)

    def _share(self, groups: Sequence[tuple[int, bytes]]) -> None:
        """Put each group of records into a slot that then holds several."""
        below, hashes = self._skip + self._depth, []
        for slot, added in groups:
            held = self._shared.get(slot)
            if held is None:
                held = self._shared[slot] = []
                if self._counts[slot + (1 << self._depth)]:
                    at = 64 * int(self._only[slot])
                    held.append(bytes(self._records[at : at + 64]))
            held += [added[at : at + 64] for at in range(0, len(added), 64)]
            held.sort()
            hashes.append(_fold(held, below))
        nodes = np.array([slot for slot, _ in groups], np.int64) + (1 << self._depth)
        self._hashes[nodes] = _rows(b"".join(hashes), 32)
        self._counts[nodes] = 2

    def _climb(self, nodes: _Places) -> None:
        """Bring everything above these nodes of one level, in ascending order, up to date."""
        pairs = self._hashes.reshape(-1, 64)
        for _ in range(self._depth):
            nodes = nodes >> 1
            nodes = nodes[np.diff(nodes, prepend=-1) != 0]
            left, right = self._counts[2 * nodes], self._counts[2 * nodes + 1]
            counts = np.minimum(left + right, 2)
            self._counts[nodes] = counts
            lone = counts == 1
            if lone.any():
                risen = nodes[lone]
                self._hashes[risen] = self._hashes[2 * risen + right[lone]]
                forks = nodes[~lone]
                self._hashes[forks] = _hashed(_PARENT, pairs[forks])
            else:
                self._hashes[nodes] = _hashed(_PARENT, pairs[nodes])


# --- halves -------------------------------------------------------------------------------------------------


class Assigned(NamedTuple):
    """What an epoch assigns, for each tag: 32 bytes of it, 8 of its entry's index, 32 of that leaf's hash."""

    tags: bytes
    indices: bytes
    hashes: bytes

    def split(self) -> tuple["Assigned", "Assigned"]:
        """By the first bit of the tags, which ascend."""
        count = len(self.tags) // TAG_BYTES
        middle = int(np.searchsorted(_rows(self.tags, TAG_BYTES)[:, 0], 128)) if count else 0
        return self._between(0, middle), self._between(middle, count)

    def _between(self, low: int, high: int) -> "Assigned":
        return Assigned(
            self.tags[32 * low : 32 * high],
            self.indices[8 * low : 8 * high],
            self.hashes[32 * low : 32 * high],
        )

    def values(self) -> bytes:
        """See :func:`ledger.log.prefixmap.value_of`."""
        return _each_hashed(np.hstack([_rows(self.indices, 8), _rows(self.hashes, 32)]))


class Half(Protocol):
    """One half of a map, that takes the epochs in order."""

    def put(self, assigned: Assigned) -> None: ...

    def get(self) -> Part | Reason:
        """The half after the first epoch not asked for yet, or why there is none."""
        ...

    def close(self) -> None: ...


class LocalHalf:
    def __init__(self, expected: int) -> None:
        self._map = MapRoots(skip=1, expected=expected)
        self._done: deque[Part | Reason] = deque()

    def put(self, assigned: Assigned) -> None:
        try:
            self._map.add(assigned.tags, assigned.values())
        except LogError as error:
            self._done.append(error.reason)
        else:
            self._done.append(self._map.top)

    def get(self) -> Part | Reason:
        return self._done.popleft()

    def close(self) -> None:
        pass


class RemoteHalf:
    """A caller who puts must get before long: a few hundred answers fit in the pipe."""

    def __init__(self, expected: int) -> None:
        ours, theirs = socket.socketpair()
        # Not through multiprocessing: that would import the caller's main module again, with all a service needs.
        command = f"from {__name__} import work; work({theirs.fileno()}, {expected})"
        self._process = subprocess.Popen(  # noqa: S603 — this interpreter, and a text of ours
            [sys.executable, "-c", command],
            pass_fds=[theirs.fileno()],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            start_new_session=True,  # an interrupt is for the caller, whose end is the worker's
        )
        theirs.close()
        self._pipe = Connection(ours.detach())

    def put(self, assigned: Assigned) -> None:
        try:
            self._pipe.send(tuple(assigned))
        except OSError as error:
            raise worker_gone() from error

    def get(self) -> Part | Reason:
        try:
            answer: Part | Reason = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise worker_gone() from error
        return answer

    def close(self) -> None:
        self._pipe.close()
        self._process.wait()


def worker_gone() -> Unavailable:
    return Unavailable("monitor.worker", "a worker process has ended", "see whether memory was short")


def work(descriptor: int, expected: int) -> None:
    """The other end of a :class:`RemoteHalf`; ends with it."""
    gc.disable()  # there are no cycles here, only ever more records to look through for some
    half, pipe = LocalHalf(expected), Connection(descriptor)
    with suppress(EOFError, ConnectionError):
        while True:
            half.put(Assigned(*pipe.recv()))
            pipe.send(half.get())


# --- hashing ------------------------------------------------------------------------------------------------


def _quickest() -> Callable[[bytes], Any]:
    """OpenSSL's SHA-256 takes longer to set up its state than to hash 65 bytes; CPython's own is a fifth quicker."""
    for name in ("_sha2", "_sha256"):  # from Python 3.12 on, and before
        with suppress(ImportError):
            sha256: Callable[[bytes], Any] = import_module(name).sha256
            return sha256
    return hashlib.sha256


_sha256 = _quickest()


def _rows(data: bytes, width: int) -> _Bytes:
    return np.frombuffer(data, np.uint8).reshape(-1, width)


def _hashed(prefix: int, rows: _Bytes) -> _Bytes:
    """SHA-256 of `prefix ‖ row` for each row of 64 bytes."""
    messages = np.empty((len(rows), 65), np.uint8)
    messages[:, 0] = prefix
    messages[:, 1:] = rows
    return _rows(_each_hashed(messages), 32)


def _each_hashed(messages: _Bytes) -> bytes:
    # As raw bytes at once: cutting them one by one costs a tenth of the whole.
    cut = messages.view(f"V{messages.shape[1]}").ravel().tolist()
    return b"".join([state.digest() for state in map(_sha256, cut)])


def _fold(records: Sequence[bytes], depth: int) -> bytes:
    """The hash of the subtree at `depth` bits over sorted records that agree in all bits before."""
    if len(records) == 1:
        return records[0][TAG_BYTES:]
    # Sorted, so all agree for as long as the first and the last do.
    first, last = (int.from_bytes(record[:TAG_BYTES], "big") for record in (records[0], records[-1]))
    fork = TAG_BITS - (first ^ last).bit_length()
    if fork == TAG_BITS:
        tag = records[0][:TAG_BYTES].hex()
        raise LogError("log.duplicate_tag", f"the tag `{tag}` is in the map already", "use each tag once")
    byte, mask = fork >> 3, 128 >> (fork & 7)
    middle = 1
    while not records[middle][byte] & mask:
        middle += 1
    top = _parent(_fold(records[:middle], fork + 1), _fold(records[middle:], fork + 1))
    for d in range(fork - 1, depth - 1, -1):
        top = _parent(NOTHING, top) if first >> (TAG_BITS - 1 - d) & 1 else _parent(top, NOTHING)
    return top


def _parent(left: bytes, right: bytes) -> bytes:
    digest: bytes = _sha256(b"\x03" + left + right).digest()
    return digest
