"""The command line as argparse sees it: names, options and what `--help` says."""

import argparse
from collections.abc import Sequence
from uuid import UUID

from app_db.jobs.bounds import INTEGER, require_name
from app_db.models import JobState
from app_db.paging import Cursor

DESCRIPTION = "Runs background jobs and cron, and shows and steers what is in the ledger."
EPILOG = "`COMMAND --help` explains a command. Only `run` needs Valkey. Exit codes: 0 done, 1 it failed, 2 bad usage."


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the `command`, and one attribute for each of its arguments; `None` means those of the process.

    Raises:
        SystemExit: 2 for bad usage, 0 after `--help`.
    """
    root = argparse.ArgumentParser(prog="python -m app_worker", description=DESCRIPTION, epilog=EPILOG)
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    output = argparse.ArgumentParser(add_help=False)
    output.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    _add_running(commands, output)
    _add_looking(commands, output)
    _add_acting(commands, output)
    _add_steering(commands, output)
    options = root.parse_args(arguments)
    if options.command in _ACTIONS and (complaint := _ambiguity(options)):
        commands.choices[options.command].error(complaint)
    return options


def _ambiguity(options: argparse.Namespace) -> str:
    is_filtered = any((options.state, options.kind, options.queue))
    if options.id is None and not is_filtered:
        return "name a job, or choose some with --state, --kind or --queue: this would act on every job there is"
    return "name a job or filter, not both" if options.id is not None and is_filtered else ""


type Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  # argparse has no public name


def _add_running(commands: Commands, output: argparse.ArgumentParser) -> None:
    queues = argparse.ArgumentParser(add_help=False)
    queues.add_argument("--queues", type=_names, metavar="A,B", help="serve these queues (APP_WORKER__QUEUES)")
    run = commands.add_parser("run", parents=[queues], help="run jobs until SIGTERM", description=_RUN)
    run.add_argument(
        "--concurrency", type=_count, metavar="N", help="jobs at once, per queue (default: APP_WORKER__CONCURRENCY)"
    )
    commands.add_parser(
        "drain", parents=[queues, output], help="run what is due now, one job after the other, and exit",
        description=_DRAIN,
    )  # fmt: skip


def _add_looking(commands: Commands, output: argparse.ArgumentParser) -> None:
    listing = commands.add_parser(
        "list", parents=[output, _filter()], help="list jobs, newest first", description="List jobs, newest first."
    )
    listing.add_argument("--limit", type=_count, default=20, metavar="N", help="so many at most (default: 20)")
    listing.add_argument("--after", type=_cursor, metavar="CURSOR", help="go on where the last page ended")
    show = commands.add_parser(
        "show", parents=[output], help="show one job with its attempts",
        description="Show one job: its payload, progress and result, and each attempt that failed, with its trace.",
    )  # fmt: skip
    show.add_argument("id", type=UUID, metavar="ID", help="the id of the job")
    commands.add_parser(
        "stats", parents=[output], help="show queues, workers and counts",
        description="Show how many jobs there are in each state, every queue, and every worker that lives.",
    )  # fmt: skip


def _add_acting(commands: Commands, output: argparse.ArgumentParser) -> None:
    for action, (summary, description) in _ACTIONS.items():
        command = commands.add_parser(
            action, parents=[output, _filter()], help=summary, description=f"{description} {_ONE_OR_MANY}"
        )
        command.add_argument("id", nargs="?", type=UUID, metavar="ID", help="the id of the job")


def _add_steering(commands: Commands, output: argparse.ArgumentParser) -> None:
    for name, summary in _STEERING.items():
        command = commands.add_parser(name, parents=[output], help=summary, description=f"{summary.capitalize()}.")
        command.add_argument("queue", type=_name, metavar="QUEUE", help="the name of the queue")
        if name == "limit":
            command.add_argument("limit", type=_limit, metavar="N|none", help="jobs at once over all workers together")


def _filter() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    chosen = options.add_argument_group("filter")
    chosen.add_argument("--state", type=JobState, metavar="STATE", help=f"one of {', '.join(JobState)}")
    chosen.add_argument("--kind", type=_name, metavar="KIND", help="only this kind, as in email.welcome")
    chosen.add_argument("--queue", type=_name, metavar="QUEUE", help="only this queue")
    return options


def _count(text: str) -> int:
    if not 1 <= (number := int(text)) < INTEGER:
        raise argparse.ArgumentTypeError(f"must be between 1 and {INTEGER - 1}")
    return number


def _limit(text: str) -> int | None:
    return None if text == "none" else _count(text)


def _cursor(text: str) -> Cursor:
    return Cursor.parse(text)


def _name(text: str) -> str:
    try:
        require_name(text.strip(), "it")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_name(name.strip()) for name in text.split(",")))


_RUN = """Run jobs and cron until SIGTERM or SIGINT; wait APP_WORKER__GRACE for what runs, give the rest back. A
second signal ends it at once. It needs APP_DATABASE__URL and APP_REDIS__URL."""

_DRAIN = """Run what is due in these queues, one job after the other, until nothing is, and exit: for maintenance, or
while Valkey is away. What is scheduled for later stays. Workers may run meanwhile; no job runs twice."""

_ACTIONS = {
    "retry": ("run jobs again", "Run again a job that has ended, or at once one that waits for its next attempt."),
    "cancel": ("end jobs", "End a job: at once if it waits, and within a heartbeat if it runs."),
    "discard": ("give jobs up", "Give up a job that waits: it is kept among the discarded, and can be retried."),
}

_ONE_OR_MANY = (
    "Name one job, or choose all that a filter finds; a filter that chooses nothing in particular is refused."
)

_STEERING = {
    "pause": "start nothing more of a queue; what runs goes on",
    "resume": "end the pause of a queue",
    "limit": "limit how many jobs of a queue run at once, over all workers",
}
