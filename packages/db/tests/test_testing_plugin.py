"""The fixtures that every package uses."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from app_db import Database, Session
from app_db.models import Role, User
from app_db.testing.claim import Claim
from app_db.testing.plugin import MakeUser
from app_runtime.testing.servers import PostgresServer

pytestmark = pytest.mark.integration

TWO_TESTS = """
import os
import pytest
from pathlib import Path
from sqlalchemy import text

@pytest.mark.parametrize("half", [1, 2])
async def test_where_am_i(half, session, worker_id):
    found = (await session.execute(text("SELECT current_database(), count(*) FROM users GROUP BY 1"))).all()
    name = (await session.scalars(text("SELECT current_database()"))).one()
    port = (await session.scalars(text("SHOW port"))).one()
    (Path(__file__).parent / f"{worker_id}-{half}").write_text(f"{port} {name}")
    assert found == []
"""


async def test_a_user_has_a_default_for_every_column(make_user: MakeUser, session: Session) -> None:
    user = await make_user()

    stored = await session.get(User, user.id)

    assert stored is not None
    assert stored.role is Role.USER


async def test_users_have_addresses_of_their_own(make_user: MakeUser) -> None:
    one, other = await make_user(), await make_user()

    assert one.email != other.email


async def test_the_database_is_one_that_may_be_emptied(database: Database) -> None:
    assert str(database.settings.sqlalchemy_url.database).endswith("_test")


@pytest.mark.measured
@pytest.mark.timeout(300)
@pytest.mark.parametrize("options", [(), ("-n", "1")])
def test_a_second_run_on_the_same_server_says_who_has_it(
    options: tuple[str, ...], tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Two runs would use the same names of databases and roles: the second would drop those of the first."""
    (tmp_path / "test_it.py").write_text("def test_it(database):\n    pass\n")
    root = pytestconfig.rootpath
    command: list[str | Path] = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options,
               "--rootdir", root, "-c", root / "pyproject.toml", tmp_path]  # fmt: skip

    with PostgresServer.temporary() as server:
        environment = {**os.environ, "APP_DATABASE__URL": server.url("postgres")}
        first = Claim(server.url("postgres"), who="pytest 4711 /home/ada/groundwork")
        second = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
        first.release()
        third = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)

    assert second.returncode == 4, second.stdout
    said = second.stdout + second.stderr
    assert f"({socket.gethostname()}: pytest 4711 /home/ada/groundwork, since 20" in " ".join(said.split())
    assert "INTERNALERROR" not in said
    assert third.returncode == 0, third.stdout


def test_a_claim_ends_with_its_server() -> None:
    with PostgresServer.temporary() as server:
        url = server.url("postgres")
        claim = Claim(url, who="a test")

    claim.release()
    with pytest.raises(ConnectionRefusedError):
        Claim(url, who="a test")


@pytest.mark.timeout(300)
def test_parallel_processes_share_a_given_server_and_no_database(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    (tmp_path / "test_two.py").write_text(TWO_TESTS)
    root = pytestconfig.rootpath

    with PostgresServer.temporary() as server:
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "each", "-p", "no:cacheprovider",
             "--rootdir", root, "-c", root / "pyproject.toml", tmp_path],
            env={**os.environ, "APP_DATABASE__URL": server.url("postgres")},
            cwd=root, capture_output=True, text=True, check=False,
        )  # fmt: skip
        port = server.port

    assert run.returncode == 0, run.stdout
    places = {path.name: path.read_text() for path in tmp_path.glob("gw*-*")}
    assert places == {f"gw{worker}-{half}": f"{port} app_gw{worker}_test" for worker in (0, 1) for half in (1, 2)}
