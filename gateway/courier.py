"""Delivering events to apps, signed, again and again until they are taken (Standard Webhooks 1.0.0).

Headers `webhook-id` (the event's, the same at every attempt), `webhook-timestamp`, `webhook-signature` (`v1`,
HMAC-SHA256). An answer of 2xx within ten seconds takes the event; 410 disables the endpoint; everything else is
tried again on the schedule the specification suggests, with jitter, and after the last attempt disables it too.

Where an app sends us is its own choice, so it is not trusted (server-side request forgery): https only, the name
is looked up for each delivery, every address found must be a public one, and the connection goes to the very
address that was checked, under a certificate for the name. Redirects are answers like any other, and not
followed. Of the answer nothing but the status is read.
"""

import logging
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import httpcore
from standardwebhooks.webhooks import Webhook as Signer

from ledger.errors import LedgerError
from ledger.log.sequencer import Ledger
from ledger.store.outbox import Claimed
from ledger.store.transaction import Transaction

TIMEOUT_S = 10.0
AFTER_S = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""How long after each failed attempt the next one follows; the specification's suggestion."""
JITTER = 10
"""At most this many percent later, so that what failed together does not come back together."""
CLAIM_S = 120
"""How long an attempt is ours. Whoever died in it is followed by another process after that."""
AT_ONCE = 8
POLL_S = 0.5
KEPT_DAYS = 30
_log = logging.getLogger(__name__)

Address = IPv4Address | IPv6Address
_NOT_PUBLIC = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "168.63.129.16/32",  # Azure's own services, at an address that looks like anybody's
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/3",  # multicast, reserved, broadcast
        ),
    )
)
"""IPv4 that is nobody's on the internet: IANA's special-purpose registry, and what clouds use for themselves."""
_PUBLIC_6 = ip_network("2000::/3")
_NOT_PUBLIC_6 = tuple(
    map(
        ip_network,
        # Teredo, ORCHID and the like, documentation, 6to4, documentation: they hide another address, or nobody.
        ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
)


class NotPublic(Exception):  # noqa: N818 — names the state
    """The name leads to an address that is not on the public internet."""


def is_public(address: Address) -> bool:
    """Whether an address is somebody's on the internet. IPv6 that carries an IPv4 address never is."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC)
    return address in _PUBLIC_6 and not any(address in network for network in _NOT_PUBLIC_6)


def checked(found: Iterable[str], *, to_private: bool) -> str:
    """The first of a name's addresses, if all of them may be connected to. Raises NotPublic."""
    # A scope (`fe80::1%eth0`) says which of our own networks: with one, no address is public.
    addresses = [ip_address(one) for one in found]
    if not addresses or not (to_private or all(map(is_public, addresses))):
        raise NotPublic
    return str(addresses[0])


def send(url: str, body: bytes, headers: dict[str, str], *, to_private: bool = False) -> str:
    """POST, and say in a word what became of it: the answer's status, or why there was none."""
    deadline = time.monotonic() + TIMEOUT_S
    door = _Door(deadline, to_private=to_private)
    try:
        with (
            httpcore.ConnectionPool(ssl_context=ssl.create_default_context(), network_backend=door) as pool,
            pool.stream("POST", url, headers=list(headers.items()), content=body) as answer,
        ):
            return str(answer.status)
    except NotPublic:
        return "address_not_public"
    except httpcore.TimeoutException:
        return "timeout"
    except (httpcore.NetworkError, OSError):
        return "unreachable"
    except (httpcore.ProtocolError, httpcore.UnsupportedProtocol, ValueError):
        return "not_http"


class _Door(httpcore.NetworkBackend):
    """Connects to the address that was checked, and to no other; all within one deadline."""

    def __init__(self, deadline: float, *, to_private: bool) -> None:
        self._deadline, self._to_private = deadline, to_private
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.NetworkStream:
        del timeout, local_address, socket_options
        found = (str(one[4][0]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        address = checked(found, to_private=self._to_private)
        stream = self._sockets.connect_tcp(address, port, timeout=_left(self._deadline))
        return _Stream(stream, self._deadline)


class _Stream(httpcore.NetworkStream):
    """A connection with one deadline for everything, so that no peer can hold it open byte by byte."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        del timeout
        return self._stream.read(max_bytes, timeout=_left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        del timeout
        self._stream.write(buffer, timeout=_left(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        del timeout
        secured = self._stream.start_tls(ssl_context, server_hostname, timeout=_left(self._deadline))
        return _Stream(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout
    return left


class Courier:
    """Delivers what is due, several endpoints at a time, each one event at a time. Safe beside other processes."""

    def __init__(
        self,
        ledger: Ledger,
        clock: Callable[[], datetime],
        *,
        to_private: bool = False,
        send: Callable[..., str] = send,
    ) -> None:
        self._ledger, self._clock, self._to_private, self._send = ledger, clock, to_private, send
        self._busy: set[str] = set()
        self._lock, self._wake, self._ended = threading.Lock(), threading.Event(), False

    def run(self) -> None:
        """Deliver until :meth:`close`."""
        forgotten = 0.0
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="courier") as pool:
            while not self._ended:
                self._wake.clear()
                try:
                    for claimed in self.claim():
                        pool.submit(self.deliver, claimed)
                    if time.monotonic() - forgotten > 3600:
                        self._forget()
                        forgotten = time.monotonic()
                except LedgerError:
                    _log.warning("events cannot be delivered now", exc_info=True)
                    time.sleep(POLL_S)
                self._wake.wait(POLL_S)

    def close(self) -> None:
        self._ended = True
        self._wake.set()

    def claim(self) -> list[Claimed]:
        """One event for each endpoint that has one due and is not busy, as many as there is room for."""
        at = self._clock()
        with self._lock:
            busy = set(self._busy)
        if len(busy) >= AT_ONCE:
            return []
        with self._ledger.reading() as tx:
            waiting = tx.due(at=at, busy=busy, limit=AT_ONCE - len(busy))
        if not waiting:
            return []
        until = at + timedelta(seconds=CLAIM_S)
        # Under the one write lock, where it is looked at again: two processes never claim the same.
        found = self._ledger.transact(lambda tx: [tx.claim(one, at=at, until=until) for one in waiting])
        claimed = [one for one in found if one is not None]
        with self._lock:
            self._busy.update(one.webhook.id for one in claimed)
        return claimed

    def deliver(self, claimed: Claimed) -> None:
        """One attempt, and what follows from it."""
        try:
            at, delivery = self._clock(), claimed.delivery
            headers = signed_headers(claimed, at=at)
            status = self._send(
                claimed.webhook.url, delivery.payload.encode(), headers, to_private=self._to_private
            )
            self._settle(claimed, status)
        except LedgerError:
            # What the app may have taken is delivered once more when the claim is over, under the same id.
            _log.warning("what became of an event could not be recorded", exc_info=True)
        except Exception:  # noqa: BLE001 — one event's fault must not silence the thread; its claim runs out
            _log.exception("an event could not be delivered")
        finally:
            with self._lock:
                self._busy.discard(claimed.webhook.id)
            self._wake.set()

    def _settle(self, claimed: Claimed, status: str) -> None:
        at, delivery = self._clock(), claimed.delivery
        taken = len(status) == 3 and status.startswith("2")
        retry = None if taken or status == "410" else next_attempt(delivery.attempts, at=at)

        def operation(tx: Transaction) -> None:
            tx.settle(delivery, status, delivered_at=at if taken else None, next_at=retry)
            if not taken and retry is None:
                tx.disable_webhook(delivery.webhook_id, at=at)

        self._ledger.transact(operation)

    def _forget(self) -> None:
        before = self._clock() - timedelta(days=KEPT_DAYS)
        self._ledger.transact(lambda tx: tx.forget_deliveries(before=before))


def signed_headers(claimed: Claimed, *, at: datetime) -> dict[str, str]:
    """The specification's three headers; the timestamp is the attempt's, not the event's."""
    moment, delivery = at.astimezone(UTC), claimed.delivery
    return {
        "content-type": "application/json",
        "user-agent": "countersign",
        "webhook-id": delivery.id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Signer(claimed.secret).sign(delivery.id, moment, delivery.payload),
    }


def next_attempt(attempts: int, *, at: datetime) -> datetime | None:
    """When to try again after so many attempts; None when that was the last."""
    if attempts > len(AFTER_S):
        return None
    after = AFTER_S[attempts - 1]
    late = secrets.randbelow(after * 10 * JITTER + 1) / 1000
    return at + timedelta(seconds=after + late)


@contextmanager
def delivering(ledger: Ledger, clock: Callable[[], datetime], *, to_private: bool) -> Iterator[None]:
    """A thread that delivers, while the block runs; attempts in flight end with it."""
    courier = Courier(ledger, clock, to_private=to_private)
    thread = threading.Thread(target=courier.run, name="courier", daemon=True)
    thread.start()
    try:
        yield
    finally:
        courier.close()
        thread.join()
