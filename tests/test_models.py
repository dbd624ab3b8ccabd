"""Model files: only those that are what they should be are loaded, and what is missing is said."""

from dataclasses import replace
from pathlib import Path

import pytest

from safety import models
from safety.errors import CheckUnavailable


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
