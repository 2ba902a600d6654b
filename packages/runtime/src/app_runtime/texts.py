"""Cuts texts that are too long: beginning and end are kept, with a note of how much is missing."""


def cut(text: str, limit: int) -> str:
    """Return a text of at most `limit` characters, plus a note of how many are missing.

    >>> cut("a" * 6 + "b" * 6, 8)
    'aaaa … 4 characters are missing … bbbb'
    """
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} … {len(text) - 2 * half} characters are missing … {text[-half:]}"


def safe_repr(value: object, limit: int = 1000) -> str:
    """Return the `repr` of a value, cut; if `repr` fails, the name of its class.

    >>> safe_repr([1, 2])
    '[1, 2]'
    """
    try:
        return cut(repr(value), limit)
    except Exception:  # code of others; its failure must not hide the caller's message
        return f"<{type(value).__name__}, whose repr fails>"
