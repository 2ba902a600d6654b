"""The tests read the manifests as kustomize renders them."""

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml

from tests.docs.kustomize import Manifest, NotRendered, render
from tests.docs.manifests import APPLIED, COMPONENTS, FOLDER, named

DIGEST = f"sha256:{'0123456789abcdef' * 4}"


@cache
def program() -> list[str]:
    """Return the command of a kustomize from 5 on; older ones know no components, or print warnings."""
    kubectl = ("kubectl", "kustomize"), ("kubectl", "version", "--client")
    for command, version in (kubectl, (("kustomize", "build"), ("kustomize", "version"))):
        if shutil.which(command[0]):
            said = subprocess.run(version, capture_output=True, text=True, check=False).stdout
            found = re.search(r"^(?:Kustomize Version: )?v(\d+)", said, re.MULTILINE)
            if found and int(found[1]) >= 5:
                return [*command]
    return []


def by_kustomize(kustomization: Manifest, folder: Path) -> list[Manifest]:
    """Return what kustomize makes of a file in an empty folder; it takes relative paths only."""
    away = os.path.relpath(FOLDER, folder)
    moved = {part: [f"{away}/{path}" for path in kustomization[part]] for part in ("resources", "components")}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization | moved))
    run = subprocess.run([*program(), str(folder)], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    return [*yaml.safe_load_all(run.stdout)]


@pytest.mark.parametrize("chosen", [None, [], COMPONENTS], ids=str)
def test_kustomize_makes_of_the_files_what_the_tests_read(chosen: list[str] | None, tmp_path: Path) -> None:
    if not program():
        pytest.skip("neither kubectl nor kustomize is installed, or they are old")
    pinned = [{"name": image["name"], "newName": image["newName"], "digest": DIGEST} for image in APPLIED["images"]]
    kustomization = APPLIED if chosen is None else APPLIED | {"components": chosen, "images": pinned}

    found = by_kustomize(kustomization, tmp_path)

    assert sorted(found, key=named) == sorted(render(kustomization, FOLDER), key=named)


@pytest.mark.parametrize(
    "kustomization",
    [
        {"nameSuffix": "-2"},
        {"resources": ["base"], "images": [{"name": "app-api", "tagSuffix": "-2"}]},
        {"resources": ["base"], "configMapGenerator": [{"name": "settings", "envs": [], "behavior": "merge"}]},
        {"resources": ["base"], "patches": [{"patch": "[{op: remove, path: /spec/replicas}]"}]},
        {"resources": ["base"], "patches": [{"target": {"labelSelector": "a=b"}, "patch": "{spec: {}}"}]},
        {"resources": ["base"], "patches": [{"target": {"name": "api"}, "patch": "{spec: {ports: []}}"}]},
        {"resources": ["base"], "patches": [{"patch": "{kind: Deployment, metadata: {name: apy}}"}]},
    ],
    ids=str,
)
def test_what_the_renderer_does_not_know_is_refused(kustomization: Manifest) -> None:
    with pytest.raises(NotRendered):
        render(kustomization, FOLDER)
