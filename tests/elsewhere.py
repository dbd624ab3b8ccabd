"""A system without Landlock: whoever loads this module has none. Asked of closed workers by the tests."""

from ledger import sandbox

sandbox._LANDLOCK_CREATE = 9_999  # no such call


def answers() -> str:
    return "answered"
