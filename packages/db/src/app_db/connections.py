"""Makes the connections of an engine: their limits, supervision and checks of the role."""

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app_db import dialect
from app_db.driver import DriverConnection, Limits
from app_db.hidden_values import hide_values
from app_db.hosts import STEADY, Hosts
from app_db.outage import NoAnswer, Refused, naming_refusals
from app_db.pool import CountingPool
from app_db.pooler import KEPT_BY_POOLERS, OF_ENGINES, UNDECLARED, Vet, limits_of, naming_poolers, vet_of
from app_db.settings import DatabaseSettings
from app_db.supervision import ping_when_idle, watch_errors

type Connection = DriverConnection

# Postgres notices a vanished client after 20 s instead of two hours, and releases its locks, also those of tx jobs.
_NOTICE_A_VANISHED_HOST = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "2"}


def make_engine(
    settings: DatabaseSettings,
    dsn: str,
    name: str,
    *,
    vet: Vet | None,
    failures: Counter[str],
    read_only: bool = False,
) -> AsyncEngine:
    """Return an engine called `name` on a fixed pool; no connection is made yet.

    Args:
        settings: the limits.
        dsn: where it connects to.
        name: seen in pg_stat_activity.
        vet: checks the first connection.
        failures: counts how often the database could not be used, by `supervision.KINDS`.
        read_only: whether Postgres refuses writes of this engine; then it works in autocommit, if not behind a pooler.
    """
    engine = create_async_engine(
        dialect.URL,
        async_creator=_connecting(
            dsn, settings, vet, failures, server_settings=_server_settings(settings, name, read_only=read_only)
        ),
        **_options_of(settings, read_only=read_only),
        json_deserializer=_read_json,
        hide_parameters=True,  # they hold password hashes and addresses, and errors are logged
        poolclass=CountingPool,
        max_overflow=0,
        pool_timeout=settings.pool_timeout.total_seconds(),
        pool_use_lifo=True,  # a few busy connections stay warm, and the server may close idle ones
    )
    ping_when_idle(engine, after=settings.ping_after_idle, timeout=settings.ping_timeout, failures=failures)
    watch_errors(engine, failures=failures, only_reads=read_only)
    hide_values(engine)
    return engine


def _options_of(settings: DatabaseSettings, *, read_only: bool) -> dict[str, Any]:
    """Return the options in which engines that read and write differ, and those behind a pooler."""
    # Behind a pooler only the transaction can forbid writes: there a session has no settings of its own.
    in_autocommit = read_only and not settings.is_pooled
    return {
        "only_reads": read_only,
        "pooled": settings.is_pooled,
        "isolation_level": "AUTOCOMMIT" if in_autocommit else "READ COMMITTED",
        "pool_size": settings.read_pool_size if read_only else settings.pool_size,
        # In autocommit a returned connection has nothing to roll back.
        "pool_reset_on_return": None if in_autocommit else "rollback",
    }


def _read_json(stored: str) -> Any:
    """Return JSON that Postgres has checked; a whole number with more digits than Python reads, as its text."""
    try:
        return json.loads(stored)
    except ValueError:  # sys.get_int_max_str_digits: without this, nobody could look at such a row
        return json.loads(stored, parse_int=_whole_number)


def _whole_number(digits: str) -> int | str:
    try:
        return int(digits)
    except ValueError:
        return digits


def _server_settings(settings: DatabaseSettings, name: str, *, read_only: bool) -> dict[str, str]:
    return {
        "application_name": name,
        **OF_ENGINES,
        **limits_of(settings),
        **_NOTICE_A_VANISHED_HOST,
        **({"default_transaction_read_only": "on"} if read_only else {}),
    }


def _connecting(
    dsn: str, settings: DatabaseSettings, vet: Vet | None, failures: Counter[str], server_settings: dict[str, str]
) -> Callable[[], Awaitable[Connection]]:
    """Return the function that makes the connections of an engine."""
    steady = STEADY
    options: dict[str, Any] = {"server_settings": server_settings}
    if settings.is_pooled:
        steady = KEPT_BY_POOLERS  # guard: test_a_pooler_is_asked_for_what_it_keeps_for_each_client
        kept = {"application_name": server_settings["application_name"]}  # pg_stat_activity shows it
        options = {"server_settings": kept}  # guard: test_a_pooler_is_asked_for_what_it_keeps_for_each_client
        options["statement_cache_size"] = 0
    hosts = Hosts(dsn, connect_timeout=settings.connect_timeout, steady=steady)
    command_timeout = settings.command_timeout and settings.command_timeout.total_seconds()
    limits = Limits(settings.idle_in_transaction_timeout, settings.transaction_timeout)

    async def connect_to_host() -> Connection:
        with naming_poolers(UNDECLARED):
            return await hosts.connect(command_timeout=command_timeout, **options)

    look: Vet | None = vet_of(connect_to_host, server_settings, vet, is_pooled=settings.is_pooled)

    async def connect() -> Connection:
        nonlocal look
        with _counting(failures), naming_refusals():
            connection = await connect_to_host()
            connection.session_limits = limits
            if look is not None:
                try:
                    await look(connection)  # guard: test_nothing_is_asked_with_a_role_that_may_do_anything
                except BaseException:
                    connection.terminate()  # guard: test_a_connection_that_is_refused_is_closed
                    raise
                look = None  # guard: test_a_role_is_looked_at_once
            return connection

    return connect


@contextmanager
def _counting(failures: Counter[str]) -> Iterator[None]:
    try:
        yield
    except NoAnswer as error:
        failures["refused" if isinstance(error, Refused) else "unreachable"] += 1
        raise
