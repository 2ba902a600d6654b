"""What `make feature` and `make feature-remove` do."""
