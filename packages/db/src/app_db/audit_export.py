"""Writes a month of the audit to a file: `python -m app_api database audit-export` also records it (ADR-0076)."""

import os
import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Final
from uuid import UUID

import asyncpg

from app_db.hosts import Hosts
from app_db.settings import DatabaseSettings
from app_runtime.configuration import Misconfigured

PREFIX: Final = "audit_events_"
_MONTHS = """
    SELECT name, first_id, end_id FROM audit_months()
    WHERE end_id <= audit_id_at(now() AT TIME ZONE 'UTC') ORDER BY first_id
"""
_EVENTS = "SELECT * FROM audit_events WHERE id >= $1 AND id < $2 ORDER BY id"


@dataclass(frozen=True, slots=True)
class Exported:
    """What is in the file."""

    month: str
    """The name of the partition."""
    rows: int
    sha256: str


async def write_month(settings: DatabaseSettings, month: str, path: Path) -> Exported:
    """Write the events of a month that has ended to a new file for its owner alone, as CSV with a header.

    It is on disk when this returns, and removed when this fails. The connection has no limit of time.

    Args:
        settings: of the database.
        month: `2026-01`, or what else the partition's name ends with, as in `first`.
        path: the file; there is none yet.

    Raises:
        Misconfigured: with what is wrong.
    """
    hosts = Hosts(settings.direct_dsn, connect_timeout=settings.connect_timeout)
    try:
        connection: Any = await hosts.connect()  # Any: asyncpg has no types
        try:
            name, *within = await _find(connection, month)
            return await _write(connection, name, within, path)
        finally:
            await connection.close()
    except (asyncpg.PostgresError, OSError) as error:  # a TimeoutError is an OSError
        raise Misconfigured(f"{month}: {error or 'no answer'}; nothing was exported") from error


async def _find(connection: Any, month: str) -> tuple[str, UUID, UUID]:  # Any: as above
    """Return the partition and its ids; of a month that goes on more events will come."""
    ended = {row["name"]: row for row in await connection.fetch(_MONTHS)}
    name = PREFIX + month.replace("-", "_")
    if name not in ended:  # guard: test_a_month_that_goes_on_is_not_exported
        others = ", ".join(known.removeprefix(PREFIX).replace("_", "-") for known in ended)
        raise Misconfigured(f"{month}: is no month of the audit that has ended; these are: {others or 'none'}")
    return name, ended[name]["first_id"], ended[name]["end_id"]


async def _write(connection: Any, name: str, within: list[UUID], path: Path) -> Exported:  # Any: as above
    file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    try:
        with file:
            rows, digest = await _copy(connection, within, file)
    except BaseException:
        os.unlink(path)  # noqa: PTH108  # guard: test_an_export_that_fails_leaves_no_file_and_no_record
        raise
    return Exported(name, rows, digest)


async def _copy(connection: Any, within: list[UUID], file: BinaryIO) -> tuple[int, str]:  # Any: as above
    digest = sha256()

    async def take(part: bytes) -> None:
        digest.update(part)
        file.write(part)

    status = await connection.copy_from_query(_EVENTS, *within, output=take, format="csv", header=True)
    file.flush()
    os.fsync(file.fileno())
    return int(re.sub(r"\D", "", status)), digest.hexdigest()
