"""The parts of authentication in a process: built once from the settings, closed at the end."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from app_auth.browser_secrets import BrowserSecrets
from app_auth.limits import ThrottleSettings
from app_auth.one_time import OneTimeTokens
from app_auth.passwords import PasswordHasher
from app_auth.settings import AuthSettings, active
from app_auth.throttle import Throttle
from app_auth.tokens import AccessTokens, RefreshTokens
from app_runtime.discovery import feature_folders

SECOND_FACTORS: Final = frozenset(folder.name for folder in feature_folders("app_auth.features"))
"""Second factors are features; one that was removed is not asked for any more, so it locks nobody out."""


@dataclass(frozen=True, slots=True)
class Auth:
    """The first argument of the services in this package."""

    settings: AuthSettings
    passwords: PasswordHasher
    access_tokens: AccessTokens
    refresh_tokens: RefreshTokens
    browser_secrets: BrowserSecrets
    one_time_tokens: OneTimeTokens
    throttle: Throttle
    second_factors: Collection[str] = SECOND_FACTORS
    """The names in `User.second_factors` that count."""


@contextmanager
def open_auth(settings: AuthSettings, *, throttle: Throttle | None = None) -> Iterator[Auth]:
    """Start the hashing pool and load the keys; without `throttle`, this process counts attempts alone."""
    throttle = throttle or Throttle(ThrottleSettings(), secret=active(settings.peppers).key_bytes)
    passwords = PasswordHasher(settings)
    try:
        yield Auth(
            settings,
            passwords,
            AccessTokens(settings),
            RefreshTokens(settings),
            BrowserSecrets(settings),
            OneTimeTokens(settings),
            throttle,
        )
    finally:
        passwords.close()
