"""Whether the mail server accepts non-ASCII addresses: the worker stores it in its row, and the API reads it there."""

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
"""Seconds between two checks; a mail that was sent meanwhile may have changed the answer."""


async def report_smtputf8(database: Database, mailer: Mailer, worker_id: UUID, *, pause: float = PAUSE) -> None:
    """Ask the server at once, and store each new answer until cancelled. Never fails."""
    stored = None
    while True:
        known = None
        try:
            known = await _known(mailer)
            if known is not None and known != stored:
                async with database.unit_of_work() as session:
                    stored = known if await note_smtputf8(session, worker_id, known) else None
        except Exception as error:  # an outage: the next check stores it
            log.warning("smtputf8_not_stored", cause=type(error).__name__)
        # The first beat, which inserts the row of the worker, may not have been sent yet.
        await asyncio.sleep(pause if stored == known else min(1.0, pause))


async def _known(mailer: Mailer) -> bool | None:
    if isinstance(mailer, SmtpMailer):
        if mailer.smtputf8 is None:
            await mailer.ask()
        return mailer.smtputf8
    return True if isinstance(mailer, ConsoleMailer) else None
