"""Which tests of the checkout run, and which of the programs that they start count for coverage (ADR-0047)."""

import gc
import os
import sys
import warnings
from collections.abc import Generator

import pytest
from changes import changed_paths, concerns

from app_runtime.garbage import frozen_imports

MEASURED = "COVERAGE_PROCESS_CONFIG"
"""With this variable coverage measures a program, which then starts in twice the time."""
CONCERN_ALL = ("conftest.py", "tests/**/conftest.py", "**/pyproject.toml")
"""Fixtures, and the versions of what we depend on, concern each long test."""
_config = os.environ.get(MEASURED)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--changed`, which `make test-e2e CHANGED=…` passes on."""
    parser.addoption("--changed", metavar="BASE", default="", help="leave out long tests that concern no change")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage among the tests and what they import: it was a tenth of the time of those of the API."""
    with frozen_imports():
        collected = yield
    gc.set_threshold(20_000)  # of 2,000: most of what a test leaves is freed without
    return collected


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that are marked `reads`, where nothing of what they read has changed."""
    base = config.getoption("changed")
    changed = changed_paths(config.rootpath, base) if base else None
    if changed is None:
        return
    left_out = [item for item in items if not _is_concerned(item, changed)]
    items[:] = [item for item in items if _is_concerned(item, changed)]
    config.hook.pytest_deselected(items=left_out)


def _is_concerned(item: pytest.Item, changed: list[str]) -> bool:
    patterns = [pattern for mark in item.iter_markers("reads") for pattern in mark.args]
    own = item.path.relative_to(item.config.rootpath).as_posix()
    return not patterns or concerns([own, *CONCERN_ALL, *patterns], changed)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let coverage measure the programs of this test only if it is marked `measured`."""
    if _config is not None and item.get_closest_marker("measured"):
        os.environ[MEASURED] = _config
    else:
        os.environ.pop(MEASURED, None)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    """Save what coverage has measured in a process of xdist, which kills those that take ten seconds to end."""
    if "PYTEST_XDIST_WORKER" in os.environ and "coverage" in sys.modules:
        from coverage import Coverage  # noqa: PLC0415  # packages are tested with what they declare alone, too

        if (measuring := Coverage.current()) is not None:
            with warnings.catch_warnings(action="ignore"):  # of packages that no test here needs
                measuring.save()
