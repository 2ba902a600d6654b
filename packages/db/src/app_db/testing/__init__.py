"""What tests, `make dev` and bench/ share: real servers from wheels, and the pytest plugin."""
