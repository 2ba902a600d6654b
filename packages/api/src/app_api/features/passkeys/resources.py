"""The settings of passkeys, for routes."""

from collections.abc import AsyncIterator

from app_api.features.passkeys.settings import PasskeySettings


async def passkeys(settings: PasskeySettings) -> AsyncIterator[PasskeySettings]:
    """Yield the settings as they are."""
    yield settings
