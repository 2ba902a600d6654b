"""The audit as a file of comma-separated values: complete, of any size, and no spreadsheet runs a cell of it."""

import csv
import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from app_db.features.export.payloads import AccountExport, AuditExport
from app_db.features.export.repository import ExportRepository
from app_db.jobs.ledger import Delivery
from app_db.models import AuditEvent, JobState, Role, User
from app_db.testing.plugin import MakeUser
from app_db.types import first_id_at, new_id, utcnow
from app_worker.features.export import audit_file
from app_worker.features.export.audit_file import COLUMNS, _Span
from app_worker.features.export.cells import line_of
from app_worker.handlers import HANDLERS
from packages.worker.tests.conftest import Jobs, MakeRunner

FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
SIGNS = tuple(sign for sign in FORMULAS if sign.strip())
EVIL = "=cmd|' /C calc'!A0"
MANY = text("""
    INSERT INTO audit_events (id, event, user_id, client_address, details)
    SELECT uuidv7(), 'signed_in', uuidv7(), '192.0.2.1', '{"note": "a row of a usual length"}'
    FROM generate_series(1, :count)
""")


@pytest.fixture
async def operator(make_user: MakeUser) -> User:
    return await make_user(email="mara@example.test", role=Role.OPERATOR)


async def export(jobs: Jobs, make_runner: MakeRunner, payload: AuditExport) -> Delivery:
    delivery = await jobs.deliver(payload, owner_id=payload.operator_id)
    await make_runner(*HANDLERS).run(delivery)
    return delivery


async def content_of(jobs: Jobs, delivery: Delivery, operator: User) -> str:
    content, exports = b"", ExportRepository
    async with jobs.database.sessions() as session:
        sizes = await exports(session).sizes_of(delivery.id, user_id=operator.id, kind=AuditExport.kind)
        for number in range(len(sizes)):
            content += await exports(session).part_of(delivery.id, number, user_id=operator.id) or b""
    return content.decode()


async def rows_of(jobs: Jobs, delivery: Delivery, operator: User) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(await content_of(jobs, delivery, operator), newline="")))


async def add(jobs: Jobs, *events: AuditEvent) -> None:
    async with jobs.database.sessions.begin() as session:
        session.add_all(events)


@given(st.lists(st.text(st.sampled_from([*FORMULAS, *";, \"'a1"])), min_size=1))
def test_no_cell_is_a_formula(cells: list[str]) -> None:
    """Nor is it one in regions where a semicolon, or a tab, is between cells."""
    line = line_of(cells)

    [read] = csv.reader(io.StringIO(line, newline=""))
    assert [cell.replace("'", "") for cell in read] == [cell.replace("'", "") for cell in cells]
    for delimiter in ",;\t":
        for row in csv.reader(io.StringIO(line, newline=""), delimiter=delimiter):
            assert not [cell for cell in row if cell.strip().startswith(SIGNS)]


async def test_the_file_has_each_event_that_matches_the_newest_first(
    jobs: Jobs, make_runner: MakeRunner, make_user: MakeUser, operator: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_file, "PAGE", 2)
    ada, request_id = await make_user(email="=1+1@example.test"), "\t=2"
    about: dict[str, Any] = {"user_id": ada.id, "actor_id": operator.id, "session_id": new_id()}
    await add(
        jobs,
        *(AuditEvent(id=new_id(), event="signed_in", user_id=ada.id) for _ in range(4)),
        AuditEvent(id=new_id(), event="role_changed", **about, request_id=request_id, details={EVIL: EVIL}),
        AuditEvent(id=new_id(), event="sign_in_failed", client_address="192.0.2.1"),
    )

    delivery = await export(jobs, make_runner, AuditExport(operator_id=operator.id))
    of_ada = await export(jobs, make_runner, AuditExport(operator_id=operator.id, user_id=ada.id, event="signed_in"))

    assert await content_of(jobs, delivery, operator) == ""  # replaced by the newer one
    assert [row["event"] for row in await rows_of(jobs, of_ada, operator)] == ["signed_in"] * 4
    whole = await export(jobs, make_runner, AuditExport(operator_id=operator.id))
    failed, changed, *others = await rows_of(jobs, whole, operator)
    assert tuple(failed) == COLUMNS
    assert (failed["event"], failed["account_id"], failed["client_address"]) == ("sign_in_failed", "", "192.0.2.1")
    assert (changed["account"], changed["account_id"]) == ("'=1+1@example.test", str(ada.id))
    assert (changed["operator"], changed["request_id"]) == ("mara@example.test", "'\t'=2")
    assert changed["details"] == f'{{"{EVIL}": "{EVIL}"}}'
    assert len(others) == 4
    job = await jobs.get(whole)
    assert (job.result, job.progress) == (
        {"events": 6, "download": f"/audit/exports/{whole.id}"}, {"done": 100, "of": 100, "events": 6}
    )  # fmt: skip


async def test_only_the_times_that_were_asked_for_are_in_the_file(
    jobs: Jobs, make_runner: MakeRunner, operator: User
) -> None:
    day = datetime(2026, 11, 20, tzinfo=UTC)
    times = [day + timedelta(hours=hours) for hours in (0, 1, 2)]
    await add(jobs, *(AuditEvent(id=first_id_at(time), event="x", happened_at=time) for time in times))

    payload = AuditExport(operator_id=operator.id, since=times[1], before=times[2])
    delivery = await export(jobs, make_runner, payload)
    empty = await export(jobs, make_runner, replace_event(payload))

    assert await rows_of(jobs, empty, operator) == []
    assert (await jobs.get(delivery)).result == {"events": 1, "download": f"/audit/exports/{delivery.id}"}


def replace_event(payload: AuditExport) -> AuditExport:
    """Return a payload of events that there are none of."""
    return payload.model_copy(update={"event": "misspelt"})


async def test_the_file_of_a_large_audit_is_written_in_small_pieces(
    jobs: Jobs, make_runner: MakeRunner, operator: User
) -> None:
    async with jobs.database.sessions.begin() as session:
        await session.execute(MANY, {"count": 6000})

    delivery = await export(jobs, make_runner, AuditExport(operator_id=operator.id))

    assert (await jobs.get(delivery)).result == {"events": 6000, "download": f"/audit/exports/{delivery.id}"}
    assert await jobs.scalar("SELECT count(*) > 1 AND max(length(content)) < 600000 FROM export_parts")


@pytest.mark.parametrize("values", [{"role": Role.USER}, {"disabled_at": utcnow()}, None])
async def test_only_operators_get_the_audit(
    jobs: Jobs, make_runner: MakeRunner, make_user: MakeUser, values: dict[str, Any] | None
) -> None:
    """Not even those who were operators when they asked for it."""
    user_id = new_id() if values is None else (await make_user(**{"role": Role.OPERATOR, **values})).id

    delivery = await export(jobs, make_runner, AuditExport(operator_id=user_id))

    assert (await jobs.get(delivery)).state is JobState.DISCARDED
    assert await jobs.scalar("SELECT count(*) FROM export_parts") == 0


async def test_exports_of_one_kind_leave_those_of_another(jobs: Jobs, make_runner: MakeRunner, operator: User) -> None:
    audit = await export(jobs, make_runner, AuditExport(operator_id=operator.id))
    own = await jobs.deliver(AccountExport(user_id=operator.id), owner_id=operator.id)

    await make_runner(*HANDLERS).run(own)
    again = await export(jobs, make_runner, AuditExport(operator_id=operator.id))

    async with jobs.database.sessions() as session:
        exports = ExportRepository(session)
        kinds = ((audit, AuditExport), (again, AuditExport), (own, AccountExport), (again, AccountExport))
        sizes = [await exports.sizes_of(job.id, user_id=operator.id, kind=payload.kind) for job, payload in kinds]
    assert [bool(each) for each in sizes] == [False, True, True, False]


def test_the_progress_is_the_share_of_the_time_that_is_written() -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    span = _Span(begin, begin + timedelta(hours=4))

    shares = [span.share_down_to(begin + timedelta(hours=hours)) for hours in (5, 4, 3, 0, -1)]

    assert shares == [0, 0, 25, 100, 100]
    assert replace(span, end=begin).share_down_to(begin) == 100
