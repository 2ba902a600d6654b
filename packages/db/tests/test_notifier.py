"""The notification after a commit, and who leads a queue."""

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
from app_db.features.retention.payloads import PruneSessions
from app_db.jobs.leadership import Leadership
from app_db.jobs.notifier import CHANNEL, CONNECTION_LOST, Notifier
from app_db.jobs.outbox import enqueue
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
        self._heard.put_nowait(str(payload) or "notified")

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
async def notifier(database: Database) -> AsyncIterator[Notifier]:
    notifier = Notifier(database.settings.direct_dsn, connect_timeout=TIMEOUT)
    yield notifier
    await notifier.close()


async def backend_that_said(database: Database, statement: str) -> int:
    asked = text(
        "SELECT pid FROM pg_stat_activity"
        " WHERE datname = current_database() AND query LIKE :statement AND pid <> pg_backend_pid()"
        " ORDER BY backend_start DESC LIMIT 1"
    )
    async with database.read_sessions() as session:
        return int((await session.scalars(asked, {"statement": statement})).one())


async def test_a_commit_with_jobs_notifies_the_relays(open_with: OpenWith, listener: Listener) -> None:
    async with open_with() as second:
        async with second.unit_of_work() as session:
            await enqueue(session, PruneSessions())

        await second.notifier.close()  # sends what is due

    assert await listener.until_now() == ["notified"]


async def test_a_notification_that_is_due_is_sent_before_the_database_closes(
    open_with: OpenWith, listener: Listener
) -> None:
    async with open_with() as second, second.unit_of_work() as session:
        await enqueue(session, PruneSessions())

    assert await listener.until_now() == ["notified"]


async def test_nobody_is_notified_before_the_commit(open_with: OpenWith, listener: Listener) -> None:
    async with open_with() as second, second.unit_of_work() as session:
        await enqueue(session, PruneSessions())

        await second.notifier.close()

        assert await listener.until_now() == []


async def test_nobody_is_notified_by_a_rollback(open_with: OpenWith, listener: Listener) -> None:
    async with open_with() as second:
        async with second.sessions() as session:
            await enqueue(session, PruneSessions())

        await second.notifier.close()

    assert await listener.until_now() == []


async def test_nobody_is_notified_by_a_commit_without_jobs(open_with: OpenWith, listener: Listener) -> None:
    async with open_with() as second:
        async with second.unit_of_work() as session:
            session.add(JobQueue(name="mail"))

        await second.notifier.close()

    assert await listener.until_now() == []


async def test_the_next_commit_of_a_session_notifies_nobody_again(open_with: OpenWith, listener: Listener) -> None:
    async with open_with() as second, second.sessions() as session:
        await enqueue(session, PruneSessions())
        await session.commit()
        await second.notifier.close()
        session.add(JobQueue(name="mail"))
        await session.commit()

        await second.notifier.close()

        assert await listener.until_now() == ["notified"]


async def test_many_notifications_at_once_are_one(notifier: Notifier, listener: Listener) -> None:
    for _ in range(100):
        notifier.notify()

    await notifier.close()

    assert await listener.until_now() == ["notified"]


async def test_a_later_notification_is_another_one(notifier: Notifier, listener: Listener, until: Until) -> None:
    heard = []

    async def notified() -> bool:
        heard.extend(await listener.until_now())
        return bool(heard)

    notifier.notify()
    await until(notified)
    notifier.notify()
    await notifier.close()

    assert heard + await listener.until_now() == ["notified", "notified"]


async def test_a_notification_while_another_is_being_sent_is_sent_too(database: Database, listener: Listener) -> None:
    link = SlowLink(make_url(database.settings.direct_dsn))
    async with asyncio.timeout(10), await asyncio.start_server(link.relay, "127.0.0.1", 0) as server:
        notifier = Notifier(link.dsn(server), connect_timeout=TIMEOUT)
        notifier.notify()
        await link.asked.wait()

        notifier.notify()

        link.may_answer.set()
        await notifier.close()
    assert await listener.until_now() == ["notified", "notified"]


async def test_a_notifier_that_lost_its_connection_connects_again(
    database: Database, notifier: Notifier, listener: Listener, end_backend: EndBackend, until: Until
) -> None:
    async def notified() -> bool:
        notifier.notify()
        return await listener.until_now() != []

    await until(notified)
    await end_backend(await backend_that_said(database, f"NOTIFY {CHANNEL}"))
    await listener.until_now()

    await until(notified)


async def test_a_notifier_leaves_a_server_that_takes_no_notify(
    database: Database, listener: Listener, until: Until
) -> None:
    link = SlowLink(make_url(database.settings.direct_dsn))
    async with await asyncio.start_server(link.relay, "127.0.0.1", 0) as server:
        notifier = Notifier(link.dsn(server), connect_timeout=timedelta(milliseconds=100))
        notifier.notify()
        await notifier.close()
        link.asked.clear()

        notifier.notify()

        await asyncio.wait_for(link.asked.wait(), TIMEOUT.total_seconds())
        await notifier.close()
        link.may_answer.set()


async def test_a_notification_that_cannot_be_sent_is_dropped(refusing_url: str) -> None:
    notifier = Notifier(refusing_url, connect_timeout=TIMEOUT)

    notifier.notify()

    await notifier.close()


async def test_a_notifier_that_was_never_used_closes(database_settings: DatabaseSettings) -> None:
    await Notifier(database_settings.direct_dsn, connect_timeout=TIMEOUT).close()


# --- leadership ----------------------------------------------------------------------------------------------------


class Leader:
    """What a worker process does for its queues; `notified` counts."""

    def __init__(self, dsn: str, *queues: str, **options: timedelta) -> None:
        self.notified = 0
        options = {"connect_timeout": TIMEOUT, **options}
        self._leadership = Leadership(dsn, queues, on_notification=self.notify, **options)
        self.leads = self._leadership.leads
        self.task = asyncio.create_task(self._leadership.run())

    def notify(self) -> None:
        self.notified += 1

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


async def test_the_server_hangs_up_on_a_leader_that_says_nothing(database: Database, until: Until) -> None:
    leader = Leader(database.settings.direct_dsn, "default", patience=timedelta(milliseconds=50))

    await until(now(leader.task.done))

    assert isinstance(leader.task.exception(), CONNECTION_LOST)


async def test_a_frozen_server_ends_leadership(database: Database, until: Until) -> None:
    leader = Leader(database.settings.direct_dsn, "default", connect_timeout=timedelta(milliseconds=500))
    await until(now(lambda: leader.leads("default")))
    pid = await one_leader(database)

    os.kill(pid, signal.SIGSTOP)
    try:
        await until(now(leader.task.done))
    finally:
        os.kill(pid, signal.SIGCONT)

    assert isinstance(leader.task.exception(), CONNECTION_LOST)
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
