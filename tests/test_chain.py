"""The tokens: each comes from the step before it, and sealed text opens only as what this service sealed."""

import base64
import copy
import dataclasses
import json
import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from generator.pipeline import Pipeline
from generator.stamp import Stamper
from ledger.canonical import canonical, challenge
from ledger.store.objects import Objects
from safety.chain import (
    Allowed,
    Cleared,
    Permit,
    RawClip,
    Sealer,
    Stamped,
    Use,
    cleared,
    raw_clip,
    stamped,
)
from safety.errors import Refused
from world import START, World

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
SEALER = Sealer(KEY)
PERMIT = Permit(
    video_id="video_one",
    app_id="app_one",
    decision_index=7,
    model="countersign-reference",
    prompt_sha256="0" * 64,
    purpose="dpv:NonCommercialPurpose",
    audience="requester",
    modalities=("face",),
    contexts=(),
    scores={
        "sexual": 0,
        "minors": 0,
        "violence": 0,
        "hate": 0,
        "self_harm": 0,
        "illicit": 0,
        "obfuscated": 0,
    },
    size="640x360",
    seconds=1,
    uses=(Use(person_id="person_one", cameo_id="cameo_one", grant_id="grant_one"),),
    policy_set="0" * 64,
    issued=START,
    expires=START + timedelta(hours=24),
)
SEALED = SEALER.grant(PERMIT)
KINDS = (Allowed, RawClip, Cleared, Stamped)
Token = Allowed | RawClip | Cleared | Stamped


@dataclass(frozen=True)
class Life:
    """One clip's tokens, in order."""

    allowed: Allowed
    raw: RawClip
    clear: Cleared
    stamped: Stamped

    def __iter__(self) -> Iterator[Any]:
        return iter((self.allowed, self.raw, self.clear, self.stamped))

    def sealed(self) -> dict[str, str]:
        later = {type(t).__name__: SEALER.seal(t) for t in (self.raw, self.clear, self.stamped)}
        return {"Allowed": SEALED, **later}


@pytest.fixture
def life(tmp_path: Path) -> Life:
    (tmp_path / "raw.mp4").write_bytes(b"raw")
    (tmp_path / "stamped.mp4").write_bytes(b"stamped")
    allowed = SEALER.open(SEALED, Allowed, at=START)
    raw = raw_clip(allowed, tmp_path / "raw.mp4", backend="model", version="1", closed=True)
    clear = cleared(raw, checks=("faces", "prompt"))
    return Life(
        allowed, raw, clear, stamped(clear, tmp_path / "stamped.mp4", manifest_id="urn:x", payload="00" * 8)
    )


def reason(text: str, kind: type[Any] = Allowed, hours: float = 0) -> str:
    with pytest.raises(Refused) as refused:
        SEALER.open(text, kind, at=START + timedelta(hours=hours))
    assert refused.value.reason.sentence
    assert refused.value.reason.remedy
    return refused.value.reason.id


def signed_again(text: str, **changes: Any) -> str:
    """The sealed text with fields changed, under a signature of the service's own key."""
    fields = {**json.loads(base64.urlsafe_b64decode(text.partition(".")[0])), **changes}
    data = canonical(fields)
    return f"{spelt(data)}.{spelt(KEY.sign(challenge('countersign/permit/v1', data)))}"


def spelt(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode()


# ── tokens stay where they were minted ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_cannot_be_constructed(kind: type[Any]) -> None:
    fields = [field.name for field in dataclasses.fields(kind) if field.name != "permit"]
    with pytest.raises(TypeError, match="minted by its step"):
        kind(object(), PERMIT, *fields)
    with pytest.raises(TypeError):
        kind(PERMIT, *fields)
    with pytest.raises(TypeError, match="minted by its step"):
        kind(mint=None, permit=PERMIT, **dict.fromkeys(fields))


def test_a_token_cannot_be_altered_or_made_from_another(life: Life) -> None:
    other = PERMIT.model_copy(update={"seconds": 12})
    for token in life:
        with pytest.raises(dataclasses.FrozenInstanceError):
            token.permit = other
        with pytest.raises(ValueError, match="mint"):
            dataclasses.replace(token, permit=other)
        with pytest.raises(TypeError, match="minted by its step"):
            dataclasses.replace(token, mint=object(), permit=other)


@pytest.mark.parametrize("taken", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_token_cannot_be_pickled_or_copied(life: Life, taken: Callable[[Any], Any]) -> None:
    for token in life:
        with pytest.raises(TypeError, match="seal it"):
            taken(token)


def test_a_token_does_not_reach_another_process(life: Life) -> None:
    near, far = multiprocessing.Pipe()
    for token in life:
        with pytest.raises(TypeError, match="seal it"):
            near.send(token)
    assert not far.poll()


def test_no_step_drops_the_permit_or_what_was_learned_on_the_way(life: Life) -> None:
    assert all(token.permit == PERMIT for token in life)
    assert life.stamped.checks == ("faces", "prompt")
    assert life.stamped.backend == life.raw.backend
    assert life.clear.sha256 == life.raw.sha256 != life.stamped.sha256


# ── sealed text ───────────────────────────────────────────────────────────────────────────────────────────


def test_what_was_sealed_opens_the_same(life: Life) -> None:
    sealed = life.sealed()
    for token in life:
        assert SEALER.open(sealed[type(token).__name__], type(token), at=START) == token


def test_a_signature_by_another_key_is_refused() -> None:
    assert reason(Sealer(Ed25519PrivateKey.generate()).grant(PERMIT)) == "permit.forged"


def test_a_signature_of_something_else_is_refused() -> None:
    data = base64.urlsafe_b64decode(SEALED.partition(".")[0])
    for signature in (KEY.sign(data), KEY.sign(challenge("countersign/grant/v1", data)), b"", b"\0" * 64):
        assert reason(f"{spelt(data)}.{spelt(signature)}") == "permit.forged"


@pytest.mark.parametrize(
    "change", [{"seconds": 12}, {"uses": []}, {"video_id": "video_two"}, {"model": "other"}]
)
def test_an_altered_permit_is_refused(change: dict[str, Any]) -> None:
    data, _, signature = SEALED.partition(".")
    fields = json.loads(base64.urlsafe_b64decode(data))
    altered = canonical({**fields, "permit": {**fields["permit"], **change}})
    assert reason(f"{spelt(altered)}.{signature}") == "permit.forged"


@pytest.mark.parametrize(
    "text", ["", ".", "..", "a.b", "é.é", SEALED + ".", SEALED[:-1], f" {SEALED}", SEALED + "\n"]
)
def test_what_is_not_sealed_text_is_refused(text: str) -> None:
    assert reason(text) == "permit.forged"


@pytest.mark.parametrize("sealed_as", [kind.__name__ for kind in KINDS])
@pytest.mark.parametrize("opened_as", KINDS)
def test_a_token_opens_at_its_own_step_only(life: Life, sealed_as: str, opened_as: type[Token]) -> None:
    text = life.sealed()[sealed_as]
    if sealed_as != opened_as.__name__:
        assert reason(text, opened_as) == "permit.wrong_step"


@pytest.mark.parametrize("kind", KINDS)
def test_every_step_ends_with_the_permit(life: Life, kind: type[Token]) -> None:
    text = life.sealed()[kind.__name__]
    SEALER.open(text, cast("type[Allowed]", kind), at=PERMIT.expires - timedelta(seconds=1))
    assert reason(text, kind, hours=24) == "permit.expired"
    assert reason(text, kind, hours=1000) == "permit.expired"


@pytest.mark.parametrize("permit", [{}, {"video_id": "video_one"}, None, 7, "permit"])
def test_a_permit_of_another_form_is_refused_even_when_signed(permit: object) -> None:
    assert reason(signed_again(SEALED, permit=permit)) == "permit.malformed"


def test_a_permit_with_a_field_we_do_not_know_is_refused_even_when_signed() -> None:
    fields = PERMIT.model_dump(mode="json", by_alias=True) | {"also": "this"}
    assert reason(signed_again(SEALED, permit=fields)) == "permit.malformed"


@pytest.mark.parametrize("kind", [RawClip, Cleared, Stamped])
def test_a_file_that_changed_between_steps_is_refused(life: Life, kind: type[Token]) -> None:
    text = life.sealed()[kind.__name__]
    path = life.stamped.path if kind is Stamped else life.raw.path
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0")
    assert reason(text, kind) == "permit.file_changed"
    path.unlink()
    assert reason(text, kind) == "permit.file_changed"
    path.mkdir()
    assert reason(text, kind) == "permit.file_changed"
    path.rmdir()
    path.write_bytes(whole)
    SEALER.open(text, cast("type[RawClip]", kind), at=START)


def test_another_clips_file_in_the_place_of_the_checked_one_is_refused(life: Life, tmp_path: Path) -> None:
    text = life.sealed()["Cleared"]
    (tmp_path / "unchecked.mp4").write_bytes(b"unchecked")
    (tmp_path / "unchecked.mp4").replace(life.clear.path)
    assert reason(text, Cleared) == "permit.file_changed"


@given(place=st.integers(0, len(SEALED) - 1), to=st.characters(codec="utf-8"))
def test_any_altered_character_is_refused(place: int, to: str) -> None:
    altered = SEALED[:place] + to + SEALED[place + 1 :]
    if altered != SEALED:
        assert reason(altered) == "permit.forged"


def test_a_second_spelling_of_the_same_bytes_is_refused() -> None:
    """Base64 has several: other characters for 62 and 63, and bits at the end that decode to nothing."""
    signatures = (SEALER.grant(PERMIT.model_copy(update={"seconds": n})) for n in range(1, 40))
    text = next(text for text in signatures if set("-_") & set(text.partition(".")[2]))
    plain = text.translate(str.maketrans("-_", "+/"))
    end = len(text) - 3
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    loose = text[:end] + alphabet[alphabet.index(text[end]) + 1] + text[end + 1 :]
    for altered in (plain, loose):
        assert base64.b64decode(altered.partition(".")[2], altchars=b"-_") == base64.urlsafe_b64decode(
            text.partition(".")[2]
        )
        assert reason(altered) == "permit.forged"


# ── a permit is for one video, once ───────────────────────────────────────────────────────────────────────


def line(world: World) -> Pipeline:
    nothing = cast("Stamper", None)
    return Pipeline(
        world.gate, {}, nothing, Objects.local(world.home / "objects"), world.home / "work", lambda: world.at
    )


def test_a_permit_copied_to_another_video_renders_nothing(world: World) -> None:
    app, ada = world.app(), world.enrol()
    world.grant(ada, app)
    one, two = world.allow(app, ada).permit, world.allow(app).permit
    with world.ledger.database.writing() as session:
        session.connection().exec_driver_sql(
            f"UPDATE video SET permit = (SELECT permit FROM video WHERE id = '{two.video_id}') "
            f"WHERE id = '{one.video_id}'"
        )
    outcome = line(world).attempt("render", one.video_id)
    assert [found["id"] for found in outcome["reasons"]] == ["permit.other_job"]


def test_an_expired_permit_renders_nothing(world: World) -> None:
    permit = world.allow(world.app()).permit
    world.wait(hours=24)
    outcome = line(world).attempt("render", permit.video_id)
    assert [found["id"] for found in outcome["reasons"]] == ["permit.expired"]


def test_a_job_that_ended_renders_nothing_more(world: World) -> None:
    permit = world.allow(world.app()).permit
    ended = [{"id": "x", "reason": "y", "remedy": "z"}]
    world.ledger.transact(lambda tx: tx.end_job(permit.video, "render", ended, at=world.at))
    outcome = line(world).attempt("render", permit.video_id)
    assert [found["id"] for found in outcome["reasons"]] == ["permit.used"]


def test_the_text_of_one_stage_starts_no_other(world: World) -> None:
    permit = world.allow(world.app()).permit
    sealed, _ = world.ledger.transact(lambda tx: tx.take_job(permit.video))
    for stage in ("clear", "stamp", "release"):
        outcome = line(world).attempt(stage, sealed)
        assert [found["id"] for found in outcome["reasons"]] == ["permit.wrong_step"]
