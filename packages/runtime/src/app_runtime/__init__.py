"""What every process needs: configuration, logs, metrics, traces, TLS, and an end in time."""
