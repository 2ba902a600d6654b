"""What only happens when two requests meet."""

import pytest

from app_auth.auth import Auth
from app_auth.client import NOBODY
from app_auth.features.providers import linking
from app_auth.features.providers.errors import ProviderLinkTaken
from app_auth.features.providers.identity import Identity
from app_db import Session
from app_db.features.providers.repository import ProviderRepository
from app_db.features.providers.settings import Provider
from app_db.testing.plugin import MakeUser

ACME = Provider(name="acme", issuer="https://a.example", client_id="x")


async def test_who_was_linked_a_moment_ago_gets_no_second_account(
    auth: Auth, session: Session, make_user: MakeUser
) -> None:
    ada = await make_user()
    await ProviderRepository(session).add(ada.id, ACME.issuer, subject="7", email="ada@a.example")
    await session.commit()
    late = Identity(ACME.issuer, "7", "new@a.example")

    with pytest.raises(ProviderLinkTaken):
        await linking._register(auth, session, late, provider=ACME, client=NOBODY)
