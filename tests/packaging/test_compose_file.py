"""compose.yaml fits the programs, and each container has few rights and knows only its own secrets."""

import os
import re
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from app_api.settings import HttpSettings
from app_runtime.testing.servers import BY_CODE_POINTS
from app_worker.settings import JobSettings

from .engine import ROOT, compose, run

FILE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())  # Any: YAML
SERVICES: dict[str, Any] = FILE["services"]  # Any: YAML
OF_OTHERS = {"postgres", "mail", "grafana"}
"""Images that write below their root, or begin as root to give files to another user."""
IMAGES = {"app-api", "app-worker", "app-migrate"}


def mounts(service: str) -> dict[str, str]:
    """Return the target of each mount by its source, without options."""
    return dict(volume.split(":")[:2] for volume in SERVICES[service].get("volumes", []))


def seconds(text: str) -> timedelta:
    return timedelta(seconds=int(text.removesuffix("s")))


def test_compose_accepts_the_file_with_all_profiles() -> None:
    run(*compose(), "--profile", "mail", "--profile", "observability", "config", "--quiet")


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_every_variable_that_a_container_is_given_is_a_setting(service: str) -> None:
    documented = set(re.findall(r"^(?:# )?(APP_\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))

    given = {name for name in SERVICES[service].get("environment", {}) if name.startswith("APP_")}

    assert {name.removesuffix("_FILE") if name != "APP_SECRETS_FILE" else name for name in given} <= documented


@pytest.mark.parametrize("service", sorted(set(SERVICES) - OF_OTHERS))
def test_a_container_can_write_nothing_and_is_allowed_nothing(service: str) -> None:
    container = SERVICES[service]

    assert container["read_only"]
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize(
    ("volume", "services"),
    [
        ("secrets-app", {"secrets", "roles", "api", "worker"}),
        ("secrets-migrator", {"secrets", "roles", "migrate"}),
        ("secrets-admin", {"secrets", "postgres", "roles"}),
    ],
)
def test_a_secret_is_mounted_by_those_alone_who_need_it(volume: str, services: set[str]) -> None:
    assert {service for service in SERVICES if volume in mounts(service)} == services


def test_the_secrets_can_be_made_as_the_service_makes_them(tmp_path: Path) -> None:
    script, environment = SERVICES["secrets"]["command"][-1], SERVICES["secrets"].get("environment", {})
    options = re.search(r"app_api config init \S+ \\\s+(--database \S+ --redis \S+)$", script, re.MULTILINE)
    assert options

    command = (sys.executable, "-m", "app_api", "config", "init", tmp_path / "secrets.env", *options[1].split())
    run(*command, env={"PATH": os.environ["PATH"], **environment})


def test_the_database_sorts_as_that_of_the_tests_does() -> None:
    """Docker's image makes a libc locale by default, whose order changes with the distribution below it."""
    postgres = SERVICES["postgres"]

    assert postgres["environment"]["POSTGRES_INITDB_ARGS"].split() == list(BY_CODE_POINTS)
    assert re.fullmatch(r"\$\{POSTGRES_IMAGE:-postgres:18\.\d+-[a-z]+\}", postgres["image"])


@pytest.mark.parametrize("service", ["api", "worker"])
def test_the_applications_wait_for_the_migration(service: str) -> None:
    container = SERVICES[service]

    assert container["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_a_container_has_limits_of_memory_processes_and_cpu(service: str) -> None:
    assert {"mem_limit", "pids_limit", "cpus"} <= set(SERVICES[service])


def test_a_container_is_given_the_time_that_its_program_takes_to_stop() -> None:
    delay = timedelta(seconds=SERVICES["api"]["environment"]["APP_HTTP__DRAIN_DELAY"])

    assert seconds(SERVICES["api"]["stop_grace_period"]) > delay + HttpSettings().drain
    assert seconds(SERVICES["worker"]["stop_grace_period"]) > JobSettings().grace


def test_the_proxy_has_noticed_before_an_api_closes_its_door() -> None:
    check = re.search(r"check inter (\d+)s fall (\d+)", (ROOT / "deploy/haproxy.cfg").read_text())

    assert check
    assert int(check[1]) * int(check[2]) < SERVICES["api"]["environment"]["APP_HTTP__DRAIN_DELAY"]


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_what_a_container_mounts_of_the_checkout_is_there(service: str) -> None:
    files = [source for source in mounts(service) if source.startswith("./")]

    assert [file for file in files if not (ROOT / file).exists()] == []


def made_readable(folder: Path) -> list[str | Path]:
    """Return the command of the service `configuration`, for a folder of this machine."""
    return [folder if word == "/deploy" else word for word in SERVICES["configuration"]["command"]]


def test_what_is_mounted_of_the_checkout_can_be_read_whatever_umask_it_was_cloned_with(tmp_path: Path) -> None:
    mounting = {name for name in SERVICES if any(source.startswith("./") for source in mounts(name))}
    for name in mounting - {"configuration"}:
        assert SERVICES[name]["depends_on"]["configuration"] == {"condition": "service_completed_successfully"}
        assert all(source.startswith("./deploy") for source in mounts(name) if source.startswith("./"))
    copy = shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)

    subprocess.run(made_readable(copy), check=True)

    for path in (copy, *copy.rglob("*")):
        assert path.stat().st_mode & 0o055 == (0o055 if path.is_dir() else 0o044), path


def test_what_can_be_read_already_is_not_touched(tmp_path: Path) -> None:
    """bigin/Scriptor PR #68, wodby/php #162: on a read-only disk, or for a root that owns nothing, chmod fails."""
    copy = shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    before = {path: path.stat().st_ctime_ns for path in (copy, *copy.rglob("*"))}

    subprocess.run(made_readable(copy), check=True)

    assert {path: path.stat().st_ctime_ns for path in (copy, *copy.rglob("*"))} == before


def test_databases_are_reached_from_the_inner_network_alone() -> None:
    assert FILE["networks"]["back"] == {"internal": True}
    assert [SERVICES[name]["networks"] for name in ("postgres", "valkey")] == [["back"], ["back"]]
    assert not any("ports" in SERVICES[name] for name in ("postgres", "valkey", "api", "worker"))


def test_every_image_of_ours_is_built_here() -> None:
    built = {service["image"] for service in SERVICES.values() if "build" in service}

    assert built == IMAGES


def test_what_is_built_is_told_the_version_and_revision_that_compose_is_given() -> None:
    given = {**os.environ, "VERSION": "1.2.3", "REVISION": "0123abc"}

    resolved = yaml.safe_load(run(*compose(), "config", env=given))["services"]

    built = [service["build"]["args"] for service in resolved.values() if "build" in service]
    assert len(built) >= len(IMAGES)
    assert {(args["VERSION"], args["REVISION"]) for args in built} == {("1.2.3", "0123abc")}


# These tests cannot run the collector, so they look for settings that would keep it from starting or hearing us.
COLLECTOR: dict[str, Any] = yaml.safe_load((ROOT / "deploy/otel-collector.yaml").read_text())  # Any: YAML


def test_each_part_of_the_collector_is_used_and_each_that_is_used_is_there() -> None:
    (pipeline,) = COLLECTOR["service"]["pipelines"].values()

    for part in ("receivers", "processors", "exporters"):
        assert set(pipeline[part]) == set(COLLECTOR[part]), part
    assert set(COLLECTOR["service"]["extensions"]) == set(COLLECTOR["extensions"])
    assert pipeline["processors"][0] == "memory_limiter"


def test_the_collector_listens_where_the_applications_are_told_to_send() -> None:
    _, port = COLLECTOR["receivers"]["otlp"]["protocols"]["http"]["endpoint"].rsplit(":", 1)
    address = f"http://collector:{port}/v1/traces"

    assert address in (ROOT / "compose.yaml").read_text()
    assert address in (ROOT / "deploy/otel-collector.yaml").read_text()
    assert set(SERVICES["api"]["networks"]) & set(SERVICES["collector"]["networks"])
    assert f"{mounts('collector')['./deploy/otel-collector.yaml']}" in SERVICES["collector"]["command"][0]


@pytest.mark.parametrize("service", ["api", "worker"])
def test_traces_are_off_unless_somebody_names_a_collector(service: str) -> None:
    assert SERVICES[service]["environment"]["APP_TRACING__ENDPOINT"] is None
