"""Which addresses an endpoint may have, and which numbers may be reached."""

from ipaddress import ip_address, ip_network

import pytest

from app_auth.features.webhooks.errors import InvalidEndpointUrl
from app_auth.features.webhooks.targets import LONGEST_URL, checked_url, is_public, may_reach

PRIVATE = [
    "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1",
    "172.31.255.255", "192.0.0.8", "192.0.0.170", "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.88.99.1",
    "192.168.1.1", "192.175.48.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250",
    "240.0.0.1", "255.255.255.255",
    "::", "::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:10::1", "2001:db8::1", "2002:7f00:1::",
    "2002:c0a8:101::1", "2620:4f:8000::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0",
    "2606:4700::1111%eth0", "fec0::1", "ff02::1",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "192.0.46.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]


@pytest.mark.parametrize("text", PRIVATE)
def test_an_address_that_is_not_public_is_refused(text: str) -> None:
    assert not is_public(ip_address(text))
    assert not may_reach(ip_address(text), [])


@pytest.mark.parametrize("text", PUBLIC)
def test_a_public_address_may_be_reached(text: str) -> None:
    assert is_public(ip_address(text))


@pytest.mark.parametrize(("text", "may"), [("10.1.0.1", True), ("::ffff:10.1.0.1", True), ("10.2.0.1", False)])
def test_a_network_of_the_settings_may_be_reached(text: str, may: bool) -> None:
    assert may_reach(ip_address(text), [ip_network("10.1.0.0/16"), ip_network("fd00::/8")]) is may


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("https://hooks.example.com", "https://hooks.example.com/"),
        ("HTTPS://Hooks.Example.COM:8443/a?b=c", "https://hooks.example.com:8443/a?b=c"),
        ("https://m\u00fcnchen.example/", "https://xn--mnchen-3ya.example/"),
        ("https://1.1.1.1/", "https://1.1.1.1/"),
        ("https://[2606:4700::1111]/", "https://[2606:4700::1111]/"),
    ],
)
def test_an_address_is_stored_in_one_spelling(text: str, stored: str) -> None:
    assert checked_url(text, allowed=[]) == stored


@pytest.mark.parametrize(
    "text",
    [
        "", "hooks.example.com", "http://hooks.example.com/", "ftp://hooks.example.com/", "https://",
        "file:///etc/passwd", "gopher://example.com/", "https://ada@example.com/", "https://ada:pw@example.com/",
        "https://example.com/#x", "https://127.0.0.1/", "https://[::1]/", "https://[::ffff:127.0.0.1]/",
        "https://2130706433/", "https://0x7f.1/", "https://0177.0.0.1/", "https://127.1/", "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data/", "https://[fe80::1]/", "https://\uff11\uff12\uff17.0.0.1/",
        "https://example.com:99999/", "https://example.com/" + "x" * LONGEST_URL,
    ],
)  # fmt: skip
def test_what_is_no_address_of_an_endpoint_is_refused(text: str) -> None:
    with pytest.raises(InvalidEndpointUrl):
        checked_url(text, allowed=[])


def test_a_number_of_an_allowed_network_may_be_named() -> None:
    assert checked_url("https://10.1.0.1/", allowed=[ip_network("10.1.0.0/16")]) == "https://10.1.0.1/"
