"""The manifests of deploy/kubernetes find each other, and what they ask of the applications is there."""

import re
from typing import Any
from urllib.parse import urlsplit

import pytest

from app_runtime.configuration import PREFIX
from app_runtime.sentinels import PORT as SENTINELS
from tests.docs.checkout import ROOT
from tests.docs.kustomize import Manifest
from tests.docs.manifests import (
    APPLICATIONS,
    APPLIED,
    COMPONENTS,
    FOLDER,
    PODS,
    WITH_ALL,
    container,
    manifest,
    named,
    of_kind,
)

NAME = "app.kubernetes.io/name"
DEPLOYMENTS = {each["metadata"]["name"] for each in of_kind("Deployment")}
SELECTING = ("Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy", "PodMonitor")
ROLLED_OUT = [("Job", "migrate"), ("Deployment", "worker"), ("Deployment", "api"), ("ScaledObject", "worker")]
WAVE, HOOK = "argocd.argoproj.io/sync-wave", "argocd.argoproj.io/hook"
POSTGRES, POOLER, VALKEY = 5432, 6432, 6379
"""Where they listen, unless told otherwise."""
NODE_LOCAL = "169.254.20.10/32"
"""Where NodeLocal DNSCache listens, unless told otherwise."""


def selected(manifest: Manifest) -> list[dict[str, str]]:
    """Return the labels of the pods that a manifest selects: none if its selector is empty."""
    spec = manifest["spec"]
    selector = spec["podSelector"] if manifest["kind"] == "NetworkPolicy" else spec["selector"]
    plain = selector if manifest["kind"] == "Service" else selector.get("matchLabels", {})
    one_of = {each["key"]: each["values"] for each in selector.get("matchExpressions", [])}
    wanted = {**{label: [value] for label, value in plain.items()}, **one_of}
    labels = [pod["metadata"]["labels"] for pod in PODS.values()] if wanted else []
    return [pod for pod in labels if all(pod.get(label) in values for label, values in wanted.items())]


@pytest.mark.parametrize("manifest", of_kind(*SELECTING), ids=named)
def test_what_is_selected_is_there(manifest: Manifest) -> None:
    assert selected(manifest)


@pytest.mark.parametrize("manifest", of_kind("Service", "NetworkPolicy", "PodMonitor"), ids=named)
def test_a_port_that_is_named_is_one_of_what_is_selected(manifest: Manifest) -> None:
    spec = manifest["spec"]
    rules = [spec, *spec.get("ingress", []), {"ports": spec.get("podMetricsEndpoints", [])}]
    asked = {port.get("targetPort", port.get("port")) for rule in rules for port in rule.get("ports", [])}
    pods = [PODS[labels[NAME]]["spec"]["containers"][0] for labels in selected(manifest)]

    assert asked <= {port["name"] for pod in pods for port in pod.get("ports", [])}


def hosts() -> dict[str, set[str]]:
    """Return the names under which the outside reaches the API, by who takes the requests."""
    ingress, route = manifest("Ingress", "api")["spec"], manifest("HTTPRoute", "api")["spec"]
    return {
        "Ingress": {rule["host"] for rule in ingress["rules"]},
        "its certificates": {host for one in ingress["tls"] for host in one["hosts"]},
        "HTTPRoute": {*route["hostnames"]},
    }


def test_the_outside_asks_for_the_host_that_mails_and_pages_name() -> None:
    settings = of_kind("ConfigMap")[0]["data"]
    host = urlsplit(settings[f"{PREFIX}PUBLIC_BASE_URL"]).hostname

    assert {*hosts()} == {"Ingress", "its certificates", "HTTPRoute"}
    assert all(found == {host} for found in hosts().values())
    assert host in settings[f"{PREFIX}HTTP__ALLOWED_HOSTS"]


def test_the_outside_reaches_a_port_of_the_service() -> None:
    service = manifest("Service", "api")
    (path,) = manifest("Ingress", "api")["spec"]["rules"][0]["http"]["paths"]
    (reference,) = manifest("HTTPRoute", "api")["spec"]["rules"][0]["backendRefs"]
    port = service["spec"]["ports"][0]

    assert path["backend"]["service"] == {"name": service["metadata"]["name"], "port": {"name": port["name"]}}
    assert reference == {"name": service["metadata"]["name"], "port": port["port"]}


def egress(name: str) -> list[dict[str, Any]]:
    """Return the rules for what the pods of a name may reach."""
    policies = [policy for policy in of_kind("NetworkPolicy") if name in {labels[NAME] for labels in selected(policy)}]
    return [rule for policy in policies for rule in policy["spec"].get("egress", [])]


@pytest.mark.parametrize("name", PODS)
def test_a_pod_reaches_postgres_a_pooler_and_the_resolver_of_its_node(name: str) -> None:
    ports = {port["port"] for rule in egress(name) for port in rule["ports"] if "to" not in rule}
    (names,) = (rule for rule in egress(name) if {port["port"] for port in rule["ports"]} == {53})

    assert {POSTGRES, POOLER} <= ports
    assert {port["protocol"] for port in names["ports"]} == {"UDP", "TCP"}
    assert {"ipBlock": {"cidr": NODE_LOCAL}} in names["to"]


@pytest.mark.parametrize("name", APPLICATIONS)
def test_a_pod_that_asks_valkey_reaches_its_sentinels_too(name: str) -> None:
    assert {VALKEY, SENTINELS} <= {port["port"] for rule in egress(name) for port in rule["ports"]}


def test_the_api_reaches_providers_of_sign_ins_and_nothing_else_over_https() -> None:
    (https,) = (rule for rule in egress("api") if {"port": 443} in rule["ports"])
    refused = {network for one in https["to"] for network in one["ipBlock"]["except"]}

    assert {"10.0.0.0/8", "169.254.0.0/16", "fc00::/7"} <= refused, "no request to a machine of ours, or of the cloud"
    assert not [rule for name in {*PODS} - {"api"} for rule in egress(name) if {"port": 443} in rule["ports"]]


@pytest.mark.parametrize("name", sorted(DEPLOYMENTS))
def test_the_pods_of_a_release_are_spread_over_zones_and_hosts(name: str) -> None:
    spread = PODS[name]["spec"]["topologySpreadConstraints"]

    assert [each["topologyKey"] for each in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    for each in spread:
        assert each["matchLabelKeys"] == ["pod-template-hash"]
        assert each["labelSelector"]["matchLabels"].items() <= PODS[name]["metadata"]["labels"].items()


@pytest.mark.parametrize("name", PODS)
def test_a_quota_admits_each_pod(name: str) -> None:
    resources = container(name)["resources"]

    assert {*resources["requests"]} == {*resources["limits"]} == {"cpu", "memory"}


@pytest.mark.parametrize("name", PODS)
def test_each_image_is_fetched_with_the_secret_of_the_registry(name: str) -> None:
    assert PODS[name]["spec"]["imagePullSecrets"] == [{"name": "registry"}]


def test_each_pod_has_a_priority_that_there_is() -> None:
    (priority,) = of_kind("PriorityClass")

    assert {PODS[name]["spec"]["priorityClassName"] for name in PODS} == {priority["metadata"]["name"]}


def test_the_name_and_the_tag_of_each_image_are_in_one_place() -> None:
    images = {image["name"] for image in APPLIED["images"]}
    files = [*FOLDER.glob("base/*.yaml"), *FOLDER.glob("components/*/*.yaml")]

    assert {*re.findall(r"image: (.*)", "".join(file.read_text() for file in files))} == images
    assert len(images) == len(PODS)


def test_the_file_that_is_applied_names_each_component_that_there_is() -> None:
    assert sorted(COMPONENTS) == sorted(f"components/{folder.name}" for folder in (FOLDER / "components").iterdir())
    assert {*APPLIED["components"]} <= {*COMPONENTS}


def wave(manifest: Manifest) -> int:
    return int(manifest["metadata"].get("annotations", {}).get(WAVE, "0"))


def test_argo_cd_migrates_before_workers_before_the_api() -> None:
    order = [wave(of_kind("ConfigMap")[0]), *(wave(manifest(*one)) for one in ROLLED_OUT)]
    policies = {wave(policy) for policy in of_kind("NetworkPolicy")}

    assert order == sorted({*order})
    assert wave(manifest("Deployment", "pooler")) == order[0]
    assert policies == {order[0]}, "without them the migration might not reach Postgres"


def test_what_may_never_be_called_healthy_holds_nobody_up() -> None:
    last = max(map(wave, WITH_ALL))

    for each in of_kind("HorizontalPodAutoscaler", "ScaledObject", "PodDisruptionBudget", "Ingress", "HTTPRoute"):
        assert wave(each) == last > wave(manifest("Deployment", "api"))


def test_the_job_of_a_release_takes_the_place_of_the_last_ones() -> None:
    """The template of a Job cannot be changed: Argo CD deletes a hook before it makes it, Flux what it is told to."""
    annotations = manifest("Job", "migrate")["metadata"]["annotations"]

    assert (annotations[HOOK], annotations[f"{HOOK}-delete-policy"]) == ("Sync", "BeforeHookCreation")
    assert annotations["kustomize.toolkit.fluxcd.io/force"] == "enabled"


def test_settings_of_the_last_release_are_there_while_its_pods_are() -> None:
    (annotations, *others) = [each["metadata"]["annotations"] for each in of_kind("ConfigMap")]

    assert others == [annotations]
    assert annotations == {"argocd.argoproj.io/sync-options": "PruneLast=true"}


def test_each_setting_has_a_name_of_ours_and_a_value() -> None:
    """kustomize takes a line without `=` for the name of a variable of whoever runs it."""
    for name, value in of_kind("ConfigMap")[0]["data"].items():
        assert re.fullmatch(rf"{PREFIX}[A-Z_]+", name)
        assert value


@pytest.mark.parametrize("name", APPLICATIONS)
def test_a_pod_and_a_unit_of_systemd_have_the_same_memory(name: str) -> None:
    unit = (ROOT / f"deploy/systemd/app-{name}@.service").read_text()
    (limit,) = re.findall(r"^MemoryMax=(\d+)M$", unit, re.MULTILINE)

    assert container(name)["resources"]["limits"]["memory"] == f"{limit}Mi"
