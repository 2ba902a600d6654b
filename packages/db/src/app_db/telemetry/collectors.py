"""Metrics of the database in every process: the use of pools, enqueued jobs, failures."""

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.ext.asyncio import AsyncEngine

from app_db import Database
from app_db.pool import pools_of
from app_db.supervision import KINDS


def describe_database(registry: CollectorRegistry, database: Database, *, kinds: Sequence[str]) -> None:
    """Export how the pools of a database are used, the jobs of these `kinds` that were enqueued, and failures."""
    registry.register(PoolCollector(database.engines))
    registry.register(EnqueuedCollector(kinds, database.enqueued))
    registry.register(FailuresCollector(database.failures))
    registry.register(GatheredCollector(database.gathered))


class PoolCollector(Collector):
    """Exports how much the database pools are used, and how long callers waited for a connection."""

    def __init__(self, engines: Mapping[str, AsyncEngine]) -> None:
        self._engines = engines

    def collect(self) -> Iterator[Metric]:
        """Yield `app_db_pool_…`."""
        size = GaugeMetricFamily("app_db_pool_size", "Connections at most.", labels=["pool"])
        used = GaugeMetricFamily("app_db_pool_in_use", "Connections that are in use.", labels=["pool"])
        waiting = GaugeMetricFamily("app_db_pool_waiting", "Who waits for a connection.", labels=["pool"])
        waits = CounterMetricFamily("app_db_pool_waits", "How often none was free.", labels=["pool"])
        waited = CounterMetricFamily("app_db_pool_wait_seconds", "Waited for one, in all.", labels=["pool"])
        for name, pool in pools_of(self._engines):
            size.add_metric([name], pool.size())
            used.add_metric([name], pool.checkedout())
            waiting.add_metric([name], pool.waiting)
            waits.add_metric([name], pool.waits)
            waited.add_metric([name], pool.waited)
        yield from (size, used, waiting, waits, waited)


class RoleCollector(Collector):
    """Exports the last known share of its connection limit that each role uses; none during an outage."""

    def __init__(self) -> None:
        self.shares: Mapping[str, float] = {}

    def collect(self) -> Iterator[Metric]:
        """Yield `app_db_role_in_use_ratio`, which is the same in every process."""
        family = GaugeMetricFamily("app_db_role_in_use_ratio", "Connections, of those it may have.", labels=["role"])
        for role, share in self.shares.items():
            family.add_metric([role], share)
        yield family


class EnqueuedCollector(Collector):
    """Exports the counters of `Database`."""

    def __init__(self, kinds: Sequence[str], enqueued: Mapping[str, int]) -> None:
        self._zeros = dict.fromkeys(kinds, 0)
        self._enqueued = enqueued

    def collect(self) -> Iterator[Metric]:
        """Yield `app_jobs_enqueued_total`."""
        family = CounterMetricFamily("app_jobs_enqueued", "Jobs enqueued by this process.", labels=["kind"])
        # dict() copies all in one call: the process goes on counting while this thread reads.
        for kind, count in {**self._zeros, **dict(self._enqueued)}.items():
            family.add_metric([kind], count)
        yield family


class GatheredCollector(Collector):
    """Exports how many calls the shared queries have answered."""

    LIMITS = (1, 2, 4, 8, 16, 32, 64, 128)

    def __init__(self, sizes: Mapping[int, int]) -> None:
        self._sizes = sizes

    def collect(self) -> Iterator[Metric]:
        """Yield `app_db_gathered_calls`."""
        sizes = dict(self._sizes)  # as above
        buckets = [(str(limit), sum(count for size, count in sizes.items() if size <= limit)) for limit in self.LIMITS]
        yield HistogramMetricFamily(
            "app_db_gathered_calls", "Calls that a query of the authentication has answered.",
            buckets=[*buckets, ("+Inf", sum(sizes.values()))],
            sum_value=sum(size * count for size, count in sizes.items()),
        )  # fmt: skip


class FailuresCollector(Collector):
    """Exports how often the database could not be used, by kind of failure."""

    def __init__(self, failures: Mapping[str, int]) -> None:
        self._zeros = dict.fromkeys(KINDS, 0)
        self._failures = failures

    def collect(self) -> Iterator[Metric]:
        """Yield `app_db_failures_total`."""
        family = CounterMetricFamily("app_db_failures", "Times that the database could not be used.", labels=["kind"])
        for kind, count in {**self._zeros, **dict(self._failures)}.items():
            family.add_metric([kind], count)
        yield family
