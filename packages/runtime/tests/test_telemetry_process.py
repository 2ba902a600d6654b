"""The metrics that every process has."""

from importlib.metadata import version

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from app_runtime.telemetry.process import describe_process


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    describe_process(registry, packages=["app-runtime"])
    return registry


def test_the_version_of_each_package_is_shown(registry: CollectorRegistry) -> None:
    labels = {"package": "app-runtime", "version": version("app-runtime")}

    assert registry.get_sample_value("app_build_info", labels) == 1


def test_the_process_itself_is_measured(registry: CollectorRegistry) -> None:
    assert registry.get_sample_value("process_cpu_seconds_total")


def test_a_figure_has_no_second_series_for_its_age(registry: CollectorRegistry) -> None:
    assert b"_created" not in generate_latest(registry)
