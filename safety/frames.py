"""What the frames of a clip show, beside faces: nudity, violence, apparent minors.

Guarantees

- Scores are integers 0 to 1000 by category. What could not be looked for is named in :attr:`Shown.unchecked`, whatever
  stopped it: weights that are missing or altered, a crash, a time-out, an answer that is no number.
- Every sampled frame is looked at for nudity, whole and in the squares that cover it: the network sees a square, and
  in a wide picture squeezed into one people are thinner than any it was trained on.
- Everything runs in worker processes.

Nudity is scored by Yahoo's open_nsfw, whose probability is taken as it is. Measured on pictures at hand that show none
(photographs, close faces, bare arms, moving pictures, every scene of the reference renderer): at most 0.19, but 0.76 on
a warm-lit cheek that fills the picture, which is bare skin and nothing else. What it finds of what it should find, its
authors measured and we did not; it knows photographs of adults' nudity, not drawings, and no violence.

Violence, hatred, self-harm and apparent minors need weights that no package carries (:mod:`safety.zeroshot`).
"""

import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Final, TypeVar

import numpy as np
from PIL import Image

from safety import models, workers, zeroshot
from safety.errors import CheckUnavailable
from safety.faces import Picture
from safety.models import Added, Folder
from safety.policy.facts import Category, Check

CLEAR: Final = 500
"""From here on one frame is enough; below, the next or the last sampled one has to say so too. One frame alone is
often wrong by a little, in a blur or a cut; that a clip of real people stops at 300 would make that a refusal."""
APPARENT_MINOR: Final = 300
"""Any frame this much like one that shows a child shows one."""
EVERY_OTHER: Final = 2
"""Of the sampled frames, how many to one that is compared with descriptions: that takes ten times as long."""
LIKEN_TIMEOUT_S: Final = 180.0
"""The first picture waits for open_clip and the model to load, too."""
T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shown:
    """Scores: the highest that frames agree on. apparent_minors: 1 where any frame seems to show one, or more."""

    scores: Mapping[Category, int] = field(default_factory=dict)
    apparent_minors: int = 0
    unchecked: frozenset[Check] = frozenset()


def look(pictures: Sequence[Picture], added: Folder | None = None) -> Shown:
    """Look at sampled frames, each uint8 [h, w, 3] RGB, in their order. `added`: where an operator's models lie."""
    scores: dict[Category, int] = {}
    unchecked = set[Check]()
    bare = _answered(
        lambda: list(workers.shared().map(nudity, ((picture,) for picture in pictures))), "nudity"
    )
    if bare:
        scores["sexual"] = agreed(bare)
    else:
        unchecked.add("nudity")
    likened = _answered(lambda: _likened(pictures[::EVERY_OTHER], added), "violence and minors")
    minors = 0
    if likened:
        for concept in zeroshot.CONCEPTS:
            said = [one.scores[concept] for one in likened]
            # A child in one frame is a child; of the rest, frames may be wrong by a little.
            scores[concept] = max(scores.get(concept, 0), max(said) if concept == "minors" else agreed(said))
        minors = int(scores["minors"] >= APPARENT_MINOR)
    else:
        unchecked |= {"violence", "minors"}
    return Shown(scores, minors, frozenset(unchecked))


def agreed(scores: Sequence[int]) -> int:
    """The highest score of a clip's frames that one frame gives clearly, or two neighbours both reach.

    The first and the last count alone: on their other side is what nobody looked at.
    """
    both = (min(pair) for pair in pairwise(scores))
    return max(scores[0], scores[-1], *both, *(score for score in scores if score >= CLEAR))


def _answered(ask: Callable[[], list[T]], what: str) -> list[T]:
    """The answers, or none."""
    try:
        return ask()
    except CheckUnavailable as error:
        _log.warning("frames could not be looked at for %s: %s (%s)", what, error, error.reason.id)
        return []


def _likened(pictures: Sequence[Picture], added: Folder | None) -> list[zeroshot.Likened]:
    model: Added | None = added.chosen() if added is not None else None
    if model is None:
        return []
    asked = ((model, picture) for picture in pictures)
    return list(workers.shared().map(zeroshot.liken, asked, timeout_s=LIKEN_TIMEOUT_S))


# ── in a worker ───────────────────────────────────────────────────────────────────────────────────────────

_MEAN_BGR: Final = np.array([104, 117, 123], dtype=np.float32)
_SEEN_PX: Final = 224
_RESIZED_PX: Final = 256


def nudity(picture: Picture) -> int:
    """0 to 1000: the most of the whole picture and of the squares that cover it."""
    views = [Image.fromarray(picture)]
    if picture.shape[0] != picture.shape[1]:
        views += zeroshot.squares(picture)
    answer = _open_nsfw()(np.stack([_as_trained(view) for view in views]))
    if answer.shape != (len(views), 2) or not ((answer >= 0) & (answer <= 1)).all():
        raise CheckUnavailable(
            "models.no_number", "the nudity model answered no probability", "see `countersign models verify`"
        )
    return round(1000 * float(answer[:, 1].max()))


@lru_cache(maxsize=1)
def _open_nsfw() -> models.Session:
    return models.Session(models.packaged("open-nsfw"))


def _as_trained(view: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """float32 [224, 224, 3], BGR less the mean: as the network's authors prepare it, by way of a JPEG."""
    margin = (_RESIZED_PX - _SEEN_PX) // 2
    small = view.resize((_RESIZED_PX, _RESIZED_PX), Image.Resampling.BILINEAR)
    small = small.crop((margin, margin, margin + _SEEN_PX, margin + _SEEN_PX))
    with io.BytesIO() as file:
        small.save(file, "JPEG")
        pixels = np.asarray(Image.open(file), dtype=np.float32)
    return np.ascontiguousarray(pixels[:, :, ::-1] - _MEAN_BGR)
