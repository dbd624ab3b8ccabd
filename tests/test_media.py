"""Accepting, reading and writing clips, on clips made on the spot."""

import itertools
import os
import tracemalloc
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.stream import VideoStream
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ledger.errors import MediaError
from ledger.provenance import media
from ledger.provenance.media import Limits

LIMITS = Limits()
COLOURS = [
    *[(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 128, 128)],
    *[(250, 200, 170), (20, 60, 90), (200, 30, 180), (90, 60, 40)],
]
FORMS = [
    ("mp4", "libx264", "aac"),
    ("mp4", "libx265", "aac"),
    ("mp4", "mpeg4", "libmp3lame"),
    ("mov", "prores_ks", "pcm_s16le"),
    ("webm", "libvpx", "libopus"),
    ("webm", "libvpx-vp9", "libopus"),
    ("mkv", "libsvtav1", "libopus"),
    ("mkv", "libx264", "aac"),
]


def blocks(index: int, width: int, height: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(7)
    small = rng.integers(0, 255, (height // 16, width // 16, 3), dtype=np.uint8)
    return np.kron(np.roll(small, index // 4, axis=1), np.ones((16, 16, 1), np.uint8))


def make(
    path: Path,
    codec: str = "libx264",
    sound: str | None = None,
    *,
    pictures: Sequence[NDArray[np.uint8]] | None = None,
    options: dict[str, str] | None = None,
    matrix: tuple[int, int, int, int] | None = None,
    fps: int = 24,
) -> Path:
    shown = pictures if pictures is not None else [blocks(i, 128, 96) for i in range(24)]
    with av.open(str(path), "w", options=options or {}) as target:
        target.metadata["title"] = "a secret title"
        stream = target.add_stream(codec, rate=fps)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = shown[0].shape[:2]
        stream.pix_fmt = "yuv422p10le" if codec == "prores_ks" else "yuv420p"
        if matrix is not None:
            a, b, c, d = (value << 16 for value in matrix)
            stream.set_display_matrix((a, b, 0, c, d, 0, 0, 0, 1 << 30))
        voice = target.add_stream(sound, rate=48_000) if sound else None
        for picture in shown:
            target.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        target.mux(stream.encode())
        if isinstance(voice, av.AudioStream):
            _tone(target, voice, seconds=len(shown) / fps)
    # Run by root, the AV1 encoder makes the whole process one of the highest real-time priority, and leaves it so.
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return path


def _tone(target: av.container.OutputContainer, voice: av.AudioStream, seconds: float) -> None:
    wave = (np.sin(np.arange(int(48_000 * seconds)) / 17) * 8000).astype(np.int16)
    for start in range(0, len(wave), 1024):
        samples = np.repeat(wave[start : start + 1024], 2)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
        target.mux(voice.encode(frame))
    target.mux(voice.encode())


def reason(path: Path, limits: Limits = LIMITS) -> str:
    with pytest.raises(MediaError) as caught:
        media.probe(path, limits)
    return caught.value.reason.id


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(
        tmp_path_factory.mktemp("media") / "clip.mp4", sound="aac", options={"movflags": "+faststart"}
    )


class TestProbe:
    @pytest.mark.parametrize(("extension", "codec", "sound"), FORMS)
    def test_every_accepted_form_is_decoded_and_every_cut_is_found(
        self, tmp_path: Path, extension: str, codec: str, sound: str
    ) -> None:
        path = make(tmp_path / f"clip.{extension}", codec, sound)
        found = media.probe(path, LIMITS)
        assert (found.width, found.height, found.frames, found.fps) == (128, 96, 24, Fraction(24))
        assert found.seconds == pytest.approx(1, abs=0.01)
        assert found.audio_codec is not None
        whole = path.read_bytes()
        for kept in (len(whole) - 1, len(whole) * 3 // 4, len(whole) // 2, 60):
            path.write_bytes(whole[:kept])
            assert reason(path) == "media.truncated"

    @pytest.mark.parametrize("front", [True, False])
    def test_a_cut_is_found_wherever_the_index_lies(self, tmp_path: Path, front: bool) -> None:
        path = make(tmp_path / "clip.mp4", options={"movflags": "+faststart"} if front else {})
        path.write_bytes(path.read_bytes()[:-500])
        assert reason(path) == "media.truncated"

    def test_a_cut_hidden_by_an_open_ended_box_is_found(self, clip: Path, tmp_path: Path) -> None:
        """`mdat` of size 0 runs to the end of the file, wherever someone moved that end."""
        whole = bytearray(clip.read_bytes())
        start = next(box.start for box in media.boxes(clip) if box.kind == b"mdat")
        whole[start : start + 4] = bytes(4)
        (tmp_path / "open.mp4").write_bytes(whole)
        assert media.probe(tmp_path / "open.mp4", LIMITS).frames == 24
        (tmp_path / "open.mp4").write_bytes(whole[:-4000])
        assert reason(tmp_path / "open.mp4") == "media.truncated"

    def test_each_limit_has_its_own_reason(self, clip: Path) -> None:
        assert reason(clip, Limits(max_bytes=100)) == "media.too_large"
        assert reason(clip, Limits(max_pixels=128 * 96 - 1)) == "media.too_large"
        assert reason(clip, Limits(max_seconds=0.9)) == "media.too_long"
        assert reason(clip, Limits(max_seconds=2, max_fps=10)) == "media.too_long"

    def test_what_is_not_a_clip_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "upload.mp4"
        assert reason(path) == "media.unreadable"
        for content, expected in (
            (b"", "media.empty"),
            (b"\x89PNG\r\n\x1a\n" + bytes(100), "media.not_video"),
            (b"\x00\x00\x00\x18ftypisom" + bytes(12), "media.truncated"),
        ):
            path.write_bytes(content)
            assert reason(path) == expected

    def test_sound_alone_is_not_a_clip(self, tmp_path: Path) -> None:
        with av.open(str(tmp_path / "a.mp4"), "w") as target:
            voice = target.add_stream("aac", rate=48_000)
            assert isinstance(voice, av.AudioStream)
            _tone(target, voice, 0.5)
        assert reason(tmp_path / "a.mp4") == "media.not_video"

    def test_an_unaccepted_codec_is_named(self, tmp_path: Path) -> None:
        assert reason(make(tmp_path / "clip.mkv", "ffv1")) == "media.codec"

    @pytest.mark.parametrize(
        "playlist",
        [
            b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname\n",
            b"ffconcat version 1.0\nfile clip.mp4\n",
        ],
    )
    def test_a_playlist_never_makes_the_demuxer_open_another_file(
        self, clip: Path, tmp_path: Path, playlist: bytes
    ) -> None:
        (tmp_path / "clip.mp4").write_bytes(clip.read_bytes())
        (tmp_path / "upload.mp4").write_bytes(playlist)
        assert reason(tmp_path / "upload.mp4") == "media.not_video"

    def test_a_phones_rotation_is_in_the_size(self, tmp_path: Path) -> None:
        found = media.probe(make(tmp_path / "clip.mp4", matrix=(0, 1, -1, 0)), LIMITS)
        assert (found.width, found.height) == (96, 128)

    @settings(max_examples=60, deadline=None)
    @given(at=st.integers(0, 30_000), value=st.integers(0, 255), cut=st.integers(0, 30_000))
    def test_damage_is_refused_or_decoded_never_anything_else(
        self, clip: Path, at: int, value: int, cut: int
    ) -> None:
        content = bytearray(clip.read_bytes())
        content[at % len(content)] = value
        damaged = clip.with_name("damaged.mp4")
        damaged.write_bytes(content[: max(cut, 1)])
        for examine in (lambda: media.probe(damaged, LIMITS), lambda: media.stray_samples(damaged)):
            try:
                examine()
            except MediaError as refused:
                assert refused.reason.id.startswith("media.")  # noqa: PT017 — either outcome is lawful


class TestBoxes:
    def test_the_boxes_fill_the_file(self, clip: Path) -> None:
        found = media.boxes(clip)
        assert [box.kind for box in found] == [b"ftyp", b"moov", b"free", b"mdat"]
        assert found[0].start == 0
        assert found[-1].end == clip.stat().st_size
        assert all(one.end == other.start for one, other in itertools.pairwise(found))

    def test_a_canonical_clip_has_no_stray_sample(self, clip: Path) -> None:
        assert media.stray_samples(clip) == 0

    def test_samples_in_a_renamed_box_are_stray(self, clip: Path, tmp_path: Path) -> None:
        content = clip.read_bytes().replace(b"mdat", b"free", 1)
        (tmp_path / "hidden.mp4").write_bytes(content)
        assert media.probe(tmp_path / "hidden.mp4", LIMITS).frames == 24, "players do not mind"
        assert media.stray_samples(tmp_path / "hidden.mp4") > 24

    def test_a_sample_reaching_over_the_end_of_mdat_is_stray(self, clip: Path, tmp_path: Path) -> None:
        """The chunk begins inside; only its extent shows that the tail lies in another box."""
        content = bytearray(clip.read_bytes())
        box = media.boxes(clip)[-1]
        content[box.start : box.start + 4] = (box.end - box.start - 40).to_bytes(4, "big")
        content[-40:-32] = b"\x00\x00\x00\x28free"
        (tmp_path / "split.mp4").write_bytes(content)
        assert 1 <= media.stray_samples(tmp_path / "split.mp4") <= 3

    def test_fragmented_clips_are_followed_into_their_fragments(self, tmp_path: Path) -> None:
        path = make(tmp_path / "f.mp4", options={"movflags": "frag_keyframe+empty_moov"})
        assert b"moof" in {box.kind for box in media.boxes(path)}
        assert media.stray_samples(path) == 0


class TestFrames:
    def test_frames_come_in_order_from_zero(self, clip: Path) -> None:
        times = [seconds for seconds, _ in media.frames(clip)]
        assert times == pytest.approx([i / 24 for i in range(24)], abs=1e-3)

    def test_sampling_takes_one_frame_a_period(self, clip: Path) -> None:
        times = [seconds for seconds, _ in media.frames(clip, every_s=0.25)]
        assert times == pytest.approx([0, 0.25, 0.5, 0.75], abs=1e-3)

    @pytest.mark.parametrize("space", [None, 1, 5, 6])
    def test_colours_follow_the_declared_space(self, tmp_path: Path, space: int | None) -> None:
        """Written plane by plane from the BT.601 and BT.709 matrices, without the code under test."""
        kr, kb = (0.2126, 0.0722) if space == 1 else (0.299, 0.114)
        with av.open(str(tmp_path / "c.mp4"), "w") as target:
            stream = target.add_stream("libx264", rate=24, options={"crf": "8"})
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            if space is not None:
                stream.codec_context.colorspace = space
            for colour in COLOURS:
                r, g, b = (value / 255 for value in colour)
                y = kr * r + (1 - kr - kb) * g + kb * b
                planes = (16 + 219 * y, 128 + 112 * (b - y) / (1 - kb), 128 + 112 * (r - y) / (1 - kr))
                frame = av.VideoFrame(64, 64, "yuv420p")
                for plane, level in zip(frame.planes, planes, strict=True):
                    plane.update(bytes([round(level)]) * plane.buffer_size)
                target.mux(stream.encode(frame))
            target.mux(stream.encode())
        for (_, frame_rgb), colour in zip(media.frames(tmp_path / "c.mp4"), COLOURS, strict=True):
            assert np.abs(frame_rgb.mean(axis=(0, 1)) - colour).max() < 1.5

    @pytest.mark.parametrize(
        ("matrix", "corner"),
        [((0, 1, -1, 0), (0, -1)), ((0, -1, 1, 0), (-1, 0)), ((-1, 0, 0, -1), (-1, -1)), (None, (0, 0))],
    )
    def test_turned_pictures_are_upright(
        self, tmp_path: Path, matrix: tuple[int, int, int, int] | None, corner: tuple[int, int]
    ) -> None:
        """ISO/IEC 14496-12 §6.2.2: (p, q) is shown at (ap + cq, bp + dq), so (0, 1, -1, 0) turns clockwise."""
        picture = np.zeros((64, 96, 3), np.uint8)
        picture[:24, :24] = 255
        _, shown = next(media.frames(make(tmp_path / "t.mp4", pictures=[picture] * 2, matrix=matrix)))
        assert shown.shape == ((96, 64, 3) if matrix and not matrix[0] else (64, 96, 3))
        assert max(itertools.product((0, -1), repeat=2), key=lambda at: int(shown[at].sum())) == corner


class TestRestamp:
    @pytest.mark.parametrize(("extension", "codec", "sound"), FORMS)
    def test_any_accepted_form_becomes_the_canonical_one(
        self, tmp_path: Path, extension: str, codec: str, sound: str
    ) -> None:
        src, dst = make(tmp_path / f"clip.{extension}", codec, sound), tmp_path / "out.mp4"
        media.restamp(src, dst, lambda frame, _: frame)
        found = media.probe(dst, LIMITS)
        assert (found.video_codec, found.audio_codec, found.frames) == ("h264", "aac", 24)
        assert (found.width, found.height) == (128, 96)
        assert found.seconds == pytest.approx(1, abs=0.01)
        assert media.boxes(dst)[1].kind == b"moov"
        assert media.stray_samples(dst) == 0
        assert b"a secret title" not in dst.read_bytes()

    def test_colour_does_not_drift(self, clip: Path, tmp_path: Path) -> None:
        def paint(frame: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
            return np.broadcast_to(np.array(COLOURS[index % len(COLOURS)], np.uint8), frame.shape).copy()

        once, twice = tmp_path / "once.mp4", tmp_path / "twice.mp4"
        media.restamp(clip, once, paint)
        media.restamp(once, twice, lambda frame, _: frame)
        for path in (once, twice):
            for index, (_, frame) in enumerate(media.frames(path)):
                error = np.abs(frame.mean(axis=(0, 1)) - COLOURS[index % len(COLOURS)])
                assert error.max() < 1.5
            with av.open(str(path)) as container:
                shown = next(container.decode(video=0))
                tags = (shown.colorspace, shown.color_primaries, shown.color_trc, shown.color_range)
                assert tags == (1, 1, 1, 1), "BT.709 thrice, limited range"

    def test_the_same_clip_gives_the_same_bytes(self, clip: Path, tmp_path: Path) -> None:
        for name in ("one.mp4", "two.mp4"):
            media.restamp(clip, tmp_path / name, lambda frame, _: 255 - frame)
        assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()

    def test_aac_is_copied_not_coded_again(self, clip: Path, tmp_path: Path) -> None:
        media.restamp(clip, tmp_path / "out.mp4", lambda frame, _: frame)
        sounds = []
        for path in (clip, tmp_path / "out.mp4"):
            with av.open(str(path)) as container:
                sounds.append([bytes(packet) for packet in container.demux(audio=0)])
        assert sounds[0] == sounds[1]

    def test_frames_keep_their_own_times(self, tmp_path: Path) -> None:
        """A screen recording has no fixed rate; forcing one would slide picture against sound."""
        src, dst = tmp_path / "vfr.mp4", tmp_path / "out.mp4"
        times = [0, 40, 400, 440, 1200]
        with av.open(str(src), "w") as target:
            stream = target.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            stream.codec_context.time_base = Fraction(1, 1000)
            for time in times:
                frame = av.VideoFrame.from_ndarray(blocks(time, 64, 64), format="rgb24")
                frame.pts, frame.time_base = time, Fraction(1, 1000)
                target.mux(stream.encode(frame))
            target.mux(stream.encode())
        media.restamp(src, dst, lambda picture, _: picture)
        assert [round(seconds * 1000) for seconds, _ in media.frames(dst)] == times

    def test_an_odd_side_loses_one_line(self, tmp_path: Path) -> None:
        pictures = [np.full((65, 97, 3), 90, np.uint8)] * 3
        with av.open(str(tmp_path / "odd.mkv"), "w") as target:
            stream = target.add_stream("libvpx-vp9", rate=24)
            assert isinstance(stream, VideoStream)
            stream.width, stream.height, stream.pix_fmt = 97, 65, "yuv420p"
            for picture in pictures:
                target.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            target.mux(stream.encode())
        media.restamp(tmp_path / "odd.mkv", tmp_path / "even.mp4", lambda frame, _: frame)
        found = media.probe(tmp_path / "even.mp4", LIMITS)
        assert (found.width, found.height) == (96, 64)

    def test_a_failing_transform_leaves_what_was_there(self, clip: Path, tmp_path: Path) -> None:
        def fail(frame: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
            if index == 3:
                raise RuntimeError("stopped")
            return frame[:-2] if index == 5 else frame

        (tmp_path / "out.mp4").write_bytes(b"before")
        with pytest.raises(RuntimeError, match="stopped"):
            media.restamp(clip, tmp_path / "out.mp4", fail)
        with pytest.raises(ValueError, match="changed the frame"):
            media.restamp(clip, tmp_path / "out.mp4", lambda frame, _: frame[:-2])
        assert (tmp_path / "out.mp4").read_bytes() == b"before"
        assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]

    def test_memory_does_not_grow_with_length(self, tmp_path: Path) -> None:
        peaks = []
        for count in (12, 60):
            src = tmp_path / f"{count}.mp4"
            media.write_pattern(src, width=320, height=240, count=count)
            tracemalloc.start()
            media.restamp(src, tmp_path / "out.mp4", lambda frame, _: frame.copy())
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert peaks[1] < peaks[0] + 2 * 320 * 240 * 3


class TestRemux:
    def test_a_remux_keeps_the_packets_and_drops_the_rest(self, clip: Path, tmp_path: Path) -> None:
        source = tmp_path / "labelled.mp4"
        source.write_bytes(clip.read_bytes() + b"\x00\x00\x00\x18uuid" + b"a secret box 16b")
        media.remux(source, tmp_path / "out.mp4")
        copied = (tmp_path / "out.mp4").read_bytes()
        assert b"a secret" not in copied
        assert media.probe(tmp_path / "out.mp4", LIMITS).frames == 24
        for (_, one), (_, other) in zip(media.frames(clip), media.frames(tmp_path / "out.mp4"), strict=True):
            assert np.array_equal(one, other)


@pytest.fixture(scope="module")
def canonical(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("canonical") / "clip.mp4"
    assert media.restamp(clip, path, lambda frame, _: frame) == 24
    return path


class TestCanonical:
    """What is signed is what is played: nothing hidden, nothing said that was not asked for."""

    @staticmethod
    def refused(path: Path, **asked: Any) -> str:
        with pytest.raises(MediaError) as caught:
            media.require_canonical(path, **{"frames": 24, **asked})
        assert caught.value.reason.id in {"media.not_canonical", "media.truncated"}
        return caught.value.reason.sentence

    @pytest.mark.parametrize(("extension", "codec", "sound"), FORMS[:1] + FORMS[4:5])
    def test_what_restamp_writes_is_canonical(
        self, tmp_path: Path, extension: str, codec: str, sound: str
    ) -> None:
        src, dst = make(tmp_path / f"clip.{extension}", codec, sound), tmp_path / "out.mp4"
        said = {"AIGC": '{"Label":"1","ContentProducer":"工作室"}'}
        frames = media.restamp(src, dst, lambda frame, _: frame, metadata=said)
        media.require_canonical(dst, frames=frames, metadata=said)
        assert media.metadata(dst) == said

    def test_text_nobody_asked_for_is_noticed(self, canonical: Path, tmp_path: Path) -> None:
        media.require_canonical(canonical, frames=24)
        assert "text" in self.refused(canonical, metadata={"AIGC": "{}"})
        named = tmp_path / "named.mp4"
        named.write_bytes(canonical.read_bytes().replace(b"VideoHandler", b"a secret txt"))
        assert "text" in self.refused(named)
        told = tmp_path / "told.mp4"
        media.restamp(canonical, told, lambda frame, _: frame, metadata={"comment": "a secret"})
        assert "text" in self.refused(told)

    @pytest.mark.parametrize(
        "added",
        [
            b"\x00\x00\x00\x09freex",
            b"\x00\x00\x00\x08skip",
            b"\x00\x00\x00\x0cuuidabcd",
            b"\x00\x00\x00\x08mdat",
        ],
    )
    def test_a_box_too_many_is_noticed(self, canonical: Path, tmp_path: Path, added: bytes) -> None:
        (tmp_path / "more.mp4").write_bytes(canonical.read_bytes() + added)
        assert "boxes" in self.refused(tmp_path / "more.mp4")

    def test_an_index_behind_the_media_is_noticed(self, clip: Path, tmp_path: Path) -> None:
        with av.open(str(clip)) as source, av.open(str(tmp_path / "late.mp4"), "w") as target:
            stream = source.streams.video[0]
            copy = target.add_stream_from_template(stream)
            for packet in source.demux(stream):
                if packet.dts is not None:
                    packet.stream = copy
                    target.mux(packet)
        assert "boxes" in self.refused(tmp_path / "late.mp4")

    def test_pictures_hidden_by_an_edit_list_are_noticed(self, canonical: Path, tmp_path: Path) -> None:
        """An edit that begins later plays fewer pictures than the file holds; the rest would be signed unseen."""
        content = bytearray(canonical.read_bytes())
        at = content.index(b"elst")
        start = int.from_bytes(content[at + 16 : at + 20], "big", signed=True)
        assert start >= 0
        later = start + 12 * 512  # half of the second, in the track's own time
        content[at + 16 : at + 20] = later.to_bytes(4, "big", signed=True)
        (tmp_path / "hidden.mp4").write_bytes(content)
        assert "are shown" in self.refused(tmp_path / "hidden.mp4")

    def test_a_picture_too_few_is_noticed(self, canonical: Path) -> None:
        assert "`25`" in self.refused(canonical, frames=25)

    def test_a_second_picture_track_is_noticed(self, clip: Path, tmp_path: Path) -> None:
        options = {"movflags": "+faststart", "fflags": "+bitexact"}
        with av.open(str(tmp_path / "two.mp4"), "w", format="mp4", options=options) as target:
            streams = [target.add_stream("libx264", rate=24) for _ in range(2)]
            for stream in streams:
                stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
            for index in range(24):
                for stream in streams:
                    frame = av.VideoFrame.from_ndarray(blocks(index, 128, 96), format="rgb24")
                    target.mux(stream.encode(frame))
            for stream in streams:
                target.mux(stream.encode())
        assert "tracks" in self.refused(tmp_path / "two.mp4")
