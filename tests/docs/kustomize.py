"""What kustomize makes of deploy/kubernetes: a renderer of the fields that its files use, and of no other.

test_kustomize.py compares it with the program itself, where that is installed (`kubectl` has it in it).
"""

import json
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

type Manifest = dict[str, Any]  # Any: what YAML holds

FIELDS = {"apiVersion", "kind", "namespace", "resources", "components", "configMapGenerator", "patches", "images"}
GENERATED = "generated"
"""A mark of a ConfigMap whose name gets a hash; it is no field of Kubernetes and is taken away."""
OF_THE_CLUSTER = {"PriorityClass"}
MERGED_BY = {
    "containers": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
}
"""Lists that are merged member by member. A patch with another list is refused here: kustomize's rules are longer."""


class NotRendered(Exception):
    """The files use something of kustomize that this renderer does not know: teach it, or leave it out."""


def render(kustomization: Mapping[str, Any], folder: Path) -> list[Manifest]:
    """Return what `kubectl apply -k` would send for a kustomization whose paths are relative to a folder."""
    manifests = _built(kustomization, folder, [])
    for each in [each for each in manifests if each.pop(GENERATED, False)]:
        name = each["metadata"]["name"]
        each["metadata"]["name"] = hashed = f"{name}-{_hash(each)}"
        for pod in _pods(manifests):
            for container in pod["containers"]:
                for source in container.get("envFrom", []):
                    if source.get("configMapRef") == {"name": name}:
                        source["configMapRef"] = {"name": hashed}
            for volume in pod.get("volumes", []):
                if volume.get("configMap") == {"name": name}:
                    volume["configMap"] = {"name": hashed}
    return manifests


def read(folder: Path) -> Manifest:
    """Return the kustomization of a folder."""
    found: Manifest = yaml.safe_load((folder / "kustomization.yaml").read_text())
    return found


def _built(kustomization: Mapping[str, Any], folder: Path, manifests: list[Manifest]) -> list[Manifest]:
    """Return the manifests with what a kustomization adds to them, and does to all of them."""
    if unknown := {*kustomization} - FIELDS:
        raise NotRendered(f"{folder}: {', '.join(sorted(unknown))}")
    manifests = [*manifests]
    for name in kustomization.get("resources", []):
        path = folder / name
        manifests += _built(read(path), path, []) if path.is_dir() else yaml.safe_load_all(path.read_text())
    manifests = deepcopy(manifests)  # YAML's aliases are one object
    for name in kustomization.get("components", []):
        manifests = _built(read(folder / name), folder / name, manifests)
    manifests += [_generated(one, folder) for one in kustomization.get("configMapGenerator", [])]
    for patch in kustomization.get("patches", []):
        _apply(patch, manifests)
    for each in manifests:
        if "namespace" in kustomization and each["kind"] not in OF_THE_CLUSTER:
            each["metadata"]["namespace"] = kustomization["namespace"]
    images = {image["name"]: _image(image) for image in kustomization.get("images", [])}
    for container in (container for pod in _pods(manifests) for container in pod["containers"]):
        container["image"] = images.get(container["image"].partition(":")[0], container["image"])
    return manifests


def _pods(manifests: list[Manifest]) -> Iterator[Manifest]:
    for each in manifests:
        if "template" in each.get("spec", {}):
            yield each["spec"]["template"]["spec"]


def _generated(generator: Mapping[str, Any], folder: Path) -> Manifest:
    if unknown := {*generator} - {"name", "envs", "files", "options"} | {*generator.get("options", {})} - {"labels"}:
        raise NotRendered(f"{folder}: configMapGenerator: {', '.join(sorted(unknown))}")
    lines = [line.lstrip() for name in generator.get("envs", []) for line in (folder / name).read_text().splitlines()]
    files = {name: (folder / name).read_text() for name in generator.get("files", [])}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": generator["name"], **deepcopy(generator.get("options", {}))},
        "data": dict(line.split("=", 1) for line in lines if line and not line.startswith("#")) | files,
        GENERATED: True,
    }


def _hash(manifest: Manifest) -> str:
    """Return what kustomize appends to the name of a ConfigMap, so that pods are replaced when its content changes."""
    content = {"data": manifest["data"], "kind": "ConfigMap", "name": ""}  # it finds no name where it looks for one
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    for special in "<>&":  # as Go writes JSON
        text = text.replace(special, f"\\u{ord(special):04x}")
    return sha256(text.encode()).hexdigest()[:10].translate(str.maketrans("013ae", "ghkmt"))


def _image(image: Mapping[str, str]) -> str:
    if unknown := {*image} - {"name", "newName", "newTag", "digest"}:
        raise NotRendered(f"images: {', '.join(sorted(unknown))}")
    name = image.get("newName", image["name"])
    return f"{name}@{image['digest']}" if "digest" in image else f"{name}:{image['newTag']}"


def _apply(patch: Mapping[str, Any], manifests: list[Manifest]) -> None:
    change = yaml.safe_load(patch["patch"])
    if not isinstance(change, dict) or {*patch} - {"patch", "target"} or "$patch" in change:
        raise NotRendered(f"patches: {patch}")
    target = patch.get("target") or {"kind": change["kind"], "name": change["metadata"]["name"]}
    if unknown := {*target} - {"kind", "name"}:
        raise NotRendered(f"the target of a patch: {', '.join(sorted(unknown))}")
    whom = [each for each in manifests if _is_meant(each, target)]
    if "target" not in patch and not whom:
        raise NotRendered(f"nothing to patch: {target}")
    for each in whom:
        identity = {field: each[field] for field in ("apiVersion", "kind")} | {"name": each["metadata"]["name"]}
        _merge(each, deepcopy(change))
        each |= {"apiVersion": identity["apiVersion"], "kind": identity["kind"]}
        each["metadata"]["name"] = identity["name"]


def _is_meant(manifest: Manifest, target: Mapping[str, str]) -> bool:
    found = {"kind": manifest["kind"], "name": manifest["metadata"]["name"]}
    return all(re.fullmatch(pattern, found[field]) for field, pattern in target.items())


def _merge(into: Manifest, change: Manifest) -> None:
    """Change a manifest as a strategic merge patch asks for: null takes away, lists are merged by their key."""
    for field, value in change.items():
        if value is None:
            into.pop(field, None)
        elif isinstance(value, dict):
            _merge(into.setdefault(field, {}), value)
        elif isinstance(value, list):
            if field not in MERGED_BY:
                raise NotRendered(f"a list in a patch: {field}")
            key, members = MERGED_BY[field], into.setdefault(field, [])
            for member in value:
                there = next((each for each in members if each[key] == member[key]), None)
                if there is None:
                    members.append(member)
                else:
                    _merge(there, member)
        else:
            into[field] = value
