"""The mark in the sound: what it survives, what it refuses, and that nothing is added where nothing is heard."""

import hashlib
import io
import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ledger.errors import MediaError, ProvenanceError
from ledger.provenance import media
from ledger.provenance.watermark import Detected, NotDetected, sound
from ledger.provenance.watermark.sound import Marker, find, find_in_sound, mark, sample_sound

Samples = NDArray[np.float32]

KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))
PAYLOAD = bytes.fromhex("c0ffee0123456789")
RATE = 48_000


def music(seconds: float, rate: int = RATE, seed: int = 5) -> Samples:
    """Chords that change twice a second over a hiss that comes and goes; left is not quite right."""
    rng = np.random.default_rng(seed)
    out = np.zeros(round(seconds * rate))
    since = np.arange(rate) / rate
    for start in range(0, len(out), rate // 2):
        for note in rng.integers(45, 80, 3):
            pitch = 440 * 2 ** ((note - 69) / 12)
            harmonics = range(1, min(8, int(rate / 2.2 / pitch)))
            tone = sum(np.sin(2 * np.pi * pitch * n * since) / n**1.2 for n in harmonics)
            held = (np.exp(-2.5 * since) * tone)[: len(out) - start]
            out[start : start + len(held)] += held
    t = np.arange(len(out)) / rate
    hiss = rng.normal(size=len(t)) * (0.25 + 0.2 * np.sin(2 * np.pi * 0.7 * t))
    both = np.stack([out + hiss, 0.8 * out + 0.9 * hiss + 0.1 * rng.normal(size=len(t))], 1)
    return np.asarray(both / np.abs(both).max() * 0.8, np.float32)


@pytest.fixture(scope="module")
def tune() -> Samples:
    return music(9.0)


@pytest.fixture(scope="module")
def marked(tune: Samples) -> Samples:
    return mark(tune, RATE, KEY, PAYLOAD)


def payload_of(samples: Samples, rate: int = RATE, key: bytes = KEY) -> bytes | None:
    found = find(samples, rate, key)
    return found.payload if isinstance(found, Detected) else None


def coded(samples: Samples, codec: str, container: str, kbps: int) -> Samples:
    """Encoded and decoded again, as [n, 2] at 48 kHz."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as opened:
        target: Any = opened
        stream = target.add_stream(codec, rate=RATE, layout="stereo")
        stream.bit_rate = kbps * 1000
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = RATE, 0
        target.mux(stream.encode(frame))
        target.mux(stream.encode())
    out.seek(0)
    resampler = av.AudioResampler(format="fltp", layout="stereo", rate=RATE)
    with av.open(out, "r") as source:
        planes = [one.to_ndarray() for frame in source.decode(audio=0) for one in resampler.resample(frame)]
    return np.ascontiguousarray(np.clip(np.concatenate(planes, axis=1).T, -1, 1), np.float32)


# What it survives ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "container", "kbps"),
    [("libmp3lame", "mp3", 128), ("aac", "mp4", 64), ("libopus", "ogg", 32)],
)
def test_music_keeps_the_mark_through(codec: str, container: str, kbps: int, marked: Samples) -> None:
    assert payload_of(coded(marked, codec, container, kbps)) == PAYLOAD


def test_an_excerpt_that_begins_anywhere_is_enough(marked: Samples) -> None:
    assert payload_of(marked[123_457 : 123_457 + 5 * RATE]) == PAYLOAD


def test_the_mark_is_found_at_another_rate_and_in_one_channel(marked: Samples) -> None:
    third = np.ascontiguousarray(marked[: len(marked) // 3 * 3].mean(axis=1).reshape(-1, 3).mean(axis=1))
    assert payload_of(third[:, None].astype(np.float32), RATE // 3) == PAYLOAD


@pytest.mark.parametrize("rate", [22_050, 44_100])
def test_sound_of_other_rates_carries_the_mark(rate: int) -> None:
    assert payload_of(mark(music(8.0, rate), rate, KEY, PAYLOAD), rate) == PAYLOAD


def test_the_mark_is_18_decibels_below_the_sound(tune: Samples, marked: Samples) -> None:
    assert 10 * np.log10((tune**2).sum() / ((tune - marked) ** 2).sum()) >= 18


# What it refuses ----------------------------------------------------------------------------------------------------


def test_sound_without_a_mark_and_under_another_key_says_nothing(tune: Samples, marked: Samples) -> None:
    assert payload_of(tune) is None
    assert payload_of(marked, key=OTHER_KEY) is None


def test_noise_is_refused_under_a_hundred_keys() -> None:
    noise = np.random.default_rng(3).normal(0, 0.1, (5 * RATE, 1)).astype(np.float32)
    sampled = sample_sound(noise, RATE)
    for number in range(100):
        assert isinstance(find_in_sound(sampled, hashlib.sha256(bytes([number])).digest()), NotDetected)


@pytest.mark.parametrize("count", [0, 1, 500, 3 * RATE])
def test_silence_stays_silence_and_is_no_payload(count: int) -> None:
    silence = np.zeros((count, 2), np.float32)
    out = mark(silence, RATE, KEY, PAYLOAD)
    assert out.shape == silence.shape
    assert not out.any()
    assert payload_of(out) is None


def test_nothing_is_heard_before_a_sound_begins(tune: Samples) -> None:
    late = np.concatenate([np.zeros((RATE, 2), np.float32), tune[:RATE]])
    assert not mark(late, RATE, KEY, PAYLOAD)[: RATE - 2048].any()


def test_keys_payloads_and_sound_of_the_wrong_kind_are_refused(tune: Samples) -> None:
    with pytest.raises(ProvenanceError, match="payload"):
        Marker(KEY, PAYLOAD[:-1], rate=RATE, channels=2)
    with pytest.raises(ProvenanceError, match="key"):
        mark(tune, RATE, KEY[:-1], PAYLOAD)
    with pytest.raises(ProvenanceError, match="key"):
        find(tune, RATE, KEY + b"\x00")
    for rate in (8_000, 400_000):
        with pytest.raises(MediaError, match="cannot carry"):
            find(tune, rate, KEY)
    others: list[Any] = [tune.astype(np.float64), tune[:, 0], np.full((9, 2), np.nan, np.float32)]
    for wrong in others:
        with pytest.raises(MediaError, match="sound"):
            find(wrong, RATE, KEY)
    with pytest.raises(MediaError, match="float32"):
        Marker(KEY, PAYLOAD, rate=RATE, channels=1).feed(tune)


def test_a_long_track_is_sampled_in_bounded_memory() -> None:
    one = np.zeros((16_000, 1), np.float32)
    long = np.broadcast_to(one[:1], (200 * 16_000, 1))
    sampled = sample_sound(long, 16_000)
    assert sampled.seconds == sound.MAX_SECONDS
    assert sampled.levels.nbytes < 4 << 20


# As it passes -------------------------------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(0, 20_000), max_size=6), st.sampled_from([16_000, 22_050, 44_100, 48_000]))
def test_law_pieces_of_any_length_make_the_same_track(lengths: list[int], rate: int) -> None:
    samples = np.random.default_rng(1).uniform(-0.5, 0.5, (sum(lengths), 1)).astype(np.float32)
    marker = Marker(KEY, PAYLOAD, rate=rate, channels=1)
    ends = np.cumsum([0, *lengths])
    pieces = [marker.feed(samples[a:b]) for a, b in itertools.pairwise(ends)]
    out = np.concatenate([*pieces, marker.finish()])
    assert out.shape == samples.shape
    assert np.array_equal(out, mark(samples, rate, KEY, PAYLOAD))
    assert np.abs(out).max(initial=0) <= 1


def clip(path: Path, samples: Samples | None, codec: str = "aac") -> Path:
    """A quarter of a second of grey for each second of sound, so that the picture takes no time."""
    with av.open(str(path), "w") as opened:
        target: Any = opened
        video = target.add_stream("libx264", rate=Fraction(4))
        video.width = video.height = 64
        audio = target.add_stream(codec, rate=RATE, layout="stereo") if samples is not None else None
        for _ in range(36):
            grey = np.full((64, 64, 3), 90, np.uint8)
            target.mux(video.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        target.mux(video.encode())
        if audio is not None and samples is not None:
            planes = np.ascontiguousarray(samples.T)
            frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = RATE, 0
            target.mux(audio.encode(frame))
            target.mux(audio.encode())
    return path


def stamped(src: Path, dst: Path) -> media.Sound | None:
    media.restamp(src, dst, lambda frame, _: frame, through=sound.through(KEY, PAYLOAD))
    return media.sound(dst, rate_hz=RATE)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "aac"), ("a.mkv", "pcm_s16le")])
def test_a_clip_comes_out_marked_in_time_and_whole(
    name: str, codec: str, tune: Samples, tmp_path: Path
) -> None:
    src = clip(tmp_path / name, tune, codec)
    out = stamped(src, tmp_path / "out.mp4")
    assert out is not None
    assert payload_of(np.ascontiguousarray(out.samples.T)) == PAYLOAD
    assert out.starts_s == pytest.approx(0, abs=0.001)
    assert out.seconds == pytest.approx(9.0, abs=0.05)
    before, after = (one - one.mean() for one in (tune.mean(axis=1)[: 8 * RATE], out.samples[0][: 8 * RATE]))
    fit = np.fft.irfft(np.fft.rfft(after, 1 << 20) * np.fft.rfft(before, 1 << 20).conj())
    assert int(np.argmax(fit)) in {0, 1, (1 << 20) - 1}


def test_clips_without_sound_and_silent_ones_stay_so(tmp_path: Path) -> None:
    assert stamped(clip(tmp_path / "none.mp4", None), tmp_path / "none_out.mp4") is None
    silent = stamped(clip(tmp_path / "a.mp4", np.zeros((RATE, 2), np.float32)), tmp_path / "out.mp4")
    assert silent is not None
    assert not silent.samples.any()


def test_the_mark_of_this_version_never_changes() -> None:
    """Clips already released are found by these cells: a change here is a new version beside the old one."""
    block = sound._block(sound._own(KEY))
    known = np.concatenate([block.known, block.carrying, block.pattern < 0]).astype(">u2").tobytes()
    assert (
        hashlib.sha256(known).hexdigest()
        == "19f3f5cc64e18da9c384ae883f6d387ba63a2de0624031c3220f7468d957f68e"
    )
