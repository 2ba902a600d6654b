"""Every page of the console answers by one to four queries, that of the sign-in counted, whatever its filter says."""

import random
from collections.abc import AsyncIterator, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from fastapi import FastAPI
from fastapi.params import Query
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel
from sqlalchemy import text
from starlette.types import Message, Receive, Scope, Send

from app_api.console.paths import LIVE, is_ours
from app_api.lifespan import State
from app_api.settings import ApiSettings, ConsoleSettings
from app_auth.testing import Account
from app_db import Database
from app_db.features.retention.payloads import PruneSessions
from app_db.jobs.batches import enqueue_batch
from app_db.jobs.schedule_values import ScheduleValues
from app_db.jobs.schedules import add_schedule
from app_db.models import JobState
from app_db.paging import Cursor
from app_db.testing.queries import assert_queries
from app_db.types import new_id
from app_runtime.configuration import Environment
from packages.api.tests.conftest import Browser, MakeJob, app_of, browser_of

MOST: Final = 4
FILTERS: Final = 25
"""How many combinations of a filter are tried, beside each of its values alone."""
NO_ASSET: Final = "/console/assets/0/1-some.eml"
MAIL: Final = "1-some.eml"

# More than a glance looks at; few match a filter, or none.
SEED = text("""
    INSERT INTO jobs (id, owner_id, kind, payload, payload_version, queue, state, claim_at, finished_at)
    SELECT uuidv7(make_interval(secs => number - 1500)), CASE WHEN number % 2 = 0 THEN CAST(:owner AS uuid) END,
        CASE WHEN number % 700 = 1 THEN 'seldom' ELSE 'note' END, '{}', 1, 'default',
        CASE WHEN number % 2 = 0 THEN 'completed' ELSE 'scheduled' END,
        CASE WHEN number % 2 = 1 THEN now() + interval '1 day' END, CASE WHEN number % 2 = 0 THEN now() END
    FROM generate_series(1, 1500) AS number
""")


@pytest.fixture
def app(api_settings: ApiSettings, tmp_path: Path) -> FastAPI:
    """An application with all pages there are, those of a development machine too."""
    (tmp_path / MAIL).write_text("Subject: Some\nContent-Type: text/html\n\n<p>Hi")
    console = ConsoleSettings(enabled=True, mail_folder=tmp_path)
    return app_of(api_settings.model_copy(update={"env": Environment.DEVELOPMENT, "console": console}))


@pytest_asyncio.fixture(loop_scope="session")
async def values(make_job: MakeJob, database: Database, ada: Account) -> AsyncIterator[dict[str, list[str]]]:
    """Values of each parameter of a path, and of each field of a filter, beside many jobs."""
    async with database.unit_of_work() as session:
        await session.execute(SEED, {"owner": ada.id})
    job_id = str(await make_job(JobState.EXECUTING, error="Boom", owner_id=ada.id, kind="seldom"))
    async with database.unit_of_work() as session:
        batch_id = await enqueue_batch(session, [PruneSessions()], owner_id=ada.id)
        cron, classes = ScheduleValues(PruneSessions.kind, "0 3 * * *"), {PruneSessions.kind: PruneSessions}
        await add_schedule(session, "ours", cron, by="shell", payload_classes=classes)
    accounts = [str(ada.id), ada.email, "nobody@example.com", "no address"]
    yield {
        "job_id": [job_id], "batch_id": [str(batch_id)], "cron": ["", "ours"],
        "user_id": [str(ada.id)], "name": [MAIL], "digest": ["0"], "id": ["", job_id],
        "kind": ["", "seldom", "note", "misspelt"], "queue": ["", "default", "misspelt"], "owner": ["", *accounts],
        "error": ["", "boom", "misspelt"], "asked_at": [""], "account": ["", *accounts], "by": ["", *accounts],
        "client": ["", "127.0.0.1", "misspelt"], "since": ["", "2026-01-01"], "until": ["", "2100-01-01T10:00"],
        "address": ["", ada.email[:3], "zzz"], "next": ["/console/jobs"],
        "state": [""], "code": [""], "iss": [""],
    }  # fmt: skip


def choices(annotation: Any) -> list[str]:  # Any: a type
    """Return the members of an enumeration in a type, and nothing: an empty field is one that is left out."""
    if isinstance(annotation, type):
        return ["", *(str(each.value) for each in annotation)] if issubclass(annotation, Enum) else []
    inner = [*get_args(annotation), getattr(annotation, "__value__", None)]
    return next((found for each in inner if each is not None and (found := choices(each))), [])


def fields_of(endpoint: Any, values: dict[str, list[str]]) -> dict[str, list[str]]:  # Any: a function
    """Return the values of each field of the query of a page."""
    fields = dict[str, Any]()
    for name, annotation in get_type_hints(endpoint, include_extras=True).items():
        kind, *extras = get_args(annotation) or (annotation,)
        if isinstance(kind, type) and issubclass(kind, BaseModel) and any(isinstance(each, Query) for each in extras):
            fields |= {each: get_type_hints(kind, include_extras=True)[each] for each in kind.model_fields}
        elif choices(annotation):
            fields[name] = annotation
    return {name: choices(annotation) or values[name] for name, annotation in fields.items()}


def queries_of(fields: dict[str, list[str]]) -> Iterator[dict[str, str]]:
    """Yield each value alone, and combinations that are the same in each run."""
    yield {}
    required = {name: given[-1] for name, given in fields.items() if name == "action"}
    for name, given in fields.items():
        yield from (required | {name: value} for value in given)
    chance = random.Random(12)  # no secret
    for _ in range(FILTERS if len(fields) > 1 else 0):
        chosen = {name: chance.choice(given) for name, given in fields.items()}
        yield chosen | ({"after": str(Cursor(new_id()))} if chance.random() < 0.3 else {})


def pages_of(app: FastAPI, values: dict[str, list[str]]) -> Iterator[tuple[str, Any]]:  # Any: a function
    """Yield the path of each page, filled in, with its function. A stream is no page: its poll is counted elsewhere."""
    for found in iter_route_contexts(app.routes):
        path = found.path or ""
        if "GET" in (found.methods or ()) and is_ours(path) and path != LIVE:
            parts = [part.strip("{}").partition(":")[0] if part[:1] == "{" else None for part in path.split("/")]
            filled = [values[name][-1] if name else part for name, part in zip(parts, path.split("/"), strict=True)]
            yield "/".join(filled), found.endpoint


async def test_every_page_answers_by_four_queries_at_most(
    app: FastAPI, operator_browser: Browser, state: State, values: dict[str, list[str]]
) -> None:
    """A new page or filter needs no line here, but for values of what only it has."""
    shown = dict[str, int]()
    for path, endpoint in pages_of(app, values):
        for query in queries_of(fields_of(endpoint, values)):
            with assert_queries(state["database"], max=MOST) as statements:
                page = await operator_browser.get(f"{path}?{urlencode(query)}")
            assert page.status_code in {200, 303, 404, 422}, (path, query)
            if page.status_code == 200:
                shown[path] = max(shown.get(path, 0), len(statements))
    hidden = {path for path, _ in pages_of(app, values)} - set(shown)
    assert {path for path in hidden if not path.endswith(("/file", "/callback"))} == {"/console", "/console/", NO_ASSET}
    assert max(shown.values()) == MOST


async def test_a_page_is_answered_before_the_use_of_its_session_is_noted(
    app: FastAPI, ada: Account, state: State, database: Database
) -> None:
    statements: list[str] = []
    answered: list[int] = []

    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        async def note(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.body":
                answered.append(len(statements))

        await app(scope, receive, note)

    async with browser_of(noting, state) as browser:
        await browser.sign_in(ada)
        async with database.unit_of_work() as session:
            await session.execute(text("UPDATE user_sessions SET last_used_at = now() - interval '20 minutes'"))
        answered.clear()
        with assert_queries(state["database"], max=5) as statements:
            await browser.get("/console/account")
            await browser.get("/console/account")

    assert answered == [2, 5]
    assert statements[2].startswith("UPDATE user_sessions")
