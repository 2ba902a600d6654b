"""Errors and progress of a handler, cut to the size that the ledger stores."""

import json
import re
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
"""Characters that are stored; a longer text keeps its beginning and its end."""
_INPUT: Final = re.compile("input_value=.*")


async def record(
    session: Session, delivery: Delivery, *, attempt: int, error: BaseException, is_encrypted: bool = False
) -> None:
    """Store an error with its trace in the history of the job, once; of an encrypted job without pydantic's inputs."""
    trace = _storable(traceback.format_exception, error, LONGEST_TRACE)
    await ledger.record_error(
        session,
        delivery,
        attempt=attempt,
        error=line_of(error, is_encrypted=is_encrypted),
        trace=_without_inputs(trace) if is_encrypted else trace,
    )


def line_of(error: BaseException, *, is_encrypted: bool) -> str:
    """Return the class and the message of an error; of an encrypted job without pydantic's inputs."""
    line = _storable(partial(traceback.format_exception_only, show_group=True), error, LONGEST_ERROR)
    return _without_inputs(line) if is_encrypted else line


def _without_inputs(text: str) -> str:
    """Cut what pydantic quotes of its input, to the end of each line: a handler may check what it was given."""
    return _INPUT.sub("input_value=…", text)  # guard: test_errors_of_an_encrypted_job_quote_no_input


def truncated(progress: Any) -> Any:  # Any: JSON
    """Return the progress to store: a long one is cut to its beginning and end, as a text."""
    if progress is None or isinstance(progress, int | float):
        return progress
    try:
        text = progress if isinstance(progress, str) else json.dumps(progress, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return progress  # the ledger refuses it when it is written
    if len(text) <= LONGEST_PROGRESS:
        return progress
    return cut(text, LONGEST_PROGRESS)  # guard: test_a_progress_has_a_size


def _storable(show: Callable[[BaseException], Iterable[str]], error: BaseException, limit: int) -> str:
    """Return a text that Postgres can store, for any error."""
    try:
        lines = list(show(error))
        # Cut each message first, so that the frames between the messages stay.
        text = "".join(lines if len(lines) == 1 else [cut(line, LONGEST_ERROR) for line in lines]).strip()
    except Exception as failure:  # the `__str__` of an error may raise
        text = f"{type(error).__name__}, which cannot be shown: {type(failure).__name__}"
    text = cut(text, limit)  # guard: test_an_error_has_a_size
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")
