"""`.ci/run` installs what tests need that else skip themselves, and gives a test that failed a second chance."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.checkout import ROOT

SCRIPT = (ROOT / ".ci/run").read_text()
RUN_LANE = """
set -uo pipefail
unstable=()
{lane}
lane tests
echo "status $?, unstable: ${{unstable[*]}}"
"""
MAKEFILE = """
tests:
\t@"{python}" -m pytest test_it.py -p no:xdist $(if $(AGAIN),--last-failed --last-failed-no-failures none)
"""
PASSES_AT_SECOND_RUN = """
from pathlib import Path

def test_a():
    seen = Path("seen")
    was_there = seen.exists()
    seen.touch()
    assert was_there

def test_b():
    assert not Path("b").exists()
    Path("b").touch()
"""
FAILS = "def test_a(): assert False\ndef test_b(): pass\n"
FOUR_FAIL_ONCE = """
from pathlib import Path
import pytest

@pytest.mark.parametrize("name", "abcd")
def test_a(name):
    was_there = Path(name).exists()
    Path(name).touch()
    assert was_there
"""
IS_INTERRUPTED = "def test_a(): assert False\ndef test_b(): raise KeyboardInterrupt\n"
CANNOT_BE_IMPORTED = "import nowhere\n"


def run_lane(folder: Path, tests: str) -> str:
    """Run the script's function `lane` on a file of tests, and return the last line of the output."""
    (found,) = re.findall(r"^lane\(\) \{.*?^\}$", SCRIPT, re.MULTILINE | re.DOTALL)
    (folder / "Makefile").write_text(MAKEFILE.format(python=sys.executable))
    (folder / "test_it.py").write_text(tests)
    (folder / "pytest.toml").touch()
    command = ["bash", "-c", RUN_LANE.format(lane=found)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


def test_no_function_of_the_script_is_taken_for_a_program_that_it_looks_for() -> None:
    """POSIX, `command -v`: it finds functions too, so the program would count as installed, and tests be skipped."""
    functions = set(re.findall(r"^(\w+)\(\) \{", SCRIPT, re.MULTILINE))
    programs = set(re.findall(r"command -v (\w+)", SCRIPT))
    programs |= {name for names in re.findall(r"for program in ([\w ]+);", SCRIPT) for name in names.split()}

    assert {"promtool", "chromium"} <= programs
    assert functions.isdisjoint(programs)


def test_a_test_that_failed_passes_alone_and_is_named(tmp_path: Path) -> None:
    assert run_lane(tmp_path, PASSES_AT_SECOND_RUN) == "status 0, unstable: test_it.py::test_a"


def test_a_lane_that_passes_names_nothing(tmp_path: Path) -> None:
    assert run_lane(tmp_path, "def test_a(): pass\n") == "status 0, unstable: "


@pytest.mark.parametrize("tests", [FAILS, FOUR_FAIL_ONCE, IS_INTERRUPTED, CANNOT_BE_IMPORTED])
def test_what_fails_twice_or_often_or_ends_the_run_is_red(tmp_path: Path, tests: str) -> None:
    assert run_lane(tmp_path, tests) == "status 1, unstable: "


@pytest.mark.parametrize("target", ["test", "test-integration", "test-tools", "test-e2e"])
def test_each_lane_can_run_what_failed_alone(target: str) -> None:
    command = ["make", "--dry-run", target, "AGAIN=1"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert f"step lane {target}" in SCRIPT
    assert "-n 0 --last-failed --last-failed-no-failures none" in said
