"""Clips stamped for real: label, mark, metadata and manifest, and what is refused instead of being stamped."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import av
import jsonschema
import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray
from PIL import Image

from generator.errors import StampFailed
from generator.stamp import Released, Stamper, release
from ledger.ids import AppId
from ledger.provenance import manifest, media, tsa
from ledger.provenance.label import Label, Labeller
from ledger.provenance.pki import Authority
from ledger.provenance.profiles import PROFILES, Marking
from ledger.provenance.schemas import NAMES, schema
from ledger.store.objects import Objects
from safety.chain import Cleared, Stamped, cleared, raw_clip
from validators import Opinion, opinions
from world import Someone, World, open_ledger

pytestmark = pytest.mark.slow

WIDTH, HEIGHT, FRAMES = 640, 360, 24
EVERYWHERE = Marking(profiles=("eu", "us-ca", "cn", "in"), language="de")
Frame = NDArray[np.uint8]


def film(path: Path) -> None:
    """A second of a photograph under a moving camera: something a mark can be hidden in."""
    photograph: Callable[[], Frame] = skimage.data.coffee
    wide = Image.fromarray(photograph()).resize((WIDTH + 2 * FRAMES, HEIGHT))
    picture = np.asarray(wide)
    with av.open(str(path), "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=24, options={"crf": "16", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(FRAMES):
            shot = np.ascontiguousarray(picture[:, 2 * index : 2 * index + WIDTH])
            out.mux(stream.encode(av.VideoFrame.from_ndarray(shot, format="rgb24")))
        out.mux(stream.encode())


@dataclass
class Works:
    """A ledger, an authority and a stamper: everything between a model and a download."""

    world: World
    stamper: Stamper
    app: AppId
    someone: Someone
    raw: Path
    objects: Objects = field(init=False)

    def __post_init__(self) -> None:
        self.objects = Objects.local(self.world.home / "objects")

    def cleared(self, *, raw: Path | None = None, **changes: object) -> Cleared:
        allowed = self.world.allow(self.app, self.someone, **changes)
        self.world.ledger.transact(lambda tx: tx.take_job(allowed.permit.video))
        path = raw or self.raw
        said = raw_clip(allowed, path, backend="countersign-reference", version="1", closed=True)
        return cleared(said, checks=("faces",))

    def stamp(self, clear: Cleared, parent: Path | None = None) -> Stamped:
        directory = self.world.home / clear.permit.video_id
        directory.mkdir()
        return self.stamper.stamp(clear, directory, at=self.world.at, parent=parent)

    def release(self, clip: Stamped) -> None:
        answer = release(clip, self.world.gate, self.objects, at=self.world.at)
        assert isinstance(answer, Released), answer

    def read(self, path: Path) -> manifest.ManifestFinding:
        return manifest.read(path, self.stamper.anchors())


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Works]:
    home, at = tmp_path_factory.mktemp("works"), datetime.now(UTC).replace(microsecond=0)
    ledger, keyring = open_ledger(home)
    world = World(ledger, keyring, home, at)
    authority = Authority.open(home / "pki", at=at)
    app, someone = world.app(), world.enrol()
    world.grant(someone, app, actions=["generate", "remix"], max_uses=50)
    film(home / "raw.mp4")
    with tsa.serve(authority, lambda: world.at) as url:
        stamper = Stamper(
            keyring.watermark,
            manifest.Signer(authority, url),
            lambda: authority.anchors,
            "test.example/log",
            "https://films.example",
            "Studio Süd",
        )
        yield Works(world, stamper, app, someone, home / "raw.mp4")
    ledger.close()


@pytest.fixture(scope="module")
def everywhere(works: Works) -> Stamped:
    """Released, and marked as all laws ask."""
    clip = works.stamp(works.cleared(marking=EVERYWHERE))
    works.release(clip)
    return clip


@pytest.fixture(scope="module")
def remixed(works: Works, everywhere: Stamped) -> Stamped:
    clear = works.cleared(action="remix", parent=everywhere.permit.video)
    return works.stamp(clear, everywhere.path)


def assertions(works: Works, clip: Stamped) -> dict[str, dict[str, object]]:
    report = manifest._report(clip.path, works.stamper.anchors().pem)
    assert report is not None
    active = report["manifests"][report["active_manifest"]]
    return {one["label"]: one["data"] for one in active["assertions"]}


@pytest.mark.parametrize("which", ["everywhere", "remixed"])
def test_what_is_said_is_valid_under_the_published_schemas(
    works: Works, which: str, request: pytest.FixtureRequest
) -> None:
    said = assertions(works, request.getfixturevalue(which))
    for name in NAMES:
        jsonschema.Draft202012Validator.check_schema(schema(name))
        jsonschema.Draft202012Validator(schema(name)).validate(said[f"org.countersign.{name}"])
    assert datetime.fromisoformat(str(said["org.countersign.generation"]["created"])) == works.world.at
    # A member nobody described, or one left out, is noticed.
    for changed in ({**said["org.countersign.consent"], "name": "Ada"}, {"schema": "countersign/consent/v1"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft202012Validator(schema("consent")).validate(changed)


def test_each_profile_finds_what_it_asks_for(works: Works, everywhere: Stamped) -> None:
    said = assertions(works, everywhere)["org.countersign.generation"]
    for profile in EVERYWHERE.profiles:
        assert all(said[member] not in (None, "") for member in PROFILES[profile].says), profile
    # SB 942: provider, system and version, time, unique identifier.
    assert said["provider"] == "Studio Süd"
    assert (said["system"], said["version"]) == ("countersign-reference", "1")
    assert said["id"] == everywhere.permit.video_id
    assert said["profiles"] == list(EVERYWHERE.profiles)
    assert said["visible_label"] == ["de", "zh"]


def test_chinas_key_is_in_the_file_for_any_reader_of_mp4(works: Works, everywhere: Stamped) -> None:
    with av.open(str(everywhere.path)) as container:
        said = json.loads(container.metadata["AIGC"])
    assert (said["Label"], said["ContentProducer"]) == ("1", "Studio Süd")
    assert (said["ProduceID"], said["ReservedCode1"]) == (everywhere.permit.video_id, everywhere.payload)
    assert set(said) == {
        "Label",
        "ContentProducer",
        "ProduceID",
        "ReservedCode1",
        "ContentPropagator",
        "PropagateID",
        "ReservedCode2",
    }
    # It is bound like all the rest: who changes it breaks the manifest.
    altered = everywhere.path.with_name("altered.mp4")
    altered.write_bytes(everywhere.path.read_bytes().replace(b'"Label":"1"', b'"Label":"3"'))
    assert not works.read(altered).asset_bound


def test_the_label_is_in_the_finished_picture(works: Works, everywhere: Stamped) -> None:
    label = EVERYWHERE.label
    assert label == Label(("de", "zh"), least_height=0.06)
    draw = Labeller(label, width=WIDTH, height=HEIGHT, fps=24, seconds=1)
    rows, columns = draw.plate.shape
    raw = [frame for _, frame in media.frames(works.raw)]
    for index, (_, seen) in enumerate(media.frames(everywhere.path)):
        top, left = draw.corner(index)
        where = np.s_[top : top + rows, left : left + columns]
        off = np.abs(seen[where].astype(int) - draw(raw[index], index)[where]).mean()
        without = np.abs(seen[where].astype(int) - raw[index][where]).mean()
        assert off < 12 < without


def test_a_clip_whose_label_was_lost_does_not_go_out(works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    clear = works.cleared(marking=Marking(visible_label=True))
    monkeypatch.setattr(Labeller, "__call__", lambda _self, frame, _index: frame)
    with pytest.raises(StampFailed) as caught:
        works.stamp(clear)
    assert caught.value.reason.id == "stamp.label"


def test_what_was_applied_is_in_the_ledger_and_on_every_list(works: Works, everywhere: Stamped) -> None:
    for reader in (works.app, works.someone.person_id):
        (release_entry,) = (
            one
            for one in works.world.entries(reader, "release")
            if one.body["video_id"] == everywhere.permit.video_id
        )
        assert release_entry.body["profiles"] == list(EVERYWHERE.profiles)
        assert release_entry.body["visible_label"] == ["de", "zh"]
        (decision,) = (
            one
            for one in works.world.entries(reader, "decision")
            if one.body["video_id"] == everywhere.permit.video_id
        )
        assert Marking.model_validate(decision.body["marking"]) == EVERYWHERE


def test_a_remix_keeps_what_the_first_clip_was_marked_with(remixed: Stamped, everywhere: Stamped) -> None:
    assert everywhere.permit.marking == EVERYWHERE
    assert remixed.permit.marking.profiles == EVERYWHERE.profiles


def test_a_remix_brings_its_parent_along(works: Works, remixed: Stamped, everywhere: Stamped) -> None:
    finding = works.read(remixed.path)
    assert (finding.manifest_trusted, finding.asset_bound, finding.failures) == (True, True, ())
    (parent,) = [one for one in finding.ingredients if one.relationship == "parentOf"]
    assert parent.manifest_id == everywhere.manifest_id
    likenesses = [one.id for one in parent.above]
    assert likenesses == [use.grant_id for use in everywhere.permit.uses]


def test_other_peoples_validators_accept_clip_and_remix(
    works: Works,
    everywhere: Stamped,
    remixed: Stamped,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ENCYPHER_C2PA_CONFIG_DIR", str(tmp_path))
    content, altered = bytearray(remixed.path.read_bytes()), tmp_path / "altered.mp4"
    content[next(box.end for box in media.boxes(remixed.path) if box.kind == b"mdat") - 9] ^= 1
    altered.write_bytes(content)
    clip, remix, broken = opinions([everywhere.path, remixed.path, altered], works.stamper.anchors().pem)
    for said in (clip, remix):
        assert said["encypher"] == Opinion("Trusted", True)
        assert said["wasm"] == Opinion("Trusted", True)
        assert said["ts"].sound, said["ts"]
    assert not any(one.sound for one in broken.values())


def test_the_parent_must_be_there_and_be_the_one(works: Works, everywhere: Stamped, remixed: Stamped) -> None:
    for parent, reason in ((None, "stamp.parent"), (remixed.path, "provenance.other_parent")):
        clear = works.cleared(action="remix", parent=everywhere.permit.video)
        with pytest.raises(StampFailed) as caught:
            works.stamp(clear, parent)
        assert caught.value.reason.id == reason
    undeclared = works.cleared()
    with pytest.raises(StampFailed) as caught:
        works.stamp(undeclared, everywhere.path)
    assert caught.value.reason.id == "stamp.parent"


def test_a_clip_of_ours_is_not_stamped_as_something_new(works: Works, everywhere: Stamped) -> None:
    clear = works.cleared(raw=everywhere.path)
    with pytest.raises(StampFailed) as caught:
        works.stamp(clear)
    assert caught.value.reason.id == "provenance.signed_by_us"


def test_half_a_clip_is_not_stamped(works: Works, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(works.raw.read_bytes()[:-20_000])
    clear = works.cleared(raw=cut)
    with pytest.raises(StampFailed) as caught:
        works.stamp(clear)
    assert caught.value.reason.id == "media.truncated"


def test_a_profile_that_asks_for_more_than_is_known_makes_nothing(works: Works) -> None:
    nameless = replace(works.stamper, provider="")
    clear = works.cleared(marking=Marking(profiles=("us-ca",)))
    with pytest.raises(StampFailed) as caught:
        replace(works, stamper=nameless).stamp(clear)
    assert caught.value.reason.id == "provenance.profile"
