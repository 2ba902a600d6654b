"""The manifests of deploy/kubernetes as they are applied, and with all that can be chosen."""

import re
from typing import Any

from tests.docs.checkout import ROOT
from tests.docs.kustomize import Manifest, read, render

FOLDER = ROOT / "deploy/kubernetes"
APPLIED = read(FOLDER)
COMPONENTS: list[str] = re.findall(
    r"^  (?:# )?- (components/[a-z-]+)", (FOLDER / "kustomization.yaml").read_text(), re.MULTILINE
)
"""What can be chosen, in the order of the file: a component changes what those before it bring."""
MANIFESTS: list[Manifest] = render(APPLIED, FOLDER)
"""What `kubectl apply -k deploy/kubernetes` sends."""
WITH_ALL: list[Manifest] = render(APPLIED | {"components": COMPONENTS}, FOLDER)
"""The same with every component, also those that are in place of another."""
WITH_PODS = ("Deployment", "Job")
PODS: dict[str, Manifest] = {
    manifest["metadata"]["name"]: manifest["spec"]["template"] for manifest in WITH_ALL if manifest["kind"] in WITH_PODS
}

POOLER = "pooler"
"""The pods of PgBouncer."""
APPLICATIONS = ("api", "worker")
"""The Deployments whose images are built from this checkout."""


def named(manifest: Manifest) -> str:
    """Return the name of a test of a manifest."""
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def of_kind(*kinds: str) -> list[Manifest]:
    """Return all manifests of some kinds."""
    return [manifest for manifest in WITH_ALL if manifest["kind"] in kinds]


def manifest(kind: str, name: str) -> Manifest:
    """Return one manifest."""
    return next(manifest for manifest in WITH_ALL if named(manifest) == f"{kind} {name}")


def container(name: str) -> Manifest:
    """Return the container of the pods of this name."""
    found: Manifest = PODS[name]["spec"]["containers"][0]
    return found


def scale_down(name: str) -> Manifest:
    """Return how the autoscaler of a Deployment ends pods."""
    (spec,) = (
        each["spec"]
        for each in of_kind("HorizontalPodAutoscaler", "ScaledObject")
        if each["spec"]["scaleTargetRef"]["name"] == name
    )
    if "advanced" in spec:  # KEDA's, which makes a HorizontalPodAutoscaler
        spec = spec["advanced"]["horizontalPodAutoscalerConfig"]
    found: Manifest = spec["behavior"]["scaleDown"]
    return found


def scalers() -> dict[str, tuple[int, int]]:
    """Return the fewest and the most pods that the autoscaler of each Deployment allows, by its name."""
    found: dict[str, tuple[int, int]] = {}
    for each in of_kind("HorizontalPodAutoscaler", "ScaledObject"):
        spec: dict[str, Any] = each["spec"]
        is_keda = each["kind"] == "ScaledObject"
        fewest, most = ("minReplicaCount", "maxReplicaCount") if is_keda else ("minReplicas", "maxReplicas")
        assert spec["scaleTargetRef"]["name"] not in found, "two autoscalers of one Deployment undo each other's work"
        found[spec["scaleTargetRef"]["name"]] = spec[fewest], spec[most]
    return found
