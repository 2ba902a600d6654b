"""docs/reference/configuration.md says what the settings classes say."""

import pytest
import reference


def test_the_page_is_as_the_settings_write_it() -> None:
    assert reference.PAGE.read_text() == reference.page(), "run `make reference`"


@pytest.mark.parametrize("application", reference.APPLICATIONS)
def test_each_setting_says_what_it_means(application: str) -> None:
    silent = [row.name for row in reference.rows(application, reference.APPLICATIONS[application]) if not row.meaning]

    assert silent == []
