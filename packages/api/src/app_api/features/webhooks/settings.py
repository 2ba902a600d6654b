"""The settings that the API reads."""

from app_db.features.webhooks.settings import WebhookSettings

__all__ = ["WebhookSettings"]
