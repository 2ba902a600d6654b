"""Accounts of others that open accounts here."""
