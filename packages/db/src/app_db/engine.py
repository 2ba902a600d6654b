"""The engines of a process: one writes, the others cannot."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress
from typing import Any

from sqlalchemy import Row, Select, TextualSelect
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.sql.dml import ReturningUpdate
from sqlalchemy.util import greenlet_spawn

from app_db.connections import make_engine
from app_db.deadline import database_work
from app_db.jobs.after_commit import ON_COMMIT
from app_db.jobs.encryption import NO_KEYS, PAYLOAD_KEYS, PayloadKeys
from app_db.jobs.notifier import Notifier
from app_db.outage import DatabaseUnavailable, is_outage
from app_db.pool import pools_of, share_limit
from app_db.pooler import Vet
from app_db.repositories.connections import shares_in_use
from app_db.session import Session
from app_db.settings import DatabaseSettings
from app_db.shared_reads import Parameters, SharedRead, Values
from app_db.supervision import UNNOTICED, leave_together

LOOKS = 12
"""How often a process looks for idle connections in the time that they may idle: each 5 s."""

type AnyRow = Row[*tuple[Any, ...]]


def _sessions_of(engine: AsyncEngine, *, info: dict[Any, Any] | None = None) -> async_sessionmaker[Session]:
    # Closed for good: a task that outlives its request or job would open a transaction that nobody ends.
    return async_sessionmaker(
        engine,
        class_=Session,
        expire_on_commit=False,
        close_resets_only=False,  # guard: test_a_task_that_outlives_its_job_takes_no_connection
        info=info,
    )


class Database:
    """The engines and session factories of one process, over fixed pools without overflow.

    The pool never grows under load, when connecting would cost the most; a request waits `pool_timeout` for its turn.
    """

    def __init__(self, settings: DatabaseSettings, *, name: str, vet: Vet | None = None) -> None:
        self.settings = settings
        self.enqueued: Counter[str] = Counter()
        """How many jobs of each kind this process has committed."""
        self.failures: Counter[str] = Counter()
        """How often the database could not be used, by `supervision.KINDS`."""
        self.gathered: Counter[int] = Counter()
        """How many queries of `read_gathered` had so many calls."""
        self.trace_call: Callable[[str], AbstractContextManager[object]] = nullcontext
        """Traces the share of one request or job in a statement of several; takes the SQL."""
        self._shared_reads: dict[Select[*tuple[Any, ...]], SharedRead] = {}
        self.notifier = Notifier(settings.direct_dsn, connect_timeout=settings.connect_timeout)
        self.engine = make_engine(settings, settings.dsn, name, vet=vet, failures=self.failures)
        reads: dict[str, Any] = {"vet": vet, "failures": self.failures, "read_only": True}
        self.read_engine = make_engine(settings, settings.read_dsn, f"{name}-read", **reads)
        leave_together(self.engine, self.read_engine)
        share_limit(self.engine, self.read_engine)
        replica = settings.replica_dsn
        self.replica_engine = (
            make_engine(settings, replica, f"{name}-replica", **reads) if replica else self.read_engine
        )
        """For reads that may be stale: on a standby, if `replica_url` is set."""
        self.engines = {"write": self.engine, "read": self.read_engine} | (
            {"replica": self.replica_engine} if replica else {}
        )
        """By name, for the figures of their pools."""
        autocommit = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self.payload_keys = NO_KEYS
        """What encrypted payloads are sealed and opened with; see `keep_secrets`."""
        self.sessions = _sessions_of(self.engine, info={ON_COMMIT: self._jobs_committed})
        self.autocommit_sessions = _sessions_of(autocommit)
        """For a statement that is a whole transaction by itself: one round trip instead of three."""
        self.read_sessions = _sessions_of(self.read_engine)
        self.replica_sessions = _sessions_of(self.replica_engine)

    @asynccontextmanager
    async def unit_of_work(
        self, *, read_only: bool = False, stale: bool = False, request_id: str | None = None
    ) -> AsyncIterator[Session]:
        """Open a session; commit if the block succeeds, roll back if it raises.

        Args:
            read_only: on the read engine, which cannot write.
            stale: on the replica engine, which cannot write either and may lack the latest commits.
            request_id: of the request that the session serves.

        Raises:
            DatabaseUnavailable: when the database cannot be reached or is frozen, full, locked or read-only, or when
                the block took longer than `request_timeout`, or than the part of it that `one_deadline` leaves.

        Example:
            async with database.unit_of_work() as session:
                await enqueue(session, EndSessions(user_id=ada.id))  # kept when the block ends, gone if it raises

            async with database.unit_of_work(read_only=True) as session:
                user = await UserRepository(session).get(ada.id)
        """
        read_only = read_only or stale
        session = (self.replica_sessions if stale else self.read_sessions if read_only else self.sessions)()
        session.info["request_id"] = request_id
        with database_work(self.settings.request_timeout) as deadline:
            try:
                async with deadline:
                    with session.naming_failed_flush():
                        yield session
                        await session.commit()  # guard: test_a_unit_of_work_that_ends_well_is_kept
            except BaseException as error:
                # Only after an error: a commit returns the connection by itself. Shielded from a second cancellation.
                await asyncio.shield(
                    session.close()
                )  # guard: test_a_unit_of_work_that_is_cancelled_gives_its_connection_back
                if isinstance(error, Exception) and (deadline.expired() or is_outage(error, read_only=read_only)):
                    raise DatabaseUnavailable from error  # guard: test_a_refused_connection_is_an_outage
                raise

    async def read_gathered(self, statement: Select[*tuple[Any, ...]], parameters: Parameters) -> Values | None:
        """Run a query of every request together with the same calls of that moment; return its row or None (ADR-0033).

        A call is answered by a query that was sent after it, and fails as it would alone. A session and its transaction
        would cost more than the query.

        Args:
            statement: made once, because it is kept and only its own calls share a query. It takes an array for each
                parameter; the last column of a row is the number of its call, from 1.
            parameters: of this call.

        Raises:
            DatabaseUnavailable: as for `unit_of_work`.
        """
        shared = self._shared_reads.get(statement)
        if shared is None:
            shared = self._shared_reads[statement] = SharedRead(self.read_engine, statement, sizes=self.gathered)
        with self.trace_call(shared.sql):
            return await self._in_time(shared.calls.ask(parameters))

    async def _in_time[T](self, working: Awaitable[T], *, read_only: bool = True) -> T:
        with database_work(self.settings.request_timeout) as deadline:
            try:
                async with deadline:
                    return await working
            except Exception as error:
                if deadline.expired() or is_outage(error, read_only=read_only):
                    raise DatabaseUnavailable from error  # guard: test_calls_of_a_database_that_is_gone_fail_together
                raise

    async def write_one(
        self, statement: ReturningUpdate[*tuple[Any, ...]], parameters: Mapping[str, Any]
    ) -> AnyRow | None:
        """Run one writing statement as a transaction of its own; return its row or None (ADR-0033).

        Raises:
            DatabaseUnavailable: as for `unit_of_work`; it may be committed nevertheless.
        """
        rows = await self._in_time(self.write_all(statement, parameters), read_only=False)
        return rows[0] if rows else None

    async def write_all(
        self, statement: TextualSelect | ReturningUpdate[*tuple[Any, ...]], parameters: Mapping[str, Any]
    ) -> Sequence[AnyRow]:
        """Run one writing statement and commit it; return its rows.

        The statement is a whole transaction by itself: one round trip instead of three, and no session.

        Raises:
            Exception: those of a session; `is_outage` tells which.
        """

        def write() -> Sequence[AnyRow]:
            with self.engine.sync_engine.connect() as connection:
                # Set on the connection: an engine with the option runs SQLAlchemy's events around each statement.
                connection.execution_options(isolation_level="AUTOCOMMIT")
                return connection.execute(statement, parameters).all()

        return await greenlet_spawn(write)

    def keep_secrets(self, keys: PayloadKeys) -> None:
        """Let `enqueue` encrypt with these keys, and the runner of jobs decrypt."""
        self.payload_keys = self.sessions.kw["info"][PAYLOAD_KEYS] = keys

    def _jobs_committed(self, kinds: Counter[str]) -> None:
        self.enqueued.update(kinds)  # guard: test_committed_jobs_are_counted_by_kind
        self.notifier.notify()  # guard: test_a_commit_with_jobs_notifies_the_relays

    async def close(self) -> None:
        """Close all connections; a notification that is still due is sent first."""
        await self.notifier.close()  # guard: test_a_notification_that_is_due_is_sent_before_the_database_closes
        for shared in self._shared_reads.values():
            await shared.calls.close()  # guard: test_a_query_that_nobody_waits_for_ends_before_the_database_closes
        for engine in self.engines.values():
            await engine.dispose()


async def _close_idle(database: Database) -> None:
    """Close connections that idle for too long, again and again; one task for all of a process.

    At the limit of the role a moment is too long: a process that starts finds no place before others leave one.
    """
    limit = database.settings.close_after_idle.total_seconds()
    pools = [pool for _, pool in pools_of(database.engines)]
    while limit:
        await asyncio.sleep(limit / LOOKS)
        # Behind a pooler the connections of the role are those of the pooler.
        may_leave = not database.settings.is_pooled and any(pool.opened > 1 and pool.checkedin() for pool in pools)
        longest = limit / LOOKS if may_leave and await _is_at_limit(database) else limit
        for pool in pools:
            await greenlet_spawn(pool.close_idle, since=time.monotonic() - longest)


async def _is_at_limit(database: Database) -> bool:
    """Return whether the role has as many connections as it may have."""
    name = database.settings.sqlalchemy_url.username or ""
    with suppress(DatabaseUnavailable):
        async with database.unit_of_work(read_only=True) as session:
            connection = await session.connection()
            assert connection.sync_connection
            connection.sync_connection.info[UNNOTICED] = True
            shares = await shares_in_use(session)
            return shares.get(name, 0) >= 1  # guard: test_at_the_limit_a_pool_gives_back_what_idles_sooner
    return False


@asynccontextmanager
async def open_database(
    settings: DatabaseSettings, *, name: str, vet: Vet | None = None, keys: PayloadKeys = NO_KEYS
) -> AsyncIterator[Database]:
    """Open the engines of a process called `name` (seen in pg_stat_activity); connections are made on first use.

    With a `vet`, no statement runs on an engine before `vet` has accepted one connection of that engine. The `keys` are
    those of encrypted payloads.
    """
    database = Database(settings, name=name, vet=vet)
    database.keep_secrets(keys)
    closing = asyncio.create_task(_close_idle(database))
    try:
        yield database
    finally:
        closing.cancel()
        await asyncio.wait([closing])
        await database.close()


@asynccontextmanager
async def script_session(settings: DatabaseSettings) -> AsyncIterator[Session]:
    """A session for a script or a shell: committed when the block ends well, rolled back when it does not.

    Example:
        async with script_session(settings) as session:
            await UserSessionRepository(session).end_all(ada.id)
    """
    async with open_database(settings, name="script") as database, database.sessions() as session:
        yield session
        await session.commit()  # guard: test_a_script_keeps_what_it_wrote
