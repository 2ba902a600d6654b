"""Mails to the owners of accounts, links, and what is left when an account is deleted."""
