"""The settings of the API, from its environment (.env.example lists them)."""

from collections.abc import Iterator
from datetime import timedelta
from ipaddress import IPv6Address, ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, AnyHttpUrl, BaseModel, BeforeValidator, Field, model_validator

from app_api.host_names import check_origin, read_allowed_host
from app_api.proxies import EVERYBODY, Network
from app_auth.base_url import BaseAddress, base_url_weaknesses
from app_auth.keys import weaknesses
from app_auth.limits import ThrottleSettings
from app_auth.payload_keys import PayloadKeySettings
from app_auth.settings import AuthSettings
from app_db.settings import DatabaseSettings
from app_runtime.configuration import Environment
from app_runtime.durations import Duration
from app_runtime.telemetry.endpoint import MetricsSettings
from app_runtime.telemetry.logs import LogSettings
from app_runtime.telemetry.trace_settings import TracingSettings
from app_runtime.valkey import ValkeySettings

ELSEWHERE: Final = ("APP_WORKER__", "APP_MAIL__")
"""Settings of the worker only: API and worker may share one set of settings."""


_WRAPPER: Final = 96
"""Bits of an IPv6 address in front of the IPv4 address that it wraps (RFC 4291, 2.5.5.2)."""


def _everybody(networks: object) -> object:
    return EVERYBODY if networks in (["*"], ("*",)) else networks


def _unwrapped(network: Network) -> Network:
    """Return the IPv4 network that an IPv6 one wraps; unchanged, it would match none of the unwrapped addresses."""
    first = network.network_address
    if isinstance(first, IPv6Address) and first.ipv4_mapped and network.prefixlen >= _WRAPPER:
        return ip_network((first.ipv4_mapped, network.prefixlen - _WRAPPER))
    return network


type TrustedProxies = Annotated[tuple[Annotated[Network, AfterValidator(_unwrapped)], ...], BeforeValidator(_everybody)]
"""Networks; `["*"]` is everybody."""
type AllowedHost = Annotated[str, AfterValidator(read_allowed_host)]
type Origin = Annotated[AnyHttpUrl, AfterValidator(check_origin)]


class HttpSettings(BaseModel, frozen=True):
    """`APP_HTTP__…`."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Where to listen; the default serves a proxy on this machine, `::` every address, IPv4 too."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """0 takes a free port; the log says which."""
    allowed_hosts: Annotated[tuple[AllowedHost, ...], Field(min_length=1)] = ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104  # names to accept, not to bind
    """Names in the Host header, of health checks too."""
    cors_origins: tuple[Origin, ...] = ()
    """Front ends on other origins."""
    trusted_proxies: TrustedProxies = ()
    """Networks whose X-Forwarded-For, or else Forwarded, is trusted."""
    https: bool = False
    """Whether clients use HTTPS only; sends Strict-Transport-Security."""
    keep_alive: Annotated[Duration, Field(ge=timedelta(seconds=1), le=timedelta(hours=1))] = timedelta(seconds=75)
    """Life of an idle connection: longer than the proxy's, or requests are lost.

    The shipped proxy, nginx and most clouds' balancers have a minute or less.
    """
    max_body: Annotated[int, Field(ge=1024, le=1024**3)] = 1024 * 1024
    """Bytes."""
    max_auth_body: Annotated[int, Field(ge=1024, le=1024**2)] = 64 * 1024
    """Bytes, under `/auth`."""
    body_timeout: Annotated[Duration, Field(gt=timedelta(0), le=timedelta(minutes=10))] = timedelta(seconds=30)
    """For a whole body."""
    request_timeout: Annotated[Duration, Field(gt=timedelta(0), le=timedelta(minutes=10))] = timedelta(seconds=10)
    """For the work after the body; above `APP_DATABASE__REQUEST_TIMEOUT`."""
    max_requests: Annotated[int, Field(ge=1, le=100_000)] = 200
    """At once, without probes; one more gets a 503."""
    docs: bool | None = None
    """Swagger UI, ReDoc and openapi.json; if absent, not in production."""
    drain_delay: Annotated[Duration, Field(ge=timedelta(0), le=timedelta(minutes=5))] = timedelta(seconds=3)
    """After SIGTERM new requests are served for so long, while `/probe/ready` fails and the balancer notices.

    The shipped proxy needs two seconds. 0 by default outside of production.
    """
    drain: Annotated[Duration, Field(ge=timedelta(0), le=timedelta(minutes=10))] = timedelta(seconds=8)
    """After that delay running requests have so long to finish.

    With `drain_delay` a little above `request_timeout`; a request from the delay has a second less. 11 by default
    outside of production.
    """

    @property
    def origins(self) -> tuple[str, ...]:
        """`cors_origins` as browsers send them."""
        return tuple(str(origin).removesuffix("/") for origin in self.cors_origins)


class ConsoleSettings(BaseModel, frozen=True):
    """`APP_CONSOLE__…`."""

    enabled: bool | None = None
    """Pages in the browser at `/console`; if absent, not in production."""
    mail_folder: Path | None = None
    """Mails that `make dev` has caught, for a page that exists in development only."""


class RedisSettings(ValkeySettings, frozen=True):
    """`APP_REDIS__…`."""

    timeout: Duration = timedelta(seconds=0.25)
    """For one call, so that a frozen Valkey blocks no caller."""


class ApiSettings(BaseModel, frozen=True, hide_input_in_errors=True):
    """Only main.py reads it from the environment, and passes each part to the code that needs it."""

    env: Environment = Environment.PRODUCTION
    """`production` refuses unsafe settings."""
    database: DatabaseSettings
    redis: RedisSettings
    auth: AuthSettings
    jobs: PayloadKeySettings = PayloadKeySettings()
    throttle: ThrottleSettings = ThrottleSettings()
    http: HttpSettings = HttpSettings()
    console: ConsoleSettings = ConsoleSettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    tracing: TracingSettings = TracingSettings()
    public_base_url: BaseAddress = AnyHttpUrl("http://localhost:8000")
    """Where people reach the API and the console: links start with it."""

    @property
    def reached_at(self) -> AnyHttpUrl | None:
        """`public_base_url`; None if production has none that people could reach, or one without TLS."""
        if self.env is Environment.PRODUCTION and any(base_url_weaknesses(self.public_base_url)):
            return None  # guard: test_production_is_not_reached_where_only_its_own_machine_is
        return self.public_base_url

    @property
    def docs_enabled(self) -> bool:
        """Whether Swagger UI, ReDoc and openapi.json are served."""
        return self.env is not Environment.PRODUCTION if self.http.docs is None else self.http.docs

    @property
    def console_enabled(self) -> bool:
        """Whether the console is served, if its folder has not been deleted."""
        return self.env is not Environment.PRODUCTION if self.console.enabled is None else self.console.enabled

    @property
    def mailbox(self) -> Path | None:
        """The folder of caught mails; None outside of development, whatever the settings say."""
        folder = self.console.mail_folder
        if self.env is not Environment.DEVELOPMENT:
            folder = None  # guard: test_caught_mails_are_for_development_only
        return folder

    @model_validator(mode="before")
    @classmethod
    def _relax(cls, values: dict[str, Any]) -> dict[str, Any]:  # Any: before validation
        auth, http = values.get("auth"), values.get("http", {})
        if values.get("env") == Environment.DEVELOPMENT and isinstance(auth, dict):
            # A laptop sends no mail, so an account works at once, unless the settings ask for verification.
            values = {**values, "auth": {"verification": False, **auth}}
        waits = values.get("env", Environment.PRODUCTION) == Environment.PRODUCTION
        if not waits and isinstance(http, dict) and "drain_delay" not in http:
            values = {**values, "http": {"drain_delay": 0, "drain": 11, **http}}
        return values

    @model_validator(mode="after")
    def _check_production(self) -> Self:
        if self.env is Environment.PRODUCTION and (lines := [*_unsafe(self)]):
            raise ValueError("\n".join(lines))
        return self


def _unsafe(settings: ApiSettings) -> Iterator[str]:
    """Yield the settings that are not safe in production; no line shows a value."""
    http = settings.http
    if "*" in http.allowed_hosts:
        yield "APP_HTTP__ALLOWED_HOSTS: must name the hosts"  # guard: test_production_refuses_every_host
    if any(network.prefixlen == 0 for network in http.trusted_proxies):
        yield "APP_HTTP__TRUSTED_PROXIES: must name networks"  # guard: test_production_trusts_some_proxies
    if not settings.auth.verification:
        # Without it, registration shows who has an account, and accepts the addresses of others.
        yield "APP_AUTH__VERIFICATION: must be on"  # guard: test_production_refuses_addresses_that_nobody_verifies
    yield from settings.database.misfits()  # guard: test_production_refuses_waits_that_do_not_nest
    if http.request_timeout <= settings.database.request_timeout:
        yield "APP_HTTP__REQUEST_TIMEOUT: must be longer than APP_DATABASE__REQUEST_TIMEOUT"
    yield from settings.database.weaknesses()  # guard: test_production_refuses_a_published_password
    for ring, weakness in weaknesses(settings):
        yield f"APP_{ring.upper()}: {weakness}"  # guard: test_production_refuses_weak_secrets
