"""Who speaks in a clip, and what they say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ledger.ids import CameoId
from safety.policy.facts import Check

Voice = NDArray[np.float32]
"""A speaker's template: float32 [n, 256], one row for each utterance."""


@dataclass(frozen=True, slots=True)
class Heard:
    """ungranted: voices of nobody granted; enrolled: of those, of enrolled people. words: what was understood."""

    ungranted: int = 0
    enrolled: int = 0
    words: str = ""
    unchecked: frozenset[Check] = frozenset()


def listen(_clip: Path, _granted: Mapping[CameoId, Voice], _enrolled: Sequence[Voice] = ()) -> Heard:
    """Listen to the sound of a clip. Nobody speaks in one without sound."""
    return Heard()
