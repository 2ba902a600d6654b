"""The error of the generator."""


class Refused(Exception):
    """Nothing was written; the message is one line that says why and what to type instead."""
