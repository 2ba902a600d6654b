"""Header fields of proxies about the path of a request: X-Forwarded-For, and Forwarded (RFC 7239)."""

import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

type Address = IPv4Address | IPv6Address

# RFC 7239, 6: a node is an address, and may have a port, which is a number or a name that begins with "_".
_NODE: Final = re.compile(
    r"(?:\[(?P<bracketed>[^\[\]]*)\]|(?P<bare>[^\[\]:]*))(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?|(?P<ipv6>[^\[\]]*)"
)
# RFC 7239, 4: the pairs of one hop are joined by ";".
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  # RFC 9110, 5.6.2
_HOP: Final = re.compile(
    rf'(?:{_TOKEN}=(?:"(?:[^"\\]|\\.)*"|[^\s",;=]*))?(?:[ \t]*;[ \t]*(?:{_TOKEN}=(?:"(?:[^"\\]|\\.)*"|[^\s",;=]*))?)*'
)
_PAIR: Final = re.compile(rf'(?P<name>{_TOKEN})=(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<token>[^\s",;=]*))')
_MOST_COMMAS: Final = 8
"""How many commas to try as the start of a hop: quoted values may hold some, the addresses of our own proxies none."""


def read_node(text: str | None) -> Address | None:
    """Return the address of a node without port, brackets and zone; an IPv4-mapped IPv6 address as IPv4."""
    parts = _NODE.fullmatch(text or "")
    if parts is None:
        return None
    name, zone_mark, _ = (parts["bracketed"] or parts["bare"] or parts["ipv6"] or "").partition("%")
    try:
        address = ip_address(name)
    except ValueError:
        return None
    if address.version == 4:  # noqa: PLR2004
        # Brackets and zones belong to IPv6 (RFC 3986, 3.2.2; RFC 4007, 11): other addresses with them are invalid.
        return None if zone_mark or parts["bracketed"] else address
    return address.ipv4_mapped or address


def hops_of(forwarded_for: Sequence[str], forwarded: Sequence[str]) -> Iterator[str]:
    """Yield the addresses that the proxies recorded, from the last hop, which is nearest to the API, to the client.

    `Forwarded` counts only without `X-Forwarded-For`. Several lines of a field are one list (RFC 9110, 5.3). A hop
    that names no address is yielded as some other text.
    """
    if forwarded_for:
        for text in reversed(",".join(forwarded_for).split(",")):
            yield text.strip(" \t")
    elif forwarded:
        yield from _nodes_of(",".join(forwarded))


def _nodes_of(text: str) -> Iterator[str]:
    """Yield the `for` of each hop, parsed from the right, so that text of the client cannot change the other hops."""
    while True:
        start = len(text)
        for _ in range(_MOST_COMMAS):
            start = text.rfind(",", 0, start)
            hop = text[start + 1 :].strip(" \t")
            if _HOP.fullmatch(hop):
                nodes = [pair for pair in _PAIR.finditer(hop) if pair["name"].lower() == "for"]
                # A hop may name `for` only once (RFC 7239, 4).
                yield _value_of(nodes[0]) if len(nodes) == 1 else ""
                break
            if start < 0:
                yield ""
                return
        else:
            yield ""
            return
        if start < 0:
            return
        text = text[:start]


def _value_of(node: re.Match[str]) -> str:
    return node["token"] or "" if node["quoted"] is None else re.sub(r"\\(.)", r"\1", node["quoted"])
