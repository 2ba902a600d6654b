"""The mails of a change of address."""
