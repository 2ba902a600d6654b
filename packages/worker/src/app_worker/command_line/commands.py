"""The commands besides `run`: they show the ledger, act on jobs and queues, and drain."""

import asyncio
import os
import signal
import socket
from argparse import Namespace
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final
from uuid import UUID

from app_auth.audit import SHELL, Event, audit
from app_auth.client import NOBODY
from app_auth.payload_keys import require_payload_keys
from app_db import Database, Session, open_database
from app_db.errors import NotFound
from app_db.jobs import control, deletion
from app_db.jobs.control import Action
from app_db.jobs.encryption import shown, shown_steps
from app_db.jobs.filters import JobFilter
from app_db.jobs.reruns import links_of
from app_db.jobs.workers import WorkerRow
from app_db.models import JobState
from app_db.repositories.jobs import JobRepository
from app_db.types import new_id
from app_runtime.resources import open_resources
from app_worker import draining
from app_worker.command_line.batch_commands import look_at_or_act_on_batches
from app_worker.command_line.cron_commands import steer_crons
from app_worker.command_line.enqueue_commands import enqueue_one, rerun
from app_worker.command_line.known_names import JobNotFound, require_names, require_queue
from app_worker.command_line.limit_commands import show_or_set_limits
from app_worker.command_line.output import Acted, Drained, JobDetail, JobList, Output, Queues, Stats
from app_worker.command_line.revealing import reveal
from app_worker.handlers import HANDLERS
from app_worker.health import WorkerHealth
from app_worker.heartbeat import Heartbeat
from app_worker.mail import open_mails
from app_worker.metrics import Metrics
from app_worker.process import STOP_SIGNALS, VERSION, database_settings, registry_of
from app_worker.registry import Registry
from app_worker.resources import RESOURCES, supplied
from app_worker.runner import Runner
from app_worker.settings import CommandSettings, JobSettings
from app_worker.threads import use_threads

BATCH = 1000
"""How many jobs one transaction acts on."""


class Interrupted(Exception):
    """The user pressed Ctrl-C, and the running job was given back."""


async def execute(settings: CommandSettings, options: Namespace) -> Output:
    """Run the command of the parsed command line.

    Raises:
        AppError: with a reason for people, for example that the database is away.
    """
    if options.command == "drain":
        return await drain(settings)
    async with open_database(settings.database, name="command", keys=settings.jobs.payload_keys) as database:
        return await _COMMANDS[options.command](database, options)


async def drain(settings: CommandSettings) -> Drained:
    """Run the due jobs of the configured queues until none is due, as a worker with one slot.

    SIGTERM and SIGINT give the running job back and end the drain.

    Raises:
        asyncio.CancelledError: after SIGTERM.
        Interrupted: after SIGINT.
        DatabaseUnavailable: when Postgres is away.
    """
    registry = registry_of(HANDLERS, RESOURCES)
    keys = require_payload_keys(settings.jobs, registry.payload_classes)
    mails, health = open_mails(settings), WorkerHealth(running=1)
    queues = settings.worker.queues
    async with (
        open_database(database_settings(settings, registry), name="drain", keys=keys) as database,
        open_resources(RESOURCES, settings) as resources,
        health.loop.watched(),
    ):
        registry = Registry(supplied(registry.by_kind.values(), resources), catalog=())
        use_threads(registry.by_kind)
        metrics = Metrics(kinds=registry.by_kind, queues=queues)
        runner = Runner(database, registry, mails, new_id(), settings.worker.running_lease, metrics)
        worker = WorkerRow(runner.worker_id, socket.gethostname(), os.getpid(), queues, concurrency=1, version=VERSION)
        heartbeat = Heartbeat(database, runner, worker, settings.worker, health)
        with _cancelled_by_signals():
            return Drained(states=await _drain(runner, heartbeat, settings.worker))


async def _drain(runner: Runner, heartbeat: Heartbeat, settings: JobSettings) -> Counter[JobState]:
    beating = asyncio.create_task(heartbeat.run())
    try:
        return await draining.drain(runner, queues=settings.queues, lease=settings.lease)
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        await heartbeat.sign_off()


@contextmanager
def _cancelled_by_signals() -> Iterator[None]:
    """Let the first SIGTERM or SIGINT cancel the current task; the next one ends the process."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None, "commands run in tasks"
    received: list[signal.Signals] = []

    def end(number: signal.Signals) -> None:
        received.append(number)
        task.cancel()  # guard: test_a_drain_that_is_stopped_gives_its_job_back
        remove()

    def remove() -> None:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, end, number)
    try:
        yield
    except asyncio.CancelledError:
        if received == [signal.SIGINT]:
            raise Interrupted from None
        raise
    finally:
        remove()


async def _list(database: Database, options: Namespace) -> Output:
    async with database.unit_of_work(read_only=True) as session:
        page = await JobRepository(session).matching(_filter(options), after=options.after, limit=options.limit)
        if not page.items:
            await require_names(session, kind=options.kind, queue=options.queue)
        return JobList.model_validate(page)


async def _show(database: Database, options: Namespace) -> Output:
    async with database.unit_of_work(read_only=True) as session:
        jobs = JobRepository(session)
        job = await jobs.get(options.id)
        if job is None:
            raise JobNotFound
        columns = {name: getattr(job, name) for name in JobDetail.model_fields if hasattr(job, name)}
        cancel_requested, errors = await jobs.is_asked_to_end(job.id), await jobs.errors_of(job.id)
        columns |= {name: shown(getattr(job, name)) for name in ("payload", "result", "cursor")}
        columns["steps"] = shown_steps(job.steps)
        links = await links_of(session, job)
        columns["origin_deleted"] = job.origin_id is not None and links.origin is None
        columns["reruns"] = [made.id for made in links.reruns]
        if job.max_attempts is None:
            columns["max_attempts"] = _MAX_ATTEMPTS.get(job.kind)
        return JobDetail.model_validate({**columns, "cancel_requested": cancel_requested, "errors": errors})


async def _stats(database: Database, options: Namespace) -> Output:
    async with database.unit_of_work(read_only=True) as session:
        jobs = JobRepository(session)
        stats = await jobs.stats()
        return Stats(
            queues=await jobs.queues(), workers=await jobs.workers(), jobs=[*stats.jobs], finished=[*stats.finished]
        )


async def _act(database: Database, options: Namespace) -> Output:
    action = Action(options.command)
    if options.id is not None:
        async with database.unit_of_work() as session:
            try:
                await _ACT_ON_ONE[action](session, options.id)
            except NotFound:
                raise JobNotFound from None
        return Acted(action=action, count=1)
    total, count = 0, BATCH
    while count == BATCH:  # not until 0, because a job that was retried may fail and match again
        async with database.unit_of_work() as session:
            count = await control.act_on_all(session, _filter(options), action, limit=BATCH)
        total += count
    if total == 0:
        async with database.unit_of_work(read_only=True) as session:
            await require_names(session, kind=options.kind, queue=options.queue)
    return Acted(action=action, count=total)


async def _control_queue(database: Database, options: Namespace) -> Output:
    async with database.unit_of_work() as session:
        if not options.new:
            await require_queue(session, options.queue)  # guard: test_a_queue_that_nobody_uses_is_not_made_by_a_slip
        match options.command:
            case "pause":
                event = Event.QUEUE_PAUSED
                await control.pause(session, options.queue, by=SHELL)
            case "resume":
                event = Event.QUEUE_RESUMED
                await control.resume(session, options.queue)
            case _:
                event = Event.QUEUE_LIMITED
                await control.limit(session, options.queue, options.limit)
        limit = options.limit if event is Event.QUEUE_LIMITED else None
        audit(
            session, event, client=NOBODY, by=SHELL, queue=options.queue, max_running=limit
        )  # guard: test_what_commands_do_to_queues_is_audited
        return Queues(queues=[queue for queue in await JobRepository(session).queues() if queue.name == options.queue])


def _filter(options: Namespace) -> JobFilter:
    return JobFilter(state=options.state, kind=options.kind, queue=options.queue)


_MAX_ATTEMPTS: Final = {handler.payload_class.kind: handler.max_attempts for handler in HANDLERS}
"""The limits of the handlers, for jobs that were enqueued without a limit."""

_ACT_ON_ONE: Final[Mapping[Action, Callable[[Session, UUID], Awaitable[object]]]] = {
    Action.RETRY: control.retry,
    Action.CANCEL: control.cancel,
    Action.DISCARD: control.discard,
    Action.DELETE: deletion.delete_job,
}

_COMMANDS: Final[Mapping[str, Callable[[Database, Namespace], Awaitable[Output]]]] = {
    "list": _list,
    "show": _show,
    "stats": _stats,
    **dict.fromkeys(Action, _act),
    **dict.fromkeys(("pause", "resume", "limit"), _control_queue),
    "enqueue": enqueue_one,
    "rerun": rerun,
    "reveal": reveal,
    "crons": steer_crons,
    "batches": look_at_or_act_on_batches,
    "limits": show_or_set_limits,
}
