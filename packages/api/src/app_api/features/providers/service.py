"""The way to a provider and back."""

from uuid import UUID

from app_api.features.providers.client import Answer, OpenId
from app_auth.auth import Auth
from app_auth.client import Client
from app_auth.features.providers import linking
from app_auth.features.providers.errors import ProviderRefused
from app_auth.features.providers.identity import Identity
from app_auth.features.providers.states import Begun, Purpose, Returned, States
from app_db import Database
from app_db.features.providers.settings import Provider
from app_db.types import utcnow


def begin(
    auth: Auth, provider: Provider, purpose: Purpose, *, secret: str, session_id: UUID | None = None,
    next_page: str = "",
) -> Begun:  # fmt: skip
    """Return what a browser takes to a provider, bound to its secret, and to its session if there is one."""
    return States(auth.settings).begin(
        provider.name, purpose, secret=secret, session_id=session_id, now=utcnow(), next_page=next_page
    )


def read(
    auth: Auth, provider: Provider, state: str, *, purpose: Purpose, secret: str | None, session_id: UUID | None = None
) -> Returned:
    """Return what a state says that was brought back.

    Raises:
        InvalidState: this browser has not begun it for this, with this provider and in this session, or too long ago.
    """
    return States(auth.settings).read(
        state, purpose, provider=provider.name, secret=secret, session_id=session_id, now=utcnow()
    )


async def identify(
    openid: OpenId, auth: Auth, database: Database, *, provider: Provider, returned: Returned, answer: Answer | None,
    client: Client,
) -> Identity:  # fmt: skip
    """Return who has come back. No connection of the database is held while the provider is asked.

    Raises:
        Throttled: before anything else.
        InvalidState: this answer was taken before.
        ProviderRefused: there is no code in it.
        InvalidProviderAnswer, ProviderUnavailable: as for `OpenId.identity_behind`.
    """
    await auth.throttle.sign_in(client)  # guard: test_answers_are_throttled
    async with database.unit_of_work() as session:
        await linking.take_answer(session, returned.id)
    if answer is None:
        raise ProviderRefused
    return await openid.identity_behind(provider, answer, returned)
