"""Keys for machines: made, recognised, listed and revoked."""
