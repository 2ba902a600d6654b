"""The settings that the worker reads."""

from app_db.features.webhooks.settings import WebhookSettings

__all__ = ["WebhookSettings"]
