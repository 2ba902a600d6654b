"""Access tokens (JWT) and refresh tokens (derived): how they are made and when they are believed."""

import base64
import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import jwt

from app_auth.errors import InvalidToken, RefreshTokenNotFound
from app_auth.settings import AuthSettings, active

LEEWAY = timedelta(seconds=5)
TYPE = "at+jwt"  # RFC 9068, 2.1
REQUIRED = ["iss", "aud", "sub", "sid", "jti", "iat", "nbf", "exp"]


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """What a verified access token says."""

    user_id: UUID
    session_id: UUID


class AccessTokens:
    """Issues and verifies JWTs of the profile of RFC 9068, through a ring of keys: one kid, one algorithm."""

    def __init__(self, settings: AuthSettings) -> None:
        self._ring = {key.kid: (key.alg, key.key_bytes) for key in settings.keys}
        self._active = active(settings.keys).kid
        self._issuer = settings.issuer
        self._audience = settings.audience or settings.issuer
        self._ttl = settings.access_ttl

    def issue(self, *, user_id: UUID, session_id: UUID, now: datetime) -> tuple[str, datetime]:
        """Return a token for the bearer of this session, and when it expires. It holds ids, no address and no role."""
        issued = int(now.timestamp())
        expires = issued + int(self._ttl.total_seconds())
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": str(user_id),
            "sid": str(session_id),
            "jti": uuid4().hex,
            "iat": issued,
            "nbf": issued,
            "exp": expires,
        }
        alg, key = self._ring[self._active]
        token = jwt.encode(claims, key, algorithm=alg, headers={"typ": TYPE, "kid": self._active})
        return token, datetime.fromtimestamp(expires, now.tzinfo)

    def verify(self, token: str) -> AccessClaims:
        """Return the claims of a token that is ours and lives, within a leeway of 5 s (RFC 8725, 3.1 to 3.12).

        Raises:
            InvalidToken: for anything else.
        """
        try:
            header = jwt.get_unverified_header(token)
            # The key decides the algorithm, never the token (RFC 8725, 3.1).
            alg, key = self._ring[header["kid"]]
            claims = jwt.decode(
                token,
                key,
                algorithms=[alg],
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY,
                options={"require": REQUIRED},
            )
            if header.get("typ") != TYPE or "crit" in header:
                raise InvalidToken
            return AccessClaims(UUID(claims["sub"]), UUID(claims["sid"]))
        except (jwt.InvalidTokenError, KeyError, ValueError, TypeError, AttributeError, OverflowError) as exc:
            # Besides its own errors PyJWT lets a few others through, for a kid that is a list or an exp of 10^400.
            raise InvalidToken from exc


@dataclass(frozen=True, slots=True)
class RefreshClaims:
    """Which token of which family it is."""

    session_id: UUID
    counter: int


class RefreshTokens:
    """`rt_<session id>.<counter>.<HMAC-SHA-256(key, session id ‖ counter)>`: derived, so none has to be stored.

    A dump of the database holds no usable token, and a successor can be derived again within the grace (ADR-0005).
    """

    def __init__(self, settings: AuthSettings) -> None:
        self._ring = {key.kid: key.key_bytes for key in settings.refresh_keys}
        self.active_key_id = active(settings.refresh_keys).kid

    def derive(self, session_id: UUID, counter: int, *, key_id: str) -> str:
        """Return the refresh token number `counter` of a session."""
        return f"rt_{session_id.hex}.{counter}.{self._mac(self._ring[key_id], session_id, counter)}"

    def parse(self, token: str) -> RefreshClaims:
        """Return what the token stands for, after its MAC was checked: no query is made for a forged one.

        Raises:
            RefreshTokenNotFound: when it is not a token that one of our keys has derived.
        """
        try:
            session_hex, counter_text, _ = token.removeprefix("rt_").split(".")
            session_id, counter = UUID(session_hex), int(counter_text)
        except ValueError:
            raise RefreshTokenNotFound from None
        # Rebuilt and compared as a whole, so that there is one spelling only.
        for key_id in self._ring:
            if hmac.compare_digest(self.derive(session_id, counter, key_id=key_id).encode(), token.encode()):
                return RefreshClaims(session_id, counter)
        raise RefreshTokenNotFound

    @staticmethod
    def _mac(key: bytes, session_id: UUID, counter: int) -> str:
        digest = hmac.digest(key, session_id.bytes + counter.to_bytes(8), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
