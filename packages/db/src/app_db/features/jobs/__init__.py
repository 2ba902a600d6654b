"""Jobs about jobs."""
