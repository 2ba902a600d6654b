"""Going to a provider and back, without a browser."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from httpx2 import AsyncClient
from sqlalchemy import func, update

from app_api.features.providers.client import Answer, OpenId
from app_auth.features.providers.identity import Identity
from app_auth.features.providers.states import Purpose, States, new_secret
from app_db import Database
from app_db.models import UserSession
from app_db.types import utcnow
from packages.api.tests.features.providers.issuer import approve

BACK: Final = "http://localhost/back"
SECRET: Final = new_secret()


async def identity_of(openid: OpenId, states: States, **changes: Any) -> Identity:
    """Go to the provider and back, and ask who it was."""
    provider = openid.named("acme")
    begun = states.begin("acme", Purpose.SIGN_IN, secret=SECRET, session_id=None, now=utcnow())
    back = await approve(await openid.address_for(provider, begun, redirect_uri=BACK))
    returned = states.read(
        back["state"], Purpose.SIGN_IN, provider="acme", secret=SECRET, session_id=None, now=utcnow()
    )
    answer = Answer(back["code"], back.get("iss"), BACK)
    return await openid.identity_behind(provider, replace(answer, **changes), returned)


type Back = dict[str, Any]  # Any: JSON


async def come_back(api: AsyncClient, *, to: str = "start", headers: Mapping[str, str] | None = None) -> Back:
    """Begin, press the button at the provider, and return what is to be sent then."""
    begun = await api.post(f"/auth/providers/acme/{to}", headers=headers)
    assert begun.status_code == 200, begun.text
    back = await approve(begun.json()["authorization_url"])
    return {**back, "secret": begun.json()["secret"]}


async def sign_in(api: AsyncClient) -> dict[str, str]:
    """Sign in with the provider; return the headers of who is signed in."""
    answer = await api.post("/auth/providers/acme/callback", json=await come_back(api))
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def link(api: AsyncClient, headers: Mapping[str, str]) -> Any:  # Any: a response
    back = await come_back(api, to="link", headers=headers)
    return await api.post("/auth/providers/acme/link/callback", json=back, headers=headers)


async def grow_old(database: Database) -> None:
    """Let all sign-ins be an hour ago."""
    async with database.unit_of_work() as session:
        await session.execute(update(UserSession).values(created_at=func.now() - timedelta(hours=1)))
