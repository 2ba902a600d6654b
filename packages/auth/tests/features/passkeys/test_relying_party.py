"""The domain that passkeys are for, and the pages that may use them."""

import pytest
from pydantic import AnyHttpUrl

from app_auth.features.passkeys.relying_party import RelyingParty


@pytest.mark.parametrize(
    ("base", "domain", "origin"),
    [
        ("https://app.example.com", "app.example.com", "https://app.example.com"),
        ("https://app.example.com/base/", "app.example.com", "https://app.example.com"),
        ("https://app.example.com:443", "app.example.com", "https://app.example.com"),
        ("https://APP.example.com:8443", "app.example.com", "https://app.example.com:8443"),
        ("https://bücher.example", "xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ("http://localhost:8000", "localhost", "http://localhost:8000"),
        ("http://localhost", "localhost", "http://localhost"),
        ("http://api.localhost:8080", "api.localhost", "http://api.localhost:8080"),
        ("http://127.0.0.1:8000", "localhost", "http://localhost:8000"),
        ("http://[::1]:8000", "localhost", "http://localhost:8000"),
    ],
)
def test_passkeys_are_for_the_address_that_people_reach(base: str, domain: str, origin: str) -> None:
    party = RelyingParty.at(AnyHttpUrl(base), name="Shop")

    assert party == RelyingParty(domain, (origin,), "Shop")


@pytest.mark.parametrize(
    "base", ["http://app.example.com", "https://192.0.2.1", "https://[2001:db8::1]", "https://app"]
)
def test_where_browsers_allow_none_there_are_none(base: str) -> None:
    assert RelyingParty.at(AnyHttpUrl(base), name="Shop") is None
    assert RelyingParty.at(None, name="Shop") is None


def test_one_domain_has_several_origins() -> None:
    origins = (AnyHttpUrl("https://app.example.com"), AnyHttpUrl("https://example.com:444"))

    party = RelyingParty.of(origins, domain="example.com", name="Shop")

    assert party.origins == ("https://app.example.com", "https://example.com:444")


@pytest.mark.parametrize(
    ("origin", "domain", "reason"),
    [
        ("https://app.example.com", "example.org", "on the domain"),
        ("https://notexample.com", "example.com", "on the domain"),
        ("https://example.com", "app.example.com", "on the domain"),
        ("http://app.example.com", "example.com", "must be https"),
        ("https://app.example.com", "com", "a domain of yours"),
        ("https://app.example.com", "Example.com", "small letters"),
        ("https://192.0.2.1", "", "no address"),
        ("https://app.example.com", "https://example.com", "small letters"),
    ],
)
def test_settings_that_no_browser_would_follow_are_refused(origin: str, domain: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        RelyingParty.of((AnyHttpUrl(origin),), domain=domain, name="Shop")
