"""Changing the address of an account over HTTP and in the console; app_auth.features.email_change has the rules."""
