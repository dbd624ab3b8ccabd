"""How often something may be tried before anybody is known: by one address, or against one account.

Counts lie in the database, so every process of the service counts together, and are gone when their time is over.
"""

from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from litestar import Request

from gateway.problems import Problem
from gateway.service import Service
from ledger.reasons import Reason
from ledger.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Limit:
    """`times` within `span_s` seconds, which begin with the first."""

    name: str
    times: int
    span_s: int


def sign_ins(service: Service) -> Limit:
    return Limit("sign_in", service.settings.sign_ins_per_address, 300)


def failures(service: Service) -> Limit:
    return Limit("sign_in_failed", service.settings.failures_per_account, 300)


def accounts(service: Service) -> Limit:
    return Limit("account", service.settings.accounts_per_address, 3600)


def recoveries(service: Service) -> Limit:
    return Limit("recovery", service.settings.recoveries_per_address, 3600)


def attempt(service: Service, limit: Limit, who: str) -> None:
    """Count one attempt. Raises 429 `access.throttled` when there were too many; those no longer count."""
    at = service.clock()
    with service.ledger.reading() as tx:
        refuse(tx, limit, who, at=at)
    name = f"{limit.name}/{who}"
    if service.ledger.transact(lambda tx: tx.count(name, at=at, life_s=limit.span_s)) > limit.times:
        raise throttled(limit)


def refuse(tx: Transaction, limit: Limit, who: str, *, at: datetime) -> None:
    """Raises 429 when there were too many already."""
    if tx.tally(f"{limit.name}/{who}", at=at) >= limit.times:
        raise throttled(limit)


def throttled(limit: Limit) -> Problem:
    minutes = limit.span_s // 60
    return Problem(
        429,
        Reason(
            "access.throttled",
            "this was tried too often",
            f"wait for up to {minutes} minutes, then try again",
        ),
        headers={"retry-after": str(limit.span_s)},
    )


def address(request: Request[Any, Any, Any], service: Service) -> str:
    """Where a request comes from: an IPv4 address, or the /64 that an IPv6 address is one of so many in.

    A proxy appends the address it saw to `X-Forwarded-For`; what stands before those of our own proxies anyone may
    have written.
    """
    seen = request.client.host if request.client is not None else ""
    trusted = service.settings.proxies
    if trusted:
        # A proxy may add a line of its own instead: all of them are one list (RFC 9110 §5.3), and the last is ours.
        lines = request.headers.getall("x-forwarded-for", [])
        said = [one.strip() for line in lines for one in line.split(",")]
        seen = said[-trusted] if len(said) >= trusted else seen
    try:
        found = ip_address(seen)
    except ValueError:
        return "unknown"
    if isinstance(found, IPv6Address):
        # A socket for both writes IPv4 as `::ffff:…`: in one /64 all of the internet would be one address.
        return str(found.ipv4_mapped or ip_network(f"{found}/64", strict=False))
    return str(found)
