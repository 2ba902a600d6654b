"""Accounts: mails to their owners, links, and the erasure of deleted accounts."""
