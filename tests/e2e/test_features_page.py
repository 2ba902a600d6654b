"""docs/how-to/features.md works as it is written: a feature, its job and its cron, and its end."""

import pytest

from tests.docs.checkout import ROOT, copied_checkout, reader_environment
from tests.docs.performing import reader

AUTHOR = {f"GIT_{role}_{what}": "ada@example.test" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_page_of_features_works_as_it_is_written() -> None:
    with copied_checkout() as copy, reader(copy, env=reader_environment(**AUTHOR)) as performer:
        performer.perform(ROOT / "docs/how-to/features.md")
