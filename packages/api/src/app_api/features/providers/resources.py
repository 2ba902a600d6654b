"""The client of the providers, open as long as the process."""

from collections.abc import AsyncIterator

import httpx2

from app_api.features.providers.client import OpenId
from app_api.features.providers.names import NamedTransport
from app_db.features.providers.settings import ProviderSettings


async def resources(settings: ProviderSettings) -> AsyncIterator[OpenId]:
    """Open it; nobody is asked before somebody signs in."""
    async with httpx2.AsyncClient(
        transport=NamedTransport(), timeout=settings.timeout.total_seconds(), trust_env=False, follow_redirects=False
    ) as http:
        yield OpenId(settings, http)
