"""What the rules say, a second time: plain Python, written from the prose and not from the policies.

`verdict` returns the ids of every rule that forbids; an empty set means allowed. It knows nothing of Cedar,
of the schema or of the engine's own guards, so agreement between the two is evidence about both.
"""

from collections.abc import Iterator

from safety.engine import (
    CameoFacts,
    ClipFacts,
    GrantFacts,
    OutputFacts,
    RequesterFacts,
    RequestFacts,
    Scores,
)

ANYONE = "everyone"


def verdict(
    ask: str,
    *,
    requester: RequesterFacts | None = None,
    cameo: CameoFacts | None = None,
    request: RequestFacts | None = None,
    output: OutputFacts | None = None,
    clip: ClipFacts | None = None,
) -> frozenset[str]:
    if ask == "download":
        assert clip is not None
        return frozenset(_download(cameo, clip))
    assert request is not None
    rules = set(_every_step(request))
    if requester is not None and requester.suspended:
        rules.add("standing.suspended")
    if output is not None:
        rules |= set(_clear(request, output))
    if cameo is not None:
        rules |= set(_person(cameo, request)) | set(_minor(cameo, request))
        if cameo.grant is None or not cameo.grant.for_requester:
            rules.add("consent.no_grant")
        if cameo.grant is not None:
            rules |= set(_grant(cameo.grant, request))
            if ask == "use_likeness" and cameo.grant.uses_left == 0:
                rules.add("consent.used_up")
            if ask == "release" and cameo.grant.approval != "none" and not cameo.grant.approved:
                rules.add("release.approval")
    return frozenset(rules)


def _every_step(request: RequestFacts) -> Iterator[str]:
    """Nothing is made without a record and a check, of strangers, or of prohibited content."""
    real_person = request.depicted != 0
    if not request.ledger_ok:
        yield "standing.ledger"
    if not request.classifiers_ok:
        yield "standing.classifiers"
    if request.unknown_faces:
        yield "prohibited.unknown_face"
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


def _person(cameo: CameoFacts, request: RequestFacts) -> Iterator[str]:
    if request.depicted == 0:
        yield "standing.depicted"
    if not cameo.active:
        yield "standing.inactive"
    if cameo.erased:
        yield "standing.erased"
    if cameo.blocks_requester:
        yield "standing.blocked"


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


def _minor(cameo: CameoFacts, request: RequestFacts) -> Iterator[str]:
    """Guardian, face only, approved first, no sex, violence or romance, never for strangers."""
    if not cameo.minor:
        return
    if not cameo.guardian_consent:
        yield "minors.guardian"
    if "voice" in request.modalities:
        yield "minors.voice"
    if request.contexts & {"sexual", "violent", "romantic"} or request.scores["violence"] >= 300:
        yield "minors.context"
    grant = cameo.grant
    if grant is not None and grant.approval == "none":
        yield "minors.approval"
    if grant is not None and (grant.offered_to_everyone or ANYONE in (grant.audience, request.audience)):
        yield "minors.strangers"


def _clear(request: RequestFacts, output: OutputFacts) -> Iterator[str]:
    """Everything was looked at; only granted people, no apparent minor, nothing unsafe."""
    if output.unreadable:
        yield "clear.unreadable"
    if not output.faces_checked:
        yield "clear.faces_unchecked"
    if not output.classifiers_ok:
        yield "clear.classifiers"
    if output.ungranted_faces:
        yield "clear.ungranted_face"
    if output.granted_faces_seen > request.depicted:
        yield "clear.too_many_people"
    if output.apparent_minors:
        yield "clear.minor"
    if output.do_not_generate_matches:
        yield "clear.do_not_generate"
    yield from (f"clear.{rule}" for rule in _unsafe(output.scores, real_person=request.depicted != 0))


def _download(cameo: CameoFacts | None, clip: ClipFacts) -> Iterator[str]:
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
