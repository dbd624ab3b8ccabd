"""The soundtrack: chords that open as the camera speeds up, a chime at each peak, the sound of the weather.

It is made from the same Scene and Path as the picture, so the two agree to the sample. Sound is float32
[2, samples] at 48 kHz, within ±0.7, silent at both ends.
"""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from generator.reference.camera import Path
from generator.reference.scene import Hour, Place, Scene, Weather

RATE_HZ = 48_000
PEAK = 0.7
"""Room above for the codec's own overshoot."""

Sound = NDArray[np.float32]
Chord = tuple[int, ...]

# Semitones above the root; one pair of chords for each swell of the camera.
_CALM: tuple[Chord, ...] = ((0, 7, 12, 16), (5, 12, 17, 21), (-3, 9, 12, 16), (7, 11, 14, 19))
_GRAVE: tuple[Chord, ...] = ((0, 7, 12, 15), (-4, 8, 12, 15), (3, 7, 10, 19), (-2, 5, 10, 14))
_OPEN: tuple[Chord, ...] = ((0, 7, 14, 19), (-4, 3, 10, 19), (5, 12, 19, 21), (-2, 5, 12, 19))
_HARMONY: dict[Hour, tuple[float, tuple[Chord, ...]]] = {
    Hour.NEON: (110.0, _GRAVE),
    Hour.NOIR: (98.0, _GRAVE),
    Hour.SPACE: (87.31, _OPEN),
    Hour.DEEP: (82.41, _OPEN),
    Hour.SUNSET: (130.81, _CALM),
    Hour.NIGHT: (103.83, _GRAVE),
    Hour.DAWN: (146.83, _CALM),
    Hour.GREY: (110.0, _GRAVE),
    Hour.DAY: (130.81, _CALM),
}


def compose(scene: Scene, path: Path, seconds: int, rng: np.random.Generator) -> Sound:
    """The whole soundtrack, exactly `seconds` long."""
    count = seconds * RATE_HZ
    time_s = np.arange(count, dtype=np.float32) / np.float32(RATE_HZ)
    # The camera's speed, known at 100 Hz, drawn smooth.
    coarse = np.linspace(0, seconds, seconds * 100 + 1, dtype=np.float32)
    effort = np.interp(time_s, coarse, path.effort(coarse)).astype(np.float32)
    mix = _pad(scene, path, time_s, effort) + _rush(path, effort, rng)
    for bed in _beds(scene, time_s, rng):
        mix += bed
    mix += _chimes(scene, path, count)
    if scene.steps_hz:
        mix += _steps(scene, seconds, rng)
    mix -= mix.mean(axis=1, keepdims=True)
    mix *= _fade(count, min(0.25, seconds / 8), min(0.6, seconds / 5))
    return np.asarray(mix * np.float32(PEAK / max(float(np.abs(mix).max()), 1e-6)), np.float32)


def _fade(count: int, opening_s: float, closing_s: float) -> Sound:
    at = np.arange(count, dtype=np.float32) / np.float32(RATE_HZ)
    whole = np.float32((count - 1) / RATE_HZ)
    level = np.clip(np.minimum(at / opening_s, (whole - at) / closing_s), 0, 1)
    return np.asarray(np.sin(0.5 * math.pi * level) ** 2, np.float32)


def _hz(root_hz: float, semitones: float) -> float:
    return root_hz * 2 ** (semitones / 12)


def _pad(scene: Scene, path: Path, time_s: Sound, effort: Sound) -> Sound:
    """Held chords; the upper harmonics come in with the camera's speed."""
    root_hz, chords = _HARMONY[scene.hour]
    out = np.zeros((2, len(time_s)), np.float32)
    parts = 2 * path.swells
    length = len(time_s) / parts
    lap = int(min(0.5 * RATE_HZ, 0.4 * length))
    for part in range(parts):
        start, end = max(0, int(part * length) - lap), min(len(time_s), int((part + 1) * length) + lap)
        t, bright = time_s[start:end], effort[start:end]
        level = _fade(end - start, 2 * lap / RATE_HZ, 2 * lap / RATE_HZ) * (0.7 + 0.3 * bright)
        for semitones in chords[part % len(chords)]:
            for ear, detune in enumerate((0.9985, 1.0015)):
                wave = np.zeros(len(t), np.float32)
                for harmonic in range(1, 7):
                    gain = harmonic**-2.4 + (0.5 * bright * harmonic**-1.3 if harmonic > 1 else 0.0)
                    angle = (
                        2
                        * math.pi
                        * ((_hz(root_hz, semitones) * detune * harmonic * t.astype(np.float64)) % 1)
                    )
                    wave += gain * np.sin(angle.astype(np.float32))
                out[ear, start:end] += wave * level * np.float32(0.09)
    return out


def _band(rng: np.random.Generator, count: int, low_hz: float, high_hz: float) -> Sound:
    """Stereo noise between two frequencies, soft-edged, at unit loudness (RMS)."""
    spectrum = np.fft.rfft(rng.standard_normal((2, count), dtype=np.float32), axis=1)
    hz = np.fft.rfftfreq(count, 1 / RATE_HZ).astype(np.float32)
    shape = 1 / np.sqrt(1 + (low_hz / np.maximum(hz, 1)) ** 4) / np.sqrt(1 + (hz / high_hz) ** 4)
    noise = np.fft.irfft(spectrum * shape, count, axis=1)
    return np.asarray(noise / max(float(np.sqrt(np.mean(noise**2))), 1e-9), np.float32)


def _rush(path: Path, effort: Sound, rng: np.random.Generator) -> Sound:
    """Air moving past: low at first, brighter at the peak, towards the side the camera goes to."""
    low, high = (_band(rng, len(effort), *band) for band in ((150, 600), (600, 2400)))
    side = np.array(((1 - 0.35 * path.side,), (1 + 0.35 * path.side,)), np.float32)
    return np.asarray((low * effort**2 * 0.022 + high * effort**5 * 0.016) * side, np.float32)


def _chimes(scene: Scene, path: Path, count: int) -> Sound:
    """One soft note where each swell of the move peaks."""
    root_hz, chords = _HARMONY[scene.hour]
    out = np.zeros((2, count), np.float32)
    t = np.arange(int(1.2 * RATE_HZ), dtype=np.float32) / np.float32(RATE_HZ)
    for swell in range(path.swells):
        peak_s = (swell + 0.5) * path.seconds / path.swells
        hz = _hz(root_hz, chords[(2 * swell + 1) % len(chords)][-1] + 12)
        ring = np.sin(2 * math.pi * hz * t) + 0.4 * np.sin(2 * math.pi * 2.76 * hz * t) * np.exp(-t * 9)
        _lay(
            out, np.asarray(ring * np.exp(-t * 4.5) * (1 - np.exp(-t * 400)) * 0.06, np.float32), peak_s, 0.5
        )
    return out


def _lay(out: Sound, sound: Sound, at_s: float, pan: float) -> None:
    """Add a mono sound at a moment; pan 0.0 is left, 1.0 right."""
    start = int(at_s * RATE_HZ)
    part = sound[: max(0, out.shape[1] - start)]
    out[0, start : start + len(part)] += part * np.float32(math.cos(0.5 * math.pi * pan))
    out[1, start : start + len(part)] += part * np.float32(math.sin(0.5 * math.pi * pan))


def _steps(scene: Scene, seconds: int, rng: np.random.Generator) -> Sound:
    """A footfall whenever the camera is at its lowest; on snow it crunches."""
    out = np.zeros((2, seconds * RATE_HZ), np.float32)
    snow = Weather.SNOW in scene.weather
    t = np.arange(int(0.2 * RATE_HZ), dtype=np.float32) / np.float32(RATE_HZ)
    for step in range(1, math.ceil(seconds * scene.steps_hz)):
        grit = _band(rng, len(t), *((900, 5000) if snow else (250, 900)))[0]
        if snow:
            grit = grit * (rng.random(len(t)) ** 3).astype(np.float32) * 2.2
        thud = np.sin(2 * math.pi * (70 * t - 60 * t**2)) * np.exp(-t * 30)
        fall = grit * (1 - np.exp(-t * 250)) * np.exp(-t * (17 if snow else 38)) * 0.05 + thud * 0.09
        _lay(out, np.asarray(fall, np.float32), step / scene.steps_hz, 0.42 if step % 2 else 0.58)
    return out


def _beds(scene: Scene, time_s: Sound, rng: np.random.Generator) -> Iterable[Sound]:
    """What the weather and the place sound like."""
    count, told = len(time_s), set(scene.weather)
    gusts = np.asarray(0.6 + 0.25 * np.sin(1.3 * time_s + 1) + 0.15 * np.sin(3.1 * time_s), np.float32)
    if Weather.RAIN in told:
        yield _band(rng, count, 700, 7000) * np.float32(0.032)
        yield _scatter(rng, count, 60, (1500, 4200), 0.012, 0.03, 0.0)
    if told & {Weather.SNOW, Weather.LEAVES, Weather.FOG}:
        yield _band(rng, count, 120, 520) * gusts * np.float32(0.04)
    if told & {Weather.DUST, Weather.PETALS}:
        yield _band(rng, count, 150, 700) * gusts * np.float32(0.012)
    if Weather.EMBERS in told:
        yield _band(rng, count, 60, 260) * gusts * np.float32(0.035)
        yield _scatter(rng, count, 14, (900, 3800), 0.006, 0.16, 0.0)
    if Weather.BUBBLES in told:
        yield _band(rng, count, 60, 300) * np.float32(0.035)
        yield _scatter(rng, count, 5, (320, 800), 0.06, 0.05, 9.0)
    if Weather.STARS in told:
        yield _scatter(rng, count, 2.5, (1800, 4200), 0.35, 0.014, 0.0)
    if scene.place is Place.SEA and Weather.BUBBLES not in told:
        surf = np.asarray(0.5 - 0.5 * np.cos(2 * math.pi * time_s / 5.5 + 0.8), np.float32) ** 2
        yield _band(rng, count, 150, 1600) * (0.25 + surf) * np.float32(0.03)
    if scene.place is Place.CITY:
        yield _band(rng, count, 45, 190) * np.float32(0.03)


def _scatter(
    rng: np.random.Generator,
    count: int,
    per_s: float,
    band_hz: tuple[float, float],
    decay_s: float,
    level: float,
    rise: float,
) -> Sound:
    """Many small sounds at random moments: drops, crackles, bubbles. rise: how fast each one's pitch climbs, 1/s."""
    out = np.zeros((2, count), np.float32)
    t = np.arange(int(5 * decay_s * RATE_HZ), dtype=np.float32) / np.float32(RATE_HZ)
    for _ in range(int(per_s * count / RATE_HZ) + 1):
        hz, loud = rng.uniform(*band_hz), level * rng.random() ** 2
        blip = (
            np.sin(2 * math.pi * hz * t * (1 + rise * t / 2)) * np.exp(-t / decay_s) * (1 - np.exp(-t * 2000))
        )
        _lay(out, np.asarray(blip * loud, np.float32), rng.random() * count / RATE_HZ, rng.random())
    return out
