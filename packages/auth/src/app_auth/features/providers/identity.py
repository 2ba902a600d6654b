"""Who a provider says somebody is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from app_auth.features.providers.errors import InvalidProviderAnswer

LONGEST_SUBJECT: Final = 255  # OpenID Connect Core, 2
LONGEST_EMAIL: Final = 320


@dataclass(frozen=True, slots=True)
class Identity:
    """An account at a provider: issuer and subject identify it, and nothing else does."""

    issuer: str
    subject: str
    email: str | None
    """The address that the provider names, if it says that it is verified."""


def identity_of(claims: Mapping[str, Any]) -> Identity:  # Any: JSON
    """Return the identity in the claims of a verified ID token.

    `email_verified` is a boolean, or with some providers the text "true"; if it is missing, the address is not
    verified.

    Raises:
        InvalidProviderAnswer: the claims name no subject.

    Example:
        >>> identity_of({"iss": "https://a.example", "sub": "7", "email": "ada@example.com"}).email is None
        True
    """
    subject, email, verified = claims.get("sub"), claims.get("email"), claims.get("email_verified")
    if not isinstance(subject, str) or not subject or len(subject) > LONGEST_SUBJECT or not subject.isprintable():
        raise InvalidProviderAnswer
    is_verified = verified is True or verified == "true"  # guard: test_an_address_counts_only_if_it_is_verified
    named = email if is_verified and isinstance(email, str) and 0 < len(email) <= LONGEST_EMAIL else None
    return Identity(str(claims["iss"]), subject, named)
