"""A provider of OpenID Connect for tests, spoken to over HTTP: it keeps to the rules, unless a test bends it.

It checks what a provider has to: client and secret, address to send back to, PKCE, and that a code is used once.
"""

import asyncio
import base64
import hashlib
import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlencode, urlsplit

import httpx2
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

from app_api.testing import served
from app_auth.features.providers.id_tokens import _REGISTRY
from app_db.features.providers.settings import Provider
from app_db.types import utcnow

type Json = dict[str, Any]  # Any: JSON
type SigningKey = RSAKey | ECKey | OKPKey

KEY = RSAKey.generate_key(2048, {"kid": "1"})
CLIENT_ID = "groundwork tests"  # with a blank, so that it has to be encoded
CLIENT_SECRET = "s%3A:cret/+"


@dataclass
class Issuer:
    """One provider, with what the next answers are to say."""

    url: str = ""
    person: Json = field(
        default_factory=lambda: {"sub": secrets.token_hex(8), "email": "ada@example.test", "email_verified": True}
    )
    key: SigningKey = field(default_factory=lambda: KEY)
    secret: str | None = CLIENT_SECRET
    alg: str = "RS256"
    description: Json = field(default_factory=dict)
    """What its description says besides, or instead."""
    keys: list[Json] | None = None
    """What it publishes instead of its key."""
    moved: dict[str, int] = field(default_factory=dict)
    """Claims that are times, in seconds from the moment of the answer."""
    claims: Json = field(default_factory=dict)
    """What an ID token says besides, or instead; None takes a claim out."""
    header: Json = field(default_factory=dict)
    answers: dict[str, Callable[[], Response]] = field(default_factory=dict)
    """What it answers instead, by path."""
    frozen: set[str] = field(default_factory=set)
    """Paths at which it never answers."""
    token: Callable[[str], str] = str
    """Changes a token after it was signed."""
    asked: list[str] = field(default_factory=list)
    """The paths that were asked for."""
    codes: dict[str, Json] = field(default_factory=dict)
    access_token: object = "of somebody"
    told: Json = field(default_factory=dict)
    """What it says at its UserInfo endpoint besides, or instead."""

    @property
    def provider(self) -> Provider:
        """The settings that speak to it."""
        return Provider.model_validate(
            {
                "name": "acme",
                "title": "Acme",
                "issuer": self.url,
                "client_id": CLIENT_ID,
                "client_secret": self.secret,
            }
        )

    def describe(self) -> Json:
        """Return its description."""
        endpoints = {name: f"{self.url}/{path}" for name, path in ENDPOINTS.items()}
        return {
            "issuer": self.url,
            **endpoints,
            "id_token_signing_alg_values_supported": ["RS256", "ES256", "EdDSA", "PS256"],
            "authorization_response_iss_parameter_supported": True,
            **self.description,
        }

    def published(self) -> Json:
        """Return its public keys."""
        return {"keys": [self.key.as_dict(private=False)] if self.keys is None else self.keys}

    def sign(self, nonce: str, person: Json) -> str:
        """Return an ID token about a person."""
        now = int(utcnow().timestamp())
        claims = {"iss": self.url, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": nonce, **person}
        claims |= {name: now + seconds for name, seconds in self.moved.items()} | self.claims
        kept = {name: value for name, value in claims.items() if value is not None}
        header = {"alg": self.alg, "kid": self.key.kid, **self.header}
        header = {name: value for name, value in header.items() if value is not None}
        return self.token(jws.serialize_compact(header, json.dumps(kept).encode(), self.key, registry=_REGISTRY))


ENDPOINTS = {
    "authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys",
    "userinfo_endpoint": "userinfo",
}  # fmt: skip


def app_of(issuer: Issuer) -> FastAPI:
    """Return the application of a provider."""
    app = FastAPI()

    @app.middleware("http")
    async def bent(request: Request, call_next: Any) -> Response:  # Any: Starlette's
        path = request.url.path
        issuer.asked.append(path)
        while path in issuer.frozen:  # noqa: ASYNC110  # a test in another thread ends it
            await asyncio.sleep(0.05)
        answer: Response = issuer.answers[path]() if path in issuer.answers else await call_next(request)
        return answer

    @app.get("/.well-known/openid-configuration")
    async def describe() -> JSONResponse:
        return JSONResponse(issuer.describe())

    @app.get("/keys")
    async def keys() -> JSONResponse:
        return JSONResponse(issuer.published())

    @app.get("/authorize")
    async def ask(request: Request) -> HTMLResponse:
        """Show a page, as real ones do: then a Strict cookie of ours would not come back."""
        return HTMLResponse(
            '<!doctype html><html lang="en"><title>Acme</title>'
            '<link rel="icon" href="data:,"><h1>Acme</h1><form method="post">'
            f"<button>Continue as {issuer.person.get('email')}</button></form></html>"
        )

    @app.post("/authorize")
    async def approve(request: Request) -> RedirectResponse:
        asked = dict(request.query_params)
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        code = secrets.token_urlsafe(16)
        issuer.codes[code] = {**asked, "person": issuer.person}
        back = {"code": code, "state": asked["state"], "iss": issuer.url}
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(back)}", 303)

    @app.post("/token")
    async def token(request: Request) -> JSONResponse:
        form = dict(parse_qsl((await request.body()).decode()))
        asked = issuer.codes.pop(form["code"], None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=")
        if not _is_client(request, form, secret=issuer.secret):
            return JSONResponse({"error": "invalid_client"}, 401)
        if (
            asked is None
            or asked["code_challenge"] != challenge.decode()
            or asked["redirect_uri"] != form["redirect_uri"]
        ):
            return JSONResponse({"error": "invalid_grant"}, 400)
        return JSONResponse(
            {
                "access_token": issuer.access_token,
                "token_type": "Bearer",
                "id_token": issuer.sign(asked["nonce"], asked["person"]),
            }
        )

    _serve_userinfo(app, issuer)
    return app


def _serve_userinfo(app: FastAPI, issuer: Issuer) -> None:
    @app.get("/userinfo")
    async def userinfo(request: Request) -> JSONResponse:
        if request.headers.get("authorization") != f"Bearer {issuer.access_token}":
            return JSONResponse({"error": "invalid_token"}, 401)
        return JSONResponse({**issuer.person, **issuer.told})


def _is_client(request: Request, form: Json, *, secret: str | None) -> bool:
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme != "Basic":
        return (form.get("client_id"), form.get("client_secret")) == (CLIENT_ID, secret)
    client_id, _, given = base64.b64decode(credentials).decode().partition(":")
    return (unquote(client_id), unquote(given)) == (CLIENT_ID, secret)


@contextmanager
def open_issuer(**fields: Any) -> Iterator[Issuer]:  # Any: of Issuer
    """Serve a provider over HTTP."""
    issuer = Issuer(**fields)
    with served(app_of(issuer)) as port:
        issuer.url = f"http://127.0.0.1:{port}"
        yield issuer
        issuer.frozen = set()


async def approve(address: str) -> dict[str, str]:
    """Press the button at the provider, and return what it sends the browser back with."""
    async with httpx2.AsyncClient(timeout=10, verify=False) as http:
        page = await http.get(address)
        assert page.status_code == 200, page.text
        back = await http.post(address)
    return {name: values[0] for name, values in parse_qs(urlsplit(back.headers["location"]).query).items()}
