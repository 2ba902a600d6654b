"""The second factor of an account: a generator of one-time codes, and recovery codes for the day that it is lost."""
