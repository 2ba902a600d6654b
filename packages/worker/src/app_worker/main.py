"""`python -m app_worker run`. The one module of this package that reads the environment."""

import argparse
import asyncio
import logging

import uvloop

from app_worker.observability import configure_logging
from app_worker.process import run_worker
from app_worker.settings import WorkerSettings


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run the command."""
    parser = argparse.ArgumentParser(prog="python -m app_worker", description="Runs background jobs and cron.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("run", help="run jobs until SIGTERM")
    parser.parse_args(arguments)
    settings = WorkerSettings()
    configure_logging(settings.log)
    logging.getLogger("arq").setLevel(logging.WARNING)  # the runner's own events say it better
    asyncio.run(run_worker(settings), loop_factory=uvloop.new_event_loop)
