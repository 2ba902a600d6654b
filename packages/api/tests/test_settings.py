"""The settings that the API takes and refuses; a refusal names the variable, never its value."""

import json
from base64 import b64encode
from datetime import timedelta
from random import Random

import pytest
from pydantic import ValidationError

from app_api.settings import ELSEWHERE, ApiSettings
from app_runtime.configuration import Environment, Misconfigured, load

PASSWORD = "pa55-of-the-database"
# The same in every process: they are part of the names of tests.
KEYS = [b64encode(Random(seed).randbytes(32)).decode() for seed in range(4)]
KEY = KEYS[0]


def ring(key: str) -> str:
    return json.dumps([{"kid": "1", "secret": key}])


LEAST = {
    "APP_DATABASE__URL": f"postgresql://app:{PASSWORD}@127.0.0.1/app",
    "APP_REDIS__URL": "rediss://cache.example.test/0",
    "APP_AUTH__KEYS": ring(KEYS[0]),
    "APP_AUTH__REFRESH_KEYS": ring(KEYS[1]),
    "APP_AUTH__TOKEN_KEYS": ring(KEYS[2]),
    "APP_AUTH__PEPPERS": ring(KEYS[3]),
}


def settings(**different: str) -> ApiSettings:
    return load(ApiSettings, LEAST | different, elsewhere=ELSEWHERE)


def refusal(**different: str) -> str:
    with pytest.raises(Misconfigured) as refused:
        settings(**different)
    return str(refused.value)


def test_production_is_the_default() -> None:
    assert settings().env is Environment.PRODUCTION
    assert not settings().docs_enabled


def test_nested_settings_are_read_from_the_environment() -> None:
    read = settings(
        APP_ENV="development",
        APP_HTTP__PORT="9000",
        APP_HTTP__CORS_ORIGINS='["https://app.example.test"]',
        APP_HTTP__DRAIN="PT3S",
        APP_LOG__LEVEL="DEBUG",
    )

    assert read.env is Environment.DEVELOPMENT
    assert read.docs_enabled
    assert read.http.port == 9000
    assert [str(origin) for origin in read.http.cors_origins] == ["https://app.example.test/"]
    assert read.http.drain == timedelta(seconds=3)
    assert read.log.level == "DEBUG"


def test_settings_cannot_be_changed_later() -> None:
    read = settings()

    with pytest.raises(ValidationError):
        read.env = Environment.TEST  # type: ignore[misc]  # which is the point


def test_production_refuses_every_host() -> None:
    assert refusal(APP_HTTP__ALLOWED_HOSTS='["*"]') == "APP_HTTP__ALLOWED_HOSTS: must name the hosts"


@pytest.mark.parametrize("networks", ['["*"]', '["0.0.0.0/0"]', '["::/0"]'])
def test_production_refuses_every_proxy(networks: str) -> None:
    assert refusal(APP_HTTP__TRUSTED_PROXIES=networks) == "APP_HTTP__TRUSTED_PROXIES: must name networks"


def test_production_refuses_addresses_that_nobody_verifies() -> None:
    assert refusal(APP_AUTH__VERIFICATION="off") == "APP_AUTH__VERIFICATION: must be on"


@pytest.mark.parametrize(
    ("url", "reached"),
    [
        ("https://app.example.com/", True),
        ("http://app.example.com/", False),
        ("http://localhost:8000/", False),
        ("https://127.0.0.1/", False),
    ],
)
def test_production_is_not_reached_where_only_its_own_machine_is(url: str, *, reached: bool) -> None:
    in_production = settings(APP_PUBLIC_BASE_URL=url, APP_ENV="production")
    elsewhere = settings(APP_PUBLIC_BASE_URL=url, APP_ENV="test")

    assert (in_production.reached_at is not None) is reached
    assert str(elsewhere.reached_at) == url


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("APP_DATABASE__POOL_TIMEOUT", "2.5", "APP_DATABASE__REQUEST_TIMEOUT"),
        ("APP_DATABASE__CONNECT_TIMEOUT", "2.5", "APP_DATABASE__REQUEST_TIMEOUT"),
        ("APP_DATABASE__PING_TIMEOUT", "1", "APP_DATABASE__REQUEST_TIMEOUT"),
        ("APP_DATABASE__STATEMENT_TIMEOUT", "3", "APP_DATABASE__COMMAND_TIMEOUT"),
        ("APP_DATABASE__REQUEST_TIMEOUT", "10", "APP_HTTP__REQUEST_TIMEOUT"),
    ],
)
def test_production_refuses_waits_that_do_not_nest(name: str, value: str, named: str) -> None:
    """The outer wait would end while an inner one may still help: a silent connection is never replaced then."""
    assert refusal(**{name: value}).startswith(f"{named}: must be longer than")


@pytest.mark.parametrize("password", ["passwd-change-me", "change-me-please", "postgres", "password"])
def test_production_refuses_a_published_password(password: str) -> None:
    line = refusal(APP_DATABASE__URL=f"postgresql://app:{password}@localhost/app")

    assert line == "APP_DATABASE__URL: has a password that everybody knows"


WEAK = {
    "published": (bytes(range(32)), "the key 1 has been published"),
    "of few letters": (b"ab" * 16, "the key 1 is not random: `openssl rand -base64 32` makes one"),
    "of one byte": (b"\xff" * 32, "the key 1 is not random: `openssl rand -base64 32` makes one"),
    "a text": (
        b"change-me-please, I am a long text",
        "the key 1 is not random: `openssl rand -base64 32` makes one",
    ),
}


@pytest.mark.parametrize(
    "name", ["APP_AUTH__KEYS", "APP_AUTH__REFRESH_KEYS", "APP_AUTH__TOKEN_KEYS", "APP_AUTH__PEPPERS"]
)
@pytest.mark.parametrize(("key", "reason"), WEAK.values(), ids=WEAK.keys())
def test_production_refuses_weak_secrets(name: str, key: bytes, reason: str) -> None:
    assert refusal(**{name: ring(b64encode(key).decode())}) == f"{name}: {reason}"


def test_production_refuses_one_secret_in_two_rings() -> None:
    line = refusal(APP_AUTH__PEPPERS=ring(KEY))

    assert line == "APP_AUTH__PEPPERS: the key 1 is in auth__keys too; each ring needs keys of its own"


def test_what_production_refuses_is_said_all_at_once() -> None:
    lines = refusal(APP_HTTP__ALLOWED_HOSTS='["*"]', APP_AUTH__VERIFICATION="off", APP_AUTH__PEPPERS=ring(KEY))

    assert [line.partition(":")[0] for line in lines.splitlines()] == [
        "APP_HTTP__ALLOWED_HOSTS",
        "APP_AUTH__VERIFICATION",
        "APP_AUTH__PEPPERS",
    ]


def test_development_may_be_open() -> None:
    assert settings(APP_ENV="development", APP_HTTP__ALLOWED_HOSTS='["*"]').http.allowed_hosts == ("*",)


@pytest.mark.parametrize("missing", sorted(LEAST))
def test_no_secret_has_a_default(missing: str) -> None:
    given = {name: text for name, text in LEAST.items() if name != missing}

    with pytest.raises(Misconfigured) as refused:
        load(ApiSettings, given, elsewhere=ELSEWHERE)

    assert refused.value.lines == (f"{missing}: has to be set",)


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("APP_ENV", "staging"),
        ("APP_DATABASE__URL", "mysql://app:pa55@db.example.test/app"),
        ("APP_REDIS__URL", "http://cache.example.test:pa55"),
        ("APP_HTTP__PORT", "65536"),
        ("APP_HTTP__CORS_ORIGINS", '["*"]'),
        ("APP_HTTP__CORS_ORIGINS", "https://app.example.test"),
        ("APP_HTTP__MAX_BODY", "1023"),
        ("APP_HTTP__DRAIN", "-1"),
        ("APP_LOG__LEVEL", "LOUD"),
        ("APP_LOG__FORMAT", "xml"),
        ("APP_AUTH__KEYS", ring(b64encode(bytes(31)).decode())),
        ("APP_AUTH__KEYS", ring("change-me-0123456789abcdefghijklmnopqrstuv")),
        ("APP_AUTH__PEPPERS", ring(KEY + "!")),
    ],
)
def test_a_refused_value_is_not_repeated(name: str, bad: str) -> None:
    line = refusal(**{name: bad})

    assert line.startswith(f"{name}: ")
    assert "\n" not in line
    assert bad not in line
    assert "change-me" not in line
    assert "pa55" not in line


def test_secrets_are_not_shown() -> None:
    shown = repr(settings())

    assert KEY not in shown
    assert PASSWORD not in shown


def test_what_the_worker_reads_may_be_set_too() -> None:
    both = settings(APP_MAIL__URL="smtp://mail.example.test", APP_WORKER__CONCURRENCY="3")

    assert both == settings()


def test_limits_and_proxies_are_read_from_the_environment() -> None:
    read = settings(APP_THROTTLE__LOGIN_ACCOUNT="7/2m", APP_HTTP__TRUSTED_PROXIES='["10.0.0.0/8", "fd00::/8"]')

    assert read.throttle.login_account == "7/2m"
    assert [str(network) for network in read.http.trusted_proxies] == ["10.0.0.0/8", "fd00::/8"]


@pytest.mark.parametrize(
    ("env", "given", "seconds"),
    [("production", {}, 3), ("development", {}, 0), ("test", {}, 0), ("test", {"APP_HTTP__DRAIN_DELAY": "2"}, 2)],
)
def test_in_production_a_proxy_has_time_to_notice_that_a_process_stops(
    env: str, given: dict[str, str], seconds: int
) -> None:
    assert settings(APP_ENV=env, **given).http.drain_delay == timedelta(seconds=seconds)


@pytest.mark.parametrize("env", [*Environment])
def test_what_runs_at_the_signal_may_finish_and_the_process_ends_within_twelve_seconds(env: Environment) -> None:
    http = settings(APP_ENV=env.value).http

    assert http.request_timeout < http.drain_delay + http.drain < timedelta(seconds=12)
