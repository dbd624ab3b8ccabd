"""The exceptions of `safety`, one tree.

    SafetyError                 something in safety/ could not be done
    ├── InvalidInput            text or pictures that no check can read: empty, too long, not an image
    ├── Refused                 readable, and turned down; the remedy says what the person can do
    └── CheckUnavailable        a detector or model cannot run; callers must deny

Each error carries a :class:`~ledger.reasons.Reason`, so the edge can show it without translating.
"""

from ledger.reasons import Reason


class SafetyError(Exception):
    """Root of the tree. `str(error)` is the sentence."""

    def __init__(self, reason_id: str, sentence: str, remedy: str) -> None:
        super().__init__(sentence)
        self.reason = Reason(reason_id, sentence, remedy)


class InvalidInput(SafetyError):  # noqa: N818 — names the state, as in `ledger`
    pass


class Refused(SafetyError):  # noqa: N818
    pass


class CheckUnavailable(SafetyError):  # noqa: N818
    pass
