"""The relying party: the domain that passkeys are for, and the pages that may use them (WebAuthn Level 3, 4)."""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, Self

from pydantic import AnyHttpUrl

LOCAL: Final = "localhost"
_DOMAIN: Final = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """Whose passkeys they are."""

    id: str
    """A domain; a passkey is worthless for any other."""
    origins: tuple[str, ...]
    """As browsers send them: `https://app.example.com`, on this domain or below it."""
    name: str
    """What browsers may show beside the domain."""

    @classmethod
    def at(cls, base: AnyHttpUrl | None, *, name: str) -> Self | None:
        """Return the relying party of the pages at this address; None if browsers allow no passkeys there.

        A loopback address counts as localhost, because no address can be the domain of a passkey.

        Example:
            >>> RelyingParty.at(AnyHttpUrl("https://app.example.com/x"), name="Shop").origins
            ('https://app.example.com',)
        """
        if base is None:
            return None
        try:
            if ip_address((base.host or "").strip("[]")).is_loopback:
                base = AnyHttpUrl.build(scheme=base.scheme, host=LOCAL, port=base.port)
        except ValueError:
            pass  # a name
        try:
            return cls.of((base,), name=name)
        except ValueError:
            return None

    @classmethod
    def of(cls, origins: tuple[AnyHttpUrl, ...], *, domain: str = "", name: str) -> Self:
        """Return the relying party of a domain, or of that of the first origin, at these origins.

        Raises:
            ValueError: no browser would make a passkey for this domain on one of the pages.
        """
        domain = domain or origins[0].host or ""
        is_local = domain == LOCAL or domain.endswith(f".{LOCAL}")
        if not _DOMAIN.fullmatch(domain) or domain.rpartition(".")[2].isdigit():
            raise ValueError("must be a domain in small letters, no address")
        if "." not in domain and not is_local:
            raise ValueError("must be a domain of yours, as in example.com")
        for origin in origins:
            if origin.host != domain and not (origin.host or "").endswith(f".{domain}"):
                raise ValueError(
                    "must be on the domain of the passkeys, or below it"
                )  # guard: test_settings_that_no_browser_would_follow_are_refused
            if origin.scheme != "https" and not is_local:
                raise ValueError("must be https")  # guard: test_settings_that_no_browser_would_follow_are_refused
        return cls(domain, tuple(_text(origin) for origin in origins), name)


def _text(origin: AnyHttpUrl) -> str:
    """Return an origin as browsers write it: without path, and without the port that its scheme has anyway."""
    usual = 443 if origin.scheme == "https" else 80
    port = "" if origin.port in {None, usual} else f":{origin.port}"
    return f"{origin.scheme}://{origin.host}{port}"
