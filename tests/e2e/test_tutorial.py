"""docs/tutorial/first-feature.md works as it is written: its blocks, on a copy of the checkout.

Each change proves that what the page writes passes the tests on the page. All of it takes minutes: `make dev`, a
signed-in user, and the checks at the end.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from app_runtime.testing.processes import free_port
from tests.docs.checkout import ROOT, copied_checkout, reader_environment
from tests.docs.pages import steps_of
from tests.docs.performing import Performer, reader
from tests.reads import TUTORIAL

PAGE = ROOT / "docs/tutorial/first-feature.md"
USED = "\n## 5. Use it\n"
"""The chapter with which a running Groundwork begins to be needed."""

pytestmark = pytest.mark.timeout(900)


@contextmanager
def reader_of_the_tutorial() -> Iterator[Performer]:
    port, encyclopedia = free_port(), free_port()
    env = reader_environment(
        APP_HTTP__PORT=str(port),
        APP_AUTH__BCRYPT_ROUNDS="4",
        APP_PETS__ENCYCLOPEDIA_URL=f"http://localhost:{encyclopedia}",
    )
    replace = {"localhost:8000": f"localhost:{port}", "http.server 9999": f"http.server {encyclopedia}"}
    with copied_checkout() as copy, reader(copy, env=env, replace=replace) as performer:
        yield performer


@TUTORIAL
def test_the_tutorial_works_as_it_is_written() -> None:
    with reader_of_the_tutorial() as performer:
        performer.perform(PAGE)


def test_what_the_tutorial_writes_passes_its_tests(request: pytest.FixtureRequest) -> None:
    if any(item.name == test_the_tutorial_works_as_it_is_written.__name__ for item in request.session.items):
        pytest.skip("all of it is performed")
    line_of_use = PAGE.read_text().partition(USED)[0].count("\n")
    with reader_of_the_tutorial() as performer:
        for step in steps_of(PAGE):
            if int(step.where.rpartition(":")[2]) <= line_of_use:
                performer.do(step)
