"""Unique jobs: which jobs are equal, so that only one of them is enqueued."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any

from app_db.jobs.canonical import as_text, canonical
from app_db.jobs.payload import JobPayload, UnknownPayload
from app_db.models import OPEN_STATES, JobState


@dataclass(frozen=True, slots=True)
class Unique:
    """Enqueue a job only if no equal job exists; else `enqueue` returns the id of the existing one.

    Of concurrent transactions, one inserts the job. The others wait for its commit, up to `lock_timeout` (2 s). Two
    transactions that enqueue two unique jobs in opposite orders deadlock: enqueue unique jobs late in a transaction,
    and always in the same order.

    Raises:
        ValueError: for a period that is not positive, for states without all open states, for `by` together with `key`.

    Example:
        first = await enqueue(session, EndSessions(user_id=ada.id), unique=Unique())
        again = await enqueue(session, EndSessions(user_id=ada.id), unique=Unique())
        assert again == first  # one job, until it has ended

        once_a_day = Unique(by=("user_id",), period=timedelta(days=1))
        await enqueue(session, EndSessions(user_id=ada.id), unique=once_a_day)
    """

    by: tuple[str, ...] | None = None
    """The fields of the payload to compare: all fields if absent, only the kind if empty.

    Values are compared by `==`, across processes and releases.
    """
    key: str | None = None
    """A key to compare instead of fields, among jobs of the same kind."""
    period: timedelta | None = None
    """Compare only jobs enqueued in the same period, by Postgres's clock; periods are counted from 1970 in UTC.

    Periods have fixed ends: a job at the end of one period and an equal job at the start of the next are both accepted.
    """
    states: frozenset[JobState] | None = None
    """The states in which an existing job counts, as long as retention keeps it.

    All open states if absent; with a period, `completed` too.
    """

    def __post_init__(self) -> None:
        if self.by is not None and self.key is not None:
            raise ValueError("a job is unique by fields of its payload or by a key, not by both")
        if self.period is not None and self.period <= timedelta(0):
            raise ValueError(f"the period of a unique job must be positive, not {self.period}")
        if self.states is not None and (missing := OPEN_STATES - self.states):
            raise ValueError(
                f"the states of a unique job lack {', '.join(sorted(missing))}: a job that left them and came back, by "
                "a retry or after a crash, would clash with its successor"
            )

    @property
    def counted_states(self) -> frozenset[JobState]:
        """The states in which an existing job counts."""
        if self.states is not None:
            return self.states
        return OPEN_STATES if self.period is None else OPEN_STATES | {JobState.COMPLETED}

    def digest(self, payload: JobPayload, *, defaults: bool = False, secret: bytes | None = None) -> str:
        """Return a digest that equal jobs share: 128 bits over the kind, the period and the compared fields.

        Equal values have the same digest in every process: sets in any order, times in any time zone, 1 and 1.0. Fields
        with their default value are left out, so that the digest stays when a release adds a field with a default.

        Args:
            payload: the payload of the job.
            defaults: whether to include fields with their default, if another payload has the digest without them.
            secret: for an encrypted payload, whose values could be guessed by a digest without a key.

        Raises:
            ValueError: when `by` names an unknown field, or this package does not know the `==` of a value.
        """
        if self.by is not None and (unknown := set(self.by) - type(payload).model_fields.keys()):
            raise ValueError(f"{type(payload).__name__} has no {', '.join(sorted(unknown))} to be unique by")
        seconds = None if self.period is None else self.period.total_seconds()
        same = [payload.kind, seconds, self._chosen(payload, defaults=defaults), *(["defaults"] if defaults else [])]
        text = as_text(same).encode()
        digest = sha256(text).hexdigest() if secret is None else hmac.digest(secret, text, sha256).hex()
        return digest[:32]

    def means(self, payload: JobPayload, fields: Mapping[str, Any], version: int) -> bool:  # Any: JSON
        """Return whether a stored payload with the same digest is equal; it is not if a default has changed since."""
        if self.key is not None:
            return True
        known = {name: value for name, value in fields.items() if name in type(payload).model_fields}
        try:
            stored = type(payload).read(known, min(version, payload.version))
        except UnknownPayload:  # a newer release stored it, and its digest is equal
            return True
        return bool(self._chosen(stored, defaults=True) == self._chosen(payload, defaults=True))

    def _chosen(self, payload: JobPayload, *, defaults: bool) -> Any:  # Any: JSON
        if self.key is not None:
            return self.key
        if self.by is None:
            return canonical(payload, defaults=defaults)
        return {name: canonical(getattr(payload, name), defaults=defaults) for name in self.by}
