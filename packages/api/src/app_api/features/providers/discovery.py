"""What a provider says of itself (OpenID Connect Discovery 1.0), asked when it is first needed, and each hour anew."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Self

from app_api.features.providers.asking import Asking, Json, Unreadable
from app_auth.features.providers.id_tokens import ALGORITHMS
from app_db.features.providers.settings import Provider, require_safe_url

LIFE: Final = 3600.0
"""Seconds."""
_PATH: Final = "/.well-known/openid-configuration"


@dataclass(frozen=True, slots=True)
class Metadata:
    """The parts of a provider's description that a sign-in needs."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None
    """None if it has none, or none that is safe to ask."""
    algorithms: frozenset[str]
    """Those of ours in which it signs ID tokens."""
    names_itself: bool
    """Whether its answers say whose they are (RFC 9207), so that a missing name is a fault."""
    takes_basic: bool
    """Whether it takes the secret in the Authorization header; else in the form."""

    @classmethod
    def of(cls, issuer: str, document: Json) -> Self:
        """Read a description.

        Raises:
            Unreadable: it is another issuer's, lacks an endpoint, or offers no algorithm of ours.
        """
        if document.get("issuer") != issuer:
            raise Unreadable("its description is of another issuer")  # guard: test_a_description_of_another_is_refused
        offered = document.get("id_token_signing_alg_values_supported")
        algorithms = ALGORITHMS & {each for each in _list(offered) or ["RS256"] if isinstance(each, str)}
        if not algorithms:
            raise Unreadable("it signs in no way that is accepted here")
        methods = _list(document.get("token_endpoint_auth_methods_supported"))
        return cls(
            _endpoint(document, "authorization_endpoint"),
            _endpoint(document, "token_endpoint"),
            _endpoint(document, "jwks_uri"),
            _optional_endpoint(document, "userinfo_endpoint"),
            frozenset(algorithms),
            document.get("authorization_response_iss_parameter_supported") is True,
            not methods or "client_secret_basic" in methods,
        )


def _list(value: Any) -> list[Any]:  # Any: JSON
    return value if isinstance(value, list) else []


def _endpoint(document: Json, name: str) -> str:
    url = document.get(name)
    try:
        if isinstance(url, str):
            return _require_endpoint(url)
    except ValueError as error:
        raise Unreadable(f"its {name} {error}") from None
    raise Unreadable(f"its description has no {name}")


def _optional_endpoint(document: Json, name: str) -> str | None:
    with suppress(Unreadable):
        return _endpoint(document, name)
    return None


def _require_endpoint(url: str) -> str:
    """Endpoints may have a query (RFC 6749, 3.1), which issuers may not."""
    base, question_mark, query = url.partition("?")
    if not query.isascii() or not query.isprintable() or "#" in query:
        raise ValueError("has a query that is no part of a URL")
    return f"{require_safe_url(base)}{question_mark}{query}"


class Descriptions:
    """The descriptions of providers that were asked for already."""

    def __init__(self, asking: Asking, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._asking = asking
        self._clock = clock
        self._known: dict[str, tuple[Metadata, float]] = {}

    async def of(self, provider: Provider) -> Metadata:
        """Return the description of a provider; to be called within `Asking.bounded`."""
        metadata, until = self._known.get(provider.issuer, (None, 0.0))
        if metadata is None or self._clock() >= until:
            document = await self._asking.get(provider.issuer.removesuffix("/") + _PATH)
            metadata = Metadata.of(provider.issuer, document)
            self._known[provider.issuer] = metadata, self._clock() + LIFE
        return metadata
