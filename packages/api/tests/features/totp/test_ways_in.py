"""No way into an account goes round its second factor: a loop over all routes that nobody has to be signed in for.

A new route of that kind fails here until it is in one of the tables, with what its first proof alone leads to.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from httpx2 import AsyncClient, Response
from sqlalchemy import select

from app_api.dependencies import get_bearer, get_principal
from app_auth.auth import Auth
from app_db import Database
from app_db.models import TokenPurpose, User, UserSession
from app_db.types import utcnow
from packages.api.tests.conftest import Browser
from tests.docs.checkout import ROOT

from .conftest import Guarded, challenge_for

SIGNED_IN: Final = {"get_principal", "get_bearer", "get_viewer", "Scoped"}
"""Dependencies of routes that somebody is signed in for already, by a session or by a key."""
NEW: Final = "another horse battery 43"


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attacker who has all first proofs of an account, and not its generator."""

    client: AsyncClient
    browser: Browser
    eve: Guarded
    link: Callable[[TokenPurpose], Awaitable[str]]

    async def json(self, path: str, **body: str) -> Response:
        return await self.client.post(path, json=body)


type Way = Callable[[Attempt], Awaitable[Response]]


def of(path: str, **fields: str) -> Way:
    """Return a way that sends these fields, with what the attacker has of the account in place of `{…}`."""

    async def way(attempt: Attempt) -> Response:
        account = attempt.eve.account
        known: dict[str, Any] = {"email": account.email, "password": account.password, "new": NEW}
        for purpose in (TokenPurpose.RESET_PASSWORD, TokenPurpose.VERIFY_EMAIL):
            if any(f"{{{purpose}}}" in text for text in fields.values()):
                known[purpose] = await attempt.link(purpose)
        if any("{challenge}" in text for text in fields.values()):
            known["challenge"] = await challenge_for(attempt.client, account)
        sent = {name: text.format(**known) for name, text in fields.items()}
        if path.startswith("/console"):
            return await attempt.browser.post(path, None, **sent)
        return await attempt.json(path, **sent)

    return way


async def with_password(attempt: Attempt) -> Response:
    account = attempt.eve.account
    return await attempt.client.post(
        "/auth/access-token", data={"username": account.email, "password": account.password}
    )


async def second_step(attempt: Attempt) -> Response:
    account = attempt.eve.account
    await attempt.browser.post("/console/sign-in", email=account.email, password=account.password)
    return await attempt.browser.post("/console/sign-in/totp", code="000000")


WAYS: Final[dict[str, Way]] = {
    "/auth/access-token": with_password,
    "/auth/challenge": of("/auth/challenge", challenge="{challenge}", code="000000"),
    "/auth/refresh-token": of("/auth/refresh-token", refresh_token="{challenge}"),
    "/auth/register": of("/auth/register", email="{email}", password="{password}"),
    "/auth/email/verify": of("/auth/email/verify", token="{verify_email}", password="{password}"),
    "/auth/email/verify/resend": of("/auth/email/verify/resend", email="{email}"),
    "/auth/password/forgot": of("/auth/password/forgot", email="{email}"),
    "/auth/password/reset": of("/auth/password/reset", token="{reset_password}", new_password="{new}"),
    "/console/sign-in": of("/console/sign-in", email="{email}", password="{password}"),
    "/console/sign-in/totp": second_step,
    "/console/register": of("/console/register", email="{email}", password="{password}"),
    "/console/verify": of("/console/verify", link="{verify_email}", password="{password}"),
    "/console/verify/resend": of("/console/verify/resend", email="{email}"),
    "/console/forgot": of("/console/forgot", email="{email}"),
    "/console/reset": of("/console/reset", link="{reset_password}", password="{new}"),
    "/console/sign-out": of("/console/sign-out"),
}
PROVED_ELSEWHERE: Final = {
    "/auth/sign-in-link": "test_a_link_is_used_up_by_the_challenge_too",
    "/auth/sign-in-link/use": "test_a_link_is_used_up_by_the_challenge_too",
    "/console/sign-in/link": "test_a_link_is_used_up_by_the_challenge_too",
    "/console/sign-in/link/open": "test_a_link_is_used_up_by_the_challenge_too",
    "/auth/passkeys/sign-in/options": "test_what_is_two_factors_by_itself_opens_it",
    "/auth/passkeys/sign-in": "test_what_is_two_factors_by_itself_opens_it",
    "/console/passkeys/sign-in": "test_what_is_two_factors_by_itself_opens_it",
    "/auth/providers/{name}/start": "test_a_second_factor_is_asked_for",
    "/auth/providers/{name}/callback": "test_a_second_factor_is_asked_for",
    "/console/providers/{name}/start": "test_a_second_factor_is_asked_for_in_a_browser_too",
    "/auth/email/change/confirm": "test_login_sessions_begin_in_one_place",
    "/auth/email/change/undo": "test_login_sessions_begin_in_one_place",
    "/console/undo-email-change": "test_login_sessions_begin_in_one_place",
}
"""Ways of features that may be gone, and the tests that they ask for the factor, are two factors, or begin nothing."""


def calls_of(dependant: Dependant | None) -> set[str]:
    if dependant is None:
        return set()
    own = {getattr(dependant.call, "__name__", type(dependant.call).__name__)}
    return own.union(*(calls_of(each) for each in dependant.dependencies))


def open_routes(app: FastAPI) -> set[str]:
    """Return the paths of forms and calls that nobody has to be signed in for; a GET cannot write."""
    found = set()
    for context in iter_route_contexts(app.routes):
        dependant = getattr(context, "dependant", None)
        if context.path and "POST" in (context.methods or ()) and not calls_of(dependant) & SIGNED_IN:
            found.add(context.path)
    return found


def test_every_way_in_is_tried(app: FastAPI) -> None:
    assert {get_principal.__name__, get_bearer.__name__} <= SIGNED_IN

    assert open_routes(app) - {*PROVED_ELSEWHERE} == {*WAYS}


def test_what_is_proved_elsewhere_has_a_test(app: FastAPI) -> None:
    there = open_routes(app)
    named = {test for path, test in PROVED_ELSEWHERE.items() if path in there}

    sources = [*ROOT.glob("packages/*/tests/**/*.py"), *ROOT.glob("tests/architecture/*.py")]
    text = "\n".join(source.read_text() for source in sources)
    assert {test for test in named if f"def {test}(" not in text} == set()


@pytest.mark.parametrize("path", WAYS)
async def test_no_way_in_opens_an_account_with_a_second_factor(
    client: AsyncClient, browser: Browser, eve: Guarded, auth: Auth, database: Database, path: str
) -> None:
    async def link(purpose: TokenPurpose) -> str:
        async with database.unit_of_work() as session:
            user = await session.get_one(User, eve.account.id)
            row = auth.one_time_tokens.issue(user, purpose, now=utcnow())
            session.add(row)
        return auth.one_time_tokens.derive(row)

    async def sessions() -> set[Any]:
        async with database.unit_of_work() as session:
            return {*await session.scalars(select(UserSession.id))}

    before = await sessions()

    response = await WAYS[path](Attempt(client, browser, eve, link))

    assert response.status_code < 500
    assert await sessions() <= before
    assert "access_token" not in response.text
    assert not any("=bs_" in cookie for cookie in response.headers.get_list("set-cookie"))
