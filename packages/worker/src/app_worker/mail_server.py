"""What the mail server can carry, told to the API by way of the list of workers: it refuses the other addresses."""

import asyncio
from typing import Final
from uuid import UUID

import structlog

from app_db import Database
from app_db.jobs.workers import note_smtputf8
from app_worker.mail import ConsoleMailer, Mailer
from app_worker.smtp import SmtpMailer

log = structlog.get_logger(__name__)

PAUSE: Final = 30.0
"""Seconds between two looks; what each mail teaches is told at the next one."""


async def tell_of_mail_server(database: Database, mailer: Mailer, worker_id: UUID, *, pause: float = PAUSE) -> None:
    """Ask the server at once, and tell what it says, as long as the worker runs. Never fails."""
    told = None
    while True:
        known = None
        try:
            known = await _known(mailer)
            if known is not None and known != told:
                async with database.unit_of_work() as session:
                    told = known if await note_smtputf8(session, worker_id, known) else None
        except Exception as error:  # an outage: the next look tells
            log.warning("mail_server_not_told", cause=type(error).__name__)
        # The first beat, which puts us on the list, may be on its way.
        await asyncio.sleep(pause if told == known else min(1.0, pause))


async def _known(mailer: Mailer) -> bool | None:
    if isinstance(mailer, SmtpMailer):
        if mailer.smtputf8 is None:
            await mailer.ask()
        return mailer.smtputf8
    return True if isinstance(mailer, ConsoleMailer) else None
