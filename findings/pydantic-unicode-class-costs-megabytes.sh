#!/bin/sh
# pydantic 2.14.4: a field of text with a pattern, as for names: a word character, a dot or a hyphen, 1 to 64 times.
# Expected: a check of some bytes, whether the class is written as \w or as A-Za-z0-9_; Python's own re compiles both in less than
# a millisecond, and their size differs by nothing.
# Seen: patterns go to Rust's regex, where \w is Unicode's and a bounded repetition is written out. With \w the model costs more
# than 4 MB of a process, for as long as it lives, and 15 times the CPU of one with A-Za-z0-9_ (less than 0.5 MB); each field again.
# \w+ with max_length costs nothing either: it is the bound that multiplies the class.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pydantic==2.14.4
cat > "$folder/measure.py" <<'PYTHON'
import re
import time
from typing import Annotated

from pydantic import Field, TypeAdapter


def private_kb():
    rollup = open("/proc/self/smaps_rollup").read()
    return int(rollup.partition("\nPrivate_Dirty:")[2].split()[0])


def cost(pattern, **more):
    memory, began = private_kb(), time.process_time()
    adapter = TypeAdapter(Annotated[str, Field(pattern=pattern, **more)])
    adapter.validate_python("app.name")
    kept.append(adapter)
    return private_kb() - memory, (time.process_time() - began) * 1000


kept = []
cost("^a")  # what the first pattern of all costs
unicode, ascii_only, unbounded = (
    cost(r"^[\w.-]{1,64}$"),
    cost(r"^[A-Za-z0-9_.-]{1,64}$"),
    cost(r"^[\w.-]+$", max_length=64),
)
again = cost(r"^[\w:.-]{1,64}$")
began = time.process_time()
re.compile(r"^[\w.-]{1,64}$")
for name, (kb, ms) in {"\\w{1,64}": unicode, "A-Za-z0-9_{1,64}": ascii_only, "\\w+": unbounded, "another": again}.items():
    print(f"{name}: {kb} KB, {ms:.1f} ms")
print(f"Python's re: {(time.process_time() - began) * 1000:.1f} ms")
as_seen = unicode[0] > 4000 and again[0] > 4000 and ascii_only[0] < 500 and unbounded[0] < 500
print("as seen" if as_seen else "CHANGED: it was more than 4,000 KB for the first and the last, less than 500 for the others")
raise SystemExit(not as_seen)
PYTHON
"$folder/venv/bin/python" "$folder/measure.py"
