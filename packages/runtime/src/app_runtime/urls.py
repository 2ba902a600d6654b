"""Reads URLs of settings whole at the start, and refuses those that it cannot read, for a reason that shows no part.

Libraries read a URL when they first use it, each in its own way. If a password has an unencoded slash or hash, their
errors quote the URL up to there (RFC 3986, 3.2.1).
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Annotated, NoReturn
from urllib.parse import unquote

from pydantic import AnyHttpUrl, BeforeValidator

PORTS = range(1, 65536)
WEB = ("http", "https")

_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?"
    r"(?P<query>\?[^#]*)?(?P<fragment>#.*)?"
)
_AUTHORITY = re.compile(
    r"((?P<user>[^:]*)(:(?P<password>.*))?@)?"
    r"(\[(?P<literal>[^\[\]@]*)\]|(?P<name>[^\[\]@:]*))(?P<colon>:(?P<port>[^@:]*))?"
)
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\xa0\\]")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_LABEL = re.compile(r"[^\W_](?:[\w-]{0,61}[^\W_])?|_[\w-]{0,62}")
_NUMBERS = re.compile(r"[0-9.]+")
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}")
_UNKNOWN = "it is not known here: take it out"


@dataclass(frozen=True, slots=True)
class UrlParts:
    """A URL in pieces; user and password are decoded."""

    scheme: str
    user: str | None
    password: str | None = field(repr=False)
    host: str
    """Without the brackets of an IPv6 address; "" if there is none."""
    port: int | None
    path: str
    query: str = field(repr=False)
    """Without the question mark, and still encoded."""
    fragment: str = field(repr=False)


def read_url(text: str, *, schemes: Collection[str]) -> UrlParts:
    """Return the parts of a URL whose scheme is one of these; check yourself whether it has a host or a path.

    Raises:
        ValueError: with the reason, and no part of the URL.

    Example:
        >>> read_url("smtp://ada:s%2Fcret@mail.example.com:587", schemes=["smtp"]).password
        's/cret'
    """
    if _UNPRINTABLE.search(text):
        raise ValueError("has a blank, a backslash or a control character in it: encode it, as in %20")
    url = _URL.fullmatch(text)
    if url is None or url["scheme"].lower() not in schemes:
        raise ValueError(f"must start with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    if _BROKEN_ESCAPE.search(text):
        raise ValueError("has a % that two hexadecimal digits do not follow: a % itself is %25")
    # A password with one of these in it looks like a port, and the host after it like a path. Web pages may have an @.
    if "@" in text[url.end("authority") :] and url["scheme"].lower() not in WEB:
        raise ValueError("has / ? or # before its last @: in a user or password they are %2F, %3F and %23")
    authority = _AUTHORITY.fullmatch(url["authority"])
    if authority is None:
        raise ValueError("has no host and port that can be read: an IPv6 address goes in brackets")
    return UrlParts(
        url["scheme"].lower(),
        _decoded(authority["user"]),
        _decoded(authority["password"]),
        _host(authority["literal"], authority["name"] or ""),
        _port(authority["port"]) if authority["colon"] else None,
        url["path"] or "",
        (url["query"] or "")[1:],
        (url["fragment"] or "")[1:],
    )


def read_web_url(text: object) -> object:
    """Read a URL of http or https before pydantic does; with a host, and without a fragment.

    Raises:
        ValueError: as `read_url`.
    """
    if isinstance(text, str | AnyHttpUrl):
        parts = read_url(str(text), schemes=WEB)
        if not parts.host:
            raise ValueError("names no host")
        if parts.fragment:
            raise ValueError("must not have a fragment (#…)")
    return text


type WebAddress = Annotated[AnyHttpUrl, BeforeValidator(read_web_url)]
"""A URL of http or https."""


def refuse_parameter(name: str, instead: Mapping[str, str]) -> NoReturn:
    """Refuse a parameter behind the `?` of a URL by its name, with what to do `instead`.

    Raises:
        ValueError: always; no value is in it.
    """
    raise ValueError(f"has the parameter ?{shown_parameter(name)}: {instead.get(name, _UNKNOWN)}")


def shown_parameter(name: str) -> str:
    """Return a name as it is, unless it may be a piece of a password that holds a question mark."""
    return name if _PARAMETER.fullmatch(name) else "…"


def _decoded(text: str | None) -> str | None:
    try:
        return None if text is None else unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("has a user or password that is not UTF-8") from None


def _host(literal: str | None, name: str) -> str:
    if literal is not None:
        try:
            IPv6Address(literal)
        except AddressValueError:
            raise ValueError("has brackets around what is no IPv6 address") from None
        return literal
    if _NUMBERS.fullmatch(name):
        try:
            IPv4Address(name)
        except AddressValueError:
            raise ValueError("has a host of numbers that is no IPv4 address") from None
    elif name and not all(map(_LABEL.fullmatch, name.removesuffix(".").split("."))):
        raise ValueError("has a host that is no name: letters, digits and hyphens between dots")
    return name


def _port(text: str) -> int:
    # isdecimal() accepts the digits of all scripts.
    if not (text.isascii() and text.isdecimal() and int(text) in PORTS):
        raise ValueError("has a port that is no number from 1 to 65535; / ? # @ in a password are %2F %3F %23 %40")
    return int(text)
