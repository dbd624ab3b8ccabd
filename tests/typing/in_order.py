"""A clip's life in the order it must have. Every line type-checks."""

from datetime import datetime
from pathlib import Path
from typing import assert_never

from generator.stamp import Held, Released, Stamper, release
from ledger.store.objects import Objects
from safety.chain import Allowed, Cleared, RawClip, Stamped, raw_clip
from safety.gate import Denied, Gate, GenerationRequest


def life(
    gate: Gate, stamper: Stamper, objects: Objects, request: GenerationRequest, path: Path, at: datetime
) -> str:
    decided = gate.decide(request, at=at)
    if isinstance(decided, Denied):
        return decided.reasons[0].sentence
    raw = raw_clip(decided, path, backend="model", version="1")
    clear = gate.clear(raw)
    if isinstance(clear, Denied):
        return clear.reasons[0].sentence
    answer = release(stamper.stamp(clear, path, at=at), gate, objects, at=at)
    match answer:
        case Released():
            return answer.object_key
        case Held():
            return "it waits for somebody's word"
        case Denied():
            return answer.reasons[0].sentence
        case _:
            assert_never(answer)


def across_processes(gate: Gate, raw: RawClip, clear: Cleared, clip: Stamped, at: datetime) -> None:
    one: RawClip = gate.sealer.open(gate.sealer.seal(raw), RawClip, at=at)
    two: Cleared = gate.sealer.open(gate.sealer.seal(clear), Cleared, at=at)
    three: Stamped = gate.sealer.open(gate.sealer.seal(clip), Stamped, at=at)
    moved: Stamped = gate.sealer.open(gate.sealer.seal(clip), Stamped, at=at, moved_to=clip.path)
    print(moved)
    four: Allowed = gate.sealer.open(gate.sealer.grant(raw.permit), Allowed, at=at)
    print(one, two, three, four)
