"""Seeds the database of `bench.big_tables`, as large as after a year.

Of 2,200,000 jobs most have completed; the open ones are a backlog, a schedule, and the few that an operator looks for.
The mix is the same from the oldest to the newest, except that the twenty oldest are of a seldom kind.
"""

import asyncpg

ACCOUNTS, SESSIONS, JOBS, AUDIT = 1_000_000, 2_000_000, 2_200_000, 1_000_000

_ACCOUNTS = """
    INSERT INTO users (id, email, email_canonical, password_hash, created_at)
    SELECT uuidv7(make_interval(secs => number - $1::integer)), 'user' || number || '@example.com',
        'user' || number || '@example.com', '$2b$12$' || repeat('x', 53), now()
    FROM generate_series(1, $1::integer) AS number
"""
# Half of them have expired.
_SESSIONS = """
    INSERT INTO user_sessions (id, user_id, refresh_key_id, idle_expires_at, expires_at)
    SELECT uuidv7(make_interval(secs => number - $1::integer)), ids.list[1 + number % cardinality(ids.list)], 'k1',
        now() + make_interval(secs => CASE WHEN number % 2 = 0 THEN -number ELSE 86400 + number END),
        now() + make_interval(secs => 86400 * 30 + number)
    FROM generate_series(1, $1::integer) AS number, (SELECT array_agg(id) AS list FROM users) AS ids
"""
_AUDIT = """
    INSERT INTO audit_events (id, event, user_id)
    SELECT uuidv7(make_interval(secs => number - $1::integer)), 'signed_in',
        ids.list[1 + number % cardinality(ids.list)]
    FROM generate_series(1, $1::integer) AS number, (SELECT array_agg(id) AS list FROM users) AS ids
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
        FROM generate_series(1, $1::integer) AS number
    ) AS jobs, (SELECT array_agg(id) AS list FROM users WHERE id IN (SELECT id FROM users LIMIT 50000)) AS ids
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
    for statement, count in ((_ACCOUNTS, ACCOUNTS), (_SESSIONS, sessions), (_AUDIT, AUDIT), (_JOBS, jobs)):
        await connection.execute(statement, int(count * scale), timeout=3600)
    await connection.execute(_ON_THEIR_WAY, timeout=3600)
    await connection.execute("VACUUM ANALYZE", timeout=3600)
