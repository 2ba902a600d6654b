"""Starts and completes jobs in lease mode, those of one moment in one statement (ADR-0057)."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import TextualSelect, column, text

from app_db.engine import AnyRow, Database
from app_db.gathering import Gathering
from app_db.jobs.ledger import STARTED, Delivery, StartedJob, Starter

_IS_OURS = (
    "jobs.id = ours.id"
    " AND jobs.fence = ours.fence"  # guard: test_each_row_of_a_group_is_fenced_by_itself
)

# SKIP LOCKED: the row of one job must not keep the others waiting; its own caller waits for it alone.
# JSON travels as text, so that each caller writes and reads its own: what is wrong with it concerns no other.
_START = text(f"""
    WITH ours AS (
        SELECT jobs.id FROM jobs JOIN unnest(CAST(:ids AS uuid[]), CAST(:fences AS integer[])) AS ours (id, fence)
            ON {_IS_OURS}
        WHERE state = 'dispatched' AND kind = ANY(CAST(:leased AS text[]))
            AND NOT EXISTS (SELECT FROM job_cancellations WHERE job_id = jobs.id)
        FOR NO KEY UPDATE OF jobs SKIP LOCKED
    )
    UPDATE jobs SET state = 'executing', claim_at = now() + CAST(:lease AS interval), finished_at = NULL,
        started_at = now(), attempt = least(attempt + 1, 32767), worker_id = :worker_id
    FROM ours WHERE jobs.id = ours.id
    RETURNING jobs.id, fence, {", ".join(STARTED.values())}
""").columns(column("id"), column("fence"), *map(column, STARTED))  # noqa: S608  # made of constants

_COMPLETE_SQL = f"""
    WITH ours AS (
        SELECT jobs.id, ours.result, ours.progress FROM jobs JOIN unnest(
            CAST(:ids AS uuid[]), CAST(:fences AS integer[]), CAST(:results AS text[]), CAST(:progresses AS text[])
        ) AS ours (id, fence, result, progress) ON {_IS_OURS}
        WHERE state = 'executing' FOR NO KEY UPDATE OF jobs SKIP LOCKED
    )
    UPDATE jobs SET state = 'completed', claim_at = NULL, finished_at = now(),
        result = CAST(ours.result AS jsonb), progress = coalesce(CAST(ours.progress AS jsonb), jobs.progress)
    FROM ours WHERE jobs.id = ours.id
    RETURNING jobs.id, fence
"""  # noqa: S608  # as above
_COMPLETE = text(_COMPLETE_SQL).columns(column("id"), column("fence"))


class _End(NamedTuple):
    delivery: Delivery
    result: str | None
    progress: str | None


class LeasedJobs:
    """The starts and completions of one worker; each row is fenced by itself."""

    def __init__(self, database: Database, starter: Starter) -> None:
        """Let no statement take longer than the `request_timeout` of the database."""
        self._database = database
        self._starter = starter
        limit = database.settings.request_timeout
        self._starts = Gathering(self._start_all, limit)
        self._ends = Gathering(self._complete_all, limit)

    async def start(self, delivery: Delivery) -> StartedJob | None:
        """Start and commit, or return None: `ledger.start` says whether the job is in tx mode, locked or lost.

        When it raises, the start may be committed nevertheless.
        """
        row = await self._starts.ask(delivery)
        return None if row is None else StartedJob(*row[2:])

    async def complete(self, delivery: Delivery, *, result: Any, progress: Any) -> bool:  # Any: JSON
        """Complete and commit, or return False: `ledger.finish` says whether the row is locked or lost."""
        end = _End(delivery, _json(result), _json(progress))
        with self._database.trace_call(_COMPLETE_SQL):  # guard: test_each_job_that_ends_with_others_has_a_span_of_it
            return await self._ends.ask(end) is not None

    async def _start_all(self, deliveries: Sequence[Delivery]) -> list[AnyRow | None]:
        starter = self._starter
        parameters = {"worker_id": starter.worker_id, "leased": starter.leased_kinds, "lease": starter.lease}
        return await self._write(_START, deliveries, parameters)

    async def _complete_all(self, ends: Sequence[_End]) -> list[AnyRow | None]:
        parameters = {"results": [end.result for end in ends], "progresses": [end.progress for end in ends]}
        return await self._write(_COMPLETE, [end.delivery for end in ends], parameters)

    async def _write(
        self, statement: TextualSelect, deliveries: Sequence[Delivery], parameters: dict[str, Any]
    ) -> list[AnyRow | None]:
        ids = [delivery.id for delivery in deliveries]
        keys = {"ids": ids, "fences": [delivery.fence for delivery in deliveries]}
        rows = await self._database.write_all(statement, keys | parameters)
        found = {(row.id, row.fence): row for row in rows}
        # Taken out: of two equal deliveries one has started the job.
        take = found.pop
        return [take((delivery.id, delivery.fence), None) for delivery in deliveries]


def _json(value: Any) -> str | None:  # Any: JSON
    return None if value is None else json.dumps(value)
