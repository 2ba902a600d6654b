"""The images are small, run as nobody, write nowhere, and hold what they need to run and no more.

They are built for real where a Docker engine answers; tests of the recipe alone run everywhere.
"""

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from .engine import ROOT, docker, require_engine, run

RECIPE = (ROOT / "Dockerfile").read_text()
BUILDS = {
    "api": ("--build-arg", "PACKAGE=api"),
    "worker": ("--build-arg", "PACKAGE=worker"),
    "migrate": ("--target", "migrate"),
}
LOCKS = {
    "api": "packages/api/requirements.lock",
    "worker": "packages/worker/requirements.lock",
    "migrate": "migrations/requirements.lock",
}
OURS = {
    "api": {"app_runtime", "app_db", "app_auth", "app_api"},
    "worker": {"app_runtime", "app_db", "app_auth", "app_worker"},
    "migrate": {"app_runtime", "app_db"},
}
BUDGET = {"api": 111, "worker": 105, "migrate": 64}
"""Millions of bytes on top of the public Python image, uncompressed: the measured size and a tenth more."""
BASE = "python:3.13-slim"

pytestmark = pytest.mark.timeout(900)  # the first build of an image downloads its packages
images = pytest.mark.parametrize("image", list(BUILDS))


@cache
def built(image: str) -> str:
    """Build an image, or find it built, and return its id."""
    require_engine()
    tag = f"image-test-{image}"
    run("docker", "build", "--quiet", "--tag", tag, *BUILDS[image], ".")
    return docker("image", "inspect", "--format", "{{.Id}}", tag)


@cache
def base() -> str:
    """Return the public Python image: a builder may have fetched its layers and kept no image of them."""
    if subprocess.run(["docker", "image", "inspect", BASE], capture_output=True, check=False).returncode:
        docker("pull", "--quiet", BASE)
    return BASE


def inspected(image: str) -> Any:  # Any: JSON
    return json.loads(docker("image", "inspect", image))[0]


def inside(image: str, *command: str) -> str:
    """Run a command in a container as in production: nothing can be written but /tmp, and nothing is allowed."""
    sandbox = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true")
    return docker("run", "--rm", "--network", "none", *sandbox, built(image), *command)


def python(image: str, code: str) -> Any:  # Any: JSON
    return json.loads(inside(image, "python", "-c", f"import json\n{code}"))


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


@images
def test_an_image_holds_what_its_lock_file_names_and_our_packages_and_nothing_else(image: str) -> None:
    locked = set(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / LOCKS[image]).read_text(), re.MULTILINE))

    found = python(
        image,
        "from importlib.metadata import distributions\n"
        "paths = ['/code', __import__('site').getsitepackages()[0]]\n"
        "print(json.dumps([(d.name, d.version) for d in distributions(path=paths)]))",
    )

    installed = {(normalized(name), version) for name, version in found}
    assert {name for name, _ in installed} >= OURS[image]
    others = {each for each in installed if each[0] not in OURS[image]}
    # A lock file also names what only other platforms need.
    assert others <= {(normalized(name), version) for name, version in locked}


@images
def test_an_image_adds_no_more_than_its_budget(image: str) -> None:
    added = inspected(built(image))["Size"] - inspected(base())["Size"]

    assert added / 1e6 < BUDGET[image]


@images
def test_an_image_runs_as_nobody_and_is_told_to_stop_by_sigterm(image: str) -> None:
    config = inspected(built(image))["Config"]

    assert (config["User"], config["StopSignal"]) == ("10001:10001", "SIGTERM")
    assert inside(image, "id", "-u") == "10001"


@images
def test_an_image_starts_its_program_without_a_shell(image: str) -> None:
    config = inspected(built(image))["Config"]

    assert config["Cmd"][0] in {"python", "alembic"}
    assert not config["Entrypoint"]


@images
def test_no_image_holds_a_compiler_or_an_installer_of_ours(image: str) -> None:
    tools = ("uv", "uvx", "gcc", "cc", "g++", "make", "git")

    found = python(image, f"import shutil\nprint(json.dumps([name for name in {tools} if shutil.which(name)]))")

    assert found == []


@images
def test_an_image_says_what_it_is(image: str) -> None:
    labels = inspected(built(image))["Config"]["Labels"]

    assert labels["org.opencontainers.image.title"] == f"app-{image}"
    assert {"version", "revision", "licenses"} <= {label.rpartition(".")[2] for label in labels}


@images
def test_nothing_in_an_image_belongs_to_whom_it_runs_as(image: str) -> None:
    written = inside(
        image, "find", "/app", "/code", "/srv", "(", "-user", "10001", "-o", "-perm", "-o+w", ")", "!", "-type", "l"
    )

    assert written == ""


@pytest.mark.parametrize("image", ["api", "worker"])
def test_an_image_that_serves_knows_how_to_be_asked_for_its_health(image: str) -> None:
    check = inspected(built(image))["Config"]["Healthcheck"]["Test"]

    assert check[0] == "CMD"
    assert check[-1] == {"api": "/probe/live", "worker": "/health"}[image]


@pytest.mark.parametrize("image", ["api", "worker"])
def test_only_the_image_that_migrates_holds_alembic_and_the_revisions(image: str) -> None:
    has_alembic = (
        "import importlib.util, os\nprint(json.dumps([bool(importlib.util.find_spec('alembic')), os.listdir('/srv')]))"
    )

    assert python(image, has_alembic) == [False, ["health.py"]]
    assert "head" in inside("migrate", "alembic", "heads")


@pytest.mark.parametrize(
    ("image", "command", "shown"),
    [
        ("api", ["python", "-m", "app_api", "--help"], "The HTTP API."),
        ("worker", ["python", "-m", "app_worker", "--help"], "Runs background jobs"),
        ("migrate", ["alembic", "upgrade", "head", "--sql"], "CREATE TABLE"),
    ],
)
def test_an_image_works_where_nothing_can_be_written(image: str, command: list[str], shown: str) -> None:
    assert shown in inside(image, *command)


@images
def test_an_image_finds_its_code_whoever_sets_the_path_of_python(image: str) -> None:
    """open-telemetry/opentelemetry-operator #1884: a PYTHONPATH from outside takes the place of the image's."""
    code = "import app_db, json, sitecustomize; print(json.dumps(sitecustomize.__file__))"

    found = docker("run", "--rm", "--env", "PYTHONPATH=/other", built(image), "python", "-c", code)

    assert json.loads(found) == "/code/sitecustomize.py"


def test_a_change_of_our_code_changes_the_last_layer_alone(tmp_path: Path) -> None:
    before = inspected(built("api"))["RootFS"]["Layers"]
    for name in ("Dockerfile", ".dockerignore", "pyproject.toml", "deploy/health.py", "deploy/requirements.lock"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("packages", "migrations"):
        shutil.copytree(ROOT / name, tmp_path / name)
    with (tmp_path / "packages/api/src/app_api/main.py").open("a") as source:
        source.write("# changed\n")

    image = run("docker", "build", "--quiet", *BUILDS["api"], tmp_path).split()[-1]

    after = inspected(image)["RootFS"]["Layers"]
    docker("image", "rm", image)
    assert after[:-1] == before[:-1]
    assert after[-1] != before[-1]


def test_the_image_is_built_by_the_same_uv_as_the_checkout() -> None:
    pinned = re.search(r"^version=(\S+)", (ROOT / "scripts/uv.sh").read_text(), re.MULTILINE)

    assert pinned
    assert f"\nuv=={pinned[1]} " in (ROOT / "deploy/requirements.lock").read_text()


def test_no_file_of_the_clone_keeps_the_mode_that_it_was_cloned_with() -> None:
    """After `umask 077` only root could read the files: each stage that copies files makes them readable."""
    _, *stages = re.split(r"^FROM ", RECIPE, flags=re.MULTILINE)
    ours = [stage for stage in stages if re.search(r"^COPY (?!--from)(?!\S*requirements\.lock)", stage, re.MULTILINE)]

    assert [stage.splitlines()[0] for stage in ours if "chmod -R a+rX" not in stage] == []
    assert not [stage for stage in ours if stage.startswith(("base", "package"))]


def test_every_installation_from_an_index_checks_hashes() -> None:
    installs = re.findall(r"pip install (.*)", RECIPE)

    assert all("--require-hashes" in install or "/wheels/*.whl" in install for install in installs)
    assert sum("--require-hashes" in install for install in installs) == 3


def test_no_index_is_asked_for_what_builds_our_wheels() -> None:
    builds = re.findall(r"uv build (.*)", RECIPE)

    assert len(builds) == 2
    assert all("--offline" in build for build in builds)


def test_commands_of_the_recipe_have_no_shell_around_them() -> None:
    commands = re.findall(r"^(?:HEALTHCHECK .* )?(?:CMD|ENTRYPOINT) (.*)", RECIPE, re.MULTILINE)

    assert len(commands) == 5
    assert all(json.loads(command) for command in commands)
