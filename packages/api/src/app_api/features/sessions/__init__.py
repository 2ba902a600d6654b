"""Login sessions over HTTP: seen and ended by their owner; app_auth is the service."""
