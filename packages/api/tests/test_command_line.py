"""`python -m app_api` where nothing is set."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app_runtime.testing.plugin import MakeFeatures

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("command", ["serve", "seed", "operator list", "config check", "database roles"])
def test_without_an_environment_a_command_says_in_one_line_how_to_get_one(command: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("APP_")}

    run = subprocess.run(
        [sys.executable, "-m", "app_api", *command.split()],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    *missing, hint = run.stderr.splitlines()
    assert run.returncode == 1
    assert "APP_DATABASE__URL: has to be set" in missing
    assert hint.startswith("hint: beside `make dev`, type `make jobs ARGS=…` or `make api ARGS=…`")
    assert [line for line in missing if not line.startswith("APP_")] == []


SETTINGS = """
from pydantic import BaseModel

class PetSettings(BaseModel, frozen=True):
    age: int = 1
"""
ROUTER = "from fastapi import APIRouter\nrouter = APIRouter()"


@pytest.mark.parametrize(("package", "is_read"), [("app_api.features", True), ("app_db.features", False)])
def test_the_settings_of_its_features_are_read_and_those_of_the_worker_pass(
    make_features: MakeFeatures, tmp_path: Path, package: str, is_read: bool
) -> None:
    files = {"pets/__init__.py": "", "pets/settings.py": SETTINGS, "pets/router.py": ROUTER}
    start = f"""
import runpy, sys, {package}
{package}.__path__.insert(0, {str(tmp_path / make_features(files))!r})
sys.argv[1:] = ["serve"]
runpy.run_module("app_api", run_name="__main__")
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("APP_")}

    run = subprocess.run(
        [sys.executable, "-c", start],
        env={**environment, "APP_PETS__AGE": "old"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 1
    assert "APP_DATABASE__URL: has to be set" in run.stderr
    assert ("APP_PETS__AGE: " in run.stderr) is is_read
