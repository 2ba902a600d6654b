"""Addresses that a provider tells apart from its ID tokens: at the UserInfo endpoint (OpenID Connect Core 1.0, 5.3).

By the rules (5.4) that is where they are when a code is exchanged; many providers put them into the ID token as well.
"""

from typing import Final

import httpx2
import structlog

from app_api.features.providers.asking import Asking, Json, Unreadable
from app_auth.features.providers.errors import InvalidProviderAnswer
from app_auth.features.providers.id_tokens import Claims
from app_db.features.providers.settings import Provider

log = structlog.get_logger(__name__)

_TOLD: Final = ("email", "email_verified")


async def with_address(asking: Asking, provider: Provider, url: str | None, *, claims: Claims, told: Json) -> Claims:
    """Return claims with the address that the provider tells at `url`, if the ID token does not say all about one.

    `told` is the answer with the access token. To be called within `Asking.bounded`. Who is linked needs no address, so
    an endpoint that fails is no outage.

    Raises:
        InvalidProviderAnswer: what it tells is about somebody else.
    """
    token = told.get("access_token")
    if url is None or "email" not in provider.scopes or all(name in claims for name in _TOLD):
        return claims  # guard: test_an_address_in_the_id_token_is_asked_for_nowhere_else
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        return claims  # guard: test_what_is_no_access_token_is_told_to_nobody
    try:
        info = await asking.get(url, token=token)
    except (httpx2.HTTPError, httpx2.InvalidURL, Unreadable) as error:
        log.warning("provider_userinfo_unavailable", provider=provider.name, cause=repr(error)[:200])
        return claims  # guard: test_who_is_linked_needs_no_address
    if info.get("sub") != claims.get("sub"):
        raise InvalidProviderAnswer  # guard: test_an_address_of_another_subject_is_refused
    # Both from here: an address is verified only where it is told.
    return {**claims, **{name: info.get(name) for name in _TOLD}}  # guard: test_an_address_is_verified_where_it_is_told
