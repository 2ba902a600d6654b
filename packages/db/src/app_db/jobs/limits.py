"""Limits of a kind: how many of its jobs run at once, or in a time, for each value of a field (ADR-0081)."""

import re
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from app_db.jobs.bounds import INTEGER
from app_db.jobs.canonical import as_text, canonical

OWNER = "owner_id"
MOST_IN_A_PERIOD = 1000
"""The times of so many admissions are kept for each key."""
_PERIODS = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_RATE = re.compile(r"([0-9]{1,4})/([smhd])", re.ASCII)
_PLAIN = re.compile(r"[\w.:@+-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Limit:
    """How many jobs of a kind may run at once, or be started in a time, over all workers and queues.

    Args:
        running: at most so many at once, from the claim until they have ended, failed or were given back.
        rate: at most so many in any such time, as in `"100/m"`: up to 1000 in a second (s), minute (m), hour (h) or
            day (d), at whatever moment it begins, by Postgres's clock. Each attempt counts when it is let in.
        per: the field of the payload that has a limit for each of its values; `"owner_id"` is the owner of the job,
            unless the payload has such a field. Without it the kind has one limit.

    Raises:
        ValueError: for no limit, or one that is out of range.

    Example:
        class CallVet(JobPayload, limit=Limit(running=2, rate="100/m", per="clinic_id")):
            kind = "pets.call_vet"
            clinic_id: UUID
    """

    running: int | None = None
    rate: str | None = None
    per: str | None = None

    def __post_init__(self) -> None:
        if self.running is None and self.rate is None:
            raise ValueError("a limit says how many jobs are `running`, or their `rate`")
        require_running(self.running)
        parse_rate(self.rate)


def require_running(running: int | None) -> None:
    """Refuse a number of running jobs that is no limit.

    Raises:
        ValueError: for less than one, or more than Postgres can store.
    """
    if running is not None and not 1 <= running < INTEGER:
        raise ValueError(f"a limit is between 1 and {INTEGER - 1}, not {running}")


def parse_rate(rate: str | None) -> tuple[int, timedelta] | None:
    """Return the number and the time of a rate such as `100/m`.

    Raises:
        ValueError: for any other text.
    """
    if rate is None:
        return None
    match = _RATE.fullmatch(rate)
    if match is None or not 1 <= int(match[1]) <= MOST_IN_A_PERIOD:
        raise ValueError(f"a rate is as 100/m: 1 to {MOST_IN_A_PERIOD} in a s, m, h or d, not {rate!r}")
    return int(match[1]), _PERIODS[match[2]]


def show_rate(rate: int, period: timedelta) -> str:
    """Return the text of a rate; see `parse_rate`."""
    return f"{rate}/{next(letter for letter, known in _PERIODS.items() if known == period)}"


def require_field(payload_class: type[BaseModel], limit: Limit) -> None:
    """Refuse a limit per field that the class has not.

    Raises:
        TypeError: when the class is defined.
    """
    if limit.per is not None and limit.per != OWNER and limit.per not in payload_class.model_fields:
        raise TypeError(f"{payload_class.__name__} has no field {limit.per} to have a limit per")


def key_of(kind: str, limit: Limit, payload: BaseModel, owner_id: UUID | None) -> str:
    """Return the key of a job: jobs with the same key share a limit. Long values are hashed."""
    if limit.per is None:
        return kind
    fields = type(payload).model_fields
    value: Any = getattr(payload, limit.per) if limit.per in fields else owner_id  # Any: of the payload
    text = value if isinstance(value := canonical(value, defaults=True), str) else as_text(value)
    return f"{kind}:{text if _PLAIN.fullmatch(text) else sha256(text.encode()).hexdigest()[:32]}"
