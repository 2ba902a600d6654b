"""Where a request comes from, with proxies of ours in front of it or not (ADR-0040)."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from fastapi import Request

from app_auth.client import MAX_AGENT, Client

type Network = IPv4Network | IPv6Network

EVERYBODY: tuple[Network, ...] = (ip_network("0.0.0.0/0"), ip_network("::/0"))


def read_client(request: Request, *, trusted: Sequence[Network]) -> Client:
    """Return who asks; what they say of themselves is cut to what can be stored and shown."""
    agent = "".join(filter(str.isprintable, request.headers.get("user-agent", "")))[:MAX_AGENT]
    return Client(
        address=client_address(
            request.client.host if request.client else None,
            request.headers.getlist("x-forwarded-for"),
            trusted=trusted,
        ),
        user_agent=agent or None,
        request_id=request.state.request_id,
    )


def client_of(scope: Mapping[str, Any], trusted: tuple[Network, ...]) -> str | None:
    """Return the address for a log: as `client_address`, and without a look at headers where no proxy is ours."""
    peer = scope["client"][0] if scope.get("client") else None
    if not trusted:
        return peer
    forwarded = tuple(value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for")
    return _address_of(peer, forwarded, trusted)


@lru_cache(maxsize=1024)
def _address_of(peer: str | None, forwarded: tuple[str, ...], trusted: tuple[Network, ...]) -> str | None:
    return client_address(peer, forwarded, trusted=trusted)


def client_address(peer: str | None, forwarded: Sequence[str], *, trusted: Sequence[Network]) -> str | None:
    """Return the last address that none of our proxies has, among those that they wrote down.

    `forwarded` are the X-Forwarded-For headers, each with its addresses from the client to us. Only a trusted peer is
    believed. What is no address, and a list without any stranger's, counts as if there were none: the peer counts.
    """
    address = _parse(peer)
    if address is None or not _is_in(trusted, address):
        return None if address is None else str(address)
    for text in reversed(",".join(forwarded).split(",")):
        hop = _parse(text.strip(" \t"))
        if hop is None:
            break  # guard: test_what_is_no_address_counts_as_absent
        if not _is_in(trusted, hop):
            return str(hop)
    return str(address)


def _parse(text: str | None) -> IPv4Address | IPv6Address | None:
    """Read an address in the one form that we compare: without a zone, and IPv4 where IPv6 only wraps it."""
    try:
        address = ip_address((text or "").partition("%")[0])
    except ValueError:
        return None
    return (address.version == 6 and address.ipv4_mapped) or address  # noqa: PLR2004


def _is_in(networks: Sequence[Network], address: IPv4Address | IPv6Address) -> bool:
    return any(address in network for network in networks)
