"""Links that were mailed to sign in with."""
