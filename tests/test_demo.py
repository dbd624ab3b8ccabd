"""`make demo`, as a newcomer runs it, and then as people who do not trust us look at what it left."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import encypher_c2pa
import numpy as np
import pytest
from PIL import Image

from conftest import Checker
from ledger.provenance import media

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

README = Path(__file__).resolve().parent.parent / "README.md"
GENERATED = (
    (r"\b(video|app|grant|cameo)_[0-9a-z]{10,26}", r"\1_…"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "<time>"),
    (r"\d{1,2} [A-Z][a-z]+ \d{4}(,? \d\d:\d\d UTC)?", "<date>"),
    (r"(127\.0\.0\.1|localhost):\d+", "<here>:<port>"),
    (r"\b\d+ (ms|s)\b", r"<n> \1"),
)


@dataclass(frozen=True)
class Played:
    home: Path
    transcript: str
    again: str

    def countersign(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "gateway", *arguments]
        return subprocess.run(command, cwd=self.home, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """The demo, played twice in a fresh folder."""
    home = tmp_path_factory.mktemp("demo")

    def play() -> str:
        command = [sys.executable, "-m", "gateway", "demo", "--no-stay"]
        done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return Played(home, play(), play())


def test_the_readme_shows_a_run_that_really_happens(demo: Played) -> None:
    shown = re.search(r"<!-- transcript -->\n```\n(.*?)```", README.read_text(), re.DOTALL)
    assert shown is not None
    assert as_told(shown[1]) == as_told(demo.transcript)


def as_told(transcript: str) -> str:
    transcript = re.sub(r"(?m)^ +(queued|in_progress), \d+ %\n", "", transcript)
    transcript = " ".join(transcript.split())
    for pattern, replacement in GENERATED:
        transcript = re.sub(pattern, replacement, transcript)
    return transcript


def test_it_ends_well_twice_and_enrols_nobody_again(demo: Played) -> None:
    assert demo.transcript.endswith("DEMO OK\n")
    assert demo.again.endswith("DEMO OK\n")
    cast = json.loads((demo.home / "var/countersign/demo/cast.json").read_text())
    assert len(cast["people"]) == 1


def test_another_validator_trusts_the_clip_and_not_after_one_flipped_byte(demo: Played) -> None:
    clip, root = demo.home / "var/demo/clip.mp4", (demo.home / "var/demo/root.pem").read_text()
    assert second_opinion(clip, root)["validation_state"] == "Trusted"
    altered = bytearray(clip.read_bytes())
    altered[media_byte(clip)] ^= 1
    flipped = clip.with_name("flipped.mp4")
    flipped.write_bytes(altered)
    assert second_opinion(flipped, root)["validation_state"] == "Invalid"


def second_opinion(clip: Path, anchors: str) -> Any:
    return encypher_c2pa.verify(
        clip,
        mime_type="video/mp4",
        trust_pem=anchors,
        tsa_trust_pem=anchors,
        no_default_trust=True,
        telemetry=False,
        online=False,
    )


def media_byte(clip: Path) -> int:
    box = next(box for box in media.boxes(clip) if box.kind == b"mdat")
    return (box.start + box.end) // 2


def test_go_opens_the_checkpoint_with_the_published_key(demo: Played, check: Checker) -> None:
    left = demo.home / "var/demo"
    vkey = (left / "log.vkey").read_text().strip()
    (answer,) = check([{"vkey": vkey, "note": (left / "checkpoint").read_bytes()}])
    assert answer["origin"] == "countersign.local/log"
    assert answer["size"] > 10


def test_the_command_line_says_the_same_of_the_clip_without_a_server(demo: Played) -> None:
    done = demo.countersign("verify", "var/demo/clip.mp4", "--json")
    verdict = json.loads(done.stdout)
    found = (verdict["manifest_trusted"], verdict["asset_bound"], verdict["released"])
    assert (done.returncode, *found) == (1, True, True, True), done.stderr  # withdrawn
    assert (verdict["recovered_via"], verdict["consent_now"]) == ("embedded", "withdrawn")
    stripped = json.loads(demo.countersign("verify", "var/demo/clip-stripped.mp4", "--json").stdout)
    assert (stripped["recovered_via"], stripped["manifest_trusted"]) == ("watermark", False)
    assert stripped["video_id"] == verdict["video_id"]


def test_the_command_line_lists_and_proves_every_use(demo: Played) -> None:
    cast = json.loads((demo.home / "var/countersign/demo/cast.json").read_text())
    ((_, cameo_id),) = cast["people"].values()
    done = demo.countersign("audit", "uses", "--cameo", cameo_id)
    assert done.returncode == 0, done.stderr
    kinds = [line.split()[2] for line in done.stdout.splitlines()[:-1]]
    assert kinds.count("allowed") == kinds.count("released") == kinds.count("revoked") == 2
    assert "refused" in kinds


def test_the_proof_it_leaves_is_checked_with_the_command_it_names_and_nothing_else_of_ours(
    demo: Played, tmp_path: Path
) -> None:
    (named,) = re.findall(r"countersign (audit verify \S+)", " ".join(demo.again.split()))
    left = demo.home / "var/demo"
    key = (left / "log.vkey").read_text().strip()
    elsewhere = replace(demo, home=tmp_path)
    shutil.copytree(left, tmp_path / "var/demo")
    trust = ("--log-key", key, "--memory", "seen.json")
    done = elsewhere.countersign(*named.split(), *trust)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "proven      this is everything the log countersign.local/log holds" in done.stdout
    assert "uses allowed: 2, each under a grant its owner signed" in done.stdout
    assert not (tmp_path / "var/countersign").exists()
    proof = tmp_path / named.split()[-1]
    bundle = json.loads(proof.read_text())
    bundle["records"].pop()
    proof.write_text(json.dumps(bundle))
    done = elsewhere.countersign(*named.split(), *trust)
    assert (done.returncode, done.stdout.split(":")[0]) == (1, "NOT PROVEN")


def test_the_contact_sheet_shows_a_moving_picture(demo: Played) -> None:
    sheet = np.asarray(Image.open(demo.home / "var/demo/contact-sheet.png"), dtype=float)
    width = 480
    first, last = sheet[20:250, 20:480], sheet[20:250, 20 + 2 * (width + 10) : 480 + 2 * (width + 10)]
    assert first.std() > 10
    assert np.abs(first - last).mean() > 1
