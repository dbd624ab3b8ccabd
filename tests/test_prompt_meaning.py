"""What the network reads: the same whole numbers wherever it runs, and none at all where it can not be trusted."""

import gzip
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from safety import prompt
from safety.errors import CheckUnavailable
from safety.prompt import VERSION, meaning, normal, screen, sentence, train
from world import World

SAID = "a lighthouse on a cliff at dawn"


@pytest.fixture
def network() -> sentence.Network:
    return sentence.network()


def embedded(network: sentence.Network, text: str) -> meaning.Numbers:
    (window,) = network.windows(text)
    found: meaning.Numbers = network.embed(window[None])[0]
    return found


@pytest.mark.parametrize(
    ("text", "published"),
    # The model card of sentence-transformers/all-MiniLM-L6-v2, for "That is a happy person".
    [("That is a happy dog", 0.695), ("That is a very happy person", 0.943), ("Today is a sunny day", 0.257)],
)
def test_the_network_is_the_published_one(network: sentence.Network, text: str, published: float) -> None:
    near = embedded(network, "That is a happy person") @ embedded(network, text)
    assert near == pytest.approx(published, abs=0.02)


def test_the_numbers_do_not_depend_on_threads_or_on_what_is_read_beside(network: sentence.Network) -> None:
    windows = [
        next(network.windows(text))
        for text in (SAID, "a shipwreck on a reef at night", "a fox on a hill at noon")
    ]
    windows = [window for window in windows if len(window) == len(windows[0])]
    assert len(windows) > 1
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            found.append(np.concatenate([network.embed(window[None]) for window in windows]))
            found.append(network.embed(np.stack(windows)))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert np.abs(other - found[0]).max() < 1e-12


def test_products_of_bytes_are_exact_whichever_way_they_are_made() -> None:
    random = np.random.default_rng(0)
    rows = torch.from_numpy(random.integers(-127, 128, (20, 1536)).astype(np.int8))
    weights = torch.from_numpy(random.integers(-127, 128, (1536, 24)).astype(np.int8))
    rows[0], weights[:, 0] = 127, -127
    wanted = rows.long() @ weights.long()
    assert torch.equal(sentence._as_floats(rows, weights).long(), wanted)
    assert torch.equal(sentence._exact(rows, weights).long(), wanted)


def test_a_processor_whose_products_saturate_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "_int_mm", lambda rows, weights: (rows.int() @ weights.int()).clamp_max(32767))
    sentence._product.cache_clear()
    try:
        assert sentence._product() is sentence._as_floats
    finally:
        sentence._product.cache_clear()


def test_scores_are_of_the_version_that_the_heads_have() -> None:
    assert meaning.digest() in VERSION
    assert screen(SAID).version == VERSION


def test_what_no_word_says_is_read() -> None:
    said = "they sank onto the mattress, out of breath, every button undone"
    assert (
        screen(said).scores["sexual"]
        > screen("they sank into the sofa, out of breath, after the long hike").scores["sexual"]
    )


def test_the_end_of_a_long_prompt_is_read_too() -> None:
    calm = "the sea is calm and the boats are still. " * 60
    bad = "tell me how to synthesise a nerve agent at home without getting caught"
    assert screen(calm + bad).scores["illicit"] >= 500 > screen(calm).scores["illicit"]


# What can not be trusted --------------------------------------------------------------------------------------------


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Nothing loaded is remembered, before or after."""

    def forget() -> None:
        sentence._network.cache_clear()
        meaning.shipped.cache_clear()

    forget()
    yield
    forget()


def denied_for(world: World) -> set[str]:
    app, someone = world.app(), world.enrol()
    world.grant(someone, app)
    answer = world.gate.decide(world.request(app, someone), at=world.at)
    return {reason.id for reason in getattr(answer, "reasons", ())}


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize("kind", ["missing", "damaged", "no package"])
def test_without_its_network_the_gate_denies_and_says_so(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    if kind == "no package":
        monkeypatch.setattr(sentence, "PACKAGE", "no_such_package_here")
    else:
        shutil.copy(sentence.folder() / "tokenizer.json", tmp_path)
        if kind == "damaged":
            (tmp_path / "model.safetensors").write_bytes(b"\0" * 1000)
        monkeypatch.setattr(sentence, "folder", lambda: tmp_path)
    with pytest.raises(CheckUnavailable) as unavailable:
        screen(SAID)
    assert unavailable.value.reason.remedy
    assert "standing.classifiers" in denied_for(world)


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize(
    "spoil",
    [
        lambda held: {**held, "weights": [[float("nan")] * meaning.FEATURES] * len(meaning.JUDGED)},
        lambda held: {**held, "weights": held["weights"][1:]},
        lambda held: {**held, "judged": held["judged"][::-1]},
        lambda held: {"judged": held["judged"]},
        lambda _: None,
    ],
)
def test_damaged_heads_deny(
    spoil: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    assert callable(spoil)
    spoilt = tmp_path / "heads.json"
    spoilt.write_text(json.dumps(spoil(json.loads(meaning.HEADS.read_text()))))
    real = meaning.read
    monkeypatch.setattr(meaning, "read", lambda _: real(spoilt))
    with pytest.raises(CheckUnavailable):
        screen(SAID)
    assert "standing.classifiers" in denied_for(world)


def test_a_meaning_that_is_no_number_denies(
    network: sentence.Network, monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    monkeypatch.setattr(
        network, "embed", lambda windows: np.full((len(windows), sentence.SIZE), np.nan), raising=False
    )
    with pytest.raises(CheckUnavailable):
        screen(SAID)
    assert "standing.classifiers" in denied_for(world)


def test_the_scores_of_heads_are_whole_and_within_bounds() -> None:
    for size in (0.0, 1e6, -1e6):
        heads = meaning.Heads(
            np.full((len(meaning.JUDGED), meaning.FEATURES), size), np.zeros(len(meaning.JUDGED))
        )
        scores = meaning.scored(np.full(meaning.FEATURES, 0.1), heads)
        assert all(0 <= score <= 1000 for score in scores.tolist())


# Learning -----------------------------------------------------------------------------------------------------------

SEEDS = """
@WHO a baker|a pilot|a gardener
benign: {WHO} {sings|waits|smiles} {by the river|at home|in the rain}
benign: a {red|blue|green} {boat|kite|train} {at noon|at night}
hate: {WHO} says the {tall|short} ones are {dirt|rats} {at noon|at home|today}
sexual: {WHO} naked {by the river|at home|in the rain}
minors: a child {sings|waits|smiles} {by the river|at home|in the rain}
violence: {WHO} is stabbed to death {by the river|at home|in the rain}
self_harm: {WHO} wants to die {by the river|at home|today}
illicit: {WHO} cooks meth {by the river|at home|today}
harassment: you are a {worthless|stupid|pathetic} {baker|pilot|gardener}
impersonation: a fake video of {the mayor|the king|the pilot} {resigning|confessing|singing}
political: vote for {the mayor|the king|the pilot} {today|at noon|on sunday}
romantic: two lovers kiss {by the river|at home|in the rain}
advertising: buy this {boat|kite|train} {today|now|at noon}
"""


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[train.Known, meaning.Heads, meaning.Numbers]:
    return learn(tmp_path_factory.mktemp("data"))


def learn(folder: Path) -> tuple[train.Known, meaning.Heads, meaning.Numbers]:
    (folder / "seeds.txt").write_text(SEEDS)
    examples = train.read_seeds(folder / "seeds.txt", np.random.default_rng(1))
    known = train.prepared(examples, train.features_of([one.text for one in examples]))
    return known, *train.train(known)


@pytest.mark.slow
def test_the_same_data_give_the_same_bytes(
    learned: tuple[train.Known, meaning.Heads, meaning.Numbers], tmp_path: Path
) -> None:
    _, again, _ = learn(tmp_path)
    assert meaning.written(again) == meaning.written(learned[1])
    (tmp_path / "heads.json").write_bytes(meaning.written(again))
    read = meaning.read(tmp_path / "heads.json")
    assert np.abs(read.weights - again.weights).max() <= 0.5 / 10_000 + 1e-9


@pytest.mark.slow
def test_heads_learn_what_they_are_shown(
    learned: tuple[train.Known, meaning.Heads, meaning.Numbers],
) -> None:
    known, heads, held_out = learned
    assert all(told["auc"] > 0.9 for told in train.report(known, held_out).values())
    assert (heads.weights[:, sentence.SIZE :] >= 0).all()


def test_close_texts_are_in_one_fold_and_the_same_text_counts_once() -> None:
    apart = np.eye(4)[[0, 0, 1, 2, 2]]
    apart[4, 3] = 0.2
    apart /= np.linalg.norm(apart, axis=1, keepdims=True)
    labels = np.array([[1.0], [1.0], [1.0], [1.0], [0.0]])
    kept, group = train._apart(apart, labels)
    assert kept.tolist() == [0, 2, 3, 4]
    assert group[3] == group[4]
    assert len({group[0], group[2], group[3]}) == 3


def test_what_a_source_does_not_say_is_unknown(tmp_path: Path) -> None:
    def zipped(name: str, rows: list[dict[str, object]]) -> None:
        (tmp_path / name).write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))

    zipped(
        "text-to-image-dev.jsonl.gz",
        [
            {"text": "a boat", "label": "benign", "category": ["safe"]},
            {"text": "a boat of a brand", "label": "harmful", "category": ["copyright infringement"]},
        ],
    )
    zipped("moderation-1680.jsonl.gz", [{"prompt": "a kite", "S": 0, "S3": 1, "H": None}])
    (tmp_path / "hatecheck.csv").write_text(
        "functionality,test_case,label_gold\nx_h,a bad word,hateful\ntarget_indiv_nh,you fool,non-hateful\n"
    )
    labels = [one.labels for one in train.read_data(tmp_path)]
    assert labels[0] == dict.fromkeys(train.HARM, False)
    assert labels[1] == {}
    assert labels[2] == {"sexual": True, "minors": True}
    assert labels[3:] == [{"hate": True}, {"hate": False, "harassment": True}]


@given(st.text(st.characters(), max_size=200))
@settings(deadline=None, max_examples=100)
def test_law_undoing_disguises_never_fails_and_the_first_reading_is_the_text(text: str) -> None:
    repaired = normal.repair(text)[: normal.MAX_FOLDED]
    found = normal.read(repaired, {"word"})
    assert found.views[0] == normal.join_digits(normal.fold(repaired))
    assert all(said.isascii() for said in found.meant)


def test_the_service_can_load_everything_before_it_is_asked() -> None:
    prompt.warm()
    assert sentence._network.cache_info().currsize == 1
    assert replace(screen(SAID)) == screen(SAID)
