"""What is said: the words of speech, with how sure of them the recogniser is (Moonshine tiny, English).

    samples ──► phrases ──► encoder ──► decoder, token by token ──► text and confidence

Guarantees: the same sound gives the same words; a phrase ends after as many tokens as anybody can say in its time.

Confidence, 0 to 1000, is the mean probability of the tokens. Measured on recorded speech: English 610 to 980, other
languages 180 to 590, where the words are made up. From UNDERSTOOD on they are words; a phrase that repeats itself over
and over is one the model lost its way in, however sure of it. What was not understood was not checked.

Left to others: which words matter. Other languages than English, singing and whispering are not understood.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from safety.models import packaged, session
from safety.voice.activity import RATE_HZ, Samples, Span, require

UNDERSTOOD: Final = 600
PHRASE_S: Final = 12.0
JOINED_S: Final = 1.0
"""Spans no further apart than this are one phrase."""
_TOKENS_PER_S: Final = 6.5
_LOOP: Final = 4
"""As often as this the same three words in one phrase, and it is no phrase."""
_START: Final = 1
_END: Final = 2
_LAYERS: Final = 6
_HEADS: Final = 8
_HEAD: Final = 36


class Said(NamedTuple):
    """confidence: 0 to 1000."""

    span: Span
    text: str
    confidence: int

    @property
    def understood(self) -> bool:
        words = self.text.lower().split()
        loops = Counter(zip(words, words[1:], words[2:], strict=False))
        return bool(words) and self.confidence >= UNDERSTOOD and max(loops.values(), default=0) < _LOOP


class Token(NamedTuple):
    """probability: among all that could have been said, whether or not they were allowed."""

    number: int
    text: str
    probability: float


def words(samples: Samples, spans: Sequence[Span]) -> tuple[Said, ...]:
    """The words of each phrase in `spans`. Raises InvalidInput and CheckUnavailable."""
    require(samples)
    found = []
    for span in _phrases(spans):
        part = samples[round(span.start_s * RATE_HZ) : round(span.end_s * RATE_HZ)]
        tokens = list(decode(part))
        text = "".join(token.text for token in tokens).strip()
        sure = float(np.exp(np.mean([np.log(max(token.probability, 1e-9)) for token in tokens] or [0.0])))
        found.append(Said(span, text, round(1000 * sure)))
    return tuple(found)


def _phrases(spans: Sequence[Span]) -> Iterator[Span]:
    """Spans near to one another together, and long ones apart: a phrase is what the model was made for."""
    held: Span | None = None
    for span in spans:
        for at_s in np.arange(span.start_s, span.end_s, PHRASE_S):
            part = Span(float(at_s), min(span.end_s, float(at_s) + PHRASE_S))
            if held is None:
                held = part
            elif part.start_s - held.end_s <= JOINED_S and part.end_s - held.start_s <= PHRASE_S:
                held = Span(held.start_s, part.end_s)
            else:
                yield held
                held = part
    if held is not None:
        yield held


def decode(samples: Samples, allowed: Collection[int] | None = None) -> Iterator[Token]:
    """The likeliest token after token; of those `allowed`, where only some are (`vocabulary`)."""
    encoder, decoder = _model()
    texts = vocabulary()
    sound = samples[None].astype(np.float32)
    mask = np.ones(sound.shape, np.int64)
    heard = encoder.run(None, {"input_values": sound, "attention_mask": mask})[0]
    names = [output.name.replace("present", "past_key_values") for output in decoder.get_outputs()[1:]]
    past: dict[str, NDArray[np.float32]] = {
        f"past_key_values.{layer}.{of}.{what}": np.zeros((0, _HEADS, 1, _HEAD), np.float32)
        for layer in range(_LAYERS)
        for of in ("decoder", "encoder")
        for what in ("key", "value")
    }
    choices = None if allowed is None else np.array(sorted({*allowed, _END}))
    token = _START
    for step in range(int(len(samples) / RATE_HZ * _TOKENS_PER_S) + 2):
        scores, *present = decoder.run(
            None,
            {
                "encoder_attention_mask": mask,
                "input_ids": np.array([[token]], np.int64),
                "encoder_hidden_states": heard,
                "use_cache_branch": np.array([step > 0]),
                **past,
            },
        )
        token, probability = _choose(scores[0, -1].astype(np.float64), choices)
        if token == _END:
            return
        yield Token(token, texts[token], probability)
        # What the decoder knows of the sound is worked out once, with the first token.
        past |= {
            name: value
            for name, value in zip(names, present, strict=True)
            if step == 0 or ".decoder." in name
        }


def _choose(scores: NDArray[np.float64], choices: NDArray[np.int64] | None) -> tuple[int, float]:
    chances = np.exp(scores - scores.max())
    chances /= chances.sum()
    best = int(chances.argmax() if choices is None else choices[chances[choices].argmax()])
    # INVARIANT: a chance that is no number is none.
    return best, float(chances[best]) if np.isfinite(chances[best]) else 0.0


@lru_cache(maxsize=1)
def _model() -> tuple[Any, Any]:
    folder = packaged("moonshine-tiny-en")
    return session(folder / "encoder_model.ort"), session(folder / "decoder_model_merged.ort")


@lru_cache(maxsize=1)
def vocabulary() -> tuple[str, ...]:
    """What each token says, by its number; a word's first token starts with a space.

    The file is one entry after another: its length, of seven bits a byte, then that many bytes of UTF-8.
    """
    data = (packaged("moonshine-tiny-en") / "tokenizer.bin").read_bytes()
    texts, at = [], 0
    while at < len(data):
        length, at = data[at], at + 1
        if length >= 128:
            length, at = length - 128 + data[at] * 128, at + 1
        texts.append(data[at : at + length].decode("utf-8", "replace").replace("\u2581", " "))
        at += length
    return tuple(texts)
