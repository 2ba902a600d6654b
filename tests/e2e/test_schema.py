"""The description of the API, and the API that runs, say the same."""

import os
import subprocess
import sys
from asyncio import to_thread
from pathlib import Path

import pytest

from .http_site import HttpSite

SECONDS = os.environ.get("SCHEMATHESIS_SECONDS", "15")
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


@pytest.mark.timeout(240 + 2 * int(SECONDS))
async def test_schemathesis_finds_nothing(http_site: HttpSite, tmp_path: Path) -> None:
    token = await http_site.operator_token()
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION), "run"]
    options = ["--max-time", SECONDS, "--header", f"Authorization: Bearer {token}", "--no-color"]

    done = await to_thread(
        subprocess.run,
        [*command, *options, f"{http_site.api.url}/openapi.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
