"""Films of people who enrol, made from one photograph: what stands in for people in front of a camera.

No package holds a film of a person turning their head, so a genuine one is drawn: the photograph is laid over a
relief of a head, which turns in depth; the mouth opens with the loudness of a synthetic voice that reads the
digits; a hand shakes the camera, whose sensor is noisy. That is a stand-in, no measure of real people; the same
means in another's hands are an attack, and :class:`Film` can leave each of them away.
"""

import io
import subprocess
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from safety.faces import find_faces

Picture = NDArray[np.uint8]
Samples = NDArray[np.float32]
FPS, RATE = 15, 16_000
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIDE = 384
"""Height and width of the films, in pixels; the head fills about half of it."""


@dataclass(frozen=True)
class Film:
    """What is filmed. `relief`: how deep the head is, 0 for a flat picture of it. `faces`: between which the film cuts."""

    digits: str
    turns: Sequence[str]
    yaw_deg: float = 24.0
    relief: float = 1.0
    lips: bool = True
    """Whether the mouth moves with the voice."""
    quiet: bool = False
    before_s: float = 0.5
    turn_s: float = 1.5
    noise: float = 3.0
    shake: float = 0.6
    over: Callable[[Picture, int], Picture] = field(default=lambda picture, _number: picture)
    """What becomes of every finished frame."""
    voice: str = "en-us"


def spoken(digits: str, voice: str = "en-us") -> Samples:
    """The digits, read aloud one by one by a synthetic voice. float32 mono at `RATE`."""
    gap = np.zeros(RATE // 7, np.float32)
    return np.concatenate([part for digit in digits for part in (_word(WORDS[int(digit)], voice), gap)])


@lru_cache(maxsize=64)
def _word(word: str, voice: str) -> Samples:
    said = subprocess.run(
        ["espeak-ng", "-v", voice, "-s", "130", "--stdout", word], check=True, capture_output=True
    ).stdout
    with wave.open(io.BytesIO(said)) as file:
        rate, data = file.getframerate(), file.readframes(10**8)
    sound = np.frombuffer(data, "<i2").astype(np.float32) / 32768
    loud = np.flatnonzero(np.abs(sound) > 0.01)
    sound = sound[loud[0] : loud[-1]]
    at = np.arange(0, len(sound) - 1, rate / RATE)
    return np.interp(at, np.arange(len(sound)), sound).astype(np.float32)


def make(film: Film, picture: Picture, path: Path, *, second: Picture | None = None) -> bytes:
    """Film it: a file by its suffix (webm, mp4). `second`: whom the film shows from its middle on."""
    voice = spoken(film.digits, film.voice) if film.digits else np.zeros(RATE * 2, np.float32)
    lead, turning = film.before_s, film.turn_s * len(film.turns)
    seconds = lead + len(voice) / RATE + 0.4 + turning + 0.3
    sound = np.zeros(int(seconds * RATE), np.float32)
    sound[int(lead * RATE) : int(lead * RATE) + len(voice)] = voice
    room = np.random.default_rng(1).normal(0, 0.0004, len(sound))
    sound = (sound + room).astype(np.float32)
    yaw = _yaw(film, seconds, turning)
    head, other = Head(picture), Head(second) if second is not None else None
    shown = [
        _frame(
            film, (other if other and number > len(yaw) // 2 else head), number, turn, _opening(sound, number)
        )
        for number, turn in enumerate(yaw)
    ]
    return encode(shown, None if film.quiet else sound, path)


def _yaw(film: Film, seconds: float, turning: float) -> NDArray[np.float64]:
    """Degrees to the person's left, for each frame: out, held, back, for each turn."""
    yaw = np.zeros(int(seconds * FPS))
    start = seconds - 0.3 - turning
    for place, turn in enumerate(film.turns):
        for number in range(len(yaw)):
            part = (number / FPS - start - place * film.turn_s) / film.turn_s
            if 0 <= part < 1:
                away = min(1.0, np.sin(np.pi * part) * 1.5)
                yaw[number] = film.yaw_deg * away * (1 if turn == "left" else -1)
    return yaw


def _opening(sound: Samples, number: int) -> float:
    """How far the mouth is open: the loudness around a frame, 0 to 1."""
    around = sound[max(0, int((number - 0.5) * RATE / FPS)) : int((number + 0.5) * RATE / FPS)]
    return float(np.clip(np.sqrt(np.mean(np.square(around))) * 9, 0, 1)) if len(around) else 0.0


def _frame(film: Film, head: "Head", number: int, yaw_deg: float, opening: float) -> Picture:
    random = np.random.default_rng(number)
    still = head.turned(yaw_deg, film.relief, opening if film.lips else 0.0)
    # A hand sways: slowly, and never twice alike.
    sway = film.shake * 3 * np.array([np.sin(number / 9.1), np.cos(number / 6.7)]) + random.normal(
        0, film.shake * 0.3, 2
    )
    moved = cv2.warpAffine(
        still,
        np.array([[1, 0, sway[0]], [0, 1, sway[1]]], np.float32),
        (SIDE, SIDE),
        borderMode=cv2.BORDER_REFLECT,
    )
    noisy = moved + film.noise * np.roll(_grain(number % 12), random.integers(0, SIDE, 2), (0, 1))
    return film.over(np.clip(noisy, 0, 255).astype(np.uint8), number)


@lru_cache(maxsize=12)
def _grain(number: int) -> NDArray[np.float32]:
    """A sensor's noise; laid down elsewhere in every frame, it is never twice alike."""
    return np.random.default_rng(number).normal(0, 1, (SIDE, SIDE, 3)).astype(np.float32)


class Head:
    """A photograph of one person, cut to them, and the depth of a head under it."""

    def __init__(self, photograph: Picture) -> None:
        face = max((one for one in find_faces(photograph)), key=lambda one: one.score)
        top, right, bottom, left = face.box
        side, middle = (bottom - top) * 2.1, ((left + right) / 2, (top + bottom) / 2 + (bottom - top) * 0.05)
        scale = SIDE / side
        move = np.array(
            [[scale, 0, SIDE / 2 - scale * middle[0]], [0, scale, SIDE / 2 - scale * middle[1]]], np.float32
        )
        self.picture: Picture = np.asarray(
            cv2.warpAffine(
                photograph, move, (SIDE, SIDE), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT
            ),
            dtype=np.uint8,
        )
        self.face = SIDE / 2.1
        """Its height and width."""
        self._depth, self._mask = self._relief()

    def _relief(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """How far each pixel is before the neck, in pixels, and how much of it turns with the head."""
        y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
        u, v = (x - SIDE / 2) / self.face, (y - SIDE / 2) / self.face
        ball = np.sqrt(np.clip(1 - (u / 0.72) ** 2 - ((v + 0.08) / 0.95) ** 2, 0, 1)) * 0.62
        nose = 0.20 * np.exp(-((u / 0.11) ** 2) - (np.clip(v - 0.02, -9, 9) / 0.17) ** 2)
        depth = (ball + nose) * self.face
        away = np.sqrt((u / 0.62) ** 2 + ((v + 0.05) / 0.80) ** 2)
        mask = np.clip((1.35 - away) / 0.45, 0, 1)
        return depth.astype(np.float32), cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 5)

    def turned(self, yaw_deg: float, relief: float, opening: float) -> Picture:
        """The head turned to its own left, the mouth open. A flat one (`relief` 0) is a picture that is turned."""
        turn = np.radians(yaw_deg)
        x = np.arange(SIDE, dtype=np.float32)
        out = x[None, :] - SIDE / 2
        # A picture keeps its plane and looks narrower; a head's depth moves across.
        there = out * np.cos(turn) + (self._depth * relief) * np.sin(turn)
        if relief == 0:
            there = out * np.cos(turn) / (1 + out * np.sin(turn) / (SIDE * 2.5))
            moved = np.broadcast_to(there, (SIDE, SIDE)) + SIDE / 2
        else:
            moved = x[None, :] + (there - out) * self._mask
        if abs(yaw_deg) < 0.05:
            source = np.broadcast_to(x, (SIDE, SIDE)).copy()
        else:
            moved = np.maximum.accumulate(moved + np.arange(SIDE) * 1e-4, axis=1)
            source = np.stack([np.interp(x, row, x) for row in moved]).astype(np.float32)
        rows = np.broadcast_to(np.arange(SIDE, dtype=np.float32)[:, None], (SIDE, SIDE)).copy()
        if opening:
            source, rows = self._jaw(source, rows, opening)
        return np.asarray(
            cv2.remap(self.picture, source, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), np.uint8
        )

    def _jaw(
        self, source: NDArray[np.float32], rows: NDArray[np.float32], opening: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What is below the lips goes down."""
        u, v = (source - SIDE / 2) / self.face, (rows - SIDE / 2) / self.face
        near = np.exp(-((u / 0.22) ** 2)) * np.clip(1 - np.abs(v - 0.33) / 0.22, 0, 1)
        return source, (rows - near * opening * 0.09 * self.face).astype(np.float32)


def encode(
    frames: Sequence[Picture], sound: Samples | None, path: Path, *, bit_rate: int = 1_800_000
) -> bytes:
    """A file as a browser's recorder makes it (webm), or a phone (mp4)."""
    webm = path.suffix == ".webm"
    height, width = (side & ~1 for side in frames[0].shape[:2])
    with av.open(str(path), "w") as container:
        options = {"deadline": "realtime", "cpu-used": "8"} if webm else {"preset": "ultrafast"}
        video = container.add_stream("libvpx" if webm else "libx264", rate=FPS, options=options)
        video.width, video.height, video.pix_fmt, video.bit_rate = width, height, "yuv420p", bit_rate
        audio = (
            container.add_stream("libopus" if webm else "aac", rate=48_000, layout="mono")
            if sound is not None
            else None
        )
        for picture in frames:
            one = np.ascontiguousarray(picture[:height, :width])
            container.mux(video.encode(av.VideoFrame.from_ndarray(one, format="rgb24")))
        container.mux(video.encode())
        if sound is not None and audio is not None:
            at = np.arange(0, len(sound), RATE / 48_000)
            loud = np.interp(at, np.arange(len(sound)), sound).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(loud[None, :], format="flt", layout="mono")
            frame.sample_rate = 48_000
            container.mux(audio.encode(frame))
            container.mux(audio.encode())
    return path.read_bytes()
