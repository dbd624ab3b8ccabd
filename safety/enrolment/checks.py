"""What a machine makes of a film: a score and a sentence for each check, and what is certainly wrong.

Guarantees

- Nothing here lets anybody in: the best film waits for an operator as the worst does that is not refused.
- Refused is only what no honest film of this challenge looks like (:data:`CERTAIN`), each with what to do better.
- Scores are 0 to 1000, and 1000 is as it should be; under :data:`DOUBTED` the operator is warned.

A head turned by a machine, from one photograph, passes what is measured here, and so may a film made by a good model:
that is what the operator, the time before a likeness is used and the search for the face among others are for.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ledger.errors import LedgerError
from ledger.provenance import manifest
from safety.enrolment import film
from safety.enrolment.challenge import Turn
from safety.enrolment.film import Numbers, Seen, Sound
from safety.errors import CheckUnavailable, InvalidInput, SafetyError
from safety.faces import GRANT_DISTANCE, MAX_POSES, STRANGER_DISTANCE
from safety.voice.digits import spoken_digits

Check = Literal[
    "face",
    "person",
    "another",
    "turns",
    "digits",
    "lips",
    "camera",
    "screen",
    "depth",
    "pace",
    "colours",
    "signed",
]
DOUBTED: Final = 500
CERTAIN: Final = 100
"""At most this: refused at once."""
SHORTEST_S: Final = 4.0
SLOW_S: Final = 40.0
"""The page takes 17 seconds. Who films by another app is slower, but who has something made takes their time."""
TURN: Final = 0.085
"""The least turn that counts: about 15 degrees, in eye distances of the nose."""
FAINT: Final = 0.05
FLAT: Final = (0.008, 0.020)
"""What points on a face keep of depth when the best flat movement is taken away: a picture's, and a head's."""
SAME_TWICE_S: Final = (0.4, 1.2)
MOIRE: Final = (5.0, 12.0)
FLICKER: Final = (1.0, 2.5)
"""Grey levels by which the light of the whole picture jumps from frame to frame."""
LIPS: Final = (0.8, 2.5)
"""How far the agreement of lips and voice stands out of what it is at other times, in standard deviations."""
SPEECH: Final = 0.004
"""Loudness (root mean square) above which somebody may be speaking."""
COLOURS: Final = (0.2, 0.6)


@dataclass(frozen=True, slots=True)
class Finding:
    """One check. `remedy`: what to do better, for whoever is refused by it."""

    check: Check
    score: int
    sentence: str
    remedy: str = ""

    @property
    def certain(self) -> bool:
        return self.score <= CERTAIN

    @property
    def misheard(self) -> bool:
        """Somebody spoke, and was not understood."""
        return self.check == "digits" and 0 < self.score <= CERTAIN

    @property
    def doubted(self) -> bool:
        return self.score < DOUBTED


class Asked(NamedTuple):
    """What of a challenge a film can show."""

    digits: str
    turns: tuple[Turn, ...]
    colours: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Examined:
    """findings: the worst first. templates: float64 [n, 128], of whom it shows; for one comparison, and never kept."""

    findings: tuple[Finding, ...]
    templates: NDArray[np.float64] = field(repr=False)

    def wrong(self, *, tried: int = 0) -> tuple[Finding, ...]:
        """What it is refused for. `tried`: how often digits were not understood before; the second time a person
        listens, who knows more voices and languages than a machine.
        """
        return tuple(one for one in self.findings if one.certain and not (one.misheard and tried))


def examine(path: str, asked: Asked, anchors_pem: bytes = b"") -> Examined:
    """Look at a film and listen to it. Runs in a worker.

    `anchors_pem`: whose signatures of cameras are trusted. Raises MediaError, CheckUnavailable.
    """
    seen, heard = film.watch(Path(path)), film.listen(Path(path))
    findings = [
        face(seen),
        person(seen),
        turns(seen, asked.turns),
        digits(heard, asked.digits),
        lips(seen, heard),
        camera(seen),
        screen(seen),
        depth(seen),
        pace(seen),
    ]
    if asked.colours:
        findings.append(colours(seen, asked.colours))
    if (signed := captured(Path(path), anchors_pem)) is not None:
        findings.append(signed)
    return Examined(worst_first(findings), seen.templates[:MAX_POSES])


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda one: one.score))


def alike() -> Finding:
    """For the operator only: whoever sends films would else learn who is enrolled."""
    return Finding("another", 200, "a face like this one is enrolled already, under another account")


# Who ----------------------------------------------------------------------------------------------------


def face(seen: Seen) -> Finding:
    """One face, of one size, all the time."""
    looks, crowd = max(1, len(seen.crowd)), int((seen.crowd > 1).sum())
    with_face = float(np.isfinite(seen.yaw).mean()) if len(seen.yaw) else 0.0
    if with_face < 0.3:
        return Finding("face", 0, "no face is seen for most of the film", "face the camera in even light")
    if crowd >= 2:
        return Finding("face", 0, "more than one person is in the film", "film yourself alone")
    if crowd:
        return Finding("face", 300, "a second face is seen for a moment")
    if not 0 < film.LEAST_PX <= seen.width_px:
        return Finding(
            "face", 50, f"the face is `{seen.width_px}` pixels wide", "hold the camera closer to your face"
        )
    alone = float((seen.crowd == 1).mean()) if looks else 0.0
    return Finding(
        "face", _between(min(alone, with_face), 0.2, 0.8), "one face, and only one, is in the film"
    )


def person(seen: Seen) -> Finding:
    """The same person from the first frame to the last."""
    if len(seen.templates) < 2:
        return Finding(
            "person",
            0,
            "the face is never clearly seen from the front",
            "look into the camera while you read",
        )
    apart = np.linalg.norm(seen.templates[:, None] - seen.templates[None, :], axis=2)
    # One frame out of line can be a blink or a hand; whoever was exchanged is far from two others in at least two.
    spare = 2 if len(apart) > 3 else 1
    farthest = float(np.sort(np.sort(apart, axis=1)[:, -spare])[-spare])
    if not farthest <= STRANGER_DISTANCE:
        return Finding(
            "person",
            0,
            "the film shows different people",
            "film yourself alone, without a cut, in even light",
        )
    score = 1000 - _between(farthest, GRANT_DISTANCE - 0.1, STRANGER_DISTANCE, most=800)
    said = "is one and the same throughout" if score >= DOUBTED else "changes in the course of the film"
    return Finding("person", score, f"the face {said}")


# What was asked -----------------------------------------------------------------------------------------


def turns(seen: Seen, asked: Sequence[Turn]) -> Finding:
    """The head goes where it was asked to, in that order; held from one turn to the next of a kind, it may stay."""
    made, widest = turned(seen)
    wanted = "".join("+" if one == "left" else "-" for one in asked)
    mirrored = wanted.translate(str.maketrans("+-", "-+"))
    told = ", ".join("left" if one == "+" else "right" for one in made) or "none"
    if made == wanted or _once(made) == _once(wanted):
        score = 600 + _between(widest, TURN, 0.16, most=400)
        return Finding("turns", score, f"the head turns as was asked: {told}")
    if made == mirrored or _once(made) == _once(mirrored):
        return Finding("turns", 400, f"the head turns as was asked, if the film is mirrored: {told}")
    remedy = "turn your head clearly to each side, in the order shown, and back to the middle each time"
    if not made:
        return Finding("turns", 0, "the head is not turned", remedy)
    if _within(made, wanted) or _within(wanted, made):
        return Finding("turns", 300, f"of the turns asked for, these are seen: {told}")
    return Finding("turns", 50, f"the head turns in another order: {told}", remedy)


def turned(seen: Seen) -> tuple[str, float]:
    """To where the head goes, in order (`+` its own left, unless mirrored), and how far the least of it is."""
    yaw = seen.yaw
    known = np.isfinite(yaw)
    if known.sum() < 5:
        return "", 0.0
    # Turned beyond what is seen from the front, it is still there.
    yaw = np.interp(np.arange(len(yaw)), np.flatnonzero(known), yaw[known])
    smooth = np.median(np.stack([np.roll(yaw, shift) for shift in (-2, -1, 0, 1, 2)]), axis=0)
    steady = smooth - np.median(smooth)
    made, peaks, side = "", [], 0
    for value in steady:
        if abs(value) < FAINT:
            side = 0
        elif abs(value) >= TURN and np.sign(value) != side:
            side = int(np.sign(value))
            made += "+" if side > 0 else "-"
            peaks.append(0.0)
        if side:
            peaks[-1] = max(peaks[-1], abs(float(value)))
    return made, min(peaks, default=0.0)


def _once(made: str) -> str:
    return "".join(one for place, one in enumerate(made) if place == 0 or made[place - 1] != one)


def _within(part: str, whole: str) -> bool:
    rest = iter(whole)
    return len(part) >= 2 and all(one in rest for one in part)


def digits(heard: Sound, asked: str) -> Finding:
    """The digits, in order. Heard in English; of other languages few are understood, and a person listens."""
    if not np.isfinite(heard).all():
        raise InvalidInput("sound.unreadable", "the sound is damaged", "film again")
    if len(heard) < film.RATE // 2 or _loudness(heard).max(initial=0.0) < SPEECH:
        return Finding("digits", 0, "nobody is heard in the film", "switch the microphone on and read aloud")
    found = spoken_digits(_said(heard), asked)
    sentence = f"`{found.matched}` of the `{found.of}` digits are heard in order"
    if found.enough:
        return Finding("digits", 600 + 200 * max(0, found.matched - 4), sentence)
    remedy = "read the digits aloud, slowly, in English if you can, in a quiet room"
    # By chance two of six are in order.
    return Finding("digits", 90 if found.matched <= 2 else 300, sentence, remedy)


def _said(heard: Sound) -> Sound:
    """From the first loud moment to the last, at one loudness: a quiet room is no digit."""
    loud = _loudness(heard)
    places = np.flatnonzero(loud > 0.1 * loud.max())
    hop = round(_HOP_S * film.RATE)
    part = heard[max(0, (int(places[0]) - 10) * hop) : (int(places[-1]) + 11) * hop]
    return np.ascontiguousarray(part * np.float32(0.7 / np.abs(part).max()), dtype=np.float32)


def lips(seen: Seen, heard: Sound) -> Finding:
    """The lower face moves when something is said: more than at any other shift in time of sound and picture."""
    loud = _loudness(heard)
    if len(seen.at_s) < 30 or not len(loud):
        score = 0 if len(seen.at_s) < 30 else 200
        remedy = "film for the whole time, and look into the camera while you read"
        return Finding("lips", score, "too little is seen and heard to compare lips and voice", remedy)
    steady = np.abs(seen.yaw - np.nanmedian(seen.yaw)) < FAINT
    voice = np.interp(seen.at_s, (np.arange(len(loud)) + 0.5) * _HOP_S, np.log(loud + 1e-3))
    apart = _agreement(seen.mouth, voice, steady)
    score = 150 + _between(apart, *LIPS, most=850)
    said = "move with" if score >= DOUBTED else "do not clearly move with"
    return Finding("lips", score, f"the lips {said} the voice")


_HOP_S: Final = 0.02


def _loudness(heard: Sound) -> Numbers:
    """Root mean square of every 20 ms."""
    hop = round(_HOP_S * film.RATE)
    whole = heard[: len(heard) // hop * hop].reshape(-1, hop).astype(np.float64)
    return np.asarray(np.sqrt(np.square(whole).mean(axis=1)))


def _agreement(mouth: Numbers, voice: Numbers, steady: NDArray[np.bool_]) -> float:
    """The best correlation within a fifth of a second, against those at other shifts, in their deviations."""
    kernel = np.ones(3) / 3
    mouth, voice = np.convolve(mouth, kernel, "same"), np.convolve(voice, kernel, "same")
    near: list[float] = []
    far: list[float] = []
    for shift in range(-30, 31):
        rolled = np.roll(voice, shift)
        both = steady & np.isfinite(mouth)
        if both.sum() < 20 or mouth[both].std() < 1e-6 or rolled[both].std() < 1e-6:
            return 0.0
        value = float(np.corrcoef(mouth[both], rolled[both])[0, 1])
        (near if abs(shift) <= 3 else far if abs(shift) >= 6 else []).append(value)
    return float(max(near) - np.mean(far)) / max(float(np.std(far)), 0.05)


def pace(seen: Seen) -> Finding:
    if seen.seconds < SHORTEST_S:
        return Finding(
            "pace",
            0,
            f"the film is `{seen.seconds:.0f}` seconds long",
            "read all digits and make all turns before you stop",
        )
    score = 1000 - _between(seen.seconds, SLOW_S * 0.75, SLOW_S * 1.4, most=800)
    return Finding("pace", score, f"the film takes `{seen.seconds:.0f}` seconds")


# What filmed it -----------------------------------------------------------------------------------------


def camera(seen: Seen) -> Finding:
    """Pictures that stand still, or come again, and a clock that does: what a made-up camera sends."""
    remedy = "film with the camera of your device, and hold it in your hand"
    still = float((seen.changes < 0.02).mean()) if len(seen.changes) else 1.0
    if still > 0.9:
        return Finding("camera", 0, "the film is one picture that stands still", remedy)
    if len(seen.steps_s) and float(seen.steps_s.min()) <= 0:
        return Finding("camera", 0, "the film's pictures do not say when they were taken", remedy)
    again = 1000 - _between(seen.again, *SAME_TWICE_S, most=920)
    frozen = 1000 - _between(still, 0.4, 0.9, most=800)
    if again < frozen:
        return Finding(
            "camera",
            again,
            f"the longest part of it that was shown twice is `{seen.again:.1f}` seconds",
            remedy,
        )
    return Finding("camera", frozen, f"`{still * 100:.0f}` % of its pictures repeat the one before")


def screen(seen: Seen) -> Finding:
    """What a film of a screen shows: its lines against the camera's, its light's rhythm, its border."""
    flicker = float(np.median(np.abs(np.diff(seen.light)))) if len(seen.light) > 1 else 0.0
    signs = {
        "a fine pattern as of a screen": _between(seen.peaks, *MOIRE),
        "light that flickers": _between(flicker, *FLICKER),
        "a straight dark border": {0: 0, 1: 250, 2: 450}.get(seen.edges, 800),
    }
    found = [name for name, sign in signs.items() if sign >= 300]
    score = max(CERTAIN + 50, 1000 - max(signs.values()))
    return Finding(
        "screen", score, f"signs of a screen: {', '.join(found)}" if found else "no signs of a screen"
    )


def depth(seen: Seen) -> Finding:
    """Whether the turning face is deeper than a picture of one."""
    if not len(seen.depth):
        return Finding("depth", 400, "how deep the face is could not be followed")
    score = 150 + _between(float(np.median(seen.depth)), *FLAT, most=850)
    return Finding(
        "depth", score, "the face has depth" if score >= DOUBTED else "the face is as flat as a picture"
    )


def colours(seen: Seen, asked: Sequence[str]) -> Finding:
    """The page lit the face in these colours at the end of the film, one after another, evenly."""
    known = np.isfinite(seen.skin).all(axis=1)
    start = max(0.0, seen.seconds - COLOUR_S * len(asked))
    inside = known & (seen.at_s >= start)
    if inside.sum() < 4 * len(asked):
        return Finding("colours", 300, "the colours on the face can not be told")
    skin = seen.skin[inside] / np.maximum(seen.skin[inside].sum(axis=1, keepdims=True), 1)
    shown = np.array(
        [SHOWN[asked[min(len(asked) - 1, int((at - start) / COLOUR_S))]] for at in seen.at_s[inside]]
    )
    flat = (skin - skin.mean(axis=0)).ravel(), (shown - shown.mean(axis=0)).ravel()
    spread = float(np.std(flat[0]) * np.std(flat[1]))
    agreement = float(np.mean(flat[0] * flat[1]) / spread) if spread > 1e-9 else 0.0
    score = 150 + _between(agreement, *COLOURS, most=850)
    said = "take" if score >= DOUBTED else "do not clearly take"
    return Finding("colours", score, f"face and light {said} the colours that the page showed")


COLOUR_S: Final = 0.8
SHOWN: Final = {
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
    "white": (1 / 3, 1 / 3, 1 / 3),
}


def captured(path: Path, anchors_pem: bytes) -> Finding | None:
    """What a camera signed about its film, for one whose maker the operator trusts. Without it, nothing is said."""
    if not anchors_pem:
        return None
    try:
        found = manifest.read(path, anchors_pem)
    except (LedgerError, SafetyError):
        return None
    if found.manifest_trusted and found.asset_bound:
        return Finding("signed", 1000, f"signed by the camera: {found.signer}")
    if found.state == "invalid":
        return Finding("signed", 200, "it carries a camera's signature that does not hold")
    return None


def _between(value: float, low: float, high: float, *, most: int = 1000) -> int:
    """0 at `low`, `most` at `high`, and a straight line between. What is no number is refused."""
    if not np.isfinite(value):
        raise CheckUnavailable(
            "enrolment.unmeasured", "the film could not be measured", "film again in even light"
        )
    return round(most * min(1.0, max(0.0, (value - low) / (high - low))))
