"""The values of a span of time: how they are added up, and how run times are read from them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any, Self

BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Seconds between which run times are counted. A longer one counts as the last bound."""
OUTCOMES = ("completed", "failed", "discarded", "cancelled")
"""The outcomes that are counted; `failed` are attempts that are tried again, the others are ends of jobs."""


@dataclass(slots=True)
class Ended:
    """What ended of one kind in one way."""

    count: int = 0
    run_times: Counter[int] = field(default_factory=Counter)
    """How many ran between two `BOUNDS`, by the number of bounds below. Jobs in tx mode leave no run time."""

    def add(self, other: "Ended") -> None:
        """Add what ended in another span."""
        self.count += other.count
        self.run_times.update(other.run_times)

    def quantile(self, share: float) -> float | None:
        """Return the seconds within which this share of the timed jobs ended, by interpolation; None without any.

        Example:
            ended = Ended(count=10, run_times=Counter({6: 10}))  # between half a second and one
            assert ended.quantile(0.5) == 0.75
        """
        rank, seen = share * self.run_times.total(), 0
        for number, (low, high) in enumerate(pairwise((0.0, *BOUNDS, BOUNDS[-1]))):
            here = self.run_times[number]
            if here and seen + here >= rank:
                return low + (high - low) * (rank - seen) / here
            seen += here
        return None


@dataclass(frozen=True, slots=True)
class Figures:
    """What happened in one span of time."""

    began_at: datetime
    ended: Mapping[tuple[str, str], Ended]
    """By kind and outcome."""
    queues: Mapping[str, int]
    events: Mapping[str, int]

    @classmethod
    def parse(cls, began_at: datetime, jobs: Iterable[Any], queues: dict[str, int], events: dict[str, int]) -> Self:
        """Return the figures of a row."""
        ended = {
            (kind, outcome): Ended(count, Counter({int(number): times for number, times in run_times.items()}))
            for kind, outcome, count, run_times in jobs
        }
        return cls(began_at, ended, queues, events)

    def jobs(self) -> list[Any]:  # Any: JSON
        """Return `ended` as it is stored."""
        return [
            [kind, outcome, ended.count, {str(number): times for number, times in sorted(ended.run_times.items())}]
            for (kind, outcome), ended in sorted(self.ended.items())
        ]

    @classmethod
    def sum(cls, began_at: datetime, spans: Iterable[Self]) -> Self:
        """Return the figures of all spans together: counts are added, of queues the largest is taken."""
        ended: dict[tuple[str, str], Ended] = {}
        queues: Counter[str] = Counter()
        events: Counter[str] = Counter()
        for span in spans:
            for key, value in span.ended.items():
                ended.setdefault(key, Ended()).add(value)
            queues |= Counter(span.queues)
            events.update(span.events)
        return cls(began_at, ended, queues, events)

    def by_outcome(self) -> Iterator[tuple[str, int]]:
        """Yield each of `OUTCOMES` with its number of all kinds."""
        for outcome in OUTCOMES:
            yield outcome, sum(ended.count for (_, name), ended in self.ended.items() if name == outcome)
