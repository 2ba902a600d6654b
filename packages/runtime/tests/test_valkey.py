"""Settings of Valkey: a URL that cannot be meant, or is not safe, is refused at the start."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from app_runtime.valkey import ValkeySettings, ValkeyUrl

NOT_HERE = "APP_REDIS__URL: must be rediss://"
CACHE = "redis://app:pa55word@localhost:6379"
OF_VALKEY = [
    "socket_timeout",
    "socket_connect_timeout",
    "socket_keepalive",
    "retry_on_timeout",
    "max_connections",
    "health_check_interval",
    "protocol",
    "client_name",
    "decode_responses",
    "username",
    "password",
    "family",
    "timeout",
    "tls",
    "url",
]


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    path.touch()
    return path


def refused(message: str | None) -> AbstractContextManager[object]:
    return nullcontext() if message is None else pytest.raises(ValidationError, match=message)


def refusal(url: str) -> str:
    with pytest.raises(ValidationError) as error:
        ValkeySettings.model_validate({"url": url})
    assert "pa55word" not in str(error.value)
    (problem,) = error.value.errors()
    return problem["msg"]


@pytest.mark.parametrize(
    ("url", "is_valkey"), [("rediss://cache.example.test/0", True), ("http://cache.example.test", False)]
)
def test_what_is_no_url_of_valkey_is_refused(url: str, *, is_valkey: bool) -> None:
    class Settings(BaseModel):
        url: ValkeyUrl

    with nullcontext() if is_valkey else pytest.raises(ValidationError, match="must look like redis://"):
        Settings.model_validate({"url": url})


@pytest.mark.parametrize(
    "url",
    [
        "redis://:n0tshown/x@127.0.0.1:6379/0",
        "redis://:n0tshown#x@127.0.0.1:6379/0",
        "redis://:n0tshown@127.0.0.1:port/0",
        "redis://:n0tshown@127.0.0.1:6379/zero",
        "redis://:n0tshown@127.0.0.1:6379/0/1",
    ],
)
def test_a_url_of_valkey_is_read_whole(url: str) -> None:
    with pytest.raises(ValidationError, match=r"has / . or # before|has a port|the number of a database") as refused:
        ValkeySettings.model_validate({"url": url})

    assert "n0tshown" not in str(refused.value)


@pytest.mark.parametrize("url", ["redis://127.0.0.1", "redis://127.0.0.1:6379/", "unix:///run/valkey.sock?db=1"])
def test_a_url_of_valkey_needs_no_more_than_its_host(url: str) -> None:
    assert ValkeySettings.model_validate({"url": url}).url.get_secret_value() == url


@pytest.mark.parametrize(
    ("url", "tls", "message"),
    [
        ("redis://127.0.0.1:6379/0", None, None),
        ("unix:///run/valkey.sock", None, None),
        ("rediss://cache.example.test/0", None, None),
        ("redis://cache.example.test/0", None, NOT_HERE),
        ("redis://cache.example.test/0", "off", None),
        ("redis://127.0.0.1:6379/0", "verify-full", NOT_HERE),
    ],
)
def test_valkey_elsewhere_is_not_asked_in_the_clear(url: str, tls: str | None, message: str | None) -> None:
    with refused(message):
        ValkeySettings.model_validate({"url": url, "tls": tls})


def test_no_url_of_valkey_weakens_tls() -> None:
    with pytest.raises(ValidationError, match="APP_REDIS__TLS does"):
        ValkeySettings.model_validate({"url": "rediss://cache.example.test/0?ssl_cert_reqs=none"})


def test_a_plain_valkey_is_asked_without_options_of_tls(ca: Path) -> None:
    assert ValkeySettings.model_validate({"url": "redis://localhost", "ca_path": ca}).tls_options == {}


def test_valkey_has_to_prove_its_name(ca: Path) -> None:
    read = ValkeySettings.model_validate({"url": "rediss://cache.example.test", "ca_path": ca})

    assert read.tls_options == {"ssl_check_hostname": True, "ssl_ca_certs": str(ca)}


def test_without_certificates_of_its_own_valkey_is_vouched_for_by_those_of_the_system() -> None:
    assert "ssl_ca_certs" not in ValkeySettings.model_validate({"url": "rediss://cache.example.test"}).tls_options


@pytest.mark.parametrize("name", OF_VALKEY)
def test_a_parameter_of_valkey_is_refused_by_name(name: str) -> None:
    line = refusal(f"{CACHE}?{name}=secret-value")

    assert f"?{name}: " in line
    assert "secret-value" not in line


def test_a_parameter_of_valkey_about_tls_is_refused_by_name() -> None:
    assert "as ?ssl_cert_reqs does" in refusal(f"{CACHE}?ssl_cert_reqs=none")


@pytest.mark.parametrize("query", ["db=x", "db=1&db=2", "db=", "db=-1"])
def test_a_database_of_valkey_that_is_no_number_is_refused(query: str) -> None:
    assert "the number of one database" in refusal(f"{CACHE}?{query}")


def test_the_database_of_valkey_may_be_named() -> None:
    read = ValkeySettings.model_validate({"url": "unix:///run/valkey.sock?db=2"})

    assert read.url.get_secret_value().endswith("?db=2")


SENTINELS = "sentinel://app:pa55%2Fword@localhost:26380,127.0.0.1,[::1]:26381/cache/2"


def test_a_url_names_sentinels_and_the_service_that_they_watch() -> None:
    sentinels = ValkeySettings.model_validate({"url": SENTINELS}).sentinels

    assert sentinels is not None
    assert sentinels.hosts == (("localhost", 26380), ("127.0.0.1", 26379), ("::1", 26381))
    assert (sentinels.service, sentinels.database) == ("cache", 2)
    assert (sentinels.user, sentinels.password) == ("app", "pa55/word")
    assert "pa55" not in repr(sentinels)


@pytest.mark.parametrize(
    ("url", "because"),
    [
        ("sentinel://:pa55word@localhost,/cache", "no host before or after a comma"),
        ("sentinel://:pa55word@,localhost/cache", "no host before or after a comma"),
        ("sentinel://:pa55word@localhost", "must name the service"),
        ("sentinel://:pa55word@localhost/", "must name the service"),
        ("sentinel://:pa55word@localhost/cache/zero", "must name the service"),
        ("sentinel://:pa55word@localhost/cache/0/1", "must name the service"),
        ("sentinel://:pa55word@localhost:port,localhost/cache", "has a port"),
        ("sentinel://:pa55word/x@localhost/cache", "before its last @"),
        ("sentinel://:pa55word@localhost/cache?db=1", "the number goes behind the service"),
        ("sentinel://:pa55word@localhost/cache?socket_timeout=1", "APP_REDIS__TIMEOUT is the setting"),
        ("sentinel://:pa55word@localhost/cache?x=1", "take it out"),
    ],
)
def test_a_url_of_sentinels_is_read_whole(url: str, because: str) -> None:
    assert because in refusal(url)


def test_sentinels_elsewhere_are_not_asked_in_the_clear() -> None:
    url = "sentinel://localhost,cache.example.test/cache"

    assert "must be sentinels:// to another machine" in refusal(url)
    assert not ValkeySettings.model_validate({"url": url, "tls": "off"}).tls_options
    encrypted = ValkeySettings.model_validate({"url": url.replace("sentinel:", "sentinels:")})
    assert encrypted.tls_options == {"ssl_check_hostname": True}
