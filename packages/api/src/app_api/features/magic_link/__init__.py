"""Signing in by a mailed link, over HTTP and in the console; app_auth.features.magic_link has the rules."""
