"""docs/how-to/features.md works as it is written: a feature is written, passes its tests, and is taken away."""

import pytest

from tests.docs.checkout import AUTHOR, ROOT, copied_checkout, reader_environment
from tests.docs.performing import reader


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_page_of_features_works_as_it_is_written() -> None:
    with copied_checkout() as copy, reader(copy, env=reader_environment(**AUTHOR)) as performer:
        performer.perform(ROOT / "docs/how-to/features.md")
