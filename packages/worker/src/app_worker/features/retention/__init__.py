"""Deletes expired rows, so that tables stay small."""
