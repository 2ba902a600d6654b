"""compose.pooler.yaml puts PgBouncer between the containers of compose.yaml, as the component of Kubernetes does."""

import re
import subprocess
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import make_url

from app_api.main import main
from app_runtime.configuration import lines_of

from .engine import ROOT, compose, run
from .test_compose_file import FILE as PLAIN

OVERRIDE: dict[str, Any] = yaml.safe_load((ROOT / "compose.pooler.yaml").read_text())  # Any: YAML
SERVICES: dict[str, Any] = OVERRIDE["services"]  # Any: YAML
NEW = sorted(set(SERVICES) - set(PLAIN["services"]))
APPLICATIONS = ("api", "worker")


def configuration(path: str) -> ConfigParser:
    parsed = ConfigParser()
    parsed.read(ROOT / path)
    return parsed


POOLER = configuration("deploy/pgbouncer.ini")["pgbouncer"]


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The volumes of secrets, as `secrets` and `pooler-secrets` leave them."""
    for volume in ("app", "pooler"):
        (tmp_path / volume).mkdir()
    server = ["--database", "postgresql://postgres:5432/app", "--redis", "redis://valkey:6379/0"]
    monkeypatch.setenv("APP_REDIS__TLS", "off")  # as the service `secrets` is told
    main(["config", "init", str(tmp_path / "app/secrets.env"), *server])
    make_secrets(tmp_path)
    return tmp_path


def make_secrets(folder: Path) -> None:
    script = SERVICES["pooler-secrets"]["command"][-1].replace("$$", "$").replace("/secrets/", f"{folder}/")
    as_anybody = re.sub(r"^chown .*\n", "", script, flags=re.MULTILINE)
    subprocess.run(["sh", "-euc", as_anybody], check=True)


def url(secrets: Path, variable: str, service: str) -> Any:  # Any: a URL
    path = SERVICES[service]["environment"][variable]
    return make_url((secrets / path.removeprefix("/secrets/")).read_text().strip())


def test_compose_accepts_both_files_together() -> None:
    run(*compose(), "--file", "compose.yaml", "--file", "compose.pooler.yaml", "config", "--quiet")


@pytest.mark.parametrize("service", NEW)
def test_a_container_of_the_pooler_has_few_rights_and_limits(service: str) -> None:
    container = SERVICES[service]

    assert container["read_only"]
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "pids_limit", "cpus"} <= set(container)


@pytest.mark.parametrize("service", APPLICATIONS)
def test_an_application_goes_through_the_pooler_and_knows_the_way_past_it(service: str, secrets: Path) -> None:
    through, past = (url(secrets, f"APP_DATABASE__{name}_FILE", service) for name in ("URL", "DIRECT_URL"))

    assert SERVICES[service]["environment"]["APP_DATABASE__POOLER"] == "transaction"
    assert (through.host, through.port) == ("pooler", int(POOLER["listen_port"]))
    assert (past.host, past.port) == ("postgres", 5432)
    assert through.set(host=past.host, port=past.port) == past


def test_the_pooler_lets_in_both_roles_with_their_passwords(secrets: Path) -> None:
    urls = [url(secrets, "APP_DATABASE__URL_FILE", service) for service in APPLICATIONS]
    told = lines_of((secrets / "app/secrets.env").read_text())["APP_DATABASE__URL"]
    made = lines_of((secrets / "app/worker.env").read_text())["APP_DATABASE__URL"]

    assert (secrets / "pooler/users.txt").read_text() == "".join(
        f'"{each.username}" "{each.password}"\n' for each in urls
    )
    assert [each.username for each in urls] == ["app", "worker"]
    assert [each.password for each in urls] == [make_url(told).password, make_url(made).password]


def test_the_secrets_stay_when_they_are_made_again(secrets: Path) -> None:
    before = {path: path.read_text() for path in secrets.rglob("*") if path.is_file()}

    make_secrets(secrets)

    assert {path: path.read_text() for path in secrets.rglob("*") if path.is_file()} == before


def test_nobody_but_the_pooler_learns_who_may_go_through_it() -> None:
    mounting = {name for name, each in SERVICES.items() if "secrets-pooler" in str(each.get("volumes"))}

    assert mounting == {"pooler-secrets", "pooler"}


def test_the_roles_carry_what_sessions_cannot_and_have_room_for_the_sessions() -> None:
    command, plain = SERVICES["roles"]["command"], PLAIN["services"]["roles"]["command"]

    assert command[: len(plain)] == plain
    assert command[len(plain) :] == [
        "--pooler", "transaction", "--worker-secrets", "/secrets/app/worker.env",
        "--pooler-sessions", POOLER["default_pool_size"],
    ]  # fmt: skip


def test_the_pooler_does_what_that_of_kubernetes_does() -> None:
    other = configuration("deploy/kubernetes/components/pooler/pgbouncer.ini")["pgbouncer"]
    same = set(POOLER) & set(other) - {"default_pool_size", "auth_file"}

    assert {name: POOLER[name] for name in same} == {name: other[name] for name in same}
    assert {"pool_mode", "server_login_retry", "auth_type", "max_client_conn"} <= same


def test_the_image_is_that_of_kubernetes() -> None:
    (other,) = (
        image for image in yaml.safe_load((ROOT / "deploy/kubernetes/kustomization.yaml").read_text())["images"]
        if image["name"] == "pgbouncer"
    )  # fmt: skip

    assert SERVICES["pooler"]["image"] == f"${{POOLER_IMAGE:-{other['newName']}:{other['newTag']}}}"
