"""Who else may say who somebody is. The worker reads none of it, and refuses none."""

from contextlib import suppress
from datetime import timedelta
from ipaddress import ip_address
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, SecretStr

from app_runtime.configuration import ReadFrom
from app_runtime.durations import Duration
from app_runtime.urls import WEB, read_url


def require_safe_url(text: str) -> str:
    """Return a URL of https, or of http on this machine; without user, query and fragment.

    Raises:
        ValueError: with the reason.
    """
    parts = read_url(text, schemes=WEB)
    if not parts.host:
        raise ValueError("names no host")
    if parts.user is not None or parts.query or parts.fragment or text.endswith(("?", "#")):
        raise ValueError("must be without user, query (?…) and fragment (#…)")
    if parts.scheme != "https" and not _is_loopback(parts.host):
        raise ValueError("must be https: only this machine itself may be asked by http")
    return text


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost" or host.endswith(".localhost")


def _check_callback(text: str) -> str:
    if "{name}" not in text:
        raise ValueError("must have {name} in it, so that each provider leads to an address of its own")
    require_safe_url(text.replace("{name}", "name"))
    return text


type SafeUrl = Annotated[str, AfterValidator(require_safe_url)]
type Callback = Annotated[str, AfterValidator(_check_callback)]
type Scope = Annotated[str, Field(pattern=r"^[\x21\x23-\x5B\x5D-\x7E]{1,64}$")]  # RFC 6749, 3.3


class Provider(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    """One provider of OpenID Connect."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
    """Part of addresses, also of those that the provider knows: it stays."""
    title: Annotated[str, Field(max_length=40)] = ""
    """What people read; the name if empty."""
    issuer: SafeUrl
    """Exactly as the provider writes it; `/.well-known/openid-configuration` below it says the rest."""
    client_id: Annotated[str, Field(min_length=1, max_length=512)]
    client_secret: SecretStr | None = None
    scopes: tuple[Scope, ...] = ("email",)
    """What to ask for besides `openid`."""

    @property
    def label(self) -> str:
        """What people read."""
        return self.title or self.name.capitalize()


def _check_providers(providers: tuple[Provider, ...]) -> tuple[Provider, ...]:
    if len({provider.name for provider in providers}) != len(providers):
        raise ValueError("two providers have the same name")
    if len({provider.issuer for provider in providers}) != len(providers):
        raise ValueError("two providers have the same issuer")
    return providers


type Providers = Annotated[tuple[Provider, ...], AfterValidator(_check_providers)]


class ProviderSettings(BaseModel, frozen=True, hide_input_in_errors=True):
    """`APP_AUTH__PROVIDERS` and `APP_PROVIDERS__…`."""

    openid: Annotated[Providers, ReadFrom("APP_AUTH__PROVIDERS")] = ()
    """`[{"name": "acme", "issuer": "https://login.acme.example", "client_id": "…", "client_secret": "…"}]`.

    Each sends browsers back to `/console/providers/acme/callback` below `APP_PUBLIC_BASE_URL`.
    """
    client_callback: Callback | None = None
    """Where providers send back users of your front end, with `{name}` in it; without it the API begins no sign-in."""
    timeout: Annotated[Duration, Field(gt=timedelta(0), le=timedelta(seconds=8))] = timedelta(seconds=5)
    """For all that one request asks of a provider."""
    most_waiting: Annotated[int, Field(ge=1, le=1000)] = 20
    """Requests that wait for providers at once; one more gets a 503."""

    def client_callback_of(self, provider: Provider) -> str | None:
        """Return where a provider sends the users of a front end back to."""
        return self.client_callback and self.client_callback.replace("{name}", provider.name)
