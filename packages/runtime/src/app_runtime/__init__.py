"""What a process needs before it does anything: configuration, logs, figures, traces, TLS, its end."""
