"""The wake-up after a commit."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import asyncpg
import pytest
from sqlalchemy import URL, make_url, text

from app_db import Database
from app_db.jobs.catalog import PruneSessions
from app_db.jobs.outbox import enqueue
from app_db.jobs.wake import CHANNEL, LOST, Leadership, Waker
from app_db.models import JobQueue
from app_db.settings import DatabaseSettings

type OpenWith = Callable[..., AbstractAsyncContextManager[Database]]
type EndBackend = Callable[[int], Awaitable[None]]
type Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]

TIMEOUT = timedelta(seconds=5)


class Listener:
    """Hears what is said on the channel."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self.connection = connection
        self._heard: asyncio.Queue[str] = asyncio.Queue()

    def hear(self, connection: object, pid: int, channel: str, payload: object) -> None:
        self._heard.put_nowait(str(payload) or "wake")

    async def until_now(self) -> list[str]:
        """Return what was sent before this moment, in its order."""
        await self.connection.execute(f"NOTIFY {CHANNEL}, 'now'")
        heard = []
        while (word := await self._heard.get()) != "now":
            heard.append(word)
        return heard


class SlowLink:
    """A way to Postgres that holds the answer to NOTIFY back."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()

    def dsn(self, server: asyncio.Server) -> str:
        port = server.sockets[0].getsockname()[1]
        return self.url.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_postgres, to_postgres = await asyncio.open_connection(self.url.host, self.url.port)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.forward(reader, to_postgres))
            tasks.create_task(self.forward(from_postgres, writer))

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while message := await reader.read(65536):
            if self.asked.is_set():
                await self.may_answer.wait()
            writer.write(message)
            if b"NOTIFY" in message:
                self.asked.set()
        writer.close()


@pytest.fixture
async def listener(database: Database) -> AsyncIterator[Listener]:
    connection = await asyncpg.connect(database.settings.direct_dsn)
    listener = Listener(connection)
    await connection.add_listener(CHANNEL, listener.hear)
    yield listener
    await connection.close()


@pytest.fixture
async def waker(database: Database) -> AsyncIterator[Waker]:
    waker = Waker(database.settings.direct_dsn, connect_timeout=TIMEOUT)
    yield waker
    await waker.close()


async def backend_that_said(database: Database, statement: str) -> int:
    asked = text(
        "SELECT pid FROM pg_stat_activity"
        " WHERE datname = current_database() AND query LIKE :statement AND pid <> pg_backend_pid()"
        " ORDER BY backend_start DESC LIMIT 1"
    )
    async with database.read_sessions() as session:
        return int((await session.scalars(asked, {"statement": statement})).one())


async def test_a_commit_with_jobs_wakes_the_relays(open_with: OpenWith, listener: Listener) -> None:
    async with open_with() as second:
        async with second.unit_of_work() as session:
            await enqueue(session, PruneSessions())

        await second.waker.close()  # sends what is due

    assert await listener.until_now() == ["wake"]


async def test_a_wake_that_is_due_is_sent_before_the_database_closes(open_with: OpenWith, listener: Listener) -> None:
    async with open_with() as second, second.unit_of_work() as session:
        await enqueue(session, PruneSessions())

    assert await listener.until_now() == ["wake"]


async def test_nobody_is_woken_before_the_commit(open_with: OpenWith, listener: Listener) -> None:
    async with open_with() as second, second.unit_of_work() as session:
        await enqueue(session, PruneSessions())

        await second.waker.close()

        assert await listener.until_now() == []


async def test_nobody_is_woken_by_a_rollback(open_with: OpenWith, listener: Listener) -> None:
    async with open_with() as second:
        async with second.sessions() as session:
            await enqueue(session, PruneSessions())

        await second.waker.close()

    assert await listener.until_now() == []


async def test_nobody_is_woken_by_a_commit_without_jobs(open_with: OpenWith, listener: Listener) -> None:
    async with open_with() as second:
        async with second.unit_of_work() as session:
            session.add(JobQueue(name="mail"))

        await second.waker.close()

    assert await listener.until_now() == []


async def test_the_next_commit_of_a_session_wakes_nobody_again(open_with: OpenWith, listener: Listener) -> None:
    async with open_with() as second, second.sessions() as session:
        await enqueue(session, PruneSessions())
        await session.commit()
        await second.waker.close()
        session.add(JobQueue(name="mail"))
        await session.commit()

        await second.waker.close()

        assert await listener.until_now() == ["wake"]


async def test_many_wakes_at_once_are_one(waker: Waker, listener: Listener) -> None:
    for _ in range(100):
        waker.wake()

    await waker.close()

    assert await listener.until_now() == ["wake"]


async def test_a_later_wake_is_another_one(waker: Waker, listener: Listener, until: Until) -> None:
    heard = []

    async def woken() -> bool:
        heard.extend(await listener.until_now())
        return bool(heard)

    waker.wake()
    await until(woken)
    waker.wake()
    await waker.close()

    assert heard + await listener.until_now() == ["wake", "wake"]


async def test_a_wake_while_another_is_being_sent_is_sent_too(database: Database, listener: Listener) -> None:
    link = SlowLink(make_url(database.settings.direct_dsn))
    async with asyncio.timeout(10), await asyncio.start_server(link.relay, "127.0.0.1", 0) as server:
        waker = Waker(link.dsn(server), connect_timeout=TIMEOUT)
        waker.wake()
        await link.asked.wait()

        waker.wake()

        link.may_answer.set()
        await waker.close()
    assert await listener.until_now() == ["wake", "wake"]


async def test_a_waker_that_lost_its_connection_connects_again(
    database: Database, waker: Waker, listener: Listener, end_backend: EndBackend, until: Until
) -> None:
    async def woken() -> bool:
        waker.wake()
        return await listener.until_now() != []

    await until(woken)
    await end_backend(await backend_that_said(database, f"NOTIFY {CHANNEL}"))
    await listener.until_now()

    await until(woken)


async def test_a_waker_leaves_a_server_that_takes_no_notify(
    database: Database, listener: Listener, until: Until
) -> None:
    link = SlowLink(make_url(database.settings.direct_dsn))
    async with await asyncio.start_server(link.relay, "127.0.0.1", 0) as server:
        waker = Waker(link.dsn(server), connect_timeout=timedelta(milliseconds=100))
        waker.wake()
        await waker.close()
        link.asked.clear()

        waker.wake()

        await asyncio.wait_for(link.asked.wait(), TIMEOUT.total_seconds())
        await waker.close()
        link.may_answer.set()


async def test_a_wake_that_cannot_be_sent_is_dropped(refusing_url: str) -> None:
    waker = Waker(refusing_url, connect_timeout=TIMEOUT)

    waker.wake()

    await waker.close()


async def test_a_waker_that_was_never_used_closes(database_settings: DatabaseSettings) -> None:
    await Waker(database_settings.direct_dsn, connect_timeout=TIMEOUT).close()


# --- leadership ----------------------------------------------------------------------------------------------------


class Leader:
    """What a worker process does for its queues; `woken` counts."""

    def __init__(self, dsn: str, *queues: str, **options: timedelta) -> None:
        self.woken = 0
        options = {"connect_timeout": TIMEOUT, **options}
        self._leadership = Leadership(dsn, queues, woken=self.wake, **options)
        self.leads = self._leadership.leads
        self.task = asyncio.create_task(self._leadership.run())

    def wake(self) -> None:
        self.woken += 1

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


@pytest.fixture
async def lead(database: Database) -> AsyncIterator[Callable[..., Leader]]:
    """Let a process try to lead queues until the end of the test."""
    leaders: list[Leader] = []

    def start(*queues: str) -> Leader:
        leaders.append(Leader(database.settings.direct_dsn, *queues))
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

    assert isinstance(leader.task.exception(), LOST)
    assert not leader.leads("default")


async def test_a_leader_is_woken_by_each_notification(lead: Lead, waker: Waker, until: Until) -> None:
    leader = lead("default")
    await until(now(lambda: leader.leads("default")))
    for _ in range(2):
        leader.woken = 0
        waker.wake()

        await until(now(lambda: leader.woken))


async def test_a_process_that_does_not_lead_is_woken_as_well(lead: Lead, waker: Waker, until: Until) -> None:
    first = lead("default")
    await until(now(lambda: first.leads("default")))
    second = lead("default")
    await until(now(lambda: second.woken == 1))  # when it began to listen

    waker.wake()

    await until(now(lambda: second.woken == 2))


async def test_a_new_leader_is_woken_for_what_was_missed(lead: Lead, until: Until) -> None:
    first = lead("default")
    await until(now(lambda: first.leads("default")))
    second = lead("default")
    await until(now(lambda: second.woken == 1))

    await first.stop()

    await until(now(lambda: second.woken == 2))


async def test_the_server_hangs_up_on_a_leader_that_says_nothing(database: Database, until: Until) -> None:
    leader = Leader(database.settings.direct_dsn, "default", patience=timedelta(milliseconds=50))

    await until(now(leader.task.done))

    assert isinstance(leader.task.exception(), LOST)


async def test_a_frozen_server_ends_leadership(database: Database, until: Until) -> None:
    leader = Leader(database.settings.direct_dsn, "default", connect_timeout=timedelta(milliseconds=500))
    await until(now(lambda: leader.leads("default")))
    pid = await one_leader(database)

    os.kill(pid, signal.SIGSTOP)
    try:
        await until(now(leader.task.done))
    finally:
        os.kill(pid, signal.SIGCONT)

    assert isinstance(leader.task.exception(), LOST)
    assert not leader.leads("default")


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
