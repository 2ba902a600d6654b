"""What authentication needs in a process: built once from the settings, closed at the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app_auth.passwords import PasswordHasher
from app_auth.settings import AuthSettings
from app_auth.tokens import AccessTokens, RefreshTokens


@dataclass(frozen=True, slots=True)
class Auth:
    """The first argument of every service here."""

    settings: AuthSettings
    passwords: PasswordHasher
    access_tokens: AccessTokens
    refresh_tokens: RefreshTokens


@contextmanager
def open_auth(settings: AuthSettings) -> Iterator[Auth]:
    """Start the hashing pool and load the keys."""
    passwords = PasswordHasher(settings)
    try:
        yield Auth(settings, passwords, AccessTokens(settings), RefreshTokens(settings))
    finally:
        passwords.close()
