"""The keys of generators, derived once in a process."""

from collections.abc import AsyncIterator

from app_api.features.totp.settings import TotpSettings
from app_auth.features.totp.vault import Vault


async def open_vault(settings: TotpSettings) -> AsyncIterator[Vault]:
    """Yield what opens and seals secrets of generators."""
    yield Vault(settings.keys)
