"""`python -m app_api` where nothing is set."""

import os
import subprocess
import sys

import pytest


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
