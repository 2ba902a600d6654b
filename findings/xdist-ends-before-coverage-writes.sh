#!/bin/sh
# pytest 9.2.0, pytest-xdist 3.8.0, coverage 7.17.3 with parallel = true and patch = subprocess: one test calls a function of a
# module; its process then takes fifteen seconds to end, as one does that waits for a last export.
# Expected: pytest waits for it, or says that it did not, and coverage has the lines that the test ran.
# Seen: pytest ends after ten seconds with exit code 0 and "1 passed", and no word about the process. Its coverage, which is written
# as the last thing of all, is missing: the module is in no data file. With a process that ends at once it is there.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pytest==9.2.0 pytest-xdist==3.8.0 coverage==7.17.3
cd "$folder"
printf '[run]\nparallel = true\npatch = subprocess\nsource_pkgs = measured\n' > .coveragerc
printf 'def double(number):\n    return 2 * number\n' > measured.py
cat > test_measured.py <<'PYTHON'
import atexit
import os
import time

from measured import double

atexit.register(time.sleep, float(os.environ["SECONDS_TO_END"]))


def test_it():
    assert double(2) == 4
PYTHON
seen=
for seconds in 0 15; do
    rm -f .coverage.*
    PYTHONPATH=. SECONDS_TO_END=$seconds "$folder/venv/bin/python" -m coverage run -m pytest -q -n 1 test_measured.py > log 2>&1
    grep -q "1 passed" log
    found=$("$folder/venv/bin/python" - <<'PYTHON'
from pathlib import Path

from coverage import CoverageData

lines = set()
for file in Path().glob(".coverage.*"):
    data = CoverageData(basename=str(file))
    data.read()
    lines |= {line for path in data.measured_files() if path.endswith("measured.py") for line in data.lines(path) or ()}
print(2 in lines)
PYTHON
)
    echo "a process that takes $seconds s to end: the line that the test ran is in the data: $found"
    seen="$seen $found"
done
[ "$seen" = " True False" ] || { echo "CHANGED: it was True, then False"; exit 1; }
echo "as seen"
