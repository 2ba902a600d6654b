"""What `make test COVERAGE=1` measures."""

import os
import subprocess
import sys
from pathlib import Path

from coverage import CoverageData

ROOT = Path(__file__).parents[2]
KILLED_AS_IT_ENDS = """
import atexit, os, signal

import app_api.cors

atexit.register(os.kill, os.getpid(), signal.SIGKILL)

def test_nothing():
    assert app_api.cors
"""


def test_a_process_of_tests_that_is_killed_as_it_ends_has_saved_its_coverage(tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text(KILLED_AS_IT_ENDS)
    program = [sys.executable, "-m", "coverage", "run", "-m", "pytest", "-n", "1", "-p", "conftest"]
    files = ["-c", str(ROOT / "pyproject.toml"), str(tmp_path / "test_nothing.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COVERAGE_FILE": str(tmp_path / ".coverage")}

    done = subprocess.run([*program, *files], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    assert "1 passed" in done.stdout, done.stdout + done.stderr
    measured: set[str] = set()
    for file in tmp_path.glob(".coverage.*"):
        data = CoverageData(basename=str(file))
        data.read()
        measured |= {Path(path).name for path in data.measured_files() if data.lines(path)}
    assert "cors.py" in measured
