"""Base64 for URLs, without padding (RFC 7515, 2)."""

import base64


def base64url(data: bytes) -> str:
    """Return bytes as text.

    Example:
        >>> base64url(bytes([255]))
        '_w'
    """
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
