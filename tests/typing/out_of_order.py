"""Calls that skip a step, or bring the wrong token. Each marked line must be rejected, with that code."""

from datetime import datetime
from pathlib import Path
from typing import assert_never

from generator.stamp import Held, Released, Stamper, release
from ledger.ids import CameoId, LeafIndex, PersonId
from ledger.store.objects import Objects
from ledger.store.transaction import Transaction
from safety.chain import Allowed, Cleared, Permit, RawClip, Sealer, Stamped, cleared, raw_clip, stamped
from safety.gate import Denied, Gate, GenerationRequest


def render_without_a_decision(
    gate: Gate, request: GenerationRequest, permit: Permit, path: Path, at: datetime
) -> None:
    raw_clip(request, path, backend="model", version="1")  # error: arg-type
    raw_clip(permit, path, backend="model", version="1")  # error: arg-type
    raw_clip(gate.decide(request, at=at), path, backend="model", version="1")  # error: arg-type
    raw_clip(gate.sealer.grant(permit), path, backend="model", version="1")  # error: arg-type


def clear_what_was_not_rendered(
    gate: Gate, allowed: Allowed, clear: Cleared, permit: Permit, path: Path
) -> None:
    gate.clear(allowed)  # error: arg-type
    gate.clear(permit)  # error: arg-type
    gate.clear(path)  # error: arg-type
    gate.clear(clear)  # error: arg-type
    cleared(allowed, checks=("faces",))  # error: arg-type


def stamp_what_was_not_cleared(
    gate: Gate, stamper: Stamper, allowed: Allowed, raw: RawClip, path: Path, at: datetime
) -> None:
    stamper.stamp(raw, path, at=at)  # error: arg-type
    stamper.stamp(allowed, path, at=at)  # error: arg-type
    stamper.stamp(path, path, at=at)  # error: arg-type
    stamper.stamp(gate.clear(raw), path, at=at)  # error: arg-type
    stamped(raw, path, manifest_id="urn:x", payload="00")  # error: arg-type


def release_what_was_not_stamped(
    gate: Gate, objects: Objects, allowed: Allowed, raw: RawClip, clear: Cleared, path: Path, at: datetime
) -> None:
    release(allowed, gate, objects, at=at)  # error: arg-type
    release(raw, gate, objects, at=at)  # error: arg-type
    release(clear, gate, objects, at=at)  # error: arg-type
    release(path, gate, objects, at=at)  # error: arg-type
    release(gate.sealer.seal(clear), gate, objects, at=at)  # error: arg-type


def hold_what_was_not_stamped(
    tx: Transaction, gate: Gate, objects: Objects, raw: RawClip, held: Held, at: datetime
) -> None:
    tx.hold_job(raw, raw.sha256, at=at)  # error: arg-type
    tx.hold_job(held, raw.sha256, at=at)  # error: arg-type
    release(held, gate, objects, at=at)  # error: arg-type
    gate.may_wait(tx, held, at=at)  # error: arg-type


def release_without_asking(gate: Gate, clip: Stamped, objects: Objects, at: datetime) -> None:
    release(clip, gate, objects)  # error: call-arg
    release(clip, None, objects, at=at)  # error: arg-type
    release(clip, gate, objects, at=at).object_key  # error: union-attr


def make_or_change_a_token(permit: Permit, allowed: Allowed, raw: RawClip, path: Path) -> None:
    Allowed(permit)  # error: call-arg
    Allowed(permit=permit)  # error: call-arg
    RawClip(permit, path, "0" * 64, "model", "1")  # error: arg-type, call-arg
    allowed.permit = permit  # error: misc
    raw.sha256 = "0" * 64  # error: misc


def seal_the_wrong_thing(
    sealer: Sealer, allowed: Allowed, raw: RawClip, permit: Permit, at: datetime
) -> None:
    sealer.seal(allowed)  # error: arg-type
    sealer.seal(permit)  # error: arg-type
    sealer.grant(allowed)  # error: arg-type
    sealer.open(sealer.seal(raw), Permit, at=at)  # error: type-var
    sealer.open(sealer.seal(raw), RawClip)  # error: call-arg
    one: Cleared = sealer.open(sealer.seal(raw), RawClip, at=at)  # error: assignment
    print(one)


def take_one_id_for_another(tx: Transaction, cameo_id: CameoId, person_id: PersonId) -> None:
    tx.standing(cameo_id)  # error: arg-type
    tx.standing("person_1")  # error: arg-type
    tx.owner(person_id)  # error: arg-type
    Released(7, "clips/x")  # error: arg-type
    Released(LeafIndex(7), 7)  # error: arg-type


def take_a_draft_for_a_release(answer: Released | Held) -> int:
    return answer.index  # error: union-attr


def forget_that_it_may_wait(answer: Released | Held | Denied) -> str:
    match answer:
        case Released() | Denied():
            return "done"
        case _:
            assert_never(answer)  # error: arg-type


def forget_an_answer(answer: Released | Denied) -> str:
    match answer:
        case Released():
            return answer.object_key
        case _:
            assert_never(answer)  # error: arg-type


def take_a_refusal_for_a_yes(gate: Gate, tx: Transaction, permit: Permit, at: datetime) -> str:
    gate.may_release(tx, permit)  # error: call-arg
    gate.decide(permit, at=at)  # error: arg-type
    return gate.may_release(tx, permit, at=at)  # error: return-value
