"""Accounts at providers in an export."""

from app_db import Session
from app_db.features.providers.repository import ProviderRepository
from app_db.testing.plugin import MakeUser
from app_worker.features.providers.export import export


async def test_an_export_has_the_accounts_at_providers_that_open_its_own(session: Session, make_user: MakeUser) -> None:
    ada, eve = await make_user(), await make_user()
    links = ProviderRepository(session)
    await links.add(ada.id, "https://a.example", subject="1", email="ada@a.example")
    await links.add(ada.id, "https://b.example", subject="1", email="ada@b.example")
    await links.add(eve.id, "https://a.example", subject="2", email="eve@a.example")
    await links.note_use("https://b.example", "1")
    await session.commit()

    first, second = await export(session, ada.id, after=None, limit=10)

    assert (first["issuer"], first["subject"], first["email"]) == ("https://a.example", "1", "ada@a.example")
    assert first["last_used_at"] is None
    assert second["last_used_at"]
