"""Webhooks: events of an account, sent to endpoints that its owner has named."""
