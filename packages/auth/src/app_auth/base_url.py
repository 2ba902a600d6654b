"""`APP_PUBLIC_BASE_URL`: what links in mails start with."""

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Annotated

from pydantic import AfterValidator, AnyHttpUrl

from app_runtime.urls import WebAddress


def _check_base(url: AnyHttpUrl) -> AnyHttpUrl:
    """Refuse what a path cannot be put behind: `https://example.com/?x=1` would make links that lead nowhere."""
    if url.query is not None or url.fragment is not None:
        raise ValueError("must end with its path, without query (?…) or fragment (#…)")
    if url.username is not None or url.password is not None:
        raise ValueError("must be without a user: it is in every link")
    return url


type BaseAddress = Annotated[WebAddress, AfterValidator(_check_base)]


def base_url_weaknesses(base: AnyHttpUrl) -> Iterator[str]:
    """Yield what is wrong with links that start with this, where people get them."""
    host = (base.host or "").removesuffix(".")
    if _is_this_machine(host):
        yield "APP_PUBLIC_BASE_URL: must be where people reach the pages"
    elif base.scheme != "https" and not host.endswith(".localhost"):  # RFC 6761, 6.3: never another machine
        yield "APP_PUBLIC_BASE_URL: must be https, for what links in mails open is worth a password"


def _is_this_machine(host: str) -> bool:
    """Whether a name is one that each machine has for itself, however it is written."""
    name = host.removeprefix("[").removesuffix("]")
    try:
        address = ip_address(name)
    except ValueError:
        return name == "localhost"
    return address.is_loopback or address.is_unspecified
