"""Identifiers: opaque, random, prefixed with what they name.

`cameo_` + 26 characters of Crockford base32 over 130 random bits. They are pointers, never secrets and
never derived from a person. :func:`parse` is the only way in from outside.
"""

import secrets
from typing import Literal, NewType

PersonId = NewType("PersonId", str)
CameoId = NewType("CameoId", str)
GrantId = NewType("GrantId", str)
AppId = NewType("AppId", str)
VideoId = NewType("VideoId", str)
NoticeId = NewType("NoticeId", str)
LeafIndex = NewType("LeafIndex", int)
Digest = NewType("Digest", bytes)
"""32 bytes of SHA-256."""

Prefix = Literal[
    "person",
    "cameo",
    "grant",
    "app",
    "video",
    "decision",
    "key",
    "file",
    "capture",
    "review",
    "notice",
    "mail",
    "webhook",
    "event",
]

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_LENGTH = 26


def new_id(prefix: Prefix) -> str:
    """A fresh identifier, e.g. ``grant_3v9k…``; 130 random bits."""
    return f"{prefix}_{''.join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))}"


def is_id(text: str, prefix: Prefix) -> bool:
    """Whether `text` could have come from :func:`new_id` with this prefix. Says nothing about existence."""
    head, _, tail = text.partition("_")
    return head == prefix and len(tail) == _LENGTH and all(c in _ALPHABET for c in tail)
