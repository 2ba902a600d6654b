"""docs/testing-jobs.md works as it is written."""

import sys
from pathlib import Path

import pytest

from tests.docs.checkout import ROOT, copied_checkout, reader_environment
from tests.docs.performing import reader


@pytest.mark.timeout(180)
def test_the_page_about_testing_jobs_works_as_it_is_written() -> None:
    pytest_here = f"{Path(sys.executable).parent / 'pytest'} -p no:cacheprovider"  # the page adds tests, no packages
    ruff = Path(sys.executable).parent / "ruff"

    with (
        copied_checkout() as copy,
        reader(copy, env=reader_environment(), replace={"uv run pytest": pytest_here}) as performer,
    ):
        performer.perform(ROOT / "docs/testing-jobs.md")
        performer.run(
            f"{ruff} check --quiet tests/test_welcome.py && {ruff} format --check --quiet tests/test_welcome.py"
        )
