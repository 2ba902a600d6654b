#!/bin/sh
# towncrier 26.9.0: a folder has the fragments +good.bugfix.md and 12.feture.md (a misspelt kind), and `towncrier build` is run.
# Expected: it fails and names the file, as `towncrier check` does ("Invalid news fragment name"), or at least says that it has
# left something out.
# Seen: it ends with 0, writes the section with the good one, removes that one, and does not name the other, which stays in the
# folder. The release is out without that line.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet towncrier==26.9.0
"$folder/venv/bin/python" - <<'PYTHON'
from pathlib import Path
import subprocess
import sys

folder = Path(sys.prefix).parent / "project"
fragments = folder / "changelog.d"
fragments.mkdir(parents=True)
(folder / "pyproject.toml").write_text('[tool.towncrier]\nname = "x"\ndirectory = "changelog.d"\nfilename = "NEWS.md"\n')
(fragments / "+good.bugfix.md").write_text("A good one.\n")
(fragments / "12.feture.md").write_text("A misspelt one.\n")
command = [sys.executable, "-m", "towncrier", "build", "--yes", "--version", "1.0"]
run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
news = (folder / "NEWS.md").read_text()
left = [path.name for path in fragments.iterdir()]
print("status", run.returncode, "| left:", left, "| news:", " ".join(news.split()))
if run.returncode or "feture" in run.stdout + run.stderr or "A good one" not in news or left != ["12.feture.md"]:
    raise SystemExit("CHANGED: it fails, or names the file, or writes something else")
print("as seen")
PYTHON
