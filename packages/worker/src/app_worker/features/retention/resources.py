"""The settings of retention, for its handlers."""

from collections.abc import AsyncIterator

from app_db.features.retention.settings import RetentionSettings


async def resources(settings: RetentionSettings) -> AsyncIterator[RetentionSettings]:
    """Yield them as they are."""
    yield settings
