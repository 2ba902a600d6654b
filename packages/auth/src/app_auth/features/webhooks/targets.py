"""Where events may be sent: over TLS, to public addresses (ADR-0082)."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from pydantic import AnyUrl, TypeAdapter, ValidationError

from app_auth.features.webhooks.errors import InvalidEndpointUrl

type Address = IPv4Address | IPv6Address
type Network = IPv4Network | IPv6Network

LONGEST_URL: Final = 2000
_URL: Final = TypeAdapter(AnyUrl)

# Of the registries of IANA, as of November 2026; `is_global` alone lets through multicast, relays and AMT.
_NOT_PUBLIC_4: Final = [
    IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
]  # fmt: skip
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_NOT_PUBLIC_6: Final = [
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocols, Teredo among them
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",
        "3fff::/20",
    )
]
_NAT64: Final = IPv6Network("64:ff9b::/96")


def is_public(address: Address) -> bool:
    """Whether this is the address of a host on the Internet: none of a private network, of this machine, of a group.

    Of an address that stands for one of IPv4, as NAT64 has them, the inner one is judged. Those of 6to4 and Teredo,
    which carry one as well, are refused.

    Example:
        >>> [is_public(ip_address(text)) for text in ("192.0.46.8", "::ffff:10.0.0.1", "64:ff9b::7f00:1")]
        [True, False, False]
    """
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in network for network in _NOT_PUBLIC_4)
    if (inner := _embedded(address)) is not None:
        return is_public(inner)  # guard: test_a_public_address_may_be_reached
    is_unicast = address in _GLOBAL_UNICAST and address.scope_id is None
    return is_unicast and address.is_global and not any(address in network for network in _NOT_PUBLIC_6)


def may_reach(address: Address, allowed: Iterable[Network]) -> bool:
    """Whether events may be sent to an address: a public one, or one of the networks of the settings."""
    inner = _embedded(address) if isinstance(address, IPv6Address) else None
    return is_public(address) or any((inner or address) in network for network in allowed)


def checked_url(text: str, *, allowed: Iterable[Network]) -> str:
    """Return the address of an endpoint as it is stored: one spelling, its host in ASCII.

    Names are looked up when something is sent, not here.

    Raises:
        InvalidEndpointUrl: it is not https, names no host or a private address, has a password or a fragment, or is
            too long.
    """
    try:
        url = _URL.validate_python(text)
    except ValidationError:
        raise InvalidEndpointUrl from None
    host = (url.host or "").strip("[]")
    if url.scheme != "https" or not host or url.username or url.password or url.fragment is not None:
        raise InvalidEndpointUrl  # guard: test_what_is_no_address_of_an_endpoint_is_refused
    if len(str(url)) > LONGEST_URL or not _may_name(host, allowed):
        raise InvalidEndpointUrl  # guard: test_what_is_no_address_of_an_endpoint_is_refused
    return str(url)


def _may_name(host: str, allowed: Iterable[Network]) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return True
    return may_reach(address, allowed)


def _embedded(address: IPv6Address) -> IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
