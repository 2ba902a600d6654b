"""Whether the mail server takes addresses beyond ASCII is known before the first mail (RFC 6531, 3.1)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app_auth.mail import MailSettings
from app_db import Database, open_database
from app_db.jobs import workers
from app_db.models import JobWorker
from app_db.settings import DatabaseSettings
from app_db.types import new_id
from app_worker.mail import ConsoleMailer, Mailer, MemoryMailer
from app_worker.mail_errors import MailUndeliverable
from app_worker.mail_server import report_smtputf8
from app_worker.smtp import SmtpMailer

from .conftest import eventually
from .smtp_server import ScriptedServer, offering, server
from .test_smtp import a_mail

WORKER = new_id()


def smtp(to: ScriptedServer) -> SmtpMailer:
    return SmtpMailer(MailSettings.model_validate({"url": f"smtp://127.0.0.1:{to.port}"}))


@asynccontextmanager
async def telling(database: Database, mailer: Mailer) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(report_smtputf8(database, mailer, WORKER, pause=0.01))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def join(database: Database) -> None:
    async with database.unit_of_work() as session:
        session.add(JobWorker(id=WORKER, host="h", pid=1, queues=[], concurrency=1))


async def known(database: Database) -> bool | None:
    async with database.unit_of_work(read_only=True) as session:
        return await workers.has_smtputf8(session)


@pytest.mark.parametrize(("extensions", "smtputf8"), [((), False), (("8BITMIME", "SMTPUTF8"), True)])
async def test_a_worker_asks_its_mail_server_and_tells(
    database: Database, extensions: tuple[str, ...], smtputf8: bool
) -> None:
    async with server({"EHLO": offering(*extensions)}).serving() as to, telling(database, smtp(to)):
        await to.hung_up.wait()
        assert await known(database) is None  # it is not on the list yet
        await join(database)

        async def is_told() -> bool:
            return await known(database) is smtputf8

        await eventually(is_told)

    assert to.verbs == ["EHLO", "QUIT"]


async def test_a_server_that_cannot_be_asked_is_asked_again(database: Database) -> None:
    await join(database)
    async with server({"EHLO": "421 later"}).serving() as to, telling(database, smtp(to)):
        await to.hung_up.wait()
        assert await known(database) is None
        to.answers["EHLO"] = offering()

        async def is_told() -> bool:
            return await known(database) is False

        await eventually(is_told)


async def test_each_mail_teaches_it_anew() -> None:
    async with server({"EHLO": offering("SMTPUTF8")}).serving() as to:
        mailer = smtp(to)
        await mailer.send(a_mail())
        before = mailer.smtputf8
        to.answers["EHLO"] = offering()
        with pytest.raises(MailUndeliverable):
            await mailer.send(a_mail(to="jörg@example.test"))

    assert (before, mailer.smtputf8) == (True, False)


@pytest.mark.parametrize(("mailer", "smtputf8"), [(ConsoleMailer(), True), (MemoryMailer(), None)])
async def test_without_a_server_what_is_printed_is_known_and_nothing_else(
    database: Database, mailer: Mailer, smtputf8: bool | None
) -> None:
    await join(database)
    async with telling(database, mailer):
        for _ in range(20):
            await asyncio.sleep(0.01)

    assert await known(database) is smtputf8


async def test_a_database_that_is_away_ends_nothing(database_settings: DatabaseSettings) -> None:
    settings = database_settings.model_copy(update={"url": type(database_settings.url)("postgresql://a@127.0.0.1:1/a")})
    async with open_database(settings, name="away") as away, telling(away, ConsoleMailer()) as task:
        await asyncio.sleep(0.2)

        assert not task.done()
