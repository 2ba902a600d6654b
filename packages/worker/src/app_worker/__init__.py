"""Runs background jobs and cron."""
