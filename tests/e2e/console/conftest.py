"""Fixtures for the tests of the console: `console.visit(email=ADA)` is a page in a real browser."""

from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser

from app_db import Database
from app_db.models import Job
from tests.e2e.chromium import open_chromium
from tests.e2e.processes import Api

from .site import ADA, OPERATOR, ConsoleSite, seed_failed_job


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """A browser for all tests; each visit has cookies of its own."""
    async with open_chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def console(chromium: Browser, api: Api, database: Database) -> ConsoleSite:
    """The console of `api`, where Ada has an account; its database is emptied after the test."""
    site = ConsoleSite(api.url, chromium)
    await site.register(ADA)
    return site


@pytest_asyncio.fixture(loop_scope="session")
async def failed_job(console: ConsoleSite, database: Database) -> Job:
    """A mail that failed, in a system with jobs that run and wait; OPERATOR is an operator."""
    await console.register(OPERATOR)
    return await seed_failed_job(database)
