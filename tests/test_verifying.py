"""`countersign verify`: what it says of files and folders, and the exit status that scripts go by."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result

from gateway import verifying
from ledger.provenance import media
from ledger.provenance.schemas import schema
from stamped import Clip
from world import World

pytest_plugins = ["stamped"]
SCHEMA = schema("verdict")


@pytest.fixture
def folder(stamped: Clip, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A released clip, and below it the same without its manifest."""
    stamped.release(world, world.enrol())

    @contextmanager
    def opened(_settings: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(verifier=stamped.verifier(world), clock=lambda: world.at)

    monkeypatch.setattr(verifying, "open_service", opened)
    found = tmp_path / "clips"
    (found / "below").mkdir(parents=True)
    shutil.copy(stamped.file, found / "clip.mp4")
    media.remux(stamped.file, found / "below" / "stripped.MP4")
    (found / "notes.txt").write_text("no video")
    return found


def verify(*arguments: object) -> Result:
    return CliRunner().invoke(verifying.verify, [str(one) for one in arguments])


def told(done: Result) -> tuple[dict[str, Any], dict[str, int]]:
    """What is said of each file, and the summary."""
    *lines, summary = map(json.loads, done.stdout.splitlines())
    return {line["file"]: line for line in lines}, summary["summary"]


def test_a_folder_of_clips_that_stand_is_zero_and_each_follows_the_schema(folder: Path) -> None:
    done = verify(folder, "--json")
    lines, summary = told(done)
    assert (done.exit_code, summary) == (0, {"intact": 1, "recovered": 1}), done.output
    assert set(lines) == {"clip.mp4", "below/stripped.MP4"}
    for line in lines.values():
        jsonschema.validate(line["verdict"], SCHEMA)


def test_one_file_of_unknown_origin_makes_it_one_and_one_unreadable_two(folder: Path, stamped: Clip) -> None:
    shutil.copy(stamped.other, folder / "other.mp4")
    assert verify(folder).exit_code == 1
    (folder / "broken\x1b[2J.mp4").write_text("this is not a video")
    done = verify(folder)
    assert done.exit_code == 2
    assert "4 videos: 1 intact, 1 no_evidence, 1 recovered, 1 unreadable" in done.stdout
    assert "\x1b" not in done.stdout
    lines, _ = told(verify(folder, "--json"))
    assert lines["broken\x1b[2J.mp4"]["reasons"][0]["id"] == "media.not_video"


def test_a_file_is_answered_alone_and_what_is_no_video_is_two(folder: Path) -> None:
    found = verify(folder / "clip.mp4", "--json")
    jsonschema.validate(json.loads(found.stdout), SCHEMA)
    assert (found.exit_code, json.loads(found.stdout)["state"]) == (0, "intact")
    assert verify(folder / "clip.mp4").stdout.startswith("This is an AI-generated clip")
    broken = verify(folder / "notes.txt")
    assert (broken.exit_code, broken.stdout) == (2, "")
    assert "not an MP4, MOV, WebM or Matroska video" in broken.stderr


def test_an_empty_folder_holds_nothing_to_complain_of(folder: Path) -> None:
    (folder / "none").mkdir()
    assert (verify(folder / "none").exit_code, verify(folder / "none").stdout) == (0, "0 videos\n")
