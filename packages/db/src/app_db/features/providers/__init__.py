"""Accounts of others that open accounts here, by OpenID Connect."""
