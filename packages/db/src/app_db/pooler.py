"""Poolers of transactions, such as PgBouncer: found by asking, and what the role has to carry behind one (ADR-0075)."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import asyncpg

from app_db.driver import IDLE_LIMIT, TOTAL_LIMIT, DriverConnection
from app_db.hosts import STEADY, Hosts
from app_db.outage import NoAnswer, Refused, naming_refusals
from app_db.settings import DatabaseSettings
from app_runtime.configuration import Misconfigured

KEPT_BY_POOLERS = {name: STEADY[name] for name in ("timezone", "standard_conforming_strings")}
"""What PgBouncer keeps for each client, and takes at its start.

Without them a client gets those of the first session that it opened, until it is restarted (PgBouncer 1.25.2).
"""
OF_ENGINES = {"jit": "off"}  # compiling takes longer than these short statements

type Connect = Callable[[], Awaitable[DriverConnection]]
type Vet = Callable[[DriverConnection], Awaitable[None]]
"""Checks a new connection, and raises if it must not be used."""

LIMITS = ("statement_timeout", "lock_timeout", IDLE_LIMIT, TOTAL_LIMIT)
UNDECLARED = (
    "a pooler of transactions answers in Postgres's place: set APP_DATABASE__POOLER=transaction, and "
    "APP_DATABASE__DIRECT_URL to Postgres itself"
)
IN_THE_WAY = (
    "a pooler answers where LISTEN, advisory locks and migrations need Postgres itself: set APP_DATABASE__DIRECT_URL "
    "past it"
)
MAKES_ROLES = "`python -m app_api database roles --pooler transaction` gives it what it lacks"

LARGEST_PID = 2**22
"""Of Linux. The numbers that poolers make up have 31 or 32 bits: one in 512 is below, or fewer."""
_CHANNEL = "pooler"
_SETTINGS = "SELECT lower(name), setting FROM pg_settings WHERE lower(name) = ANY($1::text[])"
_LONGEST_WAIT = 1.0
"""Seconds for a session that notifies: a pooler of sessions may have no other for us."""
_LONGEST_WAY = 0.2
"""Seconds by which a notification may come later than the reply to it: within a beat and a check of readiness."""


class WrongPooling(Refused):
    """A pooler is there that nobody named, or behind it the role lacks settings that a session cannot bring along."""


def limits_of(settings: DatabaseSettings) -> dict[str, str]:
    """Return the time limits that Postgres keeps for a session, in milliseconds; 0 is no limit."""
    limits = (
        settings.statement_timeout,
        settings.lock_timeout,
        settings.idle_in_transaction_timeout,
        settings.transaction_timeout,
    )
    return {name: str(round(limit / timedelta(milliseconds=1))) for name, limit in zip(LIMITS, limits, strict=True)}


def carried_by_role(settings: DatabaseSettings) -> dict[str, str]:
    """Return the settings that the role needs behind a pooler, where no session can bring them along."""
    return {**STEADY, **OF_ENGINES, **limits_of(settings)}


@contextmanager
def naming_poolers(why: str) -> Iterator[None]:
    """Turn PgBouncer's refusal of our settings for a session into WrongPooling, with this text."""
    try:
        yield
    except asyncpg.ProtocolViolationError as error:
        if str(error).startswith("unsupported startup parameter"):
            raise WrongPooling(why) from error  # guard: test_a_pooler_that_refuses_what_sessions_ask_for_is_named
        raise


async def refuse_pooled(connection: DriverConnection, connect: Connect, why: str) -> None:
    """Refuse a connection whose transactions may run in several sessions of Postgres.

    Args:
        connection: without a transaction.
        connect: makes another connection to the same place.
        why: the text of the error.

    Raises:
        WrongPooling: a pooler of transactions answers.
    """
    # Without a name: a pooler may not know the statements that another client has prepared.
    statement = await connection.prepare("SELECT pg_backend_pid()", name="", timeout=_LONGEST_WAIT)
    if await statement.fetchval(timeout=_LONGEST_WAIT) == connection.get_server_pid():
        return  # Postgres itself; a pooler signs in for itself, and makes up the number that it tells us
    if not await _hears(connection, connect):
        raise WrongPooling(why)  # guard: test_a_pooler_of_transactions_that_nobody_named_is_refused


async def connect_past(connect: Connect) -> DriverConnection:
    """Connect where LISTEN and advisory locks hold.

    Raises:
        WrongPooling: a pooler answers.
        Exception: those of `connect`.
    """
    with naming_poolers(IN_THE_WAY):
        connection = await connect()
    try:
        await refuse_pooled(connection, connect, IN_THE_WAY)  # guard: test_nobody_leads_through_a_pooler
    except BaseException:
        connection.terminate()
        raise
    return connection


def require_way_past(settings: DatabaseSettings) -> None:
    """Refuse a `direct_url` that leads through a pooler; may be called where an event loop runs.

    Raises:
        Misconfigured: with what it leads to, or that nothing answers.
    """

    async def look() -> None:
        hosts = Hosts(settings.direct_dsn, connect_timeout=settings.connect_timeout)
        with naming_refusals():
            connection = await connect_past(hosts.connect)
            connection.terminate()

    if settings.direct_url is None:
        return  # the engines ask where `url` leads to
    try:
        with ThreadPoolExecutor(max_workers=1) as executor:
            executor.submit(asyncio.run, look()).result()
    except NoAnswer as error:
        why = str(error) if isinstance(error, Refused) else "the database does not answer"
        raise Misconfigured(f"APP_DATABASE__DIRECT_URL: {why}") from None


def vet_of(connect: Connect, wanted: Mapping[str, str], vet: Vet | None, *, is_pooled: bool) -> Vet:
    """Return what checks the first connection of an engine: the way to Postgres, then `vet`.

    Args:
        connect: makes another connection to the same place.
        wanted: the settings of a session.
        vet: checks the role.
        is_pooled: whether the role has to carry these settings, because a pooler is said to be there.
    """

    async def look(connection: DriverConnection) -> None:
        if is_pooled:
            await _require_settings(connection, wanted)
        elif _is_made_up(connection.get_server_pid()) or _lost(connection, {**STEADY, **wanted}):
            await refuse_pooled(connection, connect, UNDECLARED)
        if vet is not None:
            await vet(connection)

    return look


def _is_made_up(pid: int) -> bool:
    """Return whether no process of Linux has this number; other systems may, and are asked."""
    return not 0 < pid <= LARGEST_PID  # guard: test_a_pooler_that_loses_no_setting_is_refused


def _lost(connection: DriverConnection, wanted: Mapping[str, str]) -> bool:
    """Return whether a session says of a setting that it is another than was asked for; no round trip."""
    told = connection.get_settings()  # PostgreSQL 18 tells two that poolers lose: search_path, and if it only reads
    return any(getattr(told, name, value) != value for name, value in wanted.items())


async def _hears(connection: DriverConnection, connect: Connect) -> bool:
    """Return whether the connection hears notifications, for which it needs a session of its own."""
    heard = asyncio.Event()

    def hear(*_: object) -> None:
        heard.set()

    other = await connect()
    try:
        await connection.add_listener(_CHANNEL, hear)
        try:
            await other.execute(f"NOTIFY {_CHANNEL}", timeout=_LONGEST_WAIT)
        except TimeoutError:
            return True  # guard: test_a_pooler_of_sessions_is_none_of_transactions
        with suppress(TimeoutError):
            await asyncio.wait_for(heard.wait(), _LONGEST_WAY)
        await connection.remove_listener(_CHANNEL, hear)
        return heard.is_set()
    finally:
        other.terminate()


async def _require_settings(connection: DriverConnection, wanted: Mapping[str, str]) -> None:
    """Refuse a role without the settings that statements rely on, or with limits that are too short for this process.

    Raises:
        WrongPooling: names each setting.
    """
    names = [*STEADY, *LIMITS]
    found: dict[str, Any] = dict(await connection.fetch(_SETTINGS, names))
    lacks = [f"{name}={value}" for name, value in STEADY.items() if found[name] != value]
    for name in LIMITS:
        limit, needed = int(found[name]), int(wanted[name])
        if 0 < limit < needed or limit > needed == 0:  # 0 is no limit
            lacks.append(f"{name}={needed}" if needed == 0 else f"{name}={needed} or more")
    if lacks:
        why = f"behind a pooler the role has to carry {', '.join(lacks)}: {MAKES_ROLES}"
        raise WrongPooling(why)  # guard: test_a_role_that_lacks_what_a_pooler_loses_is_refused
