"""`python -m app_api database roles`: an administrator of the database runs it once, and may repeat it.

`database audit-export` is for the applications' role.
"""

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel, SecretStr

from app_api.config import migrator_file
from app_auth.audit import SHELL, Event, audit
from app_auth.client import NOBODY
from app_db import open_database
from app_db.audit_export import write_month
from app_db.fleet import Fleet, fleet_of, pool_of_worker, require_room, room_of
from app_db.outage import NoAnswer
from app_db.pooler import carried_by_role
from app_db.roles import Roles, make_roles, roles_sql, user_of
from app_db.settings import DatabaseSettings, Pooler
from app_runtime.configuration import PREFIX, Misconfigured, lines_of, load


class WorkerSize(BaseModel, frozen=True):
    """What decides how many connections a worker opens; the worker checks it."""

    queues: tuple[str, ...] = ("default",)
    concurrency: int = 10


class AdministratorSettings(BaseModel, frozen=True):
    """The settings of the database, and of the sizes of processes."""

    database: DatabaseSettings
    worker: WorkerSize = WorkerSize()


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands."""
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    roles = commands.add_parser(
        "roles",
        help="create the roles that migrate, run and read",
        description="Creates or corrects the roles, as the administrator of the database in APP_DATABASE__URL.",
    )
    roles.add_argument(
        "--print", action="store_true", help="print the SQL, which holds no password, and change nothing"
    )
    roles.add_argument(
        "--secrets", metavar="FILE", type=Path, help="what `config init` wrote: whose names and passwords"
    )
    for name in ("migrator", "app", "readonly"):
        roles.add_argument(f"--{name}", metavar="NAME", help=f"another name for {name}")
    roles.add_argument("--api-processes", metavar="N", type=int, default=0, help="at most; the limit is computed then")
    roles.add_argument("--workers", metavar="N", type=int, default=0, help="at most; as --api-processes")
    roles.add_argument("--connection-limit", metavar="N", type=int, help="of app, instead; 100 if nothing is said")
    roles.add_argument(
        "--pooler", choices=[Pooler.TRANSACTION.value], help="give them the settings that are lost behind a pooler"
    )
    roles.add_argument(
        "--pooler-sessions", metavar="N", type=int, default=20, help="its default_pool_size; 20 if absent"
    )
    roles.add_argument(
        "--worker-secrets", metavar="FILE", type=Path, help="whose APP_DATABASE__URL names a role for workers alone"
    )
    roles.add_argument("--longest-job", metavar="SECONDS", type=int, default=3600, help="of workers; 3600 if absent")
    export = commands.add_parser(
        "audit-export",
        help="write a month of the audit to a file, and record that",
        description="Writes CSV. Workers with APP_RETENTION__AUDIT_AFTER_EXPORT=true drop the month only then.",
    )
    export.add_argument("month", metavar="MONTH", help="one that has ended, as 2026-01")
    export.add_argument("file", metavar="FILE", type=Path, help="a new file")


async def run(parsed: argparse.Namespace, environ: Mapping[str, str]) -> Iterable[str]:
    """Run the subcommand and return the lines to print.

    Raises:
        Misconfigured: with lines that say what is wrong; then nothing was changed.
    """
    if parsed.action == "audit-export":
        settings = load(AdministratorSettings, environ, elsewhere=[PREFIX])
        return [await _export(settings.database, parsed.month, parsed.file)]
    return await _roles(parsed, environ)


async def _export(settings: DatabaseSettings, wanted: str, path: Path) -> str:
    """Write the file, then record it: a month of which both are there may be dropped."""
    exported = await write_month(settings, wanted, path)
    async with open_database(settings, name="operator") as database, database.unit_of_work() as session:
        month, rows, digest = exported.month, exported.rows, exported.sha256
        audit(session, Event.AUDIT_MONTH_EXPORTED, client=NOBODY, month=month, rows=rows, sha256=digest, by=SHELL)
    return f"{exported.rows} events of {exported.month} are in {path}, SHA-256 {exported.sha256}"


async def _roles(parsed: argparse.Namespace, environ: Mapping[str, str]) -> Iterable[str]:
    """Make or print the roles. May be repeated, before and after migrations."""
    names = {name: getattr(parsed, name) for name in ("migrator", "app", "readonly") if getattr(parsed, name)}
    passwords = {}
    if parsed.secrets:
        for name, path in (("app", parsed.secrets), ("migrator", migrator_file(parsed.secrets))):
            user, password = _user_in(path)
            names.setdefault(name, user)
            passwords[names[name]] = password
    if parsed.worker_secrets:
        names["worker"], password = _user_in(parsed.worker_secrets)
        passwords[names["worker"]] = password
    is_told = parsed.api_processes or parsed.workers
    if is_told and parsed.connection_limit is not None:
        raise Misconfigured("--connection-limit: say this or how many processes there are, not both")
    roles = Roles(**names, connection_limit=parsed.connection_limit or 100)
    if parsed.print and not parsed.pooler and not is_told:
        return [roles_sql(roles, passwords=passwords).rstrip()]
    settings = load(AdministratorSettings, environ, elsewhere=[PREFIX])
    database, sums = settings.database, []
    if is_told:
        fleet = _fleet(parsed, settings)
        roles, sums = replace(roles, connection_limit=fleet.needed), [str(fleet)]
        if not parsed.print:
            await _require_room(fleet, database)
    carried = _carried(roles, database, timedelta(seconds=parsed.longest_job)) if parsed.pooler else {}
    script = roles_sql(roles, passwords=passwords, carried=carried)
    if parsed.print:
        return [script.rstrip()]
    await make_roles(database, script)
    runs = (
        f"{roles.app} runs the API, {roles.worker} the workers"
        if roles.worker
        else f"{roles.app} runs the applications"
    )
    return [f"{roles.migrator} migrates, {runs}, members of {roles.readonly} read", *sums]


def _fleet(parsed: argparse.Namespace, settings: AdministratorSettings) -> Fleet:
    worker = settings.worker
    return fleet_of(
        settings.database,
        api_processes=parsed.api_processes,
        workers=parsed.workers,
        worker_pool=pool_of_worker(worker.concurrency, len(worker.queues)),
        # Each role has sessions of its own.
        sessions_of_pooler=parsed.pooler_sessions * (2 if parsed.worker_secrets else 1) if parsed.pooler else 0,
    )


async def _require_room(fleet: Fleet, database: DatabaseSettings) -> None:
    try:
        room = await room_of(database)
    except NoAnswer as error:
        raise Misconfigured(f"APP_DATABASE__URL: {error}; the roles are as they were") from error
    require_room(fleet, room)  # guard: test_a_fleet_that_does_not_fit_into_postgres_is_refused


def _carried(roles: Roles, database: DatabaseSettings, longest_job: timedelta) -> dict[str, dict[str, str]]:
    """Return the settings of each role that an application has behind a pooler."""
    carried = {roles.app: carried_by_role(database)}
    if roles.worker:
        limits = {
            "statement_timeout": longest_job,
            "transaction_timeout": longest_job + timedelta(seconds=5),
            "idle_in_transaction_timeout": timedelta(0),
        }
        carried[roles.worker] = carried_by_role(database.model_copy(update=limits))
    return carried


def _user_in(path: Path) -> tuple[str, SecretStr]:
    try:
        url = lines_of(path.read_text())["APP_DATABASE__URL"]
    except (OSError, KeyError):
        raise Misconfigured(f"{path}: has no APP_DATABASE__URL; `config init --database URL` writes it") from None
    return user_of(url)
