"""The README works as it is written.

Every block of README.md and of the tour after it that a reader types is performed on a copy of the checkout, `make dev`
included, and its output compared with the one shown. Two are left out: the copy stands for the clone, and `make test`
is the command that runs the tests; tests/e2e/test_dev.py covers how `make dev` starts, stops and fails.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app_runtime.testing.processes import free_port
from tests.docs.checkout import ROOT, copied_checkout, reader_environment
from tests.docs.pages import Action, PageError, Step, commands_of, steps_of
from tests.docs.performing import Performer, reader

README = ROOT / "README.md"
TOUR = ROOT / "docs/tutorial/accounts-and-jobs.md"
NOT_PERFORMED = {"make test", "git clone https://git.example.com/groundwork && cd groundwork"}
PATIENCE = 90.0
"""Seconds that a reader waits for a job to be done. A reader is slower than a test, and so finds it done at once."""

# What differs from run to run in the output that the page shows; the rest must be equal, character by character.
VOLATILE = re.compile(
    r"""
    [0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}            # ids
    | \b[0-9a-f]{32}\b                                   # request ids
    | (?<=rt_)[0-9a-f]{32}(?=\.)                         # refresh tokens: the session, and the beginning of the MAC,
    | (?<=\.)[\w-]{4}(?=…)                               # but not the counter between them
    | \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+                # times
    | \b1[789]\d{8}\b
    | \b\d{8}-\d{6}-\d{6}\b
    | \d+\.\d(?=\ s\b)
    | (?<=curl/)[\d.]+
    | (?<=127\.0\.0\.1:)\d{5}\b                          # ports; and the columns move with the length of ours
    | (?<=:8000)\ +
    | (?<=:8000/console)\ +
    """,
    re.VERBOSE,
)


def commands_one_by_one(page: Path) -> Iterator[Step]:
    """Yield the page's commands, with their output as a pattern."""
    for step in steps_of(page):
        for command in commands_of(step):
            if command.text not in NOT_PERFORMED:
                yield replace(step, text=f"$ {command.text}\n{VOLATILE.sub('…', command.shown)}\n")


def only_looks(step: Step) -> bool:
    """Whether the command changes nothing, so that it may be repeated."""
    return step.action is Action.RUN and not re.search(r" -d |-X POST", step.text)


def perform(performer: Performer, step: Step) -> None:
    """Do a step; repeat one that changes nothing until its output is as shown."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return performer.do(step)
        except PageError:
            if not only_looks(step) or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@pytest.mark.timeout(600)
def test_the_readme_works_as_it_is_written() -> None:
    port = free_port()
    env = reader_environment(APP_HTTP__PORT=str(port))

    with copied_checkout() as copy, reader(copy, env=env, replace={":8000": f":{port}"}) as performer:
        for step in [*commands_one_by_one(README), *commands_one_by_one(TOUR)]:
            perform(performer, step)


def test_what_is_not_performed_is_still_on_the_page() -> None:
    written = {command.text for step in steps_of(README) for command in commands_of(step)}

    assert written >= NOT_PERFORMED
