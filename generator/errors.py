"""The exceptions of `generator`, one tree.

GeneratorError
├── BackendFailed     the model could not make the clip; the job fails, the grant's use is given back
├── JobEnded          nobody wants the clip any more: consent was taken back, or the app deleted it
└── StampFailed       the clip could not be marked, signed or read back; it is never released
"""

from ledger.reasons import Reason


class GeneratorError(Exception):
    """Root of the tree. `str(error)` is the sentence."""

    def __init__(self, reason_id: str, sentence: str, remedy: str) -> None:
        super().__init__(sentence)
        self.reason = Reason(reason_id, sentence, remedy)


class BackendFailed(GeneratorError):  # noqa: N818 — names the state
    pass


class JobEnded(GeneratorError):  # noqa: N818
    pass


class StampFailed(GeneratorError):  # noqa: N818
    pass
