"""URLs that name Sentinels, which know the primary: sentinel://user:password@host:port,host:port/service/0."""

import re
from dataclasses import dataclass, field
from typing import Final

from app_runtime.urls import read_url

SCHEMES: Final = ("sentinel", "sentinels")
"""The second is with TLS, to the Sentinels and to the servers that they name."""
PORT: Final = 26379
_PATH = re.compile(r"/(?P<service>[\w.-]{1,255})(/(?P<database>[0-9]{0,5}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    """What such a URL says; user and password are those of the servers, not of the Sentinels."""

    hosts: tuple[tuple[str, int], ...]
    service: str
    user: str | None
    password: str | None = field(repr=False)
    database: int


def read_sentinel_url(text: str) -> SentinelUrl:
    """Return what the URL says.

    Raises:
        ValueError: with the reason, and no part of the URL.

    Example:
        >>> read_sentinel_url("sentinel://:secret@a.internal,b.internal:26380/cache").hosts
        (('a.internal', 26379), ('b.internal', 26380))
    """
    each = [read_url(url, schemes=SCHEMES) for url in _with_one_host(text)]
    first = each[0]
    if not all(parts.host for parts in each):
        raise ValueError("names no host before or after a comma")
    path = _PATH.fullmatch(first.path)
    if path is None:
        raise ValueError("must name the service behind the hosts, as its Sentinels do: sentinel://host:26379/service/0")
    hosts = tuple((parts.host, parts.port or PORT) for parts in each)
    return SentinelUrl(hosts, path["service"], first.user, first.password, int(path["database"] or 0))


def _with_one_host(text: str) -> list[str]:
    scheme, _, rest = text.partition("://")
    authority, slash, path = rest.partition("/")
    user, at, hosts = authority.rpartition("@")
    return [f"{scheme}://{user}{at}{host}{slash}{path}" for host in hosts.split(",")]
