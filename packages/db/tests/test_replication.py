"""How far a server is behind; tests/e2e/test_replica.py asks a standby."""

from app_db import Database
from app_db.repositories.replication import replication_lag


async def test_a_primary_is_not_behind(database: Database) -> None:
    found = await replication_lag(database)

    assert not found.is_standby
    assert found.behind is not None
    assert not found.behind
