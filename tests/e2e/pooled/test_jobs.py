"""The tests of tests/e2e/test_jobs.py, with a PgBouncer between all programs and Postgres."""

import pytest

from tests.e2e.test_jobs import *  # noqa: F403  # each of its tests, and those to come

pytestmark = [pytest.mark.timeout(240), pytest.mark.slow]
