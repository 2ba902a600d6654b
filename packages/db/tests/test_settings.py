"""The URLs of the database: their drivers, the direct one, and refusals that do not show the URL."""

import pytest
from pydantic import ValidationError

from app_db.settings import DatabaseSettings

PLAIN = "postgresql://app:p%40ss@db.example.test/app"


def settings(**values: object) -> DatabaseSettings:
    return DatabaseSettings.model_validate({"tls": "off"} | values)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg", "postgresql+psycopg"])
def test_any_spelling_of_the_driver_is_ours(scheme: str) -> None:
    url = settings(url=PLAIN.replace("postgresql", scheme)).sqlalchemy_url

    assert url.drivername == "postgresql+asyncpg"


def test_the_direct_url_is_the_url_unless_given() -> None:
    assert settings(url=PLAIN).direct_dsn == f"{PLAIN}?sslmode=disable"


def test_a_direct_url_leads_past_the_pooler() -> None:
    given = settings(url="postgresql://pooler.example.test/app", direct_url=PLAIN)

    assert given.sqlalchemy_url.host == "pooler.example.test"
    assert given.direct_dsn == f"{PLAIN}?sslmode=disable"


def test_a_printed_setting_hides_the_password() -> None:
    assert "p%40ss" not in repr(settings(url=PLAIN))


@pytest.mark.parametrize("url", ["", "db.example.test", "mysql://db.example.test/app", "postgresql://db:port/app"])
def test_what_is_no_url_of_postgres_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ValidationError, match="must look like postgresql://") as refused:
        DatabaseSettings.model_validate({"url": url})

    assert not url or url not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "is_guessable"),
    [
        ("postgresql://app:passwd-change-me@db.example.test/app", True),
        ("postgresql://app:change-me-now@db.example.test/app", True),
        ("postgresql://app:@db.example.test/app", True),
        ("postgresql://app:zTqYg7Sk2mXo@db.example.test/app", False),
        ("postgresql://app@db.example.test/app", False),
    ],
)
def test_a_password_that_everybody_knows_is_recognised(url: str, *, is_guessable: bool) -> None:
    assert bool(list(settings(url=url).weaknesses())) is is_guessable


def test_each_url_with_a_password_that_everybody_knows_is_named_without_it() -> None:
    known = "postgresql://app:postgres@db.example.test/app"

    lines = settings(url=PLAIN, direct_url=known, replica_url=known).weaknesses()

    assert list(lines) == [
        "APP_DATABASE__DIRECT_URL: has a password that everybody knows",
        "APP_DATABASE__REPLICA_URL: has a password that everybody knows",
    ]


@pytest.mark.parametrize("name", ["url", "direct_url", "replica_url"])
@pytest.mark.parametrize("port", ["0", "65536"])
def test_a_port_of_postgres_that_cannot_be_is_refused(name: str, port: str) -> None:
    given = {"url": "postgresql:///app", name: f"postgresql://u:n0tshown@127.0.0.1:{port}/app"}

    with pytest.raises(ValidationError, match="has a port that is no number") as refused:
        DatabaseSettings.model_validate(given)

    assert "n0tshown" not in str(refused.value)


def test_a_pooler_needs_a_way_past_it() -> None:
    with pytest.raises(ValidationError, match="APP_DATABASE__DIRECT_URL: has to be set with APP_DATABASE__POOLER"):
        settings(url=PLAIN, pooler="transaction")

    assert settings(url=PLAIN, direct_url=PLAIN, pooler="transaction").is_pooled
