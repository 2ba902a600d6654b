"""Rows expire by Postgres's clock: processes whose clocks are wrong end nothing early, and keep nothing too long.

Both happened: a worker that was 15 days ahead deleted valid sessions in one `sessions.prune`; one that was 31 minutes
behind mailed expired links, or completed `email.link` without a mail and without a log line.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from httpx2 import AsyncClient, Response
from sqlalchemy import text

from app_auth.testing import MakeAccount, SignIn
from app_db import Database
from app_db.features.accounts.payloads import OneTimeLink
from app_db.features.retention.payloads import PruneSessions
from app_db.jobs.outbox import enqueue
from app_db.jobs.retention import QUEUE
from app_db.models import TokenPurpose
from app_db.settings import DatabaseSettings
from app_db.types import new_id
from tests.reads import CLOCKS

from .conftest import StartWorker, api_environment
from .http_site import NO_LIMITS
from .processes import Api, MailSink, eventually
from .test_clocks import needs_faketime, skew

AHEAD, BEHIND = "+15d", "-31m"
PASSWORD = "correct horse battery 42"

pytestmark = [needs_faketime, CLOCKS]


async def one(database: Database, query: str) -> Any:
    async with database.read_sessions() as session:
        return (await session.scalars(text(query))).one()


@pytest.mark.parametrize("clock", [AHEAD, BEHIND])
async def test_a_prune_deletes_what_has_expired_and_nothing_that_lives(
    start_worker: StartWorker, database: Database, make_account: MakeAccount, sign_in: SignIn, clock: str
) -> None:
    account = await make_account()
    for _ in range(2):
        await sign_in(account)
    start_worker(**skew(clock))
    async with database.sessions.begin() as session:
        oldest = "(SELECT id FROM user_sessions ORDER BY id LIMIT 1)"
        await session.execute(text(f"UPDATE user_sessions SET idle_expires_at = now() WHERE id = {oldest}"))
        await enqueue(session, PruneSessions(), queue=QUEUE)

    await eventually(
        lambda: one(database, f"SELECT bool_and(state = 'completed') FROM jobs WHERE queue = '{QUEUE}'"),
        "it has pruned",
    )
    assert await one(database, "SELECT count(*) FROM user_sessions") == 1


@pytest.mark.parametrize("clock", [AHEAD, BEHIND])
async def test_a_link_lives_as_long_as_it_says(
    start_worker: StartWorker, database: Database, make_account: MakeAccount, mail_sink: MailSink, clock: str
) -> None:
    account = await make_account()
    worker = start_worker(**skew(clock))
    async with database.sessions.begin() as session:
        await enqueue(session, OneTimeLink(user_id=account.id, purpose=TokenPurpose.RESET_PASSWORD))

    done = "SELECT EXISTS (SELECT FROM jobs WHERE kind = 'email.link' AND state = 'completed')"
    await eventually(lambda: one(database, done), "the link has been mailed")
    assert "link_not_mailed" not in worker.output
    assert len(mail_sink.mails) == 2  # the other one is the welcome mail
    left = "extract(epoch FROM expires_at - now()) BETWEEN 29 * 60 AND 30 * 60"
    assert await one(database, f"SELECT {left} FROM one_time_tokens")


@pytest.fixture(params=[AHEAD, BEHIND])
def shifted_api(
    request: pytest.FixtureRequest, database_settings: DatabaseSettings, valkey_url: str, tmp_path: Path
) -> Iterator[Api]:
    environment = api_environment(database_settings.url.get_secret_value(), valkey_url)
    limits = {**NO_LIMITS, "APP_AUTH__VERIFICATION": "off", "APP_AUTH__REFRESH_GRACE": "PT2S"}
    api = Api(env={**environment, **limits, **skew(request.param)}, log=tmp_path / "api.log")
    yield api
    api.stop()


async def test_an_api_whose_clock_is_wrong_starts_renews_and_shows_sessions(
    shifted_api: Api, database: Database
) -> None:
    async with AsyncClient(base_url=shifted_api.url, timeout=90) as http:
        credentials = {"email": "ada@example.com", "password": PASSWORD}
        assert (await http.post("/auth/register", json=credentials)).status_code == 201
        form = {"username": "ada@example.com", "password": PASSWORD}
        tokens = (await http.post("/auth/access-token", data=form)).json()
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}

        lives = "extract(epoch FROM idle_expires_at - now()) / 86400 BETWEEN 13.9 AND 14"
        is_of_now = "abs(extract(epoch FROM {} - now())) < 60"
        assert await one(database, f"SELECT {lives} AND {is_of_now.format('created_at')} FROM user_sessions")
        assert (await http.get("/auth/me", headers=bearer)).status_code == 200
        assert len((await http.get("/auth/sessions", headers=bearer)).json()) == 1

        again = {"refresh_token": tokens["refresh_token"]}
        renewed = [await http.post("/auth/refresh-token", json=again) for _ in range(2)]
        assert [answer.status_code for answer in renewed] == [200, 200]
        assert await one(database, f"SELECT {lives} AND {is_of_now.format('rotated_at')} FROM user_sessions")

        async with database.sessions.begin() as session:
            await session.execute(text("UPDATE user_sessions SET rotated_at = now() - interval '3 seconds'"))
        late = await http.post("/auth/refresh-token", json=again)
        assert late.status_code == 400
        assert await one(database, "SELECT count(*) FROM user_sessions") == 0


async def test_an_api_whose_clock_is_wrong_ends_sessions_in_time(shifted_api: Api, database: Database) -> None:
    async with AsyncClient(base_url=shifted_api.url, timeout=90) as http:
        await http.post("/auth/register", json={"email": "ada@example.com", "password": PASSWORD})
        form = {"username": "ada@example.com", "password": PASSWORD}
        tokens = (await http.post("/auth/access-token", data=form)).json()
        async with database.sessions.begin() as session:
            await session.execute(text("UPDATE user_sessions SET idle_expires_at = now()"))

        answer = await http.get("/auth/me", headers={"Authorization": f"Bearer {tokens['access_token']}"})

        assert answer.status_code == 401


WINDOW = 10
"""Seconds in which only two wrong passwords are allowed."""


@pytest.fixture(params=[(AHEAD, BEHIND), (BEHIND, AHEAD)], ids=["ahead first", "behind first"])
def differing_apis(
    request: pytest.FixtureRequest, database_settings: DatabaseSettings, valkey_url: str, tmp_path: Path
) -> Iterator[list[Api]]:
    """Two APIs on one Valkey, whose clocks differ."""
    environment = api_environment(database_settings.url.get_secret_value(), valkey_url)
    environment |= {**NO_LIMITS, "APP_THROTTLE__LOGIN_ACCOUNT": f"2/{WINDOW}s"}
    apis = [Api(env={**environment, **skew(clock)}, log=tmp_path / f"api{clock}.log") for clock in request.param]
    yield apis
    for api in apis:
        api.stop()


async def test_apis_whose_clocks_differ_count_guesses_together_and_forget_them_in_time(
    differing_apis: list[Api], database: Database
) -> None:
    form = {"username": f"{new_id().hex}@example.com", "password": PASSWORD}
    first, second = differing_apis
    async with AsyncClient(timeout=90) as http:

        async def guess(api: Api) -> Response:
            return await http.post(f"{api.url}/auth/access-token", data=form)

        guesses = [(await guess(first)).status_code for _ in range(2)]
        refused = await guess(second)
        wait = int(refused.headers.get("Retry-After", 0))
        await asyncio.sleep(wait)
        afterwards = await guess(second)

    assert guesses == [400, 400]
    assert refused.status_code == 429
    assert 1 <= wait <= WINDOW
    assert afterwards.status_code == 400
