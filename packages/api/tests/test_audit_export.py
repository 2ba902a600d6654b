"""`python -m app_api database audit-export`: a file, and an event that says what is in it."""

import argparse
import asyncio
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import text

from app_api import database_roles
from app_db import Database
from app_db.repositories.audit import AuditRepository
from app_runtime.configuration import Misconfigured

pytestmark = pytest.mark.integration

OLD = """
    DO $$
    DECLARE
        month timestamp := timestamp '2021-03-01';
    BEGIN
        EXECUTE format(
            'CREATE TABLE audit_events_2021_03 PARTITION OF audit_events FOR VALUES FROM (%L) TO (%L)',
            audit_id_at(month), audit_id_at(month + interval '1 month')
        );
        INSERT INTO audit_events (id, event) VALUES (audit_id_at(month + interval '1 day'), 'signed_in');
    END
    $$
"""


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    database_roles.add_commands(parser)
    return parser.parse_args(["audit-export", *arguments])


async def test_an_export_is_on_record_with_its_count_and_hash(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "2021-03.csv"
    environ = {"APP_DATABASE__URL": database.settings.url.get_secret_value(), "APP_ENV": "test"}
    async with database.sessions.begin() as session:
        await session.execute(text(OLD))
    try:
        (line,) = await database_roles.run(parsed("2021-03", str(file)), environ)
        with pytest.raises(Misconfigured, match="File exists"):
            await database_roles.run(parsed("2021-03", str(file)), environ)

        async with database.sessions() as session:
            event, _ = await AuditRepository(session).newest(2)
    finally:
        async with database.sessions.begin() as session:
            await session.execute(text("DROP TABLE audit_events_2021_03"))
    digest = sha256(await asyncio.to_thread(file.read_bytes)).hexdigest()
    assert line == f"1 events of audit_events_2021_03 are in {file}, SHA-256 {digest}"
    details = {"month": "audit_events_2021_03", "rows": 1, "sha256": digest, "by": "shell"}
    assert (event.event, event.details) == ("audit_month_exported", details)
