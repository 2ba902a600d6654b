"""The settings that the API reads."""

from app_db.features.providers.settings import ProviderSettings

__all__ = ["ProviderSettings"]
