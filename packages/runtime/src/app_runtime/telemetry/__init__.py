"""How a process is seen from outside: logs, metrics and health; `app-runtime[telemetry]` installs what they need."""
