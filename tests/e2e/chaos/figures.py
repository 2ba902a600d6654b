"""What a run under fire has shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
        (SELECT count(*) FROM unnest($1::uuid[]) AS said (id) WHERE id NOT IN (SELECT id FROM ours)) AS forgotten
    FROM ours
"""
"""Given the ids of the jobs whose COMMIT is known to have returned."""


@dataclass(frozen=True, slots=True)
class Figures:
    """`committed` rows with a job each, and what became of them."""

    counts: Mapping[str, Any]  # Any: integers; the row of COUNT
    rolled_back: int
    faults: Mapping[str, int]
    drain_seconds: float
    """From the end of the fire until no job was open."""

    @property
    def wrong(self) -> dict[str, int]:
        """What has to be zero and is not."""
        names = ("lost", "duplicated", "phantom", "forgotten", "open", "discarded")
        return {name: self.counts[name] for name in names if self.counts[name]}

    def __str__(self) -> str:
        counts = [f"{value} {name}" for name, value in self.counts.items()]
        faults = [f"{name} {times}" for name, times in sorted(self.faults.items())]
        return "\n".join(
            [
                f"{', '.join(counts)}, {self.rolled_back} rolled back; drained in {self.drain_seconds:.1f} s",
                f"{sum(self.faults.values())} faults: {', '.join(faults)}",
            ]
        )
