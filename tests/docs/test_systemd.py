"""The units of deploy/systemd are accepted by systemd, and agree with the settings of the applications."""

import re
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from app_api import settings as api
from app_api.settings import HttpSettings
from app_runtime.configuration import NO_SETTINGS, variables
from app_worker import settings as worker
from tests.docs.checkout import ROOT

UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))
MARGIN = timedelta(seconds=5)
"""Time to close connections and to end the interpreter."""
VARIABLE = re.compile(r"^Environment=(?P<name>\w+)=(?P<value>.*)$", re.MULTILINE)
HARDENING = re.compile(r"^DynamicUser=yes\n.*^UMask=0077$", re.MULTILINE | re.DOTALL)


def unit(name: str) -> str:
    return next(path for path in UNITS if name in path.name).read_text()


def environment(name: str) -> dict[str, str]:
    return {found["name"]: found["value"] for found in VARIABLE.finditer(unit(name))}


def stop_timeout(name: str) -> timedelta:
    found = re.search(r"^TimeoutStopSec=(\d+)$", unit(name), re.MULTILINE)
    assert found
    return timedelta(seconds=int(found[1]))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed here")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    for path in UNITS:
        # Not the Python of the checkout: systemd may refuse its path.
        programs_that_exist = re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/sh", path.read_text())
        instance = path.name.replace("@.", "@8000.")
        (tmp_path / instance).write_text(programs_that_exist)

    verified = subprocess.run(
        ["systemd-analyze", "verify", *tmp_path.iterdir()], capture_output=True, text=True, check=False
    )

    assert (verified.returncode, verified.stderr) == (0, "")


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_names_settings_that_exist(path: Path) -> None:
    known = {variable.name for model in (api.ApiSettings, worker.WorkerSettings) for variable in variables(model)}

    assert environment(path.name).keys() <= known | NO_SETTINGS


def test_the_units_are_confined_alike() -> None:
    confined = {found[0] for path in UNITS if (found := HARDENING.search(path.read_text()))}

    assert (len(UNITS), len(confined)) == (3, 1)


def test_the_unit_of_the_api_leaves_the_time_to_drain() -> None:
    delay = timedelta(seconds=int(environment("-api")["APP_HTTP__DRAIN_DELAY"]))

    assert stop_timeout("-api") >= delay + HttpSettings().drain + MARGIN


def test_the_unit_of_the_worker_leaves_the_time_to_finish() -> None:
    assert stop_timeout("-worker") >= worker.JobSettings().grace + MARGIN


@pytest.mark.parametrize("name", ["-api", "-worker"])
def test_a_unit_that_is_given_a_port_for_metrics_opens_it(name: str) -> None:
    given = environment(name)

    assert (given["APP_METRICS__ENABLED"], "APP_METRICS__PORT" in given) == ("true", True)


def test_only_the_migrations_read_the_file_of_the_role_that_owns_the_tables() -> None:
    readers = [path.name for path in UNITS if "secrets.env.migrator" in path.read_text()]

    assert [name.rpartition("-")[2] for name in readers] == ["migrate.service"]


def test_the_page_starts_the_units_that_there_are() -> None:
    page = (ROOT / "docs/how-to/operations.md").read_text()

    started = {f"{name}@.service" for name in re.findall(r"[ `](\w+-\w+)@\d+", page)}

    assert started == {path.name for path in UNITS if "@" in path.name}
