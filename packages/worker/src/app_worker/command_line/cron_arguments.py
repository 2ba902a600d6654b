"""The arguments of `crons`: names, options and the texts of `--help`."""

import argparse
from typing import Final

from app_db.jobs.timetables import CatchUp

type Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  # argparse has no public name

_ACTIONS: Final = {
    "run": "enqueue the job of a cron now",
    "pause": "let no more ticks of a cron of the table become jobs",
    "resume": "go on with the next tick; what was missed during the pause is not made up",
    "delete": "delete a cron of the table, or the record of one that is no longer in code; its jobs stay",
}


def add_crons(commands: Commands, output: argparse.ArgumentParser) -> None:
    """Add the command, with those below it."""
    crons = commands.add_parser("crons", help="list and steer crons", description=_DESCRIPTION)
    actions = crons.add_subparsers(dest="cron_command", required=True, metavar="COMMAND")
    listing = "list crons with their last and next ticks"
    actions.add_parser("list", parents=[output], help=listing, description=f"{listing.capitalize()}.")
    for name, summary in _ACTIONS.items():
        action = actions.add_parser(name, parents=[output], help=summary, description=f"{summary.capitalize()}.")
        action.add_argument("name", metavar="CRON", help="the name of the cron")
    adding = actions.add_parser(
        "add", parents=[output, _values()], help="add a cron to the table", description=_ADD
    )  # fmt: skip
    adding.add_argument("name", metavar="CRON", help="a name that no other cron has")
    adding.add_argument("kind", metavar="KIND", help="of its jobs, as in sessions.prune")
    adding.add_argument(
        "expression", metavar="EXPRESSION", help="as in '30 2 * * 1-5'; a sixth field in front is seconds"
    )
    changing = actions.add_parser(
        "change", parents=[output, _values()], help="change a cron of the table", description=_CHANGE
    )
    changing.add_argument("name", metavar="CRON", help="the name of the cron")
    changing.add_argument("--kind", metavar="KIND", help="of its jobs")
    changing.add_argument("--expression", metavar="EXPRESSION", help="when it ticks")


def _values() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--payload", metavar="JSON", help="the fields of its jobs (default: {})")
    options.add_argument("--timezone", metavar="ZONE", help="as in Europe/Berlin (default: UTC)")
    options.add_argument("--queue", metavar="QUEUE", help="(default: default)")
    options.add_argument("--priority", type=int, metavar="N", help="the lowest runs first (default: 2)")
    catching_up = "for ticks while no worker runs: one job, a job for each, or none (default: one)"
    options.add_argument("--catch-up", type=CatchUp, choices=[*CatchUp], metavar="one|all|skip", help=catching_up)
    overlapping = "with --no-overlap no job while that of an earlier tick is open"
    options.add_argument("--overlap", action=argparse.BooleanOptionalAction, help=overlapping)
    return options


_DESCRIPTION = """List crons, or steer one. Most are code of the workers; those of the table are added and changed here,
over HTTP and in the console. Workers know it within five seconds."""

_ADD = """Add a cron to the table. It begins with its next tick. When the clock of its zone goes forward, a fixed time
that it skips ticks right after the change; when it goes back, a time that it shows twice ticks the first time."""

_CHANGE = """Change what is named of a cron of the table. Its next tick is that of the new values; what was missed
before is not made up."""
