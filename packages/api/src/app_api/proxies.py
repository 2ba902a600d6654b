"""The address of a client, behind trusted proxies or without any (ADR-0040)."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final, NamedTuple

import structlog
from fastapi import Request

from app_api.forwarding import Address, hops_of, read_node
from app_api.metrics import Metrics
from app_auth.client import MAX_AGENT, Client

log = structlog.get_logger(__name__)

type Network = IPv4Network | IPv6Network

EVERYBODY: tuple[Network, ...] = (ip_network("0.0.0.0/0"), ip_network("::/0"))


MAX_PROXIES: Final = 1000
"""How many proxies to remember: further ones that name no client are counted, but not warned of."""


class Origin(NamedTuple):
    """The client's address, and the proxy that passed the request on."""

    address: str | None
    proxy: str | None = None
    """The last trusted proxy that the request came through, if any."""
    named: bool = False
    """Whether that proxy recorded an address, of a client or of another trusted proxy."""


class ClientAddresses:
    """Determines the origin of requests for the log, and notices a trusted proxy that never sends an address.

    All clients of such a proxy look like one: they share its throttles, and audit and sessions show its address.
    """

    def __init__(self, trusted: tuple[Network, ...], metrics: Metrics) -> None:
        self._trusted = trusted
        self._metrics = metrics
        self._seen: set[str] = set()

    def of(self, scope: Mapping[str, Any], *, is_probe: bool) -> str | None:
        """Return the address of the client; headers are ignored if no proxy is trusted."""
        if not self._trusted:
            return scope["client"][0] if scope.get("client") else None
        origin = _origin_of(scope, self._trusted)
        # A proxy sends probes for itself, not for a client.
        if origin.proxy is not None and not is_probe:
            self._notice(origin.proxy, named=origin.named)
        return origin.address

    def _notice(self, proxy: str, *, named: bool) -> None:
        if not named:
            self._metrics.unnamed.inc()  # guard: test_a_trusted_proxy_that_names_nobody_is_one_warning_and_a_figure
        if proxy in self._seen or len(self._seen) >= MAX_PROXIES:
            return
        self._seen.add(proxy)
        if not named:
            log.warning("proxy_names_no_client", proxy=proxy)


def read_client(request: Request, *, trusted: tuple[Network, ...]) -> Client:
    """Return the client of a request; its user agent is cut to a text that can be stored and shown."""
    agent = "".join(filter(str.isprintable, request.headers.get("user-agent", "")))[:MAX_AGENT]
    return Client(
        address=_origin_of(request.scope, trusted).address,
        user_agent=agent or None,
        request_id=request.state.request_id,
    )


def client_address(
    peer: str | None, forwarded_for: Sequence[str], *, trusted: Sequence[Network], forwarded: Sequence[str] = ()
) -> str | None:
    """Return the client's address: the last one in the header that is not a trusted proxy's, or else the peer's.

    `forwarded_for` are the lines of X-Forwarded-For, each with its addresses from the client to us; `forwarded` are
    those of Forwarded, which count only without the others. Entries are read from the end. The peer's address counts
    if the peer is not trusted, if all entries are trusted proxies, or if an entry that is no address comes first.
    """
    return _read_origin(peer, hops_of(forwarded_for, forwarded), trusted=trusted).address


def _origin_of(scope: Mapping[str, Any], trusted: tuple[Network, ...]) -> Origin:
    lines: dict[bytes, list[str]] = {b"x-forwarded-for": [], b"forwarded": []}
    for name, value in scope["headers"]:
        if name in lines:
            lines[name].append(value.decode("latin-1"))
    peer = scope["client"][0] if scope.get("client") else None
    return _remembered(peer, tuple(map(tuple, lines.values())), trusted=trusted)


@lru_cache(maxsize=1024)
def _remembered(peer: str | None, lines: tuple[tuple[str, ...], ...], *, trusted: tuple[Network, ...]) -> Origin:
    return _read_origin(peer, hops_of(*lines), trusted=trusted)


def _read_origin(peer: str | None, hops: Iterable[str], *, trusted: Sequence[Network]) -> Origin:
    address = read_node(peer)
    if address is None or not _is_in(trusted, address):
        return Origin(None if address is None else str(address))
    proxy, named = str(address), False
    for text in hops:
        hop = read_node(text)
        if hop is None:
            break  # guard: test_what_is_no_address_counts_as_absent
        named = True
        if not _is_in(trusted, hop):
            return Origin(str(hop), proxy, named)
    return Origin(proxy, proxy, named)


def _is_in(networks: Sequence[Network], address: Address) -> bool:
    return any(address in network for network in networks)
