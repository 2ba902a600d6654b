"""The commands of docs/how-to/operations.md for building and for the first steps work as they stand."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app_runtime.testing.processes import wait_until
from tests.docs.checkout import ROOT, reader_environment
from tests.docs.pages import Action, steps_of
from tests.docs.performing import reader

from .engine import docker, require_engine

PAGE = ROOT / "docs/how-to/operations.md"
IMAGES = ("api", "worker", "migrate")
HERE = f"blocks-{os.getpid()}"
"""The name in place of the registry, and of the container and its network."""
REGISTRY = {"registry.example.com": HERE}
PATIENCE = 60.0

pytestmark = pytest.mark.timeout(900)  # the first build of an image downloads its packages


def type_block(beginning: str, folder: Path, replace: dict[str, str], **environment: str) -> None:
    """Type the block of the page that begins with this command."""
    (block,) = (s for s in steps_of(PAGE) if s.action is Action.RUN and s.text.startswith(f"$ {beginning}"))
    with reader(folder, env=reader_environment(**environment), replace=replace) as performer:
        performer.do(block)


@pytest.fixture(scope="module")
def images() -> Iterator[dict[str, str]]:
    """The ids of the images that the page builds, by their program."""
    require_engine()
    type_block("export VERSION", ROOT, REGISTRY)
    tags = {image: f"{HERE}/app-{image}:0.1.0" for image in IMAGES}
    yield {image: docker("image", "inspect", "--format", "{{.Id}}", tag) for image, tag in tags.items()}
    docker("image", "rm", *tags.values())


@pytest.fixture
def administrator(images: dict[str, str]) -> Iterator[str]:
    """The URL of an administrator of a Postgres that is as far away as that of the page, which makes no roles yet."""
    docker("network", "create", HERE)
    given = ("--env", "POSTGRES_PASSWORD=password", "--env", "POSTGRES_DB=app")
    docker(
        "run", "--detach", "--name", HERE, "--network", HERE, "--network-alias", "db.internal", *given, "postgres:18"
    )
    ready = ("docker", "exec", HERE, "pg_isready", "--quiet", "--host=127.0.0.1", "--dbname=app")
    try:
        assert wait_until(lambda: not subprocess.run(ready, check=False, capture_output=True).returncode, PATIENCE)
        yield "postgresql://postgres:password@db.internal:5432/app"
    finally:
        docker("rm", "--force", "--volumes", HERE)
        docker("network", "rm", HERE)


def query(sql: str) -> str:
    return docker("exec", HERE, "psql", "--username=postgres", "--dbname=app", "-qAtc", sql)


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_says_of_which_version_and_revision_it_is(image: str, images: dict[str, str]) -> None:
    label = '{{{{index .Config.Labels "org.opencontainers.image.{}"}}}}'.format
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout

    said = [docker("image", "inspect", "--format", label(name), images[image]) for name in ("version", "revision")]

    assert said == ["0.1.0", head.strip()]


def test_secrets_roles_and_schema_are_made_with_nothing_but_the_images(administrator: str, tmp_path: Path) -> None:
    inside = {**REGISTRY, "docker run": f"docker run --network {HERE} --env APP_DATABASE__TLS=off"}

    type_block("in_image()", tmp_path, inside, ADMIN=administrator)

    assert {file.name for file in tmp_path.iterdir()} == {"secrets.env", "secrets.env.migrator"}
    assert {file.stat().st_uid for file in tmp_path.iterdir()} == {os.getuid()}
    assert query("SELECT tableowner FROM pg_tables WHERE tablename = 'users'") == "migrator"
    assert query("SELECT rolconnlimit FROM pg_roles WHERE rolname = 'app'") == "200"


def test_the_wheels_that_the_units_run_are_built(tmp_path: Path) -> None:
    type_block("rm -rf dist", ROOT, {"dist": str(tmp_path / "dist")})

    packages = {path.name.partition("-")[0] for path in (tmp_path / "dist").glob("*.whl")}
    assert packages == {"app_runtime", "app_db", "app_auth", "app_api", "app_worker"}
