"""Which process leads a queue."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import make_url, text

from app_db import Database
from app_db.jobs.leadership import Leadership
from app_db.jobs.notifier import CONNECTION_LOST, Notifier
from app_runtime.testing.network import Network

from .conftest import EndBackend, Until

TIMEOUT = timedelta(seconds=5)


class Leader:
    """Tries to lead queues as a worker process does; `notified` counts notifications."""

    def __init__(self, dsn: str, *queues: str, **options: timedelta) -> None:
        self.notified = 0
        options = {"connect_timeout": TIMEOUT, **options}
        self._leadership = Leadership(dsn, queues, on_notification=self.notify, **options)
        self.leads = self._leadership.leads
        self.again()

    def again(self) -> None:
        self.task = asyncio.create_task(self._leadership.run())

    def notify(self) -> None:
        self.notified += 1

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


@pytest.fixture
async def lead(database: Database) -> AsyncIterator[Callable[..., Leader]]:
    """Return a function that starts a leader, which tries to lead queues until the end of the test."""
    leaders: list[Leader] = []

    def start(*queues: str, dsn: str = database.settings.direct_dsn, **limits: timedelta) -> Leader:
        leaders.append(Leader(dsn, *queues, **limits))
        return leaders[-1]

    yield start
    for leader in leaders:
        await leader.stop()


type Lead = Callable[..., Leader]

PIDS = text(
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'worker-leader'"
)


def now(condition: Callable[[], object]) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return bool(condition())

    return look


async def test_a_process_leads_all_queues_that_nobody_else_leads(lead: Lead, until: Until) -> None:
    leader = lead("default", "mail")

    await until(now(lambda: leader.leads("default") and leader.leads("mail")))

    assert not leader.leads("other")


async def test_a_queue_has_one_leader(lead: Lead, until: Until) -> None:
    first = lead("default")
    await until(now(lambda: first.leads("default")))
    second = lead("default", "mail")

    await until(now(lambda: second.leads("mail")))

    assert not second.leads("default")


async def test_another_process_takes_over_when_the_leader_stops(lead: Lead, until: Until) -> None:
    first = lead("default")
    await until(now(lambda: first.leads("default")))
    second = lead("default")

    await first.stop()

    await until(now(lambda: second.leads("default")))


async def test_who_lost_the_connection_leads_nothing(
    database: Database, lead: Lead, until: Until, end_backend: EndBackend
) -> None:
    leader = lead("default")
    await until(now(lambda: leader.leads("default")))

    await end_backend(await one_leader(database))
    await asyncio.wait([leader.task])

    assert isinstance(leader.task.exception(), CONNECTION_LOST)
    assert not leader.leads("default")


async def test_a_leader_hears_each_notification(lead: Lead, notifier: Notifier, until: Until) -> None:
    leader = lead("default")
    await until(now(lambda: leader.leads("default")))
    for _ in range(2):
        leader.notified = 0
        notifier.notify()

        await until(now(lambda: leader.notified))


async def test_a_process_that_does_not_lead_hears_them_as_well(lead: Lead, notifier: Notifier, until: Until) -> None:
    first = lead("default")
    await until(now(lambda: first.leads("default")))
    second = lead("default")
    await until(now(lambda: second.notified == 1))  # when it began to listen

    notifier.notify()

    await until(now(lambda: second.notified == 2))


async def test_a_new_leader_is_notified_in_case_it_missed_something(lead: Lead, until: Until) -> None:
    first = lead("default")
    await until(now(lambda: first.leads("default")))
    second = lead("default")
    await until(now(lambda: second.notified == 1))

    await first.stop()

    await until(now(lambda: second.notified == 2))


async def test_the_server_hangs_up_on_a_leader_that_says_nothing(lead: Lead, until: Until) -> None:
    leader = lead("default", patience=timedelta(milliseconds=50))

    await until(now(leader.task.done))

    assert isinstance(leader.task.exception(), CONNECTION_LOST)


async def test_a_frozen_server_ends_leadership(database: Database, lead: Lead, until: Until) -> None:
    leader = lead("default", connect_timeout=timedelta(milliseconds=500))
    await until(now(lambda: leader.leads("default")))
    pid = await one_leader(database)

    os.kill(pid, signal.SIGSTOP)
    try:
        await until(now(leader.task.done))
    finally:
        os.kill(pid, signal.SIGCONT)

    assert isinstance(leader.task.exception(), CONNECTION_LOST)
    assert not leader.leads("default")


async def test_who_lost_a_silent_connection_leads_again_at_once(database: Database, lead: Lead, until: Until) -> None:
    """The server keeps the locks of the old session until it hangs up, so nobody would lead meanwhile."""
    url = make_url(database.settings.direct_dsn)
    async with Network(url.host or "", url.port or 5432).open() as network:
        dsn = url.set(host="127.0.0.1", port=network.port).render_as_string(hide_password=False)
        limits = {"connect_timeout": timedelta(seconds=2), "patience": timedelta(hours=1)}
        leader = lead("default", dsn=dsn, **limits)
        await until(now(lambda: leader.leads("default")))

        network.forget()
        await asyncio.wait([leader.task])
        assert not leader.leads("default")
        leader.again()

        await until(now(lambda: leader.leads("default")))
        await leader.stop()


async def test_a_session_with_the_number_of_the_last_one_is_not_ended(
    database: Database, lead: Lead, until: Until
) -> None:
    """After a fail-over the old pid is another session's, on the new primary."""
    async with database.sessions() as session:
        pid = (await session.scalars(text("SELECT pg_backend_pid()"))).one()
        leader = lead("default")
        leader._leadership._last_session = {"pid": pid, "backend_start": datetime(2026, 1, 1, tzinfo=UTC)}

        await until(now(lambda: leader.leads("default")))

        assert (await session.scalars(text("SELECT pg_backend_pid()"))).one() == pid


async def test_a_process_that_cannot_reach_the_server_hears_so(refusing_url: str) -> None:
    with pytest.raises(OSError, match=r"refused|Connect"):
        await Leader(refusing_url, "default").task


async def test_a_leader_that_stops_leaves_no_connection(database: Database, lead: Lead, until: Until) -> None:
    leader = lead("default")
    await until(now(lambda: leader.leads("default")))

    await leader.stop()

    async def is_gone() -> bool:
        async with database.read_sessions() as session:
            return (await session.scalars(PIDS)).one_or_none() is None

    await until(is_gone)


async def one_leader(database: Database) -> int:
    async with database.read_sessions() as session:
        return int((await session.scalars(PIDS)).one())
