"""The page about security is right: its tests, settings, paths and events exist, and its SQL runs."""

import re

import pytest
from fastapi.routing import APIRoute
from sqlalchemy import text

from app_api.app import ROUTERS
from app_auth.audit import Event
from app_db import Session
from tests.docs.checkout import ROOT
from tests.docs.explaining import blocks_of

PAGE = ROOT / "docs/reference/security.md"
TEXT = PAGE.read_text()

TEST = re.compile(r"\btest_\w+")
SETTING = re.compile(r"\bAPP_[A-Z]+(?:_[A-Z]+)*(?:__[A-Z]+(?:_[A-Z]+)*)?\b")
ENDPOINT = re.compile(r"`(?P<method>GET|POST|PATCH|DELETE) (?P<path>/[^` ]+)")
ROW = re.compile(r"^\| (?P<cells>.+) \|$", re.MULTILINE)
HEADINGS_OF_PROMISES = {("promise", "source", "test"), ("what breaks", "what follows", "test")}


def tables() -> list[list[tuple[str, ...]]]:
    """Return the tables of the page, each with its heading first and without the line below that."""
    found: list[list[tuple[str, ...]]] = [[]]
    for line in TEXT.splitlines():
        if row := ROW.match(line):
            found[-1].append(tuple(row["cells"].split(" | ")))
        elif found[-1]:
            found.append([])
    return [[heading, *rows] for heading, _, *rows in filter(None, found)]


def rows_of(*heading: str) -> list[tuple[str, ...]]:
    """Return the rows of the table with this heading."""
    return next(rows for first, *rows in tables() if first == heading)


PROMISES = [row for heading, *rows in tables() if heading in HEADINGS_OF_PROMISES for row in rows]


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise[0][:60])
def test_each_promise_of_security_names_its_source_and_its_test(promise: tuple[str, ...]) -> None:
    _, source, tests = promise

    assert source.strip()
    assert TEST.search(tests)


def test_the_tests_that_the_page_about_security_names_exist() -> None:
    sources = [*ROOT.glob("packages/*/tests/**/*.py"), *ROOT.glob("tests/**/*.py")]
    known = {name for source in sources for name in re.findall(r"def (test_\w+)", source.read_text())}

    assert sorted({*TEST.findall(TEXT)} - known) == []


def test_the_settings_that_the_page_about_security_names_exist() -> None:
    known = set(SETTING.findall((ROOT / "docs/reference/configuration.md").read_text()))

    assert {*SETTING.findall(TEXT)} <= known


def test_the_paths_of_accounts_are_all_on_the_page_about_security() -> None:
    known = {
        (method, route.path)
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute) and route.path.startswith("/auth")
        for method in route.methods or ()
    }

    assert {(named["method"], named["path"]) for named in ENDPOINT.finditer(TEXT)} == known


def test_the_events_on_the_page_are_all_that_the_audit_tells_of() -> None:
    shown = {event for events, _ in rows_of("event", "when") for event in re.findall(r"`(\w+)`", events)}

    assert shown == {*Event}


async def test_the_sql_of_the_page_about_security_runs(session: Session) -> None:
    statements = [statement for block in blocks_of(PAGE) if block.kind == ("sql",) for statement in block.statements]

    for statement in statements:
        await session.execute(text(statement))

    assert statements
