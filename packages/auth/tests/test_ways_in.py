"""An account never loses its last way in."""

import pytest

from app_auth.auth import Auth
from app_auth.testing import Account, MakeAccount, change_hash
from app_auth.ways_in import LastWayIn, require_another_way_in
from app_db import Database


async def test_a_password_is_another_way_in(auth: Auth, database: Database, make_account: MakeAccount) -> None:
    ada = await make_account()

    async with database.unit_of_work() as session:
        await require_another_way_in(auth, session, ada.id)


async def test_a_password_that_nobody_can_enter_is_none(
    auth: Auth, database: Database, make_account: MakeAccount
) -> None:
    ada: Account = await make_account()
    await change_hash(database, ada)

    async with database.unit_of_work() as session:
        with pytest.raises(LastWayIn):
            await require_another_way_in(auth, session, ada.id)
