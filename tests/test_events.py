"""An app is told of what happens to its clips and grants, in the transaction in which it happens."""

import json
from datetime import timedelta
from typing import Any

import pytest

from ledger.consent.registry import erase, revoke
from ledger.ids import AppId, new_id
from ledger.store.records import Webhook
from ledger.store.transaction import Transaction
from safety.gate import Denied
from studio import Studio
from world import World, zulu


@pytest.fixture
def studio(world: World) -> Studio:
    return Studio(world)


def listening(world: World) -> tuple[AppId, str]:
    """An app, and its endpoint."""
    app, endpoint = world.app(), new_id("webhook")
    webhook = Webhook(endpoint, app, "https://app.example/hook", int(world.at.timestamp()))
    world.ledger.transact(lambda tx: tx.add_webhook(webhook, b"s" * 32))
    return app, endpoint


def told(world: World, endpoint: str) -> list[tuple[str, dict[str, Any]]]:
    """Type and data of every event, in no particular order."""
    with world.ledger.reading() as tx:
        events = [json.loads(one.payload) for one in tx.deliveries(endpoint)]
    return sorted(((event["type"], event["data"]) for event in events), key=str)


def test_a_clip_s_life_is_told_to_its_app_and_to_no_other(studio: Studio, world: World) -> None:
    (app, endpoint), (_, elsewhere) = listening(world), listening(world)
    ada = world.enrol()
    grant = world.grant(ada, app, approval="before_release", max_uses=9)
    kept, refused = studio.waiting(app, ada), studio.waiting(app, ada)
    until = zulu(world.at + timedelta(days=7))
    studio.say(kept, ada, "approve")
    studio.say(refused, ada, "refuse")
    assert told(world, endpoint) == sorted(
        [
            ("grant.created", {"grant_id": grant, "cameo_id": ada.cameo_id}),
            ("video.awaiting_approval", {"video_id": kept, "until": until}),
            ("video.awaiting_approval", {"video_id": refused, "until": until}),
            ("video.completed", {"video_id": kept}),
            ("video.failed", {"video_id": refused, "reasons": ["approval.refused"]}),
        ],
        key=str,
    )
    assert told(world, elsewhere) == []


@pytest.mark.parametrize("effect", ["stop_new", "withdraw_all"])
def test_a_revocation_tells_of_the_grant_and_of_everything_it_withdraws(
    studio: Studio, world: World, effect: Any
) -> None:
    (app, endpoint), (other, elsewhere) = listening(world), listening(world)
    ada = world.enrol()
    first = world.grant(ada, app, audience="everyone", max_uses=3)
    second = world.grant(ada, other, actions=["remix"], audience="everyone")
    above, deleted = studio.out(app, ada, audience="everyone"), studio.out(app, ada)
    world.ledger.transact(lambda tx: tx.delete_video(deleted, at=world.at))
    running = world.allow(app, ada).permit.video
    below = studio.out(other, ada, action="remix", parent=above, audience="everyone")
    before = told(world, endpoint), told(world, elsewhere)
    for _ in range(2):  # once, however often it is sent
        revoke(world.ledger, ada.person_id, first, effect, at=world.at)
    new = [one for one in told(world, endpoint) if one not in before[0]]
    withdrawn = [("video.withdrawn", {"video_id": above})] if effect == "withdraw_all" else []
    assert new == sorted(
        [
            ("grant.revoked", {"grant_id": first, "cameo_id": ada.cameo_id, "effect": effect}),
            ("video.failed", {"video_id": running, "reasons": ["consent.revoked"]}),
            *withdrawn,
        ],
        key=str,
    )
    # Another app is told of its own clip, and nothing of a grant that is not its own.
    new = [one for one in told(world, elsewhere) if one not in before[1]]
    assert new == ([("video.withdrawn", {"video_id": below})] if effect == "withdraw_all" else [])
    with world.ledger.reading() as tx:
        assert tx.standing(ada.person_id).grants[second].revoked_index is None


def test_an_erasure_withdraws_what_is_out(studio: Studio, world: World) -> None:
    app, endpoint = listening(world)
    ada = world.enrol()
    world.grant(ada, app)
    out = studio.out(app, ada)
    erase(world.ledger, ada.person_id, ada.cameo_id, at=world.at)
    assert ("video.withdrawn", {"video_id": out}) in told(world, endpoint)


def test_what_did_not_happen_is_not_told(studio: Studio, world: World) -> None:
    app, endpoint = listening(world)
    ada = world.enrol()
    grant = world.grant(ada, app, max_uses=1)
    clip = studio.make(app, ada)
    answer = world.gate.decide(world.request(app, ada), at=world.at)
    assert isinstance(answer, Denied)  # the app was answered, which is enough

    def ended_and_then_not(tx: Transaction) -> None:
        tx.end_job(clip.permit.video, "render", [REASON], at=world.at)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        world.ledger.transact(ended_and_then_not)
    assert told(world, endpoint) == [("grant.created", {"grant_id": grant, "cameo_id": ada.cameo_id})]


REASON = {"id": "x", "reason": "it stopped", "remedy": "try again"}
