"""The database is dumped, lost and restored by the commands of docs/how-to/operations.md, and everything goes on."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from httpx2 import AsyncClient, Response
from pydantic import SecretStr

from app_auth.testing import PASSWORD
from app_db.engine import script_session
from app_db.features.accounts.payloads import WelcomeEmail
from app_db.jobs.outbox import enqueue
from app_db.settings import DatabaseSettings
from app_db.types import utcnow
from app_runtime.testing.servers import PostgresServer, ValkeyServer
from tests.docs.checkout import ROOT, reader_environment
from tests.docs.pages import Action, steps_of
from tests.docs.performing import reader
from tests.reads import BACKUP

from .processes import Api, MailSink, Worker, connected, eventually, until

ADA, BOB = "ada@example.test", "bob@example.test"
PAGE = ROOT / "docs/how-to/operations.md"
ENVIRONMENT = {
    "APP_ENV": "test",
    "APP_AUTH__VERIFICATION": "off",
    "APP_AUTH__BCRYPT_ROUNDS": "4",
    "APP_WORKER__LEASE": "2",
    "APP_WORKER__GRACE": "0",
}
MISSED_FOR_DAYS = "UPDATE job_crons SET last_tick_at = last_tick_at - interval '3 days'"
STATE = "SELECT state FROM jobs WHERE id = $1"
PRUNED = "SELECT count(*) FROM jobs WHERE kind = 'sessions.prune'"
NOTHING_IS_OPEN = "SELECT count(*) = 0 FROM jobs WHERE state NOT IN ('completed', 'discarded', 'cancelled')"
SOON = timedelta(seconds=1)
MAY_REWRITE_THE_AUDIT = "SELECT has_table_privilege('app', 'audit_events', 'UPDATE, DELETE, TRUNCATE')"


class Site:
    """Both servers, the processes on them, and a shell in which a reader types the commands of the page."""

    def __init__(self, postgres: PostgresServer, valkey: ValkeyServer, mails: MailSink, folder: Path) -> None:
        self.mails, self._postgres, self._folder = mails, postgres, folder
        secrets = str(folder / "secrets.env")
        self.admin, self.server = self._url("postgres", "app"), self._url("postgres", "postgres")
        self.environment = {**ENVIRONMENT, "APP_SECRETS_FILE": secrets, "APP_MAIL__URL": mails.url}
        self._here = {
            "db.internal:5432": f"127.0.0.1:{postgres.port}",
            "rediss://valkey.internal:6379/0": valkey.url,
            "secrets.env": secrets,
            "app.dump": str(folder / "app.dump"),
        }

    def _url(self, user: str, database: str) -> str:
        return f"postgresql://{user}:{self._postgres.password}@127.0.0.1:{self._postgres.port}/{database}"

    async def prepare(self) -> None:
        """Rename the administrator of the test server, `app`, to `postgres`: the applications' role is called `app`."""
        async with connected(self._url("app", "postgres")) as connection:
            await connection.execute(f"CREATE ROLE other SUPERUSER LOGIN PASSWORD '{self._postgres.password}'")
        async with connected(self._url("other", "postgres")) as connection:
            await connection.execute("ALTER ROLE app RENAME TO postgres")
            await connection.execute("CREATE DATABASE app")

    def type(self, command: str) -> None:
        """Run the page's block that begins with this command."""
        (block,) = (
            step for step in steps_of(PAGE) if step.action is Action.RUN and step.text.startswith(f"$ {command}")
        )
        path = f"{Path(sys.executable).parent}{os.pathsep}{self._postgres.programs}{os.pathsep}{os.environ['PATH']}"
        environment = reader_environment(PATH=path, ADMIN=self.admin, SERVER=self.server)
        with reader(ROOT, env=environment, replace=self._here) as performer:
            performer.do(block)

    @contextmanager
    def api(self, name: str) -> Iterator[str]:
        api = Api(env=self.environment, log=self._folder / f"{name}.log")
        yield api.url
        assert api.stop() == 0, api.output

    @contextmanager
    def worker(self, name: str) -> Iterator[Worker]:
        worker = Worker(env=self.environment, log=self._folder / f"{name}.log")
        yield worker
        worker.kill()  # as a power failure would

    async def ask(self, query: str, *arguments: Any) -> Any:  # Any: whatever Postgres says
        async with connected(self.admin) as connection:
            return await connection.fetchval(query, *arguments)

    async def schedule_mail(self, email: str) -> UUID:
        """Accept a job that is due while the database is away."""
        user_id = await self.ask("SELECT id FROM users WHERE email = $1", email)
        async with script_session(DatabaseSettings(url=SecretStr(self.admin))) as session:
            return await enqueue(session, WelcomeEmail(user_id=user_id), run_at=utcnow() + SOON)

    async def work_is_done(self) -> bool:
        return bool(await self.ask(NOTHING_IS_OPEN))


@dataclass(frozen=True, slots=True)
class Before:
    """Tokens, jobs and figures of the time before the restore."""

    access_token: str
    refresh_token: str
    from_the_future: str
    """A refresh token that was issued after the dump."""
    export_id: str
    scheduled_id: UUID
    pruned: int


@dataclass(frozen=True, slots=True)
class After:
    """Answers, states and figures after the restore."""

    answers: dict[str, int]
    states: dict[str, str]
    mails_to_ada: int
    pruned: int
    may_rewrite_the_audit: bool


async def sign_in(client: AsyncClient) -> dict[str, str]:
    answer = await client.post("/auth/access-token", data={"username": ADA, "password": PASSWORD})
    tokens: dict[str, str] = answer.raise_for_status().json()
    return tokens


async def refresh(client: AsyncClient, token: str) -> Response:
    return await client.post("/auth/refresh-token", json={"refresh_token": token})


async def live_and_dump(site: Site, client: AsyncClient) -> Before:
    """Dump while a mail is being sent, a job waits and another is due later; then go on as usual."""
    site.mails.stalling = True
    with site.worker("before"):
        await client.post("/auth/register", json={"email": ADA, "password": PASSWORD})
        await until(lambda: site.mails.stalled, "the mail is being sent")
    tokens, others = await sign_in(client), await sign_in(client)
    bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
    export = await client.post("/auth/me/export", headers=bearer)
    scheduled = await site.schedule_mail(ADA)
    await site.ask(MISSED_FOR_DAYS)
    pruned = await site.ask(PRUNED)

    site.type("pg_dump")

    site.mails.stalling = False
    refreshed = await refresh(client, others["refresh_token"])
    await client.post("/auth/register", json={"email": BOB, "password": PASSWORD})
    with site.worker("meanwhile"):
        await eventually(site.work_is_done, "all work of before the restore is done")
    return Before(
        tokens["access_token"],
        tokens["refresh_token"],
        refreshed.json()["refresh_token"],
        export.json()["job_id"],
        scheduled,
        pruned,
    )


async def look(site: Site, client: AsyncClient, before: Before) -> After:
    """Let a worker finish the restored jobs, and see which tokens are still valid."""
    with site.worker("after"):
        await eventually(site.work_is_done, "all work of after the restore is done")
    bob = {"username": BOB, "password": PASSWORD}
    answers = {
        "ready": await client.get("/probe/ready"),
        "me": await client.get("/auth/me", headers={"Authorization": f"Bearer {before.access_token}"}),
        "refresh": await refresh(client, before.refresh_token),
        "from the future": await refresh(client, before.from_the_future),
        "registered after the dump": await client.post("/auth/access-token", data=bob),
    }
    return After(
        {name: answer.status_code for name, answer in answers.items()},
        {
            "waited": await site.ask(STATE, before.export_id),
            "scheduled": await site.ask(STATE, before.scheduled_id),
        },
        len(site.mails.to(ADA)),
        await site.ask(PRUNED) - before.pruned,
        await site.ask(MAY_REWRITE_THE_AUDIT),
    )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def after(tmp_path_factory: pytest.TempPathFactory) -> After:
    with PostgresServer.temporary() as postgres, ValkeyServer.temporary() as valkey, MailSink() as mails:
        site = Site(postgres, valkey, mails, tmp_path_factory.mktemp("backup"))
        await site.prepare()
        site.type("python -m app_api config init")
        with site.api("api-before") as url:
            async with AsyncClient(base_url=url, timeout=90) as client:
                before = await live_and_dump(site, client)

        site.type("psql")

        mails.mails.clear()
        with site.api("api-after") as url:
            async with AsyncClient(base_url=url, timeout=90) as client:
                return await look(site, client, before)


pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.xdist_group("backup"),
    BACKUP,
]  # `after` is built once for all tests


def test_the_api_is_ready_after_a_restore(after: After) -> None:
    assert after.answers["ready"] == 200


@pytest.mark.parametrize("use", ["me", "refresh"])
def test_a_token_from_before_the_dump_is_valid_after_the_restore(after: After, use: str) -> None:
    assert after.answers[use] == 200


@pytest.mark.parametrize("what", ["from the future", "registered after the dump"])
def test_what_came_after_the_dump_is_unknown_after_the_restore(after: After, what: str) -> None:
    assert after.answers[what] == 400


@pytest.mark.parametrize("job", ["waited", "scheduled"])
def test_a_job_that_was_open_in_the_dump_is_done_after_the_restore(after: After, job: str) -> None:
    assert after.states[job] == "completed"


def test_each_mail_that_was_open_in_the_dump_is_sent_once_after_the_restore(after: After) -> None:
    assert after.mails_to_ada == 2  # the one that was being sent, and the scheduled one


def test_the_ticks_that_a_cron_missed_become_one_job_after_the_restore(after: After) -> None:
    assert after.pruned in {1, 2}  # of three days; the second one if a tick has just passed


def test_nobody_may_rewrite_the_audit_after_the_restore(after: After) -> None:
    assert not after.may_rewrite_the_audit
