"""Telemetry of a process: logs, metrics and health; `app-runtime[telemetry]` installs its dependencies."""
