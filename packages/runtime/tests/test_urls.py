"""URLs of settings are read whole, and refused without being shown."""

import pytest
from pydantic import BaseModel, ValidationError

from app_runtime.configuration import Misconfigured, load, shown
from app_runtime.telemetry.trace_settings import TracingSettings
from app_runtime.urls import UrlParts, read_url

MAIL = ["smtp", "smtps"]


class Settings(BaseModel):
    tracing: TracingSettings = TracingSettings()


def test_a_url_is_read_into_decoded_parts() -> None:
    parts = read_url("SMTP://ada%40example.test:s%2F%23%3Fcret@mail.example.test:587/a?b=c#d", schemes=MAIL)

    assert parts == UrlParts(
        "smtp", "ada@example.test", "s/#?cret", "mail.example.test", 587, "/a", "b=c", "d"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("smtp://mail", "mail", None),
        ("smtp://mail_1.example.test.", "mail_1.example.test.", None),
        ("smtp://[2001:db8::1]:25", "2001:db8::1", 25),
        ("smtp://192.0.2.7", "192.0.2.7", None),
        ("smtp://bücher.example:1025", "bücher.example", 1025),
        ("smtp://user@mail.example.test", "mail.example.test", None),
        ("smtp://ada@example.test:pass@mail.example.test", "mail.example.test", None),
        ("smtp://", "", None),
    ],
)
def test_a_host_is_a_name_or_an_address(url: str, host: str, port: int | None) -> None:
    parts = read_url(url, schemes=MAIL)

    assert (parts.host, parts.port) == (host, port)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "must start with smtp:// or smtps://"),
        ("mail.example.test:587", "must start with"),
        ("smtp:mail.example.test", "must start with"),
        ("http://mail.example.test", "must start with"),
        ("smtp://u:n0tshown/x@mail.example.test:587", "has / . or # before its last @"),
        ("smtp://u:n0tshown#x@mail.example.test:587", "has / . or # before its last @"),
        ("smtp://u:n0tshown?x@mail.example.test:587", "has / . or # before its last @"),
        ("smtp://u:12/n0tshown@mail.example.test", "has / . or # before its last @"),
        ("smtp://u:n0tshown x@mail.example.test", "has a blank"),
        ("smtp://u:n0tshown@mail.example.test\n", "has a blank"),
        (r"smtp://u:n0tshown\x@mail.example.test", "has a blank, a backslash"),
        ("smtp://u:n0tshown%zz@mail.example.test", "has a % that"),
        ("smtp://u:n0tshown%@mail.example.test", "has a % that"),
        ("smtp://u:n0tshown%ff@mail.example.test", "is not UTF-8"),
        ("smtp://u:n0tshown@mail.example.test:", "has a port that is no number"),
        ("smtp://u:n0tshown@mail.example.test:0", "has a port that is no number"),
        ("smtp://u:n0tshown@mail.example.test:65536", "has a port that is no number"),
        ("smtp://u:n0tshown@mail.example.test:٢٥", "has a port that is no number"),
        ("smtp://u:n0tshown@mail.example.test:+25", "has a port that is no number"),
        ("smtp://u:n0tshown@2001:db8::1", "has no host and port that can be read"),
        ("smtp://u:n0tshown@[mail.example.test]", "has brackets around"),
        ("smtp://u:n0tshown@mail..example.test", "has a host that is no name"),
        ("smtp://u:n0tshown@-mail.example.test", "has a host that is no name"),
        ("smtp://u:n0tshown@mail,other", "has a host that is no name"),
        ("smtp://u:n0tshown@10.0.0.300", "has a host of numbers"),
    ],
)
def test_what_cannot_be_read_is_refused_without_being_shown(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        read_url(url, schemes=MAIL)

    assert "n0tshown" not in str(refused.value)


def test_parts_that_are_printed_hide_the_password() -> None:
    assert "n0tshown" not in repr(read_url("smtp://u:n0tshown@mail.example.test", schemes=MAIL))


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ("collector:4318", "must start with http:// or https://"),
        ("http://u:n0tshown/x@collector:4318/v1/traces", "has a port that is no number"),
        ("http://u:n0tshown#x@collector:4318/v1/traces", "has a port that is no number"),
        ("http://collector:70000/v1/traces", "has a port that is no number"),
        ("http://:4318/v1/traces", "names no host"),
        ("http://collector:4318/v1/traces#n0tshown", "must not have a fragment"),
    ],
)
def test_a_collector_that_cannot_be_meant_is_refused_by_name(endpoint: str, reason: str) -> None:
    with pytest.raises(Misconfigured, match=f"^APP_TRACING__ENDPOINT: {reason}") as refused:
        load(Settings, {"APP_TRACING__ENDPOINT": endpoint})

    assert "n0tshown" not in str(refused.value)


def test_a_value_that_is_no_text_is_left_to_pydantic() -> None:
    with pytest.raises(ValidationError, match="URL input should be a string"):
        TracingSettings.model_validate({"endpoint": 7})


def test_the_password_of_a_collector_is_not_printed() -> None:
    environ = {"APP_TRACING__ENDPOINT": "http://u:n0tshown@collector:4318/v1/traces"}

    lines = list(shown(load(Settings, environ), environ))

    assert lines[0] == "APP_TRACING__ENDPOINT=http://…@collector:4318/v1/traces  # variable"
