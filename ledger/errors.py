"""The exceptions of `ledger`, one tree.

    LedgerError                 something in ledger/ could not be done
    ├── InvalidStatement        a grant, revocation or enrolment is malformed, altered or signed by the wrong key
    ├── LogError                a tree, note, checkpoint or proof does not hold
    │   ├── Inconsistent        the stored log contradicts what was already signed: refuse to serve
    │   └── Violation           a log broke its own rules; says at which leaf, and holds the evidence
    ├── MediaError              bytes that should be a video are not one we accept
    ├── ProvenanceError         signing, time-stamping or reading a manifest failed
    ├── NotFound                no such row, or none this reader may know of
    └── Unavailable             a store or key cannot be reached; callers must deny

Each error carries a :class:`~ledger.reasons.Reason`, so the edge can show it without translating.
"""

from ledger.reasons import Reason


class LedgerError(Exception):
    """Root of the tree. `str(error)` is the sentence."""

    def __init__(self, reason_id: str, sentence: str, remedy: str = "check the input and try again") -> None:
        super().__init__(sentence)
        self.reason = Reason(reason_id, sentence, remedy)

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        """A worker process hands its error to the one that asked."""
        return type(self), (self.reason.id, self.reason.sentence, self.reason.remedy)


class InvalidStatement(LedgerError):  # noqa: N818 — names the state, as in the specs
    pass


class LogError(LedgerError):
    pass


class Inconsistent(LogError):  # noqa: N818
    pass


class Violation(LogError):  # noqa: N818
    def __init__(self, reason_id: str, sentence: str, index: int, evidence: bytes = b"") -> None:
        super().__init__(
            reason_id, sentence, "keep this evidence, tell others, and trust no proof of this log"
        )
        self.index = index
        """The leaf at which the rule was broken."""
        self.evidence = evidence
        """That leaf, as the log published it."""

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.reason.id, self.reason.sentence, self.index, self.evidence)


class MediaError(LedgerError):
    pass


class ProvenanceError(LedgerError):
    pass


class NotFound(LedgerError):  # noqa: N818
    pass


class Unavailable(LedgerError):  # noqa: N818
    pass
