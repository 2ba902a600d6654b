"""The process of the API, as `python -m app_api` starts it."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration

PROGRAM = """
import gc, runpy, sys
sys.argv = ["app_api", "--help"]
try:
    runpy.run_module("app_api", run_name="__main__")
finally:
    print(f"frozen: {gc.get_freeze_count()}, enabled: {gc.isenabled()}", file=sys.stderr)
"""


def test_the_imports_of_an_api_are_frozen() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=90)

    frozen, enabled = ended.stderr.strip().removeprefix("frozen: ").split(", enabled: ")
    assert int(frozen) > 100_000
    assert enabled == "True"
