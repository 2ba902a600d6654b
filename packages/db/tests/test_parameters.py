"""Parameters behind the `?` of a URL: taken, or refused by name before anybody connects.

libpq's are those of PostgreSQL 18, 32.1.2; the others are what Neon, Supabase, Prisma, Heroku and Railway put there.
asyncpg sends an unknown one to the server (42704).
"""

import pytest
from pydantic import BaseModel, ValidationError

from app_db.settings import DatabaseSettings
from app_runtime.configuration import Misconfigured, load

HERE = "postgresql://app:pa55word@localhost/app"
OF_LIBPQ = [
    "hostaddr",
    "passfile",
    "require_auth",
    "channel_binding",
    "connect_timeout",
    "client_encoding",
    "options",
    "application_name",
    "fallback_application_name",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "replication",
    "gssencmode",
    "requiressl",
    "krbsrvname",
    "gsslib",
    "gssdelegation",
    "scram_client_key",
    "scram_server_key",
    "service",
    "load_balance_hosts",
    "min_protocol_version",
    "max_protocol_version",
    "requirepeer",
    "oauth_issuer",
    "oauth_client_id",
    "user",
    "password",
    "dbname",
]
OF_OTHERS = [
    "pgbouncer",
    "connection_limit",
    "pool_timeout",
    "schema",
    "search_path",
    "endpoint",
    "statement_cache_size",
    "supa",
]


def refusal(name: str, url: str) -> str:
    with pytest.raises(ValidationError) as error:
        DatabaseSettings.model_validate({"url": HERE, name: url})
    assert "pa55word" not in str(error.value)
    (problem,) = error.value.errors()
    return problem["msg"]


@pytest.mark.parametrize("name", [*OF_LIBPQ, *OF_OTHERS])
@pytest.mark.parametrize("field", ["url", "direct_url", "replica_url"])
def test_a_parameter_that_asyncpg_does_not_know_is_refused_by_name(name: str, field: str) -> None:
    line = refusal(field, f"{HERE}?{name}=secret-value")

    assert f"?{name}: " in line
    assert "secret-value" not in line


@pytest.mark.parametrize(
    "query",
    [
        "channel_binding=prefer",
        "channel_binding=disable",
        "gssencmode=disable",
        "gssencmode=prefer",
        "keepalives=1",
        "client_encoding=UTF8",
        "load_balance_hosts=disable",
        "gssencmode=prefer&keepalives=1",
    ],
)
def test_a_parameter_that_asks_for_what_is_done_anyway_is_taken(query: str) -> None:
    read = DatabaseSettings.model_validate({"url": f"{HERE}?{query}", "replica_url": f"{HERE}?{query}"})

    assert read.dsn == f"{HERE}?sslmode=disable"
    assert read.sqlalchemy_url.query == {}


@pytest.mark.parametrize(
    ("query", "instead"),
    [
        ("channel_binding=require", "it is not spoken"),
        ("channel_binding=prefer&channel_binding=require", "it is not spoken"),
        ("connect_timeout=10", "APP_DATABASE__CONNECT_TIMEOUT"),
        ("connection_limit=1", "APP_DATABASE__POOL_SIZE"),
        ("pgbouncer=true", "PgBouncer in docs/how-to/operations.md"),
        ("options=endpoint%3Dep-cool-1", "in the name of its host"),
        ("schema=shop", "ALTER ROLE"),
        ("keepalives=0", "take it out"),
        ("nobody_knows=1", "it is not known here"),
    ],
)
def test_a_refusal_says_what_to_do_instead(query: str, instead: str) -> None:
    assert instead in refusal("url", f"{HERE}?{query}")


def test_a_target_that_is_named_twice_is_refused() -> None:
    both = "target_session_attrs=primary&target_session_attrs=standby"

    assert "more than once" in refusal("url", f"{HERE}?{both}")


def test_a_piece_of_a_password_is_not_shown_as_a_name() -> None:
    assert "has the parameter ?…: " in refusal("url", "postgresql://app@localhost/app?se/cret%40x=1")


def test_the_variable_is_named() -> None:
    class Settings(BaseModel):
        database: DatabaseSettings

    environ = {"APP_DATABASE__URL": HERE, "APP_DATABASE__DIRECT_URL": f"{HERE}?pgbouncer=true"}

    with pytest.raises(Misconfigured, match=r"^APP_DATABASE__DIRECT_URL: has the parameter \?pgbouncer: "):
        load(Settings, environ)
