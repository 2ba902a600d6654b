#!/bin/sh
# SQLAlchemy 2.1.9's AsyncAdaptedQueuePool (aiosqlite 0.22.1, pool_size 1, no overflow): one task holds the connection, and three others
# wait for it. The task gives it back and asks for it again, eight times.
# Expected: those that have waited longest go first, in the order in which they came, and the task that asks again is served last.
# Seen: it is served at once each time, before all that wait; they follow when it stops asking, and not in their order: "c a b". A waiter is
# woken when the connection is given back, but does not own it: whoever asks before the waiter's turn of the event loop takes it, and the
# waiter begins to wait anew, behind the others.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet sqlalchemy==2.1.9 aiosqlite==0.22.1 greenlet==3.5.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

AGAIN = 8


async def main() -> None:
    engine = create_async_engine(
        "sqlite+aiosqlite:///file.db", poolclass=AsyncAdaptedQueuePool, pool_size=1, max_overflow=0, pool_timeout=10
    )
    served = []

    async def wait(name: str) -> None:
        async with engine.connect() as connection:
            served.append(name)
            await connection.execute(text("SELECT 1"))

    connection = await engine.connect()
    waiting = [asyncio.create_task(wait(name)) for name in "abc"]
    await asyncio.sleep(0.2)
    for _ in range(AGAIN):
        await connection.close()
        connection = await engine.connect()
        served.append("again")
    await connection.close()
    await asyncio.gather(*waiting)
    await engine.dispose()
    print("served:", " ".join(served))
    if served[:AGAIN] != ["again"] * AGAIN:
        raise SystemExit("those that wait are served before the newcomer")
    print("as seen")


asyncio.run(main())
PYTHON
