"""Shared by tests and bench/: test databases, checks of jobs and queries, and the pytest plugin."""
