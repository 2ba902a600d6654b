"""How a process is seen from outside: logs, metrics and health; `app-db[telemetry]` installs what they need."""
