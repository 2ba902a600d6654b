"""A real server, for these tests only, that cannot use its own files."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app_db import Database, open_database
from app_db.outage import Blame, DatabaseUnavailable, blame, is_damage
from app_db.settings import DatabaseSettings
from app_runtime.testing.processes import free_port
from app_runtime.testing.servers import PostgresServer

type Break = Callable[[Path], object]

SUM = text("SELECT sum(a) FROM things")


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server of this test alone, to be broken."""
    with PostgresServer(tmp_path_factory.mktemp("postgres"), port=free_port(), durable=True) as server:
        yield server


def opened(server: PostgresServer) -> DatabaseSettings:
    return DatabaseSettings.model_validate({"url": server.url("postgres"), "pool_size": 1})


def overwrite(file: Path) -> None:
    """Overwrite the header of the file's first page, as a failing disk does."""
    with file.open("r+b") as pages:
        pages.write(b"\xff" * 4096)


async def file_of_things(database: Database) -> Path:
    async with database.sessions.begin() as session:
        await session.execute(text("CREATE TABLE things AS SELECT generate_series(1, 1000) AS a"))
        path = "SELECT current_setting('data_directory') || '/' || pg_relation_filepath('things')"
        return Path(str(await session.scalar(text(path))))


@pytest.mark.parametrize(
    ("break_it", "sqlstate"),
    [(lambda file: file.chmod(0), "42501"), (lambda file: file.unlink(), "58P01"), (overwrite, "XX001")],
    ids=["may not be read", "has gone", "is damaged"],
)
async def test_a_file_that_the_server_cannot_use_is_an_outage(
    server: PostgresServer, break_it: Break, sqlstate: str
) -> None:
    async with open_database(opened(server), name="test") as database:
        file = await file_of_things(database)
    server.stop()  # which writes it, and closes it
    break_it(file)
    server.start()

    async with open_database(opened(server), name="test") as database:
        with pytest.raises(DatabaseUnavailable) as outage:
            async with database.unit_of_work() as session:
                await session.execute(SUM)

    cause = outage.value.__cause__
    assert isinstance(cause, DBAPIError)
    assert getattr(cause.orig, "sqlstate", None) == sqlstate
    assert blame(cause) is Blame.SERVER
    assert is_damage(cause)
    assert database.failures["damaged"] == 1
