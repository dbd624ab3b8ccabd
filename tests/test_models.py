"""Model files: only those that are what they should be are loaded, and what is missing is said."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from command import countersign
from safety import models
from safety.errors import CheckUnavailable, InvalidInput
from safety.models import CATALOGUE, Folder


@pytest.mark.parametrize("name", models.PACKAGED)
def test_the_weights_of_every_package_are_the_ones_that_were_measured(name: str) -> None:
    path = models.packaged(name)
    found = [path] if path.is_file() else [path / file for file in models.PACKAGED[name].files]
    assert all(file.is_file() for file in found)


def carried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None) -> None:
    """The package of `open-nsfw`, with this in the place of its weights."""
    package = tmp_path / "altered_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    if content is not None:
        (package / "open-nsfw.onnx").write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    altered = replace(models.PACKAGED["open-nsfw"], package="altered_package")
    monkeypatch.setattr(models, "PACKAGED", {**models.PACKAGED, "open-nsfw": altered})
    models.packaged.cache_clear()


def test_one_changed_byte_in_a_package_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(models.packaged("open-nsfw").read_bytes())
    content[len(content) // 2] ^= 1
    carried(tmp_path, monkeypatch, bytes(content))
    with pytest.raises(CheckUnavailable) as caught:
        models.packaged("open-nsfw")
    assert caught.value.reason.id == "models.altered"


def test_weights_that_are_gone_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    carried(tmp_path, monkeypatch, None)
    with pytest.raises(CheckUnavailable) as caught:
        models.packaged("open-nsfw")
    assert caught.value.reason.id == "models.missing"


def test_a_package_that_is_not_installed_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = replace(models.PACKAGED["open-nsfw"], package="no_such_package_here")
    monkeypatch.setattr(models, "PACKAGED", {"open-nsfw": gone})
    models.packaged.cache_clear()
    with pytest.raises(CheckUnavailable) as caught:
        models.packaged("open-nsfw")
    assert caught.value.reason.id == "models.missing"


@pytest.fixture(autouse=True)
def _forgotten() -> None:
    models.packaged.cache_clear()


# What an operator adds --------------------------------------------------------------------------------------------

UNPINNED = "laion-clip-vit-b-32"
PINNED = "clip-vit-b-32"
WEIGHTS = bytes(range(256)) * 40
HASH = sha256(WEIGHTS).hexdigest()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "published" / "weights.safetensors"
    path.parent.mkdir()
    path.write_bytes(WEIGHTS)
    return path


def refused(folder: Folder, name: str, file: Path, sha: str = "") -> str:
    before = sorted(path.name for path in folder.path.glob("*"))
    with pytest.raises(InvalidInput) as caught:
        folder.add(name, file, sha256=sha)
    assert sorted(path.name for path in folder.path.glob("*")) == before, "something was left behind"
    return caught.value.reason.id


def test_weights_are_added_by_the_hash_their_publisher_states(weights: Path, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "models")
    assert folder.chosen() is None
    added = folder.add(UNPINNED, weights, sha256=HASH.upper())
    assert folder.chosen() == added
    assert added.verified().read_bytes() == WEIGHTS
    assert sorted(path.name for path in folder.path.iterdir()) == [f"{HASH}.safetensors", f"{UNPINNED}.json"]


def test_nothing_is_added_that_is_not_what_was_announced(weights: Path, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "models")
    assert refused(folder, UNPINNED, weights) == "models.unpinned"
    assert refused(folder, UNPINNED, weights, "0" * 64) == "models.hash"
    assert refused(folder, UNPINNED, weights, HASH[:-1]) == "models.hash"
    # Its hash is known: another one given beside another file does not replace it.
    assert refused(folder, PINNED, weights) == "models.hash"
    assert refused(folder, PINNED, weights, HASH) == "models.hash"
    assert refused(folder, "../../somewhere", weights, HASH) == "models.unknown"
    pickled = weights.rename(weights.with_suffix(".pkl"))
    assert refused(folder, UNPINNED, pickled, HASH) == "models.form"
    assert folder.chosen() is None


def test_other_weights_take_the_place_of_those_before(weights: Path, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "models")
    first = folder.add(UNPINNED, weights, sha256=HASH)
    weights.write_bytes(WEIGHTS[1:])
    second = folder.add(UNPINNED, weights, sha256=sha256(WEIGHTS[1:]).hexdigest())
    assert folder.chosen() == second
    assert not first.file.exists()
    assert folder.add(UNPINNED, weights, sha256=second.sha256).verified() == second.file


@pytest.mark.parametrize("change", ["gone", "altered"])
def test_added_weights_are_those_that_were_added_or_none(change: str, weights: Path, tmp_path: Path) -> None:
    added = Folder(tmp_path / "models").add(UNPINNED, weights, sha256=HASH)
    added.file.chmod(0o600)
    if change == "gone":
        added.file.unlink()
    else:
        added.file.write_bytes(WEIGHTS[:-1] + b"x")
    with pytest.raises(CheckUnavailable):
        added.verified()


def test_no_hash_is_pinned_that_its_address_does_not_state() -> None:
    """We had no weights to hash: a pin is one that the publisher wrote into the address, or there is none."""
    for known in CATALOGUE.values():
        assert not known.sha256 or known.sha256 in known.url


# The command ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("models") / "home"
    assert countersign(home, "models", "list").status == 0
    return home


@pytest.fixture
def home(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "home"))


@pytest.mark.slow
def test_list_says_what_is_missing_and_whose_clips_are_refused_for_it(home: Path, weights: Path) -> None:
    said = countersign(home, "models", "list", "--json")
    assert said.status == 0, said
    found = {one["check"]: one for one in json.loads(said.text)}
    assert {check for check, one in found.items() if not one["runs"]} == {"violence", "minors"}
    for check in ("violence", "minors"):
        assert found[check]["refused"] == []
        assert found[check]["open_refused"]
    assert countersign(home, "models", "add", UNPINNED, weights, "--sha256", HASH).status == 0
    said = countersign(home, "models", "list")
    assert said.status == 0, said
    assert "missing" not in said.text
    assert "not measured" in said.text


@pytest.mark.slow
def test_list_says_that_no_clip_passes_without_the_weights_of_a_package(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried(tmp_path, monkeypatch, None)
    said = countersign(home, "models", "list")
    assert said.status == 1
    assert "missing  nudity" in said.text
    assert "clips of countersign-reference and every model that draws of its own" in said.text
    said = countersign(home, "models", "verify")
    assert said.status == 1
    assert "WRONG  open-nsfw" in said.text


@pytest.mark.slow
def test_verify_notices_a_changed_file_that_was_added(home: Path, weights: Path) -> None:
    assert countersign(home, "models", "add", UNPINNED, weights, "--sha256", HASH).status == 0
    said = countersign(home, "models", "verify")
    assert (said.status, said.text.splitlines()[-1]) == (0, "every file is the one expected")
    file = home / "models" / f"{HASH}.safetensors"
    file.chmod(0o600)
    file.write_bytes(b"other")
    said = countersign(home, "models", "verify")
    assert said.status == 1
    assert f"WRONG  {UNPINNED}" in said.text


@pytest.fixture
def published(weights: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A publisher's address, on this machine."""
    serving = partial(SimpleHTTPRequestHandler, directory=str(weights.parent))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), serving) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        known = replace(
            CATALOGUE[PINNED],
            url=f"http://127.0.0.1:{server.server_port}/{weights.name}",
            sha256=HASH,
            most_bytes=len(WEIGHTS),
        )
        monkeypatch.setattr(models, "CATALOGUE", {**CATALOGUE, PINNED: known})
        yield weights
        server.shutdown()


def test_fetch_takes_what_lies_at_the_address_if_it_has_the_hash(published: Path, tmp_path: Path) -> None:
    said = countersign(tmp_path / "home", "models", "fetch", PINNED)
    assert said.status == 0, said
    assert HASH in said.text
    added = Folder(tmp_path / "home" / "models").chosen()
    assert added is not None
    assert added.verified().read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("content", "why"),
    [(WEIGHTS[::-1], "was expected"), (WEIGHTS + b"more", "bytes came"), (None, "not be fetched")],
)
def test_fetch_keeps_nothing_else(content: bytes | None, why: str, published: Path, tmp_path: Path) -> None:
    if content is None:
        published.unlink()
    else:
        published.write_bytes(content)
    said = countersign(tmp_path / "home", "models", "fetch", PINNED)
    assert said.status == 2
    assert why in said.text
    assert list((tmp_path / "home" / "models").glob("*")) == []


def test_fetch_asks_nobody_where_no_hash_is_known(tmp_path: Path) -> None:
    said = countersign(tmp_path / "home", "models", "fetch", UNPINNED)
    assert said.status == 2
    assert "--sha256" in said.text
