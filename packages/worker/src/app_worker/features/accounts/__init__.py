"""Mails and links for the owners of accounts, and the erasure of deleted accounts."""
