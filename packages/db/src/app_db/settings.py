"""Where the database is and how long anybody waits for it."""

from contextlib import suppress
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

_GUESSABLE = frozenset({"", "admin", "app", "example", "password", "passwd-change-me", "postgres", "secret"})


def _plain_seconds(value: object) -> object:
    """Read `2.5` as seconds, also when it comes from the environment as text; Pydantic itself reads ISO 8601."""
    with suppress(ValueError):
        return float(value) if isinstance(value, str) else value
    return value


type Duration = Annotated[timedelta, BeforeValidator(_plain_seconds)]
"""A setting in seconds or in ISO 8601: `2.5`, `PT2.5S`, `P14D`."""


def _check_database_url(url: SecretStr) -> SecretStr:
    try:
        backend = make_url(url.get_secret_value()).get_backend_name()
    except (ArgumentError, ValueError):
        backend = ""
    if backend not in {"postgres", "postgresql"}:
        raise ValueError("must look like postgresql://user:password@host:port/database")
    return url


def _check_valkey_url(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must look like redis://user:password@host:port/0, or rediss:// for TLS")
    return url


def has_guessable_password(url: SecretStr) -> bool:
    """Whether everybody would try the password of this URL, or has read it in an example."""
    password = make_url(url.get_secret_value()).password
    return password is not None and (password in _GUESSABLE or password.startswith(("change-me", "changeme")))


type DatabaseUrl = Annotated[SecretStr, AfterValidator(_check_database_url)]
type ValkeyUrl = Annotated[SecretStr, AfterValidator(_check_valkey_url)]


class DatabaseSettings(BaseModel, frozen=True, hide_input_in_errors=True):
    """`APP_DATABASE__…`. The defaults are the API's: each wait ends before the one around it."""

    url: DatabaseUrl
    direct_url: DatabaseUrl | None = None
    """For LISTEN, advisory locks and migrations, where `url` leads through a pooler; `url` if absent."""
    pool_size: int = Field(default=5, ge=1, le=500)
    read_pool_size: int = Field(default=10, ge=1, le=500)
    pool_timeout: Duration = timedelta(seconds=2)
    connect_timeout: Duration = timedelta(seconds=2)
    command_timeout: Duration | None = timedelta(seconds=3)
    """The client's own limit: it holds even when the server is frozen."""
    statement_timeout: Duration = timedelta(seconds=2.5)
    lock_timeout: Duration = timedelta(seconds=2)
    idle_in_transaction_timeout: Duration = timedelta(seconds=10)
    transaction_timeout: Duration = timedelta(0)
    """For a whole transaction, however busy it is; 0 is no limit (a request has `request_timeout`)."""
    request_timeout: Duration = timedelta(seconds=5)
    """All database work of one request together."""
    ping_after_idle: Duration = timedelta(seconds=5)
    """A connection that was idle for longer is asked whether it still lives before it is used."""

    @property
    def sqlalchemy_url(self) -> URL:
        """The URL for SQLAlchemy, whatever driver the given one names."""
        return make_url(self.url.get_secret_value()).set(drivername="postgresql+asyncpg")

    @property
    def direct_sqlalchemy_url(self) -> URL:
        """As `sqlalchemy_url`, past any pooler."""
        direct = self.direct_url or self.url
        return make_url(direct.get_secret_value()).set(drivername="postgresql+asyncpg")

    @property
    def direct_dsn(self) -> str:
        """The direct URL in the form that asyncpg itself takes."""
        return self.direct_sqlalchemy_url.set(drivername="postgresql").render_as_string(hide_password=False)
