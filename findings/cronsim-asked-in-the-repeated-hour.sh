#!/bin/sh
# cronsim 2.8: CronSim(expression, start) is asked for the next moment with a start inside of the hour that a clock shows twice.
# Expected: a moment later than the start ("CronSim … generates datetimes after it").
# Seen: "30 2 * * *" in Europe/Berlin, asked at the second 02:00 of 2026-10-25 (+01:00), answers 02:30 of the first pass
# (+02:00), which was half an hour before. Whoever asks again with the time of the clock gets the same moment until 02:30.
# "*/15 * * * *" is answered rightly.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet cronsim==2.8 tzdata==2025.2
"$folder/venv/bin/python" - <<'PYTHON'
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim

start = datetime(2026, 10, 25, 2, 0, tzinfo=ZoneInfo("Europe/Berlin"), fold=1)
later = {}
for expression in ("30 2 * * *", "*/15 * * * *"):
    answer = next(CronSim(expression, start))
    later[expression] = answer.astimezone(UTC) > start.astimezone(UTC)
    print(f"{expression}: asked at {start}, answers {answer}:", "later" if later[expression] else "not later")
if later != {"30 2 * * *": False, "*/15 * * * *": True}:
    raise SystemExit("CHANGED: the answer to `30 2 * * *` is later than the start now, or that to `*/15 * * * *` is not")
print("as seen")
PYTHON
