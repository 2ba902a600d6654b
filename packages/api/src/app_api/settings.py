"""What the API reads from its environment (.env.example lists every name)."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AnyHttpUrl, BaseModel, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app_api.proxies import EVERYBODY, Network
from app_auth.limits import ThrottleSettings
from app_auth.settings import AuthSettings
from app_db.settings import DatabaseSettings, Duration


class Environment(StrEnum):
    """Production is the default: a forgotten variable must not open a door."""

    PRODUCTION = "production"
    DEVELOPMENT = "development"
    TEST = "test"


def _everybody(networks: object) -> object:
    return EVERYBODY if networks in (["*"], ("*",)) else networks


type TrustedProxies = Annotated[tuple[Network, ...], BeforeValidator(_everybody)]
"""Networks; `["*"]` is everybody."""


class HttpSettings(BaseModel, frozen=True):
    """`APP_HTTP__…`."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    allowed_hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104  # names to accept, not to bind
    cors_origins: tuple[AnyHttpUrl, ...] = ()
    trusted_proxies: TrustedProxies = ()
    """Whose X-Forwarded-For is believed."""
    max_body: Annotated[int, Field(ge=1024)] = 1024 * 1024
    """Bytes."""
    docs: bool | None = None
    """Swagger UI, ReDoc and openapi.json; everywhere but in production if absent."""
    drain: Annotated[Duration, Field(ge=timedelta(0))] = timedelta(seconds=10)
    """For so long after SIGTERM requests that are running may finish."""


class RedisSettings(BaseModel, frozen=True):
    """`APP_REDIS__…`."""

    url: SecretStr
    timeout: Duration = timedelta(seconds=0.25)
    """For one call; the API works without Valkey and does not wait for it."""


class LogSettings(BaseModel, frozen=True):
    """`APP_LOG__…`."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: Literal["json", "console"] = "json"


class ApiSettings(BaseSettings):
    """Only main.py reads it from the environment; everything else is handed the part that it needs."""

    model_config = SettingsConfigDict(
        env_prefix="APP_", env_nested_delimiter="__", frozen=True, hide_input_in_errors=True
    )

    env: Environment = Environment.PRODUCTION
    database: DatabaseSettings
    redis: RedisSettings
    auth: AuthSettings
    throttle: ThrottleSettings = ThrottleSettings()
    http: HttpSettings = HttpSettings()
    log: LogSettings = LogSettings()

    @property
    def docs_enabled(self) -> bool:
        """Whether Swagger UI, ReDoc and openapi.json are served."""
        return self.env is not Environment.PRODUCTION if self.http.docs is None else self.http.docs

    @model_validator(mode="after")
    def _check_production(self) -> Self:
        if self.env is Environment.PRODUCTION and "*" in self.http.allowed_hosts:
            raise ValueError("APP_HTTP__ALLOWED_HOSTS must name the hosts")  # guard: test_production_refuses_every_host
        if self.env is Environment.PRODUCTION and any(net.prefixlen == 0 for net in self.http.trusted_proxies):
            raise ValueError(
                "APP_HTTP__TRUSTED_PROXIES must name networks"
            )  # guard: test_production_trusts_some_proxies
        return self
