"""What sends events, and its settings."""

from collections.abc import AsyncIterator

from app_db.features.webhooks.settings import WebhookSettings
from app_worker.features.webhooks.sender import WebhookSender


async def open_sender(settings: WebhookSettings) -> AsyncIterator[WebhookSender]:
    """Yield the sender of this process."""
    sender = WebhookSender(settings)
    try:
        yield sender
    finally:
        sender.close()


async def open_settings(settings: WebhookSettings) -> AsyncIterator[WebhookSettings]:
    """Yield them as they are."""
    yield settings
