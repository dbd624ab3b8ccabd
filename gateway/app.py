"""The Litestar application: routes, one error handler, security headers."""

import secrets
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from litestar import Litestar, Request, Response, Router
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.response import Redirect
from litestar.static_files import create_static_files_router
from litestar.types import Message, Scope

from gateway import audit, bindings, log, passing_on, pki, public, retention, reviews, videos, webhooks
from gateway.notices import deciding, giving
from gateway.owners import (
    accounts,
    age,
    approvals,
    circle,
    enrolment,
    family,
    grants,
    passkeys,
    records,
    sessions,
    timeline,
    tokens,
)
from gateway.problems import on_error
from gateway.service import Service
from gateway.site import account, acts, me
from gateway.site import open as entrance
from gateway.site import takedown as report

ASSETS = Path(__file__).parent / "pages" / "assets"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    # Nothing to other sites; but with `no-referrer` a form of our own pages would say `Origin: null`, as theirs do.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


def create_app(service: Service) -> Litestar:
    """The app over an open service whose jobs are running."""

    async def the_service() -> Service:
        return service

    # One router: handlers that share a path and are registered apart are wrapped for their thread twice.
    routes = Router(
        path="/",
        route_handlers=[
            videos.create_video,
            videos.precheck_video,
            videos.remix_video,
            videos.list_videos,
            videos.get_video,
            videos.delete_video,
            videos.video_content,
            *accounts.ROUTES,
            *sessions.ROUTES,
            *passkeys.ROUTES,
            *age.ROUTES,
            *enrolment.ROUTES,
            *grants.ROUTES,
            *timeline.ROUTES,
            *family.ROUTES,
            *circle.ROUTES,
            *reviews.ROUTES,
            *passing_on.ROUTES,
            *records.ROUTES,
            *retention.ROUTES,
            *webhooks.ROUTES,
            *approvals.ROUTES,
            *tokens.ROUTES,
            *giving.ROUTES,
            *deciding.ROUTES,
            public.verify,
            public.clip_status,
            audit.audit_uses,
            log.checkpoint,
            log.tile,
            log.log_keys,
            log.receipt,
            log.log_proof,
            log.video_receipts,
            *bindings.ROUTES,
            public.root_certificate,
            public.published_schema,
            *pki.ROUTES,
            public.policies_in_force,
            public.policy_set,
            public.health,
            public.ready,
            *entrance.ROUTES,
            *report.ROUTES,
            *me.ROUTES,
            *acts.ROUTES,
            *account.ROUTES,
        ],
    )
    assets = create_static_files_router(path="/assets", directories=[ASSETS], include_in_schema=False)
    return Litestar(
        route_handlers=[routes, assets],
        dependencies={"service": Provide(the_service)},
        exception_handlers={Exception: on_error},
        before_request=partial(_by_name, service),
        before_send=[_headers],
        request_max_body_size=service.settings.max_upload_mb << 20,
        openapi_config=OpenAPIConfig(
            title="Countersign",
            version="0.1.0",
            path="/docs",
            use_handler_docstrings=True,
            # The document only: the framework's viewers load scripts from other people's servers.
            render_plugins=[JsonRenderPlugin()],
        ),
    )


async def _by_name(service: Service, request: Request[Any, Any, Any]) -> Response[Any] | None:
    """Send who opened a page of this machine by its address to its name: passkeys know no addresses."""
    asked, ours = urlsplit(f"//{request.headers.get('host', '')}"), urlsplit(service.settings.url)
    if (
        request.headers.get("sec-fetch-mode") == "navigate"
        and request.method == "GET"
        and (asked.hostname, asked.port) in {("127.0.0.1", ours.port), ("::1", ours.port)}
        and ours.hostname == "localhost"
    ):
        query = f"?{request.url.query}" if request.url.query else ""
        return Redirect(f"{service.settings.url}{request.url.path}{query}", status_code=307)
    return None


async def _headers(message: Message, scope: Scope) -> None:
    """A request id and the security headers, on every answer: also where there is no route to answer.

    What does not say that it may be kept is somebody's: no browser's disk and no proxy keeps it.
    """
    if message["type"] == "http.response.start":
        extra = {"x-request-id": f"req_{secrets.token_hex(12)}", **HEADERS}
        raw: list[Any] = list(message["headers"])
        said = any(name.lower() == b"cache-control" for name, _ in raw)
        if not said and not scope["path"].startswith("/assets/"):
            extra["cache-control"] = "no-store"
        message["headers"] = raw + [(key.encode(), value.encode()) for key, value in extra.items()]
