"""64 payload bits ↔ 448 coded bits: keyed check bits, then a convolutional code read by soft decisions.

    payload (64) ‖ HMAC-SHA256(key, "check" ‖ payload)[:40] ‖ 8 zero bits
        → rate 1/4, constraint length 9, generators 463 535 733 745 (octal), free distance 24
        → 448 coded bits, sent as signs ±1

:func:`decode` runs Viterbi and returns a payload only if its 40 check bits match: the one door out. The check is
a keyed MAC, not a CRC, because a CRC of silence is zero: a black clip must not read as payload 0. A decoder fed
anything that does not depend on the check key therefore passes with probability 2⁻⁴⁰ per call.
"""

import functools
import hashlib
import hmac
from typing import Final

import numpy as np
from numpy.typing import NDArray

PAYLOAD_BYTES: Final = 8
CHECK_BYTES: Final = 5
_GENERATORS: Final = (0o463, 0o535, 0o733, 0o745)
_MEMORY: Final = 8
_STATES: Final = 1 << _MEMORY
_STEPS: Final = 8 * (PAYLOAD_BYTES + CHECK_BYTES) + _MEMORY
CODED_BITS: Final = _STEPS * len(_GENERATORS)

Signs = NDArray[np.float32]
"""float32 [448], +1 for a coded 0 and −1 for a coded 1; as evidence, any real numbers of that sense."""


def encode(payload: bytes, key: bytes) -> Signs:
    """The signs that carry `payload` under `key`."""
    bits = np.unpackbits(np.frombuffer(payload + _check(payload, key), np.uint8))
    register = np.concatenate([np.zeros(_MEMORY, np.uint8), bits, np.zeros(_MEMORY, np.uint8)])
    # Row t holds the register at step t, newest bit first.
    windows = np.lib.stride_tricks.sliding_window_view(register, _MEMORY + 1)[:, ::-1]
    coded = windows @ _taps().T % 2
    return (1.0 - 2.0 * coded.ravel()).astype(np.float32)


def decode(evidence: Signs, key: bytes) -> bytes | None:
    """The payload whose codeword agrees best with `evidence`, if its check bits match; else None."""
    sources, branch_signs = _trellis()
    metric = np.full(_STATES, -np.inf)
    metric[0] = 0.0
    choices = np.empty((_STEPS, _STATES), np.uint8)
    # gains[t, i, s]: what step t adds on the i-th of the two branches that enter state s.
    gains = np.einsum("tg,isg->tis", evidence.reshape(_STEPS, -1).astype(np.float64), branch_signs)
    for step in range(_STEPS):
        arriving = metric[sources] + gains[step]
        choices[step] = arriving[1] > arriving[0]
        metric = np.maximum(arriving[0], arriving[1])
    bits = np.empty(_STEPS, np.uint8)
    state = 0  # the tail drove the encoder back to zero
    for step in range(_STEPS - 1, -1, -1):
        bits[step] = state >> (_MEMORY - 1)
        state = int(sources[choices[step, state], state])
    word = np.packbits(bits[:-_MEMORY]).tobytes()
    payload, check = word[:PAYLOAD_BYTES], word[PAYLOAD_BYTES:]
    return payload if hmac.compare_digest(check, _check(payload, key)) else None


def _check(payload: bytes, key: bytes) -> bytes:
    return hmac.digest(key, b"countersign/watermark/v1/check\x00" + payload, hashlib.sha256)[:CHECK_BYTES]


@functools.cache
def _taps() -> NDArray[np.uint8]:
    """uint8 [generator, delay]: which delayed bits each coded bit sums; delay 0 is the newest."""
    return np.array([[g >> (_MEMORY - d) & 1 for d in range(_MEMORY + 1)] for g in _GENERATORS], np.uint8)


@functools.cache
def _trellis() -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """For each state the two states before it, [2, state], and the signs sent on each branch, [2, state, generator].

    A state is the last 8 bits, newest on top.
    """
    state = np.arange(_STATES)
    sources = np.stack([(state << 1 & (_STATES - 1)) | oldest for oldest in (0, 1)])
    register = state << 1 | np.array([[0], [1]])  # [2, state]: 9 bits, newest on top, oldest at the bottom
    bits = register[..., None] >> np.arange(_MEMORY, -1, -1) & 1
    return sources, 1.0 - 2.0 * (bits @ _taps().T.astype(np.int64) % 2)
