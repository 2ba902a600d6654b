"""Crons of the table in the console."""

from typing import Any

import pytest
from sqlalchemy import select, text, update

from app_db import Database
from app_db.jobs.crons import cron_states
from app_db.models import Job, JobSchedule
from packages.api.tests.conftest import Browser

EVIL = "<b>&/?#"
NIGHTLY: dict[str, Any] = {
    "name": EVIL,
    "kind": "sessions.prune",
    "payload": "{}",
    "expression": "30 2 * * 1-5",
    "timezone": "UTC",
}


async def row(database: Database) -> JobSchedule | None:
    async with database.unit_of_work(read_only=True) as session:
        return (await session.scalars(select(JobSchedule))).one_or_none()


async def change(database: Database, **values: Any) -> None:
    async with database.unit_of_work() as session:
        await session.execute(update(JobSchedule).values(values))


async def add(browser: Browser, **fields: str) -> None:
    response = await browser.post("/console/crons/add", **{**NIGHTLY, **fields})
    assert response.status_code == 303, response.text


async def test_a_cron_is_added_by_a_form_and_shown(operator_browser: Browser, database: Database) -> None:
    empty = (await operator_browser.get("/console/crons/add")).text

    done = await operator_browser.post("/console/crons/add", **NIGHTLY, catch_up="all", priority="7")
    page = (await operator_browser.get(done.headers["Location"])).text

    assert "<option>sessions.prune</option>" in empty
    assert "jobs.bulk" not in empty
    assert EVIL not in page
    for shown in ("The cron is added", "at 02:30, Monday to Friday", ">table<", "no worker runs", "Pause", "Change"):
        assert shown in page, shown
    added = await row(database)
    assert added is not None
    assert (added.name, added.priority, added.catch_up, added.overlap) == (EVIL, 7, "all", True)


async def test_what_is_wrong_with_a_cron_is_said_beside_what_was_typed(
    operator_browser: Browser, database: Database
) -> None:
    wrong = {**NIGHTLY, "expression": "61 * * * *", "timezone": "Europe/Atlantis", "kind": "misspelt", "alone": "true"}

    refused = await operator_browser.post("/console/crons/add", **wrong)

    assert refused.status_code == 422
    for shown in (
        "expression: It never ticks: Bad minute",
        "timezone: There is no such",
        "kind: There is no such kind",
    ):
        assert shown in refused.text, shown
    for kept in ('value="61 * * * *"', 'value="Europe/Atlantis"', '<option value="misspelt" selected>', "checked"):
        assert kept in refused.text, kept
    assert await row(database) is None


async def test_a_cron_is_changed_by_a_form_that_shows_it(operator_browser: Browser, database: Database) -> None:
    await add(operator_browser, alone="true")
    form = (await operator_browser.client.get("/console/crons/change", params={"cron": EVIL})).text

    fields = {**NIGHTLY, "expression": "0 4 * * *", "version": "1"}
    done = await operator_browser.post("/console/crons/change", **fields)
    late = await operator_browser.post("/console/crons/change", **fields)

    for shown in ('value="30 2 * * 1-5"', 'name="version" value="1"', "checked", "<option selected>sessions.prune"):
        assert shown in form, shown
    assert done.headers["Location"].endswith("done=cron-changed")
    assert (late.status_code, "changed meanwhile" in late.text) == (409, True)
    changed = await row(database)
    assert changed is not None
    assert (changed.expression, changed.overlap, changed.version) == ("0 4 * * *", True, 2)


async def test_a_cron_that_is_not_in_the_table_has_no_form(operator_browser: Browser) -> None:
    assert (await operator_browser.get("/console/crons/change?cron=misspelt")).status_code == 404


async def test_a_cron_is_paused_and_resumed(operator_browser: Browser, database: Database) -> None:
    await add(operator_browser)

    paused = (await operator_browser.post("/console/crons/pause", cron=EVIL)).headers["Location"]
    page = (await operator_browser.get(paused)).text
    resumed = (await operator_browser.post("/console/crons/resume", cron=EVIL)).headers["Location"]

    assert "The cron is paused" in page
    assert "Resume<" in page
    assert "@" in page.split("paused</span>")[1].split("</td>")[0], "who has paused it"
    assert "not made up" in (await operator_browser.get(resumed)).text


@pytest.mark.parametrize("action", ["pause", "resume", "run"])
async def test_what_cannot_be_done_to_a_cron_is_said_on_its_page(operator_browser: Browser, action: str) -> None:
    refused = await operator_browser.post(f"/console/crons/{action}", cron="misspelt")

    assert (refused.status_code, "There is no cron of this name." in refused.text) == (404, True)


async def test_a_cron_of_the_table_is_run_at_once(operator_browser: Browser, database: Database) -> None:
    await add(operator_browser)

    await operator_browser.post("/console/crons/run", cron=EVIL)

    async with database.unit_of_work(read_only=True) as session:
        [job] = await session.scalars(select(Job).where(Job.kind == "sessions.prune"))
    assert f"jobs/{job.id}" in (await operator_browser.get("/console/crons")).text


async def test_deleting_a_cron_is_confirmed(operator_browser: Browser, database: Database) -> None:
    await add(operator_browser)

    asked = await operator_browser.client.get("/console/crons/delete", params={"cron": EVIL})
    done = await operator_browser.post("/console/crons/delete", cron=EVIL)
    again = await operator_browser.post("/console/crons/delete", cron=EVIL)

    assert "Its jobs stay" not in asked.text
    assert "The jobs that it has enqueued stay" in asked.text
    assert done.headers["Location"].endswith("done=cron-deleted")
    assert again.status_code == 404
    assert await row(database) is None


async def test_deleting_a_cron_asks_for_the_password_again(operator_browser: Browser, database: Database) -> None:
    await add(operator_browser)
    async with database.unit_of_work() as session:
        await session.execute(text("UPDATE user_sessions SET created_at = created_at - interval '1 hour'"))

    asked = await operator_browser.get("/console/crons/delete?cron=x")
    posted = await operator_browser.post("/console/crons/delete", cron=EVIL)

    for response in (asked, posted):
        assert response.headers["Location"].startswith("/console/confirm")
    assert await row(database) is not None


async def test_why_a_cron_enqueues_nothing_is_shown(operator_browser: Browser, database: Database) -> None:
    await add(operator_browser)
    await change(database, problem="there is no kind 'x'")
    troubled = (await operator_browser.get("/console/crons")).text
    async with database.unit_of_work() as session:
        await cron_states(session, [EVIL])

    shadowed = (await operator_browser.get("/console/crons")).text

    assert "there is no kind &#39;x&#39;" in troubled
    assert "enqueues nothing" not in troubled
    assert "a cron in code has its name" in shadowed
    assert shadowed.count("data-key=") == 2
