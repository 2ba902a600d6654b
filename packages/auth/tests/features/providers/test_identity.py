"""Who a provider says somebody is."""

import pytest

from app_auth.features.providers.errors import InvalidProviderAnswer
from app_auth.features.providers.identity import identity_of

CLAIMS = {"iss": "https://a.example", "sub": "7", "email": "ada@example.com", "email_verified": True}


@pytest.mark.parametrize("verified", [True, "true"])
def test_a_verified_address_counts(verified: object) -> None:
    assert identity_of({**CLAIMS, "email_verified": verified}).email == "ada@example.com"


@pytest.mark.parametrize("verified", [False, "false", "True", "TRUE", "1", 1, 1.0, "yes", [True], {}, None])
def test_an_address_counts_only_if_it_is_verified(verified: object) -> None:
    assert identity_of({**CLAIMS, "email_verified": verified}).email is None


def test_an_address_of_which_nothing_is_said_is_not_verified() -> None:
    assert identity_of({"iss": "https://a.example", "sub": "7", "email": "ada@example.com"}).email is None


@pytest.mark.parametrize("email", [None, "", 7, ["ada@example.com"], "a" * 321])
def test_what_is_no_address_counts_as_none(email: object) -> None:
    assert identity_of({**CLAIMS, "email": email}).email is None


@pytest.mark.parametrize("subject", [None, "", 7, "a\nb", "a\x00", "x" * 256])
def test_who_has_no_name_is_nobody(subject: object) -> None:
    with pytest.raises(InvalidProviderAnswer):
        identity_of({**CLAIMS, "sub": subject})
