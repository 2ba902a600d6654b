"""The alert rules and the dashboard, compared with the metrics that an API and a worker really export."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from httpx2 import AsyncClient
from prometheus_client.parser import text_string_to_metric_families

from app_db import Database
from app_db.settings import DatabaseSettings
from app_runtime.testing.processes import free_port
from tests.reads import FIGURES

from .conftest import StartWorker, api_environment
from .processes import Api, eventually
from .proxy import proxied

ROOT = Path(__file__).parents[2]
PROMETHEUS, GRAFANA = ROOT / "deploy/prometheus", ROOT / "deploy/grafana"
OPEN_PORT = {"APP_METRICS__ENABLED": "true", "APP_METRICS__PORT": "0"}

OF_PROMETHEUS = {"up"}
"""Metrics that Prometheus itself makes of each scrape."""
SELECTOR = re.compile(r"\b([a-z][a-z0-9]*(?:_[a-z0-9]+)+|up)\b(?:\{([^}]*)\})?(?!\s*\()")
GROUPING = re.compile(r"\b(?:by|on|without|ignoring)\s*\([^)]*\)")
PLAIN = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Samples:
    """The exported sets of labels, by the name of the sample."""

    values: dict[str, set[tuple[tuple[str, str], ...]]]

    def labels(self, name: str) -> set[str]:
        return {label for labels in self.values.get(name, ()) for label, _ in labels}

    def has(self, name: str, label: str, value: str) -> bool:
        return any((label, value) in labels for labels in self.values.get(name, ()))


@pytest.fixture
def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.fixture
def panels() -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = json.loads((GRAFANA / "dashboard.json").read_text())["panels"]
    return panels


@pytest.fixture
def expressions(rules: list[dict[str, Any]], panels: list[dict[str, Any]]) -> list[str]:
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    return [" ".join(expression.split()) for expression in [*(rule["expr"] for rule in rules), *asked]]


@pytest.fixture
def api(database_settings: DatabaseSettings, valkey_url: str, database: Database, tmp_path: Path) -> Iterator[Api]:
    """An API that serves /metrics."""
    environment = api_environment(database_settings.url.get_secret_value(), valkey_url)
    api = Api(env=environment | OPEN_PORT, log=tmp_path / "api.log")
    yield api
    api.stop()


def port_of(log: str) -> int:
    (port,) = [json.loads(line)["port"] for line in log.splitlines() if '"telemetry_started"' in line]
    return int(port)


async def scrape(port: int) -> str:
    async with AsyncClient(timeout=90) as client:
        return (await client.get(f"http://127.0.0.1:{port}/metrics")).text


def samples_of(*texts: str) -> Samples:
    values: dict[str, set[tuple[tuple[str, str], ...]]] = {}
    for family in (family for text in texts for family in text_string_to_metric_families(text)):
        for sample in family.samples:
            values.setdefault(sample.name, set()).add(tuple(sample.labels.items()))
    return Samples(values)


def selectors(expression: str) -> Iterator[tuple[str, str]]:
    """Yield the metrics that an expression names, each with its conditions on labels."""
    for match in SELECTOR.finditer(GROUPING.sub("", expression)):
        yield match[1], match[2] or ""


@FIGURES
async def test_alerts_and_dashboard_name_only_metrics_that_exist(
    api: Api, start_worker: StartWorker, expressions: list[str], tmp_path: Path
) -> None:
    worker = start_worker(**OPEN_PORT)
    proxy_port = free_port()
    ports = (port_of(api.output), port_of(worker.output), proxy_port)
    with proxied(api.url.removeprefix("http://"), log=tmp_path / "proxy.log", metrics_port=proxy_port):
        async with AsyncClient(base_url=api.url, timeout=90) as client:
            await client.get("/probe/live")

        async def all_three() -> list[str]:
            texts = list(await asyncio.gather(*map(scrape, ports)))
            has_looked = "app_job_queue_workers{" in texts[1] and "app_dependency_up{" in texts[0]
            return texts if has_looked else []

        exported = samples_of(*await eventually(all_three, "they have looked at what they depend on"))

    named = [(name, labels) for expression in expressions for name, labels in selectors(expression)]
    assert len(named) > 50
    assert [name for name, _ in named if name not in {*exported.values, *OF_PROMETHEUS}] == []
    for name, labels in named:
        if name not in OF_PROMETHEUS:
            wanted = set(re.findall(r"(\w+)\s*[=!]", labels)) - {"job", "instance"}
            assert wanted <= exported.labels(name), f"{name} has no {wanted}"
        for label, value in PLAIN.findall(labels):
            assert label in {"job", "route", "status"} or exported.has(name, label, value), (
                f"no {name} of {label}={value}"
            )


def test_an_alert_says_how_urgent_it_is_and_where_to_read_on(rules: list[dict[str, Any]]) -> None:
    pages = {rule["annotations"]["runbook"].partition("#")[0] for rule in rules}

    assert {rule["labels"]["severity"] for rule in rules} == {"page", "ticket"}
    assert all(rule["annotations"]["summary"] for rule in rules)
    assert pages == {"docs/how-to/operations.md"}


def test_each_alert_has_its_runbook(rules: list[dict[str, Any]]) -> None:
    page = (ROOT / "docs/how-to/operations.md").read_text()
    headings = {title.lower() for title in re.findall(r"^#+ (\w+)$", page, flags=re.MULTILINE)}

    missing = [rule["alert"] for rule in rules if rule["annotations"]["runbook"].partition("#")[2] not in headings]

    assert missing == []


def test_the_panels_do_not_cover_each_other(panels: list[dict[str, Any]]) -> None:
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_the_dashboard_asks_the_data_source_that_is_provided(panels: list[dict[str, Any]]) -> None:
    provided = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]

    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"] for source in provided}


def test_the_dashboard_is_provided_once_from_where_compose_mounts_it() -> None:
    files = (GRAFANA / "provisioning/dashboards").iterdir()
    providers = [one for file in files for one in yaml.safe_load(file.read_text())["providers"]]
    volumes = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["grafana"]["volumes"]
    mounted = {source: target for source, target, _ in (volume.split(":") for volume in volumes)}

    assert [provider["options"]["path"] for provider in providers] == [mounted["./deploy/grafana"]]


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed (Debian: the package prometheus)")
def test_prometheus_accepts_its_configuration() -> None:
    check = ["promtool", "check", "config", str(PROMETHEUS / "prometheus.yml")]

    run = subprocess.run(check, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed (Debian: the package prometheus)")
def test_somebody_is_called_when_a_part_is_gone_never_came_or_answers_alone() -> None:
    """`up == 0` says nothing of a service whose series have ended (Prometheus, its functions: absent())."""
    test = ["promtool", "test", "rules", str(Path(__file__).with_name("alerts_test.yml"))]

    run = subprocess.run(test, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stdout + run.stderr


def test_each_host_may_run_several_processes(start_worker: StartWorker, api: Api) -> None:
    port = port_of(api.output)

    second = start_worker(APP_METRICS__ENABLED="true", APP_METRICS__PORT=str(port))

    assert port < port_of(second.output) < port + 16
