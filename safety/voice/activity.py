"""When somebody speaks: the spans of a sound in which there is a voice (silero-vad).

Guarantees: the same sound gives the same spans; music, wind, noise and tones are nobody. Two parts of speech with less
than a moment between them are one span, and each span has a little before and after it, where words begin and end.

Left to others: singing may or may not count, and whispering mostly does not. It says that, not what or whose.
"""

from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from safety.errors import CheckUnavailable, InvalidInput
from safety.models import packaged, session

Samples = NDArray[np.float32]
"""float32 [n], one channel at RATE_HZ, -1 to 1."""
RATE_HZ: Final = 16_000
LONGEST_S: Final = 120.0
SPEECH: Final = 0.5
"""From this probability on it is speech; a span ends where it falls below QUIET."""
QUIET: Final = 0.35
SHORTEST_S: Final = 0.25
PAUSE_S: Final = 0.3
MARGIN_S: Final = 0.06
_WINDOW: Final = 512
_CONTEXT: Final = 64


class Span(NamedTuple):
    """In seconds from the first sample."""

    start_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        return self.end_s - self.start_s


def speech(samples: Samples) -> tuple[Span, ...]:
    """Where somebody speaks, in order. Raises InvalidInput for what is no sound, CheckUnavailable as models do."""
    require(samples)
    return _spans(probabilities(samples), len(samples) / RATE_HZ)


def require(samples: Samples) -> None:
    """Raises InvalidInput for sound that is too long, or not sound at all."""
    if samples.dtype != np.float32 or samples.ndim != 1 or not np.isfinite(samples).all():
        raise InvalidInput("sound.damaged", "the sound is damaged", "record it again")
    if len(samples) > LONGEST_S * RATE_HZ:
        raise InvalidInput(
            "sound.too_long", f"the sound is longer than `{LONGEST_S:.0f}` seconds", "send a shorter one"
        )


def probabilities(samples: Samples) -> NDArray[np.float32]:
    """How likely there is a voice, 0 to 1, in each 32 milliseconds."""
    windows = -(-len(samples) // _WINDOW)
    padded = np.zeros(_CONTEXT + windows * _WINDOW, np.float32)
    padded[_CONTEXT : _CONTEXT + len(samples)] = samples
    model, state = _model(), np.zeros((2, 1, 128), np.float32)
    rate = np.array(RATE_HZ, np.int64)
    found = np.zeros(windows, np.float32)
    for at in range(windows):
        # Each window comes with the end of the one before, as the model was trained.
        window = padded[None, at * _WINDOW : (at + 1) * _WINDOW + _CONTEXT]
        probability, state = model.run(None, {"input": window, "state": state, "sr": rate})
        found[at] = probability[0, 0]
    if not np.isfinite(found).all():
        raise CheckUnavailable(
            "speech.unsure", "whether anybody speaks could not be told", "render the clip again"
        )
    return found


def _spans(found: NDArray[np.float32], seconds: float) -> tuple[Span, ...]:
    step_s = _WINDOW / RATE_HZ
    runs: list[list[float]] = []
    speaking = False
    for at, probability in enumerate(found):
        # Once somebody speaks, a syllable that is hardly heard does not end it.
        speaking = bool(probability >= (QUIET if speaking else SPEECH))
        if not speaking:
            continue
        if runs and at * step_s - runs[-1][1] < PAUSE_S:
            runs[-1][1] = (at + 1) * step_s
        else:
            runs.append([at * step_s, (at + 1) * step_s])
    return tuple(
        Span(max(0.0, start - MARGIN_S), min(seconds, end + MARGIN_S))
        for start, end in runs
        if end - start >= SHORTEST_S
    )


@lru_cache(maxsize=1)
def _model() -> Any:
    return session(packaged("silero-vad"))
