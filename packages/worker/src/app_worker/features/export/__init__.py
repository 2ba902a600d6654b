"""Exports of all data about a user, for the user."""
