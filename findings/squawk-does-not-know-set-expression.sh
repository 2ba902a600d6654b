#!/bin/sh
# squawk-cli 2.70.0 with --pg-version 18: the expression of a stored generated column is changed
# (ALTER COLUMN … SET EXPRESSION, PostgreSQL 17), which writes the whole table anew under ACCESS EXCLUSIVE.
# Expected: a warning, as for the other two statements that do so: changing-column-type, and adding-field-with-default for a new
# stored generated column.
# Seen: nothing; both others are reported.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet squawk-cli==2.70.0
"$folder/venv/bin/python" - <<'PYTHON'
import json
from pathlib import Path
import subprocess
import sys

STATEMENTS = {
    "set": "ALTER COLUMN doubled SET EXPRESSION AS (n * 3)",
    "type": "ALTER COLUMN doubled TYPE bigint",
    "add": "ADD COLUMN doubled int GENERATED ALWAYS AS (n * 2) STORED",
}
said = {}
for name, action in STATEMENTS.items():
    file = Path(sys.prefix).parent / "revision.sql"
    file.write_text(f"ALTER TABLE t {action};\n")
    command = [Path(sys.prefix) / "bin/squawk", "--reporter", "json", "--pg-version", "18", file]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    said[name] = {each["rule_name"] for each in json.loads(run.stdout)}
print(said)
if said["set"] or "changing-column-type" not in said["type"] or "adding-field-with-default" not in said["add"]:
    raise SystemExit("CHANGED: SET EXPRESSION is reported, or the other two are not")
print("as seen")
PYTHON
