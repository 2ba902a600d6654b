"""`python -m app_worker`. The one module of this package that reads the environment."""

import asyncio
import logging
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager

import uvloop
from pydantic import ValidationError

from app_db.errors import AppError
from app_worker import commands
from app_worker.arguments import parse
from app_worker.observability import configure_logging
from app_worker.process import run_worker
from app_worker.settings import CommandSettings, WorkerSettings


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run the command.

    Raises:
        SystemExit: 2 for bad usage; 1 with one line on standard error for what can be told to people.
    """
    options = parse(arguments)
    try:
        if options.command == "run":
            _run(options)
        else:
            _execute(options)
    except AppError as error:
        sys.exit(f"error: {error.describe()}")
    except asyncio.CancelledError:
        sys.exit("error: stopped by a signal; what was running has been given back")


def _run(options: Namespace) -> None:
    with _naming_what_is_wrong():
        settings = WorkerSettings()
    settings = _with_options(settings, options)
    configure_logging(settings.log)
    logging.getLogger("arq").setLevel(logging.WARNING)  # the runner's own events say it better
    asyncio.run(run_worker(settings), loop_factory=uvloop.new_event_loop)


def _execute(options: Namespace) -> None:
    with _naming_what_is_wrong():
        settings = CommandSettings()
    settings = _with_options(settings, options)
    configure_logging(settings.log)
    document = asyncio.run(commands.execute(settings, options), loop_factory=uvloop.new_event_loop)
    sys.stdout.write(f"{document.model_dump_json(indent=2)}\n" if options.json else document.text())


@contextmanager
def _naming_what_is_wrong() -> Iterator[None]:
    """End with a line for each setting that is missing or wrong, without its value."""
    try:
        yield
    except ValidationError as error:
        sys.exit("\n".join(f"error: {_name(wrong['loc'])}: {wrong['msg']}" for wrong in error.errors()))
    except ValueError as error:  # a variable that is not the JSON it has to be
        sys.exit(f"error: {error}")


def _name(location: tuple[int | str, ...]) -> str:
    """Return the variable; of a group that is missing as a whole Pydantic does not say which one it needs."""
    return "__".join(["APP_" + str(location[0]).upper(), *(str(part).upper() for part in location[1:] or ("…",))])


def _with_options[S: CommandSettings](settings: S, options: Namespace) -> S:
    """Return the settings with what the command line says instead."""
    named = {name: value for name in ("queues", "concurrency") if (value := getattr(options, name, None)) is not None}
    return settings.model_copy(update={"worker": settings.worker.model_copy(update=named)})
