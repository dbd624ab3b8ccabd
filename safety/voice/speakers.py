"""Whose a voice is: templates of speakers, and how alike two are (the GE2E network that Resemblyzer carries).

    samples ──► speech only ──► mel spectrogram ──► 1.6-second windows ──► LSTM ──► float32 [n, 256], unit length

Guarantees: the same sound gives the same template; what is too short to tell is said to be, never guessed at.
Templates stay in memory and in sealed rows: nothing here prints them.

Left to others: a mimic, a converted voice and a good synthesis of somebody sound like them, here as to a listener.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from safety.errors import CheckUnavailable
from safety.models import packaged
from safety.voice.activity import RATE_HZ, Samples, Span, require

Voice = NDArray[np.float32]
"""A speaker's template: float32 [n, 256], each row of unit length, of some speech of theirs."""
Mels = NDArray[np.float32]

WINDOW_S: Final = 1.6
HOP_S: Final = 0.4
LEAST_S: Final = 1.0
"""Less speech than this says nothing of who it is."""
_FFT: Final = 400
_STEP: Final = 160
_BANDS: Final = 40
_FRAMES: Final = 160
_LEVEL_DB: Final = -30.0
_HIDDEN: Final = 256


def similarity(one: Voice, other: Voice) -> int:
    """How alike two voices are, 0 to 1000: the cosine between what their speech has in common."""
    if not len(one) or not len(other):
        return 0
    cosine = float(centre(one) @ centre(other))
    # INVARIANT: a number that is none is no likeness.
    return round(1000 * min(1.0, max(0.0, cosine))) if np.isfinite(cosine) else 0


def centre(voice: Voice) -> NDArray[np.float32]:
    mean = voice.mean(axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9), np.float32)


def windows(samples: Samples, spans: Sequence[Span]) -> tuple[tuple[Span, ...], Voice]:
    """A template row for each window of the speech in `spans`, and where it is. Spans are not joined.

    Of a span shorter than a window but no shorter than LEAST_S there is one row; of a shorter one there is none.
    """
    require(samples)
    level = _gain(samples, spans)
    places: list[Span] = []
    mels: list[Mels] = []
    for span in spans:
        if span.seconds < LEAST_S:
            continue
        part = samples[round(span.start_s * RATE_HZ) : round(span.end_s * RATE_HZ)] * level
        seconds = len(part) / RATE_HZ
        last = max(0.0, seconds - WINDOW_S)
        starts = np.linspace(0, last, 1 + int(np.ceil(last / HOP_S - 1e-9)))
        mel = mel_spectrogram(np.pad(part, (0, max(0, round(WINDOW_S * RATE_HZ) - len(part)))))
        for start_s in starts:
            first = round(start_s * RATE_HZ / _STEP)
            mels.append(mel[first : first + _FRAMES])
            places.append(Span(span.start_s + start_s, min(span.end_s, span.start_s + start_s + WINDOW_S)))
    return tuple(places), embed(np.stack(mels)) if mels else np.empty((0, _HIDDEN), np.float32)


def _gain(samples: Samples, spans: Sequence[Span]) -> np.float32:
    """What brings speech to the level the network knows. Loud speech stays as it is."""
    spoken = [samples[round(span.start_s * RATE_HZ) : round(span.end_s * RATE_HZ)] for span in spans]
    power = float(np.mean(np.concatenate(spoken) ** 2)) if spoken else 0.0
    return np.float32(max(1.0, 10 ** (_LEVEL_DB / 20) / np.sqrt(max(power, 1e-12))))


def mel_spectrogram(samples: Samples) -> Mels:
    """float32 [frames, 40]: power in mel bands (Slaney's scale and norm), 25 ms every 10, at 16 kHz."""
    padded = np.pad(samples, _FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::_STEP]
    # The periodic Hann window: the last point would be the next period's first.
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FFT) / _FFT)
    power = np.abs(np.fft.rfft(frames * hann, axis=1)) ** 2
    return np.asarray(power @ _filters().T, np.float32)


@lru_cache(maxsize=1)
def _filters() -> NDArray[np.float64]:
    """[40, 201]: triangles of equal area between 0 and 8000 Hz."""
    edges = _hz(np.linspace(0.0, float(_mel(RATE_HZ / 2)), _BANDS + 2))
    bins = np.linspace(0, RATE_HZ / 2, _FFT // 2 + 1)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    area = 2.0 / (edges[2:] - edges[:-2])
    return np.asarray(np.maximum(0, np.minimum(rising, falling)) * area[:, None])


# Slaney's mel scale: linear to 1000 Hz, logarithmic above.
_LINEAR_HZ: Final = 200.0 / 3
_KNEE_HZ: Final = 1000.0
_LOG_STEP: Final = np.log(6.4) / 27.0


def _mel(hz: float) -> float:
    knee = _KNEE_HZ / _LINEAR_HZ
    return hz / _LINEAR_HZ if hz < _KNEE_HZ else float(knee + np.log(hz / _KNEE_HZ) / _LOG_STEP)


def _hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    knee = _KNEE_HZ / _LINEAR_HZ
    return np.where(mel < knee, mel * _LINEAR_HZ, _KNEE_HZ * np.exp(_LOG_STEP * (mel - knee)))


def embed(mels: NDArray[np.float32]) -> Voice:
    """mels: float32 [n, 160, 40]. A row for each, of unit length."""
    import torch  # noqa: PLC0415 — in a worker only

    lstm, linear = _network()
    with torch.inference_mode():
        _, (hidden, _) = lstm(torch.from_numpy(np.ascontiguousarray(mels)))
        rows = torch.relu(linear(hidden[-1])).numpy()
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.isfinite(norms).all() or (norms <= 0).any():
        raise CheckUnavailable("voices.unsure", "a voice could not be measured", "render the clip again")
    return np.asarray(rows / norms, np.float32)


@lru_cache(maxsize=1)
def _network() -> tuple[Any, Any]:
    import torch  # noqa: PLC0415 — in a worker only

    # Only tensors are read from the file: it runs nothing.
    stored = torch.load(packaged("resemblyzer"), map_location="cpu", weights_only=True)["model_state"]
    lstm = torch.nn.LSTM(_BANDS, _HIDDEN, 3, batch_first=True)
    linear = torch.nn.Linear(_HIDDEN, _HIDDEN)
    for name, module in (("lstm", lstm), ("linear", linear)):
        module.load_state_dict(
            {key.partition(".")[2]: value for key, value in stored.items() if key.startswith(f"{name}.")}
        )
        module.eval()
    return lstm, linear
