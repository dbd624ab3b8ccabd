"""Canonical JSON (RFC 8785) and the challenge a person signs.

One byte string per statement: what is shown, hashed, signed and stored is the same bytes. Numbers are
integers within ±2^53, so no float ever decides whether a signature holds.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import rfc8785

from ledger.errors import InvalidStatement
from ledger.ids import Digest


def canonical(value: Mapping[str, Any]) -> bytes:
    """RFC 8785 bytes of a JSON object. Raises InvalidStatement for what JSON cannot carry exactly."""
    try:
        if _plain(value):
            # Here the standard library's encoder writes the same bytes (a law of the tests), six times as fast.
            return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
        if _holds_float(value):
            raise InvalidStatement(
                "statement.not_canonical", "the statement holds a number that is not whole"
            )
        return rfc8785.dumps(dict(value))
    except (ValueError, RecursionError) as error:  # ValueError: also a key that is no Unicode text
        raise InvalidStatement("statement.not_canonical", "the statement is not plain JSON") from error


def parse(data: bytes) -> dict[str, Any]:
    """The object in `data`, which must be exactly its own canonical form: no second reading is possible."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidStatement("statement.not_json", "the statement is not valid JSON") from error
    if not isinstance(value, dict) or canonical(value) != data:
        raise InvalidStatement("statement.not_canonical", "the statement is not in RFC 8785 canonical form")
    return value


def _plain(value: object) -> bool:
    """Only exact types, keys whose order is the same in every encoding, and numbers that every parser keeps."""
    kind = type(value)
    if kind is dict:
        return all(type(key) is str and key.isascii() and _plain(one) for key, one in value.items())  # type: ignore[attr-defined]
    if kind is list:
        return all(map(_plain, value))  # type: ignore[call-overload]
    return kind is str or kind is bool or value is None or (kind is int and abs(value) < 2**53)  # type: ignore[arg-type]


def _holds_float(value: object) -> bool:
    """Two parsers may read one decimal as two numbers; whole numbers leave no room for that."""
    if isinstance(value, Mapping):
        return any(map(_holds_float, value.values()))
    return isinstance(value, float) or (isinstance(value, list | tuple) and any(map(_holds_float, value)))


def sha256(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).digest())


def challenge(tag: str, statement: bytes) -> Digest:
    """What a device or passkey signs: SHA-256(tag ‖ 0x00 ‖ canonical JSON).

    The tag (``countersign/grant/v1``) keeps a signature over one kind of statement from being replayed
    as another.
    """
    return sha256(tag.encode() + b"\x00" + statement)
