"""Why something was refused, in words a person can act on."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason for a refusal. Every denial anywhere carries at least one.

    `id` is stable and machine-readable (a policy id, or `area.rule`); `sentence` starts lowercase, puts
    values in backticks and names no other person's grants; `remedy` says what the reader can do next.
    """

    id: str
    sentence: str
    remedy: str

    def as_json(self) -> dict[str, str]:
        return {"id": self.id, "reason": self.sentence, "remedy": self.remedy}
