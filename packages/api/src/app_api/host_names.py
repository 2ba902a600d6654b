"""Names of hosts and origins, compared without regard to case, port and the spelling of an address."""

import re
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Final, NamedTuple

from pydantic import AnyHttpUrl, ValidationError

ANY: Final = "*"

_HOST: Final = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::(?P<port>[0-9]{0,5}))?")
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*")
_MAX_PORT: Final = 65535


class Authority(NamedTuple):
    """A host by its name, and the port if one was given."""

    name: str
    port: int | None


@lru_cache(maxsize=256)
def read_authority(text: bytes) -> Authority | None:
    """Return the host and port of a Host header or of a target's authority; None if it is invalid (RFC 9110, 7.2)."""
    parts = _HOST.fullmatch(text.decode("latin-1"))
    if parts is None:
        return None
    name, port = parts["name"].lower(), int(parts["port"]) if parts["port"] else None
    if port is not None and port > _MAX_PORT:
        return None
    try:
        return Authority(_canonical(name), port)
    except ValueError:
        return None


def _canonical(name: str) -> str:
    if name.startswith("["):
        return f"[{IPv6Address(name[1:-1])}]"
    # Drop a final dot, which marks a complete name (RFC 1034, 3.1), except behind a single label.
    return name.removesuffix(".") if "." in name[:-1] else name


def read_allowed_host(text: str) -> str:
    """Return one of `APP_HTTP__ALLOWED_HOSTS` in the form that names of Host headers are compared in.

    Raises:
        ValueError: says why no Host header can have this name.

    Example:
        >>> read_allowed_host("Bücher.example"), read_allowed_host("::1")
        ('xn--bcher-kva.example', '[::1]')
    """
    if text == ANY:
        return text
    if ANY in text:
        raise ValueError("must name each host; a star within a name matches nothing")
    if re.search(r"\s", text):
        raise ValueError("must be without a blank")
    if any(sign in text for sign in "/?#@\\%"):
        raise ValueError("must be a name alone, without scheme, user or path")
    try:
        return f"[{IPv6Address(text[1:-1] if text.startswith('[') and text.endswith(']') else text)}]"
    except ValueError:
        if ":" in text:
            raise ValueError("must be a name alone, without a port") from None
    try:
        # Clients send letters beyond ASCII as A-labels (RFC 5890, 2.3.2.1); pydantic's parser makes them.
        name = AnyHttpUrl(f"http://{text}/").host or ""
    except ValidationError:
        name = ""
    if not _NAME.fullmatch(name := name.removesuffix(".")):
        raise ValueError("is no name of a host")
    return name


def check_origin(origin: AnyHttpUrl) -> AnyHttpUrl:
    """Return one of `APP_HTTP__CORS_ORIGINS` if browsers can send it as an origin (RFC 6454, 6.1).

    Raises:
        ValueError: says why no browser ever sends it.
    """
    if ANY in (origin.host or ""):
        raise ValueError("must name each origin; a star within a name matches nothing")
    if origin.path not in {None, "/"} or origin.query is not None or origin.fragment is not None:
        raise ValueError("must be scheme, host and port alone, without path, query or fragment")
    if origin.username is not None or origin.password is not None:
        raise ValueError("must be without a user")
    read_allowed_host(origin.host or "")
    return origin
