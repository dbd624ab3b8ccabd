"""What the rules say, a second time: plain Python, written from the prose and not from the policies.

`verdict` returns the ids of every rule that forbids; an empty set means allowed. It knows nothing of Cedar,
of the schema or of the engine's own guards, so agreement between the two is evidence about both.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from safety.policy.facts import (
    CameoFacts,
    ClipFacts,
    GrantFacts,
    JobFacts,
    ListFacts,
    OperatorFacts,
    OrderFacts,
    OutputFacts,
    ReaderFacts,
    RequesterFacts,
    RequestFacts,
    Scores,
    TrafficFacts,
)

ANYONE = "everyone"


def verdict(action: str, **facts: Any) -> frozenset[str]:
    """Every rule that forbids this."""
    requester: RequesterFacts | None = facts.get("requester")
    rules = set(_answers(action, **facts))
    # A suspended app may still ask: it is told that it is suspended when the video itself is decided on.
    if requester is not None and requester.suspended and action not in {"ask", "precheck"}:
        rules.add("standing.suspended")
    return frozenset(rules)


def _answers(action: str, **facts: Any) -> Iterable[str]:
    match action:
        case "ask":
            return _asks_too_much(facts["traffic"])
        case "precheck":
            return _prechecks_too_much(facts["traffic"])
        case "generate":
            return {*_every_step(facts["request"]), *_everyone(facts["job"], facts["request"])}
        case "use_likeness":
            return {*_likeness(facts["cameo"], facts["request"]), *_spent(facts["cameo"].grant)}
        case "clear":
            return {
                *_every_step(facts["request"]),
                *_rendered(facts["request"], facts["output"]),
                *_no_copy(facts["job"]),
            }
        case "release":
            return {
                *_every_step(facts["request"]),
                *_everyone(facts["job"], facts["request"]),
                *_recorded(facts["job"]),
                *_no_copy(facts["job"]),
            }
        case "release_likeness":
            # The clip's own use is spent by now, so how many are left does not matter any more.
            return {*_likeness(facts["cameo"], facts["request"]), *_waits(facts["cameo"].grant)}
        case "download":
            return _download(facts["clip"], facts.get("cameo"))
        case "read_list":
            return _reads(facts["reader"], facts["list"])
        case "erase_list":
            return _erases(facts["reader"], facts["list"])
        case _:
            return _orders(action, facts["operator"], facts["order"])


# Asking -------------------------------------------------------------------------------------------------


def _asks_too_much(traffic: TrafficFacts) -> Iterator[str]:
    """Fewer than 600 videos in a minute, 20,000 in a day, and 200 being made at once."""
    if traffic.asked_this_minute > 599:
        yield "standing.minute"
    if traffic.asked_today > 19_999:
        yield "standing.day"
    if traffic.running > 199:
        yield "standing.running"


def _prechecks_too_much(traffic: TrafficFacts) -> Iterator[str]:
    """Fewer than 30 questions in a minute that leave no record."""
    if traffic.prechecked_this_minute > 29:
        yield "standing.prechecks"


# Making -------------------------------------------------------------------------------------------------


def _every_step(request: RequestFacts) -> Iterator[str]:
    """Nothing is made without a record and a check, of strangers, or of prohibited content."""
    real_person = request.depicted != 0
    if not request.ledger_ok:
        yield "standing.ledger"
    if not request.classifiers_ok:
        yield "standing.classifiers"
    if request.unknown_faces:
        yield "prohibited.unknown_face"
    if request.do_not_generate_matches:
        yield "prohibited.do_not_generate"
    if request.named_people:
        yield "prohibited.named_person"
    if request.known_bad_matches:
        yield "prohibited.known_bad"
    yield from (f"prohibited.{rule}" for rule in _unsafe(request.scores, real_person=real_person))
    if real_person and request.scores["minors"] >= 400:
        yield "prohibited.child_likeness"
    if real_person and "sexual" in request.contexts:
        yield "prohibited.sexual_likeness"


def _unsafe(scores: Scores, *, real_person: bool) -> Iterator[str]:
    if min(scores["sexual"], scores["minors"]) >= 300:
        yield "sexual_minors"
    if real_person and scores["sexual"] >= 300:
        yield "sexual_likeness"
    if scores["violence"] >= 700:
        yield "violence"
    if scores["sexual"] >= 500:
        yield "sexual"
    if scores["hate"] >= 500:
        yield "hate"
    if scores["self_harm"] >= 500:
        yield "self_harm"
    if scores["illicit"] >= 500:
        yield "illicit"
    if scores["obfuscated"] >= 500:
        yield "obfuscated"
    if scores["harassment"] >= 500:
        yield "harassment"
    if scores["impersonation"] >= 500:
        yield "impersonation"


def _everyone(job: JobFacts, request: RequestFacts) -> Iterator[str]:
    """Exactly as many people agree as are depicted."""
    if job.consenting != request.depicted:
        yield "consent.quorum"


def _recorded(job: JobFacts) -> Iterator[str]:
    """No record, no clip."""
    if not job.recorded:
        yield "release.unrecorded"


def _no_copy(job: JobFacts) -> Iterator[str]:
    """What was taken down or withdrawn does not come back as another clip."""
    if job.copies:
        yield "release.copy"


# One person's likeness ------------------------------------------------------------------------------------


def _likeness(cameo: CameoFacts, request: RequestFacts) -> Iterator[str]:
    """What is never made, and what this person has or has not agreed to."""
    yield from _every_step(request)
    yield from _person(cameo, request)
    yield from _minor(cameo, request)
    if cameo.grant is None or not cameo.grant.for_requester:
        yield "consent.no_grant"
    if cameo.grant is not None:
        yield from _grant(cameo.grant, request)


def _person(cameo: CameoFacts, request: RequestFacts) -> Iterator[str]:
    if request.depicted == 0:
        yield "standing.depicted"
    if not cameo.active:
        yield "standing.inactive"
    if cameo.erased:
        yield "standing.erased"
    if cameo.blocks_requester:
        yield "standing.blocked"
    if cameo.cooling_off:
        yield "consent.cooling_off"


def _grant(grant: GrantFacts, request: RequestFacts) -> Iterator[str]:
    """A grant holds in its time, until taken back, for what it names and nothing else."""
    if not grant.started:
        yield "consent.not_started"
    if grant.expired:
        yield "consent.expired"
    if grant.revoked or grant.withdrawn:
        yield "consent.revoked"
    if not request.modalities or request.modalities - grant.modalities:
        yield "consent.modality"
    if request.purpose not in grant.purposes:
        yield "consent.purpose"
    if request.action not in grant.actions:
        yield "consent.action"
    if request.contexts - grant.allowed_contexts:
        yield "consent.context"
    if request.contexts & grant.forbidden_contexts:
        yield "consent.forbidden_context"
    if request.audience == ANYONE and grant.audience != ANYONE:
        yield "consent.audience"
    if not grant.within_countries:
        yield "consent.countries"
    if grant.against_preferences:
        yield "consent.preference"


def _spent(grant: GrantFacts | None) -> Iterator[str]:
    """A grant is used no more often than it says."""
    if grant is not None and grant.max_uses - grant.uses < 1:
        yield "consent.used_up"


def _waits(grant: GrantFacts | None) -> Iterator[str]:
    """Where the person asked to see the clip first, they have."""
    if grant is not None and grant.approval != "none" and not grant.approved:
        yield "release.approval"


def _minor(cameo: CameoFacts, request: RequestFacts) -> Iterator[str]:
    """Guardian, face only, approved first, no sex, violence or romance, never for or beside strangers."""
    if not cameo.minor:
        return
    if not cameo.guardian_consent:
        yield "minors.guardian"
    if "voice" in request.modalities:
        yield "minors.voice"
    if request.contexts & {"sexual", "violent", "romantic"} or request.scores["violence"] >= 300:
        yield "minors.context"
    if cameo.with_adult and not cameo.guardians_allow_adults:
        yield "minors.with_adults"
    grant = cameo.grant
    if grant is not None and grant.approval == "none":
        yield "minors.approval"
    offered = grant is not None and (grant.offered_to_everyone or grant.audience == ANYONE)
    if grant is not None and (offered or request.audience == ANYONE):
        yield "minors.strangers"


# The clip -----------------------------------------------------------------------------------------------


def _rendered(request: RequestFacts, output: OutputFacts) -> Iterator[str]:
    """Everything was looked at; only granted people, no apparent minor, nothing unsafe."""
    if output.unreadable:
        yield "clear.unreadable"
    if not output.faces_checked:
        yield "clear.faces_unchecked"
    if not output.classifiers_ok:
        yield "clear.classifiers"
    if output.ungranted_faces and not output.reviewed:
        yield "clear.ungranted_face"
    if output.enrolled_faces:
        yield "clear.enrolled_face"
    if output.ungranted_voices and not output.reviewed:
        yield "clear.ungranted_voice"
    if output.enrolled_voices:
        yield "clear.enrolled_voice"
    if output.known_bad_matches:
        yield "clear.known_bad"
    if output.unchecked - {"violence", "minors"}:
        yield "clear.unchecked"
    if output.unchecked & {"violence", "minors"} and not output.closed_model:
        yield "clear.unchecked_model"
    if output.granted_faces_seen > request.depicted:
        yield "clear.too_many_people"
    if output.apparent_minors:
        yield "clear.minor"
    if output.do_not_generate_matches:
        yield "clear.do_not_generate"
    if request.depicted and output.contexts - output.agreed_contexts:
        yield "clear.context"
    if output.against_preferences:
        yield "clear.preference"
    yield from _minors_clip(output)
    yield from (f"clear.{rule}" for rule in _unsafe(output.scores, real_person=request.depicted != 0))


def _minors_clip(output: OutputFacts) -> Iterator[str]:
    """A minor is in nothing that they could not have been asked for, and beside nobody unknown; no review changes that."""
    if not output.granted_minors:
        return
    if output.contexts & {"sexual", "violent", "romantic"} or output.scores["violence"] >= 300:
        yield "minors.clip"
    if output.ungranted_faces:
        yield "minors.beside_a_stranger"


def _download(clip: ClipFacts, cameo: CameoFacts | None) -> Iterator[str]:
    """Only what was released and still may be shown, to those the person lets see it."""
    if not clip.ledger_ok:
        yield "download.ledger"
    if not clip.released:
        yield "download.unreleased"
    if clip.quarantined:
        yield "download.quarantined"
    if clip.taken_down:
        yield "download.taken_down"
    if cameo is None:
        if clip.depicted:
            yield "download.nobody_asked"
        return
    if cameo.erased:
        yield "download.erased"
    if cameo.grant is None:
        yield "download.no_grant"
        return
    if cameo.grant.withdrawn:
        yield "download.withdrawn"
    if cameo.grant.audience != ANYONE and not clip.viewer_is_requester:
        yield "download.audience"


# What is recorded about people, and orders --------------------------------------------------------------


def _reads(reader: ReaderFacts, about: ListFacts) -> Iterator[str]:
    """People read about themselves; auditors about anyone, once the owner can see that they did."""
    if reader.role == "owner" and not about.own:
        yield "access.not_yours"
    elif reader.role == "auditor" and not about.recorded:
        yield "access.unrecorded"
    elif reader.role == "operator":
        yield "access.operator"


def _erases(reader: ReaderFacts, about: ListFacts) -> Iterator[str]:
    """People erase what is recorded about themselves, and nobody else does."""
    if reader.role != "owner":
        yield "access.erase"
    elif not about.own:
        yield "access.not_yours"


def _orders(action: str, operator: OperatorFacts, order: OrderFacts) -> Iterator[str]:
    """One operator may make things safer; it takes two to make them less so."""
    if not operator.registered:
        yield "operator.unregistered"
    if action == "reinstate_app" and not order.seconded:
        yield "operator.reinstate_alone"
    if action == "pass_clip" and not order.seconded:
        yield "operator.pass_alone"
    if action == "activate_policies":
        if not order.checked:
            yield "operator.unchecked"
        if order.loosens and not order.seconded:
            yield "operator.two_people"
