"""docs/tutorial/first-feature.md works as it is written: every block of it, on a copy of the checkout."""

import pytest

from app_runtime.testing.processes import free_port
from tests.docs.checkout import ROOT, copied_checkout, reader_environment
from tests.docs.performing import reader


@pytest.mark.timeout(900)
def test_the_tutorial_works_as_it_is_written() -> None:
    port, encyclopedia = free_port(), free_port()
    env = reader_environment(
        APP_HTTP__PORT=str(port),
        APP_AUTH__BCRYPT_ROUNDS="4",
        APP_PETS__ENCYCLOPEDIA_URL=f"http://localhost:{encyclopedia}",
    )
    replace = {"localhost:8000": f"localhost:{port}", "http.server 9999": f"http.server {encyclopedia}"}

    with copied_checkout() as copy, reader(copy, env=env, replace=replace) as performer:
        performer.perform(ROOT / "docs/tutorial/first-feature.md")
