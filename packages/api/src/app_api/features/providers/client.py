"""The client of the providers: where to send a browser, and who it is that comes back with a code."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote, urlencode

import httpx2
import structlog

from app_api.features.providers.asking import OK, Asking, Json
from app_api.features.providers.discovery import Descriptions, Metadata
from app_api.features.providers.errors import ProviderUnavailable
from app_api.features.providers.keys import KeySets
from app_api.features.providers.userinfo import with_address
from app_auth.features.providers.errors import InvalidProviderAnswer, UnknownProvider
from app_auth.features.providers.id_tokens import Expected
from app_auth.features.providers.identity import Identity, identity_of
from app_auth.features.providers.states import Begun, Returned
from app_db.features.providers.settings import Provider, ProviderSettings
from app_db.types import utcnow

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a browser brings back."""

    code: str
    issuer: str | None
    """`iss` (RFC 9207)."""
    redirect_uri: str


class OpenId:
    """Speaks OpenID Connect to the providers of the settings."""

    def __init__(
        self, settings: ProviderSettings, http: httpx2.AsyncClient, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.settings = settings
        self._by_name = {provider.name: provider for provider in settings.openid}
        self._asking = Asking(settings, http)
        self._descriptions = Descriptions(self._asking, clock=clock)
        self._keys = KeySets(self._asking, clock=clock)

    def named(self, name: str) -> Provider:
        """Return the provider of this name.

        Raises:
            UnknownProvider: there is none.
        """
        provider = self._by_name.get(name)
        if provider is None:
            raise UnknownProvider
        return provider

    async def address_for(self, provider: Provider, begun: Begun, *, redirect_uri: str, again: bool = False) -> str:
        """Return where to send a browser: to the provider, and back; with `again`, after it has asked who it is.

        Raises:
            ProviderUnavailable: it does not say where.
        """
        async with self._asking.bounded(provider.name):
            metadata = await self._descriptions.of(provider)
        query = {
            "response_type": "code",
            "client_id": provider.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(dict.fromkeys(("openid", *provider.scopes))),
            "state": begun.state,
            "nonce": begun.nonce,
            "code_challenge": begun.challenge,
            "code_challenge_method": "S256",
        }
        if again:
            query["prompt"] = "login"
        endpoint = metadata.authorization_endpoint
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    async def identity_behind(self, provider: Provider, answer: Answer, returned: Returned) -> Identity:
        """Exchange a code for an ID token, and return who it is about. No connection of the database may be held.

        Raises:
            InvalidProviderAnswer: the answer is of another provider, or the code or the token cannot be accepted.
            ProviderUnavailable: the provider does not answer, or not in JSON.
        """
        async with self._asking.bounded(provider.name):
            metadata = await self._descriptions.of(provider)
            if answer.issuer != provider.issuer and (answer.issuer is not None or metadata.names_itself):
                raise InvalidProviderAnswer  # guard: test_an_answer_of_another_provider_is_refused
            told = await self._redeem(provider, metadata, answer, returned)
            expected = Expected(provider.issuer, provider.client_id, returned.nonce, metadata.algorithms, utcnow())
            claims = await self._keys.at(metadata.jwks_uri).claims_of(told.get("id_token"), expected)
            url = metadata.userinfo_endpoint
            return identity_of(await with_address(self._asking, provider, url, claims=claims, told=told))

    async def _redeem(self, provider: Provider, metadata: Metadata, answer: Answer, returned: Returned) -> Json:
        form = {
            "grant_type": "authorization_code",
            "code": answer.code,
            "redirect_uri": answer.redirect_uri,
            "code_verifier": returned.verifier,
        }
        auth = None
        if provider.client_secret is not None and metadata.takes_basic:
            # RFC 6749, 2.3.1: both are encoded as in a form before they are joined.
            auth = quote(provider.client_id, safe=""), quote(provider.client_secret.get_secret_value(), safe="")
        else:
            form["client_id"] = provider.client_id
            if provider.client_secret is not None:
                form["client_secret"] = provider.client_secret.get_secret_value()
        status, document = await self._asking.post(metadata.token_endpoint, form, auth=auth)
        if status == OK:
            return document
        error = str(document.get("error"))[:50]
        log.warning("provider_refused_code", provider=provider.name, status=status, error=error)
        if error == "invalid_grant":
            raise InvalidProviderAnswer
        raise ProviderUnavailable  # our secret is wrong, or the like: nothing that who signs in can change
