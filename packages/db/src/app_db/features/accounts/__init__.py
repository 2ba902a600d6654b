"""Accounts: mails to their owners, links, and what is left when one is deleted."""
