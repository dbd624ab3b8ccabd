"""People with an account of their own: they sign up, sign in and sign with passkeys, over HTTP, from the outside."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authenticator import Passkey, made_for
from live import Site

ADULT = "1985-04-01"
Evidence = dict[str, str]


@dataclass
class Visitor:
    """Somebody's browser, and the passkeys in it."""

    site: Site
    web: httpx.Client
    person_id: str = ""
    passkey: Passkey | None = None
    codes: list[str] = field(default_factory=list)

    @property
    def key(self) -> Passkey:
        assert self.passkey is not None
        return self.passkey

    def post(self, path: str, body: Any = None, **more: Any) -> httpx.Response:
        return self.web.post(path, json=body, **more)

    def ok(self, path: str, body: Any = None, status: int = 200) -> dict[str, Any]:
        answer = self.post(path, body)
        assert answer.status_code == status, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def me(self) -> dict[str, Any]:
        answer = self.web.get("/v1/me")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    # -- signing up and in ----------------------------------------------------------------------------------

    def sign_up(self, name: str = "Ada", *, counts: bool = False, **changes: Any) -> httpx.Response:
        """Open an account. `changes`: of what the authenticator answers."""
        asked = self.ok("/v1/accounts/options", {"display_name": name, "born_on": ADULT})
        self.passkey = made_for(asked["options"], counts=counts)
        made = self.key.registration(asked["options"]["challenge"], **{"origin": self.site.url, **changes})
        answer = self.post("/v1/accounts", {"nonce": asked["nonce"], "response": made})
        if answer.status_code == 201:
            self.person_id, self.codes = answer.json()["person_id"], answer.json()["recovery_codes"]
        return answer

    def sign_in(self, key: Passkey | None = None, **changes: Any) -> httpx.Response:
        asked = self.ok("/v1/sessions/options")
        return self.answer(asked, key, **changes)

    def answer(self, asked: dict[str, Any], key: Passkey | None = None, **changes: Any) -> httpx.Response:
        """Answer options with a session. `changes`: of what the authenticator says."""
        told = {"challenge": asked["options"]["challenge"], "origin": self.site.url, **changes}
        evidence = (key or self.key).assertion(**told)
        return self.post("/v1/sessions", {"nonce": asked["nonce"], "evidence": evidence})

    # -- more keys ------------------------------------------------------------------------------------------

    def preview_key(self, **changes: Any) -> tuple[Passkey, dict[str, Any]]:
        """Make another passkey, which nobody signed for yet, and what is to be signed."""
        asked = self.ok("/v1/passkeys/options")
        new = made_for(asked["options"])
        made = new.registration(asked["options"]["challenge"], **{"origin": self.site.url, **changes})
        return new, self.ok("/v1/passkeys/preview", {"nonce": asked["nonce"], "response": made})

    def signed(self, asked: dict[str, Any], key: Passkey | None = None) -> Evidence:
        return (key or self.key).assertion(asked["options"]["challenge"], self.site.url)

    def add_key(self) -> Passkey:
        new, asked = self.preview_key()
        self.ok("/v1/passkeys", {"nonce": asked["nonce"], "evidence": self.signed(asked)}, 201)
        return new

    # -- consent --------------------------------------------------------------------------------------------

    def enrol(self, picture: bytes) -> str:
        """An operator vouches for this account. The id of the likeness."""
        unused = Ed25519PrivateKey.generate()
        answer = self.site.vouch(picture, device=unused, device_key=None, person_id=self.person_id)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["cameo_id"])

    def preview(self, cameo_id: str, **draft: Any) -> dict[str, Any]:
        grantee = {"type": "app", "id": self.site.holder("film club")}
        return self.ok("/v1/grants/preview", {"cameo_id": cameo_id, "grantee": grantee, **draft})

    def grant(self, cameo_id: str, key: Passkey | None = None, **changes: Any) -> httpx.Response:
        preview = self.preview(cameo_id)
        evidence = (key or self.key).assertion(
            **{"challenge": preview["challenge"], "origin": self.site.url, **changes}
        )
        return self.post("/v1/grants", {"grant": preview["grant"], "evidence": evidence})


def visitor_at(site: Site) -> Callable[..., Visitor]:
    """Browsers of one site, signed up unless asked otherwise. Each is like a private window."""

    def new(*, known: bool = True, **changes: Any) -> Visitor:
        visitor = Visitor(site, site.client())
        if known:
            assert visitor.sign_up(**changes).status_code == 201
        return visitor

    return new
