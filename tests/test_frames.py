"""What frames show: nudity by weights of a package; violence and minors only by weights that were added."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from safety import frames, models, workers, zeroshot
from safety.errors import CheckUnavailable
from safety.faces import Picture
from safety.models import Added, Folder


def photograph(name: str) -> Picture:
    return np.ascontiguousarray(getattr(skimage.data, name)(), dtype=np.uint8)


# Nudity -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "rocket", "retina"])
def test_a_photograph_without_nudity_stays_below_what_denies_a_clip_of_a_real_person(name: str) -> None:
    assert frames.nudity(photograph(name)) < 300


def test_a_picture_full_of_bare_skin_scores_higher_than_the_photograph_it_is_cut_from() -> None:
    """The one thing near the real one that is at hand: a cheek in warm light."""
    face = photograph("astronaut")[60:180, 170:270]
    cheek = np.clip(face[55:80, 20:45] * np.array([1.15, 1, 0.8]), 0, 255).astype(np.uint8)
    assert frames.nudity(cheek) > 3 * frames.nudity(photograph("astronaut"))


def test_what_fills_one_end_of_a_wide_picture_is_seen_as_if_it_were_alone() -> None:
    cheek = np.full((180, 180, 3), (141, 85, 36), np.uint8)
    wide = np.concatenate([cheek, photograph("rocket")[:180, :460]], axis=1)
    assert frames.nudity(wide) >= frames.nudity(cheek)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 90), st.integers(1, 90))
def test_the_squares_cover_the_picture(height: int, width: int) -> None:
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = np.arange(height)[:, None] % 256
    picture[..., 1] = np.arange(width)[None] % 256
    cut = zeroshot.squares(picture)
    assert {square.size for square in cut} == {(min(height, width),) * 2}
    # The two coordinates name a pixel, within 256 of each.
    seen = np.unique(np.concatenate([np.asarray(square).reshape(-1, 3) for square in cut]), axis=0)
    assert np.array_equal(seen, np.unique(picture.reshape(-1, 3), axis=0))


@pytest.mark.parametrize(
    ("scores", "agreed"),
    [
        ([12], 12),
        ([450], 450),
        ([10, 450, 12], 12),
        ([10, 450, 340, 12], 340),
        ([10, 500, 12], 500),
        ([20, 310, 20, 310, 20], 20),
        ([310, 20, 20], 310),
        ([0, 0], 0),
    ],
)
def test_a_score_counts_where_a_neighbour_agrees_or_where_it_is_clear(scores: list[int], agreed: int) -> None:
    assert frames.agreed(scores) == agreed


@given(st.lists(st.integers(0, 1000), min_size=1))
def test_no_clear_frame_is_lost_among_the_others(scores: list[int]) -> None:
    assert frames.agreed(scores) <= max(scores)
    assert max(scores) < frames.CLEAR or frames.agreed(scores) == max(scores)


@pytest.mark.slow
def test_a_clip_is_looked_at_in_workers_and_says_what_was_not_looked_for() -> None:
    shown = frames.look([photograph("astronaut"), photograph("coffee")])
    assert shown.unchecked == {"violence", "minors"}
    assert set(shown.scores) == {"sexual"}
    assert 0 < shown.scores["sexual"] < 300


# What stops a check -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [np.nan, np.inf, -0.5, 1.5])
def test_an_answer_that_is_no_probability_is_none(answer: float, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self, _path: Path) -> None: ...

        def run(self, _names: None, given: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
            (batch,) = given.values()
            return [np.full((len(batch), 2), answer, np.float32)]

    session = models.Session(models.packaged("open-nsfw"))
    session._session = Broken(Path())
    monkeypatch.setattr(frames, "_open_nsfw", lambda: session)
    with pytest.raises(CheckUnavailable) as caught:
        frames.nudity(photograph("coffee"))
    assert caught.value.reason.id == "models.no_number"


@pytest.mark.parametrize("error", ["check.lost", "models.altered", "models.missing", "check.failed"])
def test_a_check_that_cannot_run_is_named_as_not_made(error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lost:
        def map(self, *_: object) -> list[int]:
            raise CheckUnavailable(error, "a check crashed", "try again")

    monkeypatch.setattr(workers, "shared", Lost)
    shown = frames.look([photograph("coffee")])
    assert shown.unchecked == {"nudity", "violence", "minors"}
    assert shown.scores == {}


# Compared with descriptions ---------------------------------------------------------------------------------------

SMALL = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2},
}
"""The architecture of the real ones, small. Its weights are drawn by lot: they know nothing."""
NAME = "laion-clip-vit-b-32"


class Here:
    """Workers that are this process, where the small architecture is known."""

    def map(self, function: Any, each: Any, timeout_s: float = 0) -> list[Any]:
        return [function(*args) for args in each]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights drawn by lot, in a file as their publishers write it."""
    folder = tmp_path_factory.mktemp("weights")
    (folder / "small-clip.json").write_text(json.dumps(SMALL))
    open_clip = zeroshot._open_clip()
    open_clip.add_model_config(folder / "small-clip.json")
    torch.manual_seed(7)
    net = zeroshot._unlearnt(open_clip, "small-clip")
    save_file(
        {name: tensor.contiguous() for name, tensor in net.state_dict().items()}, folder / "drawn.safetensors"
    )
    return folder / "drawn.safetensors"


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Path], Folder]:
    """Add weights of the small architecture, in the place of one whose hash nobody stated."""
    small = replace(models.CATALOGUE[NAME], architecture="small-clip")
    monkeypatch.setattr(models, "CATALOGUE", {NAME: small})
    monkeypatch.setattr(workers, "shared", Here)

    def add(weights: Path) -> Folder:
        folder = Folder(tmp_path / "models")
        folder.add(NAME, weights, sha256=models.sha256_of(weights))
        return folder

    return add


def chosen(folder: Folder) -> Added:
    model = folder.chosen()
    assert model is not None
    return model


def why_not(model: Added) -> str:
    with pytest.raises(CheckUnavailable) as caught:
        zeroshot.liken(model, photograph("coffee"))
    return caught.value.reason.id


@pytest.mark.slow
def test_weights_load_bit_for_bit_as_open_clip_itself_loads_them(
    added: Callable[[Path], Folder], drawn: Path
) -> None:
    ours, prepare = zeroshot.network("small-clip", str(chosen(added(drawn)).verified()))
    theirs, _, prepared = zeroshot._open_clip().create_model_and_transforms(
        "small-clip", pretrained=str(drawn)
    )
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor), name
    square = zeroshot.squares(photograph("coffee"))[0]
    assert torch.equal(prepare(square), prepared(square))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_the_form_the_first_weights_were_published_in_gives_the_same_tensors(
    drawn: Path, tmp_path: Path
) -> None:
    net, _ = zeroshot.network("small-clip", str(drawn))
    scripted = tmp_path / "drawn.pt"
    torch.jit.script(net).save(str(scripted))
    again, _ = zeroshot.network("small-clip", str(scripted))
    for name, tensor in net.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


@pytest.mark.slow
def test_every_concept_is_scored_once_weights_were_added(
    added: Callable[[Path], Folder], drawn: Path
) -> None:
    shown = frames.look([photograph("coffee"), photograph("astronaut")], added(drawn))
    assert shown.unchecked == frozenset()
    assert set(shown.scores) == set(zeroshot.CONCEPTS)
    assert all(type(score) is int and 0 <= score <= 1000 for score in shown.scores.values())
    assert shown.apparent_minors == int(shown.scores["minors"] >= frames.APPARENT_MINOR)


@pytest.mark.slow
def test_a_picture_is_as_much_like_a_child_as_the_model_says(
    added: Callable[[Path], Folder], drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With descriptions that are the everyday ones, as many, every concept is as likely as not."""
    monkeypatch.setattr(zeroshot, "CONCEPTS", dict.fromkeys(zeroshot.CONCEPTS, zeroshot.EVERYDAY))
    zeroshot._loaded.cache_clear()
    likened = zeroshot.liken(chosen(added(drawn)), photograph("coffee"))
    zeroshot._loaded.cache_clear()
    assert set(likened.scores.values()) == {500}


@pytest.mark.slow
def test_a_child_in_one_frame_is_one_whatever_its_neighbours_show(
    added: Callable[[Path], Folder], drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = iter([10, 320, 10])
    monkeypatch.setattr(
        zeroshot, "liken", lambda *_: zeroshot.Likened(dict.fromkeys(zeroshot.CONCEPTS, next(said)))
    )
    shown = frames.look([photograph("coffee")] * 5, added(drawn))
    assert shown.apparent_minors == 1
    assert (shown.scores["minors"], shown.scores["violence"]) == (320, 10)


@pytest.mark.slow
def test_one_changed_byte_in_added_weights_leaves_the_check_unmade(
    added: Callable[[Path], Folder], drawn: Path
) -> None:
    folder = added(drawn)
    zeroshot._loaded.cache_clear()
    file = chosen(folder).file
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.chmod(0o600)
    file.write_bytes(content)
    assert why_not(chosen(folder)) == "models.altered"
    assert frames.look([photograph("coffee")], folder).unchecked == {"violence", "minors"}


@pytest.mark.slow
def test_weights_that_give_no_numbers_leave_the_check_unmade(
    added: Callable[[Path], Folder], drawn: Path, tmp_path: Path
) -> None:
    state = load_file(drawn)
    state["visual.proj"] = torch.full_like(state["visual.proj"], torch.nan)
    save_file(state, tmp_path / "broken.safetensors")
    assert why_not(chosen(added(tmp_path / "broken.safetensors"))) == "models.no_number"


@pytest.mark.slow
def test_a_file_that_is_no_model_leaves_the_check_unmade(
    added: Callable[[Path], Folder], drawn: Path, tmp_path: Path
) -> None:
    save_file({"weights": torch.zeros(3)}, tmp_path / "other.safetensors")
    assert why_not(chosen(added(tmp_path / "other.safetensors"))) == "models.unusable"


def test_a_manifest_that_nobody_can_read_leaves_the_check_unmade(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.json").write_text(json.dumps({"name": NAME, "sha256": "../../secret"}))
    with pytest.raises(CheckUnavailable):
        Folder(tmp_path).chosen()
    assert frames._answered(lambda: frames._likened([], Folder(tmp_path)), "") == []
