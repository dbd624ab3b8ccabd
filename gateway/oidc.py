"""Asking an issuer how old somebody is: OpenID Connect Core 1.0, code flow with PKCE (RFC 7636).

Of what the issuer says only this is read: `birthdate` (OIDC Core §5.1), `age_over_18`, and `sub` (§2), by which the same
person is known again. An ID token counts when it
was signed by a key the issuer publishes, names that issuer, this client and the nonce of this very request, and has
not expired (§3.1.3.7). `alg: none` and symmetric algorithms are never accepted. Refusals have a name:
`age.issuer_unreachable`, `age.token_refused`, `age.token_signature`, `age.token_expired`, `age.token_issuer`,
`age.token_audience`, `age.token_nonce`, `age.token_subject`, `age.no_claim`.
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import KeySet

from gateway.problems import Problem, problem
from ledger.consent.statement import encode_key

ALGORITHMS = ("ES256", "ES384", "PS256", "RS256", "EdDSA", "Ed25519")
TIMEOUT_S = 10
LEEWAY_S = 60
LONGEST_S = 3600
"""How long an ID token may be good for, and how long ago it may have been issued."""
ANSWER_BYTES = 256 << 10
SUBJECT_CHARACTERS = 255
_AGAIN = "start the age check again"


@dataclass(frozen=True, slots=True)
class Begun:
    """Where to send the person, and what has to be remembered until they come back."""

    location: str
    state: str
    nonce: str
    verifier: str


@dataclass(frozen=True, slots=True)
class Claims:
    """What the issuer said of whom: at least a birth date, or whether they are 18."""

    born_on: date | None
    over_18: bool | None
    subject: str = field(repr=False)
    """What the issuer calls them, and nobody else."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """One issuer whom this service believes, as its operator configured it."""

    url: str
    client_id: str
    client_secret: str
    redirect_uri: str

    def begin(self) -> Begun:
        """Raises a 503 problem when the issuer can not be asked."""
        state, nonce, verifier = (encode_key(secrets.token_bytes(32)) for _ in range(3))
        asked = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "scope": "openid age",
            "claims": '{"id_token":{"birthdate":null,"age_over_18":null}}',
            "state": state,
            "nonce": nonce,
            "code_challenge": encode_key(hashlib.sha256(verifier.encode()).digest()),
            "code_challenge_method": "S256",
            "prompt": "login",
        }
        with self._web() as web:
            endpoint = self._endpoints(web)["authorization_endpoint"]
        return Begun(f"{endpoint}?{urlencode(asked)}", state, nonce, verifier)

    def finish(self, code: str, *, nonce: str, verifier: str, at: datetime) -> Claims:
        """Redeem the code. Raises a problem by the name of what does not hold."""
        with self._web() as web:
            endpoints = self._endpoints(web)
            form = {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": self.redirect_uri,
                "client_id": self.client_id,
                "code_verifier": verifier,
            }
            if self.client_secret:
                form["client_secret"] = self.client_secret
            answer = _read(web, "POST", endpoints["token_endpoint"], data=form)
            keys = _read(web, "GET", endpoints["jwks_uri"])
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise _refused("age.token_refused", "the issuer sent no ID token")
        return self.read(token, keys, nonce=nonce, at=at)

    def read(self, token: str, keys: Mapping[str, Any], *, nonce: str, at: datetime) -> Claims:
        """What an ID token says, once everything about it holds."""
        try:
            published: Any = dict(keys)
            claims = jwt.decode(token, KeySet.import_key_set(published), algorithms=ALGORITHMS).claims
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise _refused(
                "age.token_signature", "the ID token is not signed with a key of the issuer"
            ) from error
        now = int(at.timestamp())
        if claims.get("iss") != self.url:
            raise _refused("age.token_issuer", "the ID token names another issuer")
        audience = claims.get("aud")
        named = audience if isinstance(audience, list) else [audience]
        if self.client_id not in named or (len(named) > 1 and claims.get("azp") != self.client_id):
            raise _refused("age.token_audience", "the ID token is meant for somebody else")
        try:
            jwt.JWTClaimsRegistry(
                now=now, leeway=LEEWAY_S, exp={"essential": True}, iat={"essential": True}
            ).validate(claims)
        except (ExpiredTokenError, JoseError) as error:
            raise _refused("age.token_expired", "the ID token has expired, or is not valid yet") from error
        if now - int(claims["iat"]) > LONGEST_S:
            raise _refused("age.token_expired", "the ID token was issued too long ago")
        if not secrets.compare_digest(str(claims.get("nonce", "")), nonce):
            raise _refused("age.token_nonce", "the ID token does not answer this request")
        return _claims(claims, at)

    def _endpoints(self, web: httpx.Client) -> dict[str, str]:
        """OpenID Connect Discovery 1.0 §4; every address on the issuer's own scheme."""
        found = _read(web, "GET", f"{self.url.rstrip('/')}/.well-known/openid-configuration")
        names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        scheme = urlsplit(self.url).scheme
        if found.get("issuer") != self.url or not all(
            isinstance(found.get(name), str) and urlsplit(found[name]).scheme == scheme for name in names
        ):
            raise _unreachable()
        return {name: found[name] for name in names}

    def _web(self) -> httpx.Client:
        # A plain address needs no certificates, and reading the world's takes longer than asking.
        return httpx.Client(
            timeout=TIMEOUT_S, follow_redirects=False, verify=urlsplit(self.url).scheme == "https"
        )


def _claims(claims: Mapping[str, Any], at: datetime) -> Claims:
    born, over, subject = (claims.get(name) for name in ("birthdate", "age_over_18", "sub"))
    if not (isinstance(subject, str) and subject.isascii() and 1 <= len(subject) <= SUBJECT_CHARACTERS):
        raise _refused("age.token_subject", "the ID token does not say whom it is about")
    try:
        born_on = date.fromisoformat(born) if isinstance(born, str) and not born.startswith("0000") else None
    except ValueError:
        born_on = None
    if born_on is not None and not date(1900, 1, 1) <= born_on <= at.date():
        born_on = None
    over_18 = over if isinstance(over, bool) else None
    if born_on is None and over_18 is None:
        raise _refused("age.no_claim", "the issuer does not say how old you are")
    return Claims(born_on, over_18, subject)


def _read(web: httpx.Client, method: str, url: str, **options: Any) -> dict[str, Any]:
    try:
        with web.stream(method, url, **options) as answer:
            body = b""
            for piece in answer.iter_bytes():
                body += piece
                if len(body) > ANSWER_BYTES:
                    raise _unreachable()
            if answer.status_code == 400:
                raise _refused("age.token_refused", "the issuer does not accept this answer")
            answer.raise_for_status()
            found = httpx.Response(200, content=body).json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise _unreachable() from error
    if not isinstance(found, dict):
        raise _unreachable()
    return found


def _refused(reason_id: str, sentence: str) -> Problem:
    return problem(403, reason_id, sentence, _AGAIN)


def _unreachable() -> Problem:
    return problem(
        503, "age.issuer_unreachable", "the age check can not be asked right now", "try again later"
    )
