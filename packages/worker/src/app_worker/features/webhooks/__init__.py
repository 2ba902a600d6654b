"""Sends events of accounts to their endpoints."""
