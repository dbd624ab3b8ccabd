"""Voices: nobody is heard where nobody speaks, each voice is told by itself, and words are understood.

Recordings: six sentences of two synthetic speakers (flite's `rms` and `slt`, free for any use) stand in
`vectors/speech`; two people who read aloud come with the package that recognises speech.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from skimage import data as samples

from generator.reference import camera, scene, sound
from ledger.consent.grant import Modality
from ledger.consent.statement import ENROLMENT_TAG, encode_key, parse_enrolment, sign
from ledger.errors import MediaError
from ledger.ids import CameoId
from ledger.provenance import media
from safety import models, voices
from safety.chain import Allowed, Cleared, raw_clip
from safety.clearing import Expected, look
from safety.enrolment import enrol_vouched
from safety.errors import CheckUnavailable, InvalidInput
from safety.faces import Likeness
from safety.gate import Denied
from safety.likeness import EnrolledVoices, StoredLikeness, voice_of
from safety.prompt import CATEGORIES
from safety.voice import activity, words
from safety.voice.activity import RATE_HZ, Span, speech
from safety.voice.digits import in_order, spoken_digits
from safety.voice.speakers import mel_spectrogram, similarity, windows
from safety.voice.words import Said
from safety.voices import Heard, Sounds, Voice, hear, listen, template
from world import World, zulu

SPEECH = Path(__file__).parent / "vectors" / "speech"
RMS, SLT = CameoId("cameo_rms"), CameoId("cameo_slt")
Samples = NDArray[np.float32]


def said(name: str) -> Samples:
    found = media.sound(SPEECH / f"{name}.mka")
    assert found is not None
    return np.asarray(found.samples[0], np.float32)


def read_aloud(name: str, from_s: float, to_s: float) -> Samples:
    """Of a person, recorded."""
    spec = find_spec("moonshine_voice")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "assets" / f"{name}.wav"
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE_HZ)
    with av.open(str(path)) as container:
        parts = [
            out.to_ndarray()[0] for frame in container.decode(audio=0) for out in resampler.resample(frame)
        ]
    return np.concatenate(parts)[round(from_s * RATE_HZ) : round(to_s * RATE_HZ)].astype(np.float32)


def clip(
    path: Path,
    left: Samples | None,
    right: Samples | None = None,
    *,
    delay_s: float = 0.0,
    picture: NDArray[np.uint8] | None = None,
) -> Path:
    """A small film with this sound in both ears, or in each its own."""
    with av.open(str(path), "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=10)
        ears = out.add_stream("aac", rate=RATE_HZ, layout="stereo")
        ears.bit_rate = 96_000
        shown = np.full((64, 64, 3), 40, np.uint8) if picture is None else picture
        stream.height, stream.width, stream.pix_fmt = *shown.shape[:2], "yuv420p"
        for _ in range(10):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        out.mux(stream.encode())
        if left is not None:
            both = np.stack([left, left if right is None else right]).astype(np.float32)
            for start in range(0, both.shape[1], 1024):
                frame = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(both[:, start : start + 1024]), format="fltp", layout="stereo"
                )
                frame.sample_rate, frame.pts = RATE_HZ, start + round(delay_s * RATE_HZ)
                out.mux(ears.encode(frame))
            out.mux(ears.encode())
    return path


@pytest.fixture(scope="module")
def known() -> dict[CameoId, Voice]:
    """The templates of the two, of sentences that no test plays."""
    return {
        who: np.concatenate([windows(said(name), speech(said(name)))[1] for name in names])
        for who, names in {RMS: ("rms-train", "rms-digits"), SLT: ("slt-letter", "slt-digits")}.items()
    }


# -- the track -----------------------------------------------------------------------------------------------


def test_a_tone_comes_back_at_its_pitch_its_level_and_its_time(tmp_path: Path) -> None:
    time_s = np.arange(2 * RATE_HZ) / RATE_HZ
    tone = (0.5 * np.sin(2 * np.pi * 440 * time_s)).astype(np.float32)
    found = media.sound(clip(tmp_path / "tone.mp4", tone, delay_s=0.5))
    assert found is not None
    middle, side = found.samples
    spectrum = np.abs(np.fft.rfft(middle[: 2 * RATE_HZ]))
    assert abs(int(spectrum.argmax()) / 2 - 440) <= 1
    assert abs(float(np.abs(middle[8000:24000]).max()) - 0.5) < 0.05
    # Not at its beginning: there the codec has an echo of its own.
    assert np.abs(side[8000:24000]).max() < 0.01
    assert abs(found.starts_s - 0.5) < 0.1


def test_a_track_that_runs_on_is_cut_off_before_it_fills_the_memory(tmp_path: Path) -> None:
    path = clip(tmp_path / "long.mp4", np.zeros(3 * RATE_HZ, np.float32))
    with pytest.raises(MediaError, match="runs over"):
        media.sound(path, max_seconds=2)


def test_a_film_without_sound_has_none(tmp_path: Path) -> None:
    silent = tmp_path / "silent.mp4"
    media.write_pattern(silent)
    assert media.sound(silent) is None
    assert hear(silent) == Sounds((), ())


# -- whether anybody speaks ----------------------------------------------------------------------------------


def _scene(words: str) -> Samples:
    rng = np.random.default_rng(5)
    asked = scene.read(words, rng)
    track = sound.compose(asked, camera.Path.of(asked, 4.0, 16 / 9, rng), 4, rng)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(track), format="fltp", layout="stereo")
    frame.sample_rate = sound.RATE_HZ
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE_HZ)
    return np.concatenate(
        [out.to_ndarray()[0] for out in (*resampler.resample(frame), *resampler.resample(None))]
    )


def _tones(*hz: float) -> Samples:
    time_s = np.arange(4 * RATE_HZ) / RATE_HZ
    waves = np.sum([np.sin(2 * np.pi * one * time_s) for one in hz], axis=0)
    return np.asarray(waves * 0.3 / len(hz), np.float32)


def _noise(colour: float) -> Samples:
    rng = np.random.default_rng(1)
    spectrum = np.fft.rfft(rng.standard_normal(4 * RATE_HZ))
    spectrum /= np.maximum(np.arange(len(spectrum)), 40) ** colour
    noise = np.fft.irfft(spectrum)
    gusts = 1 + 0.8 * np.sin(np.arange(len(noise)) / RATE_HZ * 7)
    return np.asarray(0.1 * noise / noise.std() * gusts, np.float32)


@pytest.mark.parametrize(
    "make",
    [
        *(
            pytest.param(lambda words=words: _scene(words), id=words)
            for words in (
                "a neon city in the rain",
                "embers over a desert",
                "snow in a forest",
                "deep ocean bubbles",
            )
        ),
        pytest.param(lambda: _tones(220, 277, 330, 440), id="a chord"),
        pytest.param(lambda: _tones(150), id="a hum"),
        pytest.param(lambda: _noise(0.0), id="rain"),
        pytest.param(lambda: _noise(1.0), id="wind"),
        pytest.param(lambda: np.zeros(4 * RATE_HZ, np.float32), id="silence"),
    ],
)
def test_nobody_speaks_where_nobody_does(make: Callable[[], Samples]) -> None:
    assert speech(make()) == ()


def test_people_and_synthesisers_are_heard_to_speak() -> None:
    for sounds, least_s in ((read_aloud("two_cities", 0, 10), 6.0), (said("slt-garden"), 4.0)):
        spans = speech(sounds)
        assert sum(span.seconds for span in spans) >= least_s
        assert all(0 <= span.start_s < span.end_s <= len(sounds) / RATE_HZ for span in spans)


def test_a_voice_under_music_is_heard() -> None:
    voice = said("rms-harbour")
    bed = np.resize(_tones(220, 277, 330), len(voice)) * 0.3
    assert sum(span.seconds for span in speech(voice + bed)) > 3


@pytest.mark.parametrize(
    "bad",
    [np.full(16_000, np.nan, np.float32), np.zeros((2, 8), np.float32), np.zeros(130 * RATE_HZ, np.float32)],
)
def test_what_is_no_sound_is_refused(bad: Samples) -> None:
    with pytest.raises(InvalidInput):
        speech(bad)


# -- whose voice it is ---------------------------------------------------------------------------------------


def test_the_features_are_those_the_network_was_trained_on() -> None:
    """Of a chirp, by librosa 0.11 (`feature.melspectrogram`, 400/160/40)."""
    time_s = np.arange(16_000) / 16_000
    chirp = (0.3 * np.sin(2 * np.pi * (200 * time_s + 900 * time_s**2))).astype(np.float32)
    found = mel_spectrogram(chirp)
    assert found.shape == (101, 40)
    places = (0, 3, 5, 9, 12, 15, 20, 27, 30, 39)
    for frame, expected in {
        0: (0.632843, 1.07202, 0.0282407, 0.00242518, 7.94112e-4, 3.20206e-4, 6.92779e-5, 9.35329e-6, 4.29589e-6, 8.93659e-7),
        50: (1.38707e-8, 3.90397e-8, 1.28588e-7, 5.02506e-6, 0.00639592, 0.791517, 1.38279e-7, 2.09363e-10, 2.6567e-11, 0),
        100: (0.00326616, 0.00340936, 0.00375156, 0.00441989, 0.00573218, 0.00872422, 0.0855917, 0.00282287, 7.66121e-4, 9.98357e-5),
    }.items():  # fmt: skip
        assert found[frame, places] == pytest.approx(expected, rel=1e-4, abs=1e-9)


@pytest.mark.slow
def test_the_same_voice_is_alike_and_another_is_not(known: dict[CameoId, Voice]) -> None:
    _, harbour = windows(said("rms-harbour"), speech(said("rms-harbour")))
    assert similarity(harbour, known[RMS]) >= voices.ENROLLED
    assert similarity(harbour, known[SLT]) < voices.GRANTED
    one, other = (
        windows(x, speech(x))[1] for x in (read_aloud("beckett", 0, 9), read_aloud("two_cities", 0, 12))
    )
    assert similarity(one, other) < voices.GRANTED
    later = read_aloud("two_cities", 20, 30)
    assert similarity(windows(later, speech(later))[1], other) >= voices.GRANTED


def test_quiet_speech_is_of_the_same_voice(known: dict[CameoId, Voice]) -> None:
    quiet = said("slt-garden") * np.float32(0.02)
    _, rows = windows(quiet, [Span(0.3, 4.8)])
    assert similarity(rows, known[SLT]) >= voices.GRANTED


def test_a_damaged_template_is_like_nobody() -> None:
    broken = np.full((2, 256), np.nan, np.float32)
    assert similarity(broken, broken) == 0
    assert similarity(np.empty((0, 256), np.float32), broken) == 0


# -- a clip --------------------------------------------------------------------------------------------------


def _pause(seconds: float = 0.6) -> Samples:
    return np.zeros(round(seconds * RATE_HZ), np.float32)


def _listened(
    path: Path, granted: Sequence[CameoId], known: dict[CameoId, Voice], monkeypatch: pytest.MonkeyPatch
) -> Heard:
    class Here:
        def call(self, function: Callable[[Path], Sounds], path: Path, *, timeout_s: float) -> Sounds:
            assert timeout_s
            return function(path)

    monkeypatch.setattr("safety.workers.shared", Here)
    return listen(path, {who: known[who] for who in granted}, known)


@pytest.mark.parametrize(
    ("spoken", "granted", "ungranted", "whose"),
    [
        (("rms-harbour",), (RMS,), 0, ()),
        (("rms-harbour",), (), 1, (RMS,)),
        (("rms-harbour", "slt-garden"), (RMS, SLT), 0, ()),
        (("rms-harbour", "slt-garden"), (RMS,), 1, (SLT,)),
    ],
    ids=["granted", "not granted", "both granted", "a second voice behind a granted one"],
)
@pytest.mark.slow
def test_each_voice_in_a_clip_needs_its_own_grant(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    known: dict[CameoId, Voice],
    spoken: Sequence[str],
    granted: Sequence[CameoId],
    ungranted: int,
    whose: Sequence[CameoId],
) -> None:
    parts = [part for name in spoken for part in (said(name), _pause())]
    heard = _listened(clip(tmp_path / "clip.mp4", np.concatenate(parts)), granted, known, monkeypatch)
    assert (heard.ungranted, heard.enrolled, heard.whose) == (ungranted, len(whose), tuple(whose))
    assert "ferry" in heard.words
    assert not heard.unchecked


@pytest.mark.slow
def test_a_stranger_is_ungranted_and_of_nobody_enrolled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: dict[CameoId, Voice]
) -> None:
    path = clip(tmp_path / "clip.mp4", read_aloud("two_cities", 0, 7))
    heard = _listened(path, [RMS], known, monkeypatch)
    assert heard.ungranted >= 1
    assert heard.whose == ()


def test_speech_in_antiphase_does_not_hide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: dict[CameoId, Voice]
) -> None:
    """Added up it is silence; in two ears it is plain."""
    voice = said("slt-garden")
    heard = _listened(clip(tmp_path / "clip.mp4", voice, -voice), [], known, monkeypatch)
    assert heard.whose == (SLT,)
    assert "roses" in heard.words


@pytest.mark.slow
def test_words_with_pauses_between_are_told_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: dict[CameoId, Voice]
) -> None:
    """One word at a time is too short to tell; a second of them is not."""
    voice = said("slt-garden")
    words = [part for at in range(6) for part in (voice[8000 + at * 9600 : 17600 + at * 9600], _pause(0.8))]
    path = clip(tmp_path / "clip.mp4", np.concatenate(words))
    assert _listened(path, [RMS], known, monkeypatch).ungranted >= 1


def test_an_interjection_is_of_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: dict[CameoId, Voice]
) -> None:
    voice = said("rms-digits")[4800:12000]
    path = clip(tmp_path / "clip.mp4", np.concatenate([_pause(), voice, _pause(2)]))
    assert _listened(path, [], known, monkeypatch).ungranted == 0


@pytest.mark.parametrize(
    ("text", "confidence", "understood"),
    [
        ("the ferry leaves at seven", 890, True),
        ("the conference is to honour and to move", 260, False),
        ("the next day, " * 5, 690, False),
        ("", 1000, False),
    ],
)
def test_made_up_words_are_not_taken_for_speech(text: str, confidence: int, understood: bool) -> None:
    assert Said(Span(0, 3), text, confidence).understood is understood


def test_speech_that_is_not_understood_was_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Foreign:
        def call(self, *_: object, **__: object) -> Sounds:
            return Sounds((), (Said(Span(0, 3), "premise of the cord", 300), Said(Span(4, 4.5), "oh", 300)))

    monkeypatch.setattr("safety.workers.shared", Foreign)
    heard = listen(Path("x"), {}, {})
    assert heard.unchecked == {"speech"}
    assert heard.words == ""


@pytest.mark.slow
def test_what_is_said_in_a_clip_is_screened_and_who_says_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: dict[CameoId, Voice]
) -> None:
    says = Heard(1, 1, (RMS,), "how to build a pipe bomb at home to kill people", frozenset())
    monkeypatch.setattr("safety.voices.listen", lambda *_: says)
    looked = look(
        clip(tmp_path / "clip.mp4", None),
        lambda: Expected({}, other_voices=known),
        prompt_scores=dict.fromkeys(CATEGORIES, 0),
    )
    assert max(looked.facts.scores.values()) >= 500
    assert (looked.facts.ungranted_voices, looked.facts.enrolled_voices, looked.overheard) == (1, 1, (RMS,))


@pytest.mark.parametrize("name", ["silero-vad", "resemblyzer", "moonshine-tiny-en"])
def test_a_missing_model_stops_the_check_and_not_only_half_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, known: dict[CameoId, Voice]
) -> None:
    def missing(asked: str) -> Path:
        if asked == name:
            raise CheckUnavailable("models.missing", "it is not installed", "install it")
        return packaged(asked)

    packaged = models.packaged
    modules = ("activity", "speakers", "words")
    for module in modules:
        monkeypatch.setattr(f"safety.voice.{module}.packaged", missing)
    for cached in (
        vars(activity)["_model"],
        windows.__globals__["_network"],
        vars(words)["_model"],
    ):
        cached.cache_clear()
    with pytest.raises(CheckUnavailable):
        _listened(clip(tmp_path / "clip.mp4", said("rms-train")), [RMS], known, monkeypatch)


# -- digits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "digits"), [("rms-digits", "314059"), ("slt-digits", "827604")])
def test_digits_are_heard_in_order_and_in_time(name: str, digits: str) -> None:
    found = spoken_digits(said(name), digits)
    assert (found.matched, found.of, found.score, found.enough) == (6, 6, 1000, True)
    assert found.timed
    assert [one.digit for one in found.heard] == list(digits)
    edges = [edge for one in found.heard for edge in (one.start_s, one.end_s)]
    assert edges == sorted(edges)
    assert not spoken_digits(said(name), "".join(sorted(digits, reverse=True))).enough


def test_silence_says_no_digits() -> None:
    assert not spoken_digits(np.zeros(3 * RATE_HZ, np.float32), "314059").enough


@pytest.mark.parametrize(
    ("heard", "matched"), [("123456", 6), ("12456", 5), ("1238456", 6), ("654321", 1), ("", 0), ("213456", 5)]
)
def test_one_slip_costs_one_digit(heard: str, matched: int) -> None:
    assert in_order(list(heard), "123456") == matched


# -- enrolment -----------------------------------------------------------------------------------------------


def test_a_film_enrols_the_voice_of_whoever_speaks_in_it(tmp_path: Path, known: dict[CameoId, Voice]) -> None:
    found = template(clip(tmp_path / "film.mp4", np.concatenate([said("rms-harbour"), said("rms-train")])))
    assert found.voice is not None
    assert similarity(found.voice, known[RMS]) >= voices.ENROLLED
    assert "0." not in repr(found)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: said("rms-digits")[:16000], "seconds of speech"),
        (lambda: np.concatenate([said("rms-harbour"), said("slt-garden")]), "more than one voice"),
        (lambda: np.clip(said("rms-harbour") * 40, -1, 1), "too loud"),
        (lambda: _tones(220, 330), "seconds of speech"),
    ],
)
def test_a_film_that_would_make_a_wrong_template_makes_none(
    tmp_path: Path, make: Callable[[], Samples], why: str
) -> None:
    found = template(clip(tmp_path / "film.mp4", make()))
    assert found.voice is None
    assert why in found.why_not


def test_a_picture_enrols_no_voice(tmp_path: Path) -> None:
    path = tmp_path / "portrait.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(64))
    assert template(path).voice is None


# -- kept ----------------------------------------------------------------------------------------------------


def _enrolled(world: World, voice: Voice | None) -> CameoId:
    face = np.zeros((64, 64, 3), np.uint8)
    templates = Likeness(np.random.default_rng(3).normal(0, 0.1, (1, 128)))
    return world.enrol(likeness=StoredLikeness(templates, face, (8, 56, 56, 8), voice)).cameo_id


def test_a_voice_is_kept_sealed_and_goes_with_the_person(world: World, known: dict[CameoId, Voice]) -> None:
    cameo_id, silent = _enrolled(world, known[RMS]), _enrolled(world, None)
    everybody = EnrolledVoices()
    with world.ledger.reading() as tx:
        stored, owner = tx.cameo(cameo_id), tx.owner(cameo_id)
        assert stored is not None
        assert stored.voice is not None
        assert owner is not None
        assert known[RMS].tobytes()[:64] not in stored.voice
        assert "voice" not in repr(stored)
        kept = voice_of(tx, cameo_id)
        assert kept is not None
        assert np.array_equal(kept, known[RMS])
        assert voice_of(tx, silent) is None
        assert list(everybody.read(tx)) == [cameo_id]
    world.ledger.transact(lambda tx: tx.erase_person(owner))
    with world.ledger.reading() as tx:
        assert everybody.read(tx) == {}


def test_a_voice_that_cannot_be_read_is_not_passed_over(
    world: World, known: dict[CameoId, Voice], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a clip with that voice would be a stranger's, for people to let through."""
    _enrolled(world, known[RMS])
    monkeypatch.setattr("safety.likeness.unseal", lambda *_, **__: b"not a template")
    with world.ledger.reading() as tx, pytest.raises(CheckUnavailable):
        EnrolledVoices().read(tx)


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked", [frozenset({"face", "voice"}), frozenset({"face"})], ids=["voice granted", "face only"]
)
def test_a_voice_passes_the_gate_only_where_it_was_granted(
    world: World, tmp_path: Path, known: dict[CameoId, Voice], asked: frozenset[Modality]
) -> None:
    app = world.app()
    face = np.zeros((64, 64, 3), np.uint8)
    templates = Likeness(np.random.default_rng(3).normal(0, 0.1, (1, 128)))
    someone = world.enrol(likeness=StoredLikeness(templates, face, (8, 56, 56, 8), known[RMS]))
    world.grant(someone, app, modalities=["face", "voice"])
    allowed = world.gate.decide(replace(world.request(app, someone), modalities=asked), at=world.at)
    assert isinstance(allowed, Allowed)
    path = clip(tmp_path / "raw.mp4", np.concatenate([_pause(), said("rms-harbour")]))
    answer = world.gate.clear(raw_clip(allowed, path, backend="model", version="1", closed=True))
    if "voice" in asked:
        assert isinstance(answer, Cleared)
        assert answer.review == ()
        assert {"speech", "voices"} <= set(answer.checks)
    else:
        assert isinstance(answer, Denied)
        # Refused at once, as nobody's whom the app could know of; a stranger's would be held for reviewers.
        assert {one.id for one in answer.reasons} == {"clear.ungranted_voice"}


@pytest.mark.slow
def test_who_speaks_in_the_film_they_enrol_with_is_enrolled_with_their_voice(
    world: World, tmp_path: Path, known: dict[CameoId, Voice]
) -> None:
    operator, person = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    world.ledger.transact(lambda tx: tx.register_operator("dana", encode_key(operator.public_key())))
    path = clip(
        tmp_path / "film.mp4",
        np.concatenate([said("slt-garden"), said("slt-letter")]),
        picture=np.asarray(samples.astronaut(), np.uint8),  # type: ignore[no-untyped-call]
    )
    statement = {
        "schema": "countersign/enrolment/v1",
        "path": "vouched",
        "operator": "dana",
        "display_name": "Eileen Collins",
        "device_key": encode_key(person.public_key()),
        "born_on": "1956-11-19",
        "portrait_sha256": sha256(path.read_bytes()).hexdigest(),
        "issued": zulu(world.at),
    }
    evidence = sign(ENROLMENT_TAG, parse_enrolment(statement).signed_bytes(), operator)
    _, cameo_id = enrol_vouched(
        world.ledger, world.gate.register, world.gate.gallery, statement, evidence, path, at=world.at
    )
    with world.ledger.reading() as tx:
        voice = voice_of(tx, cameo_id)
    assert voice is not None
    assert similarity(voice, known[SLT]) >= voices.ENROLLED
