"""The client of a request, before authentication."""

from dataclasses import dataclass

MAX_AGENT = 256


@dataclass(frozen=True, slots=True)
class Client:
    """The client as the request shows it, before any authentication."""

    address: str | None
    """An IP address, as the outermost trusted proxy saw it; None if there is none, as in scripts."""
    user_agent: str | None = None
    """At most 256 characters, printable."""
    request_id: str | None = None


NOBODY = Client(None)
"""The client in scripts and in tests that need none."""
