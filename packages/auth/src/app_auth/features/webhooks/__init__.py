"""Webhooks: who may have endpoints, where events may be sent, and how they are signed."""
