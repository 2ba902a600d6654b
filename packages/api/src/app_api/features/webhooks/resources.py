"""The settings of webhooks, for their routes."""

from collections.abc import AsyncIterator

from app_db.features.webhooks.settings import WebhookSettings


async def resources(settings: WebhookSettings) -> AsyncIterator[WebhookSettings]:
    """Yield them as they are."""
    yield settings
