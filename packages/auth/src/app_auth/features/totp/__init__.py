"""One-time codes of a generator as the second factor of an account (RFC 6238), and recovery codes for its loss."""
