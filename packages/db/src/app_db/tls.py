"""When what we say to Postgres and to Valkey is encrypted, and to whom: the same rule for both (ADR-0046)."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from sqlalchemy import URL

type Tls = Literal["verify-full", "off"]

NO_CERTIFICATE = "APP_DATABASE__CA_PATH: has to be set to reach another machine, unless APP_DATABASE__TLS=off"
_OFF = {"sslmode": "disable"}


def wants_tls(tls: Tls | None, hosts: Iterable[str]) -> bool:
    """Whether to encrypt: as it is said, else where one of the hosts is another machine."""
    return any(map(_is_elsewhere, hosts)) if tls is None else tls == "verify-full"


def secured(url: URL, tls: Tls | None, ca_path: Path | None, *, variable: str = "APP_DATABASE__URL") -> URL:
    """Return a URL of Postgres, that of this `variable`, that says what libpq and asyncpg are to do about TLS.

    Raises:
        ValueError: it wants TLS and there is nobody to trust, or it says something else by itself.
    """
    if not wants_tls(tls, _hosts(url)):
        # Said, too: asyncpg's own choice is what the server offers, verified by nobody.
        return _said(url, _OFF, variable)
    if ca_path is None:
        raise ValueError(NO_CERTIFICATE)  # guard: test_a_database_elsewhere_is_not_asked_without_a_certificate_to_trust
    return _said(url, {"sslmode": "verify-full", "sslrootcert": str(ca_path)}, variable)


def _said(url: URL, query: Mapping[str, str], variable: str) -> URL:
    for name, said in url.query.items():
        if name.startswith("ssl") and query.get(name) != said:
            line = f"{variable}: ?{name} says something else than APP_DATABASE__TLS, which decides: take it out"
            raise ValueError(line)  # guard: test_no_url_of_postgres_weakens_tls
    return url.update_query_dict(query)


def _hosts(url: URL) -> Iterator[str]:
    """Yield the hosts of a URL, as `app_db.hosts` spells several: `?host=a,b`."""
    yield url.host or ""
    yield from str(url.query.get("host", "")).split(",")


def _is_elsewhere(host: str) -> bool:
    """Whether what is said to this host, or to this folder of a socket, leaves the machine."""
    if host.startswith("/") or host in {"", "localhost"}:
        return False
    with suppress(ValueError):
        return not ip_address(host).is_loopback
    return True
