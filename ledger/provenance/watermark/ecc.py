"""64 payload bits ↔ 512 coded bits: keyed check bits, then a polar code read by soft decisions with a list.

    payload (64) ‖ HMAC-SHA256(key, "check" ‖ payload)[:40]
        → polar code of length 512, the 104 most reliable places by polarization weight (β = 2^¼)
        → 512 coded bits, sent as signs ±1

:func:`decode` keeps the :data:`LIST_SIZE` likeliest words and returns the first whose 40 check bits match: the one door
out. The check is a keyed MAC, not a CRC, because a CRC of silence is zero: a black clip must not read as payload 0. A
decoder fed anything that does not depend on the check key therefore passes with probability ≤ LIST_SIZE · 2⁻⁴⁰ per call.
"""

import functools
import hashlib
import hmac
from typing import Final

import numpy as np
from numpy.typing import NDArray

PAYLOAD_BYTES: Final = 8
CHECK_BYTES: Final = 5
LIST_SIZE: Final = 32
CODED_BITS: Final = 512
_WORD_BITS: Final = 8 * (PAYLOAD_BYTES + CHECK_BYTES)

Signs = NDArray[np.float32]
"""float32 [512], +1 for a coded 0 and −1 for a coded 1; as evidence, any real numbers of that sense."""


def encode(payload: bytes, key: bytes) -> Signs:
    """The signs that carry `payload` under `key`."""
    word = np.unpackbits(np.frombuffer(payload + _check(payload, key), np.uint8))
    bits = np.zeros(CODED_BITS, np.uint8)
    bits[_places()] = word
    size = 1
    while size < CODED_BITS:
        pairs = bits.reshape(-1, 2, size)
        pairs[:, 0] ^= pairs[:, 1]
        size *= 2
    return (1.0 - 2.0 * bits).astype(np.float32)


def decode(evidence: Signs, key: bytes) -> bytes | None:
    """The likeliest payload for `evidence` whose check bits match, among a list; else None."""
    paths = _Paths()
    paths.walk(np.asarray(evidence, np.float32)[None], 0)
    for word in paths.words[np.argsort(paths.losses, kind="stable")]:
        said = np.packbits(word).tobytes()
        payload, check = said[:PAYLOAD_BYTES], said[PAYLOAD_BYTES:]
        if hmac.compare_digest(check, _check(payload, key)):
            return payload
    return None


class _Paths:
    """The words still in the race, at most LIST_SIZE: uint8 [p, 104], and what the evidence lost on each, [p]."""

    def __init__(self) -> None:
        self.words = np.zeros((1, _WORD_BITS), np.uint8)
        self.losses = np.zeros(1, np.float32)
        self._known = 0

    def walk(self, evidence: Signs, start: int) -> tuple[Signs, NDArray[np.intp]]:
        """Decide the bits of one subtree.

        `evidence` [p, n] is about its n coded bits on each path. Returns their signs on the paths that are left, [q, n],
        and which earlier path each of those continues, [q].
        """
        size = evidence.shape[1]
        unknown = _unknown()[start + size] - _unknown()[start]
        if unknown == 0:
            self.losses = self.losses - np.minimum(evidence, 0.0).sum(1)
            return np.ones_like(evidence), np.arange(len(evidence))
        # A subtree's last bit is its most reliable: alone, it is repeated in all of them.
        if unknown == 1:
            return self._fork(evidence)
        half = size // 2
        first, second = evidence[:, :half], evidence[:, half:]
        both = np.copysign(np.minimum(np.abs(first), np.abs(second)), first * second)
        left, origin = self.walk(both, start)
        right, later = self.walk(second[origin] + left * first[origin], start + half)
        left, origin = left[later], origin[later]
        return np.concatenate([left * right, right], axis=1), origin

    def _fork(self, evidence: Signs) -> tuple[Signs, NDArray[np.intp]]:
        paths, size = evidence.shape
        losses = np.concatenate(
            [self.losses - np.minimum(evidence, 0.0).sum(1), self.losses + np.maximum(evidence, 0.0).sum(1)]
        )
        kept = np.argsort(losses, kind="stable")[:LIST_SIZE]
        bits, origin = kept // paths, kept % paths
        self.losses = losses[kept]
        self.words = self.words[origin]
        self.words[:, self._known] = bits
        self._known += 1
        signs = np.repeat((1.0 - 2.0 * bits).astype(np.float32)[:, None], size, axis=1)
        return signs, origin


def _check(payload: bytes, key: bytes) -> bytes:
    return hmac.digest(key, b"countersign/watermark/v2/check\x00" + payload, hashlib.sha256)[:CHECK_BYTES]


@functools.cache
def _places() -> NDArray[np.intp]:
    """Where the word's bits stand among the 512, in order: the places of greatest polarization weight."""
    digits = np.arange(CODED_BITS)[:, None] >> np.arange(9) & 1
    weights = digits @ 2.0 ** (np.arange(9) / 4)
    return np.sort(np.argsort(weights, kind="stable")[-_WORD_BITS:])


@functools.cache
def _unknown() -> tuple[int, ...]:
    """How many of the word's bits stand before each place."""
    stands = np.zeros(CODED_BITS, np.intp)
    stands[_places()] = 1
    return tuple(int(n) for n in np.concatenate([[0], np.cumsum(stands)]))
