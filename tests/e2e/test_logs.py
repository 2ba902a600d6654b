"""The logs of an API and a worker after a walk through everything: lines of JSON, with request ids, without secrets."""

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from httpx2 import AsyncClient, Response

from app_db import Database
from app_db.settings import DatabaseSettings

from .conftest import StartWorker, api_environment
from .http_site import NO_LIMITS
from .processes import Api, MailSink, Worker, until

ADA = "ada@example.test"
PASSWORD, NEXT_PASSWORD, WRONG_PASSWORD = "a very purple horse", "a rather green goose", "not at all her secret"
TELLING = ("Bearer", "Authorization", "authorization", "$2b$", "bcrypt-sha384$", "postgresql://", ADA)
"""Words that would show that a line holds a secret or personal data."""


@pytest.fixture
def environment(database: Database, database_settings: DatabaseSettings, valkey_url: str) -> dict[str, str]:
    environment = api_environment(database_settings.url.get_secret_value(), valkey_url)
    return (
        environment | NO_LIMITS | {"APP_LOG__LEVEL": "DEBUG", "APP_METRICS__ENABLED": "true", "APP_METRICS__PORT": "0"}
    )


@pytest.fixture
def api(environment: dict[str, str], tmp_path: Path) -> Iterator[Api]:
    """An API that logs at DEBUG and verifies addresses."""
    api = Api(env=environment, log=tmp_path / "api.log")
    yield api
    api.stop()


@pytest.fixture
def worker(start_worker: StartWorker, environment: dict[str, str]) -> Worker:
    return start_worker(APP_LOG__LEVEL="DEBUG", APP_AUTH__TOKEN_KEYS=environment["APP_AUTH__TOKEN_KEYS"])


@pytest_asyncio.fixture(loop_scope="session")
async def client(api: Api) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(base_url=api.url, timeout=90) as client:
        yield client


class Walk:
    """A client that remembers each secret that it sent or got."""

    def __init__(self, client: AsyncClient, mails: MailSink) -> None:
        self.secrets = {PASSWORD, NEXT_PASSWORD, WRONG_PASSWORD}
        self._client = client
        self._mails = mails
        self._tokens: dict[str, str] = {}

    async def send(self, method: str, path: str, **options: Any) -> Response:
        return await self._client.request(method, path, headers=self.bearer(), **options)

    def bearer(self) -> dict[str, str]:
        token = self._tokens.get("access_token")
        return {"Authorization": f"Bearer {token}"} if token else {}

    async def sign_in(self, password: str) -> None:
        answer = await self.send("POST", "/auth/access-token", data={"username": ADA, "password": password})
        self._keep(answer)

    async def refresh(self) -> str:
        used = self._tokens["refresh_token"]
        self._keep(await self.send("POST", "/auth/refresh-token", json={"refresh_token": used}))
        return used

    def _keep(self, answer: Response) -> None:
        if answer.is_success:
            self._tokens = {name: answer.json()[name] for name in ("access_token", "refresh_token")}
            self.secrets |= {*self._tokens.values()}

    async def link(self, count: int) -> str:
        """Wait for `count` mails with a link; return the token of the latest."""

        def links() -> list[str]:
            texts = [mail.get_body(("plain",)).get_content() for mail in self._mails.to(ADA)]  # type: ignore[union-attr]  # ours have one
            return [found[1] for text in texts if (found := re.search(r"token=(\S+)", text))]

        await until(lambda: len(links()) >= count, f"{count} mails with a link have come")
        self.secrets |= {*links()}
        return links()[-1]


@pytest.fixture
def walk(client: AsyncClient, mail_sink: MailSink) -> Walk:
    return Walk(client, mail_sink)


async def register_and_reset(walk: Walk) -> None:
    """Use every route that takes a password or a link, with success and without."""
    await walk.send("POST", "/auth/register", json={"email": ADA, "password": PASSWORD})
    await walk.sign_in(PASSWORD)  # not yet
    verify = await walk.link(1)
    body = {"token": verify, "password": PASSWORD}
    await walk.send("POST", "/auth/email/verify", json=body | {"token": verify[:-1]})
    await walk.send("POST", "/auth/email/verify", json=body | {"new_password": WRONG_PASSWORD})
    assert (await walk.send("POST", "/auth/email/verify", json=body)).status_code == 204
    await walk.send("POST", f"/auth/email/verify?token={verify}", json={"token": verify})
    await walk.send("GET", f"/{verify}")
    await walk.sign_in(WRONG_PASSWORD)
    await walk.send("POST", "/auth/password/forgot", json={"email": ADA})
    reset = {"token": await walk.link(2), "new_password": NEXT_PASSWORD}
    assert (await walk.send("POST", "/auth/password/reset", json=reset)).status_code == 204
    await walk.send("POST", "/auth/password/reset", json=reset)
    await walk.sign_in(NEXT_PASSWORD)


async def use_and_leave(walk: Walk) -> None:
    """Use the routes that take tokens, with success and without."""
    for path in (
        "/auth/me",
        "/auth/sessions",
        "/jobs/queues",
        "/probe/health",
        "/probe/ready",
        "/nowhere",
    ):
        await walk.send("GET", path)
    await walk.send("POST", "/auth/me/export")
    for path, field in {"/auth/password/change": "new_password", "/auth/reset-password": "password"}.items():
        change = {"current_password": WRONG_PASSWORD, field: PASSWORD}
        await walk.send("POST", path, json=change)
        await walk.send("POST", path, json={**change, "more": PASSWORD})
        await walk.send("POST", path, content=f'{{"current_password": "{NEXT_PASSWORD}", }}')
    used = await walk.refresh()
    await walk.refresh()
    await walk.send("POST", "/auth/refresh-token", json={"refresh_token": used})  # ends the session
    await walk.send("GET", "/auth/me")
    await walk.send("GET", "/auth/me", params={"access_token": used})
    await walk.sign_in(NEXT_PASSWORD)
    await walk.send("POST", "/auth/logout")
    await walk.sign_in(NEXT_PASSWORD)
    assert (await walk.send("DELETE", "/auth/me")).status_code == 204


async def test_no_secret_is_in_any_line(walk: Walk, api: Api, worker: Worker, environment: dict[str, str]) -> None:
    await register_and_reset(walk)
    await use_and_leave(walk)
    await until(lambda: len(worker.ends_of_jobs()) >= 3, "jobs have ended")
    api.stop()
    worker.stop()

    logs = api.output + worker.output
    rings = [json.loads(value) for name, value in environment.items() if name.endswith(("KEYS", "PEPPERS"))]
    walk.secrets |= {key["secret"] for ring in rings for key in ring}
    parts = {part for secret in walk.secrets for part in (secret, secret.rsplit(".", 1)[-1])}
    assert len(walk.secrets) > 10
    assert [part for part in parts if part in logs] == []
    assert [word for word in TELLING if word in logs] == []


async def test_every_line_is_json_whoever_wrote_it(client: AsyncClient, api: Api, worker: Worker) -> None:
    await client.get("/probe/live")

    api.stop()
    worker.stop()

    lines = [json.loads(line) for line in (api.output + worker.output).splitlines()]
    assert {"event", "level", "logger", "timestamp"} <= set.intersection(*(set(line) for line in lines))
    assert {"uvicorn.error", "app_api.middleware", "app_worker.process"} <= {line["logger"] for line in lines}


async def test_the_request_is_on_the_lines_of_the_jobs_that_it_caused(
    walk: Walk, client: AsyncClient, api: Api, worker: Worker
) -> None:
    headers = {"X-Request-ID": "the-one"}
    await client.post("/auth/register", json={"email": ADA, "password": PASSWORD}, headers=headers)
    await until(worker.ends_of_jobs, "the mail is sent")

    finished = {"event": "request_finished", "request_id": "the-one"}
    await until(lambda: has_line(api, lambda line: finished.items() <= line.items()), "the request is logged")
    (sent,) = worker.ends_of_jobs()
    assert (sent["request_id"], sent["attempt"], sent["queue"]) == ("the-one", 1, "default")
    assert not [line for line in worker.lines if line["logger"].startswith("arq")]  # arq would log the same again
    assert sent["worker_id"]
    assert sent["job_id"]


def has_line(process: Api | Worker, condition: Callable[[dict[str, Any]], bool]) -> bool:
    return any(condition(line) for line in process.lines)
