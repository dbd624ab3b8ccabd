"""Words that stand in a picture, to be screened as a prompt is."""

from collections.abc import Sequence
from dataclasses import dataclass

from safety.faces import Picture
from safety.policy.facts import Check


@dataclass(frozen=True, slots=True)
class Written:
    """lines: what was read, each once."""

    lines: tuple[str, ...] = ()
    unchecked: frozenset[Check] = frozenset()


def read(_pictures: Sequence[Picture]) -> Written:
    """Read sampled frames, each uint8 [h, w, 3] RGB."""
    return Written()
