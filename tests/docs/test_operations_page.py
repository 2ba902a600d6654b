"""The page about operations is right about settings, runbooks, files, Secrets and sums."""

import re

import pytest
import yaml

from tests.docs.checkout import ROOT

PAGE = ROOT / "docs/how-to/operations.md"
TEXT = PAGE.read_text()
SETTING = re.compile(r"\bAPP_[A-Z]+(?:_[A-Z]+)*(?:__[A-Z]+(?:_[A-Z]+)*)?\b")
MANIFESTS = [
    manifest
    for file in sorted((ROOT / "deploy/kubernetes").glob("*.yaml"))
    for manifest in yaml.safe_load_all(file.read_text())
]


def test_each_alert_has_its_runbook_and_each_runbook_its_alert() -> None:
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    runbooks = TEXT.partition("\n## Runbooks\n")[2]

    assert re.findall(r"^### (\w+)$", runbooks, re.MULTILINE) == [
        rule["alert"] for group in groups for rule in group["rules"]
    ]


def test_the_settings_that_the_page_about_operations_names_exist() -> None:
    known = {*SETTING.findall((ROOT / ".env.example").read_text())}

    assert {*SETTING.findall(TEXT)} <= known


def test_the_manifests_that_are_applied_are_those_that_there_are() -> None:
    applied = {*re.findall(r"deploy/kubernetes/(\w+\.yaml)", TEXT)}

    assert applied == {file.name for file in (ROOT / "deploy/kubernetes").iterdir()}


def test_the_secrets_of_the_pods_are_made_with_the_files_that_are_mounted() -> None:
    made = {*re.findall(r"kubectl create secret generic (\w+) --from-file", TEXT)}
    mounted = {
        volume["secret"]["secretName"]
        for manifest in MANIFESTS
        if "template" in manifest.get("spec", {})
        for volume in manifest["spec"]["template"]["spec"]["volumes"]
        if "secret" in volume
    }

    assert made == mounted


@pytest.mark.parametrize("name", ["api", "worker"])
def test_the_page_and_the_manifests_scale_alike(name: str) -> None:
    wanted = ("HorizontalPodAutoscaler", name)
    scaler = next(one["spec"] for one in MANIFESTS if (one["kind"], one["metadata"]["name"]) == wanted)
    (cells,) = re.findall(rf"^\| `{name}\.yaml` \|(.*)$", TEXT, re.MULTILINE)

    assert f"{scaler['minReplicas']} to {scaler['maxReplicas']}" in cells
