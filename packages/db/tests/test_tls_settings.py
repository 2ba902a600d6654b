"""The connections that ask for TLS; tests/e2e/test_tls.py shows that they use it."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from pydantic import ValidationError

from app_db.settings import DatabaseSettings

HERE = [
    "postgresql:///app",
    "postgresql://localhost/app",
    "postgresql://127.0.0.1:5433/app",
    "postgresql://[::1]:5433/app",
    "postgresql:///app?host=/run/postgresql",
    "postgresql:///app?host=127.0.0.1:5433&host=[::1]:5434&target_session_attrs=primary",
    "postgresql:///app?host=127.0.0.1,::1,localhost&port=5433&target_session_attrs=primary",
]
ELSEWHERE = [
    "postgresql://db.example.test/app",
    "postgresql://10.0.0.7:5433/app",
    "postgresql:///app?host=127.0.0.1:5433&host=db.example.test:5434&target_session_attrs=primary",
    "postgresql:///app?host=127.0.0.1,2001:db8::1&port=5433,5434&target_session_attrs=primary",
]
NO_CA = "APP_DATABASE__CA_PATH: has to be set"


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    path.touch()
    return path


def refused(message: str | None) -> AbstractContextManager[object]:
    return nullcontext() if message is None else pytest.raises(ValidationError, match=message)


@pytest.mark.parametrize("url", HERE)
def test_a_database_on_this_machine_is_asked_in_the_clear(url: str) -> None:
    read = DatabaseSettings.model_validate({"url": url})

    assert "sslmode=disable" in read.direct_dsn
    assert "sslmode=disable" in read.dsn


@pytest.mark.parametrize("url", ELSEWHERE)
def test_a_database_elsewhere_is_not_asked_without_a_certificate_to_trust(url: str) -> None:
    with pytest.raises(ValidationError, match=NO_CA):
        DatabaseSettings.model_validate({"url": url})


@pytest.mark.parametrize("url", ELSEWHERE)
def test_a_database_elsewhere_has_to_prove_its_name(url: str, ca: Path) -> None:
    read = DatabaseSettings.model_validate({"url": url, "ca_path": ca})

    assert "sslmode=verify-full&sslrootcert=" in read.direct_dsn
    assert "sslmode=verify-full&sslrootcert=" in read.dsn


def test_a_direct_url_that_leads_elsewhere_is_as_careful_as_the_other() -> None:
    with pytest.raises(ValidationError, match=NO_CA):
        DatabaseSettings.model_validate({"url": HERE[0], "direct_url": ELSEWHERE[0]})


@pytest.mark.parametrize(
    ("url", "tls", "message"),
    [(HERE[1], "verify-full", NO_CA), (ELSEWHERE[0], "off", None), (ELSEWHERE[0], "prefer", "verify-full")],
)
def test_tls_to_the_database_is_what_is_said_wherever_it_is(url: str, tls: str, message: str | None) -> None:
    with refused(message):
        DatabaseSettings.model_validate({"url": url, "tls": tls})


@pytest.mark.parametrize("query", ["sslmode=disable", "sslmode=require", "sslrootcert=other.pem", "ssl=prefer"])
@pytest.mark.parametrize("field", ["url", "direct_url", "replica_url"])
def test_no_url_of_postgres_weakens_tls(query: str, field: str, ca: Path) -> None:
    name = query.partition("=")[0]
    line = rf"APP_DATABASE__{field.upper()}: \?{name} says something else than APP_DATABASE__TLS"
    with pytest.raises(ValidationError, match=line):
        DatabaseSettings.model_validate({"url": HERE[0], field: f"{ELSEWHERE[0]}?{query}", "ca_path": ca})


def test_a_url_of_postgres_may_say_the_same_of_tls(ca: Path) -> None:
    read = DatabaseSettings.model_validate({"url": ELSEWHERE[0], "ca_path": ca})

    again = DatabaseSettings.model_validate({"url": read.direct_dsn, "ca_path": ca})

    assert again.direct_dsn == read.direct_dsn
