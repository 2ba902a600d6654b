"""Handlers and crons of features: one folder each, found by `app_runtime.discovery`."""
