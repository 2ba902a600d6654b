"""What every process counts alike: what it is made of, what it uses, and how its database pools are."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.ext.asyncio import AsyncEngine

from app_db import Database
from app_db.pool import CountingPool
from app_db.supervision import KINDS
from app_db.telemetry.outlet import OutletCollector


def describe_process(
    registry: CollectorRegistry, database: Database, *, packages: Sequence[str], kinds: Sequence[str]
) -> None:
    """Export memory, CPU and files of this process, versions of our `packages`, pools, enqueued jobs, lost lines."""
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(BuildCollector({package: version(package) for package in packages}))
    registry.register(PoolCollector(database.engines))
    registry.register(EnqueuedCollector(kinds, database.enqueued))
    registry.register(OutletCollector())
    registry.register(FailuresCollector(database.failures))


class BuildCollector(Collector):
    """Exports which version of which package runs here."""

    def __init__(self, versions: Mapping[str, str]) -> None:
        self._versions = versions

    def collect(self) -> Iterator[Metric]:
        """Yield `app_build_info`."""
        family = GaugeMetricFamily("app_build_info", "1 for each of our packages.", labels=["package", "version"])
        for package, number in self._versions.items():
            family.add_metric([package, number], 1)
        yield family


class PoolCollector(Collector):
    """Exports how much the database pools are used, and how long they were waited for."""

    def __init__(self, engines: Mapping[str, AsyncEngine]) -> None:
        self._engines = engines

    def collect(self) -> Iterator[Metric]:
        """Yield `app_db_pool_…`."""
        size = GaugeMetricFamily("app_db_pool_size", "Connections at most.", labels=["pool"])
        used = GaugeMetricFamily("app_db_pool_in_use", "Connections that are in use.", labels=["pool"])
        waiting = GaugeMetricFamily("app_db_pool_waiting", "Who waits for a connection.", labels=["pool"])
        waits = CounterMetricFamily("app_db_pool_waits", "How often none was free.", labels=["pool"])
        waited = CounterMetricFamily("app_db_pool_wait_seconds", "Waited for one, in all.", labels=["pool"])
        for name, engine in self._engines.items():
            pool = engine.pool
            assert isinstance(pool, CountingPool), "what app_db.connections makes"
            size.add_metric([name], pool.size())
            used.add_metric([name], pool.checkedout())
            waiting.add_metric([name], pool.waiting)
            waits.add_metric([name], pool.waits)
            waited.add_metric([name], pool.waited)
        yield from (size, used, waiting, waits, waited)


class EnqueuedCollector(Collector):
    """Exports what the database counts itself."""

    def __init__(self, kinds: Sequence[str], enqueued: Mapping[str, int]) -> None:
        self._zeros = dict.fromkeys(kinds, 0)
        self._enqueued = enqueued

    def collect(self) -> Iterator[Metric]:
        """Yield `app_jobs_enqueued_total`."""
        family = CounterMetricFamily("app_jobs_enqueued", "Jobs enqueued by this process.", labels=["kind"])
        # One call copies all: the process goes on counting while this thread is served.
        for kind, count in {**self._zeros, **dict(self._enqueued)}.items():
            family.add_metric([kind], count)
        yield family


class FailuresCollector(Collector):
    """Exports how often the database could not be used, and how."""

    def __init__(self, failures: Mapping[str, int]) -> None:
        self._zeros = dict.fromkeys(KINDS, 0)
        self._failures = failures

    def collect(self) -> Iterator[Metric]:
        """Yield `app_db_failures_total`."""
        family = CounterMetricFamily("app_db_failures", "Times that the database could not be used.", labels=["kind"])
        for kind, count in {**self._zeros, **dict(self._failures)}.items():
            family.add_metric([kind], count)
        yield family
