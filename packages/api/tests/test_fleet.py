"""`database roles` computes how many connections a fleet needs, and `config check` compares."""

import argparse
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from app_api import database_roles
from app_db.fleet import OF_MIGRATOR, Room, fleet_of, room_for
from app_db.roles import make_roles, roles_sql
from app_db.settings import DatabaseSettings
from app_db.testing.databases import AppRole
from app_runtime.configuration import Misconfigured
from app_runtime.testing.processes import free_port

PAST_THE_SERVER = 1000


async def tell(role: AppRole, *arguments: str) -> list[str]:
    parser = argparse.ArgumentParser()
    database_roles.add_commands(parser)
    names = [f"--{name}={getattr(role.roles, name)}" for name in ("migrator", "app", "readonly")]
    parsed = parser.parse_args(["roles", *names, *arguments])
    environ = {"APP_DATABASE__URL": role.administrator.url.get_secret_value(), "APP_WORKER__CONCURRENCY": "4"}
    return list(await database_roles.run(parsed, environ))


@pytest.fixture
async def role(modest_role: AppRole) -> AsyncIterator[AppRole]:
    """The role of the applications, with the limit that it had after the test."""
    yield modest_role
    await make_roles(modest_role.administrator, roles_sql(modest_role.roles, passwords={}))


async def limit_of(role: AppRole) -> int:
    connection = await asyncpg.connect(role.administrator.dsn)
    try:
        limit: int = await connection.fetchval("SELECT rolconnlimit FROM pg_roles WHERE rolname = $1", role.roles.app)
    finally:
        await connection.close()
    return limit


async def test_roles_get_a_limit_that_fits_the_fleet(role: AppRole) -> None:
    _, line = await tell(role, "--api-processes", "1", "--workers", "1")

    assert line == "(1 + 2) x 16 of the API + (1 + 2) x 10 of workers = 78 connections"
    assert await limit_of(role) == 78


async def test_a_fleet_that_does_not_fit_into_postgres_is_refused(role: AppRole) -> None:
    with pytest.raises(Misconfigured, match=r"= \d+ connections, but Postgres has \d+: raise max_connections, or put"):
        await tell(role, "--api-processes", str(PAST_THE_SERVER))

    assert await limit_of(role) == role.roles.connection_limit


async def test_through_a_pooler_only_what_goes_past_it_counts_for_each_process(role: AppRole) -> None:
    (script,) = await tell(role, "--api-processes", "4", "--workers", "4", "--pooler", "transaction", "--print")

    assert "CONNECTION LIMIT 38 " in script  # 20 of the pooler, (4 + 2) x 1 that notify, (4 + 2) x 2 that listen too


async def test_a_limit_is_typed_or_computed(role: AppRole) -> None:
    with pytest.raises(Misconfigured, match="not both"):
        await tell(role, "--api-processes", "1", "--connection-limit", "9")


async def test_a_check_compares_a_process_with_the_limit_of_its_role(role: AppRole) -> None:
    assert room_for(role.settings)[-1] == "# 6 API processes of 16 connections fit, without workers."

    await make_roles(role.administrator, roles_sql(replace(role.roles, connection_limit=15), passwords={}))
    with pytest.raises(Misconfigured, match="its role may have 15 connections, and a process opens 16"):
        room_for(role.settings)

    await make_roles(role.administrator, roles_sql(replace(role.roles, connection_limit=9999), passwords={}))
    assert room_for(role.settings)[0].startswith("# The role may have 9999 connections, but Postgres has ")


def test_the_migrator_has_as_many_connections_as_are_left_to_it(modest_role: AppRole) -> None:
    assert f"LOGIN CONNECTION LIMIT {OF_MIGRATOR} " in roles_sql(modest_role.roles, passwords={})


def test_a_fleet_without_workers_counts_none(modest_role: AppRole) -> None:
    assert fleet_of(modest_role.settings, api_processes=1, workers=0, worker_pool=13).needed == 48


def elsewhere(settings: DatabaseSettings, **changes: str) -> DatabaseSettings:
    """Return the settings with the port of nobody."""
    url = settings.sqlalchemy_url.set(port=free_port()).render_as_string(hide_password=False)
    return DatabaseSettings.model_validate({"url": url, **changes})


async def test_a_server_that_does_not_answer_leaves_the_roles_as_they_are(role: AppRole) -> None:
    silent = replace(role, administrator=elsewhere(role.administrator))

    with pytest.raises(Misconfigured, match=r"APP_DATABASE__URL: .*; the roles are as they were"):
        await tell(silent, "--api-processes", "1")


def test_a_check_without_a_server_compares_nothing(modest_role: AppRole) -> None:
    assert room_for(elsewhere(modest_role.settings)) == []


def test_behind_a_pooler_a_check_counts_no_processes(modest_role: AppRole) -> None:
    direct = modest_role.settings.sqlalchemy_url.render_as_string(hide_password=False)
    pooled = elsewhere(modest_role.settings, direct_url=direct, pooler="transaction")

    assert list(Room(for_roles=90, role_limit=9).lines(pooled)) == []
