"""Replaying one person's records as they would tell them: did every use have their consent at its moment?

Pure: the input is the whole list, proven complete by :mod:`ledger.log.completeness`. *Log order decides, never
clocks*: what matters about a revocation is its place. Rules, each a :class:`Violation` at the record that breaks it:

1. The list begins with the account or the enrolment, of each at most one; it is about one likeness throughout, and
   nothing follows an erasure.
2. Places ascend; times do not run backwards, nor beyond the time of the epoch that ends the log.
3. A grant is recorded once, is about this likeness, and exactly its bytes were signed with a key that then signed for
   its owner; a minor's by a guardian too. One that was passed on was signed with the key its owner named, and only
   narrows.
4. An allowed decision comes when a likeness that came in by a film has been here for a day, and names grants that
   were live at its place and moment, given to the app that asked or the person
   it asked for, neither of them blocked, with a use left; and what was asked for lies within each: purpose, action,
   and, as far as the record says, modalities, contexts, audience and countries.
5. A clip is released once, after the decision that allowed it, under the same grants while they are live, to nobody
   who was blocked since, and approved where a grant asks for that.
6. A use is given back once, by what was allowed and not released.
7. Nobody is given a key by an operator, a guardian or an executor whose own word or voucher is not there, an approval
   by somebody who could not give one, or a handover that they did not sign when they were of age.
8. A key more was signed for, as this very key and this once, with one that stood before it; or it is told as a recovery,
   which a code opened and no key. A key less may be told without a signature.
9. Where this person was found without having agreed, nothing was made of it: it was refused, and a clip in which they
   were found was not released.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ledger.consent.authority import Cosignature, check_signatures
from ledger.consent.fold import Entry, GrantStanding, Standing, fold
from ledger.consent.grant import Grant, parse_grant
from ledger.consent.statement import (
    DEVICE_TAG,
    GUARDIANSHIP_TAG,
    HANDOVER_TAG,
    Evidence,
    Handover,
    KeyAddition,
    Signer,
    parse_guardianship,
    parsed,
    verify,
)
from ledger.errors import LedgerError, Violation
from ledger.ids import GrantId, LeafIndex, VideoId
from ledger.log.kinds import check_body

Record = tuple[LeafIndex, Mapping[str, Any]]
_EVIDENCE: TypeAdapter[Evidence] = TypeAdapter(Evidence)
_OPENING = ("account", "enrolment")
Broken = Callable[[str, str], Violation]
"""(rule, sentence) → the violation, at the record in hand."""


@dataclass(frozen=True, slots=True)
class Story:
    """What a whole list says; every rule holds for it."""

    standing: Standing
    allowed: int
    refused: int
    released: int


def replay(records: Sequence[Record], until: int) -> Story:
    """Raises Violation. `until`: Unix seconds, the time of the epoch that ends the log."""
    told = _Telling()
    for index, body in records:
        try:
            told.hear(index, body, until)
        except Violation:
            raise
        except (LedgerError, ValidationError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise Violation(
                "story.unreadable", f"record at `{index}` can not be read: {error}", index
            ) from error
    if not records:
        raise Violation("story.enrolment", "a list begins with its only enrolment", 0)
    return Story(told.standing, told.allowed, told.refused, len(told.released))


class _Telling:
    def __init__(self) -> None:
        self.standing = Standing()
        self.allowed = self.refused = 0
        self.released: set[str] = set()
        self._last, self._time = -1, 0
        self._opened: set[str] = set()
        self._additions: set[bytes] = set()
        """What was signed for the keys that were added."""
        self._granted: dict[str, tuple[str, ...]] = {}
        """For each video that was allowed, and whose use was not given back: its grants."""
        self._seen: set[str] = set()
        """Videos that this person was found in without having agreed."""
        self._asking: dict[str, tuple[str, str | None]] = {}
        """For each video that was allowed: the app that asked, and the person it asked for."""

    def hear(self, index: LeafIndex, body: Mapping[str, Any], until: int) -> None:  # noqa: C901, PLR0912 — by the rules
        def broken(rule: str, sentence: str) -> Violation:
            return Violation(f"story.{rule}", f"record at `{index}`: {sentence}", index)

        kind, at = body["kind"], moment(body["at"])
        check_body(kind, None, body)
        # 1.
        if self._last == -1 and kind not in _OPENING:
            raise broken("enrolment", "a list begins with an account or an enrolment")
        if kind in _OPENING and (kind in self._opened or (kind == "account" and self._last != -1)):
            raise broken("enrolment", "a list has one enrolment and one account, and begins with the account")
        self._opened.add(kind)
        if self.standing.erased:
            raise broken("erased", "something was recorded about a person who had been erased")
        # 2.
        if index <= self._last:
            raise broken("order", "it is not after the record before it")
        if not self._time <= at.timestamp() <= until:
            raise broken(
                "time", f"its time `{body['at']}` is before that of an earlier record, or yet to come"
            )
        self._last, self._time = index, int(at.timestamp())
        before = self.standing
        self.standing = fold([Entry(index, kind, body)], before)
        if body.get("cameo_id", self.standing.cameo_id) != self.standing.cameo_id:
            raise broken("foreign", f"it is about another likeness, `{body['cameo_id']}`")
        match kind:
            case "grant":
                # 3.
                self._grant(parse_grant(body["grant"]), body, before, broken)
            case "decision" if _truth(body["allowed"]):
                # 4.
                self._decision(body, before, at, broken)
            case "decision":
                self.refused += 1
            case "release":
                # 5.
                self._release(body, before, at, broken)
            case "returned":
                # 6.
                self._returned(body, broken)
            case "device":
                # 8.
                self._device(body, before, broken)
            case "sighting":
                # 9.
                self._sighting(body, broken)
            case _:
                # 7.
                _beside(kind, body, before, at, broken)

    def _grant(self, grant: Grant, body: Mapping[str, Any], before: Standing, broken: Broken) -> None:
        if grant.id in before.grants:
            raise broken("replayed", "a grant that was recorded before is recorded again")
        if grant.cameo != before.cameo_id:
            raise broken("foreign", "the grant is about another likeness")
        evidence = _EVIDENCE.validate_python(body["evidence"])
        cosigned = [Cosignature.model_validate(one) for one in body.get("cosignatures", ())]
        check_signatures(before, grant, evidence, cosigned, at=moment(body["at"]))

    def _decision(self, body: Mapping[str, Any], before: Standing, at: datetime, broken: Broken) -> None:
        video, grants = body["video_id"], _grants(body)
        if video in self._granted or not grants:
            raise broken("use", f"`{video}` was allowed twice, or without naming a grant")
        if not before.in_use(at):
            raise broken("inactive", f"`{video}` was allowed while this likeness was not in use")
        if before.cooling_off(at):
            raise broken(
                "cooling_off", f"`{video}` was allowed less than a day after this likeness was filmed"
            )
        asking = (body["app_id"], body.get("requested_by"))
        if any(one in before.blocked for one in asking):
            raise broken("blocked", f"`{video}` was allowed to who had been blocked")
        for grant_id in grants:
            self._under(grant_id, body, before, at, broken)
        self._granted[video], self._asking[video] = grants, asking
        self.allowed += 1

    def _under(
        self, grant_id: str, body: Mapping[str, Any], before: Standing, at: datetime, broken: Broken
    ) -> None:
        video, held = body["video_id"], before.grants.get(GrantId(grant_id))
        if held is None:
            raise broken("ungranted", f"`{video}` was allowed under `{grant_id}`, which was never granted")
        if held.revoked_index is not None:
            raise broken("revoked", f"`{video}` was allowed under `{grant_id}`, which had been taken back")
        if not before.live(held, at):
            raise broken("expired", f"`{video}` was allowed under `{grant_id}` when it did not stand")
        if before.uses_left(held) < 1:
            raise broken("spent", f"`{video}` was allowed under `{grant_id}`, which had no use left")
        if not _given_to(held, (body["app_id"], body.get("requested_by")), before):
            raise broken("foreign", f"`{video}` was allowed to somebody whom `{grant_id}` does not name")
        if beyond := _beyond(body, held.grant):
            raise broken("beyond", f"`{video}` was allowed for `{beyond}` that `{grant_id}` does not allow")

    def _release(self, body: Mapping[str, Any], before: Standing, at: datetime, broken: Broken) -> None:
        video = body["video_id"]
        if video not in self._granted or video in self.released:
            raise broken("release", f"`{video}` was released without a decision that allowed it, or twice")
        held = [before.grants[GrantId(grant)] for grant in self._granted[video]]
        if video in self._seen:
            raise broken("seen", f"`{video}` was released, and this person was in it without having agreed")
        if sorted(_grants(body)) != sorted(self._granted[video]):
            raise broken("ungranted", f"`{video}` was released under other grants than it was allowed under")
        if any(one.revoked_index is not None for one in held):
            raise broken("revoked", f"`{video}` was released after consent had been taken back")
        if not before.in_use(at) or not all(before.live(one, at) for one in held):
            raise broken("expired", f"`{video}` was released after consent had expired")
        if any(one in before.blocked for one in self._asking[video]):
            raise broken("blocked", f"`{video}` was released to who had been blocked")
        asked = any(one.grant.approval == "before_release" for one in held)
        if asked and not before.approved(VideoId(video), at):
            raise broken("unapproved", f"`{video}` was released without the approval its grant asks for")
        self.released.add(video)

    def _sighting(self, body: Mapping[str, Any], broken: Broken) -> None:
        video = body["video_id"]
        if body["outcome"] != "refused" or video in self.released:
            raise broken("seen", f"`{video}` was made with this person, who had not agreed")
        self._seen.add(video)

    def _device(self, body: Mapping[str, Any], before: Standing, broken: Broken) -> None:
        match body["change"], body["how"]:
            case ("removed", _) | ("added", "recovery"):
                return
            case "added", "signed":
                said = parsed(KeyAddition, "device", body["statement"])
                signed = said.signed_bytes()
                # What was signed once would bring back a key that was taken away since.
                if said.key != Signer.model_validate(body["key"]) or signed in self._additions:
                    raise broken("device", "another key was signed for, or this one was before")
                evidence = _EVIDENCE.validate_python(body["evidence"])
                verify(DEVICE_TAG, signed, evidence, signers=before.signers())
                self._additions.add(signed)
            case _:
                raise broken("device", "a key was added, and nothing says who let it in")

    def _returned(self, body: Mapping[str, Any], broken: Broken) -> None:
        video = body["video_id"]
        grants = self._granted.pop(video, None)
        # A use that is given back after the clip went out could be had again, any number of times.
        if grants is None or video in self.released or sorted(_grants(body)) != sorted(grants):
            raise broken("returned", f"a use of `{video}` was given back that was not open")


def _given_to(held: GrantStanding, asking: tuple[str, str | None], before: Standing) -> bool:
    """Whether a grant is to who asked. That an app speaks for the person it names is the service's word."""
    (app_id, person), grantee = asking, held.grant.grantee
    match grantee.type:
        case "everyone":
            return True
        case "app":
            return grantee.id == app_id
        case "person":
            return grantee.id == person
        case "group":
            return person in before.members


def _beyond(body: Mapping[str, Any], grant: Grant) -> str:
    """In what a request goes beyond a grant; nothing, if it does not. Earlier records do not say all of it."""
    contexts, countries = set(body.get("contexts", ())), set(body.get("countries", ("*",)))
    within = {
        "purpose": body.get("purpose") in grant.purposes,
        "action": body.get("action") in grant.actions,
        "modalities": set(body.get("modalities", ())) <= set(grant.modalities),
        "contexts": contexts <= set(grant.allowed_contexts),
        "audience": grant.audience == "everyone" or body.get("audience", "requester") == "requester",
        "countries": "*" in grant.jurisdictions or countries <= set(grant.jurisdictions),
    }
    return ", ".join(name for name, kept in within.items() if not kept)


def _beside(kind: str, body: Mapping[str, Any], before: Standing, at: datetime, broken: Broken) -> None:
    """What bears on consent beside grants. Somebody else's copy of a guardianship or estate is theirs to judge."""
    match kind:
        case "enrolment" if body["enrolment"].get("device_key") is not None and before.keys:
            raise broken("key", "an operator named a key for somebody who has their own")
        case "guardian" if body.get("role", "owner") == "owner" and _truth(body["standing"]):
            signers = [Signer.model_validate(one) for one in body["signers"]]
            if not body["vouched"] or any(one.id in before.keys for one in signers):
                raise broken("guardian", "nobody vouched for a guardian, or they sign with this person's key")
            said = parse_guardianship(body["guardianship"])
            signed = parse_guardianship(body.get("narrows", body["guardianship"]))
            if not said.within(signed):
                raise broken("guardian", "a guardian's limits allow more than what they signed")
            evidence = _EVIDENCE.validate_python(body["evidence"])
            verify(GUARDIANSHIP_TAG, signed.signed_bytes(), evidence, signers=signers)
        case "estate" if body.get("role", "owner") == "owner" and _truth(body["standing"]):
            if not body["vouched"]:
                raise broken("estate", "nobody vouched for an executor")
        case "approval" if _truth(body["approved"]) and not before.speaks(body.get("role", "owner")):
            raise broken("approval", f"`{body['video_id']}` was approved by somebody who could not")
        case "handover":
            statement = parsed(Handover, "handover", body["statement"])
            if before.minor(at) or statement.cameo_id != before.cameo_id:
                raise broken("handover", "a likeness was handed over to a minor, or another one was")
            evidence = _EVIDENCE.validate_python(body["evidence"])
            verify(HANDOVER_TAG, statement.signed_bytes(), evidence, signers=before.signers())
        case _:
            pass


def _grants(body: Mapping[str, Any]) -> tuple[str, ...]:
    named = body["grant_ids"]
    if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
        raise TypeError("`grant_ids` is not a list of ids")
    return tuple(named)


def _truth(value: object) -> bool:
    """Of a JSON boolean: to another reader, an empty list is true."""
    if not isinstance(value, bool):
        raise TypeError("what should be true or false is neither")
    return value


def moment(text: str) -> datetime:
    """One spelling only, so that times also sort as text."""
    parsed = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    if parsed.strftime("%Y-%m-%dT%H:%M:%SZ") != text:
        raise ValueError(f"`{text[:40]}` is not a UTC time such as `2026-03-01T00:00:00Z`")
    return parsed
