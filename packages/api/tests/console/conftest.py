"""A browser without JavaScript: it keeps cookies, says where its forms come from, and follows no redirect by itself."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest_asyncio
from fastapi import FastAPI
from httpx2 import ASGITransport, AsyncClient, Response
from sqlalchemy import delete, func
from starlette.types import Receive, Scope, Send

from app_api.lifespan import State
from app_auth.testing import Account, MakeAccount
from app_db import Database
from app_db.models import FINAL_STATES, Job, JobError, JobState, Role
from app_db.types import new_id

OUR_FORM = {"Sec-Fetch-Site": "same-origin"}


@dataclass(frozen=True, slots=True)
class Browser:
    """A client of the console."""

    client: AsyncClient

    async def get(self, path: str, **headers: str) -> Response:
        """Open a page."""
        return await self.client.get(path, headers={"Sec-Fetch-Site": "none", **headers})

    async def post(self, path: str, headers: dict[str, str] | None = None, **fields: str) -> Response:
        """Send a form of our own page."""
        return await self.client.post(path, data=fields, headers=OUR_FORM if headers is None else headers)

    async def sign_in(self, account: Account) -> Response:
        """Sign in by the form."""
        response = await self.post("/console/sign-in", email=account.email, password=account.password)
        assert response.status_code == 303, response.text
        return response


type MakeJob = Callable[..., Awaitable[UUID]]
type OpenBrowser = Callable[[], Browser]


@asynccontextmanager
async def browser_of(app: FastAPI, state: State) -> AsyncIterator[Browser]:
    """Open a browser at an application that is running."""

    async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": dict(state)}, receive, send)

    # https, because http.cookiejar knows no loopback over which a Secure cookie may go.
    async with AsyncClient(transport=ASGITransport(with_state), base_url="https://localhost") as client:
        yield Browser(client)


@pytest_asyncio.fixture(loop_scope="session")
async def open_browser(app: FastAPI, state: State) -> AsyncIterator[OpenBrowser]:
    """Return a function that opens one more browser, with cookies of its own."""
    async with AsyncExitStack() as stack:
        browsers = [await stack.enter_async_context(browser_of(app, state)) for _ in range(4)]
        yield browsers.pop


@pytest_asyncio.fixture(loop_scope="session")
async def browser(open_browser: OpenBrowser) -> Browser:
    """A browser in which nobody is signed in."""
    return open_browser()


@pytest_asyncio.fixture(loop_scope="session")
async def ada(make_account: MakeAccount) -> Account:
    """An account."""
    return await make_account()


@pytest_asyncio.fixture(loop_scope="session")
async def signed_in_browser(open_browser: OpenBrowser, ada: Account) -> Browser:
    """A browser in which Ada is signed in."""
    browser = open_browser()
    await browser.sign_in(ada)
    return browser


@pytest_asyncio.fixture(loop_scope="session")
async def operator_browser(open_browser: OpenBrowser, make_account: MakeAccount) -> Browser:
    """A browser in which an operator is signed in."""
    browser = open_browser()
    await browser.sign_in(await make_account(role=Role.OPERATOR))
    return browser


@pytest_asyncio.fixture(loop_scope="session")
async def make_job(database: Database, operator_browser: Browser, ada: Account) -> MakeJob:
    """A factory of committed jobs, with an error each if one is given; the mails to both accounts are gone."""
    async with database.unit_of_work() as session:
        await session.execute(delete(Job))

    # Any: columns of Job
    async def make(state: JobState = JobState.AVAILABLE, *, error: str | None = None, **columns: Any) -> UUID:
        times = {"finished_at": func.now()} if state in FINAL_STATES else {"claim_at": func.now()}
        defaults = {"id": new_id(), "kind": "test.note", "payload": {}, "payload_version": 1, "state": state, **times}
        job = Job(**{**defaults, **columns})
        async with database.unit_of_work() as session:
            session.add(job)
            await session.flush()
            if error is not None:
                session.add(JobError(id=new_id(), job_id=job.id, attempt=1, error=error, trace=f"Traceback: {error}"))
            return job.id

    return make
