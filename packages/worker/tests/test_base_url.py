"""The base URL of links in mails: one that no link can begin with is refused, with the name of its variable."""

import pytest

from app_db.settings import DatabaseSettings
from app_runtime.configuration import Misconfigured
from app_worker.settings import CommandSettings, require_safe
from app_worker.testing import one_time_settings


def refusals(database: DatabaseSettings, url: str) -> tuple[str, ...]:
    """Return the refusals of a base URL in production."""
    given = {"database": database, "auth": one_time_settings(), "public_base_url": url}
    try:
        require_safe(CommandSettings.model_validate(given))
    except Misconfigured as refused:
        return refused.lines
    raise AssertionError("mails would be printed")


NEVER = ["https://a.test/?y=1", "https://a.test/?", "https://a.test/#z", "https://a.test/app#", "https://ada@a.test/"]


@pytest.mark.parametrize("url", NEVER)
def test_a_base_that_no_path_can_be_put_behind_is_refused(database_settings: DatabaseSettings, url: str) -> None:
    """RFC 3986, 3: a path stands before query and fragment; links became `https://a.test/?y=1#z/#/verify`."""
    with pytest.raises(ValueError, match="public_base_url"):
        refusals(database_settings, url)


HERE = ["http://localhost", "https://LOCALHOST.", "https://127.0.0.1", "https://127.9.9.9:8000", "http://[::1]:8000"]


@pytest.mark.parametrize("url", [*HERE, "https://0.0.0.0", "https://[::]"])
def test_this_machine_is_no_address_for_others_however_it_is_written(
    database_settings: DatabaseSettings, url: str
) -> None:
    lines = refusals(database_settings, url)

    assert "APP_PUBLIC_BASE_URL: must be where people reach the pages" in lines


@pytest.mark.parametrize(
    "url", ["https://a.test", "https://a.test/app/", "http://api.localhost:8080", "https://[2001:db8::1]"]
)
def test_what_people_reach_is_fit(database_settings: DatabaseSettings, url: str) -> None:
    lines = refusals(database_settings, url)

    assert not [line for line in lines if "APP_PUBLIC_BASE_URL" in line]
