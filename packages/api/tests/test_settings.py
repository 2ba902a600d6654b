"""What the API reads from its environment, and what it refuses; a refusal names the variable, never its value."""

import json
from base64 import b64encode
from datetime import timedelta

import pytest
from pydantic import ValidationError

from app_api.settings import ApiSettings, Environment

PASSWORD = "hunter2"
KEY = b64encode(bytes(range(32))).decode()  # the same in every process: it is part of the names of tests
RING = json.dumps([{"kid": "1", "secret": KEY}])
LEAST = {
    "APP_DATABASE__URL": f"postgresql://app:{PASSWORD}@db.example.test/app",
    "APP_REDIS__URL": "redis://cache.example.test/0",
    "APP_AUTH__KEYS": RING,
    "APP_AUTH__REFRESH_KEYS": RING,
    "APP_AUTH__PEPPERS": RING,
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The least that the API can start with, and nothing of this machine's own."""
    monkeypatch.delenv("APP_ENV", raising=False)
    for name, text in LEAST.items():
        monkeypatch.setenv(name, text)
    return monkeypatch


def settings() -> ApiSettings:
    return ApiSettings()


def test_production_is_the_default(environment: pytest.MonkeyPatch) -> None:
    assert settings().env is Environment.PRODUCTION
    assert not settings().docs_enabled


def test_nested_settings_are_read_from_the_environment(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("APP_ENV", "development")
    environment.setenv("APP_HTTP__PORT", "9000")
    environment.setenv("APP_HTTP__CORS_ORIGINS", '["https://app.example.test"]')
    environment.setenv("APP_HTTP__DRAIN", "PT3S")
    environment.setenv("APP_LOG__LEVEL", "DEBUG")

    read = settings()

    assert read.env is Environment.DEVELOPMENT
    assert read.docs_enabled
    assert read.http.port == 9000
    assert [str(origin) for origin in read.http.cors_origins] == ["https://app.example.test/"]
    assert read.http.drain == timedelta(seconds=3)
    assert read.log.level == "DEBUG"


def test_settings_cannot_be_changed_later(environment: pytest.MonkeyPatch) -> None:
    read = settings()

    with pytest.raises(ValidationError):
        read.env = Environment.TEST  # type: ignore[misc]  # which is the point


def test_production_refuses_every_host(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("APP_HTTP__ALLOWED_HOSTS", '["*"]')

    with pytest.raises(ValidationError, match="APP_HTTP__ALLOWED_HOSTS"):
        settings()


@pytest.mark.parametrize("missing", sorted(LEAST))
def test_no_secret_has_a_default(environment: pytest.MonkeyPatch, missing: str) -> None:
    environment.delenv(missing)

    with pytest.raises(ValidationError, match=missing.removeprefix("APP_").split("__")[0].lower()):
        settings()


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("APP_ENV", "staging"),
        ("APP_HTTP__PORT", "65536"),
        ("APP_HTTP__CORS_ORIGINS", '["*"]'),
        ("APP_HTTP__MAX_BODY", "1023"),
        ("APP_HTTP__DRAIN", "-1"),
        ("APP_LOG__LEVEL", "LOUD"),
        ("APP_LOG__FORMAT", "xml"),
        ("APP_AUTH__KEYS", json.dumps([{"kid": "1", "secret": KEY[:20]}])),
        ("APP_AUTH__PEPPERS", json.dumps([{"kid": "1", "secret": KEY + "!"}])),
    ],
)
def test_a_refused_value_is_not_repeated(environment: pytest.MonkeyPatch, name: str, bad: str) -> None:
    environment.setenv(name, bad)

    with pytest.raises(ValidationError) as refused:
        settings()

    assert name.removeprefix("APP_").lower().replace("__", ".") in str(refused.value)
    assert KEY[:20] not in str(refused.value)
    assert bad not in str(refused.value)


def test_secrets_are_not_shown(environment: pytest.MonkeyPatch) -> None:
    shown = repr(settings())

    assert KEY not in shown
    assert PASSWORD not in shown
