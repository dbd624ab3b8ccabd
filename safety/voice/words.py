"""What is said: words, with how sure of them the recogniser is, and the digits of an enrolment.

    samples ──► words understood      ──► screened as a prompt is
            └─► six digits, in order  ──► an enrolment film's challenge

Samples are float32 [n], mono, 16 kHz, -1 to 1. Everything here is native code on somebody's sound: it is asked through
:mod:`safety.workers`.
"""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from safety.errors import CheckUnavailable, InvalidInput

Samples = NDArray[np.float32]
RATE_HZ: Final = 16_000
LONGEST_S: Final = 120.0
DIGITS: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ENOUGH: Final = 4
"""Of six digits, how many have to be heard in order."""
_FRAMES_HZ: Final = 100


class Digit(NamedTuple):
    """One digit that was heard. confidence: 0 to 1000."""

    digit: str
    start_s: float
    end_s: float
    confidence: int


class Digits(NamedTuple):
    """How many of those expected were heard in their order, `of` how many. score: 0 to 1000."""

    matched: int
    of: int
    score: int
    heard: tuple[Digit, ...]

    @property
    def enough(self) -> bool:
        return self.of > 0 and self.matched * 6 >= ENOUGH * self.of


def spoken_digits(samples: Samples, expected: str) -> Digits:
    """Listen for digits said in English, one after another, and hold them against those `expected`.

    "oh" is zero. What was heard comes back whatever was expected, so that its times can be held against a mouth.
    Raises InvalidInput for sound that is too long or not sound at all, CheckUnavailable where nothing can listen.
    """
    _require(samples)
    heard = _decoded(samples, len(expected))
    matched = _in_order([one.digit for one in heard], expected)
    return Digits(matched, len(expected), round(1000 * matched / max(1, len(expected))), heard)


def _require(samples: Samples) -> None:
    if samples.dtype != np.float32 or samples.ndim != 1 or not np.isfinite(samples).all():
        raise InvalidInput("sound.unreadable", "the sound is damaged", "record it again")
    if len(samples) > LONGEST_S * RATE_HZ:
        raise InvalidInput(
            "sound.too_long", f"the sound is longer than `{LONGEST_S:.0f}` seconds", "send a shorter clip"
        )


def _in_order(heard: list[str], expected: str) -> int:
    """The longest common subsequence: one missed or one too many costs one, not all that follow."""
    row = [0] * (len(expected) + 1)
    for digit in heard:
        before = 0
        for at, wanted in enumerate(expected, 1):
            before, row[at] = row[at], before + 1 if digit == wanted else max(row[at], row[at - 1])
    return row[-1]


def _decoded(samples: Samples, count: int) -> tuple[Digit, ...]:
    decoder = _digits_decoder(count)
    decoder.start_utt()
    decoder.process_raw(_pcm(samples), no_search=False, full_utt=True)
    decoder.end_utt()
    found = []
    for segment in decoder.seg() or ():
        word = segment.word.split("(")[0]
        if word in (*DIGITS, "oh"):
            digit = "0" if word == "oh" else str(DIGITS.index(word))
            sure = round(1000 * min(1.0, max(0.0, float(segment.prob))))
            found.append(
                Digit(digit, segment.start_frame / _FRAMES_HZ, (segment.end_frame + 1) / _FRAMES_HZ, sure)
            )
    return tuple(found)


def _pcm(samples: Samples) -> bytes:
    return np.clip(np.rint(samples * 32767), -32768, 32767).astype("<i2").tobytes()


@lru_cache(maxsize=4)
def _digits_decoder(count: int) -> Any:
    """One that hears exactly so many digits, with pauses where they like: any number of them is heard poorly."""
    decoder = _decoder()
    spoken = " | ".join((*DIGITS, "oh"))
    decoder.add_jsgf_string(
        "digits", f"#JSGF V1.0;\ngrammar digits;\npublic <all> = {'<digit> ' * count};\n<digit> = {spoken};\n"
    )
    decoder.activate_search("digits")
    return decoder


def _decoder(**options: Any) -> Any:
    try:
        from pocketsphinx import Config, Decoder  # noqa: PLC0415 — in a worker only

        model = _model()
        return Decoder(
            Config(
                hmm=str(model / "en-us"),
                dict=str(model / "cmudict-en-us.dict"),
                loglevel="FATAL",
                **{"lm": None, **options},
            )
        )
    except Exception as error:
        raise CheckUnavailable(
            "speech.unavailable",
            "spoken words cannot be recognised here",
            "install the speech model that comes with the service",
        ) from error


def _model() -> Path:
    found = find_spec("pocketsphinx")
    if found is None or found.origin is None:
        raise FileNotFoundError
    return Path(found.origin).parent / "model" / "en-us"
