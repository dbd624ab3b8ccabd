"""Digits read aloud, as an enrolment film has to: which were heard, and when each was.

    samples ──► recogniser that may only answer with digits ──► which, in order
                                                            └─► aligned with the sound (pocketsphinx) ──► when

Measured on synthetic speech, 13 voices of three synthesisers, 65 times six digits: five or six of six were heard every
time, six in 94 %. Of six digits that were not said, five agree by chance in 0.05 % and four in 1.5 %: ENOUGH is five.

Left to others: who speaks, and that it is alive. Whoever makes somebody's voice say anything makes it say digits.
Digits are asked for in English, whatever language the page is in: no package carries weights for another.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np

from safety.errors import CheckUnavailable
from safety.models import packaged
from safety.voice.activity import Samples, require
from safety.voice.words import Token, decode, vocabulary

DIGITS: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ENOUGH: Final = 5
"""Of six, how many have to be heard in order."""
_SAID: Final = {**{word: str(digit) for digit, word in enumerate(DIGITS)}, "oh": "0"}
_FRAMES_HZ: Final = 100
_FLOOR: Final = np.float32(1e-3)


class Digit(NamedTuple):
    """One digit that was heard. confidence: 0 to 1000. Both times are 0 where they could not be told."""

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

    @property
    def timed(self) -> bool:
        """Whether it is known when each was said."""
        return bool(self.heard) and all(one.end_s > one.start_s for one in self.heard)


def spoken_digits(samples: Samples, expected: str) -> Digits:
    """Listen for digits said in English, and hold them against those `expected`. "oh" is zero.

    What was heard comes back whatever was expected, so that its times can be held against a mouth. Asked through
    :mod:`safety.workers`. Raises InvalidInput for what is no sound, CheckUnavailable where nothing can listen.
    """
    require(samples)
    tokens = [token for token in decode(samples, _allowed()) if _word(token.text) in _SAID]
    heard = _timed(samples, tokens)
    matched = in_order([one.digit for one in heard], expected)
    return Digits(matched, len(expected), round(1000 * matched / max(1, len(expected))), heard)


def in_order(heard: Sequence[str], expected: str) -> int:
    """The longest common subsequence: one missed or one too many costs one, not all that follow."""
    row = [0] * (len(expected) + 1)
    for digit in heard:
        before = 0
        for at, wanted in enumerate(expected, 1):
            before, row[at] = row[at], before + 1 if digit == wanted else max(row[at], row[at - 1])
    return row[-1]


def _word(text: str) -> str:
    return text.strip().lower()


@lru_cache(maxsize=1)
def _allowed() -> frozenset[int]:
    return frozenset(
        number
        for number, text in enumerate(vocabulary())
        if text in (",", ".", "!", "?") or (text.startswith(" ") and _word(text) in _SAID)
    )


def _timed(samples: Samples, tokens: Sequence[Token]) -> tuple[Digit, ...]:
    said = [_word(token.text) for token in tokens]
    times = _align(samples, said) if said else []
    if len(times) != len(said):
        times = [(0.0, 0.0)] * len(said)
    return tuple(
        Digit(_SAID[word], start_s, end_s, round(1000 * token.probability))
        for word, token, (start_s, end_s) in zip(said, tokens, times, strict=True)
    )


def _align(samples: Samples, said: Sequence[str]) -> list[tuple[float, float]]:
    """When each of these words was said, given that they all were; nothing where they do not fit the sound."""
    decoder = _aligner()
    decoder.add_jsgf_string("said", f"#JSGF V1.0;\ngrammar said;\npublic <all> = {' '.join(said)};\n")
    decoder.activate_search("said")
    decoder.start_utt()
    # Silence of exact zeros, as synthesisers and editors make it, has no logarithm: with it nothing fits.
    floor = np.random.default_rng(0).standard_normal(len(samples), np.float32) * _FLOOR
    pcm = np.clip(np.rint((samples + floor) * 32767), -32768, 32767).astype("<i2").tobytes()
    decoder.process_raw(pcm, no_search=False, full_utt=True)
    decoder.end_utt()
    return [
        (segment.start_frame / _FRAMES_HZ, (segment.end_frame + 1) / _FRAMES_HZ)
        for segment in decoder.seg() or ()
        if segment.word.partition("(")[0] in _SAID
    ]


@lru_cache(maxsize=1)
def _aligner() -> Any:
    folder = packaged("pocketsphinx-en-us")
    try:
        from pocketsphinx import Config, Decoder  # noqa: PLC0415 — in a worker only

        # Little is dropped on the way for being unlikely: it is known what was said.
        return Decoder(
            Config(
                hmm=str(folder / "en-us"),
                dict=str(folder / "cmudict-en-us.dict"),
                lm=None,
                beam=1e-60,
                wbeam=1e-60,
                pbeam=1e-60,
                loglevel="FATAL",
            )
        )
    except (ImportError, RuntimeError, ValueError) as error:
        raise CheckUnavailable(
            "speech.unavailable", "spoken digits cannot be timed here", "see `countersign models verify`"
        ) from error
