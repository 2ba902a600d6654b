"""The autoscalers of deploy/kubernetes ask for what there is, and Prometheus finds the pods."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from app_worker.metrics import LedgerCollector
from tests.docs.checkout import ROOT
from tests.docs.kustomize import Manifest, render
from tests.docs.manifests import (
    APPLICATIONS,
    APPLIED,
    FOLDER,
    MANIFESTS,
    PODS,
    WITH_ALL,
    manifest,
    named,
    of_kind,
    scalers,
)

DEPLOYMENTS = {each["metadata"]["name"] for each in of_kind("Deployment")}
RULES = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]


@pytest.mark.parametrize("manifest", of_kind("HorizontalPodAutoscaler", "ScaledObject"), ids=named)
def test_what_is_scaled_is_there(manifest: Manifest) -> None:
    target = manifest["spec"]["scaleTargetRef"]

    assert target in [
        {"apiVersion": each["apiVersion"], "kind": each["kind"], "name": each["metadata"]["name"]} for each in WITH_ALL
    ]


def test_each_application_is_scaled_and_each_deployment_kept_alive() -> None:
    assert {*scalers()} == {*APPLICATIONS}
    assert {each["metadata"]["name"] for each in of_kind("PodDisruptionBudget")} == DEPLOYMENTS


@pytest.mark.parametrize("manifests", [MANIFESTS, WITH_ALL], ids=["applied", "with all"])
def test_a_deployment_that_is_scaled_names_no_replicas(manifests: list[Manifest]) -> None:
    with_replicas = {named(manifest) for manifest in manifests if "replicas" in manifest.get("spec", {})}

    assert not with_replicas & {f"Deployment {name}" for name in scalers()}


def test_a_cluster_without_an_autoscaler_of_ours_runs_as_many_workers_as_it_would_at_least() -> None:
    plain = render(APPLIED | {"components": []}, FOLDER)
    specs = {each["metadata"]["name"]: each["spec"] for each in plain if each["kind"] == "Deployment"}

    replicas = {name: spec["replicas"] for name, spec in specs.items() if "replicas" in spec}

    assert replicas == {"worker": scalers()["worker"][0]}


def trigger() -> Manifest:
    """Return what the number of workers depends on."""
    (found,) = manifest("ScaledObject", "worker")["spec"]["triggers"]
    return dict(found["metadata"]) | {"metricType": found["metricType"]}


def test_workers_are_scaled_by_figures_that_they_export() -> None:
    exported = {family.name for family in LedgerCollector().collect()}
    asked = {*re.findall(r"(\w+)\{", trigger()["query"])}

    assert asked == {"app_job_queue_age_seconds", "app_job_queue_paused"}
    assert asked <= exported


def test_workers_are_scaled_by_the_figures_of_their_namespace_alone() -> None:
    """Prometheus may scrape a second system, such as one for staging."""
    assert {*re.findall(r"\{(.*?)\}", trigger()["query"])} == {f'namespace="{APPLIED["namespace"]}"'}


def test_more_workers_are_there_before_somebody_is_called() -> None:
    (alert,) = (rule["expr"] for group in RULES for rule in group["rules"] if rule["alert"] == "JobsWait")
    (called,) = re.findall(r"> (\d+)", alert)

    assert 0 < int(trigger()["threshold"]) < int(called)


def test_an_age_is_not_divided_by_workers_and_no_figures_end_no_worker() -> None:
    assert (trigger()["metricType"], trigger()["ignoreNullValues"]) == ("Value", "false")


QUERIED = """
rule_files: [rules.yml]
tests:
  - input_series:
      - {series: 'app_job_queue_age_seconds{namespace="groundwork", queue="default", pod="a"}', values: '40'}
      - {series: 'app_job_queue_age_seconds{namespace="groundwork", queue="default", pod="b"}', values: '41'}
      - {series: 'app_job_queue_age_seconds{namespace="groundwork", queue="mail", pod="a"}', values: '900'}
      - {series: 'app_job_queue_age_seconds{namespace="staging", queue="default", pod="c"}', values: '800'}
      - {series: 'app_job_queue_paused{namespace="groundwork", queue="default", pod="a"}', values: '0'}
      - {series: 'app_job_queue_paused{namespace="groundwork", queue="default", pod="b"}', values: '0'}
      - {series: 'app_job_queue_paused{namespace="groundwork", queue="mail", pod="a"}', values: '1'}
      - {series: 'app_job_queue_paused{namespace="staging", queue="default", pod="c"}', values: '0'}
    promql_expr_test: [{expr: asked, eval_time: 0m, exp_samples: [{labels: asked, value: 41}]}]
  - input_series:
      - {series: 'app_job_queue_age_seconds{namespace="groundwork", queue="mail", pod="a"}', values: '900'}
      - {series: 'app_job_queue_paused{namespace="groundwork", queue="mail", pod="a"}', values: '1'}
    promql_expr_test: [{expr: asked, eval_time: 0m, exp_samples: [{labels: asked, value: 0}]}]
  - input_series: []
    promql_expr_test: [{expr: asked, eval_time: 0m, exp_samples: []}]
"""


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed (Debian: the package prometheus)")
def test_the_age_that_scales_workers_is_that_of_the_queues_that_are_not_paused(tmp_path: Path) -> None:
    rules = {"groups": [{"name": "scaling", "rules": [{"record": "asked", "expr": trigger()["query"]}]}]}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    (tmp_path / "test.yml").write_text(QUERIED)

    test = ["promtool", "test", "rules", str(tmp_path / "test.yml")]
    run = subprocess.run(test, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stdout + run.stderr


def test_prometheus_knows_the_pods_by_the_names_that_the_alerts_ask_for() -> None:
    monitor = manifest("PodMonitor", "groundwork")
    (jobs,) = (each["values"] for each in monitor["spec"]["selector"]["matchExpressions"])

    assert monitor["spec"]["jobLabel"] == monitor["spec"]["selector"]["matchExpressions"][0]["key"]
    assert {*jobs} == {*APPLICATIONS}
    for job in jobs:
        assert f'up{{job="{job}"}}' in str(RULES)


def test_a_prometheus_with_a_monitor_scrapes_nothing_twice() -> None:
    for name in DEPLOYMENTS:
        assert "annotations" not in PODS[name]["metadata"]
