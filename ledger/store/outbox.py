"""What apps are told: their endpoints, and the events that wait to be delivered to them.

A transactional outbox: an event is written in the transaction of what it tells of, so it is told of exactly what
happened, and survives a crash. Whoever delivers *claims* an event first, for a while; who claimed it and died has
it taken over by the next once the time is over. So an event is delivered at least once, under an id that stays.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from datetime import datetime
from math import ceil
from typing import Any, NamedTuple

from sqlalchemy import delete, func, update
from sqlmodel import col, select

from ledger.canonical import canonical
from ledger.consent.grant import zulu
from ledger.ids import new_id
from ledger.keys import seal, unseal
from ledger.store import tables
from ledger.store.journal import Journal
from ledger.store.records import Delivery, Webhook, copied


class Claimed(NamedTuple):
    """An event that is ours to deliver now, where to, and the secret to sign it with."""

    delivery: Delivery
    webhook: Webhook
    secret: bytes


class Outbox(Journal):
    """Endpoints and events, beside the journal."""

    def add_webhook(self, webhook: Webhook, secret: bytes) -> None:
        """A new endpoint; its secret is sealed under the app's key."""
        sealed = seal(self.held(webhook.app_id).key, secret, context=_context(webhook.id))
        self.session.add(tables.Webhook(**asdict(webhook), secret=sealed))
        self.session.flush()

    def webhooks(self, app_id: str) -> list[Webhook]:
        """An app's endpoints, oldest first."""
        row = tables.Webhook
        query = select(row).where(row.app_id == app_id).order_by(col(row.created_at), row.id)
        return [copied(Webhook, found) for found in self.session.exec(query)]

    def webhook(self, webhook_id: str) -> Webhook | None:
        row = self.session.get(tables.Webhook, webhook_id)
        return copied(Webhook, row)

    def remove_webhook(self, webhook_id: str) -> None:
        """Forget an endpoint, and everything that waits for it."""
        row = tables.Delivery
        self.session.exec(delete(row).where(col(row.webhook_id) == webhook_id))
        self.session.exec(delete(tables.Webhook).where(col(tables.Webhook.id) == webhook_id))

    def disable_webhook(self, webhook_id: str, *, at: datetime) -> None:
        """Deliver nothing to an endpoint any more: neither what waits for it, nor what is yet to happen."""
        row = self.session.get(tables.Webhook, webhook_id)
        if row is not None and row.disabled_at is None:
            row.disabled_at = int(at.timestamp())
            self.session.add(row)
        waiting = update(tables.Delivery).where(col(tables.Delivery.webhook_id) == webhook_id)
        self.session.exec(waiting.values(next_at=None))

    def event(self, app_id: str, kind: str, data: Mapping[str, Any], *, at: datetime) -> None:
        """Tell an app, at each of its live endpoints, that something happened.

        `data` holds only what the app knows or may ask for: ids of its videos and of grants to it, ids of reasons.
        """
        live = [one.id for one in self.webhooks(app_id) if one.disabled_at is None]
        if live:
            self.event_to(live, kind, data, at=at)

    def event_to(
        self, webhook_ids: Collection[str], kind: str, data: Mapping[str, Any], *, at: datetime
    ) -> str:
        """One event for these endpoints; its id is the same at each of them."""
        event_id, now = new_id("event"), int(at.timestamp())
        payload = canonical({"type": kind, "timestamp": zulu(at), "data": json.loads(canonical(data))})
        for webhook_id in webhook_ids:
            self.session.add(
                tables.Delivery(
                    id=event_id,
                    webhook_id=webhook_id,
                    type=kind,
                    payload=payload.decode(),
                    created_at=now,
                    next_at=now,
                )
            )
        self.session.flush()
        return event_id

    def deliveries(self, webhook_id: str, *, limit: int = 100) -> list[Delivery]:
        """An endpoint's events, newest first."""
        row = tables.Delivery
        query = select(row).where(row.webhook_id == webhook_id)
        query = query.order_by(col(row.created_at).desc(), row.id).limit(limit)
        return [copied(Delivery, found) for found in self.session.exec(query)]

    def due(self, *, at: datetime, busy: Collection[str], limit: int) -> list[str]:
        """The endpoints for which an event is due, but those that are `busy`: whoever waited longest first."""
        row, now = tables.Delivery, int(at.timestamp())
        query = select(row.webhook_id).where(col(row.next_at) <= now)
        if busy:
            query = query.where(col(row.webhook_id).not_in(busy))
        query = query.group_by(col(row.webhook_id)).order_by(func.min(row.next_at)).limit(limit)
        return list(self.session.exec(query))

    def claim(self, webhook_id: str, *, at: datetime, until: datetime) -> Claimed | None:
        """Take the event that is due at an endpoint, as nobody else can before `until`. It counts as an attempt."""
        row, hook = tables.Delivery, self.session.get(tables.Webhook, webhook_id)
        query = select(row).where(row.webhook_id == webhook_id, col(row.next_at) <= int(at.timestamp()))
        found = self.session.exec(query.order_by(col(row.next_at), row.id).limit(1)).first()
        if found is None or hook is None or hook.disabled_at is not None:
            return None
        found.attempts += 1
        found.next_at = int(until.timestamp())
        self.session.add(found)
        self.session.flush()
        secret = unseal(self.held(hook.app_id).key, hook.secret, context=_context(hook.id))
        return Claimed(copied(Delivery, found), copied(Webhook, hook), secret)

    def settle(
        self, delivery: Delivery, status: str, *, delivered_at: datetime | None, next_at: datetime | None
    ) -> None:
        """What became of an attempt: delivered, to be tried again, or (neither) given up.

        The word of somebody whose claim ran out, and was taken over, changes nothing.
        """
        row = self.session.get(tables.Delivery, (delivery.id, delivery.webhook_id))
        if row is None or row.attempts != delivery.attempts or row.delivered_at is not None:
            return
        row.last_status = status
        row.delivered_at = int(delivered_at.timestamp()) if delivered_at else None
        # None also where the endpoint was disabled meanwhile: then this waits for nothing any more.
        # Never early: whoever failed was promised at least this long.
        row.next_at = ceil(next_at.timestamp()) if next_at and row.next_at is not None else None
        self.session.add(row)

    def forget_deliveries(self, *, before: datetime) -> None:
        """Events older than this that wait for nothing any more."""
        row = tables.Delivery
        old = col(row.created_at) < int(before.timestamp())
        self.session.exec(delete(row).where(old, col(row.next_at).is_(None)))


def _context(webhook_id: str) -> str:
    return f"webhook/{webhook_id}"
