"""What the pages are given, as the JSON routes answer it: one rich example of each, with text that wants to break out."""

import base64
import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from gateway.site.open import verdict_in
from gateway.site.words import COUNTRIES, LANGUAGES, Language, catalogue

NASTY = "<img src=x onerror=alert(1)>\"'&amp;"
ADA, GRACE, MIA = (f"person_{letter * 26}" for letter in "agm")
APP, VIDEO, GRANT = f"app_{'f' * 26}", f"video_{'v' * 26}", f"grant_{'p' * 26}"
THUMBNAIL = "/picture.jpg"
SAYS = {
    "en": "Film Club may make up to 3 videos with your face, not your voice, from 1 February 2026 until 1 March 2026, "
    "not for business, only they may watch them, nothing political, violent or sexual, you approve each one before it "
    "goes out. You can take this back at any moment: nothing new is made from then on, and everything made with it is "
    "withdrawn.",
    "de": "Film Club darf bis zu 3 Videos mit deinem Gesicht, nicht deiner Stimme, erstellen, vom 1. Februar 2026 bis "
    "1. März 2026, nicht geschäftlich, nur sie dürfen sie ansehen, nichts Politisches, Gewalttätiges oder Sexuelles, "
    "du gibst jedes frei, bevor es erscheint. Du kannst das jederzeit zurücknehmen: von da an entsteht nichts Neues, "
    "und alles damit Gemachte wird zurückgezogen.",
}


def grant(language: Language, number: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "grant_id": GRANT[:-1] + str(number),
        "grantee": {"type": "app", "id": APP, "name": "Film Club"},
        "sentence": SAYS[language],
        "live": True,
        "status": "live",
        "uses": 1,
        "uses_left": 2,
        "starts": "2026-02-01T00:00:00Z",
        "expires": "2026-03-01T00:00:00Z",
        "approval": "before_release",
        "forbidden_contexts": ["political", "violent", "sexual"],
        "preferences": ["no clowns", NASTY],
        "countries": ["DE", "XK", "*"],
        "revocation_effect": "stop_new",
        "parent": None,
        "passed_on": [],
        "revoked_at": None,
        "effect": None,
        "out": True,
        **changes,
    }


def held_clip() -> dict[str, Any]:
    """As `GET /v1/reviews` lists it."""
    path = f"/v1/reviews/{VIDEO}"
    return {
        "video_id": VIDEO,
        "waits_for": "appeal",
        "app_name": f"Film Club {NASTY}",
        "prompt": f"a portrait in a busy street {NASTY}",
        "seconds": 4,
        "size": "1280x720",
        "people_who_agreed": 1,
        "policies": ["clear.ungranted_face", "clear.ungranted_voice"],
        "sha256": "0" * 64,
        "held_at": "2026-02-20T10:00:00Z",
        "until": "2026-02-27T10:00:00Z",
        "passed_by_others": 1,
        "passed_by_me": False,
        "looked_at_by_me": False,
        "refused_by_me": False,
        "notes": [NASTY],
        "appeal": f"that is a statue {NASTY}",
        "pictures": [
            {
                "at_ms": 400 * n,
                "boxes": [[10, 60, 60, 10]],
                "blurred": f"{path}/pictures/{n}",
                "sharp": f"{path}/pictures/{n}/sharp",
            }
            for n in range(2)
        ],
        "clip": f"{path}/clip",
    }


def grants(language: Language) -> list[dict[str, Any]]:
    ended = {"live": False, "uses_left": 0}
    aunt = {"type": "person", "id": GRACE, "name": "Grace Hopper"}
    return [
        grant(language),
        grant(
            language, 1, grantee=aunt, uses=0, uses_left=1, approval="none", revocation_effect="withdraw_all"
        ),
        grant(language, 2, **ended, status="used_up"),
        grant(
            language,
            3,
            **ended,
            status="revoked",
            revoked_at="2026-02-14T08:30:00Z",
            effect="withdraw_all",
            out=False,
        ),
    ]


def events(language: Language) -> list[dict[str, Any]]:
    words = {
        "en": (
            "Film Club published a video with you",
            "Film Club was refused a video with you",
            "A permission was given",
        ),
        "de": (
            "Film Club hat ein Video mit dir veröffentlicht",
            "Film Club wurde ein Video verweigert",
            "Erlaubnis gegeben",
        ),
    }[language]
    nothing = dict.fromkeys(("app_id", "app_name", "video_id", "prompt", "status", "downloads", "thumbnail"))
    base: dict[str, Any] = {
        **nothing,
        "at": "2026-02-20T18:05:00Z",
        "kind": "release",
        "detail": "",
        "reasons": [],
        "why": "",
    }
    shown = {"video_id": VIDEO, "thumbnail": THUMBNAIL, "prompt": "a portrait in golden light"}
    return [
        {**base, **shown, "index": 9, "title": words[0], "status": "released", "downloads": 12},
        {
            **base,
            "index": 8,
            "title": words[1],
            "status": "refused",
            "prompt": NASTY,
            "video_id": VIDEO,
            "why": NASTY,
        },
        {**base, "index": 7, "title": words[2], "detail": SAYS[language]},
    ]


def draft(language: Language) -> dict[str, Any]:
    return {
        "video_id": VIDEO,
        "app_id": APP,
        "app_name": "Film Club",
        "requested_by": GRACE,
        "requested_by_name": "Grace Hopper",
        "prompt": f"You give a speech on a small stage, warm light, friends in the front row. {NASTY}",
        "seconds": "8",
        "size": "1280x720",
        "asked_at": "2026-02-20T17:58:00Z",
        "until": "2026-02-27T17:58:00Z",
        "grant_id": GRANT,
        "sentence": SAYS[language],
        "clip": "/clip.mp4",
        "thumbnail": THUMBNAIL,
        "approved_by_me": None,
    }


def me(**changes: Any) -> dict[str, Any]:
    keys = [("Chrome, Android", True), ("Safari, Mac", False)]
    return {
        "person_id": ADA,
        "display_name": "Ada",
        "language": "en",
        "cameo_id": f"cameo_{'c' * 26}",
        "likeness": "active",
        "usable_from": None,
        "minor": False,
        "age_known": True,
        "guardians": [],
        "wards": [{"person_id": MIA, "name": "Mia"}],
        "estates": [{"person_id": GRACE, "name": "Grace Hopper"}],
        "passkeys": [
            {
                "id": name,
                "name": name,
                "kind": "passkey",
                "created_at": "2026-01-02T10:00:00Z",
                "used_at": "2026-02-20T08:00:00Z",
                "current": current,
            }
            for name, current in keys
        ],
        "recovery_codes_left": 9,
        "sessions": [
            {"id": name, "agent": name, "created_at": "2026-02-20T08:00:00Z", "current": current}
            for name, current in keys
        ],
        "recovered": False,
        **changes,
    }


def preview(language: Language) -> dict[str, Any]:
    canonical = json.dumps(
        {"grantee": {"id": APP, "type": "app"}, "max_uses": 3, "preferences": [NASTY]},
        sort_keys=True,
        separators=(",", ":"),
    )
    digest = sha256(b"countersign/grant/v1\x00" + canonical.encode()).digest()
    return {
        "canonical": canonical,
        "challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "sentence": SAYS[language],
        "notice": "Your face is used only as this permission says.",
    }


WRONG_FILM = {
    "en": {"reason": "The head is not turned.", "remedy": f"Turn it clearly to each side. {NASTY}"},
    "de": {"reason": "Der Kopf dreht sich nicht.", "remedy": f"Dreh ihn deutlich nach jeder Seite. {NASTY}"},
}


def enrolment(language: Language, status: str) -> dict[str, Any]:
    text = {
        "en": "I film my own face and voice so that my likeness can be recognised.",
        "de": "Ich filme mein eigenes Gesicht und meine Stimme, damit mein Abbild erkannt werden kann.",
    }
    capture = {
        "capture_id": f"capture_{'k' * 26}",
        "digits": "481273",
        "turns": ["left", "right", "left"],
        "colours": [],
        "expires_at": "2099-03-01T00:05:00Z",
    }
    return {
        "status": status,
        "consent": {"text": text[language], "sha256": "0" * 64},
        "capture": capture if status == "challenge" else None,
        "reasons": [WRONG_FILM[language]] if status == "refused" else [],
        "usable_from": None,
    }


def notice(status: str, **changes: Any) -> dict[str, Any]:
    return {
        "notice_id": f"notice_{'n' * 26}",
        "kind": "takedown",
        "status": status,
        "video_id": VIDEO,
        "lodged_at": "2026-02-20T10:00:00Z",
        "due_at": "2099-02-22T10:00:00Z",
        "held_back": True,
        "decisions": [],
        "may_appeal": False,
        **changes,
    }


def words_of(language: Language, prefix: str) -> dict[str, str]:
    return {
        key.removeprefix(prefix): text for key, text in catalogue(language).items() if key.startswith(prefix)
    }


def pages(language: Language) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Name → template and context, as the views give it."""
    assert language in LANGUAGES
    mine = {"signed_in": True}
    home = {**mine, "tab": "home"}
    blank = dict.fromkeys(
        ("kind", "video", "shown", "relation", "reason", "intimate", "name", "email", "country", "signature"),
        "",
    )
    decided = [{"action": "kept", "note": "It does not show you.", "at": "2026-02-21T10:00:00Z"}]
    chosen = {"who": "", "app": "", "person": ""}
    people = [{"person_id": GRACE, "name": "Grace Hopper"}, {"person_id": MIA, "name": NASTY}]
    blocked = [{"target": APP, "name": "Loud App", "type": "app"}]
    wards = [
        {**one, "relation": "parent", "max_uses": 5, "with_adults": one["name"] == NASTY} for one in people
    ]
    speaking = {
        "id": "0" * 64,
        "app_id": APP,
        "app_name": "Film Club",
        "created_at": "2026-02-20T08:00:00Z",
        "expires_at": "2026-03-20T08:00:00Z",
    }
    apps = [{"id": APP, "name": "Film Club"}]
    keys = {"apps": apps, "tokens": [speaking], "token": ""}
    no_keys = {"apps": [], "tokens": [], "token": ""}
    ward = {"name": "Mia", "role": "guardian", "person_id": MIA}
    signing = {
        "kind": "grant",
        "options": {"challenge": preview(language)["challenge"]},
        "needs_guardian": True,
        "field": "grant",
        "tag": "countersign/grant/v1",
        "extra": {},
        "post": "/v1/grants",
        "next": "/me",
        "back": "/me/permissions/new",
    }
    waiting = {**people[1], "grant_id": GRANT, "sentence": SAYS[language]}
    return {
        "check": ("check", verdict_in(language)),
        "join": ("join", {}),
        "signin": ("signin", {"next": "/me", "refused": False}),
        "signin-refused": ("signin", {"next": "/me", "refused": True}),
        "me": (
            "me",
            {
                **home,
                "me": me(),
                "drafts": [draft(language)],
                "grants": grants(language),
                "out": grants(language)[2:3],
                "past": grants(language)[3:],
                "events": events(language),
            },
        ),
        "me-new": (
            "me",
            {
                **home,
                "me": me(likeness="none", cameo_id=None, age_known=False, minor=True),
                "drafts": [],
                "grants": [],
                "out": [],
                "past": [],
                "events": [],
            },
        ),
        "me-ward": (
            "me",
            {
                **home,
                "acting_for": ward,
                "for_query": f"?for={MIA}",
                "me": me(display_name="Mia"),
                "drafts": [],
                "grants": grants(language)[:1],
                "out": [],
                "past": [],
                "events": [],
                "done": "revoked",
            },
        ),
        "permission": (
            "permission",
            {
                **home,
                "grant": grant(language),
                "events": events(language)[:2],
                "receipt": "/receipt.json",
                "signed": "/signed.json",
            },
        ),
        "permission-ended": (
            "permission",
            {
                **home,
                "grant": grants(language)[3],
                "events": [],
                "receipt": "/receipt.json",
                "signed": "/signed.json",
            },
        ),
        "permission-used-up": (
            "permission",
            {
                **home,
                "grant": grants(language)[2],
                "events": events(language)[:1],
                "receipt": "/receipt.json",
                "signed": "/signed.json",
            },
        ),
        "permission-new": (
            "permission_new",
            {
                **home,
                "chosen": chosen,
                "apps": apps,
                "people": people,
                "countries": COUNTRIES,
                "home_country": "DE",
            },
        ),
        "sign": ("sign", {**home, **preview(language), **signing}),
        "sign-guardian": (
            "sign",
            {**home, **preview(language), **signing, "kind": "guardianship", "options": None, "notice": ""},
        ),
        "guardian": ("guardian", {**mine, "ward": people[1], "token": "t"}),
        "onward": ("onward", {**mine, "location": "https://age.example/a?b=c&d", "host": "age.example"}),
        "age": ("age", {"answer": {"state": NASTY, "code": "c"}}),
        "age-unfinished": ("age", {"answer": None}),
        "draft": ("draft", {**home, "draft": draft(language)}),
        "timeline": ("timeline", {**mine, "tab": "record", "events": events(language) * 3, "next": 4}),
        "people": (
            "people",
            {**mine, "tab": "people", "me": me(), "circle": {"members": people, "blocked": blocked}},
        ),
        "family": (
            "family",
            {**mine, "tab": "family", "me": me(), "pending": [waiting], "wards": wards, "invitation": ""},
        ),
        "family-minor": (
            "family",
            {
                **mine,
                "tab": "family",
                "me": me(
                    minor=True,
                    likeness="waiting_handover",
                    guardians=[{**people[0], "with_adults": False, "max_uses": 5}],
                ),
                "pending": [],
                "wards": [],
                "invitation": "http://localhost/family/abc",
            },
        ),
        "security": ("security", {**mine, "tab": "security", "me": me(), **keys}),
        "security-token": (
            "security",
            {**mine, "tab": "security", "me": me(), **keys, "token": f"cs_person_{'t' * 43}"},
        ),
        "security-unknown": (
            "security",
            {
                **mine,
                "tab": "security",
                "me": me(age_known=False, minor=True, recovery_codes_left=1),
                **no_keys,
            },
        ),
        "enrol": ("enrol", {**home, "enrolment": enrolment(language, "none")}),
        "enrol-challenge": ("enrol", {**home, "enrolment": enrolment(language, "challenge")}),
        "enrol-pending": ("enrol", {**home, "enrolment": enrolment(language, "pending_review")}),
        "enrol-refused": ("enrol", {**home, "enrolment": enrolment(language, "refused")}),
        "leave": ("leave", {**home, "me": me(), "wrong": False}),
        "erased": ("erased", {**mine, "certificate": {"erased": ADA}, "last_list": {"entries": []}}),
        "takedown": ("takedown", {"problem": "", "given": blank, "countries": COUNTRIES}),
        "takedown-confirm": (
            "takedown_status",
            {"notice": None, "notice_id": "notice_1", "token": ""},
        ),
        "takedown-open": (
            "takedown_status",
            {"notice": notice("open"), "notice_id": "notice_1", "token": "t"},
        ),
        "takedown-decided": (
            "takedown_status",
            {
                "notice": notice("decided", decisions=decided, may_appeal=True, held_back=False),
                "notice_id": "notice_1",
                "token": "t",
            },
        ),
        "operator": (
            "operator",
            {"operator_words": words_of(language, "operator.") | words_of(language, "takedown.action.")},
        ),
        "problem": (
            "problem",
            {
                "kind": "refused",
                "reasons": [
                    {
                        "sentence": "You may not do this for this person.",
                        "remedy": "Sign in as they themselves.",
                    }
                ],
            },
        ),
    }
