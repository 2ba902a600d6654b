"""The generator: `make feature` and `make feature-remove`."""
