"""One-time codes (RFC 6238: SHA-1, six digits, steps of 30 seconds) and recovery codes."""

import base64
import hmac
import re
import secrets
import unicodedata
from datetime import datetime
from typing import Final

from pyotp import TOTP

STEP: Final = 30
"""Seconds."""
WINDOW: Final = 1
"""Steps by which the clock of a generator may differ."""
SECRET_BYTES: Final = 20
"""As long as the digest of SHA-1 (RFC 4226, 4, R6)."""
RECOVERY_CODES: Final = 10

_ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789"
"""No letter that looks like another, nor like a digit."""
_GROUPS, _GROUP = 4, 4
_RECOVERY: Final = re.compile(rf"[{_ALPHABET}]{{{_GROUPS * _GROUP}}}")
_CODE: Final = re.compile(r"[0-9]{6}")
_BETWEEN: Final = re.compile(r"[\s\u2010-\u2015-]")


def new_secret() -> bytes:
    """Return a random secret."""
    return secrets.token_bytes(SECRET_BYTES)


def text_of(secret: bytes) -> str:
    """Return a secret as generators read it."""
    return base64.b32encode(secret).decode()


def uri_of(secret: bytes, *, account: str, issuer: str) -> str:
    """Return the `otpauth:` address that a generator reads from a QR code."""
    return TOTP(text_of(secret)).provisioning_uri(name=account, issuer_name=issuer)


def step_at(now: datetime) -> int:
    """Return the number of the time step."""
    return int(now.timestamp()) // STEP


def matched_step(secret: bytes, code: str, *, now: datetime) -> int | None:
    """Return the time step whose code this is, of those around now: the newest, if it fits several; else None."""
    if not _CODE.fullmatch(code):
        return None
    totp, current = TOTP(text_of(secret)), step_at(now)
    steps = range(current - WINDOW, current + WINDOW + 1)
    fitting = [step for step in steps if hmac.compare_digest(totp.generate_otp(step), code)]
    return fitting[-1] if fitting else None


def typed(text: str) -> str:
    """Return a code as somebody typed it, without spaces and hyphens, in small letters and plain digits.

    Example:
        >>> typed("123 456"), typed("ABCD-efgh-2345-jkmn")
        ('123456', 'abcdefgh2345jkmn')
    """
    return _BETWEEN.sub("", unicodedata.normalize("NFKC", text)).lower()


def is_recovery_code(text: str) -> bool:
    """Return whether a text that was typed can be a recovery code."""
    return _RECOVERY.fullmatch(text) is not None


def new_recovery_codes() -> list[str]:
    """Return random codes of 79 bits, in groups, as they are shown."""
    return ["-".join(_group() for _ in range(_GROUPS)) for _ in range(RECOVERY_CODES)]


def _group() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(_GROUP))
