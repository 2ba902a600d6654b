"""Chooses among several hosts of a database, and limits how long a silent host can delay a connection."""

import re
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import product
from typing import Any

import asyncpg
from asyncpg.connect_utils import SessionAttribute
from sqlalchemy import URL, make_url

from app_db.driver import DriverConnection

_HOST_AND_PORT = re.compile(r"(?P<host>/.+|\[[0-9a-fA-F:.]+\]|[^:/\[\]]+)(:(?P<port>[0-9]+))?")
_TARGETS = frozenset(target.value for target in SessionAttribute)

# Errors that another host may not have. A wrong password or a missing database is the same on each host.
_TRY_ANOTHER = (OSError, asyncpg.CannotConnectNowError, asyncpg.TargetServerAttributeNotMatched)


def spelled_for_all(url: URL) -> URL:
    """Return the URL with its hosts as libpq, asyncpg and SQLAlchemy all read them: `?host=a,b&port=1,2`.

    Takes that form, or the one that SQLAlchemy documents: `?host=a:1&host=b:2`. The port is 5432 if none is named.

    Raises:
        ValueError: says what is wrong with the hosts, and shows none of them.
    """
    query = dict(url.normalized_query)
    if not _TARGETS.issuperset(query.get("target_session_attrs", ())):
        raise ValueError(f"takes as target_session_attrs one of {', '.join(sorted(_TARGETS))}")
    hosts, ports = (_listed(query.pop(name, ())) for name in ("host", "port"))
    if not hosts:
        return url
    if url.host:
        raise ValueError("names hosts before the path or as ?host=…, not in both places")
    if not ports:
        parts = [_HOST_AND_PORT.fullmatch(host) for host in hosts]
        hosts, ports = [part["host"] for part in parts if part], [part["port"] or "5432" for part in parts if part]
    if len(ports) == 1:
        ports = ports * len(hosts)
    if not (hosts and len(hosts) == len(ports) and all(port.isdecimal() for port in ports)):
        raise ValueError("takes several hosts as ?host=first:5432&host=second:5432")
    given = {name: values[0] if len(values) == 1 else values for name, values in query.items()}
    return url.set(query={**given, "host": ",".join(host.strip("[]") for host in hosts), "port": ",".join(ports)})


def _listed(values: Sequence[str]) -> list[str]:
    return [item for value in values for item in value.split(",")]


STEADY = {
    "timezone": "UTC",
    "search_path": "public",
    "default_transaction_isolation": "read committed",
    "standard_conforming_strings": "on",
}
"""Settings that our statements rely on; they override those of `ALTER DATABASE … SET` and of the role.

The time zone decides how long a day of an interval is, and the search path which table a name means. Under
`serializable`, other transactions would make statements in autocommit fail.
"""


class Hosts:
    """Connects to the first host that fits `target_session_attrs`; tries the last such host first.

    asyncpg itself gives all hosts one time-out together: a silent first host would use it up, and no other would ever
    be tried. Here each host gets an equal share of the time that is left.
    """

    def __init__(self, dsn: str, *, connect_timeout: timedelta, steady: Mapping[str, str] = STEADY) -> None:
        """Take a DSN of `DatabaseSettings`, the time for all hosts together, and the settings of each session."""
        self._steady = steady
        url = make_url(dsn)
        query = url.query
        hosts, ports = (str(query.get(name, "")).split(",") for name in ("host", "port"))
        self._dsn = dsn
        self._timeout = connect_timeout.total_seconds()
        # Passed explicitly: else asyncpg reads PGTARGETSESSIONATTRS and PGPORT, which shells set for other programs.
        target = query.get("target_session_attrs", "any")
        # Given one host, asyncpg accepts any for "prefer-standby", so try all hosts for "standby" first.
        self._targets = (
            ("standby", "any") if target == "prefer-standby" else (target,)
        )  # guard: test_a_route_that_says_so_reads_on_the_standby
        # Without a host in the query asyncpg takes the one before the path.
        usual = url.port or 5432
        self._places = [(host or None, int(port or usual)) for host, port in zip(hosts, ports, strict=True)]

    async def connect(self, **options: Any) -> DriverConnection:
        """Return a new connection; `options` are those of `asyncpg.connect`.

        Raises:
            OSError: no host can be reached, or none fits `target_session_attrs`; names the failure of each.
            asyncpg.PostgresError: a host refused, for a reason that the others would have as well.
        """
        settings = {**self._steady, **options.get("server_settings", {})}
        failures: list[str] = []
        until = time.monotonic() + self._timeout
        tries = [*product(self._targets, tuple(self._places))]
        while tries:
            (target, place), *rest = tries
            # Each host gets a share of the time, so that silent hosts do not use up all of it (ADR-0012).
            share = max(until - time.monotonic(), 0) / len(tries)  # guard: test_silent_hosts_share_one_time_out
            given = {"timeout": share, "target_session_attrs": target, **options, "server_settings": settings}
            try:
                return await self._connect(place, **given)
            except BaseException as error:
                # Also if cancelled: else a caller with a shorter timeout would try the same silent host each time.
                self._places.sort(key=place.__eq__)  # guard: test_who_is_impatient_finds_the_host_that_answers
                if not isinstance(error, _TRY_ANOTHER):
                    raise
                failures.append(f"{place[0] or 'the host'}: {str(error) or 'no answer in time'}")
                if isinstance(error, OSError):
                    rest = [
                        each for each in rest if each[1] != place
                    ]  # guard: test_a_standby_that_is_gone_is_waited_for_once
            tries = rest
        raise ConnectionError("; ".join(failures))

    async def _connect(self, place: tuple[str | None, int], **options: Any) -> DriverConnection:
        host, port = place
        began = time.monotonic()
        connection: DriverConnection = await asyncpg.connect(
            self._dsn, host=host, port=port, connection_class=DriverConnection, **options
        )
        connection.connected_in = time.monotonic() - began  # guard: test_a_far_server_has_time_to_end_a_statement
        return connection
