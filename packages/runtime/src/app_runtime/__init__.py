"""The basis of every process: configuration, logs, metrics, traces, TLS, and its end."""
