"""Who speaks in a clip, and what they say.

    clip ──► sound ──► when somebody speaks ──► windows of speech ──► one group for each voice ──► whose
                                            └─► words ──► screened as a prompt is

Guarantees

- Each voice in a clip is held against the templates by itself: a stranger is not averaged away by who else speaks.
- A voice is a granted person's only where it is nearer to them than to everybody else enrolled, and near enough.
- What is in one ear, or in antiphase, is listened to as well. Native code runs in worker processes.
- What cannot be heard raises :class:`CheckUnavailable`, which denies. Speech that was not understood is `unchecked`.

Measured on the recorded speech of 26 speakers, in 14 languages, one recording session each (so rather too good): of
about twelve seconds against about four, 1.3 % are told wrongly both ways at 755; of strangers 1 % pass GRANTED and
0.1 % pass ENROLLED, of the right ones 95 % pass both. A clip in which a second person speaks for two seconds passes as
one voice in 2 of 100. Every voice added to those enrolled adds its 0.1 %: an answer to that is a person who listens.

Under a second of speech in all, as an "oh" or a laugh, says nothing of whose it is: that is nobody's voice here, and its
words are screened. Left to others, and not found: whispering, most singing, speech under loud music, converted voices.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ledger.errors import MediaError
from ledger.ids import CameoId
from ledger.provenance import media
from safety import workers
from safety.errors import CheckUnavailable
from safety.policy.facts import Check
from safety.voice.activity import RATE_HZ, Samples, Span, speech
from safety.voice.speakers import LEAST_S, Voice, similarity, windows
from safety.voice.words import Said, words

__all__ = ["Enrolled", "Heard", "Voice", "enrol", "listen"]

GRANTED: Final = 740
ENROLLED: Final = 780
SAME: Final = 0.60
"""Windows of speech that are on average as alike as this are of one voice."""
ENROL_S: Final = 3.0
"""Speech that a template is made of, at least."""
ENROL_ROWS: Final = 32
ALONE: Final = 0.8
"""Of the windows of speech, how many have to be of one voice: the others are how somebody sounds at times."""
CLIPPED: Final = 0.01
"""Of the samples of speech, how many may stand at the limit."""
_ALOUD: Final = 1e-3
_OVERLAP: Final = 0.5
_TIMEOUT_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Heard:
    """ungranted: voices of nobody granted; enrolled: of those, of enrolled people, and `whose`; words: what was said."""

    ungranted: int = 0
    enrolled: int = 0
    whose: tuple[CameoId, ...] = ()
    words: str = ""
    unchecked: frozenset[Check] = frozenset()


class Sounds(NamedTuple):
    """What a worker makes of a clip. voices: the template rows of each voice that speaks."""

    voices: tuple[Voice, ...]
    said: tuple[Said, ...]


def listen(clip: Path, granted: Mapping[CameoId, Voice], enrolled: Mapping[CameoId, Voice]) -> Heard:
    """Listen to the sound of a clip. Nobody speaks in one without sound. Raises CheckUnavailable, MediaError.

    `enrolled`: everybody's who is enrolled; of those granted, none counts as a stranger.
    """
    sounds = workers.shared().call(hear, clip, timeout_s=_TIMEOUT_S)
    others = {who: voice for who, voice in enrolled.items() if who not in granted}
    ungranted, whose = 0, list[CameoId]()
    for voice in sounds.voices:
        _, mine = _nearest(voice, granted)
        stranger, theirs = _nearest(voice, others)
        if mine >= GRANTED and mine > theirs:
            continue
        ungranted += 1
        if stranger is not None and theirs >= ENROLLED:
            whose.append(stranger)
    lost = sum(one.span.seconds for one in sounds.said if not one.understood)
    return Heard(
        ungranted=ungranted,
        enrolled=len(whose),
        whose=tuple(dict.fromkeys(whose)),
        words=" ".join(one.text for one in sounds.said if one.understood),
        unchecked=frozenset({"speech"}) if lost >= LEAST_S else frozenset(),
    )


def _nearest(voice: Voice, known: Mapping[CameoId, Voice]) -> tuple[CameoId | None, int]:
    """Everybody is compared: an index that can miss is not used."""
    scores = {who: similarity(voice, theirs) for who, theirs in known.items()}
    best = max(scores, key=scores.__getitem__, default=None)
    return best, scores[best] if best is not None else 0


def hear(clip: Path) -> Sounds:
    """In a worker: the voices and the words of a clip."""
    sound = media.sound(clip, rate_hz=RATE_HZ)
    if sound is None:
        return Sounds((), ())
    rows: list[Voice] = []
    said: list[Said] = []
    before: tuple[Span, ...] = ()
    for channel in sound.samples:
        if np.abs(channel).max(initial=0.0) < _ALOUD:
            continue
        # What the middle has is in the side again, as an echo; what only the side has is hidden there.
        spans = tuple(span for span in speech(channel) if not _covered(span, before))
        rows.append(_rows(channel, spans))
        said += words(channel, spans)
        before = spans
    return Sounds(_voices(np.concatenate(rows)) if rows else (), tuple(said))


def _covered(span: Span, by: Sequence[Span]) -> bool:
    shared = sum(max(0.0, min(span.end_s, one.end_s) - max(span.start_s, one.start_s)) for one in by)
    return shared >= _OVERLAP * span.seconds


def _rows(samples: Samples, spans: Sequence[Span]) -> Voice:
    """Template rows of all the speech: words too short to tell by themselves are told together."""
    _, rows = windows(samples, [span for span in spans if span.seconds >= LEAST_S])
    short = [span for span in spans if span.seconds < LEAST_S]
    if sum(span.seconds for span in short) < LEAST_S:
        return rows
    cut = [samples[round(one.start_s * RATE_HZ) : round(one.end_s * RATE_HZ)] for one in short]
    joined = np.concatenate(cut)
    _, more = windows(joined, [Span(0.0, len(joined) / RATE_HZ)])
    return np.concatenate([rows, more])


def _voices(rows: Voice) -> tuple[Voice, ...]:
    """The rows of each voice: the two groups that are most alike are joined until no two are of one voice."""
    groups = [[at] for at in range(len(rows))]
    alike = rows @ rows.T
    # The mean over all pairs between two groups, kept up to date as they are joined (average linkage).
    link = np.where(np.eye(len(rows), dtype=bool), -1.0, alike.astype(np.float64))
    while len(groups) > 1:
        one, other = sorted(map(int, np.unravel_index(int(link.argmax()), link.shape)))
        if not link[one, other] >= SAME:
            break
        sizes = len(groups[one]), len(groups[other])
        joined = (link[one] * sizes[0] + link[other] * sizes[1]) / sum(sizes)
        link[one], link[:, one] = joined, joined
        link[one, one] = -1.0
        link = np.delete(np.delete(link, other, 0), other, 1)
        groups[one] += groups.pop(other)
    return tuple(rows[group] for group in groups)


# Enrolment --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The template of the one person who speaks in a film, or in a sentence why there is none."""

    voice: Voice | None = field(default=None, repr=False)
    why_not: str = ""


def enrol(film: Path) -> Enrolled:
    """Somebody's voice from their film. Raises CheckUnavailable, MediaError."""
    return workers.shared().call(template, film, timeout_s=_TIMEOUT_S)


def template(film: Path) -> Enrolled:
    """In a worker: what :func:`enrol` answers."""
    try:
        sound = media.sound(film, rate_hz=RATE_HZ)
    except MediaError as error:
        if error.reason.id != "media.not_video":
            raise
        return Enrolled(why_not="a picture has no sound")
    if sound is None:
        return Enrolled(why_not="the film has no sound")
    samples: Samples = sound.samples[0]
    spans = speech(samples)
    spoken = sum(span.seconds for span in spans)
    if spoken < ENROL_S:
        return Enrolled(why_not=f"`{spoken:.1f}` seconds of speech are heard, and `{ENROL_S:g}` are needed")
    if _clipped(samples, spans) > CLIPPED:
        return Enrolled(why_not="the sound is too loud for the microphone")
    every = _rows(samples, spans)
    rows = max(_voices(every), key=len)
    if len(rows) < ALONE * len(every):
        return Enrolled(why_not="more than one voice is heard")
    return Enrolled(rows[np.linspace(0, len(rows) - 1, min(len(rows), ENROL_ROWS)).round().astype(int)])


def _clipped(samples: Samples, spans: Sequence[Span]) -> float:
    parts = [samples[round(one.start_s * RATE_HZ) : round(one.end_s * RATE_HZ)] for one in spans]
    aloud: NDArray[np.float32] = np.abs(np.concatenate(parts))
    return float((aloud >= 0.99).mean())


def to_bytes(voice: Voice) -> bytes:
    return np.ascontiguousarray(voice, "<f4").tobytes()


def from_bytes(data: bytes) -> Voice:
    """Raises CheckUnavailable for anything but a template."""
    if not data or len(data) % 1024:
        raise _damaged()
    voice = np.frombuffer(data, "<f4").reshape(-1, 256).astype(np.float32)
    if not np.isfinite(voice).all():
        raise _damaged()
    return voice


def _damaged() -> CheckUnavailable:
    return CheckUnavailable("voices.unreadable", "an enrolled voice cannot be read", "enrol it again")
