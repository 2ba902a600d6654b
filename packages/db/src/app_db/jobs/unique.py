"""When a job is the same as one that is there already."""

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
    """Accept a job only where none like it is there; else `enqueue` returns the id of that one.

    Of transactions that race, one inserts. One that has enqueued the same and not ended yet is waited for, up to
    `lock_timeout` (2 s), and two that enqueue two such jobs in opposite orders end in a deadlock: enqueue unique jobs
    late in a transaction, and in one order.

    Raises:
        ValueError: for a period that is not positive, for states without all the open ones, for `by` beside `key`.
    """

    by: tuple[str, ...] | None = None
    """The fields of the payload that make it the same; all of them if absent, only the kind if empty.

    Values are the same if they are equal (`==`), whatever process and release enqueues them.
    """
    key: str | None = None
    """What makes it the same instead of the fields of its payload, among jobs of its kind."""
    period: timedelta | None = None
    """The same only if enqueued in the same period, by Postgres's clock; periods are counted from 1970 in UTC.

    A period ends for everybody at once: a job at its end and another at the beginning of the next are both accepted.
    """
    states: frozenset[JobState] | None = None
    """A job counts while it is in one of these, and as long as retention keeps it.

    All open ones if absent, and `completed` as well if there is a period.
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
        """The states that count, with the default."""
        if self.states is not None:
            return self.states
        return OPEN_STATES if self.period is None else OPEN_STATES | {JobState.COMPLETED}

    def digest(self, payload: JobPayload, *, defaults: bool = False) -> str:
        """Return what is the same for the same jobs: 128 bits over the kind, the period and the chosen fields.

        Equal values have one digest, in every process: sets in any order, a moment in any time zone, 1 and 1.0. So
        has a payload before and after a release that adds a field with a default, which is left out while it has it.

        Args:
            payload: of the job.
            defaults: whether all fields count: for a job whose digest without them belongs to another payload.

        Raises:
            ValueError: when `by` names a field that the payload does not have, or a value's equality is not known.
        """
        if self.by is not None and (unknown := set(self.by) - type(payload).model_fields.keys()):
            raise ValueError(f"{type(payload).__name__} has no {', '.join(sorted(unknown))} to be unique by")
        seconds = None if self.period is None else self.period.total_seconds()
        same = [payload.kind, seconds, self._chosen(payload, defaults=defaults), *(["defaults"] if defaults else [])]
        return sha256(as_text(same).encode()).hexdigest()[:32]

    def means(self, payload: JobPayload, fields: Mapping[str, Any], version: int) -> bool:  # Any: JSON
        """Whether a stored payload with the digest of this one is the same: not where a default has changed since."""
        if self.key is not None:
            return True
        known = {name: value for name, value in fields.items() if name in type(payload).model_fields}
        try:
            stored = type(payload).read(known, min(version, payload.version))
        except UnknownPayload:  # of a newer release: its digest says what it means
            return True
        return bool(self._chosen(stored, defaults=True) == self._chosen(payload, defaults=True))

    def _chosen(self, payload: JobPayload, *, defaults: bool) -> Any:  # Any: JSON
        if self.key is not None:
            return self.key
        if self.by is None:
            return canonical(payload, defaults=defaults)
        return {name: canonical(getattr(payload, name), defaults=defaults) for name in self.by}
