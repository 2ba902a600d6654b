"""Webhooks, over HTTP."""
