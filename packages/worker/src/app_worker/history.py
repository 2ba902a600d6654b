"""What the ledger keeps of what a handler says: its errors and its progress, each of a bounded size."""

import json
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from app_db import Session
from app_db.jobs import ledger
from app_db.jobs.ledger import Delivery
from app_runtime.texts import cut

LONGEST_ERROR: Final = 8 * 1024
LONGEST_TRACE: Final = 32 * 1024
LONGEST_PROGRESS: Final = 16 * 1024
"""Characters that are kept. Of what is longer, the beginning and the end are."""


async def record(session: Session, delivery: Delivery, *, attempt: int, error: BaseException) -> None:
    """Add an error, with its trace, to the history of the job; twice is once."""
    await ledger.record_error(
        session,
        delivery,
        attempt=attempt,
        error=_storable(partial(traceback.format_exception_only, show_group=True), error, LONGEST_ERROR),
        trace=_storable(traceback.format_exception, error, LONGEST_TRACE),
    )


def kept(progress: Any) -> Any:  # Any: JSON
    """Return what is stored of a progress: itself, or its beginning and end as a text if it is too long."""
    if progress is None or isinstance(progress, int | float):
        return progress
    try:
        text = progress if isinstance(progress, str) else json.dumps(progress, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return progress  # what is no JSON fails where it is written
    if len(text) <= LONGEST_PROGRESS:
        return progress
    return cut(text, LONGEST_PROGRESS)  # guard: test_a_progress_has_a_size


def _storable(show: Callable[[BaseException], Iterable[str]], error: BaseException, limit: int) -> str:
    """Return a text that Postgres takes, whatever a handler put into its error."""
    try:
        lines = list(show(error))
        # Each message by itself first, so that the frames between them are kept.
        text = "".join(lines if len(lines) == 1 else [cut(line, LONGEST_ERROR) for line in lines]).strip()
    except Exception as failure:  # an error that cannot be shown is one nevertheless
        text = f"{type(error).__name__}, which cannot be shown: {type(failure).__name__}"
    text = cut(text, limit)  # guard: test_an_error_has_a_size
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")
