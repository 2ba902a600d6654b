"""The syntax of limits, and the addresses that count as one."""

import pytest
from pydantic import ValidationError

from app_auth.limits import Limit, ThrottleSettings, network_of


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("30/5m", Limit(30, 300)),
        ("10/h", Limit(10, 3600)),
        ("100/24h", Limit(100, 86400)),
        ("1/1s", Limit(1, 1)),
        ("10000/7d", Limit(10_000, 604_800)),
    ],
)
def test_a_limit_is_a_count_and_a_duration(text: str, limit: Limit) -> None:
    assert Limit.parse(text) == limit


@pytest.mark.parametrize(
    "text",
    [
        "",
        "30",
        "5m",
        "30/5",
        "30/m5",
        "30/5w",
        "-1/5m",
        "3.5/h",
        "0/5m",
        "5/0s",
        "10001/h",
        "1/8d",
        "\uff11/h",
        "5/5m ",
        "*",
    ],
)
def test_a_limit_of_another_shape_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="login_ip"):
        ThrottleSettings(login_ip=text)


def test_the_limits_are_those_that_are_promised() -> None:
    assert ThrottleSettings().model_dump() == {
        "login_ip": "30/5m",
        "login_account": "5/5m",
        "login_account_day": "100/24h",
        "register_ip": "10/h",
        "forgot_ip": "10/h",
        "mail_account": "3/h",
        "refresh_ip": "150/5m",
        "one_time_ip": "30/5m",
        "code_challenge": "5/5m",
        "code_account": "10/15m",
        "code_account_day": "50/24h",
        "export_account": "10/h",
        "key_ip": "30/5m",
        "key_requests": "600/m",
        "new_key_account": "20/h",
        "webhook_account": "60/h",
    }


def test_an_ipv6_address_counts_as_its_network() -> None:
    assert network_of("2001:db8:0:1::1") == network_of("2001:db8:0:1:ffff::2")
    assert network_of("2001:db8:0:1::1") != network_of("2001:db8:0:2::1")


def test_an_ipv4_address_counts_for_itself() -> None:
    assert network_of("192.0.2.1") != network_of("192.0.2.2")


def test_all_without_an_address_are_one_place() -> None:
    assert network_of(None) == network_of(None) != network_of("192.0.2.1")
