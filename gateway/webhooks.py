"""`/v1/webhooks`: where an app wants to be told of what happens to its videos and the grants given to it.

The secret is shown once. What is delivered, and how, says :mod:`gateway.courier`.
"""

import secrets
from base64 import b64encode
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Annotated, Any
from urllib.parse import urlsplit

from litestar import Request, delete, get, post
from pydantic import Field

from gateway.access import JSON_BYTES, app_of
from gateway.courier import is_public
from gateway.problems import problem
from gateway.service import Service
from ledger.consent.grant import Strict, zulu
from ledger.ids import is_id, new_id
from ledger.store.records import Delivery, Webhook
from ledger.store.transaction import Transaction

Ask = Request[Any, Any, Any]
MOST = 10
"""Endpoints of one app."""
TESTS_A_MINUTE = 10


class WebhookIn(Strict):
    url: Annotated[str, Field(max_length=2000)]


@post("/v1/webhooks", status_code=201, sync_to_thread=True, request_max_body_size=JSON_BYTES)
def create_webhook(request: Ask, service: Service, data: WebhookIn) -> dict[str, Any]:
    """Be told of events at an address of yours. The answer's `secret` is shown this once; verify every event with it.

    Events are signed and retried as the Standard Webhooks specification says, and delivered at least once.
    """
    app_id, at = app_of(request, service), service.clock()
    check_url(data.url, to_private=service.settings.webhooks_to_private)
    webhook = Webhook(new_id("webhook"), app_id, data.url, int(at.timestamp()))
    secret = secrets.token_bytes(32)

    def operation(tx: Transaction) -> None:
        if len(tx.webhooks(app_id)) >= MOST:
            raise problem(
                400,
                "webhook.too_many",
                f"an app has at most `{MOST}` webhooks",
                "delete one that you do not use",
            )
        tx.add_webhook(webhook, secret)

    service.ledger.transact(operation)
    return {**_shown(webhook), "secret": f"whsec_{b64encode(secret).decode()}"}


@get("/v1/webhooks", sync_to_thread=True)
def list_webhooks(request: Ask, service: Service) -> dict[str, Any]:
    """The app's webhooks. One that is disabled gets nothing any more; create another in its place."""
    app_id = app_of(request, service)
    with service.ledger.reading() as tx:
        return {"webhooks": [_shown(one) for one in tx.webhooks(app_id)]}


@delete("/v1/webhooks/{webhook_id:str}", status_code=204, sync_to_thread=True)
def delete_webhook(request: Ask, service: Service, webhook_id: str) -> None:
    """Be told nothing more at an address, not even of what has happened already."""
    app_id = app_of(request, service)

    def operation(tx: Transaction) -> None:
        _own(tx, app_id, webhook_id)
        tx.remove_webhook(webhook_id)

    service.ledger.transact(operation)


@post("/v1/webhooks/{webhook_id:str}/test", status_code=202, sync_to_thread=True)
def test_webhook(request: Ask, service: Service, webhook_id: str) -> dict[str, Any]:
    """Send an event `webhook.test` to one webhook. 10 times a minute."""
    app_id, at = app_of(request, service), service.clock()

    def operation(tx: Transaction) -> str:
        if _own(tx, app_id, webhook_id).disabled_at is not None:
            raise problem(
                400,
                "webhook.disabled",
                "this webhook is disabled: its address did not answer",
                "create another",
            )
        if tx.count(f"webhook.test/{app_id}", at=at, life_s=60) > TESTS_A_MINUTE:
            raise problem(
                429, "webhook.tests", f"at most `{TESTS_A_MINUTE}` tests a minute", "try again in a minute"
            )
        return tx.event_to([webhook_id], "webhook.test", {"webhook_id": webhook_id}, at=at)

    return {"event_id": service.ledger.transact(operation)}


@get("/v1/webhooks/{webhook_id:str}/deliveries", sync_to_thread=True)
def list_deliveries(request: Ask, service: Service, webhook_id: str) -> dict[str, Any]:
    """The last 100 events for a webhook, newest first, and what became of each."""
    app_id = app_of(request, service)
    with service.ledger.reading() as tx:
        _own(tx, app_id, webhook_id)
        return {"deliveries": [_told(one) for one in tx.deliveries(webhook_id)]}


def check_url(url: str, *, to_private: bool) -> None:
    """That events could ever go there. Raises a 400 problem. Where a name leads is looked at on each delivery."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        plain = url.isascii() and url.isprintable() and " " not in url and "\\" not in url
        usable = (
            plain and bool(host) and parts.username is None and parts.password is None and not parts.fragment
        )
    except ValueError:
        usable, parts, host = False, urlsplit(""), ""
    if not usable or parts.scheme not in ({"https", "http"} if to_private else {"https"}):
        raise problem(
            400,
            "webhook.url",
            "the field `url` is not an https address without user and fragment",
            "send one like `https://example.com/events`; write a name in other letters as punycode",
        )
    try:
        address = ip_address(host)
    except ValueError:
        return
    if not (to_private or is_public(address)):
        raise problem(
            400,
            "webhook.address",
            f"`{host[:64]}` is not a public address",
            "use one that everybody can reach",
        )


def _own(tx: Transaction, app_id: str, webhook_id: str) -> Webhook:
    webhook = tx.webhook(webhook_id) if is_id(webhook_id, "webhook") else None
    if webhook is None or webhook.app_id != app_id:
        raise problem(404, "webhook.unknown", f"there is no webhook `{webhook_id[:40]}`", "check the id")
    return webhook


def _shown(webhook: Webhook) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "url": webhook.url,
        "created_at": _moment(webhook.created_at),
        "disabled_at": _moment(webhook.disabled_at),
    }


def _told(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "type": delivery.type,
        "created_at": _moment(delivery.created_at),
        "attempts": delivery.attempts,
        "last_status": delivery.last_status or None,
        "next_at": _moment(delivery.next_at),
        "delivered_at": _moment(delivery.delivered_at),
    }


def _moment(time: int | None) -> str | None:
    return None if time is None else zulu(datetime.fromtimestamp(time, UTC))


ROUTES = [create_webhook, list_webhooks, delete_webhook, test_webhook, list_deliveries]
