"""A picture sent with a request counts beside its words: what it shows, what stands in it, and whether it is listed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage import data as _samples

from ledger.ids import VideoId
from safety import faces, frames, known_bad, pdq, sent, writing
from safety.frames import Shown
from safety.hash_lists import read
from safety.policy.facts import filled_scores
from safety.prompt import CATEGORIES, Screening
from safety.writing import Written
from test_activation import Ruled, opened
from test_known_bad import KEY, lines
from test_replay import redone
from world import ORIGIN

SAMPLES: Any = _samples
PICTURE = np.full((64, 64, 3), 90, np.uint8)


def screening(**scores: int) -> Screening:
    return Screening("test/1", filled_scores({**dict.fromkeys(CATEGORIES, 0), **scores}), frozenset(), "", ())


@pytest.fixture
def ruled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ruled]:
    """Innocent words, and a picture in which there is nothing yet."""
    monkeypatch.setattr("safety.gate.screen", lambda _: screening(sexual=20))
    monkeypatch.setattr("safety.replay.screen", lambda _: screening(sexual=20))
    monkeypatch.setattr(faces, "search", lambda pictures: [() for _ in pictures])
    monkeypatch.setattr(frames, "look", lambda *_: Shown())
    monkeypatch.setattr(writing, "read", lambda *_: Written())
    world = opened(tmp_path)
    yield world
    world.ledger.close()


def decided(world: Ruled, **changes: Any) -> tuple[VideoId, Any]:
    app = world.app()
    request = world.request(app, **{"reference": PICTURE, **changes})
    world.gate.decide(request, at=world.at)
    return request.video_id, world.entries(app, "decision")[-1].body


def test_an_explicit_picture_beside_innocent_words_is_refused(
    ruled: Ruled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "look", lambda *_: Shown({"sexual": 930}))
    video, body = decided(ruled)
    assert (body["allowed"], body["scores"]["sexual"]) == (False, 930)
    assert "prohibited.sexual" in body["policy_ids"]
    assert body["pictured"]["scores"]["sexual"] == 930
    assert "sexual" in body["contexts"]
    assert redone(ruled, video).differs == ()


def test_what_stands_in_a_picture_is_screened(ruled: Ruled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "read", lambda *_: Written(("words",)))
    monkeypatch.setattr("safety.clearing.screen", lambda _: screening(hate=800))
    video, body = decided(ruled)
    assert (body["allowed"], body["scores"]["hate"]) == (False, 800)
    assert redone(ruled, video).differs == ()


def test_a_child_in_a_picture_counts_as_one_in_the_words(
    ruled: Ruled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safety.gate.screen", lambda _: screening(sexual=320))
    monkeypatch.setattr(frames, "look", lambda *_: Shown(apparent_minors=1))
    _, body = decided(ruled)
    assert body["scores"]["minors"] == sent.CHILD
    assert "prohibited.sexual_minors" in body["policy_ids"]


def test_a_record_cannot_blame_a_picture_for_less_than_the_words(
    ruled: Ruled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scores decided on are the words' and the picture's; the words' are made again, and may not be lower."""
    video, body = decided(ruled)
    assert body["allowed"] is True
    assert redone(ruled, video).differs == ()
    monkeypatch.setattr("safety.replay.screen", lambda _: screening(sexual=900))
    assert "the prompt does not score as recorded" in redone(ruled, video).differs


def test_a_request_without_a_picture_is_recorded_as_before(ruled: Ruled) -> None:
    video, body = decided(ruled, reference=None)
    assert "pictured" not in body
    assert redone(ruled, video).differs == ()


def test_a_picture_on_a_list_is_refused_and_the_list_is_not_named(ruled: Ruled) -> None:
    one = pdq.plain(SAMPLES.coffee())
    assert one is not None
    ruled.ledger.transact(
        lambda tx: known_bad.put(
            tx,
            read(lines(one), category="ncii"),
            "partners",
            "ncii",
            source="an exchange",
            bits=31,
            operator="the office",
            key=KEY,
            origin=ORIGIN,
            at=ruled.at,
        )
    )
    video, body = decided(ruled, reference=np.ascontiguousarray(SAMPLES.coffee()[:, ::-1]))
    assert body["policy_ids"] == ["prohibited.known_bad"]
    assert body["facts"]["known_bad_matches"] == 1
    assert "partners" not in str(body)
    assert one.hex() not in str(body)
    assert redone(ruled, video).differs == ()
