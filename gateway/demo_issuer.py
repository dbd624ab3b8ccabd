"""An OpenID Connect issuer for demonstrations: whoever asks says how old they are, and it believes them.

It runs inside the service, on loopback, and only when `COUNTERSIGN_AGE_ISSUER=demo` says so. What it vouches for is
worth nothing, its pages say that, and every `age` entry names it as the issuer.
"""

import hashlib
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey

from ledger.consent.statement import encode_key

CLIENT = "countersign-demo"
LIFE_S = 300
_MOST = 4096
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,"><title>Demonstration age check</title>
<style>body{{font:1.1rem/1.5 system-ui;max-width:28rem;margin:3rem auto;padding:0 1rem}}
button,input{{font:inherit;padding:.6rem 1rem;margin:.4rem 0;min-height:44px}}</style>
<main><h1>Demonstration age check</h1>
<p>This stands in for a bank or an identity wallet. It believes whatever you choose.</p>
<form method="post" action="/authorize">{hidden}
<p><label>Date of birth<br><input type="date" name="birthdate" value="1990-01-01" required></label></p>
<p><label>Who you are (the same name is the same person; empty is somebody new)<br><input name="who" value=""></label></p>
<p><button name="say" value="date">Share my date of birth</button></p>
<p><button name="say" value="over">Share only whether I am 18</button></p>
</form></main></html>"""


@dataclass(slots=True)
class _Said:
    """What somebody said, until the client redeems it."""

    claims: dict[str, Any]
    challenge: str
    redirect_uri: str
    expires: float


@dataclass(slots=True)
class _Issuer:
    clock: Callable[[], datetime]
    redirect_uri: str
    url: str = ""
    key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256", {"kid": "demo"}))
    said: dict[str, _Said] = field(default_factory=dict)

    def authorize(self, asked: dict[str, str]) -> str:
        """The address to send the person back to."""
        code = encode_key(secrets.token_bytes(32))
        now = self.clock()
        born, who = date.fromisoformat(asked["birthdate"]), asked.get("who", "").strip()
        years = now.year - born.year - ((now.month, now.day) < (born.month, born.day))
        claims: dict[str, Any] = {
            "iss": self.url,
            "aud": CLIENT,
            "sub": encode_key(hashlib.sha256(who.encode()).digest() if who else secrets.token_bytes(32)),
            "nonce": asked["nonce"],
            "iat": int(now.timestamp()),
            "exp": int(now.timestamp()) + LIFE_S,
            "age_over_18": years >= 18,
        }
        if asked["say"] == "date":
            claims["birthdate"] = born.isoformat()
        self.said = {one: kept for one, kept in self.said.items() if kept.expires > now.timestamp()}
        self.said[code] = _Said(
            claims, asked["code_challenge"], asked["redirect_uri"], now.timestamp() + LIFE_S
        )
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def token(self, form: dict[str, str]) -> dict[str, Any] | None:
        kept = self.said.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if (
            kept is None
            or kept.challenge != encode_key(digest)
            or kept.redirect_uri != form.get("redirect_uri")
        ):
            return None
        token = jwt.encode({"alg": "ES256", "kid": "demo"}, kept.claims, self.key)
        return {"id_token": token, "token_type": "Bearer", "access_token": "none", "expires_in": LIFE_S}


@contextmanager
def serve(clock: Callable[[], datetime], redirect_uri: str) -> Iterator[str]:
    """Run it on 127.0.0.1 and an unused port. Yields its address, which is also its name as an issuer."""
    issuer = _Issuer(clock, redirect_uri)
    handler = type("Handler", (_Handler,), {"issuer": issuer})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        issuer.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, name="demo-issuer", daemon=True)
        thread.start()
        try:
            yield issuer.url
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    issuer: _Issuer
    timeout = 5.0

    def do_GET(self) -> None:
        url, issuer = urlsplit(self.path), self.issuer
        match url.path:
            case "/.well-known/openid-configuration":
                addresses = {
                    "authorization_endpoint": "/authorize",
                    "token_endpoint": "/token",
                    "jwks_uri": "/keys",
                }
                found = {name: f"{issuer.url}{path}" for name, path in addresses.items()}
                self._json(200, {"issuer": issuer.url, **found})
            case "/keys":
                self._json(200, {"keys": [issuer.key.as_dict(private=False)]})
            case "/authorize":
                asked = _flat(url.query)
                if asked.get("redirect_uri") != issuer.redirect_uri or asked.get("client_id") != CLIENT:
                    self._json(400, {"error": "invalid_request"})
                    return
                hidden = "".join(
                    f'<input type="hidden" name="{escape(name)}" value="{escape(asked.get(name, ""))}">'
                    for name in ("state", "nonce", "code_challenge", "redirect_uri")
                )
                self._send(200, "text/html; charset=utf-8", _PAGE.format(hidden=hidden).encode())
            case _:
                self._json(404, {"error": "not_found"})

    def do_POST(self) -> None:
        length = min(int(self.headers.get("content-length") or 0), _MOST)
        form = _flat(self.rfile.read(length).decode())
        if self.path == "/token":
            found = self.issuer.token(form)
            self._json(200 if found else 400, found or {"error": "invalid_grant"})
        elif self.path == "/authorize" and form.get("redirect_uri") == self.issuer.redirect_uri:
            try:
                location = self.issuer.authorize(form)
            except (KeyError, ValueError):
                self._json(400, {"error": "invalid_request"})
                return
            self.send_response(303)
            self.send_header("location", location)
            self.end_headers()
        else:
            self._json(400, {"error": "invalid_request"})

    def _json(self, status: int, value: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(value).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Addresses carry codes; they are not written anywhere."""


def _flat(query: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}
