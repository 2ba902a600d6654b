"""The audit as a file: asked for by operators, one at a time, fetched by who asked."""

from uuid import UUID

import pytest
from httpx2 import AsyncClient
from sqlalchemy import select, update

from app_api.features.export import service
from app_api.testing import SignedIn, assert_problem
from app_auth.auth import Auth
from app_auth.client import NOBODY
from app_auth.permissions import OperatorRequired
from app_auth.principal import Principal
from app_auth.testing import MakeAccount, SignIn
from app_db import Database
from app_db.models import AuditEvent, Role, User
from app_db.repositories.audit import AuditFilter
from app_db.types import new_id, utcnow
from packages.api.tests.features.export.exports import CSV, Finish, finish, newest

__all__ = ["finish"]  # a fixture


async def test_an_export_of_the_audit_is_accepted_as_a_job_and_fetched_by_who_asked(
    client: AsyncClient, operator: SignedIn, make_account: MakeAccount, sign_in: SignIn, finish: Finish
) -> None:
    account = await make_account(role=Role.OPERATOR)
    other = SignedIn(account, await sign_in(account))
    accepted = await client.post("/audit/exports", json={"event": "signed_in"}, headers=operator.headers)
    assert accepted.status_code == 202, accepted.text
    job_id = accepted.json()["job_id"]
    assert accepted.headers["Location"] == f"/jobs/{job_id}"
    path = f"/audit/exports/{job_id}"
    assert_problem(await client.get(path, headers=operator.headers), 404, "export_not_found")
    await finish(UUID(job_id))

    response = await client.get(path, headers=operator.headers)

    assert (response.status_code, response.content) == (200, CSV)
    assert response.headers["Content-Type"].startswith("text/csv")
    assert response.headers["Content-Disposition"] == 'attachment; filename="audit.csv"'
    assert_problem(await client.get(path, headers=other.headers), 404, "export_not_found")


async def test_an_export_of_the_audit_is_a_row_of_it(
    client: AsyncClient, operator: SignedIn, database: Database
) -> None:
    about = new_id()
    wanted = {"event": "signed_in", "user_id": str(about), "since": "2026-11-20T02:00:00+02:00"}

    await client.post("/audit/exports", json=wanted, headers=operator.headers)

    async with database.unit_of_work(read_only=True) as session:
        [row] = await session.scalars(select(AuditEvent).where(AuditEvent.event == "audit_exported"))
    assert (row.actor_id, row.user_id) == (operator.account.id, about)
    assert row.details == {"filter": '{"event": "signed_in", "since": "2026-11-20 00:00:00+00:00"}'}
    job = await newest(database)
    assert job.owner_id == operator.account.id
    assert (job.payload["event"], job.payload["since"]) == ("signed_in", "2026-11-20T00:00:00Z")


async def test_an_operator_has_one_export_of_the_audit_at_a_time(
    client: AsyncClient, operator: SignedIn, finish: Finish
) -> None:
    first = await client.post("/audit/exports", json={}, headers=operator.headers)

    second = await client.post("/audit/exports", json={"event": "signed_in"}, headers=operator.headers)

    assert_problem(second, 409, "export_under_way")
    await finish(UUID(first.json()["job_id"]))
    assert (await client.post("/audit/exports", json={}, headers=operator.headers)).status_code == 202


async def test_who_is_no_operator_any_more_fetches_no_audit(
    client: AsyncClient, operator: SignedIn, database: Database, finish: Finish
) -> None:
    """Not even by the route that everybody has for their own export."""
    accepted = await client.post("/audit/exports", json={}, headers=operator.headers)
    job_id = UUID(accepted.json()["job_id"])
    await finish(job_id)
    async with database.unit_of_work() as session:
        await session.execute(update(User).where(User.id == operator.account.id).values(role=Role.USER))

    for path, status in ((f"/audit/exports/{job_id}", 403), (f"/auth/me/exports/{job_id}", 404)):
        assert (await client.get(path, headers=operator.headers)).status_code == status


async def test_the_audit_is_exported_for_operators_alone(
    auth: Auth, database: Database, client: AsyncClient, signed_in: SignedIn
) -> None:
    assert_problem(await client.post("/audit/exports", json={}, headers=signed_in.headers), 403, "operator_required")
    account = signed_in.account
    principal = Principal(account.id, account.email, Role.USER, new_id(), utcnow())
    async with database.unit_of_work() as session:
        with pytest.raises(OperatorRequired):
            await service.request_audit_export(auth, session, principal, AuditFilter(), client=NOBODY)
