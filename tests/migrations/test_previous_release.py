"""A rolling deployment: the previous release works on the new schema, and beside the processes of the new code.

The previous release is the tree of the commit in packages/api/RELEASED, and for workers in packages/worker/RELEASED: a
release holds no unreleased change of another package. Its sources run in the environment that is installed today.
"""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from httpx2 import AsyncClient
from members import has_commit, members_of, unpack

from app_api.feature_settings import VARIABLES_OF_RINGS
from app_auth.keys import RINGS
from app_auth.testing import PASSWORD
from app_db import Database
from app_db.settings import DatabaseSettings
from tests.e2e.conftest import api_environment
from tests.e2e.processes import Api, MailSink, Worker, eventually, until

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
RELEASES = ("previous", "new")
RINGS_OF_FEATURES = {name for ring, name in VARIABLES_OF_RINGS.items() if ring not in RINGS}

type Sources = dict[str, dict[str, dict[str, str]]]
type Clients = dict[str, AsyncClient]
type StartWorker = Callable[[str], Worker]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """The environment in which an application runs the sources of a release; those of the new one are installed."""
    members = members_of(ROOT)
    # Not measured: the report of coverage is about today's sources.
    unmeasured = {name: "" for name in os.environ if name.startswith("COVERAGE_")}
    sources: Sources = {"new": {"api": {}, "worker": {}}, "previous": {}}
    for application in ("api", "worker"):
        if not has_commit(ROOT, commit := members[application].released):
            pytest.skip(
                f"{members[application].name} was released at {commit}, which this clone does not have: shallow?"
            )
        unpack(ROOT, commit, folder := tmp_path_factory.mktemp(f"released-{application}"))
        paths = os.pathsep.join(str(path) for path in folder.glob("packages/*/src"))
        sources["previous"][application] = {"PYTHONPATH": paths, **unmeasured}
    return sources


@pytest.fixture(scope="module")
def mail_sink() -> Iterator[MailSink]:
    with MailSink() as sink:
        yield sink


@pytest.fixture(scope="module")
def for_apis(database_settings: DatabaseSettings, valkey_url: str) -> dict[str, str]:
    """The variables of the APIs of both releases: only those that both know, and none of a feature that is new."""
    environment = api_environment(database_settings.url.get_secret_value(), valkey_url)
    known = {name: value for name, value in environment.items() if name not in RINGS_OF_FEATURES}
    limits = dict.fromkeys(("APP_THROTTLE__REGISTER_IP", "APP_THROTTLE__LOGIN_IP"), "10000/s")
    return {**known, **limits, "APP_AUTH__VERIFICATION": "off"}


@pytest.fixture(scope="module")
def for_workers(for_apis: dict[str, str], mail_sink: MailSink) -> dict[str, str]:
    """The variables of the workers of both releases."""
    shared = ("APP_ENV", "APP_DATABASE__URL", "APP_REDIS__URL", "APP_AUTH__TOKEN_KEYS")
    return {name: for_apis[name] for name in shared} | {
        "APP_MAIL__URL": mail_sink.url,
        "APP_MAIL__FROM": "Groundwork <hello@groundwork.test>",
        "APP_PUBLIC_BASE_URL": "https://groundwork.test/",
        "APP_WORKER__LEASE": "PT2S",
        "APP_WORKER__GRACE": "PT1S",
    }


@pytest.fixture(scope="module")
def apis(
    sources: Sources, for_apis: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Api]]:
    """One API of each release, on one database at the newest revision."""
    folder = tmp_path_factory.mktemp("apis")
    apis = {
        release: Api(env={**for_apis, **sources[release]["api"]}, log=folder / f"{release}.log") for release in RELEASES
    }
    yield apis
    for api in apis.values():
        assert api.stop() in {0, -signal.SIGTERM}, api.output


@pytest_asyncio.fixture(loop_scope="session")
async def http(apis: dict[str, Api], database: Database) -> AsyncIterator[Clients]:
    """A client of each API; their database is emptied after the test."""
    async with AsyncExitStack() as stack:
        yield {
            release: await stack.enter_async_context(AsyncClient(base_url=api.url, timeout=90))
            for release, api in apis.items()
        }


@pytest.fixture
def start_worker(sources: Sources, for_workers: dict[str, str], tmp_path: Path) -> Iterator[StartWorker]:
    """Start a worker of a release."""
    workers: list[Worker] = []

    def start(release: str) -> Worker:
        workers.append(
            Worker(env={**for_workers, **sources[release]["worker"]}, log=tmp_path / f"{len(workers)}-{release}.log")
        )
        return workers[-1]

    yield start
    for worker in workers:
        if worker.is_running():
            assert worker.stop() == 0, worker.output


async def register(http: AsyncClient, email: str) -> None:
    answer = await http.post("/auth/register", json={"email": email, "password": PASSWORD})
    assert answer.status_code == 201, answer.text


async def sign_in(http: AsyncClient, email: str) -> dict[str, str]:
    answer = await http.post("/auth/access-token", data={"username": email, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    tokens: dict[str, str] = answer.json()
    return tokens


async def refresh(http: AsyncClient, tokens: dict[str, str]) -> dict[str, str]:
    answer = await http.post("/auth/refresh-token", json={"refresh_token": tokens["refresh_token"]})
    assert answer.status_code == 200, answer.text
    renewed: dict[str, str] = answer.json()
    return renewed


async def export(http: AsyncClient, tokens: dict[str, str]) -> str:
    """Ask for an export, wait until it is completed, and return its result."""
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    accepted = await http.post("/auth/me/export", headers=headers)
    assert accepted.status_code == 202, accepted.text

    async def completed() -> str | None:
        job = (await http.get(accepted.headers["Location"], headers=headers)).json()
        return str(job["result"]) if job["state"] == "completed" else None

    return str(await eventually(completed, "the export is complete"))


@pytest.mark.parametrize("application", ["api", "worker"])
def test_the_previous_release_runs_from_its_own_sources(application: str, sources: Sources) -> None:
    paths = sources["previous"][application]["PYTHONPATH"].split(os.pathsep)
    of_today = [member.module for member in members_of(ROOT).values()]
    modules = [module for module in of_today if any(Path(path, module).is_dir() for path in paths)]
    command = [sys.executable, "-c", f"import {', '.join(modules)}; print({', '.join(modules)})"]

    run = subprocess.run(
        command, env={**os.environ, **sources["previous"][application]}, capture_output=True, text=True, check=True
    )

    assert f"app_{application}" in modules
    assert run.stdout.count("/released-") == len(modules)


async def test_the_previous_release_is_ready_on_the_new_schema(http: Clients) -> None:
    ready = await http["previous"].get("/probe/ready")

    assert ready.status_code == 200, ready.text


@pytest.mark.parametrize(("api", "worker"), [("previous", "previous"), ("previous", "new"), ("new", "previous")])
async def test_jobs_of_one_release_are_run_by_the_worker_of_another(
    api: str, worker: str, http: Clients, start_worker: StartWorker, mail_sink: MailSink
) -> None:
    start_worker(worker)

    await register(http[api], email := f"{api}-{worker}@example.test")

    assert email in await export(http[api], await sign_in(http[api], email))
    await until(lambda: mail_sink.to(email), "the mail is there")


@pytest.mark.parametrize(("first", "then"), [RELEASES, RELEASES[::-1]])
async def test_a_session_of_one_release_goes_on_at_the_other_and_back(first: str, then: str, http: Clients) -> None:
    await register(http[first], "ada@example.test")
    tokens = await sign_in(http[first], "ada@example.test")

    for release in (then, first, then):
        tokens = await refresh(http[release], tokens)

    for client in http.values():
        me = await client.get("/auth/me", headers={"Authorization": f"Bearer {tokens['access_token']}"})
        assert me.json()["email"] == "ada@example.test", me.text


async def test_workers_are_replaced_while_both_releases_accept_jobs(
    http: Clients, start_worker: StartWorker, mail_sink: MailSink
) -> None:
    leaving = start_worker("previous")
    start_worker("new")
    emails = [f"{release}-{number}@example.test" for number in range(4) for release in RELEASES]

    for email in emails[:4]:
        await register(http[email.partition("-")[0]], email)
    stopped = leaving.stop()
    for email in emails[4:]:
        await register(http[email.partition("-")[0]], email)

    await until(lambda: all(mail_sink.to(email) for email in emails), "all mails are there")
    assert [len(mail_sink.to(email)) for email in emails] == [1] * len(emails)
    assert stopped == 0, leaving.output
