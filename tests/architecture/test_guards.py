"""Each guarded line names the test that fails without it (scripts/guards.py tries them)."""

from pathlib import Path

import pytest
from guards import find_guards, find_tests, pair
from switches import is_on

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not is_on(ROOT, "guards"), reason="guards are off in pyproject.toml")
def test_every_guard_names_one_test() -> None:
    guards = find_guards(ROOT)

    assert guards
    assert set(pair(guards, find_tests(ROOT))) == set(guards)
