"""`make seed-large`: fills the development database as after a year; the benches fill theirs by `seed`.

Of 2,200,000 jobs most have completed; the open ones are a backlog, a schedule, and the few that an operator looks for.
The mix is the same from the oldest to the newest, except that the twenty oldest are of a seldom kind. The audit has a
year, month by month.
"""

import argparse
import asyncio
import os
import sys
import time

import asyncpg

from app_db.settings import DatabaseSettings
from bench.jobs_place import say

ACCOUNTS, SESSIONS, JOBS, AUDIT = 1_000_000, 2_000_000, 2_200_000, 1_000_000
AT_ONCE = 200_000
"""So many rows are a transaction, and a line of progress."""

# Each statement inserts the rows from $2 to $3 of $1 in all. One account in twenty was never verified, one in a
# thousand is disabled, one in ten thousand gets no mail or operates, and a third has never signed in.
_ACCOUNTS = """
    INSERT INTO users (id, email, email_canonical, password_hash, created_at, role, email_verified_at, disabled_at,
        undeliverable_at, signed_in_at)
    SELECT uuidv7(make_interval(secs => number - $1::integer)), 'user' || number || '@example.com',
        'user' || number || '@example.com', '$2b$12$' || repeat('x', 53), now(),
        CASE WHEN number % 10000 = 1 THEN 'operator' ELSE 'user' END, CASE WHEN number % 20 > 0 THEN now() END,
        CASE WHEN number % 1000 = 1 THEN now() END, CASE WHEN number % 10000 = 2 THEN now() END,
        CASE WHEN number % 3 > 0 THEN now() - make_interval(mins => number % 600000) END
    FROM generate_series($2::integer, $3::integer) AS number
"""
# Half of them have expired.
_SESSIONS = """
    INSERT INTO user_sessions (id, user_id, refresh_key_id, idle_expires_at, expires_at)
    SELECT uuidv7(make_interval(secs => number - $1::integer)), ids.list[1 + number % cardinality(ids.list)], 'k1',
        now() + make_interval(secs => CASE WHEN number % 2 = 0 THEN -number ELSE 86400 + number END),
        now() + make_interval(secs => 86400 * 30 + number)
    FROM generate_series($2::integer, $3::integer) AS number, (SELECT array_agg(id) AS list FROM users) AS ids
"""
# A sign-in in ten fails, a third comes from one address, and what operators do is seldom.
_AUDIT = """
    INSERT INTO audit_events (id, happened_at, event, user_id, actor_id, client_address)
    SELECT uuidv7(-age), now() - age, CASE WHEN number % 20000 = 1 THEN 'role_changed' WHEN number % 10 = 2
            THEN 'sign_in_failed' ELSE 'signed_in' END,
        ids.list[1 + number % cardinality(ids.list)], CASE WHEN number % 20000 = 1 THEN ids.list[1] END,
        CASE WHEN number % 3 = 0 THEN '192.0.2.1' ELSE '2001:db8::' || to_hex(number % 9973) END
    FROM generate_series($2::integer, $3::integer) AS number, (SELECT array_agg(id) AS list FROM users) AS ids,
        LATERAL (SELECT ($1::integer - number) * interval '365 days' / $1::integer AS age) AS at
"""
_MONTHS = """
    DO $$
    DECLARE
        month timestamp;
    BEGIN
        FOR month IN SELECT date_trunc('month', now() AT TIME ZONE 'UTC') - make_interval(months => back)
            FROM generate_series(12, 1, -1) AS back WHERE NOT EXISTS (SELECT FROM audit_events)
        LOOP
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF audit_events FOR VALUES FROM (%L) TO (%L)',
                to_char(month, '"audit_events_"YYYY"_"MM'), audit_id_at(month), audit_id_at(month + interval '1 month')
            );
        END LOOP;
        WHILE add_audit_month() IS NOT NULL LOOP
        END LOOP;
    END
    $$
"""
# Thousandths of all: 40 cancelled, 2 discarded, 1 to be tried again, 25 due now, 90 scheduled, the rest completed.
_JOBS = """
    INSERT INTO jobs (id, owner_id, kind, payload, payload_version, queue, state, run_at, created_at, claim_at,
        started_at, finished_at, attempt)
    SELECT uuidv7(-age), ids.list[1 + number % cardinality(ids.list)],
        CASE WHEN number <= 20 THEN 'seldom.kind' WHEN state IN ('scheduled', 'available') THEN 'email.notice'
            ELSE (ARRAY['email.welcome', 'email.link', 'account.link', 'email.notice'])[1 + number % 4] END,
        jsonb_build_object('user_id', number), 1, CASE WHEN number % 10 = 0 THEN 'mail' ELSE 'default' END, state,
        now() - age, now() - age,
        CASE state WHEN 'scheduled' THEN now() + interval '1 day' + age WHEN 'available' THEN now() - interval '1 s'
            WHEN 'retryable' THEN now() + interval '1 hour' END,
        CASE WHEN state IN ('completed', 'discarded') THEN now() - age END,
        CASE WHEN state IN ('completed', 'discarded', 'cancelled') THEN now() - age + interval '20 ms' END, 1
    FROM (
        SELECT number, make_interval(secs => ($1::integer - number) * 0.04) AS age, CASE
            WHEN number % 1000 < 40 THEN 'cancelled' WHEN number % 1000 < 42 THEN 'discarded'
            WHEN number % 1000 = 500 THEN 'retryable' WHEN number % 1000 BETWEEN 600 AND 624 THEN 'available'
            WHEN number % 1000 >= 910 THEN 'scheduled' ELSE 'completed' END AS state
        FROM generate_series($2::integer, $3::integer) AS number
    ) AS jobs, (SELECT array_agg(id) AS list FROM users WHERE id IN (SELECT id FROM users LIMIT 50000)) AS ids
"""
_ERRORS = """
    INSERT INTO job_errors (id, job_id, attempt, failed_at, error)
    SELECT uuidv7(-(now() - run_at)), id, number, run_at, 'TimeoutError: no answer of host ' || number
    FROM jobs, generate_series(1, 5) AS number WHERE state IN ('discarded', 'retryable')
"""
_ON_THEIR_WAY = """
    UPDATE jobs SET state = CASE WHEN number % 10 = 0 THEN 'executing' ELSE 'dispatched' END, fence = 1,
        claim_at = now() + interval '1 hour'
    FROM (SELECT id, row_number() OVER () AS number FROM jobs WHERE state = 'available' LIMIT 100) AS chosen
    WHERE jobs.id = chosen.id
"""


async def seed(
    connection: "asyncpg.Connection[asyncpg.Record]", *, scale: float = 1, sessions: int = SESSIONS, jobs: int = JOBS
) -> None:
    """Fill the migrated, empty database; `scale` times the numbers above."""
    await connection.execute(_MONTHS)
    tables = (("accounts", _ACCOUNTS, ACCOUNTS), ("sessions", _SESSIONS, sessions), ("events", _AUDIT, AUDIT))
    for name, statement, most in (*tables, ("jobs", _JOBS, jobs)):
        count = int(most * scale)
        for first in range(1, count + 1, AT_ONCE):
            last = min(count, first + AT_ONCE - 1)
            await connection.execute(statement, count, first, last, timeout=3600)
            say(f"{last:9,} of {count:9,} {name}")
    for statement in (_ERRORS, _ON_THEIR_WAY):
        await connection.execute(statement, timeout=3600)
    say("vacuuming")
    await connection.execute("VACUUM ANALYZE", timeout=3600)


async def main() -> int:
    """Fill the database of `APP_DATABASE__URL`, unless this has filled it before."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1, help="0.1 is a tenth of all")
    scale: float = parser.parse_args().scale
    began = time.monotonic()
    settings = DatabaseSettings.model_validate({"url": os.environ["APP_DATABASE__URL"]})
    connection = await asyncpg.connect(settings.direct_dsn)
    try:
        if await connection.fetchval("SELECT EXISTS (SELECT FROM users WHERE email_canonical = 'user1@example.com')"):
            print("This database was filled before; `make dev RESET=1` starts over with an empty one.")
            return 1
        await seed(connection, scale=scale)
        size = await connection.fetchval("SELECT pg_size_pretty(pg_database_size(current_database()))")
    finally:
        await connection.close()
    print(f"{size} after {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
