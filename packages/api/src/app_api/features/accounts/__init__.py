"""Accounts and login sessions over HTTP; app_auth is the service."""
