"""Limits of kinds as an operator sees and sets them in the console."""

from typing import Any

import pytest
import pytest_asyncio
from fastapi import FastAPI
from sqlalchemy import select

from app_api.lifespan import State
from app_db import Database
from app_db.jobs import limit_control
from app_db.jobs.limit_control import LimitRow
from app_db.jobs.limits import Limit
from app_db.jobs.payload import JobPayload
from app_db.models import AuditEvent
from app_db.testing.queries import assert_queries
from packages.api.tests.conftest import Browser
from packages.api.tests.console.live_parts import texts_of

EVIL = "<b>&calls"


class Call(JobPayload, limit=Limit(running=2, per="clinic")):
    """A call to a clinic that takes two at once."""

    kind = EVIL
    clinic: str


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def declared(database: Database) -> None:
    async with database.unit_of_work() as session:
        await limit_control.declare(session, [Call])


async def limit_of(database: Database) -> LimitRow:
    async with database.unit_of_work(read_only=True) as session:
        [limit] = await limit_control.limits(session)
    return limit


async def test_limits_are_shown_and_followed(
    app: FastAPI, database: Database, operator_browser: Browser, state: State
) -> None:
    with assert_queries(state["database"], max=3):
        page = (await operator_browser.get("/console/limits")).text

    assert EVIL not in page
    assert "as in the code" in page
    assert "clinic" in page
    assert "as in the code" in (await texts_of(app, database, "limits:"))["limits:"]


async def test_who_limits_a_kind_is_audited(operator_browser: Browser, database: Database) -> None:
    done = await operator_browser.post("/console/limits/set", kind=EVIL, running="", rate="100/m")

    assert done.headers["Location"] == "/console/limits?done=limit-set"
    limit = await limit_of(database)
    assert (limit.running, limit.rate) == (None, "100/m")
    page = (await operator_browser.get("/console/limits")).text
    assert "set by an operator" in page
    async with database.unit_of_work(read_only=True) as session:
        [row] = await session.scalars(select(AuditEvent).where(AuditEvent.event == "kind_limited"))
    assert row.details.items() >= {"kind": EVIL, "rate": "100/m"}.items()
    assert limit.set_by == str(row.actor_id)


async def test_the_limit_in_the_code_holds_again(operator_browser: Browser, database: Database) -> None:
    await operator_browser.post("/console/limits/set", kind=EVIL, running="7", rate="")
    assert (await limit_of(database)).running == 7

    done = await operator_browser.post("/console/limits/reset", kind=EVIL)

    assert done.headers["Location"] == "/console/limits?done=limit-reset"
    limit = await limit_of(database)
    assert (limit.running, limit.set_at) == (2, None)


@pytest.mark.parametrize("values", [{"rate": "often"}, {"rate": "0/m"}, {"running": "0"}, {"running": "x"}])
async def test_what_is_no_limit_is_refused(
    operator_browser: Browser, database: Database, values: dict[str, Any]
) -> None:
    refused = await operator_browser.post("/console/limits/set", kind=EVIL, **values)

    assert refused.status_code == 422
    assert (await limit_of(database)).set_at is None


async def test_a_kind_without_a_limit_has_none_to_set(operator_browser: Browser) -> None:
    for action in ("set", "reset"):
        assert (await operator_browser.post(f"/console/limits/{action}", kind="misspelt")).status_code == 404
