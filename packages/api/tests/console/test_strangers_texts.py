"""No page runs or follows what strangers wrote: addresses, user agents, payloads, errors, progress."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import quote, urlencode

import pytest_asyncio
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from httpx2 import Response
from pydantic import BaseModel
from sqlalchemy import func, update

from app_api.console.paths import LIVE, ROOT, is_ours
from app_auth.testing import Account
from app_db import Database
from app_db.features.figures.models import JobFigures, Span
from app_db.models import (
    AuditEvent,
    JobCron,
    JobError,
    JobQueue,
    JobState,
    JobWorker,
    User,
    UserSession,
)  # fmt: skip
from app_db.types import new_id
from packages.api.tests.conftest import OUR_FORM, Browser, MakeJob

EVIL = "\"'>--></title></textarea><script>evil()</script><img src=x onerror=evil()><a href=javascript:evil()>"
SAFE = {"GET", "HEAD"}
ENDS = {LIVE, f"{ROOT}/sign-out", f"{ROOT}/account/delete"}
"""A stream does not end, and these end the operator."""
ABOUT = {"payload": {EVIL: EVIL}, "payload_version": 1, "kind": EVIL, "queue": EVIL, "request_id": EVIL, "result": EVIL}


class Dangers(HTMLParser):
    """Collects what a page would run, or lead to, that is not ours."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at an element."""
        given = {name: value or "" for name, value in attrs}
        ours = [given.get(name, ROOT) for name in ("src", "href", "action", "formaction")]
        runs = tag == "script" and not given.get("src", "").startswith(f"{ROOT}/assets/")
        if runs or any(name.startswith("on") for name in given) or not all(map(leads_nowhere_else, ours)):
            self.found.append(f"<{tag} {given}>")


def leads_nowhere_else(address: str) -> bool:
    """Return whether an address is one of the console's, or of the same page."""
    return is_ours(address.partition("?")[0]) or address.startswith(("#", "?"))


@pytest_asyncio.fixture(loop_scope="session")
async def ids(database: Database, make_job: MakeJob, ada: Account) -> AsyncIterator[dict[str, str]]:
    """A system in which every text that can be somebody else's is evil; yields the ids for parameters of paths."""
    jobs = [await make_job(state, error=EVIL, owner_id=ada.id, progress={"done": 1, "of": 4, "text": EVIL}, **ABOUT)
            for state in JobState]  # fmt: skip
    counted = {"jobs": [[EVIL, "failed", 3, {}]], "queues": {EVIL: 3}, "events": {EVIL: 3, "sign_in_failed": 2}}
    minute = func.date_trunc("minute", func.now()) - func.make_interval(0, 0, 0, 0, 0, 5)
    session_values = {"user_agent": EVIL, "client_address": EVIL}
    async with database.unit_of_work() as session:
        await session.execute(update(User).where(User.id == ada.id).values(email=EVIL, undeliverable_because=EVIL))
        await session.execute(update(UserSession).values(**session_values))
        about = {"user_id": ada.id, "client_address": EVIL, "request_id": EVIL, "details": {EVIL: EVIL}}
        session.add_all([
            JobWorker(id=new_id(), host=EVIL, pid=7, queues=[EVIL], concurrency=10, held_job_ids=jobs),
            JobQueue(name=EVIL, paused_at=func.now(), max_running=3),
            JobCron(name=EVIL, last_tick_at=func.now()),
            JobFigures(span=Span.MINUTE, began_at=minute, **counted),
            AuditEvent(event=EVIL, **about),
            JobError(job_id=jobs[0], attempt=2, error=EVIL, trace=f"Traceback\n{EVIL}"),
        ])  # fmt: skip
    yield {"job": str(jobs[-2]), "running": str(jobs[3]), "user": str(ada.id), "account": str(ada.id)}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of which each text is evil."""

    method: str
    path: str
    fields: frozenset[str]


def requests_of(app: FastAPI, ids: dict[str, str]) -> set[Asked]:
    """Return each route of the console, with an id where the name of its parameter is known, else the evil text."""
    found = set()
    for route in iter_route_contexts(app.routes):
        path = route.path or ""
        if not is_ours(path) or path in ENDS or not isinstance(route.route, APIRoute):
            continue
        parts = path.split("/")
        named = [
            ids.get(part[1:].partition("_")[0], quote(EVIL, safe="")) if part[:1] == "{" else part for part in parts
        ]
        fields = frozenset(fields_of(route.route.dependant))
        found |= {Asked(method, "/".join(named), fields) for method in route.methods or ()}
    return found


def fields_of(dependant: Dependant) -> Iterator[str]:
    """Yield the names of what a route reads from the query and the form."""
    for parameter in (*dependant.query_params, *dependant.body_params):
        model = parameter.field_info.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            yield from model.model_fields
        else:
            yield parameter.alias
    for each in dependant.dependencies:
        yield from fields_of(each)


async def send(browser: Browser, asked: Asked, fields: dict[str, str]) -> Response:
    """Send the fields in the query, and in the form too if there is one."""
    path = f"{asked.path}?{urlencode(fields)}" if fields else asked.path
    form = fields if asked.method not in SAFE else None
    return await browser.client.request(asked.method, path, data=form, headers=OUR_FORM)


async def test_no_page_has_a_text_of_a_stranger_as_markup(
    app: FastAPI, operator_browser: Browser, ids: dict[str, str]
) -> None:
    shown = set()
    for asked in sorted(requests_of(app, ids), key=str):
        for fields in [{}, dict.fromkeys(asked.fields, EVIL), *({field: EVIL} for field in sorted(asked.fields))]:
            response = await send(operator_browser, asked, fields)

            assert response.status_code != 500, (asked, fields)
            if response.headers.get("Content-Type", "").startswith("text/html"):
                assert Dangers(response.text).found == [], (asked, fields)
                shown |= {asked.path} if "evil()" in response.text else set()
    assert len(shown) > 10, shown  # so it was there to be seen
