"""When connections to Postgres are encrypted, and how the server is verified (ADR-0046)."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from sqlalchemy import URL

from app_runtime.tls import Tls, wants_tls

NO_CERTIFICATE = "APP_DATABASE__CA_PATH: has to be set to reach another machine, unless APP_DATABASE__TLS=off"
_OFF = {"sslmode": "disable"}


def secured(url: URL, tls: Tls | None, ca_path: Path | None, *, variable: str = "APP_DATABASE__URL") -> URL:
    """Return a Postgres URL with the TLS parameters for libpq and asyncpg; errors name it by its `variable`.

    Raises:
        ValueError: TLS is wanted and there is no `ca_path`, or the URL has other TLS parameters.
    """
    if not wants_tls(tls, _hosts(url)):
        # Passed explicitly: by default asyncpg uses TLS if the server offers it, without verification.
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
