"""The pages about jobs work as they are written: their code and SQL run, their commands print the output shown."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from fastapi.routing import APIRoute
from httpx2 import AsyncClient
from sqlalchemy import text

from app_api.app import ROUTERS
from app_auth.testing import PASSWORD
from app_db import Database, Session
from app_db.telemetry.collectors import EnqueuedCollector
from app_db.testing.plugin import MakeUser
from app_runtime.testing.processes import free_port
from app_worker.health import WorkerHealth
from app_worker.metrics import OUTCOMES, Metrics
from app_worker.threads import HandlerThreads
from tests.docs.checkout import ROOT, reader_environment
from tests.docs.explaining import Block, Names, blocks_of, run_python
from tests.docs.pages import Step, commands_of
from tests.docs.performing import Performer, reader
from tests.docs.quoting import PATH, comparable, found_in_source
from tests.reads import OPERATED

from .conftest import Environment, StartWorker, key_ring
from .processes import Api, MailSink
from .test_readme import perform

WRITING = ROOT / "docs/how-to/jobs.md"
OPERATING = ROOT / "docs/how-to/operating-jobs.md"
COMPARED = ROOT / "docs/explanation/jobs-compared.md"
PAGES = (WRITING, OPERATING, COMPARED)

METRIC = re.compile(r"\b(?!test_)(?:[a-z0-9]+_)+(?:jobs?|worker|mails)_\w*[a-z]\b")
OUTCOME = re.compile(r'outcome="(\w+)"')
SETTING = re.compile(r"\bAPP_[A-Z]+(?:_[A-Z]+)*(?:__[A-Z]+(?:_[A-Z]+)*)?\b")
TEST = re.compile(r"def (test_\w+)")

BACK_AGAIN = "retry $id"
"""The mail server comes back before this command."""

# What differs from run to run in the output that the page shows, and the columns that move with it.
VOLATILE = re.compile(
    r"""
    \b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b            # ids
    | \b\d{4}-\d\d-\d\d\ \d\d:\d\d:\d\d\b                 # times
    | \b\d\.\d+\b(?=$|\ |,|}) (?<!\ 3\.0)                    # seconds
    | \bapp-1\b | (?<=\ )\d{4}\b(?=\ ) | (?<=on\ port\ )\d+   # hosts, processes, ports
    | \ {2,}
    """,
    re.VERBOSE | re.MULTILINE,
)


def excerpts() -> list[Block]:
    """Return the blocks that quote the source."""
    return [block for page in PAGES for block in blocks_of(page) if block.kind == ("python", "excerpt")]


@pytest_asyncio.fixture(loop_scope="session")
async def known(database: Database, make_user: MakeUser) -> Names:
    """Names that the code of the page uses without defining them."""
    return {"database": database, "ada": await make_user()}


async def test_the_code_of_the_page_about_writing_jobs_runs(known: Names) -> None:
    for block in blocks_of(WRITING):
        if block.kind == ("python",):
            await run_python(block, known, {})


@OPERATED
async def test_the_commands_of_the_page_about_writing_jobs_work(
    http: AsyncClient, api: Api, start_worker: StartWorker, tmp_path: Path
) -> None:
    await http.post("/auth/register", json={"email": "ada@example.com", "password": PASSWORD})
    form = {"username": "ada@example.com", "password": PASSWORD}
    access = (await http.post("/auth/access-token", data=form)).json()["access_token"]
    started = await http.post("/auth/me/export", headers={"Authorization": f"Bearer {access}"})
    start_worker()
    environment = {**reader_environment(), "access": access, "job": started.json()["job_id"]}
    here = {"localhost:8000": api.url.removeprefix("http://")}

    with reader(tmp_path, env=environment, replace=here) as performer:
        for step in console_steps(WRITING):
            perform(performer, step)


@pytest.fixture
def mail_sink_to_come() -> MailSink:
    """A mail server that the test starts later."""
    return MailSink()


@pytest.fixture
def operator(
    api: Api, worker_environment: Environment, mail_sink_to_come: MailSink, tmp_path: Path
) -> Iterator[Performer]:
    """A shell on a server where Groundwork is installed."""
    port = str(free_port())
    environment = {
        **reader_environment(),
        **worker_environment,
        **{f"APP_AUTH__{ring}": key_ring() for ring in ("KEYS", "REFRESH_KEYS", "TOKEN_KEYS", "PEPPERS")},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "APP_ENV": "test",
        "APP_LOG__FORMAT": "console",
        "APP_MAIL__URL": mail_sink_to_come.url,
        "APP_METRICS__ENABLED": "true",
        "APP_METRICS__PORT": port,
    }
    here = {"localhost:8000": api.url.removeprefix("http://"), "localhost:9090": f"localhost:{port}"}
    with reader(tmp_path, env=environment, replace=here) as performer:
        yield performer


@pytest.mark.timeout(400)
@OPERATED
async def test_the_page_about_operating_jobs_works_as_it_is_written(
    http: AsyncClient, session: Session, operator: Performer, mail_sink_to_come: MailSink
) -> None:
    for name in ("ada", "bob", "eve"):
        await http.post("/auth/register", json={"email": f"{name}@example.com", "password": PASSWORD})
    await session.execute(text("UPDATE jobs SET attempt = 19"))
    await session.commit()

    with ExitStack() as started:
        for step in console_steps(OPERATING):
            if BACK_AGAIN in step.text:
                started.enter_context(mail_sink_to_come)
            perform(operator, step)


async def test_the_sql_of_the_page_about_operating_jobs_runs(session: Session) -> None:
    statements = [
        statement for block in blocks_of(OPERATING) if block.kind == ("sql",) for statement in block.statements
    ]

    for statement in statements:
        await session.execute(text(statement))

    assert statements


@pytest.mark.parametrize("block", excerpts(), ids=lambda block: block.where)
def test_an_excerpt_of_a_page_about_jobs_is_still_in_the_source(block: Block) -> None:
    named = PATH.search(block.paragraph)
    assert named, f"{block.where}: the paragraph before it names no file"

    sources = [comparable(file.read_text()) for file in found_in_source(named["path"])]

    assert any(comparable(block.text) in source for source in sources), f"not in {named['path']}:\n{block.text}"


def test_the_metrics_that_a_page_names_are_exported() -> None:
    metrics = Metrics(kinds=["email.welcome"], queues=["default"])
    metrics.ledger.dead_tuples = 0
    metrics.registry.register(WorkerHealth())
    metrics.registry.register(HandlerThreads(metrics.kinds))
    metrics.registry.register(EnqueuedCollector(["email.welcome"], {}))
    exported = {family.name for family in metrics.registry.collect()}

    named = {name.removesuffix("_total") for page in PAGES for name in METRIC.findall(page.read_text())}
    outcomes = {name for page in PAGES for name in OUTCOME.findall(page.read_text())}

    assert named == exported
    assert outcomes <= {*OUTCOMES}


def test_the_settings_that_a_page_names_exist() -> None:
    known = set(SETTING.findall((ROOT / ".env.example").read_text()))

    named = {name for page in PAGES for name in SETTING.findall(page.read_text())}

    assert named <= known


def test_the_tests_that_a_page_names_exist() -> None:
    sources = [*ROOT.glob("packages/*/tests/**/*.py"), *ROOT.glob("tests/**/*.py")]
    known = {name for source in sources for name in TEST.findall(source.read_text())}

    named = set(re.findall(r"`(test_\w+)`", OPERATING.read_text()))

    assert named
    assert named <= known


def test_the_paths_of_jobs_are_all_on_the_page() -> None:
    routes = {
        f"{method} {route.path_format}"
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute) and route.path.startswith("/jobs") and not route.path.startswith("/jobs/crons/")
        for method in route.methods or ()
    }

    named = set(re.findall(r"`((?:GET|POST|DELETE) /jobs[^`]*)`", OPERATING.read_text()))

    # The page names what can be done with crons in words.
    assert routes - {"POST /jobs/queues/{name}/resume", "GET /jobs/crons", "POST /jobs/crons"} == named
    assert "`/jobs/crons`: lists, adds, changes, pauses, resumes, runs, deletes" in OPERATING.read_text()


def console_steps(page: Path) -> Iterator[Step]:
    """Yield the page's commands one by one, with their output as a pattern."""
    for block in blocks_of(page):
        if block.kind[0] == "console":
            for command in commands_of(block.step):
                yield replace(block.step, text=f"$ {command.text}\n{VOLATILE.sub('…', command.shown)}\n")
