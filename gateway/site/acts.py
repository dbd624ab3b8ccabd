"""What the forms on the pages do: each calls the function of a JSON route, with all its checks, and shows a page.

Consent itself is never given by a form: the pages to sign on (:func:`_to_sign`) ask a passkey.
"""

from typing import Any

from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler

from gateway.owners import (
    approvals,
    circle,
    enrolment,
    family,
    grants,
    timeline,
)
from gateway.problems import Problem, problem
from gateway.service import Service
from gateway.site.me import Visit, family_page, visit
from gateway.site.posts import Form, checked, do, number, on
from gateway.site.render import Ask, on_page_error, page, to
from gateway.site.words import translator
from ledger.consent import passkey
from ledger.consent.statement import (
    GRANT_TAG,
    GUARDIANSHIP_TAG,
    HANDOVER_TAG,
    decode_bytes,
)

CONTEXTS = ("political", "sexual", "violent", "romantic", "advertising")


def _back(request: Ask, path: str, done: str) -> Response[Any]:
    return to(path, done, person=request.query_params.get("for", ""))


# -- permissions -------------------------------------------------------------------------------------------


@on("/me/permissions/preview")
def preview_permission(request: Ask, service: Service, form: Form) -> Response[Any]:
    """What was chosen, as one sentence and as the very bytes to sign."""
    seen = visit(request, service)
    if seen.owner["cameo_id"] is None:
        raise problem(400, "grant.no_likeness", "your likeness is not here yet", "add it first")
    found = do(grants.preview_grant, request, service, _draft(seen, form))
    guarded = found["needs_guardian"]
    onward = f"/me/permissions/{{id}}{seen.query}{'&' if seen.query else '?'}done=recorded"
    return _to_sign(
        request,
        seen,
        "grant",
        {**found, "options": _passkey_options(service, seen, found["challenge"])},
        tag=GRANT_TAG,
        field="grant",
        post=f"/v1/grants{seen.query}",
        next="/me?done=pending" if guarded else onward,
        back=f"/me/permissions/new{seen.query}",
        needs_guardian=guarded,
    )


def _draft(seen: Visit, form: Form) -> grants.GrantDraft:
    who = form.one("who")
    named = {"app": form.one("app"), "person": form.one("person"), "group": "mutuals", "everyone": "*"}
    never = [one for one in CONTEXTS if one in form.all("forbidden_contexts")]
    words = [line.strip() for line in form.one("preferences").splitlines() if line.strip()]
    fields = {
        "cameo_id": seen.owner["cameo_id"],
        "grantee": {"type": who, "id": named.get(who, "").strip()},
        "modalities": tuple(form.one("modalities").split()),
        "purposes": tuple(form.all("purposes")),
        # Nothing sexual can be allowed; whatever else was not ruled out was said to be allowed.
        "allowed_contexts": tuple(one for one in CONTEXTS if one not in {*never, "sexual"}),
        "forbidden_contexts": tuple(never),
        "actions": tuple(form.all("actions")),
        "audience": form.one("audience"),
        "max_uses": number(form, "max_uses"),
        "days": number(form, "days"),
        "jurisdictions": tuple(form.all("jurisdictions")),
        "approval": form.one("approval"),
        "revocation_effect": form.one("revocation_effect"),
        "preferences": tuple(words),
        "may_pass_on": form.one("may_pass_on") == "yes",
        "language": seen.language,
    }
    draft: grants.GrantDraft = checked(grants.GrantDraft, fields)
    return draft


def _passkey_options(service: Service, seen: Visit, asked: str) -> dict[str, Any] | None:
    with service.ledger.reading() as tx:
        keys = tx.credentials(seen.who.actor)
    allow = [one.id for one in keys if one.kind == "passkey" and one.rp_id == service.settings.rp_id]
    if not allow:
        return None
    return passkey.request_options(
        rp_id=service.settings.rp_id, challenge=decode_bytes(asked, 32), allow=allow
    )


def _to_sign(request: Ask, seen: Visit, kind: str, signing: dict[str, Any], **more: Any) -> Response[Any]:
    """The page on which a passkey signs `signing`, once the browser has found the challenge to be its hash."""
    shown = {name: signing[name] for name in ("canonical", "challenge", "options", "sentence")}
    rest = {"notice": signing.get("notice", ""), "needs_guardian": False, "extra": {}}
    return page(request, "sign", **seen.frame, **shown, **rest | more, kind=kind)


@on("/me/permissions/{grant_id:str}/take-back")
def take_back(request: Ask, service: Service, form: Form) -> Response[Any]:
    grant_id, effect = request.path_params["grant_id"], form.one("effect")
    chosen = checked(grants.RevokeIn, {"effect": effect or None})
    do(grants.revoke_grant, request, service, grant_id, chosen)
    onward = f"/me/permissions/{grant_id}" if form.one("from") == "permission" else "/me"
    return _back(request, onward, "withdrawn" if effect == "withdraw_all" else "revoked")


@on("/me/drafts/{video_id:str}")
def answer(request: Ask, service: Service, form: Form) -> Response[Any]:
    said = checked(approvals.AnswerIn, {"decision": form.one("decision")})
    do(approvals.answer_approval, request, service, request.path_params["video_id"], said)
    return _back(request, "/me", "approved" if said.decision == "approve" else "refused")


# -- people ------------------------------------------------------------------------------------------------


@on("/me/people/add")
def add_person(request: Ask, service: Service, form: Form) -> Response[Any]:
    return _member(request, service, form, member=True)


@on("/me/people/remove")
def remove_person(request: Ask, service: Service, form: Form) -> Response[Any]:
    return _member(request, service, form, member=False)


def _member(request: Ask, service: Service, form: Form, *, member: bool) -> Response[Any]:
    said = checked(circle.MemberIn, {"person_id": form.one("person_id").strip(), "member": member})
    do(circle.change_member, request, service, said)
    return _back(request, "/me/people", "added" if member else "removed")


@on("/me/people/block")
def block(request: Ask, service: Service, form: Form) -> Response[Any]:
    return _block(request, service, form, blocked=True)


@on("/me/people/unblock")
def unblock(request: Ask, service: Service, form: Form) -> Response[Any]:
    return _block(request, service, form, blocked=False)


def _block(request: Ask, service: Service, form: Form, *, blocked: bool) -> Response[Any]:
    said = checked(circle.BlockIn, {"target": form.one("target").strip(), "blocked": blocked})
    do(circle.change_block, request, service, said)
    return _back(request, "/me/people", "blocked" if blocked else "unblocked")


# -- family ------------------------------------------------------------------------------------------------


@on("/me/family/invite")
def invite(request: Ask, service: Service, _form: Form) -> Response[Any]:
    made = do(family.invite_guardian, request, service)
    return family_page(request, service, visit(request, service), made["link"])


@get(
    "/join/{token:str}",
    include_in_schema=False,
    sync_to_thread=True,
    exception_handlers={Exception: on_page_error},
)
def invited(request: Ask, service: Service, token: str) -> Response[str]:
    """Where a guardian's invitation leads."""
    seen = visit(request, service)
    ward = family.invited_by(service, token)["ward"]
    return page(request, "guardian", **seen.frame | {"tab": ""}, ward=ward, token=token)


@on("/join/{token:str}")
def preview_guardian(request: Ask, service: Service, form: Form) -> Response[Any]:
    seen, token = visit(request, service), request.path_params["token"]
    said = checked(
        family.GuardianDraft,
        {
            "token": token,
            "relation": form.one("relation"),
            "max_uses": number(form, "max_uses"),
            "with_adults": form.one("with_adults") == "yes",
        },
    )
    found = do(family.preview_guardian, request, service, said)
    return _to_sign(
        request,
        seen,
        "guardianship",
        found,
        tag=GUARDIANSHIP_TAG,
        field="guardianship",
        extra={"token": token},
        post="/v1/guardians",
        next="/me/family?done=sent",
        back=f"/join/{token}",
    )


@get(
    "/me/family/sign/{grant_id:str}",
    include_in_schema=False,
    sync_to_thread=True,
    exception_handlers={Exception: on_page_error},
)
def sign_too(request: Ask, service: Service, grant_id: str) -> Response[Any]:
    """What somebody I answer for has signed, to sign with them: the same bytes."""
    seen = visit(request, service)
    waiting = family.pending_for(service, seen.who.actor)["pending"]
    found = next((one for one in waiting if one["grant_id"] == grant_id), None)
    if found is None:
        raise problem(404, "grant.unknown", "this no longer waits for you", "look at your family page")
    return _to_sign(
        request,
        seen,
        "cosign",
        found,
        tag=GRANT_TAG,
        field="",
        post=f"/v1/wards/pending/{grant_id}",
        next="/me/family?done=recorded",
        back="/me/family",
    )


@on("/me/family/decline")
def decline(request: Ask, service: Service, form: Form) -> Response[Any]:
    do(family.decline_grant, request, service, form.one("grant_id"))
    return to("/me/family", "declined")


@get(
    "/me/family/handover",
    include_in_schema=False,
    sync_to_thread=True,
    exception_handlers={Exception: on_page_error},
)
def take_over(request: Ask, service: Service) -> Response[Any]:
    """Keep my likeness, now that I am of age."""
    seen = visit(request, service)
    found = do(family.preview_handover, request, service)
    sentence = translator(seen.language)("handover.sentence")
    return _to_sign(
        request,
        seen,
        "handover",
        {**found, "sentence": sentence},
        tag=HANDOVER_TAG,
        field="statement",
        post="/v1/handover",
        next="/me?done=kept",
        back="/me/family",
    )


@on("/me/family/limits")
def limit(request: Ask, service: Service, form: Form) -> Response[Any]:
    """How far it may go with somebody I answer for: less counts at once, more is signed first."""
    seen, ward = visit(request, service), form.one("ward")
    fields = {"max_uses": number(form, "max_uses"), "with_adults": form.one("with_adults") == "yes"}
    said = checked(family.LimitsIn, fields)
    held = next((one for one in family.wards_of(service, seen.who.actor) if one["person_id"] == ward), None)
    if held is None:
        raise problem(
            404, "guardian.unknown", "you do not answer for this person", "look at your family page"
        )
    if said.max_uses <= held["max_uses"] and said.with_adults <= held["with_adults"]:
        do(family.narrow_limits, request, service, ward, said)
        return to("/me/family", "limits")
    draft = checked(family.GuardianDraft, {**fields, "ward": ward, "relation": held["relation"]})
    return _to_sign(
        request,
        seen,
        "limits",
        do(family.preview_guardian, request, service, draft),
        tag=GUARDIANSHIP_TAG,
        field="guardianship",
        post="/v1/guardians",
        next="/me/family?done=limits",
        back="/me/family",
    )


@on("/me/family/leave")
def stop_guarding(request: Ask, service: Service, form: Form) -> Response[Any]:
    do(family.leave_guardian, request, service, form.one("person_id"))
    return to("/me/family", "left")


# -- my likeness -------------------------------------------------------------------------------------------


@on("/me/enrol")
def begin(request: Ask, service: Service, form: Form) -> Response[Any]:
    agreed = {"agreed": form.one("agreed") == "yes", "consent_sha256": form.one("consent_sha256")}
    do(enrolment.begin_enrolment, request, service, checked(enrolment.ChallengeIn, agreed))
    return to("/me/enrol")


@post(
    "/me/enrol/{capture_id:str}",
    status_code=200,
    include_in_schema=False,
    exception_handlers={Exception: on_page_error},
)
async def send_film(request: Ask, service: Service, capture_id: str) -> Response[Any]:
    try:
        await do(enrolment.send_film, request, service, capture_id)
    except Problem as refused:
        # Then the page says why, with what to do better, and how to begin again.
        if not refused.reasons[0].id.startswith(enrolment.FILM_REFUSED):
            raise
    return to("/me/enrol")


@on("/me/export-erase/erase")
def erase(request: Ask, service: Service, form: Form) -> Response[Any]:
    """Everything about me, gone; and on this one page, what only I will be able to show from now on."""
    seen = visit(request, service)
    t, cameo_id = translator(seen.language), str(seen.owner["cameo_id"])
    if form.one("confirm").strip().casefold() != t("leave.erase.word").casefold():
        return page(request, "leave", status=400, **seen.frame, me=seen.owner, wrong=True)
    gone = do(timeline.erase_cameo, request, service, cameo_id, timeline.EraseIn(confirm=cameo_id))
    return page(request, "erased", language=seen.language, signed_in=True, **gone)


ROUTES: list[HTTPRouteHandler] = [
    preview_permission,
    take_back,
    answer,
    add_person,
    remove_person,
    block,
    unblock,
    invite,
    invited,
    preview_guardian,
    sign_too,
    decline,
    take_over,
    limit,
    stop_guarding,
    begin,
    send_film,
    erase,
]
