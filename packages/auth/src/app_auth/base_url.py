"""`APP_PUBLIC_BASE_URL`: the start of links in mails."""

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Annotated

from pydantic import AfterValidator, AnyHttpUrl

from app_runtime.urls import WebAddress


def _check_base(url: AnyHttpUrl) -> AnyHttpUrl:
    """Refuse a URL that no path can be appended to: links from `https://example.com/?x=1` would lead nowhere."""
    if url.query is not None or url.fragment is not None:
        raise ValueError("must end with its path, without query (?…) or fragment (#…)")
    if url.username is not None or url.password is not None:
        raise ValueError("must be without a user: it is in every link")
    return url


type BaseAddress = Annotated[WebAddress, AfterValidator(_check_base)]


def base_url_weaknesses(base: AnyHttpUrl) -> Iterator[str]:
    """Yield the reasons why mailed links must not start with this URL in production."""
    host = (base.host or "").removesuffix(".")
    if _is_this_machine(host):
        yield "APP_PUBLIC_BASE_URL: must be where people reach the pages"
    elif base.scheme != "https" and not host.endswith(".localhost"):  # RFC 6761, 6.3: never another machine
        yield "APP_PUBLIC_BASE_URL: must be https, for what links in mails open is worth a password"


def _is_this_machine(host: str) -> bool:
    """Whether a host means the reader's own machine: localhost, a loopback or an unspecified address."""
    name = host.removeprefix("[").removesuffix("]")
    try:
        address = ip_address(name)
    except ValueError:
        return name == "localhost"
    return address.is_loopback or address.is_unspecified
