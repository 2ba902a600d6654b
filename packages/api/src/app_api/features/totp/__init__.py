"""The second factor over HTTP and in the console: one-time codes, recovery codes, and answers to challenges."""
