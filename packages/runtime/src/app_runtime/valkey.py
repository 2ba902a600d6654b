"""The settings of Valkey: its URL, timeout and TLS."""

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, Final, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, BaseModel, Field, FilePath, SecretStr, model_validator

from app_runtime.durations import Wait
from app_runtime.sentinels import SentinelUrl, read_sentinel_url
from app_runtime.tls import Tls, wants_tls
from app_runtime.urls import read_url, refuse_parameter, shown_parameter

_INSTEAD: Mapping[str, str] = {
    "username": "user and password go before the host",
    "password": "user and password go before the host",
    **dict.fromkeys(
        ("timeout", "socket_timeout", "socket_connect_timeout", "connect_timeout"), "APP_REDIS__TIMEOUT is the setting"
    ),
    **dict.fromkeys(("tls", "tls_verify"), "rediss:// and APP_REDIS__TLS are the settings"),
}
_OF_SENTINELS: Mapping[str, str] = {**_INSTEAD, "db": "the number goes behind the service: /service/0"}
_NUMBER = re.compile(r"[0-9]{1,5}")
_DATABASE_NUMBER = re.compile(r"(/[0-9]{0,5})?")


def _check_parameters(query: Mapping[str, Sequence[str]]) -> None:
    """Refuse every parameter of a URL of Valkey but `db`.

    Raises:
        ValueError: names a parameter that is not understood, and what to do instead; no value is shown.
    """
    for name, values in query.items():
        if name.startswith("ssl"):
            raise ValueError(
                f"must not speak of TLS beyond rediss://, as ?{shown_parameter(name)} does: APP_REDIS__TLS does"
            )
        if name != "db":
            refuse_parameter(name, _INSTEAD)  # guard: test_a_parameter_of_valkey_is_refused_by_name
        if len(values) > 1 or not _NUMBER.fullmatch(values[0]):
            raise ValueError("takes as ?db the number of one database")


def _check_valkey_url(url: SecretStr) -> SecretStr:
    text = url.get_secret_value()
    if not text.startswith(("redis://", "rediss://", "unix://", "sentinel://", "sentinels://")):
        raise ValueError(
            "must look like redis://user:password@host:port/0, rediss:// for TLS, or sentinel://host,host/service"
        )
    if text.startswith("sentinel"):
        read_sentinel_url(text)
    elif not text.startswith("unix://"):
        parts = read_url(text, schemes=("redis", "rediss"))
        if not _DATABASE_NUMBER.fullmatch(parts.path):  # redis-py uses 0 if it cannot read the number
            raise ValueError("must have the number of a database behind the host, or nothing: redis://host:port/0")
    query = parse_qs(urlsplit(text).query, keep_blank_values=True)
    if query and text.startswith("sentinel"):
        refuse_parameter(next(iter(query)), _OF_SENTINELS)
    _check_parameters(query)
    return url


type ValkeyUrl = Annotated[SecretStr, AfterValidator(_check_valkey_url)]


DEFAULT_PREFIX: Final = "app:"


class ValkeySettings(BaseModel, frozen=True, hide_input_in_errors=True):
    """`APP_REDIS__…`."""

    url: ValkeyUrl
    """Valkey 9 or Redis 7.4; `rediss://` for TLS; `sentinel://host,host/service` (`sentinels://`) asks Sentinels."""
    sentinel_user: str | None = None
    """At the Sentinels; user and password of the URL are those of the servers."""
    sentinel_password: SecretStr | None = None
    """At the Sentinels."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")] = DEFAULT_PREFIX
    """Of all keys and channels. Two applications at one Valkey need different ones."""
    timeout: Annotated[Wait, Field(gt=timedelta(0))] = timedelta(seconds=1)
    """For one call, so that a frozen Valkey blocks no caller."""
    tls: Tls | None = None
    """If absent, verified TLS to other machines. `off` allows `redis://` to any."""
    ca_path: FilePath | None = None
    """Authorities (PEM), besides the system's."""

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if not self.is_encrypted and wants_tls(self.tls, self._hosts()):
            secure = "sentinels" if self.sentinels else "rediss"
            line = f"APP_REDIS__URL: must be {secure}:// to another machine, unless APP_REDIS__TLS=off"
            raise ValueError(line)  # guard: test_valkey_elsewhere_is_not_asked_in_the_clear
        return self

    @property
    def sentinels(self) -> SentinelUrl | None:
        """The Sentinels that the URL names; None if it names a server."""
        text = self.url.get_secret_value()
        return read_sentinel_url(text) if text.startswith("sentinel") else None

    @property
    def is_encrypted(self) -> bool:
        """Whether connections are made with TLS."""
        return self.url.get_secret_value().startswith(("rediss://", "sentinels://"))

    def _hosts(self) -> list[str]:
        if self.sentinels:
            return [host for host, _ in self.sentinels.hosts]
        return [urlsplit(self.url.get_secret_value()).hostname or ""]

    @property
    def tls_options(self) -> dict[str, Any]:  # Any: arguments of redis-py
        """Arguments of redis-py besides the URL: by default it does not compare the certificate with the host."""
        if not self.is_encrypted:
            return {}
        options: dict[str, Any] = {"ssl_check_hostname": True}  # guard: test_valkey_has_to_prove_its_name
        if self.ca_path is not None:
            options["ssl_ca_certs"] = str(self.ca_path)
        return options
