"""The roles of the database: the rights of the applications, and the rights with which they refuse to start."""

from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest
from pydantic import SecretStr
from sqlalchemy import literal, select, text
from sqlalchemy.exc import ProgrammingError

from app_db import open_database
from app_db.connections import Connection
from app_db.models import AuditEvent, User
from app_db.outage import DatabaseUnavailable
from app_db.roles import Roles, make_roles, refuse_powers, require_modest_role, role_urls, roles_sql, user_of
from app_db.settings import DatabaseSettings
from app_db.testing import databases
from app_db.testing.databases import AppRole
from app_runtime.configuration import Misconfigured


async def run_as(settings: DatabaseSettings, statement: str) -> None:
    async with open_database(settings, name="test") as database, database.unit_of_work() as session:
        await session.execute(text(statement))


async def test_the_role_of_the_applications_is_modest_enough(modest_role: AppRole) -> None:
    require_modest_role(modest_role.settings)


async def test_the_role_of_the_applications_writes_what_they_write(modest_role: AppRole) -> None:
    user = User(email="ada@example.test", email_canonical="ada@example.test", password_hash="-")
    async with open_database(modest_role.settings, name="test") as database:
        async with database.unit_of_work() as session:
            session.add_all([user, AuditEvent(event="registered")])
        async with database.unit_of_work() as session:
            await session.delete(user)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_events SET event = 'nothing'",
        "DELETE FROM audit_events",
        "TRUNCATE audit_events",
        "TRUNCATE users",
        "DELETE FROM schema_history",
        "INSERT INTO schema_history (revision) VALUES ('0')",
        "UPDATE alembic_version SET version_num = '0'",
        "CREATE TABLE own (id int)",
        "CREATE TEMP TABLE own (id int)",
        "CREATE SCHEMA own",
        "ALTER TABLE users DISABLE TRIGGER ALL",
        "DROP TABLE users",
        "CREATE ROLE other",
    ],
)
async def test_the_role_of_the_applications_may_not(modest_role: AppRole, statement: str) -> None:
    with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
        await run_as(modest_role.settings, statement)


async def administer(administrator: DatabaseSettings, script: str) -> None:
    connection = await asyncpg.connect(administrator.direct_dsn)
    try:
        await connection.execute(script)
    finally:
        await connection.close()


async def test_tables_that_come_later_are_the_applications_too(modest_role: AppRole) -> None:
    later = f"SET ROLE {modest_role.roles.migrator}; CREATE TABLE later (id serial PRIMARY KEY)"
    await administer(modest_role.administrator, later)

    await run_as(modest_role.settings, "INSERT INTO later DEFAULT VALUES")


@pytest.fixture
async def migrated(postgres_server_url: str, worker_id: str, modest_role: AppRole) -> AsyncIterator[DatabaseSettings]:
    """The administrator's own database, migrated before there were any roles."""
    name = f"app_before_{worker_id}_test"
    url = await databases.recreate(postgres_server_url, name, template=databases.TEMPLATE)
    yield DatabaseSettings.model_validate({"url": url})
    await databases.drop(postgres_server_url, name)


def as_app(administrator: DatabaseSettings, modest_role: AppRole) -> DatabaseSettings:
    url = modest_role.settings.sqlalchemy_url.set(database=administrator.sqlalchemy_url.database)
    return DatabaseSettings.model_validate({"url": url.render_as_string(hide_password=False)})


async def test_roles_can_be_made_after_the_migrations_and_again(
    migrated: DatabaseSettings, modest_role: AppRole
) -> None:
    script = roles_sql(modest_role.roles, passwords={})
    await make_roles(migrated, script)
    await make_roles(migrated, script)

    require_modest_role(as_app(migrated, modest_role))
    with pytest.raises(ProgrammingError, match="permission denied"):
        await run_as(as_app(migrated, modest_role), "DELETE FROM audit_events")
    await administer(migrated, f"SET ROLE {modest_role.roles.migrator}; ALTER TABLE users ADD COLUMN nickname text")


async def test_people_read_and_change_nothing(migrated: DatabaseSettings, modest_role: AppRole) -> None:
    await make_roles(migrated, roles_sql(modest_role.roles, passwords={}))
    reader = f"SET ROLE {modest_role.roles.readonly}; "

    await administer(migrated, reader + "SELECT * FROM jobs")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await administer(migrated, reader + "DELETE FROM jobs")


POWERS = {
    "GRANT UPDATE ON audit_events TO {app}": "may change or delete what is in audit_events",
    "GRANT DELETE ON audit_events_default TO {app}": "may change or delete what is in audit_events",
    "GRANT CREATE ON SCHEMA public TO {app}": "may create tables or schemas",
    "ALTER TABLE users OWNER TO {app}": "owns the database or tables in it",
    "GRANT {migrator} TO {app}": "owns the database or tables in it",
    "ALTER ROLE {app} CREATEROLE": "may create roles or databases, replicate, or bypass row security",
}
UNDO = "REVOKE {migrator} FROM {app}; ALTER ROLE {app} NOCREATEROLE"


@pytest.mark.parametrize(("grant", "power"), POWERS.items())
async def test_a_role_that_may_do_more_is_refused(
    migrated: DatabaseSettings, modest_role: AppRole, grant: str, power: str
) -> None:
    names = {"app": modest_role.roles.app, "migrator": modest_role.roles.migrator}
    await make_roles(migrated, roles_sql(modest_role.roles, passwords={}))
    await administer(migrated, grant.format(**names))
    try:
        with pytest.raises(Misconfigured) as refused:
            require_modest_role(as_app(migrated, modest_role))
    finally:
        await administer(migrated, UNDO.format(**names))

    assert f"APP_DATABASE__URL: its role {power}" in refused.value.lines


def test_a_superuser_is_refused(database_settings: DatabaseSettings) -> None:
    with pytest.raises(Misconfigured, match=r"APP_DATABASE__URL: its role is a superuser\n.*database roles"):
        require_modest_role(database_settings)


def test_nobody_can_say_what_a_role_may_do_when_the_database_is_away(database_settings: DatabaseSettings) -> None:
    nowhere = database_settings.sqlalchemy_url.set(port=1).render_as_string(hide_password=False)

    with pytest.raises(DatabaseUnavailable):
        require_modest_role(DatabaseSettings.model_validate({"url": nowhere}))


async def test_nothing_is_asked_with_a_role_that_may_do_anything(database_settings: DatabaseSettings) -> None:
    one = select(literal(1))
    async with open_database(database_settings, name="test", vet=refuse_powers) as database:
        for read_only in (True, False):
            with pytest.raises(Misconfigured, match="is a superuser"):
                async with database.unit_of_work(read_only=read_only) as session:
                    await session.execute(one)


async def test_a_connection_that_is_refused_is_closed(database_settings: DatabaseSettings) -> None:
    refused: list[Connection] = []

    async def refuse(connection: Connection) -> None:
        refused.append(connection)
        raise Misconfigured("no")

    async with open_database(database_settings, name="test", vet=refuse) as database:
        with pytest.raises(Misconfigured):
            async with database.unit_of_work(read_only=True) as session:
                await session.execute(select(literal(1)))

        assert [connection.is_closed() for connection in refused] == [True]


async def test_a_role_is_looked_at_once(database_settings: DatabaseSettings) -> None:
    passed: list[Connection] = []

    async def let_pass(connection: Connection) -> None:
        passed.append(connection)

    async with (
        open_database(database_settings, name="test", vet=let_pass) as database,
        database.engine.connect(),
        database.engine.connect(),
    ):
        assert len(passed) == 1


async def test_a_superuser_is_not_made_the_role_of_the_applications(
    migrated: DatabaseSettings, modest_role: AppRole
) -> None:
    superuser = replace(modest_role.roles, app=migrated.sqlalchemy_url.username or "")

    with pytest.raises(Misconfigured, match="is a superuser: choose another name; the roles are as they were"):
        await make_roles(migrated, roles_sql(superuser, passwords={}))


async def test_roles_are_not_made_where_nobody_answers(modest_role: AppRole) -> None:
    nowhere = modest_role.settings.sqlalchemy_url.set(port=1).render_as_string(hide_password=False)

    with pytest.raises(Misconfigured, match=r"APP_DATABASE__URL: .*; the roles are as they were"):
        await make_roles(DatabaseSettings.model_validate({"url": nowhere}), "SELECT 1")


def test_the_script_holds_no_password() -> None:
    script = roles_sql(Roles(), passwords={"app": SecretStr("pa55-of-app"), "migrator": SecretStr("pa55-of-migrator")})

    assert "pa55" not in script
    assert script.count("PASSWORD 'SCRAM-SHA-256$4096:") == 2


@pytest.mark.parametrize("name", ["App", "app; DROP TABLE users", "", "a" * 64, "migrator"])
def test_a_name_that_is_no_name_of_a_role_is_refused(name: str) -> None:
    with pytest.raises(Misconfigured, match="names of roles"):
        Roles(app=name)


def test_each_role_has_a_url_with_a_password_of_its_own() -> None:
    app, migrator = role_urls("postgresql://db.example.test:5433/shop", Roles())

    (app_name, app_password), (migrator_name, migrator_password) = user_of(app), user_of(migrator)
    assert (app_name, migrator_name) == ("app", "migrator")
    assert app_password != migrator_password
    assert len(app_password.get_secret_value()) == 32
    assert app.endswith("@db.example.test:5433/shop")


@pytest.mark.parametrize("url", ["", "db.example.test", "mysql://db.example.test/shop", "postgresql://db.example.test"])
def test_roles_need_a_host_and_a_database(url: str) -> None:
    with pytest.raises(Misconfigured, match="--database"):
        role_urls(url, Roles())
