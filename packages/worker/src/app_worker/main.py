"""`python -m app_worker`. The one module of this package that reads the environment."""

import asyncio
import logging
import os
import sys
from argparse import Namespace
from collections.abc import Awaitable

import structlog
import uvloop

from app_auth.valkey import require_no_cluster
from app_db.errors import AppError
from app_db.outage import DatabaseUnavailable
from app_db.roles import require_modest_role
from app_db.settings import DatabaseSettings
from app_runtime.configuration import PREFIX, Environment, Misconfigured, hints, load
from app_runtime.discovery import feature_folders
from app_runtime.ending import INTERRUPTED, end_soon
from app_runtime.fragments import names_elsewhere, with_fragments
from app_runtime.output import write_out
from app_runtime.telemetry.logs import configure_logging
from app_runtime.telemetry.outlet import never_wait_for_readers
from app_runtime.telemetry.trace_settings import log_processors
from app_worker.command_line import commands
from app_worker.command_line.arguments import parse
from app_worker.process import run_worker
from app_worker.resources import FEATURES
from app_worker.settings import ELSEWHERE, FOR_RUN, CommandSettings, WorkerSettings, require_safe

log = structlog.get_logger(__name__)

LOOKUPS = "64"
"""Threads of uvloop, of which half may look up names at once. With its default, 4, two handlers that wait for a silent
name server would block all other look-ups, also those for mails and connections."""


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run the command.

    Raises:
        SystemExit: 2 for bad usage; 130 after Ctrl-C; 1 with the reason on standard error, if it is known.
    """
    options = parse(arguments)
    os.environ.setdefault("UV_THREADPOOL_SIZE", LOOKUPS)
    try:
        if options.command == "run":
            _run(options)
        else:
            _execute(options)
    except AppError as error:
        sys.exit(f"error: {error.reason()}")
    except Misconfigured as error:
        lines = [f"error: {line}" for line in error.lines]
        sys.exit("\n".join([*lines, *(f"hint: {line}" for line in hints(error))]))
    except commands.Interrupted:
        sys.stderr.write("error: stopped by Ctrl-C; what was running has been given back\n")
        sys.exit(INTERRUPTED)
    except asyncio.CancelledError:
        sys.exit("error: stopped by a signal; what was running has been given back")


def check_role(database: DatabaseSettings) -> None:
    """Refuse a database role that may do more than a worker needs; if the database is away, the worker checks later.

    Raises:
        Misconfigured: the role may do more.
    """
    try:
        require_modest_role(database)
    except DatabaseUnavailable as error:  # the worker checks the role when it connects (process.py)
        log.warning("database_role_not_checked", reason=error.reason())


def _run(options: Namespace) -> None:
    never_wait_for_readers()  # guard: test_a_log_that_nobody_reads_holds_up_no_job
    settings = _settings(WorkerSettings, options)
    more = log_processors(settings.tracing, service="app-worker")
    configure_logging(settings.log, development=settings.env is Environment.DEVELOPMENT, more=more)
    require_no_cluster(settings.redis)  # guard: test_a_worker_at_a_valkey_in_cluster_mode_does_not_start
    if settings.env is Environment.PRODUCTION:
        require_safe(settings)  # guard: test_a_worker_in_production_does_not_print_its_mails
        check_role(settings.database)  # guard: test_a_worker_in_production_refuses_a_superuser
    # The runner logs events of its own instead.
    logging.getLogger("arq").setLevel(
        logging.WARNING
    )  # guard: test_the_request_is_on_the_lines_of_the_jobs_that_it_caused
    asyncio.run(_then_end(run_worker(settings)), loop_factory=uvloop.new_event_loop)


def _execute(options: Namespace) -> None:
    settings = _settings(CommandSettings, options, fragments=options.command == "drain", elsewhere=FOR_RUN)
    configure_logging(settings.log, development=settings.env is Environment.DEVELOPMENT)
    asyncio.run(_then_end(_print(settings, options)), loop_factory=uvloop.new_event_loop)


async def _print(settings: CommandSettings, options: Namespace) -> None:
    output = await commands.execute(settings, options)
    write_out(f"{output.model_dump_json(indent=2)}\n" if options.json else output.text())


async def _then_end(work: Awaitable[None]) -> None:
    """Do the work, and then wait for no thread: a handler may have left one behind."""
    try:
        await work
    finally:
        end_soon()  # guard: test_a_thread_of_a_handler_does_not_keep_the_worker


def _settings[S: CommandSettings](
    model: type[S], options: Namespace, *, fragments: bool = True, elsewhere: tuple[str, ...] = ()
) -> S:
    """Return the settings. Commands that run jobs read those of features too; other commands ignore them."""
    model = with_fragments(model, FEATURES) if fragments else model
    features = [*names_elsewhere(model, FEATURES), *names_elsewhere(model, "app_db.features")]
    # Ways into an account are features of the API, which this package does not see; both may share one file of secrets.
    features += [f"{PREFIX}{folder.name.upper()}__" for folder in feature_folders("app_auth.features")]
    return _with_options(load(model, os.environ, elsewhere=(*ELSEWHERE, *elsewhere, *features)), options)


def _with_options[S: CommandSettings](settings: S, options: Namespace) -> S:
    """Return the settings, overridden by the options of the command line."""
    named = {name: value for name in ("queues", "concurrency") if (value := getattr(options, name, None)) is not None}
    return settings.model_copy(update={"worker": settings.worker.model_copy(update=named)})
