"""One face among everyone enrolled: nobody is missed, nobody who left is found, and it is as current as the database."""

import threading
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ledger.ids import CameoId, PersonId
from ledger.store.keeping import forget_likeness
from ledger.store.transaction import Transaction
from safety import gallery as galleries
from safety.errors import CheckUnavailable
from safety.faces import Face, Likeness
from safety.gallery import FARTHEST, Gallery, Rows, limit
from safety.likeness import StoredLikeness
from world import Someone, World


@pytest.fixture(autouse=True)
def bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is used from the first rows on."""
    monkeypatch.setattr(galleries, "_PLAIN", 8)


def spread(rng: np.random.Generator, count: int, steep: float) -> NDArray[np.float64]:
    """Templates that differ more along some directions than along others, as faces do."""
    deviations = np.exp(-np.arange(128) * steep)
    rows = rng.normal(size=(count, 128)) * deviations * 0.6 / np.sqrt((deviations**2).sum())
    turned: NDArray[np.float64] = rows @ np.linalg.qr(rng.normal(size=(128, 128)))[0]
    return turned + rng.normal(0, 0.1, 128)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    steep=st.sampled_from([0.0, 0.02, 0.2, 3.0]),
    scale=st.sampled_from([1e-3, 1.0, 50.0]),
    within=st.floats(0.05, 1.2),
    moves=st.lists(st.sampled_from(["put", "drop", "again"]), max_size=30),
)
def test_the_nearest_is_that_of_a_plain_scan_whatever_came_and_went(
    seed: int, steep: float, scale: float, within: float, moves: list[str]
) -> None:
    rng = np.random.default_rng(seed)
    drawn = spread(rng, 900, steep) * scale
    rows, held = Rows(), dict[CameoId, NDArray[np.float64]]()

    def put(name: str, start: int, count: int) -> None:
        likeness = Likeness(drawn[start : start + count])
        rows.put(CameoId(name), likeness)
        held[CameoId(name)] = likeness.templates

    for number in range(60):
        put(f"cameo_{number}", 10 * number, 1 + number % 3)
    for number, move in enumerate(moves):
        name = CameoId(f"cameo_{int(rng.integers(60))}")
        if move == "drop":
            rows.drop(name)
            held.pop(name, None)
        else:
            put(name if move == "again" else f"cameo_new_{number}", 600 + 5 * number, 1 + number % 4)
        if number % 7 == 0:
            assert_same(rows, held, drawn[int(rng.integers(900))], within * scale)
    for at in (0, 11, 610):
        away = rng.normal(size=128)
        # On the edge of the limit, where rounding would tell.
        for step in (within * scale, within * scale * (1 - 1e-7), 0.0):
            assert_same(rows, held, drawn[at] + away / np.linalg.norm(away) * step, within * scale)
    assert len(rows) == sum(map(len, held.values()))


def assert_same(
    rows: Rows, held: dict[CameoId, NDArray[np.float64]], template: NDArray[np.float64], within: float
) -> None:
    nearest = min(
        (float(np.linalg.norm(theirs - template, axis=1).min()), name) for name, theirs in held.items()
    )
    hit = rows.nearest(template, within)
    if nearest[0] <= within:
        assert hit is not None
        assert hit.distance == nearest[0]
    else:
        assert hit is None


def test_no_row_within_is_ruled_out_by_the_bound() -> None:
    """Every row that a plain scan finds is among those compared in full."""
    rng = np.random.default_rng(3)
    drawn = spread(rng, 8_000, 0.05)
    rows = Rows()
    for number in range(1_000):
        rows.put(CameoId(f"cameo_{number}"), Likeness(drawn[8 * number : 8 * number + 8]))
    kept = drawn.astype(np.float32).astype(np.float64)
    ruled_out = 0
    for query in drawn[::499] + rng.normal(0, 0.02, 128):
        for within in (0.2, 0.4, 0.6, 0.8):
            true = set(np.flatnonzero(np.linalg.norm(kept - query, axis=1) <= within))
            compared = set(rows._candidates(query, within))
            assert true <= compared
            ruled_out += within == 0.4 and len(compared) < 4_000
    assert ruled_out > 10


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_a_number_is_nobody(value: float) -> None:
    rows = Rows()
    rows.put(CameoId("cameo_a"), Likeness(np.zeros((1, 128))))
    template = np.zeros(128)
    template[5] = value
    assert rows.nearest(template, 10.0) is None


def test_who_is_dropped_leaves_no_template_in_memory() -> None:
    rows = Rows()
    for number in range(20):
        rows.put(CameoId(f"cameo_{number}"), Likeness(np.full((2, 128), number / 100)))
    rows.nearest(np.zeros(128), 0.1)
    rows.drop(CameoId("cameo_7"))
    assert not (rows._kept[: rows._used] == np.float32(0.07)).any()
    assert rows.nearest(np.full(128, 0.07), 0.01) is None
    assert len(rows) == 38
    assert "0.07" not in repr(rows)


def test_the_limit_shrinks_as_the_gallery_grows() -> None:
    found = [limit(rows) for rows in (0, 1, 1_000, 10_000, 100_000, 1_000_000, 10**8)]
    assert found == sorted(found, reverse=True)
    assert found[0] == found[2] == FARTHEST
    assert found[4] == pytest.approx(0.452, abs=0.001)
    assert found[5] == pytest.approx(0.418, abs=0.001)


# ── as the database has it ────────────────────────────────────────────────────────────────────────────────


def template(axis: int) -> NDArray[np.float64]:
    row = np.zeros((1, 128))
    row[0, axis] = 1.0
    return row


def enrolled(world: World, axis: int) -> Someone:
    return world.enrol(
        likeness=StoredLikeness(Likeness(template(axis)), np.zeros((64, 64, 3), np.uint8), (8, 56, 56, 8))
    )


def face(axis: int) -> Face:
    return Face((0, 9, 9, 0), template(axis)[0] * 1.1, 1.0, 99.0, frontal=True, recognisable=True)


def whose(world: World, gallery: Gallery, axis: int, *but: CameoId) -> CameoId | None:
    with world.ledger.reading() as tx:
        return gallery.whose(tx, but=but)(face(axis))


def test_who_enrols_is_found_and_who_erases_is_not_in_every_process(world: World) -> None:
    # Two galleries over one database, as two processes hold them.
    here, there = Gallery(), Gallery()
    ada = enrolled(world, 1)
    assert whose(world, here, 1) == whose(world, there, 1) == ada.cameo_id
    assert whose(world, here, 2) is None
    bob = enrolled(world, 2)
    assert whose(world, here, 2) == whose(world, there, 2) == bob.cameo_id
    world.ledger.transact(lambda tx: tx.erase_person(ada.person_id))
    for gallery in (here, there, Gallery()):
        assert whose(world, gallery, 1) is None
        assert whose(world, gallery, 2) == bob.cameo_id
    world.ledger.transact(lambda tx: forget_likeness(tx, bob.person_id))
    for gallery in (here, there, Gallery()):
        assert whose(world, gallery, 2) is None


def test_a_likeness_that_was_destroyed_is_not_found_by_its_name_either(world: World) -> None:
    ada = enrolled(world, 1)

    def called() -> set[PersonId]:
        with world.ledger.reading() as tx:
            return tx.called(["adalovelace"])

    world.ledger.transact(lambda tx: tx.name_cameo(ada.person_id, "adalovelace"))
    assert called() == {ada.person_id}
    world.ledger.transact(lambda tx: forget_likeness(tx, ada.person_id))
    assert called() == set()
    # The account is still there, and may be renamed.
    world.ledger.transact(lambda tx: tx.name_cameo(ada.person_id, "adalovelace"))
    assert called() == set()


def test_a_face_nearest_to_somebody_who_agreed_is_nobody_else_s(world: World) -> None:
    ada, gallery = enrolled(world, 1), Gallery()
    assert whose(world, gallery, 1, ada.cameo_id) is None


def test_one_face_has_one_account(world: World) -> None:
    gallery = Gallery()
    poses = np.vstack([template(5)[0], template(1)[0] * 1.2])
    with world.ledger.reading() as tx:
        assert gallery.near(tx, Likeness(poses)) is None
    ada = enrolled(world, 1)
    with world.ledger.reading() as tx:
        assert gallery.near(tx, Likeness(poses)) == ada.cameo_id
        assert gallery.near(tx, Likeness(template(7))) is None


def test_what_cannot_be_read_answers_for_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ada, gallery = enrolled(world, 1), Gallery()
    assert whose(world, gallery, 1) == ada.cameo_id
    with world.ledger.reading() as tx:
        before = gallery.whose(tx)
    enrolled(world, 2)

    def unreadable(*_: Any) -> Likeness:
        raise CheckUnavailable("keys.wrapping", "gone", "restore it")

    with monkeypatch.context() as patched:
        patched.setattr(galleries, "templates_of", unreadable)
        for _ in range(2):
            with pytest.raises(CheckUnavailable):
                whose(world, gallery, 1)
        with pytest.raises(CheckUnavailable):
            before(face(1))
    assert whose(world, gallery, 1) == ada.cameo_id


def test_many_look_while_people_come_and_go(world: World) -> None:
    ada, gallery = enrolled(world, 1), Gallery()
    wrong: list[object] = []

    def look() -> None:
        for _ in range(20):
            found = whose(world, gallery, 1)
            if found != ada.cameo_id:
                wrong.append(found)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for axis in range(2, 12):
        someone = enrolled(world, axis)
        if axis % 2:
            world.ledger.transact(partial(Transaction.erase_person, person_id=someone.person_id))
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_gallery_is_never_printed(world: World) -> None:
    enrolled(world, 1)
    gallery = Gallery()
    whose(world, gallery, 1)
    assert repr(gallery) == "Gallery(1 rows)"
