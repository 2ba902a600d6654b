"""`APP_MAIL__…`: the mail server and the sender, for the worker, and for `config check` of the API."""

import re
import ssl
from collections.abc import Iterator
from datetime import timedelta
from email.headerregistry import Address
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Annotated, Final, Self

from pydantic import AfterValidator, AnyHttpUrl, BaseModel, Field, FilePath, SecretStr, model_validator

from app_auth.addresses import ascii_domain
from app_auth.base_url import BaseAddress, base_url_weaknesses
from app_auth.errors import InvalidEmail
from app_runtime.durations import Duration
from app_runtime.tls import Tls, wants_tls
from app_runtime.urls import UrlParts, read_url

SCHEMES: Final = ("smtp", "smtps", "console")
LONGEST_LOCAL_PART: Final = 64  # RFC 5321, 4.5.3.1.1

_MAILBOX = re.compile(r'(?P<quoted>"(?:[^"\\]|\\.)*")?(?P<name>[^<>]*)<(?P<address>[^<>]*)>')
_QUOTED_PAIR = re.compile(r"\\(.)")
# RFC 5322, 3.2.3, and RFC 6532 beyond ASCII: dots only between other characters.
_LOCAL_PART = re.compile(r"[\w!#$%&'*+/=?^`{|}~-]+(\.[\w!#$%&'*+/=?^`{|}~-]+)*")
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"(?=.{{1,255}}$){_LABEL}(\.{_LABEL})*")


def read_mailbox(text: str) -> Address:
    """Parse a text that is one mailbox. The name in it needs no quotes: `str()` of the result adds them.

    Raises:
        ValueError: the text is no mailbox, or several.

    Example:
        >>> str(read_mailbox("Acme, Inc. <no-reply@example.com>"))
        '"Acme, Inc." <no-reply@example.com>'
    """
    text = text.strip()
    if not text.isprintable():
        raise ValueError("must be one line")
    mailbox = _MAILBOX.fullmatch(text)
    name = mailbox["name"].strip() if mailbox else ""
    if mailbox and mailbox["quoted"]:
        if name:
            raise ValueError("must be one mailbox: has something between the quoted name and the address")
        name = _QUOTED_PAIR.sub(r"\1", mailbox["quoted"][1:-1])
    elif "@" in name:
        raise ValueError('must be one mailbox: a name with an @ in it goes in quotes, as in "a@b" <c@example.com>')
    local, _, domain = (mailbox["address"].strip() if mailbox else text).rpartition("@")
    if not _LOCAL_PART.fullmatch(local) or len(local.encode()) > LONGEST_LOCAL_PART:
        raise ValueError("must be one mailbox: no-reply@example.com, or Example <no-reply@example.com>")
    try:
        domain = ascii_domain(domain)
    except InvalidEmail:
        domain = ""
    if not _DOMAIN.fullmatch(domain):
        raise ValueError("must be one mailbox: what stands behind the @ is no domain")
    return Address(name, local, domain)


def _check_sender(text: str) -> str:
    return str(read_mailbox(text))


def _check_url(url: SecretStr) -> SecretStr:
    parts = read_url(url.get_secret_value(), schemes=SCHEMES)
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("must have nothing behind the host and the port")
    if parts.scheme == "console":
        if parts.host or parts.user is not None or parts.port is not None:
            raise ValueError("must be console:// and nothing else, or smtp:// or smtps://")
        return url
    if not parts.host:
        raise ValueError("names no host")
    if parts.user is not None and not (parts.user and parts.password):
        raise ValueError("must have a user and a password, or neither")
    return url


def _check_name(name: str) -> str:
    """RFC 5321, 4.1.3 and 4.1.4: a name that others can look up, or an address in brackets."""
    if name.startswith("[") and name.endswith("]"):
        address = name[1:-1]
        try:
            if address.lower().startswith("ipv6:"):
                IPv6Address(address[5:])
            else:
                IPv4Address(address)
        except AddressValueError:
            raise ValueError("must have an IP address in its brackets: [192.0.2.1] or [IPv6:2001:db8::1]") from None
    elif not _DOMAIN.fullmatch(name) or "." not in name:
        raise ValueError("must be a full name, as in worker.example.com, or an address: [192.0.2.1]")
    return name


type MailUrl = Annotated[SecretStr, AfterValidator(_check_url)]
type Mailbox = Annotated[str, AfterValidator(_check_sender)]
type EhloName = Annotated[str, AfterValidator(_check_name)]


class MailSettings(BaseModel, frozen=True, hide_input_in_errors=True):
    """`APP_MAIL__…`."""

    url: MailUrl = SecretStr("console://")
    """`smtp://user:password@host:port` (25, with STARTTLS), `smtps://…` (465), or `console://`, which prints."""
    sender: Annotated[Mailbox, Field(validation_alias="from")] = "Groundwork <no-reply@localhost>"
    """Sender of all mails, one mailbox; its domain is in each Message-ID."""
    tls: Tls | None = None
    """If absent, verified TLS to other machines. `off` allows plain SMTP to any."""
    ca_path: FilePath | None = None
    """Authorities (PEM), besides the system's."""
    ehlo_name: EhloName | None = None
    """Name of this machine: a full name, or `[192.0.2.1]`; if absent, its own address."""
    timeout: Annotated[Duration, Field(gt=timedelta(0))] = timedelta(seconds=60)
    """For connecting, and for each answer but the last."""
    final_timeout: Annotated[Duration, Field(gt=timedelta(0))] = timedelta(minutes=10)
    """For the answer that it has taken the mail. With less, slow servers get copies (RFC 5321)."""

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if self.server.scheme == "smtps" and self.tls == "off":
            raise ValueError("APP_MAIL__TLS: is off, and APP_MAIL__URL says smtps://")
        if self.ca_path is not None:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(self.ca_path)
            except (ssl.SSLError, OSError):
                raise ValueError("APP_MAIL__CA_PATH: holds no certificate (PEM) that can be read") from None
        return self

    @property
    def server(self) -> UrlParts:
        """The parsed URL of the mail server."""
        return read_url(self.url.get_secret_value(), schemes=SCHEMES)

    @property
    def requires_tls(self) -> bool:
        """Whether the server's certificate is verified before anything is sent."""
        server = self.server
        return server.scheme == "smtps" or (server.scheme == "smtp" and wants_tls(self.tls, [server.host]))

    def tls_context(self) -> ssl.SSLContext:
        """Return the TLS context for the server."""
        context = ssl.create_default_context()
        if not self.requires_tls:  # on this machine, or without TLS: no authority certifies "localhost"
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.ca_path is not None:
            context.load_verify_locations(self.ca_path)
        return context

    def weaknesses(self) -> Iterator[str]:
        """Yield a line for each variable whose value production must refuse; the line does not show the value."""
        server = self.server
        if server.scheme == "console":
            yield "APP_MAIL__URL: would print mails, and the links in them"
        elif server.user is not None and not self.requires_tls and wants_tls(None, [server.host]):
            # RFC 8314, 3.3: even in a private network, nobody else may read the password.
            yield "APP_MAIL__TLS: is off, so the password in APP_MAIL__URL would be sent in the clear"


class MailAndLinks(BaseModel, frozen=True, hide_input_in_errors=True):
    """The worker's settings that `config check` of the API checks too, as both may share one file."""

    mail: MailSettings = MailSettings()
    public_base_url: BaseAddress = AnyHttpUrl("http://localhost:8000")

    def weaknesses(self) -> Iterator[str]:
        """Yield a line for each variable whose value a worker in production refuses."""
        yield from self.mail.weaknesses()
        yield from base_url_weaknesses(self.public_base_url)
