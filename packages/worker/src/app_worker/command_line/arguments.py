"""The command line for argparse: names, options and the texts of `--help`."""

import argparse
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from app_db.jobs.bounds import INTEGER, require_name
from app_db.jobs.limits import parse_rate
from app_db.models import JobState
from app_db.paging import Cursor
from app_worker.command_line.cron_arguments import Commands, add_crons

DESCRIPTION = "Runs background jobs and cron, and shows and controls the jobs in the ledger."
EPILOG = (
    "`COMMAND --help` explains a command. Only `run` needs Valkey. Exit codes: 0 done, 1 it failed, 2 bad usage, "
    "130 Ctrl-C."
)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the `command`, and one attribute for each of its arguments; `None` means `sys.argv`.

    Raises:
        SystemExit: 2 for bad usage, 0 after `--help`.
    """
    root = argparse.ArgumentParser(prog="python -m app_worker", description=DESCRIPTION, epilog=EPILOG)
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    output = argparse.ArgumentParser(add_help=False)
    output.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    _add_running(commands, output)
    _add_showing(commands, output)
    _add_acting(commands, output)
    _add_queue_control(commands, output)
    _add_limits(commands, output)
    _add_enqueueing(commands, output)
    _add_batches(commands, output)
    options = root.parse_args(arguments)
    if options.command in _ACTIONS and (complaint := _ambiguity(options)):
        commands.choices[options.command].error(complaint)
    return options


def _ambiguity(options: argparse.Namespace) -> str:
    is_filtered = any((options.state, options.kind, options.queue))
    if options.id is None and not is_filtered:
        return "name a job, or choose jobs with --state, --kind or --queue: this would act on every job"
    return "name a job or filter, not both" if options.id is not None and is_filtered else ""


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


def _add_showing(commands: Commands, output: argparse.ArgumentParser) -> None:
    listing = commands.add_parser(
        "list", parents=[output, _filter()], help="list jobs, newest first", description="List jobs, newest first."
    )
    listing.add_argument("--limit", type=_count, default=20, metavar="N", help="at most so many jobs (default: 20)")
    listing.add_argument("--after", type=_cursor, metavar="CURSOR", help="continue after the last page")
    show = commands.add_parser(
        "show", parents=[output], help="show one job with its attempts",
        description="Show one job: its payload, progress and result, and each attempt that failed, with its trace.",
    )  # fmt: skip
    show.add_argument("id", type=UUID, metavar="ID", help="the id of the job")
    reveal = commands.add_parser("reveal", parents=[output], help="decrypt what is encrypted", description=_REVEAL)
    reveal.add_argument("id", type=UUID, metavar="ID", help="the id of the job")
    commands.add_parser(
        "stats", parents=[output], help="show queues, workers and counts",
        description="Show how many jobs are in each state, all queues, and all live workers.",
    )  # fmt: skip


def _add_acting(commands: Commands, output: argparse.ArgumentParser) -> None:
    for action, (summary, description) in _ACTIONS.items():
        command = commands.add_parser(
            action, parents=[output, _filter()], help=summary, description=f"{description} {_ONE_OR_MANY}"
        )
        command.add_argument("id", nargs="?", type=UUID, metavar="ID", help="the id of the job")


def _add_queue_control(commands: Commands, output: argparse.ArgumentParser) -> None:
    for name, summary in _QUEUE_CONTROL.items():
        command = commands.add_parser(name, parents=[output], help=summary, description=f"{summary.capitalize()}.")
        command.add_argument("queue", type=_name, metavar="QUEUE", help="the name of the queue")
        command.add_argument("--new", action="store_true", help="allow a queue that has never been used")
        if name == "limit":
            command.add_argument("limit", type=_limit, metavar="N|none", help="jobs that run at once, over all workers")


def _add_limits(commands: Commands, output: argparse.ArgumentParser) -> None:
    limits = commands.add_parser("limits", help="show or set limits of kinds", description=_LIMITS)
    actions = limits.add_subparsers(dest="limit_command", required=True, metavar="COMMAND")
    for name, summary in _LIMIT_COMMANDS.items():
        command = actions.add_parser(name, parents=[output], help=summary, description=f"{summary.capitalize()}.")
        if name != "list":
            command.add_argument("kind", type=_name, metavar="KIND", help="as in vets.call")
        if name == "set":
            command.add_argument(
                "--running", type=_limit, default=argparse.SUPPRESS, metavar="N|none", help="of a key, at once"
            )
            command.add_argument(
                "--rate", type=_rate, default=argparse.SUPPRESS, metavar="N/UNIT|none", help="as in 100/m"
            )


def _add_enqueueing(commands: Commands, output: argparse.ArgumentParser) -> None:
    command = commands.add_parser("enqueue", parents=[output], help="enqueue one job", description=_ENQUEUE)
    command.add_argument("kind", type=_name, metavar="KIND", help="as in sessions.prune")
    command.add_argument("payload", nargs="?", default="{}", metavar="JSON", help="the fields of its payload")
    command.add_argument("--queue", type=_name, default="default", metavar="QUEUE", help="(default: default)")
    command.add_argument("--priority", type=int, default=2, metavar="N", help="the lowest runs first (default: 2)")
    command.add_argument("--run-at", type=_moment, metavar="TIME", help="not before, as in 2026-12-24T18:00+01:00")
    command.add_argument("--max-attempts", type=_count, metavar="N", help="replaces the limit of its handler")
    rerun = commands.add_parser("rerun", parents=[output], help="enqueue a job like another one", description=_RERUN)
    rerun.add_argument("id", type=UUID, metavar="ID", help="the id of the first job")
    rerun.add_argument("--payload", metavar="JSON", help="other fields than those of the first job")
    add_crons(commands, output)


def _add_batches(commands: Commands, output: argparse.ArgumentParser) -> None:
    about = "list batches and chains, or act on one"
    batches = commands.add_parser("batches", help=about, description=f"{about.capitalize()}.")
    actions = batches.add_subparsers(dest="batch_command", required=True, metavar="COMMAND")
    listing = "list them, newest first"
    pages = argparse.ArgumentParser(add_help=False)
    pages.add_argument("--limit", type=_count, default=20, metavar="N", help="at most so many (default: 20)")
    pages.add_argument("--after", type=_cursor, metavar="CURSOR", help="continue after the last page")
    actions.add_parser("list", parents=[output, pages], help=listing, description=f"{listing.capitalize()}.")
    for name, summary in _BATCHES.items():
        parents = [output, pages] if name == "jobs" else [output]
        command = actions.add_parser(name, parents=parents, help=summary, description=f"{summary.capitalize()}.")
        command.add_argument("id", type=UUID, metavar="BATCH", help="the id of the batch or chain")
        if name == "jobs":
            command.add_argument("--state", type=_state, metavar="STATE", help=f"one of {', '.join(JobState)}")


def _filter() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    chosen = options.add_argument_group("filter")
    chosen.add_argument("--state", type=_state, metavar="STATE", help=f"one of {', '.join(JobState)}")
    chosen.add_argument("--kind", type=_name, metavar="KIND", help="only this kind, as in email.welcome")
    chosen.add_argument("--queue", type=_name, metavar="QUEUE", help="only this queue")
    return options


def _state(text: str) -> JobState:
    try:
        return JobState(text)
    except ValueError:
        meant = "; a job that failed for good is discarded" if text in {"dead", "failed"} else ""
        raise argparse.ArgumentTypeError(
            f"there is no state {text!r}: choose from {', '.join(JobState)}{meant}"
        ) from None


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time, as in 2026-12-24T18:00+01:00") from None
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no time zone, as in 2026-12-24T18:00+01:00")
    return moment


def _count(text: str) -> int:
    if not 1 <= (number := int(text)) < INTEGER:
        raise argparse.ArgumentTypeError(f"must be between 1 and {INTEGER - 1}")
    return number


def _limit(text: str) -> int | None:
    return None if text == "none" else _count(text)


def _rate(text: str) -> str | None:
    if text == "none":
        return None
    try:
        parse_rate(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


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


_RUN = """Run jobs and cron until SIGTERM or SIGINT; then wait APP_WORKER__GRACE for running jobs, and give the others
back. A second signal ends the process at once. It needs APP_DATABASE__URL and APP_REDIS__URL."""

_DRAIN = """Run the due jobs of these queues, one after the other, until none is due, and exit: for maintenance, or
while Valkey is away. Jobs that are scheduled for later stay. Workers may run meanwhile; no job runs twice."""

_ENQUEUE = (
    """Enqueue one job. The kind and the fields are those of its payload class, in app_db/features/*/payloads.py."""
)

_REVEAL = """Print what a job keeps encrypted: its payload, result, steps and cursor. It needs APP_JOBS__KEYS, and the
audit has a row."""

_RERUN = """Enqueue a new job of the same kind, with the same payload or another one, and with the same queue, priority,
limit of attempts and account. The first job stays as it is; `show` names the other job on each."""

_LIMITS = """Show the limits that payload classes declare, or set others: they hold at once, for jobs that wait too."""

_LIMIT_COMMANDS = {
    "list": "list the limits of kinds as they hold now",
    "set": "set the limit of a kind; what is not named stays",
    "reset": "let the limit in the code hold again",
}

_ACTIONS = {
    "retry": ("run jobs again", "Run a job again that has ended, or run a job now that waits for its next attempt."),
    "cancel": ("cancel jobs", "Cancel a job: at once if it waits, and within a heartbeat if it runs."),
    "discard": ("discard jobs", "Discard a job that waits: it is kept as discarded, and can be retried."),
    "delete": ("delete jobs", "Delete a job that has ended, with its errors, before retention does."),
}

_BATCHES = {
    "show": "show how far one is",
    "jobs": "list the jobs of one, newest first",
    "cancel": "cancel what of one has not ended",
    "retry": "retry the jobs of one that failed or were cancelled",
}

_ONE_OR_MANY = "Name one job, or choose all jobs that a filter finds; an empty filter is refused."

_QUEUE_CONTROL = {
    "pause": "start no more jobs of a queue; running jobs continue",
    "resume": "end the pause of a queue",
    "limit": "limit how many jobs of a queue run at once, over all workers",
}
