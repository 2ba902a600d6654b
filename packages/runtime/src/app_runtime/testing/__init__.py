"""Real servers and processes for tests, and the pytest plugin that keeps them apart from the shell."""
