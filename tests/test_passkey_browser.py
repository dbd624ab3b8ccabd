"""Passkeys in a real Chromium, with a virtual authenticator, from pages of ours: and from pages of others."""

import json
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

from authenticator import unb64url
from command import countersign
from ledger.consent.statement import GRANT_TAG
from live import PATIENCE_S, Site, collins_picture

pytest_plugins = ["live"]
pytestmark = pytest.mark.slow

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
CEREMONIES = """
window.ask = async (path, body, method = "POST") => {
  const answer = await fetch(path, {
    method, credentials: "same-origin",
    headers: body === undefined ? {} : {"content-type": "application/json"},
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await answer.text();
  return {status: answer.status, body: text ? JSON.parse(text) : null};
};
window.make = async (options) => {
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options);
  return (await navigator.credentials.create({publicKey})).toJSON();
};
window.sign = async (options) => {
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options);
  const made = (await navigator.credentials.get({publicKey})).toJSON();
  return {
    type: "passkey", credential_id: made.rawId, signature: made.response.signature,
    authenticator_data: made.response.authenticatorData, client_data_json: made.response.clientDataJSON,
  };
};
window.challengeOf = async (tag, canonical) => {
  const whole = new TextEncoder().encode(tag + "\\0" + canonical);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", whole));
  return btoa(String.fromCharCode(...digest)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
};
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail(
            "passkeys need a browser to be tested in: run `make setup`, or `apt-get install chromium`"
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, live: Site) -> Iterator[Page]:
    context = browser.new_context()
    context.set_default_timeout(1000 * PATIENCE_S)
    context.add_init_script(CEREMONIES)
    page = context.new_page()
    page.goto(live.url)
    yield page
    context.close()


class Device:
    """A virtual authenticator: a phone's own, or a security key in a port."""

    def __init__(self, page: Page, transport: str = "internal") -> None:
        self._cdp: CDPSession = page.context.new_cdp_session(page)
        self._cdp.send("WebAuthn.enable")
        options = {
            "protocol": "ctap2",
            "transport": transport,
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
            "automaticPresenceSimulation": True,
        }
        self.id = self._cdp.send("WebAuthn.addVirtualAuthenticator", {"options": options})["authenticatorId"]

    def verifies(self, verified: bool) -> None:
        self._cdp.send("WebAuthn.setUserVerified", {"authenticatorId": self.id, "isUserVerified": verified})

    def keys(self) -> list[dict[str, Any]]:
        found = self._cdp.send("WebAuthn.getCredentials", {"authenticatorId": self.id})
        return list(found["credentials"])

    def take(self, key: dict[str, Any]) -> None:
        self._cdp.send("WebAuthn.addCredential", {"authenticatorId": self.id, "credential": key})

    def remove(self) -> None:
        self._cdp.send("WebAuthn.removeVirtualAuthenticator", {"authenticatorId": self.id})


def sign_up(page: Page) -> dict[str, Any]:
    made: dict[str, Any] = page.evaluate(
        """async () => {
          const asked = (await ask("/v1/accounts/options", {display_name: "Ada", born_on: "1985-04-01"})).body;
          return ask("/v1/accounts", {nonce: asked.nonce, response: await make(asked.options)});
        }"""
    )
    assert made["status"] == 201, made
    found: dict[str, Any] = made["body"]
    return found


SIGN_IN = """async () => {
  const asked = (await ask("/v1/sessions/options")).body;
  return ask("/v1/sessions", {nonce: asked.nonce, evidence: await sign(asked.options)});
}"""
GRANT = """async (draft) => {
  const shown = (await ask("/v1/grants/preview", draft)).body;
  const hashed = await challengeOf("countersign/grant/v1", shown.canonical);
  const evidence = await sign({challenge: hashed, rpId: location.hostname, userVerification: draft.uv || "required"});
  return {hashed, shown, made: await ask("/v1/grants", {grant: shown.grant, evidence})};
}"""


def enrol(live: Site, person_id: str) -> str:
    unused = Ed25519PrivateKey.generate()
    answer = live.vouch(collins_picture(), device=unused, device_key=None, person_id=person_id)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["cameo_id"])


def test_signed_up_signed_in_granted_and_verified_offline(page: Page, live: Site, tmp_path: Path) -> None:
    device = Device(page)
    person_id = sign_up(page)["person_id"]
    assert page.evaluate("() => document.cookie") == ""  # no script sees it
    assert page.evaluate("async () => (await ask('/v1/sessions', undefined, 'DELETE')).status") == 204
    assert page.evaluate("async () => (await ask('/v1/me', undefined, 'GET')).status") == 401
    opened = page.evaluate(SIGN_IN)
    assert (opened["status"], opened["body"]) == (201, {"person_id": person_id})
    cameo_id = enrol(live, person_id)
    draft = {"cameo_id": cameo_id, "grantee": {"type": "app", "id": live.holder("film club")}}
    granted = page.evaluate(GRANT, draft)
    assert granted["made"]["status"] == 201, granted
    # What was signed is the hash of the text shown, as the page computed it and as anyone would.
    text = granted["shown"]["canonical"].encode()
    assert granted["hashed"] == granted["shown"]["challenge"]
    assert unb64url(granted["hashed"]) == sha256(GRANT_TAG.encode() + b"\0" + text).digest()
    file = page.evaluate(
        "async (id) => (await ask(`/v1/grants/${id}`, undefined, 'GET')).body",
        granted["made"]["body"]["grant_id"],
    )
    path = tmp_path / "grant.json"
    path.write_text(json.dumps(file))
    said = countersign(tmp_path, "consent", "verify", path)
    assert said.status == 0, said.text
    assert f"on {live.url}, and the device verified who held it" in said.text
    assert device.keys()[0]["signCount"] > 0


def test_a_second_device_is_signed_for_with_the_first(page: Page, live: Site) -> None:
    first = Device(page)
    sign_up(page)
    made = page.evaluate(
        """async () => {
          const asked = (await ask("/v1/passkeys/options")).body;
          window.kept = asked;
          // The phone has one already.
          try { await make(asked.options); return "made twice"; } catch (error) { return error.name; }
        }"""
    )
    assert made == "InvalidStateError"
    (known,) = first.keys()
    first.remove()
    second = Device(page, "usb")
    shown = page.evaluate(
        "async () => ask('/v1/passkeys/preview', {nonce: kept.nonce, response: await make(kept.options), name: 'Key'})"
    )
    assert shown["status"] == 200, shown
    # The new one can not sign for itself: the browser is told to use one that is known.
    refused = page.evaluate(
        "async (asked) => { try { await sign(asked.options); return ''; } catch (error) { return error.name; } }",
        shown["body"],
    )
    assert refused == "NotAllowedError"
    (new,) = second.keys()
    second.remove()
    Device(page).take(known)
    added = page.evaluate(
        "async (asked) => ask('/v1/passkeys', {nonce: asked.nonce, evidence: await sign(asked.options)})",
        shown["body"],
    )
    assert (added["status"], added["body"]["name"]) == (201, "Key")
    assert page.evaluate("async () => (await ask('/v1/me', undefined, 'GET')).body.passkeys.length") == 2
    assert new["credentialId"] != known["credentialId"]


def test_nobody_verified_signs_nothing(page: Page, live: Site) -> None:
    device = Device(page)
    person_id = sign_up(page)["person_id"]
    cameo_id = enrol(live, person_id)
    device.verifies(False)
    refused = page.evaluate(
        "async () => { const asked = (await ask('/v1/sessions/options')).body;"
        " try { await sign(asked.options); return ''; } catch (error) { return error.name; } }"
    )
    assert refused == "NotAllowedError"
    # A script on our own page could ask for less; what comes of it is refused by name.
    lax = GRANT.replace('draft.uv || "required"', '"discouraged"')
    draft = {"cameo_id": cameo_id, "grantee": {"type": "app", "id": live.holder("film club")}}
    granted = page.evaluate(lax, draft)
    assert granted["made"]["status"] == 400
    assert granted["made"]["body"]["reasons"][0]["id"] == "passkey.user_verification"


def test_who_opens_a_page_by_its_address_is_sent_to_its_name(page: Page, live: Site) -> None:
    page.goto(f"http://127.0.0.1:{live.port}/?from=address")
    assert page.url == f"{live.url}/?from=address"


FORM = "() => { document.body.innerHTML += `<form method=post action=%s></form>`; [...document.forms].at(-1).submit(); }"


def posted(page: Page, action: str) -> dict[str, Any]:
    """Send a form from the page that is open. What the service answers."""
    with page.expect_navigation():
        page.evaluate(FORM % action)
    found: dict[str, Any] = json.loads(page.inner_text("body"))
    return found


def test_a_form_of_our_own_page_is_let_in(page: Page) -> None:
    Device(page)
    sign_up(page)
    assert posted(page, "/v1/passkeys/options").keys() == {"nonce", "options"}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_form_of_another_page_is_not_even_of_the_same_site(
    page: Page, live: Site, host: str, tmp_path: Path
) -> None:
    """Another port of this machine is the same site to a browser: it sends the cookie, and says where it comes from."""
    Device(page)
    sign_up(page)
    (tmp_path / "index.html").write_text("<!doctype html><title>elsewhere</title><body></body>")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page.goto(f"http://{host}:{server.server_port}/")
        sent: list[dict[str, str]] = []
        page.on(
            "request",
            lambda request: sent.append(request.all_headers()) if request.method == "POST" else None,
        )
        answer = posted(page, f"{live.url}/v1/passkeys/options")
        server.shutdown()
    assert answer["reasons"][0]["id"] == "access.origin"
    assert urlsplit(page.url).port == live.port
    page.goto(live.url)
    assert page.evaluate("async () => (await ask('/v1/me', undefined, 'GET')).status") == 200


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass
