"""Figures of a run under fire: how many jobs were committed, lost, doubled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.e2e.processes import connected

COUNT = """
    WITH effects AS (SELECT row_id, count(*) AS times FROM chaos_effects GROUP BY row_id),
    ours AS (SELECT *, CAST(payload ->> 'row' AS uuid) AS row_id FROM jobs WHERE kind LIKE 'chaos.%')
    SELECT
        (SELECT count(*) FROM chaos_rows) AS committed,
        (SELECT count(*) FROM chaos_effects) AS effects,
        (SELECT count(*) FROM chaos_rows WHERE id NOT IN (SELECT row_id FROM effects)) AS lost,
        (SELECT count(*) FROM effects WHERE times > 1) AS duplicated,
        (SELECT count(*) FROM effects WHERE row_id NOT IN (SELECT id FROM chaos_rows))
            + count(*) FILTER (WHERE row_id NOT IN (SELECT id FROM chaos_rows)) AS phantom,
        count(*) FILTER (WHERE finished_at IS NULL) AS open,
        count(*) FILTER (WHERE state IN ('discarded', 'cancelled')) AS discarded,
        coalesce(sum(redeliveries), 0) AS redelivered,
        coalesce(sum(crashes), 0) AS crashes,
        coalesce(max(attempt), 0) AS most_attempts,
        (SELECT count(*) FROM unnest($1::uuid[]) AS said (id) WHERE id NOT IN (SELECT id FROM ours)) AS forgotten,
        (SELECT count(*) FROM job_batches) AS batches,
        (SELECT count(*) FROM job_batches WHERE ended_at IS NULL OR completed < total) AS unfinished
    FROM ours
"""
"""$1: the ids of the jobs whose COMMIT is known to have returned."""


TICKS = """
    SELECT
        1 + CAST(extract(epoch FROM max(run_at) - min(run_at)) AS integer) AS committed,
        1 + CAST(extract(epoch FROM max(run_at) - min(run_at)) AS integer) - count(DISTINCT run_at) AS lost,
        count(*) - count(DISTINCT run_at) AS duplicated,
        count(*) FILTER (WHERE created_at < run_at) AS phantom,
        sum(redeliveries) AS redelivered
    FROM jobs WHERE kind = $1
"""
"""Ticks of a cron of each second: due from the first to the last, missed, doubled, fired before their time."""


SHOWN = ("committed", "lost", "duplicated", "phantom", "redelivered")
MUST_BE_ZERO = ("lost", "duplicated", "phantom", "forgotten", "open", "discarded", "unfinished")


async def counted(dsn: str, *, said_to_be_committed: Sequence[str] = ()) -> dict[str, int]:
    """Compare the committed rows with their effects."""
    async with connected(dsn) as connection:
        return dict(await connection.fetchrow(COUNT, said_to_be_committed))


async def counted_ticks(dsn: str, kind: str) -> dict[str, int]:
    """Compare the ticks of a cron of each second with the seconds."""
    async with connected(dsn) as connection:
        return dict(await connection.fetchrow(TICKS, kind))


def show(name: str, counts: Mapping[str, int]) -> None:
    """Print a line of the table of faults (bench/README.md)."""
    print(f"\n| {name} | " + " | ".join(str(counts[figure]) for figure in SHOWN) + " |")  # noqa: T201  # its purpose


def wrong(counts: Mapping[str, int]) -> dict[str, int]:
    """Return the figures that have to be zero and are not."""
    return {name: counts[name] for name in MUST_BE_ZERO if counts[name]}


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one run under fire."""

    counts: Mapping[str, int]
    rolled_back: int
    faults: Mapping[str, int]
    drain_seconds: float
    """From the end of the fire until no job was open."""

    def __str__(self) -> str:
        counts = ", ".join(f"{value} {name}" for name, value in self.counts.items())
        faults = ", ".join(f"{name} {times}" for name, times in sorted(self.faults.items()))
        return (
            f"{counts}, {self.rolled_back} rolled back; drained in {self.drain_seconds:.1f} s\n"
            f"{sum(self.faults.values())} faults: {faults}"
        )
