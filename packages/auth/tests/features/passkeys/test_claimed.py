"""Passkeys of somebody who registered an address that turns out to be another's."""

from sqlalchemy import select

from app_auth.links import claim
from app_auth.testing import MakeAccount
from app_db import Database
from app_db.features.passkeys.models import Passkey


async def test_a_passkey_ends_with_the_stranger_who_registered_the_address(
    database: Database, make_account: MakeAccount
) -> None:
    ada, ben = await make_account(), await make_account()
    what = {"public_key": b"k", "sign_count": 0, "transports": [], "backup_eligible": True, "backed_up": True}
    async with database.unit_of_work() as session:
        session.add_all(
            Passkey(user_id=each.id, credential_id=each.id.bytes, name="Laptop", **what) for each in (ada, ben)
        )

    async with database.unit_of_work() as session:
        await claim(session, ada.id)

    async with database.unit_of_work(read_only=True) as session:
        assert [passkey.user_id for passkey in await session.scalars(select(Passkey))] == [ben.id]
