"""The settings of the database: its URLs, pools and timeouts."""

from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, Field, FilePath, SecretStr, model_validator
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from app_db.hosts import spelled_for_all
from app_db.parameters import without_granted
from app_db.tls import secured
from app_runtime.durations import Wait
from app_runtime.tls import Tls
from app_runtime.urls import PORTS

_GUESSABLE = frozenset({"", "admin", "app", "example", "password", "passwd-change-me", "postgres", "secret"})

NO_WAY_PAST = (
    "APP_DATABASE__DIRECT_URL: has to be set with APP_DATABASE__POOLER=transaction: LISTEN, advisory locks and "
    "migrations need Postgres itself"
)


def _read(url: SecretStr) -> URL:
    return spelled_for_all(without_granted(make_url(url.get_secret_value()))).set(drivername="postgresql+asyncpg")


def _check_replica_url(url: SecretStr) -> SecretStr:
    try:
        parts = make_url(url.get_secret_value())
    except (ArgumentError, ValueError):
        parts = make_url("none://")
    if parts.get_backend_name() not in {"postgres", "postgresql"}:
        raise ValueError("must look like postgresql://user:password@host:port/database")
    if parts.port is not None and parts.port not in PORTS:
        raise ValueError("has a port that is no number from 1 to 65535")
    spelled_for_all(without_granted(parts))
    return url


def _check_database_url(url: SecretStr) -> SecretStr:
    query = _read(_check_replica_url(url)).query
    if "," in query.get("host", "") and query.get("target_session_attrs") not in {"read-write", "primary"}:
        # libpq would take any host, a standby too.
        raise ValueError("names several hosts: say which of them, by target_session_attrs=read-write")
    return url


def _is_guessable(url: SecretStr) -> bool:
    """Return whether the password of this URL is a common one, or stands in an example."""
    password = make_url(url.get_secret_value()).password
    return password is not None and (password in _GUESSABLE or password.startswith(("change-me", "changeme")))


type DatabaseUrl = Annotated[SecretStr, AfterValidator(_check_database_url)]
type ReplicaUrl = Annotated[SecretStr, AfterValidator(_check_replica_url)]


class Pooler(StrEnum):
    """What is between an application and Postgres."""

    NONE = "none"
    TRANSACTION = "transaction"


class DatabaseSettings(BaseModel, frozen=True, hide_input_in_errors=True):
    """`APP_DATABASE__…`. The defaults are the API's: each wait ends before the one around it."""

    url: DatabaseUrl
    """For the applications' role, which `database roles` makes."""
    direct_url: DatabaseUrl | None = None
    """Past a pooler, for LISTEN, advisory locks and migrations; `url` if absent."""
    pooler: Pooler = Pooler.NONE
    """`transaction` if PgBouncer is behind `url` and pools transactions; `direct_url` has to be set then."""
    replica_url: ReplicaUrl | None = None
    """For stale reads (`ReplicaSessionDep`); `url` if absent."""
    tls: Tls | None = None
    """If absent, `verify-full` to other machines, `off` to loopback and sockets."""
    ca_path: FilePath | None = None
    """Authorities (PEM) for `verify-full`."""
    pool_size: int = Field(default=5, ge=1, le=500)
    """Writing connections per API process; a worker has one per job instead."""
    read_pool_size: int = Field(default=10, ge=1, le=500)
    """Reading connections per process."""
    pool_timeout: Annotated[Wait, Field(gt=timedelta(0))] = timedelta(seconds=2)
    """For a free connection of the pool."""
    connect_timeout: Annotated[Wait, Field(gt=timedelta(0))] = timedelta(seconds=2)
    """For a connection, to all hosts together."""
    command_timeout: Annotated[Wait, Field(gt=timedelta(0))] | None = timedelta(seconds=3)
    """For one command, in the client: holds if the server is frozen."""
    statement_timeout: Wait = timedelta(seconds=2.5)
    """For one statement, in the server; in a worker the handlers' timeouts hold."""
    lock_timeout: Wait = timedelta(seconds=2)
    """For one lock."""
    idle_in_transaction_timeout: Wait = timedelta(seconds=10)
    """Between two statements of a transaction; workers ignore it."""
    transaction_timeout: Wait = timedelta(0)
    """For a whole transaction; 0 is no limit."""
    request_timeout: Annotated[Wait, Field(gt=timedelta(0))] = timedelta(seconds=5)
    """For all database work of a request; elsewhere for each call."""
    ping_after_idle: Wait = timedelta(seconds=5)
    """Connections idle for longer are pinged before use."""
    ping_timeout: Annotated[Wait, Field(gt=timedelta(0))] = timedelta(seconds=0.5)
    """For the ping; without an answer it and all older connections are replaced."""
    close_after_idle: Wait = timedelta(minutes=1)
    """Connections idle for longer are closed, at the role's limit for a twelfth, except a pool's last; 0 keeps them."""

    @model_validator(mode="after")
    def _check_urls(self) -> Self:
        if self.is_pooled and self.direct_url is None:
            raise ValueError(NO_WAY_PAST)  # guard: test_a_pooler_needs_a_way_past_it
        for name in ("url", "direct_url", "replica_url"):
            url: SecretStr | None = getattr(self, name)
            if url is not None:  # so that a wrong URL fails at the start
                secured(_read(url), self.tls, self.ca_path, variable=f"APP_DATABASE__{name.upper()}")
        return self

    def misfits(self) -> Iterator[str]:
        """Yield a line for each wait that does not end before the one around it, if both have a limit."""
        together = self.pool_timeout + self.ping_timeout + self.connect_timeout
        if together >= self.request_timeout:
            yield (
                "APP_DATABASE__REQUEST_TIMEOUT: must be longer than POOL_TIMEOUT, PING_TIMEOUT and CONNECT_TIMEOUT "
                "together, or a connection that fell silent is not replaced in time"
            )
        if self.command_timeout and timedelta(0) < self.command_timeout <= self.statement_timeout:
            yield (
                "APP_DATABASE__COMMAND_TIMEOUT: must be longer than STATEMENT_TIMEOUT, or a slow statement is taken "
                "for a server that fell silent"
            )

    def weaknesses(self) -> Iterator[str]:
        """Yield a line for each variable whose password is no secret; the line does not show the password."""
        for name in ("url", "direct_url", "replica_url"):
            url: SecretStr | None = getattr(self, name)
            if url is not None and _is_guessable(url):
                yield f"APP_DATABASE__{name.upper()}: has a password that everybody knows"

    @property
    def is_pooled(self) -> bool:
        """Whether `url` and `replica_url` lead through a pooler of transactions."""
        return self.pooler is Pooler.TRANSACTION

    @property
    def sqlalchemy_url(self) -> URL:
        """The URL for SQLAlchemy, whatever driver `url` names; without TLS, which only the DSNs contain."""
        return _read(self.url)

    @property
    def dsn(self) -> str:
        """The URL in the form that asyncpg and psql take."""
        return self._dsn(_read(self.url))

    @property
    def read_dsn(self) -> str:
        """As `dsn`, for sessions that cannot write: asyncpg would find no `read-write` server for them."""
        url = _read(self.url)
        reads = url.update_query_dict({"target_session_attrs": "primary"})
        return self._dsn(reads if url.query.get("target_session_attrs") == "read-write" else url)

    @property
    def direct_dsn(self) -> str:
        """As `dsn`, past any pooler."""
        return self._dsn(_read(self.direct_url or self.url))

    @property
    def replica_dsn(self) -> str | None:
        """As `dsn`, from `replica_url`: a standby if one answers; None if `replica_url` is not set."""
        if self.replica_url is None:
            return None
        url = _read(self.replica_url)
        return self._dsn(url.update_query_dict({"target_session_attrs": "prefer-standby", **url.query}))

    def _dsn(self, url: URL) -> str:
        url = secured(url, self.tls, self.ca_path)
        return url.set(drivername="postgresql").render_as_string(hide_password=False)
