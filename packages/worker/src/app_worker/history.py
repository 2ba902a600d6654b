"""What the attempt history of a job keeps of a failure."""

import traceback

from app_db import Session
from app_db.jobs import ledger
from app_db.jobs.ledger import Delivery


async def record(session: Session, delivery: Delivery, *, attempt: int, error: BaseException) -> None:
    """Add an error, with its trace, to the history of the job; twice is once."""
    await ledger.record_error(
        session,
        delivery,
        attempt=attempt,
        error=_storable(traceback.format_exception_only(error)),
        trace=_storable(traceback.format_exception(error)),
    )


def _storable(lines: list[str]) -> str:
    """Return a text that Postgres takes, whatever a handler put into its error."""
    return "".join(lines).strip().encode(errors="backslashreplace").decode().replace("\0", "\\x00")
