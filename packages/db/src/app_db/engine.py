"""The two engines of a process: one that writes, one that cannot."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
from sqlalchemy import Row, Select, TextualSelect, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection
from sqlalchemy.util import greenlet_spawn

from app_db.deadline import piece_of_work
from app_db.hosts import Hosts
from app_db.jobs.commits import TELL
from app_db.jobs.wake import Waker
from app_db.outage import READ_ONLY, DatabaseUnavailable, is_outage, naming_no_answer
from app_db.pool import CountingPool
from app_db.settings import DatabaseSettings

type Connection = asyncpg.Connection[asyncpg.Record]
type Vet = Callable[[Connection], Awaitable[None]]
"""Looks at a new connection, and raises unless it may be used."""


class Session(AsyncSession):
    """A unit of work. Whoever opened it commits it; nobody else does."""

    async def release(self) -> None:
        """Give the connection back before slow work that needs none, such as hashing a password.

        For use before the first write only. Entities that were read have expired afterwards, so read plain columns;
        the next statement takes a connection again.
        """
        assert not any((self.new, self.dirty, self.deleted)), "release() would lose what was not written yet"
        await self.rollback()  # guard: test_a_released_session_holds_no_connection


class Database:
    """The engines and session factories of one process, over fixed pools without overflow.

    The pool never grows under load, where connecting would cost the most; a request waits `pool_timeout` for its turn.
    """

    def __init__(self, settings: DatabaseSettings, *, name: str, vet: Vet | None = None) -> None:
        self.settings = settings
        self.enqueued: Counter[str] = Counter()
        """How many jobs of each kind this process has committed."""
        self.waker = Waker(settings.direct_dsn, connect_timeout=settings.connect_timeout)
        self.engine = _engine(settings, settings.dsn, name, vet=vet)
        _leave_a_server_that_only_reads(self.engine)
        self.read_engine = _engine(settings, settings.read_dsn, f"{name}-read", vet=vet, read_only=True)
        replica = settings.replica_dsn
        self.replica_engine = (
            _engine(settings, replica, f"{name}-replica", vet=vet, read_only=True) if replica else self.read_engine
        )
        """For reads that may be stale: a standby's, where there is one."""
        self.engines = {"write": self.engine, "read": self.read_engine} | (
            {"replica": self.replica_engine} if replica else {}
        )
        """By name, for the figures of their pools."""
        autocommit = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self.sessions = async_sessionmaker(
            self.engine, class_=Session, expire_on_commit=False, info={TELL: self._jobs_committed}
        )
        self.autocommit_sessions = async_sessionmaker(autocommit, class_=Session, expire_on_commit=False)
        """For a statement that is a whole transaction by itself: one round trip instead of three."""
        self.read_sessions = async_sessionmaker(self.read_engine, class_=Session, expire_on_commit=False)
        self.replica_sessions = async_sessionmaker(self.replica_engine, class_=Session, expire_on_commit=False)

    @asynccontextmanager
    async def unit_of_work(
        self, *, read_only: bool = False, stale: bool = False, request_id: str | None = None
    ) -> AsyncIterator[Session]:
        """Open a session, commit when the block ends well, roll back when it does not.

        Args:
            read_only: on the read engine, which cannot write.
            stale: on the replica engine, which cannot write either and may not have what was committed lately.
            request_id: of the request that this is for.

        Raises:
            DatabaseUnavailable: when the database cannot be reached or is frozen, full, locked or read-only, or when
                the block took longer than `request_timeout`, or than what `one_deadline` leaves of it.
        """
        read_only = read_only or stale
        session = (self.replica_sessions if stale else self.read_sessions if read_only else self.sessions)()
        session.info["request_id"] = request_id
        with piece_of_work(self.settings.request_timeout) as deadline:
            try:
                async with deadline:
                    yield session
                    await session.commit()  # guard: test_a_unit_of_work_that_ends_well_is_kept
            except BaseException as error:
                # A commit gives the connection back by itself. Shielded, so that a second cancellation cannot keep it.
                await asyncio.shield(
                    session.close()
                )  # guard: test_a_unit_of_work_that_is_cancelled_gives_its_connection_back
                if isinstance(error, Exception) and (deadline.expired() or is_outage(error, read_only=read_only)):
                    raise DatabaseUnavailable from error  # guard: test_a_refused_connection_is_an_outage
                raise

    async def read_one[*Ts](self, statement: Select[*Ts], parameters: Mapping[str, Any]) -> Row[*Ts] | None:
        """Return the one row of a read that every request makes, or None, on a connection of its own (ADR-0033).

        A session and its transaction would cost more than the query: here a connection is taken, asked and given back
        in one piece.

        Raises:
            DatabaseUnavailable: as for `unit_of_work`.
        """

        def read() -> Row[*Ts] | None:
            with self.read_engine.sync_engine.connect() as connection:
                return connection.execute(statement, parameters).one_or_none()

        with piece_of_work(self.settings.request_timeout) as deadline:
            try:
                async with deadline:
                    return await greenlet_spawn(read)
            except Exception as error:
                if deadline.expired() or is_outage(error, read_only=True):
                    raise DatabaseUnavailable from error  # guard: test_a_read_of_a_database_that_is_gone_is_an_outage
                raise

    async def write_one(self, statement: TextualSelect, parameters: Mapping[str, Any]) -> Row[*tuple[Any, ...]] | None:
        """Run one statement that writes, and commit it; return its one row, or None.

        For what is a whole transaction by itself: one round trip instead of three, and no session.

        Raises:
            Exception: those of a session; `is_outage` tells which.
        """

        def write() -> Row[*tuple[Any, ...]] | None:
            with self.engine.sync_engine.connect() as connection:
                # Of the connection: an engine with the option would put SQLAlchemy's events around each statement.
                connection.execution_options(isolation_level="AUTOCOMMIT")
                return connection.execute(statement, parameters).one_or_none()

        return await greenlet_spawn(write)

    def _jobs_committed(self, kinds: Counter[str]) -> None:
        self.enqueued.update(kinds)  # guard: test_committed_jobs_are_counted_by_kind
        self.waker.wake()  # guard: test_a_commit_with_jobs_wakes_the_relays

    async def close(self) -> None:
        """Close all connections; a wake-up that is still due is sent first."""
        await self.waker.close()  # guard: test_a_wake_that_is_due_is_sent_before_the_database_closes
        for engine in self.engines.values():
            await engine.dispose()


@asynccontextmanager
async def open_database(settings: DatabaseSettings, *, name: str, vet: Vet | None = None) -> AsyncIterator[Database]:
    """Open the engines of a process called `name` (seen in pg_stat_activity); connections are made on first use.

    Where there is a `vet`, no statement runs on an engine before it has let a connection of that engine pass, once.
    """
    database = Database(settings, name=name, vet=vet)
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def script_session(settings: DatabaseSettings) -> AsyncIterator[Session]:
    """A session for a script or a shell: committed when the block ends well, rolled back when it does not."""
    async with open_database(settings, name="script") as database, database.sessions() as session:
        yield session
        await session.commit()  # guard: test_a_script_keeps_what_it_wrote


# Its locks, the leases of its tx jobs among them, are free after 20 s instead of two hours.
_NOTICE_A_VANISHED_HOST = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "2"}


def _engine(
    settings: DatabaseSettings, dsn: str, name: str, *, vet: Vet | None, read_only: bool = False
) -> AsyncEngine:
    server = {
        "application_name": name,
        "jit": "off",  # it costs more than our short statements take
        "statement_timeout": _milliseconds(settings.statement_timeout),
        "lock_timeout": _milliseconds(settings.lock_timeout),
        "idle_in_transaction_session_timeout": _milliseconds(settings.idle_in_transaction_timeout),
        "transaction_timeout": _milliseconds(settings.transaction_timeout),
        **_NOTICE_A_VANISHED_HOST,
        **({"default_transaction_read_only": "on"} if read_only else {}),
    }
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=_connecting(dsn, settings, vet, server_settings=server),
        hide_parameters=True,  # they hold password hashes and addresses, and errors are logged
        poolclass=CountingPool,
        isolation_level="AUTOCOMMIT" if read_only else "READ COMMITTED",
        pool_size=settings.read_pool_size if read_only else settings.pool_size,
        max_overflow=0,
        pool_timeout=settings.pool_timeout.total_seconds(),
        # In autocommit there is nothing to roll back when a connection is given back.
        pool_reset_on_return=None if read_only else "rollback",
        pool_use_lifo=True,  # the busy few stay warm, the rest may be closed by the server
    )
    _ping_when_idle(engine, after=settings.ping_after_idle)
    _name_no_answer(engine)
    return engine


def _connecting(
    dsn: str, settings: DatabaseSettings, vet: Vet | None, **options: Any
) -> Callable[[], Awaitable[Connection]]:
    """Return what makes the connections of an engine."""
    hosts = Hosts(dsn, connect_timeout=settings.connect_timeout)
    command_timeout = settings.command_timeout and settings.command_timeout.total_seconds()

    async def connect() -> Connection:
        nonlocal vet
        with naming_no_answer():
            connection = await hosts.connect(command_timeout=command_timeout, **options)
            if vet is not None:
                try:
                    await vet(connection)  # guard: test_nothing_is_asked_with_a_role_that_may_do_anything
                except BaseException:
                    connection.terminate()  # guard: test_a_connection_that_is_refused_is_closed
                    raise
                vet = None  # guard: test_a_role_is_looked_at_once
            return connection

    return connect


def _milliseconds(duration: timedelta) -> str:
    return str(round(duration / timedelta(milliseconds=1)))


def _ping_when_idle(engine: AsyncEngine, *, after: timedelta) -> None:
    """Ping on checkout, but only what was idle for `after`: `pool_pre_ping` costs every request three round trips."""
    limit = after.total_seconds()
    ping = engine.dialect.do_ping

    @event.listens_for(engine.sync_engine, "checkin")
    def note_time(connection: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
        entry.info["idle_since"] = time.monotonic()

    @event.listens_for(engine.sync_engine, "checkout")
    def ping_if_idle(connection: DBAPIConnection, entry: ConnectionPoolEntry, proxy: PoolProxiedConnection) -> None:
        if time.monotonic() - entry.info.get("idle_since", time.monotonic()) < limit:
            return
        try:
            ping(connection)
        except (engine.dialect.loaded_dbapi.Error, DBAPIError, OSError, TimeoutError) as exc:
            # The server was restarted, most likely: what was opened before now is as dead as this one.
            raise InvalidatePoolError from exc  # guard: test_a_connection_that_died_while_idle_is_replaced


def _name_no_answer(engine: AsyncEngine) -> None:
    """Name what asyncpg and SQLAlchemy let through bare when a command takes too long."""

    @event.listens_for(engine.sync_engine, "handle_error")
    def name(context: ExceptionContext) -> None:
        if isinstance(context.original_exception, OSError):
            with naming_no_answer():
                raise context.original_exception


def _leave_a_server_that_only_reads(engine: AsyncEngine) -> None:
    """Drop all connections when one of them may not write any more: another server may have taken over."""

    @event.listens_for(engine.sync_engine, "handle_error")
    def look(context: ExceptionContext) -> None:
        if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:
            context.is_disconnect = True  # guard: test_a_server_that_only_reads_is_left
