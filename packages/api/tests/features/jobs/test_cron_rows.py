"""Crons of the table, as operators add, change, pause, run and delete them over HTTP."""

from typing import Any
from urllib.parse import quote

import pytest
from httpx2 import AsyncClient, Response
from sqlalchemy import select, text

from app_api.testing import SignedIn, assert_problem
from app_db import Database
from app_db.features.jobs.payloads import ActOnJobs
from app_db.jobs.crons import cron_states
from app_db.jobs.schedule_values import ScheduleValues
from app_db.jobs.schedules import add_schedule
from app_db.models import AuditEvent, Job

EVIL = "<b>&/?#"
NIGHTLY = {"name": "reports.nightly", "kind": "sessions.prune", "expression": "30 2 * * *", "timezone": "Europe/Berlin"}


async def add(client: AsyncClient, operator: SignedIn, **values: Any) -> Response:
    return await client.post("/jobs/crons", json={**NIGHTLY, **values}, headers=operator.headers)


async def act(client: AsyncClient, operator: SignedIn, action: str, name: str = "reports.nightly") -> Response:
    return await client.post(f"/jobs/crons/{quote(name, safe='')}/{action}", headers=operator.headers)


async def change(client: AsyncClient, operator: SignedIn, version: int = 1, **values: Any) -> Response:
    body = {**NIGHTLY, **values, "version": version}
    name = body.pop("name")
    return await client.put(f"/jobs/crons/{name}", json=body, headers=operator.headers)


async def listed(client: AsyncClient, operator: SignedIn) -> list[Any]:
    items: list[Any] = (await client.get("/jobs/crons", headers=operator.headers)).json()["items"]
    return items


async def in_code(database: Database, name: str) -> None:
    async with database.unit_of_work() as session:
        await cron_states(session, [name])


async def test_a_cron_is_added_and_listed_beside_those_in_code(
    client: AsyncClient, operator: SignedIn, database: Database
) -> None:
    await in_code(database, "a.cron")

    added = await add(client, operator, queue="slow", priority=7, catch_up="all")

    assert added.status_code == 201
    of_code, shown = await listed(client, operator)
    assert (of_code["name"], of_code["schedule"]) == ("a.cron", None)
    assert shown == added.json()
    assert (shown["name"], shown["kind"], shown["queue"], shown["is_served"]) == (
        "reports.nightly", "sessions.prune", "slow", False,
    )  # fmt: skip
    assert len(shown["next_ticks"]) == 3
    own = shown["schedule"]
    assert (own["version"], own["priority"], own["catch_up"], own["overlap"]) == (1, 7, "all", True)
    assert (own["created_by"], own["paused_at"], own["is_shadowed"]) == (str(operator.account.id), None, False)


@pytest.mark.parametrize(
    ("values", "pointers"),
    [
        ({"kind": "misspelt"}, ["#/kind"]),
        ({"kind": "email.welcome"}, ["#/payload/user_id"]),
        ({"payload": {"a/b": "secret"}}, ["#/payload/a~1b"]),
        ({"payload": []}, ["#/payload"]),
        ({"expression": "0 0 30 2 *"}, ["#/expression"]),
        ({"expression": "x" * 201}, ["#/expression"]),
        ({"timezone": "Europe/Atlantis", "queue": ""}, ["#/timezone", "#/queue"]),
        ({"priority": 32768}, ["#/priority"]),
        ({"name": ""}, ["#/name"]),
        ({"name": "x" * 201}, ["#/name"]),
        ({"catch_up": "some"}, ["#/catch_up"]),
        ({"catch_up": "all", "overlap": False}, ["#/overlap"]),
        ({"more": 1}, ["#/more"]),
    ],
)
async def test_a_cron_that_cannot_be_meant_is_a_problem_and_no_row(
    client: AsyncClient, operator: SignedIn, values: dict[str, Any], pointers: list[str]
) -> None:
    refused = await add(client, operator, **values)

    assert refused.status_code == 422
    assert [error["pointer"] for error in refused.json()["errors"]] == pointers
    assert "secret" not in refused.text
    assert await listed(client, operator) == []


async def test_the_job_that_acts_on_many_is_not_scheduled(
    client: AsyncClient, operator: SignedIn, database: Database
) -> None:
    payload = '{"action": "delete", "state": "completed"}'
    refused = await add(client, operator, kind=ActOnJobs.kind, payload={"action": "delete", "state": "completed"})
    async with database.unit_of_work() as session:  # as by a command on a server
        values = ScheduleValues(ActOnJobs.kind, "0 * * * *", payload)
        await add_schedule(session, "by.shell", values, by="shell", payload_classes={ActOnJobs.kind: ActOnJobs})

    run = await act(client, operator, "run", "by.shell")

    assert_problem(refused, 422, "invalid_cron")
    assert_problem(run, 409, "cron_kind_gone")


async def test_two_crons_do_not_share_a_name(client: AsyncClient, operator: SignedIn, database: Database) -> None:
    await in_code(database, "of.code")
    await add(client, operator)

    assert_problem(await add(client, operator), 409, "cron_name_taken")
    assert_problem(await add(client, operator, name="of.code"), 409, "cron_name_taken")


async def test_a_change_needs_the_version_that_was_read(client: AsyncClient, operator: SignedIn) -> None:
    await add(client, operator)

    changed = await change(client, operator, expression="0 5 * * *", timezone="UTC", overlap=False)
    late = await change(client, operator, expression="0 6 * * *")

    assert changed.json()["next_ticks"][0].endswith("T05:00:00Z")
    assert (changed.json()["schedule"]["version"], changed.json()["schedule"]["overlap"]) == (2, False)
    assert_problem(late, 409, "cron_changed")
    assert (await listed(client, operator))[0]["expression"] == "0 5 * * *"


async def test_a_cron_that_is_not_in_the_table_is_not_changed(
    client: AsyncClient, operator: SignedIn, database: Database
) -> None:
    missing = [
        await change(client, operator),
        *[await act(client, operator, action) for action in ("pause", "resume", "run")],
        await client.delete("/jobs/crons/reports.nightly", headers=operator.headers),
    ]
    await in_code(database, "reports.nightly")
    async with database.unit_of_work() as session:
        await session.execute(text("UPDATE job_crons SET seen_at = now()"))
    of_code = [
        await change(client, operator),
        *[await act(client, operator, action) for action in ("pause", "resume")],
        await client.delete("/jobs/crons/reports.nightly", headers=operator.headers),
    ]

    for response in missing:
        assert_problem(response, 404, "cron_not_found")
    for response in of_code:
        assert_problem(response, 409, "cron_in_code")


async def test_a_cron_is_paused_run_and_resumed_whatever_its_name(
    client: AsyncClient, operator: SignedIn, database: Database
) -> None:
    await add(client, operator, name=EVIL)

    paused = await act(client, operator, "pause", EVIL)
    [shown] = await listed(client, operator)
    run = await act(client, operator, "run", EVIL)
    resumed = await act(client, operator, "resume", EVIL)

    assert [response.status_code for response in (paused, run, resumed)] == [204, 204, 204]
    assert (shown["next_ticks"], shown["schedule"]["paused_by"]) == ([], str(operator.account.id))
    [shown] = await listed(client, operator)
    assert (len(shown["next_ticks"]), shown["schedule"]["paused_at"]) == (3, None)
    async with database.unit_of_work(read_only=True) as session:
        [job] = await session.scalars(select(Job).where(Job.kind == "sessions.prune"))
    assert shown["last_job_id"] == str(job.id)


async def test_deleting_a_cron_needs_a_fresh_sign_in(
    client: AsyncClient, operator: SignedIn, database: Database
) -> None:
    await add(client, operator)
    async with database.unit_of_work() as session:
        await session.execute(text("UPDATE user_sessions SET created_at = created_at - interval '1 hour'"))

    refused = await client.delete("/jobs/crons/reports.nightly", headers=operator.headers)

    assert_problem(refused, 403, "reauthentication_required")
    assert len(await listed(client, operator)) == 1


async def test_a_deleted_cron_is_gone(client: AsyncClient, operator: SignedIn) -> None:
    await add(client, operator)

    assert (await client.delete("/jobs/crons/reports.nightly", headers=operator.headers)).status_code == 204

    assert await listed(client, operator) == []


async def test_a_cron_whose_name_the_code_got_later_is_shown_as_shadowed(
    client: AsyncClient, operator: SignedIn, database: Database
) -> None:
    await add(client, operator)
    await in_code(database, "reports.nightly")

    of_code, row = await listed(client, operator)

    assert (of_code["name"], of_code["schedule"]) == ("reports.nightly", None)
    assert (row["name"], row["schedule"]["is_shadowed"], row["is_served"]) == ("reports.nightly", True, False)


async def test_who_acts_on_a_cron_is_audited(client: AsyncClient, operator: SignedIn, database: Database) -> None:
    await add(client, operator)
    await change(client, operator)
    for action in ("pause", "resume", "run"):
        await act(client, operator, action)
    await client.delete("/jobs/crons/reports.nightly", headers=operator.headers)

    async with database.unit_of_work(read_only=True) as session:
        rows = list(await session.scalars(select(AuditEvent).where(AuditEvent.event.startswith("cron"))))
    about = {"cron": "reports.nightly"}
    assert [(row.event, row.details) for row in sorted(rows, key=lambda row: row.id)] == [
        ("cron_added", {**about, "kind": "sessions.prune"}),
        ("cron_changed", {**about, "kind": "sessions.prune"}),
        ("cron_paused", about),
        ("cron_resumed", about),
        ("cron_run_requested", about),
        ("cron_deleted", about),
    ]
    assert {row.actor_id for row in rows} == {operator.account.id}
