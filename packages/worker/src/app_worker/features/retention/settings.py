"""The settings that the worker reads."""

from app_db.features.retention.settings import RetentionSettings

__all__ = ["RetentionSettings"]
