"""The wake-up after a commit."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import timedelta

import asyncpg
import pytest
from sqlalchemy import URL, make_url, text

from app_db import Database
from app_db.jobs.catalog import PruneSessions
from app_db.jobs.outbox import enqueue
from app_db.jobs.wake import CHANNEL, Waker, notifications
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


async def test_a_wake_that_cannot_be_sent_is_dropped(refusing_url: str) -> None:
    waker = Waker(refusing_url, connect_timeout=TIMEOUT)

    waker.wake()

    await waker.close()


async def test_a_waker_that_was_never_used_closes(database_settings: DatabaseSettings) -> None:
    await Waker(database_settings.direct_dsn, connect_timeout=TIMEOUT).close()


async def test_a_relay_looks_once_before_the_first_notification(database: Database) -> None:
    async with aclosing(notifications(database.settings.direct_dsn, connect_timeout=TIMEOUT)) as woken:
        await anext(woken)


async def test_a_relay_is_woken_by_each_notification(database: Database, waker: Waker) -> None:
    async with aclosing(notifications(database.settings.direct_dsn, connect_timeout=TIMEOUT)) as woken:
        await anext(woken)
        for _ in range(2):
            waker.wake()

            await anext(woken)


async def test_a_relay_hears_that_its_connection_was_lost(database: Database, end_backend: EndBackend) -> None:
    async with aclosing(notifications(database.settings.direct_dsn, connect_timeout=TIMEOUT)) as woken:
        await anext(woken)
        await end_backend(await backend_that_said(database, "LISTEN%"))

        with pytest.raises(ConnectionResetError):
            await anext(woken)


async def test_a_relay_hears_that_there_is_no_server(refusing_url: str) -> None:
    with pytest.raises(OSError, match=r"refused|Connect"):
        await anext(notifications(refusing_url, connect_timeout=TIMEOUT))


async def test_a_relay_that_stops_leaves_no_connection(database: Database, until: Until) -> None:
    async with aclosing(notifications(database.settings.direct_dsn, connect_timeout=TIMEOUT)) as woken:
        await anext(woken)
        pid = await backend_that_said(database, "LISTEN%")

    async def is_gone() -> bool:
        left = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
        async with database.read_sessions() as session:
            return not await session.scalar(left, {"pid": pid})

    await until(is_gone)
