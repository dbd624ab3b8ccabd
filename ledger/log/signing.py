"""Which certificates sign clips, and which were taken back: `signing` leaves, in the open.

    used      {1: "used", 2: certificate (DER), 3: Unix time}
    revoked   {1: "revoked", 2: SHA-256 of the certificate, 3: Unix time, 4: reason, 5: since}

A certificate is announced before it signs its first clip, once. From its revocation on, what it signed counts only if
a trusted time-stamp says that it was signed before `since`; that is the time of the leaf, or an earlier one where the
reason is `keyCompromise`. A revocation is never taken back: another may follow it that reaches further.

So whoever reads the log knows every certificate this service ever signed with, and a forger who got one from the same
authority is not among them. Whom a certificate was issued to, and by whom, the log does not judge.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Literal, cast, get_args

from ledger.errors import LogError

Reason = Literal["unspecified", "keyCompromise", "affiliationChanged", "superseded", "cessationOfOperation"]
"""RFC 5280 §5.3.1, as far as they end a certificate for good and concern its holder."""

_LONGEST = 8192
_LAST_SECOND = 253_402_300_799


@dataclass(frozen=True, slots=True)
class Certified:
    """A certificate that clips are, or were, signed with. Times are Unix seconds."""

    der: bytes
    used_from: int
    revoked_at: int | None = None
    reason: Reason | None = None
    since: int | None = None

    @property
    def sha256(self) -> bytes:
        return sha256(self.der).digest()


@dataclass(frozen=True, slots=True)
class SigningTable:
    """Every certificate that was ever announced, oldest first."""

    rows: tuple[Certified, ...] = ()

    def find(self, digest: bytes) -> Certified | None:
        return next((row for row in self.rows if row.sha256 == digest), None)

    def after(self, payload: Mapping[int, Any]) -> "SigningTable":
        """The table after a `signing` leaf. Raises LogError for one that does not count here."""
        match payload.get(1):
            case "used":
                return self._used(payload)
            case "revoked":
                return self._revoked(payload)
            case _:
                raise _refused("it says neither that a certificate is used nor that it is revoked")

    def _used(self, payload: Mapping[int, Any]) -> "SigningTable":
        values: list[Any] = [payload.get(key) for key in (2, 3)]
        der, time = values
        if set(payload) != {1, 2, 3} or type(der) is not bytes or len(der) > _LONGEST or not _is_time(time):
            raise _refused("it is not in the form it should have")
        if self.find(sha256(der).digest()) is not None:
            raise _refused("the certificate was announced before")
        return SigningTable((*self.rows, Certified(der, time)))

    def _revoked(self, payload: Mapping[int, Any]) -> "SigningTable":
        values: list[Any] = [payload.get(key) for key in (2, 3, 4, 5)]
        digest, time, reason, since = values
        if (
            set(payload) != {1, 2, 3, 4, 5}
            or type(digest) is not bytes
            or reason not in get_args(Reason)
            or not (_is_time(time) and _is_time(since) and since <= time)
        ):
            raise _refused("it is not in the form it should have")
        if since != time and reason != "keyCompromise":
            raise _refused("only a compromised key reaches back")
        held = self.find(digest)
        if held is None:
            raise _refused("the certificate was never announced")
        if held.since is not None and since >= held.since:
            raise _refused("the certificate was revoked before, and as far back")
        ended = replace(held, revoked_at=time, reason=cast("Reason", reason), since=since)
        return SigningTable(tuple(ended if row == held else row for row in self.rows))


def used(der: bytes, *, time: int) -> dict[int, Any]:
    """The statement that this certificate signs clips from now on."""
    return {1: "used", 2: der, 3: time}


def revoked(digest: bytes, *, time: int, reason: Reason, since: int | None = None) -> dict[int, Any]:
    """The statement that the certificate with this SHA-256 was taken back."""
    return {1: "revoked", 2: digest, 3: time, 4: reason, 5: time if since is None else since}


def _is_time(value: object) -> bool:
    return type(value) is int and 0 <= value <= _LAST_SECOND


def _refused(why: str) -> LogError:
    return LogError("log.signing", f"the statement on a signing certificate does not count: {why}")
