"""The notification after a commit."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest
from sqlalchemy import URL, make_url, text

from app_db import Database
from app_db.features.retention.payloads import PruneSessions
from app_db.jobs.notifier import CHANNEL, Notifier
from app_db.jobs.outbox import enqueue
from app_db.models import JobQueue
from app_db.settings import DatabaseSettings

from .conftest import EndBackend, OpenWith, Until

TIMEOUT = timedelta(seconds=5)


class Listener:
    """Collects the notifications on the channel."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self.connection = connection
        self._heard: asyncio.Queue[str] = asyncio.Queue()

    def hear(self, connection: object, pid: int, channel: str, payload: object) -> None:
        self._heard.put_nowait(str(payload) or "notified")

    async def until_now(self) -> list[str]:
        """Return the notifications that were sent before this moment, in their order."""
        await self.connection.execute(f"NOTIFY {CHANNEL}, 'now'")
        heard = []
        while (word := await self._heard.get()) != "now":
            heard.append(word)
        return heard


class SlowLink:
    """A proxy in front of Postgres that holds back the answer to NOTIFY."""

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

        await second.notifier.close()  # sends the notification that is due

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
    async with asyncio.timeout(45), await asyncio.start_server(link.relay, "127.0.0.1", 0) as server:
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
