"""docs/how-to/testing-jobs.md works as it is written."""

import shlex
import sys

import pytest

from tests.docs.checkout import ROOT, copied_checkout, reader_environment
from tests.docs.performing import reader

pytestmark = pytest.mark.integration


@pytest.mark.timeout(400)
def test_the_page_about_testing_jobs_works_as_it_is_written() -> None:
    python = shlex.quote(sys.executable)
    pytest_here = f"{python} -m pytest -p no:cacheprovider"  # the page adds tests, no packages
    ruff = f"{python} -m ruff"

    with (
        copied_checkout() as copy,
        reader(copy, env=reader_environment(), replace={"uv run pytest": pytest_here}) as performer,
    ):
        performer.perform(ROOT / "docs/how-to/testing-jobs.md")
        performer.run(
            f"{ruff} check --quiet tests/test_welcome.py && {ruff} format --check --quiet tests/test_welcome.py"
        )
