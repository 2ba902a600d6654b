"""Addresses that are told at the UserInfo endpoint only, as some providers do by the rules."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from app_api.features.providers.client import OpenId
from app_auth.features.providers.errors import InvalidProviderAnswer
from app_auth.features.providers.states import States
from packages.api.tests.features.providers.issuer import Issuer
from packages.api.tests.features.providers.journeys import identity_of

NOTHING = {"email": None, "email_verified": None}


@pytest.mark.parametrize("claims", [NOTHING, {"email_verified": None}, {"email": None}])
async def test_an_address_that_no_id_token_has_is_asked_for(
    issuer: Issuer, openid: OpenId, states: States, claims: dict[str, Any]
) -> None:
    issuer.claims = claims

    assert (await identity_of(openid, states)).email == "ada@example.test"


async def test_an_address_in_the_id_token_is_asked_for_nowhere_else(
    issuer: Issuer, openid: OpenId, states: States
) -> None:
    issuer.told = {"email": "another@example.test"}

    assert (await identity_of(openid, states)).email == "ada@example.test"
    assert "/userinfo" not in issuer.asked


async def test_an_address_is_verified_where_it_is_told(issuer: Issuer, openid: OpenId, states: States) -> None:
    issuer.claims = {"email": "victim@example.test", "email_verified": None}
    assert (await identity_of(openid, states)).email == "ada@example.test"

    issuer.claims, issuer.told = {"email": None, "email_verified": True}, {"email_verified": False}
    assert (await identity_of(openid, states)).email is None


@pytest.mark.parametrize("subject", ["another", None, 7])
async def test_an_address_of_another_subject_is_refused(
    issuer: Issuer, openid: OpenId, states: States, subject: object
) -> None:
    issuer.claims, issuer.told = NOTHING, {"sub": subject}

    with pytest.raises(InvalidProviderAnswer):
        await identity_of(openid, states)


@pytest.mark.parametrize(
    "answer",
    [
        lambda: JSONResponse({}, 503),
        lambda: JSONResponse({"error": "invalid_token"}, 401),
        lambda: PlainTextResponse("e30.e30.x", media_type="application/jwt"),
        lambda: RedirectResponse("http://127.0.0.1:1/userinfo"),
    ],
)
async def test_who_is_linked_needs_no_address(
    issuer: Issuer, openid: OpenId, states: States, answer: Callable[[], Response]
) -> None:
    issuer.claims, issuer.answers = NOTHING, {"/userinfo": answer}

    identity = await identity_of(openid, states)

    assert (identity.subject, identity.email) == (issuer.person["sub"], None)


@pytest.mark.parametrize("endpoint", [None, "http://elsewhere.example/userinfo"])
async def test_a_provider_that_tells_nothing_is_not_asked(
    issuer: Issuer, openid: OpenId, states: States, endpoint: str | None
) -> None:
    issuer.claims, issuer.description = NOTHING, {"userinfo_endpoint": endpoint}

    assert (await identity_of(openid, states)).email is None
    assert "/userinfo" not in issuer.asked


@pytest.mark.parametrize("token", [None, 7, "a\nb", "\u00e4"])
async def test_what_is_no_access_token_is_told_to_nobody(
    issuer: Issuer, openid: OpenId, states: States, token: object
) -> None:
    issuer.claims, issuer.access_token = NOTHING, token

    assert (await identity_of(openid, states)).email is None
    assert "/userinfo" not in issuer.asked
