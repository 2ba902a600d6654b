#!/bin/sh
# pydantic 2.14.3: a field `datetime | str` is given a str that looks like a time, and the model goes through its own JSON.
# Expected: what came in as a str comes back as a str: in Python the union keeps it ("smart mode": the exact type wins), and in
# JSON the value is a string as well.
# Seen: in Python '2026-01-01T10:00:00Z' stays a str, behind model_dump_json and model_validate_json it is a datetime; so is
# '1700000000', a number in quotes (a day of 2023). With `str | datetime` both stay what they were.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pydantic==2.14.3
"$folder/venv/bin/python" - <<'PYTHON'
from datetime import datetime

from pydantic import BaseModel


class TimeFirst(BaseModel):
    value: datetime | str


class TextFirst(BaseModel):
    value: str | datetime


for text in ("2026-01-01T10:00:00Z", "1700000000"):
    given = TimeFirst(value=text)
    back = TimeFirst.model_validate_json(given.model_dump_json())
    other = TextFirst.model_validate_json(TextFirst(value=text).model_dump_json())
    print(repr(given.value), "comes back as", repr(back.value), "and from `str | datetime` as", repr(other.value))
    if type(given.value) is not str or not isinstance(back.value, datetime) or other.value != text:
        raise SystemExit("CHANGED: it does not come back as a datetime any more, or the order makes no difference")
print("as seen")
PYTHON
