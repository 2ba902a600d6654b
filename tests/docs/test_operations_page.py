"""The page about operations is right about settings, runbooks, files, Secrets and sums."""

import re

import pytest
import yaml

from tests.docs.checkout import ROOT
from tests.docs.kustomize import Manifest
from tests.docs.manifests import FOLDER, PODS, WITH_ALL, named, scalers

PAGE = ROOT / "docs/how-to/operations.md"
TEXT = PAGE.read_text()
SETTING = re.compile(r"\bAPP_[A-Z]+(?:_[A-Z]+)*(?:__[A-Z]+(?:_[A-Z]+)*)?\b")
APPLIED = re.findall(r"^\$ apply '?(!?)([a-z./]+)(?:=(\w+))?'?$", TEXT, re.MULTILINE)
OF_POOLER = (FOLDER / "components/pooler/kustomization.yaml").read_text()
"""Says itself how its Secrets are made and when it is applied."""
CHOSEN = re.findall(r"^#   apply (!?)([a-z./]+)(?:=(\w+))?$", OF_POOLER, re.MULTILINE)


def test_each_alert_has_its_runbook_and_each_runbook_its_alert() -> None:
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    runbooks = TEXT.partition("\n## Runbooks\n")[2]

    assert re.findall(r"^### (\w+)$", runbooks, re.MULTILINE) == [
        rule["alert"] for group in groups for rule in group["rules"]
    ]


def test_the_settings_that_the_page_about_operations_names_exist() -> None:
    known = {*SETTING.findall((ROOT / ".env.example").read_text())}

    assert {*SETTING.findall(TEXT)} <= known


def test_each_manifest_is_applied_once_and_in_the_order_of_a_release() -> None:
    def is_applied(manifest: Manifest, *, absent: str, label: str, value: str) -> bool:
        found = manifest["metadata"]["labels"].get(label)
        return found is None if absent else found == value

    assert [value for _, _, value in APPLIED] == ["", "migrate", "worker", "api"]
    assert [value for _, _, value in CHOSEN] == ["pooler"]
    for manifest in WITH_ALL:
        steps = [*APPLIED, *CHOSEN]
        by = [1 for absent, label, value in steps if is_applied(manifest, absent=absent, label=label, value=value)]
        assert by == [1], named(manifest)


def test_the_secrets_of_the_pods_are_made_with_the_files_that_are_mounted() -> None:
    made = {*re.findall(r"kubectl create secret generic (\w+) --from-file", TEXT + OF_POOLER)}
    mounted = {
        volume["secret"]["secretName"]
        for pod in PODS.values()
        for volume in pod["spec"]["volumes"]
        if "secret" in volume
    }

    assert made == mounted


@pytest.mark.parametrize("name", ["api", "worker"])
def test_the_page_and_the_manifests_scale_alike(name: str) -> None:
    fewest, most = scalers()[name]
    (cells,) = re.findall(rf"^\| `{name}` \|(.*)$", TEXT, re.MULTILINE)

    assert f"{fewest} to {most}" in cells
