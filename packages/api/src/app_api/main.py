"""Where the API starts. The one module of this package that reads the environment."""

import argparse
import asyncio
import signal
import sys

import uvicorn
from fastapi import FastAPI

from app_api import operator
from app_api.app import create_app
from app_api.observability import configure_logging
from app_api.seed import seed
from app_api.settings import ApiSettings


def build() -> FastAPI:
    """Return the application that the environment describes (`uvicorn --factory app_api.main:build`)."""
    settings = ApiSettings()
    configure_logging(settings.log)
    return create_app(settings)


def serve(settings: ApiSettings) -> None:
    """Serve until SIGTERM, then let running requests finish for up to `APP_HTTP__DRAIN`."""
    # uvicorn raises the signal again once it has stopped: without a handler of ours that would be a death by signal.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # guard: test_it_serves_until_it_is_told_to_stop
    uvicorn.run(
        create_app(settings),
        host=settings.http.host,
        port=settings.http.port,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=round(settings.http.drain.total_seconds()),
    )


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run the command; without one, serve."""
    parser = argparse.ArgumentParser(prog="python -m app_api", description="The HTTP API.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("serve", help="serve HTTP until SIGTERM (the default)")
    commands.add_parser("seed", help="create a first operator and sample accounts (development only)")
    operator.add_commands(commands.add_parser("operator", help="make an account an operator, or a user again"))
    parsed = parser.parse_args(arguments)
    settings = ApiSettings()
    configure_logging(settings.log)
    match parsed.command:
        case "seed":
            sys.stdout.writelines(f"{line}\n" for line in asyncio.run(seed(settings)))
        case "operator":
            sys.stdout.write(asyncio.run(operator.run(settings, parsed)) + "\n")
        case _:
            serve(settings)
