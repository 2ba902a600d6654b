"""Counts what ended each minute."""
