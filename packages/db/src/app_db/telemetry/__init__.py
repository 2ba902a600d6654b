"""Telemetry of the database: metrics of its pools, spans of statements and jobs."""
