"""`countersign watermark`: a number goes into any video and comes out again, and nothing is overwritten unasked."""

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import skimage.data
from PIL import Image

from command import countersign
from ledger.provenance import media
from test_sound_mark import RATE, music

PAYLOAD = "c0ffee0123456789"
KEY = bytes(range(32))
FRAMES = 12


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def film(path: Path, codec: str, *, sounding: bool = False) -> Path:
    coffee: Any = skimage.data.coffee
    photo = Image.fromarray(coffee()).resize((470, 320))
    with av.open(str(path), "w") as opened:
        target: Any = opened
        video = target.add_stream(codec, rate=24)
        video.width, video.height, video.pix_fmt, video.bit_rate = 426, 240, "yuv420p", 4_000_000
        audio = target.add_stream("aac", rate=RATE, layout="stereo") if sounding else None
        for index in range(FRAMES):
            shown = np.asarray(photo.crop((index, index, 426 + index, 240 + index)))
            target.mux(video.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        target.mux(video.encode())
        if audio is not None:
            planes = np.ascontiguousarray(music(8.0).T)
            frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = RATE, 0
            target.mux(audio.encode(frame))
            target.mux(audio.encode())
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("film") / "plain.mp4", "libx264", sounding=True)


@pytest.fixture(scope="module")
def marked(home: Path, plain: Path) -> Path:
    out = plain.with_name("marked.mp4")
    said = countersign(home, "watermark", "embed", plain, out, "--payload", PAYLOAD.upper())
    assert said.status == 0, said.text
    assert f"{FRAMES} frames" in said.text
    return out


@pytest.mark.parametrize(
    ("name", "codec"), [("a.avi", "mpeg4"), ("a.ts", "mpeg2video"), ("a.webm", "libvpx")]
)
def test_any_container_goes_in_and_an_mp4_comes_out(
    name: str, codec: str, home: Path, tmp_path: Path
) -> None:
    source, out = film(tmp_path / name, codec), tmp_path / "out.mp4"
    assert countersign(home, "watermark", "embed", source, out, "--payload", PAYLOAD).status == 0
    assert media.probe(out, media.Limits()).video_codec == "h264"
    said = countersign(home, "watermark", "detect", out, "--json")
    found = json.loads(said.text)
    assert said.status == 0
    assert found["payload"] == PAYLOAD
    assert set(found) == {"detected", "payload", "confidence", "where", "via", "seconds"}
    assert found["detected"] is True
    assert found["via"] == "picture"
    assert found["seconds"] == pytest.approx(FRAMES / 24, abs=0.1)
    assert 0.5 < found["confidence"] <= 1


def test_a_video_without_a_mark_is_told_from_one_with_it(home: Path, plain: Path, marked: Path) -> None:
    said = countersign(home, "watermark", "detect", plain, "--json")
    assert said.status == 1
    assert json.loads(said.text) | {"where": "", "seconds": 0} == {
        "detected": False, "payload": None, "confidence": 0.0, "where": "", "via": None, "seconds": 0,
    }  # fmt: skip
    assert PAYLOAD in countersign(home, "watermark", "detect", marked).text


def test_a_picture_that_lost_the_mark_is_known_by_its_sound(home: Path, marked: Path, tmp_path: Path) -> None:
    blank = tmp_path / "blank.mp4"
    media.restamp(marked, blank, lambda frame, _: np.full_like(frame, 90))
    found = json.loads(countersign(home, "watermark", "detect", blank, "--json").text)
    assert (found["via"], found["payload"]) == ("sound", PAYLOAD)


def test_a_key_file_stands_for_the_installation_s_own(home: Path, plain: Path, tmp_path: Path) -> None:
    key, out = tmp_path / "key", tmp_path / "out.mp4"
    key.write_bytes(KEY)
    done = countersign(home, "watermark", "embed", plain, out, "--payload", PAYLOAD, "--key", key)
    assert done.status == 0
    assert countersign(home, "watermark", "detect", out, "--key", key).status == 0
    assert countersign(home, "watermark", "detect", out).status == 1
    key.write_bytes(KEY + b"\n")
    assert countersign(home, "watermark", "detect", out, "--key", key).status == 2


@pytest.mark.parametrize(
    ("payload", "word"),
    [("xy", "hexadecimal"), ("c0ffee", "`3` bytes"), ("", "`0` bytes"), ("0" * 34, "`17`")],
)
def test_a_payload_that_is_none_is_named(payload: str, word: str, home: Path, plain: Path) -> None:
    said = countersign(home, "watermark", "embed", plain, plain.with_name("never.mp4"), "--payload", payload)
    assert said.status == 2
    assert word in said.text
    assert not plain.with_name("never.mp4").exists()


def test_nothing_is_overwritten_unasked(home: Path, plain: Path, marked: Path, tmp_path: Path) -> None:
    link, before = tmp_path / "link.mp4", plain.read_bytes()
    link.symlink_to(plain)
    for out, *force in ((plain, "--force"), (link, "--force"), (marked,)):
        said = countersign(home, "watermark", "embed", plain, out, "--payload", PAYLOAD, *force)
        assert said.status == 2
    assert plain.read_bytes() == before
    nowhere = tmp_path / "no" / "out.mp4"
    assert countersign(home, "watermark", "embed", plain, nowhere, "--payload", PAYLOAD).status == 2
    again = tmp_path / "again.mp4"
    again.write_bytes(b"old")
    done = countersign(home, "watermark", "embed", plain, again, "--payload", PAYLOAD, "--force")
    assert done.status == 0
    assert media.probe(again, media.Limits()).frames == FRAMES


@pytest.mark.parametrize(
    "content", [b"", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", b"RIFF\x00\x00\x00\x00AVI ", b"G" * 400]
)
def test_what_is_no_video_is_bad_input_and_leaves_nothing(content: bytes, home: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "file.avi", tmp_path / "out.mp4"
    file.write_bytes(content)
    assert countersign(home, "watermark", "detect", file, "--json").status == 2
    assert countersign(home, "watermark", "embed", file, out, "--payload", PAYLOAD).status == 2
    assert list(tmp_path.iterdir()) == [file]


def test_sound_alone_is_no_video(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "tune.mp4"
    with av.open(str(file), "w") as target:
        audio = target.add_stream("aac", rate=RATE, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.zeros((2, RATE), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = RATE
        target.mux(audio.encode(frame))
        target.mux(audio.encode())
    said = countersign(home, "watermark", "detect", file)
    assert said.status == 2
    assert "video" in said.text


def test_a_video_longer_than_verify_takes_is_refused(
    home: Path, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.watermarking.LIMITS", media.Limits(max_seconds=0.25))
    said = countersign(home, "watermark", "detect", plain)
    assert said.status == 2
    assert "seconds" in said.text
