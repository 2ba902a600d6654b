"""The page about the system: what an operator asks of a process, without its secrets."""

import asyncio
from collections.abc import Mapping
from threading import Event

import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from app_api.console.live import Hub
from app_api.lifespan import State
from app_api.settings import ApiSettings
from app_api.testing import SignedIn, run_lifespan
from app_db import Database
from app_db.jobs.crons import CronDescription, cron_states, describe_crons, note_done
from app_db.testing.queries import assert_queries
from app_runtime.testing.processes import free_port
from packages.api.tests.conftest import Browser, app_of, browser_of
from packages.api.tests.console.live_parts import marks_of, texts_of


async def page_of(settings: ApiSettings, operator: SignedIn, origins: Mapping[str, str] | None = None) -> str:
    app = app_of(settings, origins=origins)
    async with run_lifespan(app) as state, browser_of(app, state) as browser:
        await browser.sign_in(operator.account)
        with assert_queries(state["database"], max=4):
            return (await browser.get("/console/system")).text


def with_replica(settings: ApiSettings, url: str) -> ApiSettings:
    database = settings.database.model_copy(update={"replica_url": SecretStr(url)})
    return settings.model_copy(update={"database": database})


async def test_settings_show_where_they_come_from_and_no_secret(api_settings: ApiSettings, operator: SignedIn) -> None:
    text = await page_of(
        api_settings, operator, {"APP_REDIS__URL": "variable", "APP_AUTH__PEPPERS": "APP_SECRETS_FILE"}
    )

    rows = {row.partition("</code>")[0]: row for row in text.split('<tr><th scope="row"><code>')[1:]}
    assert "variable" in rows["APP_REDIS__URL"]
    assert "APP_SECRETS_FILE" in rows["APP_AUTH__PEPPERS"]
    assert "default" in rows["APP_HTTP__PORT"]
    for secret in (*api_settings.auth.peppers, *api_settings.auth.token_keys):
        assert secret.key_bytes.decode(errors="replace") not in text
    assert "none is set" in text


async def test_pools_and_retention_are_shown(
    app: FastAPI, operator_browser: Browser, database: Database, api_settings: ApiSettings
) -> None:
    before = (await operator_browser.get("/console/system")).text
    async with database.unit_of_work() as session:
        await cron_states(session, ["pets.prune"])
    async with database.unit_of_work() as session:
        await describe_crons(session, [CronDescription("pets.prune", "0 3 * * *", "UTC", "retention", "pets.prune")])

    after = (await operator_browser.get("/console/system")).text

    assert "no worker has it" in before
    assert "no worker has it" not in after
    assert "pets.prune" in after
    assert "discarded jobs, default" in after
    assert f">{api_settings.database.pool_size}</td>" in after


async def test_what_workers_apply_is_shown_instead_of_the_default(
    app: FastAPI, operator_browser: Browser, database: Database
) -> None:
    applied = {"completed": 86400.0 * 9, "audit": None, "audit_after_export": True, "of_a_feature": 60.0}
    async with database.unit_of_work() as session:
        await cron_states(session, ["pets.prune"])
    async with database.unit_of_work() as session:
        await describe_crons(session, [CronDescription("pets.prune", "0 3 * * *", "UTC", "retention", "pets.prune")])
        await note_done(session, "pets.prune", applied=applied)

    text = " ".join((await operator_browser.get("/console/system")).text.split())

    assert "<dt>completed jobs</dt><dd>9 d, or as their handler says</dd>" in text
    assert "<dt>audit</dt><dd>for ever</dd>" in text
    assert "<dt>audit only after export</dt><dd>yes</dd>" in text
    assert "<dt>of_a_feature</dt>" in text
    assert ("completed jobs, default" in text, "cancelled jobs, default" in text) == (False, True)


async def test_the_page_is_followed(app: FastAPI, operator_browser: Browser, database: Database, state: State) -> None:
    (mark,) = marks_of((await operator_browser.get("/console/system")).text)

    with assert_queries(database, max=2):
        texts = await texts_of(app, database, mark, probe=state["readiness_probe"])

    assert "<h2>Health</h2>" in texts[mark]
    assert "<h2>Connections to Postgres</h2>" in texts[mark]


async def test_the_stream_sends_what_is_in_no_table(api_settings: ApiSettings, operator: SignedIn) -> None:
    app = app_of(api_settings, stopping=(stopping := Event()))
    hub: Hub = app.state.console_hub
    async with run_lifespan(app) as state, browser_of(app, state) as browser:
        await browser.sign_in(operator.account)
        watching = asyncio.create_task(browser.get("/console/live?watch=system:"))
        for _ in range(400):
            if hub._texts or watching.done():  # what the first poll has found
                break
            await asyncio.sleep(0.05)
        stopping.set()
        streamed = await asyncio.wait_for(watching, 30)

    assert "<h2>Connections to Postgres</h2>" in streamed.text


@pytest.mark.parametrize("answers", [True, False])
async def test_the_server_of_stale_reads_is_asked(
    api_settings: ApiSettings, operator: SignedIn, *, answers: bool
) -> None:
    gone = f"postgresql://app@127.0.0.1:{free_port()}/gone_test"
    url = api_settings.database.url.get_secret_value() if answers else gone

    text = await page_of(with_replica(api_settings, url), operator)

    assert ("the primary answers" in text, "does not answer" in text) == (answers, not answers)
