"""Database roles: `python -m app_api database roles` makes them, and applications refuse a role with more powers.

`migrator` owns the tables and runs the migrations, the applications connect as `app`, and `readonly` is a group for
people. Behind a pooler workers have a role of their own, which may do what `app` may, with limits for jobs. Revisions
revoke from `app` the right to change `APPEND_ONLY` and `WRITTEN_BY_MIGRATIONS`.
"""

import asyncio
import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import asyncpg
from pydantic import SecretStr
from sqlalchemy import literal, make_url, select
from sqlalchemy.exc import ArgumentError

from app_db.connections import Connection
from app_db.engine import open_database
from app_db.hosts import Hosts
from app_db.settings import DatabaseSettings
from app_runtime.configuration import Misconfigured

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_SCRAM_ITERATIONS = 4096  # as in Postgres itself; these passwords are random, so they cannot be guessed

APPEND_ONLY = "audit_events"
WRITTEN_BY_MIGRATIONS = ("alembic_version", "schema_history")
MIGRATOR_SUFFIX = ".migrator"
"""Added to the name of the file of secrets: the file of the role that owns the tables."""

_POWERS = """
    SELECT rolsuper AS is_superuser,
           rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls AS has_attributes,
           pg_has_role((SELECT datdba FROM pg_database WHERE datname = current_database()), 'USAGE')
               OR EXISTS (SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace
                              AND pg_has_role(relowner, 'USAGE')) AS is_owner,
           has_schema_privilege('public', 'CREATE') OR has_database_privilege(current_database(), 'CREATE')
               AS may_create,
           EXISTS (SELECT FROM pg_class LEFT JOIN pg_inherits ON inhrelid = oid
                   WHERE to_regclass('public.audit_events') IN (oid, inhparent)
                       AND has_table_privilege(oid, 'UPDATE, DELETE, TRUNCATE')) AS may_rewrite_audit
    FROM pg_roles WHERE rolname = current_user
"""


@dataclass(frozen=True, slots=True)
class Roles:
    """Names of roles; they belong to the server, so two applications on one server need different ones."""

    migrator: str = "migrator"
    app: str = "app"
    readonly: str = "readonly"
    worker: str = ""
    """Of workers, if they do not connect as `app`."""
    connection_limit: int = 100
    """How many connections all processes of `app` may open together, and those of `worker`."""

    def __post_init__(self) -> None:
        names = (self.migrator, self.app, self.readonly, *([self.worker] if self.worker else []))
        if len(set(names)) < len(names) or not all(_NAME.fullmatch(name) for name in names):
            raise Misconfigured("the names of roles are different ones, of a-z, 0-9 and _")


def role_urls(url: str, roles: Roles) -> tuple[str, str]:
    """Return the URLs of `app` and of `migrator` in the database of this URL, with new random passwords.

    Raises:
        Misconfigured: unless it names a host and a database.
    """
    try:
        place = make_url(url)
    except (ArgumentError, ValueError):
        place = make_url("postgresql://")
    if place.get_backend_name() != "postgresql" or not (place.host and place.database):
        raise Misconfigured("--database: must look like postgresql://host:port/database")
    first, second = (
        place.set(username=name, password=secrets.token_urlsafe(24)).render_as_string(hide_password=False)
        for name in (place.username or roles.app, roles.migrator)
    )
    return first, second


def user_of(url: str) -> tuple[str, SecretStr]:
    """Return name and password of a URL that `role_urls` has made."""
    parts = make_url(url)
    return parts.username or "", SecretStr(str(parts.password or ""))


def roles_sql(
    roles: Roles, *, passwords: Mapping[str, SecretStr], carried: Mapping[str, Mapping[str, str]] | None = None
) -> str:
    """Return the script that makes the roles, for an administrator of the database that it is run in.

    It can be run again, also after migrations, and holds verifiers, not passwords. A role without a password here keeps
    the one that it has; a new role cannot sign in before an administrator sets a password.

    Args:
        roles: the names.
        passwords: by the name of the role.
        carried: the settings of each role in this database, by its name (`app_db.pooler`).
    """
    verifiers = {name: f"PASSWORD '{_scram(password.get_secret_value())}'" for name, password in passwords.items()}
    script = _SCRIPT.format(
        migrator=roles.migrator,
        app=roles.app,
        readonly=roles.readonly,
        limit=roles.connection_limit,
        migrator_password=verifiers.get(roles.migrator, ""),
        app_password=verifiers.get(roles.app, ""),
        append_only=APPEND_ONLY,
        written_by_migrations="', '".join(WRITTEN_BY_MIGRATIONS),
    )
    if roles.worker:
        options = {"worker": roles.worker, "app": roles.app, "limit": roles.connection_limit}
        script += _WORKER.format(**options, password=verifiers.get(roles.worker, ""))
    lines = [
        f"    EXECUTE format('ALTER ROLE {role} IN DATABASE %I SET {name} = %L', current_database(), '{value}');\n"
        for role, settings in (carried or {}).items()
        for name, value in settings.items()
    ]
    return script + _CARRIED.format(lines="".join(lines)) if lines else script


async def make_roles(administrator: DatabaseSettings, script: str) -> None:
    """Run the script of `roles_sql`, all of it or nothing.

    Raises:
        Misconfigured: with what Postgres says when it refuses, or when it cannot be reached.
    """
    hosts = Hosts(administrator.direct_dsn, connect_timeout=administrator.connect_timeout)
    try:
        connection: Any = await hosts.connect()  # Any: asyncpg has no types
        try:
            await connection.execute(script)
        finally:
            await connection.close()
    except (asyncpg.PostgresError, OSError) as error:  # a TimeoutError is an OSError
        raise Misconfigured(f"APP_DATABASE__URL: {error or 'no answer'}; the roles are as they were") from error


def require_modest_role(settings: DatabaseSettings) -> None:
    """Refuse a role with more powers than the application needs: an attacker who controls it would have them too.

    One query on a connection of its own; may be called where an event loop runs.

    Raises:
        Misconfigured: with a line for each power that it should not have.
        DatabaseUnavailable: when the role cannot be read now.
    """

    async def connect() -> None:
        async with (
            open_database(settings, name="check", vet=refuse_powers) as database,
            database.unit_of_work(read_only=True) as session,
        ):
            await session.execute(select(literal(1)))

    with ThreadPoolExecutor(max_workers=1) as executor:
        executor.submit(asyncio.run, connect()).result()


async def refuse_powers(connection: Connection) -> None:
    """Check the role of a new connection: for `open_database`, which checks until one role is accepted.

    Raises:
        Misconfigured: as `require_modest_role`.
    """
    powers = await connection.fetchrow(_POWERS)
    assert powers is not None  # the current role always exists
    if lines := [f"APP_DATABASE__URL: its role {power}" for power in _too_much(powers)]:
        raise Misconfigured(*lines, "`python -m app_api database roles` makes a role that may do what is needed")


def _too_much(powers: asyncpg.Record) -> Iterator[str]:
    if powers["is_superuser"]:
        yield "is a superuser"
        return
    if powers["has_attributes"]:
        yield "may create roles or databases, replicate, or bypass row security"
    if powers["is_owner"]:
        yield "owns the database or tables in it"
    if powers["may_create"]:
        yield "may create tables or schemas"
    if powers["may_rewrite_audit"]:
        yield f"may change or delete what is in {APPEND_ONLY}"


def _scram(password: str) -> str:
    """Return the verifier that Postgres stores (RFC 5803), so that the password itself is in no script and no log."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _SCRAM_ITERATIONS)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (
        base64.b64encode(part).decode() for part in (salt, hashlib.sha256(client_key).digest(), server_key)
    )
    return f"SCRAM-SHA-256${_SCRAM_ITERATIONS}:{salt64}${stored64}:{server64}"


_SCRIPT = """\
DO $roles$
DECLARE
    item record;
BEGIN
    FOR item IN SELECT unnest(ARRAY['{migrator}', '{app}', '{readonly}']) AS name LOOP
        IF to_regrole(item.name) IS NULL THEN
            EXECUTE 'CREATE ROLE ' || item.name;
        ELSIF (SELECT rolsuper FROM pg_roles WHERE rolname = item.name) THEN
            RAISE EXCEPTION 'the role % is a superuser: choose another name', item.name;
        END IF;
    END LOOP;
    -- A role without superuser must be a member of the new owner to hand tables over.
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE 'GRANT {migrator} TO ' || quote_ident(current_user);
    END IF;
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO {migrator}, {app}, {readonly}', current_database());
    FOR item IN SELECT oid::regclass AS name FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
            AND relowner <> to_regrole('{migrator}')
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO {migrator}', item.name);
    END LOOP;
    FOR item IN SELECT oid::regprocedure AS name FROM pg_proc
                WHERE pronamespace = 'public'::regnamespace AND proname ~ '^([a-z]+_)*audit_(months?|id_at)$' LOOP
        EXECUTE format('ALTER ROUTINE %s OWNER TO {migrator}', item.name);
    END LOOP;
END
$roles$;

ALTER ROLE {migrator} LOGIN CONNECTION LIMIT 5 {migrator_password};
ALTER ROLE {app} LOGIN CONNECTION LIMIT {limit} {app_password};
ALTER ROLE {readonly} NOLOGIN;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
REVOKE CREATE ON SCHEMA public FROM {app}, {readonly};
GRANT USAGE, CREATE ON SCHEMA public TO {migrator};
GRANT USAGE ON SCHEMA public TO {app}, {readonly};

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {app};
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {app};
GRANT SELECT ON ALL TABLES IN SCHEMA public TO {readonly};
ALTER DEFAULT PRIVILEGES FOR ROLE {migrator} IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {app};
ALTER DEFAULT PRIVILEGES FOR ROLE {migrator} IN SCHEMA public GRANT USAGE ON SEQUENCES TO {app};
ALTER DEFAULT PRIVILEGES FOR ROLE {migrator} IN SCHEMA public GRANT SELECT ON TABLES TO {readonly};

-- What was not there yet is restricted by the revision that makes it.
DO $restrict$
DECLARE
    item record;
BEGIN
    IF to_regclass('public.{append_only}') IS NOT NULL THEN
        REVOKE UPDATE, DELETE, TRUNCATE ON public.{append_only} FROM {app};
    END IF;
    FOR item IN SELECT inhrelid::regclass AS month FROM pg_inherits
                WHERE inhparent = to_regclass('public.{append_only}') LOOP
        EXECUTE format('REVOKE ALL ON %s FROM {app}, {readonly}', item.month);
    END LOOP;
    FOR item IN SELECT oid::regprocedure AS name FROM pg_proc
                WHERE prosecdef AND pronamespace = 'public'::regnamespace AND proname ~ '_audit_months?$' LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO {app}', item.name);
    END LOOP;
    FOR item IN SELECT unnest(ARRAY['{written_by_migrations}']) AS name LOOP
        IF to_regclass('public.' || item.name) IS NOT NULL THEN
            EXECUTE format('REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON public.%I FROM {app}', item.name);
        END IF;
    END LOOP;
END
$restrict$;
"""

_WORKER = """
DO $worker$
BEGIN
    IF to_regrole('{worker}') IS NULL THEN
        CREATE ROLE {worker};
    ELSIF (SELECT rolsuper FROM pg_roles WHERE rolname = '{worker}') THEN
        RAISE EXCEPTION 'the role {worker} is a superuser: choose another name';
    END IF;
END
$worker$;
ALTER ROLE {worker} LOGIN INHERIT CONNECTION LIMIT {limit} {password};
GRANT {app} TO {worker};
"""

_CARRIED = """
-- A pooler loses what a session asks for at its start.
DO $carried$
BEGIN
{lines}END
$carried$;
"""
