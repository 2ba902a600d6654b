"""`APP_THROTTLE__…`: how often a client may try something, and which addresses count as one client."""

import re
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Annotated

from pydantic import AfterValidator, BaseModel

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
MAX_COUNT = 10_000
MAX_SECONDS = 7 * SECONDS["d"]
IPV6_PREFIX = 64  # the smallest network of a customer (RFC 6177): all addresses in it are one client

_LIMIT = re.compile(r"([0-9]{1,5})/([0-9]{0,6})([smhd])")


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` attempts in every period of `seconds`: the window slides."""

    count: int
    seconds: int

    @classmethod
    def parse(cls, text: str) -> "Limit":
        """Read `30/5m`, `10/h`, `100/24h`.

        Raises:
            ValueError: for another shape, a count outside 1 to 10,000, and windows outside 1 second to 7 days.
        """
        if (parts := _LIMIT.fullmatch(text)) is None:
            raise ValueError('must look like "30/5m": a count, a slash, and a duration in s, m, h or d')
        limit = cls(int(parts[1]), int(parts[2] or 1) * SECONDS[parts[3]])
        if not (1 <= limit.count <= MAX_COUNT and 1 <= limit.seconds <= MAX_SECONDS):
            raise ValueError(f"must be 1 to {MAX_COUNT} times in 1 second to 7 days")
        return limit


def _check(text: str) -> str:
    Limit.parse(text)
    return text


type LimitText = Annotated[str, AfterValidator(_check)]


class ThrottleSettings(BaseModel, frozen=True):
    """Each is `count/duration`; `IP` is an IPv4 address, or the /64 of an IPv6 address."""

    login_ip: LimitText = "30/5m"
    """Sign-ins, by passkeys too, and password changes from one address."""
    login_account: LimitText = "5/5m"
    """Wrong passwords for one account from one address."""
    login_account_day: LimitText = "100/24h"
    """Wrong passwords for one account from anywhere (NIST SP 800-63B-4, 3.2.2)."""
    register_ip: LimitText = "10/h"
    """Registrations from one address."""
    forgot_ip: LimitText = "10/h"
    """Requests for a mailed link from one address."""
    mail_account: LimitText = "3/h"
    """Requested mails of one kind to one address; one more is not sent, silently."""
    refresh_ip: LimitText = "150/5m"
    """Refreshes from one address."""
    one_time_ip: LimitText = "30/5m"
    """Uses of mailed links, and answers to challenges, from one address."""
    code_challenge: LimitText = "5/5m"
    """Wrong codes of a second factor for one sign-in."""
    code_account: LimitText = "10/15m"
    """Wrong codes of a second factor for one account."""
    code_account_day: LimitText = "50/24h"
    """Wrong codes of a second factor for one account (NIST SP 800-63B-4, 3.2.2)."""
    export_account: LimitText = "10/h"
    """Exports of one account."""
    key_ip: LimitText = "30/5m"
    """Wrong keys for machines from one address."""
    key_requests: LimitText = "600/m"
    """Requests with one key for machines."""
    new_key_account: LimitText = "20/h"
    """Keys for machines that one account makes."""
    webhook_account: LimitText = "60/h"
    """New webhooks and secrets, test events and redeliveries of one account."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One count in one bucket."""

    name: str
    """The setting that limits it."""
    key: str
    """The key of the bucket, as a digest."""
    limit: Limit


def network_of(address: str | None) -> str:
    """Return the network that counts as one client: an IPv4 address, an IPv6 address's /64, or "" without address."""
    if address is None:
        return ""
    ip = ip_address(address)
    return address if ip.version == 4 else str(ip_network((ip, IPV6_PREFIX), strict=False))  # noqa: PLR2004
