"""The tokens of a clip's life: each can only be made from the one before it.

    decide() → Allowed → render() → RawClip → clear() → Cleared → stamp() → Stamped → release()

A function that takes `Cleared` cannot be called before `clear()` has answered: mypy rejects the call, and
the constructors refuse to run outside this module. That stops mistakes, not an attacker inside the process.
Between processes (a crash, a restart, a worker) only :class:`Sealer`'s signed text travels; opening it checks
the signature, the kind, the expiry, and that the file on disk is still the one that was sealed.
"""

import base64
import hashlib
from dataclasses import InitVar, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NoReturn, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import Field, ValidationError

from ledger.canonical import canonical, challenge, parse
from ledger.consent.grant import Action, Audience, Context, Modality, Moment, Purpose, Strict
from ledger.errors import InvalidStatement
from ledger.ids import CameoId, GrantId, PersonId, VideoId
from ledger.provenance.profiles import UNMARKED, Marking
from safety.errors import Refused
from safety.policy.facts import Category

Place = tuple[int, int, int, int, int]
"""Where in a clip something was found: milliseconds from its beginning; top, right, bottom, left in pixels."""
_MINT: Final = object()
_AGAIN: Final = "ask for the video again"


class Use(Strict):
    """One person's likeness, under one grant, in one clip."""

    person_id: str
    cameo_id: str
    grant_id: str

    @property
    def ids(self) -> tuple[PersonId, CameoId, GrantId]:
        return PersonId(self.person_id), CameoId(self.cameo_id), GrantId(self.grant_id)


class Parent(Strict):
    """The clip that another is made from, as it was released."""

    video_id: str
    manifest_id: str


class Permit(Strict):
    """What the gate allowed: these words, this size, these people, once, until `expires`."""

    schema_: Annotated[Literal["countersign/permit/v1"], Field(alias="schema")] = "countersign/permit/v1"
    video_id: str
    app_id: str
    decision_index: int
    model: str
    prompt_sha256: str
    purpose: Purpose
    audience: Audience
    person: PersonId | None = None
    countries: tuple[str, ...] = ("*",)
    action: Action = "generate"
    parent: Parent | None = None
    marking: Marking = UNMARKED
    """How the clip has to be marked, beyond what every clip is."""
    modalities: tuple[Modality, ...]
    contexts: tuple[Context, ...]
    scores: dict[Category, int]
    size: str
    seconds: int
    uses: tuple[Use, ...]
    policy_set: str
    issued: Moment
    expires: Moment

    @property
    def video(self) -> VideoId:
        return VideoId(self.video_id)


@dataclass(frozen=True)
class _Token:
    mint: InitVar[object]
    permit: Permit

    def __post_init__(self, mint: object) -> None:
        if mint is not _MINT:
            raise TypeError(f"{type(self).__name__} is minted by its step, not constructed")

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} does not cross a process: seal it")


@dataclass(frozen=True)
class Allowed(_Token):
    """The gate said yes, and the ledger has it."""


@dataclass(frozen=True)
class RawClip(_Token):
    """What the model made. Nobody outside may see it."""

    path: Path
    sha256: str
    backend: str
    backend_version: str
    closed: bool = False
    """The model draws nothing of its own: see :attr:`safety.policy.facts.OutputFacts.closed_model`."""


@dataclass(frozen=True)
class Cleared(_Token):
    """A raw clip that was looked at, and how (`checks`)."""

    path: Path
    sha256: str
    backend: str
    backend_version: str
    checks: tuple[str, ...]
    register: int = 0
    """What it was compared with: the place in the log of the newest face then on the do-not-generate register, or of the
    last change of a list of known prohibited pictures, whichever came later; 0: of none."""
    closed: bool = False
    review: tuple[str, ...] = ()
    """The policies that keep it until people have looked at it; none for a clip that may go on by itself."""
    places: tuple[Place, ...] = ()
    """The faces that those people are to look at."""


@dataclass(frozen=True)
class Stamped(_Token):
    """Watermarked, signed, and read back from the finished bytes."""

    path: Path
    sha256: str
    manifest_id: str
    payload: str
    backend: str
    checks: tuple[str, ...]
    register: int = 0
    """As of :class:`Cleared`, or of the last time that the finished clip itself was looked at."""
    closed: bool = False
    review: tuple[str, ...] = ()
    """As of :class:`Cleared`; none any more once people let it pass and the policies were asked again."""
    places: tuple[Place, ...] = ()
    fingerprint: str = ""
    """What its pictures look like: base64 of :meth:`ledger.provenance.fingerprint.Fingerprint.to_bytes`. Empty in a token
    from before there were any."""
    until: int = 0
    """Unix seconds: how long it may wait for somebody's word, where that is longer than the permit stands."""


def raw_clip(allowed: Allowed, path: Path, *, backend: str, version: str, closed: bool = False) -> RawClip:
    return RawClip(_MINT, allowed.permit, path, file_sha256(path), backend, version, closed)


def cleared(
    raw: RawClip,
    *,
    checks: tuple[str, ...],
    register: int = 0,
    review: tuple[str, ...] = (),
    places: tuple[Place, ...] = (),
) -> Cleared:
    said = raw.backend, raw.backend_version, checks, register, raw.closed, review, places
    return Cleared(_MINT, raw.permit, raw.path, raw.sha256, *said)


def stamped(clear: Cleared, path: Path, *, manifest_id: str, payload: str, fingerprint: str = "") -> Stamped:
    said = manifest_id, payload, clear.backend, clear.checks, clear.register, clear.closed
    return Stamped(
        _MINT, clear.permit, path, file_sha256(path), *said, clear.review, clear.places, fingerprint
    )


def cleared_again(
    clip: Stamped, *, register: int, review: tuple[str, ...] = (), places: tuple[Place, ...] = ()
) -> Stamped:
    """A finished clip that was compared with a newer register, or looked at once more by the word of reviewers."""
    return replace(clip, mint=_MINT, register=register, review=review, places=places)


def waiting(clip: Stamped, *, until: datetime) -> Stamped:
    """A finished clip that may wait until then: the permit was to make it, and it is made."""
    return replace(clip, mint=_MINT, until=int(until.timestamp()))


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


T = TypeVar("T", Allowed, RawClip, Cleared, Stamped)


class Sealer:
    """Signs tokens into text and back. Text: base64url(canonical JSON) ``.`` base64url(Ed25519)."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    def grant(self, permit: Permit) -> str:
        """Seal a permit the gate has just decided. The text is the only way to an `Allowed`."""
        return self._sign("Allowed", {"permit": permit.model_dump(mode="json", by_alias=True)})

    def seal(self, token: RawClip | Cleared | Stamped) -> str:
        fields: dict[str, Any] = {"permit": token.permit.model_dump(mode="json", by_alias=True)}
        for name in type(token).__dataclass_fields__:
            if name not in {"mint", "permit"}:
                value = getattr(token, name)
                fields[name] = str(value) if isinstance(value, Path) else value
        return self._sign(type(token).__name__, fields)

    def open(self, text: str, kind: type[T], *, at: datetime, moved_to: Path | None = None) -> T:
        """The token sealed in `text`. Raises Refused when anything about it does not hold.

        `moved_to`: where the same bytes lie now, if not where they lay when they were sealed.
        """
        fields = self._verify(kind.__name__, text)
        try:
            permit = Permit.model_validate(fields.pop("permit"))
        except ValidationError as error:
            raise Refused("permit.malformed", "the permit is not one this service issued", _AGAIN) from error
        # Sealed as well: nobody but who held the clip gave it longer.
        waits = datetime.fromtimestamp(fields.get("until", 0), UTC)
        if max(permit.expires, waits) <= at:
            raise Refused("permit.expired", "the permit expired before the clip was finished", _AGAIN)
        for name in ("checks", "review"):
            if name in fields:
                fields[name] = tuple(fields[name])
        if "places" in fields:
            fields["places"] = tuple(tuple(place) for place in fields["places"])
        if "path" in fields:
            fields["path"] = moved_to or Path(fields["path"])
            # The bytes may have changed between processes; a token speaks only for the bytes it was made of.
            if not fields["path"].is_file() or file_sha256(fields["path"]) != fields["sha256"]:
                raise Refused(
                    "permit.file_changed", "the clip on disk is not the one that was checked", _AGAIN
                )
        return kind(_MINT, permit, **fields)

    def permit(self, text: str) -> Permit:
        """What a finished clip was made under. It opens nothing: for that the text itself is opened, with its file."""
        return Permit.model_validate(self._verify("Stamped", text)["permit"])

    def places(self, text: str) -> tuple[Place, ...]:
        """Which faces in a finished clip people are to look at. Says nothing about the file."""
        found = self._verify("Stamped", text).get("places", [])
        return tuple((int(at), int(top), int(r), int(b), int(left)) for at, top, r, b, left in found)

    def _sign(self, kind: str, fields: dict[str, Any]) -> str:
        data = canonical({"kind": kind, **fields})
        return f"{_b64(data)}.{_b64(self._key.sign(challenge('countersign/permit/v1', data)))}"

    def _verify(self, kind: str, text: str) -> dict[str, Any]:
        try:
            data, signature = (_unb64(part) for part in text.split("."))
            self._key.public_key().verify(signature, challenge("countersign/permit/v1", data))
            fields = parse(data)
        except (ValueError, InvalidSignature, InvalidStatement) as error:
            raise Refused("permit.forged", "the permit is not one this service issued", _AGAIN) from error
        if fields.pop("kind") != kind:
            raise Refused("permit.wrong_step", f"the permit is not for this step (`{kind}`)", _AGAIN)
        return fields


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode()


def _unb64(text: str) -> bytes:
    data = base64.b64decode(text, altchars=b"-_", validate=True)
    # Two spellings of the same bytes would make two texts of one token.
    if _b64(data) != text:
        raise ValueError("not the one base64url spelling of these bytes")
    return data
