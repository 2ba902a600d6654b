"""The jobs of signing in by a mailed link."""
