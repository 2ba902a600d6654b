"""Open pages are kept live by one poll, see what their viewer may see, and end with the session or the process."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import suppress
from dataclasses import replace
from threading import Event

import pytest
import pytest_asyncio
from fastapi import FastAPI
from jinja2 import ChoiceLoader, DictLoader

from app_api.admission import Overloaded
from app_api.console import live
from app_api.console.fragments import Contexts, Fragment, Watched, watched_by
from app_api.console.live import Hub, PageStream
from app_api.console.rendering import Console
from app_api.streams import POLL
from app_auth import permissions, sessions
from app_auth.auth import Auth
from app_auth.client import NOBODY
from app_auth.principal import Principal
from app_auth.testing import Account, SignIn
from app_db import Database, Session
from app_db.models import Role
from app_db.outage import DatabaseUnavailable
from app_db.testing.queries import assert_queries


class Counted:
    """A part of a page that shows a number, and counts how often it is read."""

    def __init__(self) -> None:
        self.number, self.reads = 1, 0
        self.fails = False

    async def read(self, session: Session, watched: Collection[Watched]) -> Contexts:
        self.reads += 1
        if self.fails:
            raise RuntimeError("a fault of this part")
        return {one: {"text": f"{one.about} {self.number}"} for one in watched}


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
def stopping() -> Event:
    return Event()


@pytest.fixture
def hub(app: FastAPI, counted: Counted, stopping: Event) -> Hub:
    """A hub with two parts that show a number; `error_part` is for operators."""
    console: Console = app.state.console
    template = DictLoader({"number.html": "<p>{{ text }}</p>"})
    console.templates.loader = ChoiceLoader([loader for loader in (console.templates.loader, template) if loader])
    fragments = {
        "number": Fragment("number.html", counted.read),
        "secret": Fragment("number.html", counted.read, for_operators=True),
    }
    return Hub(replace(console, fragments=fragments), stopping=stopping)


@pytest_asyncio.fixture(loop_scope="session")
async def viewer(auth: Auth, database: Database, ada: Account, sign_in: SignIn) -> Principal:
    tokens = await sign_in(ada)
    return await sessions.authenticate(auth, database, token=tokens.access_token)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(400):
        if condition():
            return
        await asyncio.sleep(0.025)
    raise AssertionError("it did not happen")


async def next_texts(following: AsyncIterator[PageStream]) -> list[str]:
    stream = await asyncio.wait_for(anext(following), 10)
    news, stream.pending = stream.pending, {}
    return sorted(news.values())


def marks(hub: Hub, viewer: Principal, *given: str) -> frozenset[Watched]:
    return watched_by(viewer, given, hub.fragments)


async def test_many_pages_cost_one_poll(hub: Hub, counted: Counted, viewer: Principal, database: Database) -> None:
    watched = marks(hub, viewer, "number:a")
    open_pages = [hub.watch(database, viewer, watched) for _ in range(15)]
    with assert_queries(database, max=1):
        shown = await asyncio.gather(*(next_texts(page) for page in open_pages))

    assert shown == [["<p>a 1</p>"]] * 15
    assert counted.reads == 1
    counted.number = 2
    assert await next_texts(open_pages[-1]) == ["<p>a 2</p>"]
    for page in open_pages:
        await page.aclose()


async def test_what_does_not_change_is_not_sent_again_and_late_pages_get_it_at_once(
    hub: Hub, counted: Counted, viewer: Principal, database: Database
) -> None:
    first = hub.watch(database, viewer, marks(hub, viewer, "number:a"))
    await next_texts(first)
    again = asyncio.ensure_future(next_texts(first))
    await until(lambda: counted.reads >= 3)
    assert not again.done()

    late = hub.watch(database, viewer, marks(hub, viewer, "number:a"))

    assert await next_texts(late) == ["<p>a 1</p>"]
    again.cancel()
    with suppress(asyncio.CancelledError):
        await again
    await late.aclose()


async def test_the_last_stream_ends_the_poll(hub: Hub, counted: Counted, viewer: Principal, database: Database) -> None:
    page = hub.watch(database, viewer, marks(hub, viewer, "number:a"))
    await next_texts(page)

    await page.aclose()

    await until(lambda: not hub.is_polling)
    reads = counted.reads
    await asyncio.sleep(POLL * 1.5)
    assert counted.reads == reads


async def test_streams_end_at_once_when_the_process_is_to_stop(
    hub: Hub, stopping: Event, viewer: Principal, database: Database
) -> None:
    page = hub.watch(database, viewer, marks(hub, viewer, "number:a"))
    await next_texts(page)

    stopping.set()

    last = await asyncio.wait_for(anext(page), 10)
    assert (last.ended, last.signed_out) == (True, False)
    with pytest.raises(StopAsyncIteration):
        await anext(page)
    with pytest.raises(Overloaded):
        hub.require_room(viewer)


async def test_an_ended_session_ends_its_streams(hub: Hub, viewer: Principal, database: Database) -> None:
    page = hub.watch(database, viewer, marks(hub, viewer, "number:a"))
    await next_texts(page)
    async with database.unit_of_work() as session:
        await sessions.revoke_all(session, viewer, client=NOBODY)

    last = await asyncio.wait_for(anext(page), 10)

    assert last.signed_out
    with pytest.raises(StopAsyncIteration):
        await anext(page)


async def test_a_change_of_the_role_ends_the_streams_too(
    hub: Hub, viewer: Principal, ada: Account, database: Database
) -> None:
    page = hub.watch(database, viewer, marks(hub, viewer, "number:a"))
    await next_texts(page)
    async with database.unit_of_work() as session:
        await permissions.set_role(session, email=ada.email, role=Role.OPERATOR)

    assert (await asyncio.wait_for(anext(page), 10)).signed_out
    await page.aclose()


async def test_what_operators_watch_is_nothing_for_others(hub: Hub, viewer: Principal) -> None:
    operator = replace(viewer, role=Role.OPERATOR)

    given = ("secret:x", "number:x", "unknown:x", "number", "number:" + "x" * 2000)
    assert {one.mark for one in marks(hub, viewer, *given)} == {"number:x", "number:"}
    assert {one.viewer_id for one in marks(hub, operator, "secret:x")} == {None}


async def test_a_stream_too_many_is_refused(hub: Hub, viewer: Principal, database: Database) -> None:
    pages = [hub.watch(database, viewer, frozenset()) for _ in range(live.MOST_PER_SESSION)]
    waiting = [asyncio.ensure_future(anext(page)) for page in pages]
    await asyncio.sleep(0)

    with pytest.raises(Overloaded):
        hub.require_room(viewer)
    hub.require_room(replace(viewer, session_id=viewer.user_id))

    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    hub.require_room(viewer)


async def test_a_part_that_fails_stops_no_other(
    hub: Hub, counted: Counted, viewer: Principal, database: Database
) -> None:
    broken = Counted()
    broken.fails = True
    hub.fragments["broken"] = Fragment("number.html", broken.read)
    page = hub.watch(database, viewer, marks(hub, viewer, "broken:b", "number:a"))
    assert await next_texts(page) == ["<p>a 1</p>"]
    await until(lambda: broken.reads >= 2)

    broken.fails = False

    assert await next_texts(page) == ["<p>b 1</p>"]
    await page.aclose()


async def test_pages_wait_for_a_database_that_is_away(
    hub: Hub, counted: Counted, viewer: Principal, database: Database
) -> None:
    away, tries = Counted(), 0

    async def unavailable(session: Session, watched: Collection[Watched]) -> Contexts:
        nonlocal tries
        tries += 1
        if tries < 2:
            raise DatabaseUnavailable
        return await away.read(session, watched)

    hub.fragments["away"] = Fragment("number.html", unavailable)
    page = hub.watch(database, viewer, marks(hub, viewer, "away:a"))

    assert await next_texts(page) == ["<p>a 1</p>"]
    await page.aclose()


async def test_the_poll_outlives_a_fault(hub: Hub, viewer: Principal, database: Database) -> None:
    del hub.fragments["number"]
    page = hub.watch(database, viewer, frozenset({Watched("number", "a", viewer.user_id)}))
    shown = asyncio.ensure_future(next_texts(page))
    await asyncio.sleep(POLL * 2.5)
    assert not shown.done()

    hub.fragments["number"] = Fragment("number.html", Counted().read)

    assert await shown == ["<p>a 1</p>"]
    await page.aclose()
