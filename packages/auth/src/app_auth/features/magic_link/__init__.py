"""Signing in by a mailed link, where `APP_AUTH__MAGIC_LINK` allows it (ADR-0073)."""
