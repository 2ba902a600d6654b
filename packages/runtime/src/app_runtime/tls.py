"""When connections are encrypted: one rule for Postgres, Valkey and mail (ADR-0046)."""

from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address
from typing import Literal

type Tls = Literal["verify-full", "off"]


def wants_tls(tls: Tls | None, hosts: Iterable[str]) -> bool:
    """Whether to encrypt: as `tls` says; if it is None, when a host is another machine."""
    return any(map(_is_elsewhere, hosts)) if tls is None else tls == "verify-full"


def _is_elsewhere(host: str) -> bool:
    """Whether traffic to this host, or to this folder of a socket, leaves the machine."""
    if host.startswith("/") or host in {"", "localhost"}:
        return False
    with suppress(ValueError):
        return not ip_address(host).is_loopback
    return True
