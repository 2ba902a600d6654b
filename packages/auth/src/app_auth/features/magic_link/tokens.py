"""The token of a link to sign in with, and what binds it to the browser that has asked for it."""

import hashlib
from datetime import timedelta
from typing import Final

from app_auth.one_time import OneTimeTokens
from app_db.features.magic_link.models import SignInLink

SIGN_IN: Final = "sign_in"
LIFE: Final = timedelta(minutes=15)


def signing_in(tokens: OneTimeTokens, link: SignInLink) -> str:
    """Return the token of a link: of one account, one address and one browser."""
    return tokens.sign(link.id, SIGN_IN, link.email_canonical, link.binding_digest, key_id=link.key_id)


def digest_of(secret: str) -> str:
    """Return what is stored of the secret of a browser; 256 random bits need no salt."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
