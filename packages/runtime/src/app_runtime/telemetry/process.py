"""Metrics of every process: its versions, its use of resources, and its lost log lines."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import metadata

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app_runtime.telemetry.outlet import OutletCollector

_version = cache(metadata.version)  # it parses a file each time


def describe_process(registry: CollectorRegistry, *, packages: Sequence[str]) -> None:
    """Export memory, CPU and files of this process, versions of our `packages`, lost lines."""
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(BuildCollector({package: _version(package) for package in packages}))
    registry.register(OutletCollector())


class BuildCollector(Collector):
    """Exports the versions of our packages."""

    def __init__(self, versions: Mapping[str, str]) -> None:
        self._versions = versions

    def collect(self) -> Iterator[Metric]:
        """Yield `app_build_info`."""
        family = GaugeMetricFamily("app_build_info", "1 for each of our packages.", labels=["package", "version"])
        for package, number in self._versions.items():
            family.add_metric([package, number], 1)
        yield family
