"""Keeping tables small."""
