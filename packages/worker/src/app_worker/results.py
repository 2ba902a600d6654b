"""Checks of the result of a handler."""

import json
from typing import Any

from app_db.jobs.jsonb import require_depth

LARGEST_RESULT = 256 * 1024
"""Bytes of JSON. Store a larger result in a file or a table, and return its name."""


class ResultTooLarge(Exception):
    """The handler returned more than 256 KiB of JSON."""


def require_storable(result: Any) -> None:  # Any: the return value of a handler
    """Refuse a result that could not be stored, or stored but not read again.

    Raises:
        ResultTooLarge: for more than `LARGEST_RESULT`.
        TypeError: for values that are no JSON.
        ValueError: for NaN, and for lists and objects nested in more than a hundred levels.
    """
    require_depth(result)  # guard: test_a_result_that_could_not_be_shown_is_a_failed_attempt
    if len(json.dumps(result, allow_nan=False)) > LARGEST_RESULT:
        raise ResultTooLarge("more than 256 KiB of JSON: store it elsewhere, and return its name")
