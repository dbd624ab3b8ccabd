"""Where a request comes from, as far as it can be believed."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from litestar import Request

from gateway import throttle
from gateway.settings import Settings

OURS = "10.0.0.1"


def address(*lines: str, proxies: int = 1, seen: str = OURS) -> str:
    scope: Any = {
        "type": "http",
        "headers": [(b"x-forwarded-for", line.encode()) for line in lines],
        "client": (seen, 1),
    }
    service = SimpleNamespace(settings=Settings(proxies=proxies))
    return throttle.address(Request[Any, Any, Any](scope), cast("Any", service))


@pytest.mark.parametrize(
    ("lines", "proxies", "found"),
    [
        pytest.param(["192.0.2.1, 198.51.100.7"], 1, "198.51.100.7", id="appended to the line"),
        pytest.param(["192.0.2.1", "198.51.100.7"], 1, "198.51.100.7", id="a line of its own"),
        pytest.param(["192.0.2.1", "198.51.100.7, 10.0.0.2"], 2, "198.51.100.7", id="two proxies"),
        pytest.param([], 1, OURS, id="no word of a proxy"),
        pytest.param(["192.0.2.1"], 0, OURS, id="no proxy of ours"),
    ],
)
def test_nobody_chooses_their_own_address(lines: list[str], proxies: int, found: str) -> None:
    assert address(*lines, proxies=proxies) == found


def test_two_ipv4_clients_of_one_socket_are_two() -> None:
    assert address(proxies=0, seen="::ffff:192.0.2.1") == "192.0.2.1"
    assert address(proxies=0, seen="2001:db8:1:2:3::4") == "2001:db8:1:2::/64"
