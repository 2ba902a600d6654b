"""Login sessions over HTTP: their owner lists and ends them; app_auth is the service."""
