#!/bin/sh
# cronsim 2.8: "*/7 2 * * *" and "5 */2 * * *" in Australia/Lord_Howe on 2026-04-05, when the clock goes back by half an hour, from
# 02:00 (+11:00) to 01:30 (+10:30). So 01:30 to 02:00 is shown twice, and each minute of 02:00 to 03:00 once.
# Expected: what fits the expression on that clock: 02:00, 02:07, … 02:56 (nine moments), and 02:05 besides 00:05 and 04:05.
# Seen: the first one is at 02:35: the five of 02:00 to 02:28 are lost. The second one goes from 00:05 to 04:05. On the next day
# all are there.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet cronsim==2.8 tzdata==2025.2
"$folder/venv/bin/python" - <<'PYTHON'
from datetime import datetime
from itertools import takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim


def moments(expression: str, day: int) -> list[str]:
    start = datetime(2026, 4, day - 1, 23, 59, tzinfo=ZoneInfo("Australia/Lord_Howe"))
    of_the_day = takewhile(lambda moment: moment.day == day and moment.hour < 5, CronSim(expression, start))
    return [f"{moment:%H:%M}" for moment in of_the_day]


seen = {expression: (moments(expression, 5), moments(expression, 6)) for expression in ("*/7 2 * * *", "5 */2 * * *")}
for expression, (changing, usual) in seen.items():
    print(expression, "| that day:", *changing, "| the next:", *usual)
(short, whole), (two, three) = seen.values()
if (short, len(whole)) != (["02:35", "02:42", "02:49", "02:56"], 9):
    raise SystemExit("CHANGED: `*/7 2 * * *` has other moments")
if (two, three) != (["00:05", "04:05"], ["00:05", "02:05", "04:05"]):
    raise SystemExit("CHANGED: `5 */2 * * *` has other moments")
print("as seen")
PYTHON
