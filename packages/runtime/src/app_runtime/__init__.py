"""The basis of every process: configuration, logs, metrics, traces, TLS, and an end in time."""
