"""The client of a request, before authentication."""

from dataclasses import dataclass

MAX_AGENT = 256


@dataclass(frozen=True, slots=True)
class Client:
    """What the request shows of its client, before any authentication."""

    address: str | None
    """An IP address, as the outermost trusted proxy saw it; None where there is none, as in scripts."""
    user_agent: str | None = None
    """At most 256 characters, printable."""
    request_id: str | None = None


NOBODY = Client(None)
"""A script, or a test that does not care."""
