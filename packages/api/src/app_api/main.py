"""The start of the API. Only this module of the package reads the environment."""

import argparse
import asyncio
import os
import sys
from collections.abc import Iterable, Mapping

import structlog
from fastapi import FastAPI

from app_api import config, database_roles, operator
from app_api.app import create_app
from app_api.feature_settings import ALL_SETTINGS, READ_ELSEWHERE
from app_api.seed import seed
from app_api.serving import serve, stopping_by_signal
from app_api.settings import ApiSettings
from app_auth.payload_keys import require_payload_keys
from app_auth.valkey import require_no_cluster
from app_db.jobs.catalog import CATALOG
from app_db.outage import DatabaseUnavailable
from app_db.roles import require_modest_role
from app_runtime.configuration import Environment, Misconfigured, hints, load, origins_of
from app_runtime.output import write_out
from app_runtime.telemetry.logs import configure_logging
from app_runtime.telemetry.outlet import never_wait_for_readers
from app_runtime.telemetry.trace_settings import log_processors

log = structlog.get_logger(__name__)


def build() -> FastAPI:
    """Return the application that the environment describes (`uvicorn --factory app_api.main:build`).

    Raises:
        SystemExit: with a line for each setting that is missing, wrong or not safe.
    """
    try:
        return create_app(_to_serve(), stopping=stopping_by_signal(), origins=_origins())
    except Misconfigured as error:
        sys.exit(str(error))


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run the command; without one, serve.

    Raises:
        SystemExit: 2 for bad usage; 1 with lines on standard error, one for each wrong setting.
    """
    parser = argparse.ArgumentParser(prog="python -m app_api", description="The HTTP API.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("serve", help="serve HTTP until SIGTERM (the default)")
    commands.add_parser("seed", help="create a first operator and sample accounts (development only)")
    operator.add_commands(commands.add_parser("operator", help="look after accounts, and read what happened to them"))
    config.add_commands(commands.add_parser("config", help="make, check and rotate what the applications are given"))
    database_roles.add_commands(
        commands.add_parser("database", help="create the roles that applications use, export the audit")
    )
    parsed = parser.parse_args(arguments)
    try:
        _run(parsed)
    except Misconfigured as error:
        sys.exit("\n".join([str(error), *(f"hint: {line}" for line in hints(error))]))


def _run(parsed: argparse.Namespace) -> None:
    match parsed.command:
        case "seed":
            _print(asyncio.run(seed(_settings())))
        case "operator":
            _print([asyncio.run(operator.run(_settings(), parsed))])
        case "config":
            _print(config.run(parsed, os.environ))
        case "database":
            _print(asyncio.run(database_roles.run(parsed, os.environ)))
        case _:
            serve(_to_serve(), _origins())


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        write_out(f"{line}\n")


def _settings() -> ApiSettings:
    settings = load(ALL_SETTINGS, os.environ, elsewhere=READ_ELSEWHERE)
    more = log_processors(settings.tracing, service="app-api")
    configure_logging(settings.log, development=settings.env is Environment.DEVELOPMENT, more=more)
    return settings


def _origins() -> Mapping[str, str]:
    return origins_of(ALL_SETTINGS, os.environ, elsewhere=READ_ELSEWHERE)


def _to_serve() -> ApiSettings:
    never_wait_for_readers()  # guard: test_a_log_that_nobody_reads_holds_up_no_request
    settings = _settings()
    require_payload_keys(settings.jobs, CATALOG)
    require_no_cluster(settings.redis)  # guard: test_an_api_at_a_valkey_in_cluster_mode_does_not_start
    if settings.env is Environment.PRODUCTION:
        try:
            require_modest_role(settings.database)  # guard: test_production_refuses_a_role_that_may_do_anything
        except DatabaseUnavailable as error:  # the API answers 503 until it connects and checks (lifespan.py)
            log.warning("database_role_not_checked", reason=error.reason())
    return settings
