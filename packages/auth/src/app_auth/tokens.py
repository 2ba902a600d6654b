"""Access tokens (JWT) and refresh tokens (derived): issuing and verifying them."""

import hashlib
import hmac
import re
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import jwt

from app_auth.base64url import base64url
from app_auth.errors import InvalidToken, RefreshTokenNotFound
from app_auth.settings import AuthSettings, active
from app_auth.signing import Jwk, public_jwk, signing_key

LEEWAY = timedelta(seconds=5)
TYPE = "at+jwt"  # RFC 9068, 2.1
# One spelling per token, and no counter that eight bytes cannot hold.
_REFRESH_TOKEN = re.compile(r"rt_([0-9a-f]{32})\.(0|[1-9][0-9]{0,18})\.([A-Za-z0-9_-]{43})")
REQUIRED = ["iss", "aud", "sub", "sid", "jti", "iat", "nbf", "exp"]
# There is one client, our own, and its tokens may do all that their user may (RFC 9068, 2.2 and 2.2.3).
CLIENT = {"client_id": "first-party", "scope": "account"}
REMEMBERED = 4096
"""How many verified tokens a process remembers at most: about 2 MB."""


@lru_cache(maxsize=64)
def _parse_header(segment: str) -> dict[str, Any]:  # Any: JSON
    """Parse a header, unverified; cached, because every token of a key has the same one."""
    return jwt.get_unverified_header(f"{segment}.e30.")


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """The claims of a verified access token."""

    user_id: UUID
    session_id: UUID


class _Verified(NamedTuple):
    """What is remembered of a token whose signature and claims are right; its times are in seconds since 1970."""

    claims: AccessClaims
    issued: int
    begins: int
    expires: int

    def is_valid(self, now: float, *, ttl: float) -> bool:
        """Return whether the token is valid at this time; PyJWT draws the same limits."""
        leeway = LEEWAY.total_seconds()
        has_begun = max(self.issued, self.begins) <= now + leeway
        return has_begun and now - leeway < self.expires and self.expires - self.issued <= ttl


class AccessTokens:
    """Issues and verifies JWTs of the profile of RFC 9068, with a ring of keys; each kid has one algorithm.

    It remembers the claims of the tokens that were used last, under their digests: memory keeps no token longer than
    its request. Another ring is another instance, which remembers nothing (ADR-0025).
    """

    def __init__(self, settings: AuthSettings) -> None:
        # Prepared once: PyJWT would parse the raw secret again for each token.
        self._ring = {key.kid: signing_key(key) for key in settings.keys}
        self.public_keys: tuple[Jwk, ...] = tuple(filter(None, map(public_jwk, settings.keys)))
        """The public halves of all keys that have one, also of those that do not sign yet, or any more (RFC 7517)."""
        self._active = active(settings.keys).kid
        self._issuer = settings.issuer
        self._audience = settings.audience or settings.issuer
        self._ttl = int(settings.access_ttl.total_seconds())
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()

    def issue(self, *, user_id: UUID, session_id: UUID, now: datetime) -> tuple[str, datetime]:
        """Return a token for this session, and when it expires. It holds ids, but no e-mail address and no role."""
        issued = int(now.timestamp())
        expires = issued + self._ttl
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": str(user_id),
            "sid": str(session_id),
            "jti": uuid4().hex,
            "iat": issued,
            "nbf": issued,
            "exp": expires,
            **CLIENT,
        }
        key = self._ring[self._active]
        token = jwt.encode(claims, key, algorithm=key.algorithm_name, headers={"typ": TYPE, "kid": self._active})
        return token, datetime.fromtimestamp(expires, now.tzinfo)

    def verify(self, token: str, *, now: datetime | None = None) -> AccessClaims:
        """Return the claims of a valid token of ours, with a leeway of 5 s for its times (RFC 8725, 3.1 to 3.12).

        Tokens with a longer life than the setting are refused: a stolen key makes no long-lived ones. The signature
        and claims of a token are checked at its first use, its times at each use.

        Raises:
            InvalidToken: for every other token.
        """
        digest = hashlib.sha256(token.encode(errors="surrogatepass")).digest()
        # Taken out and put back, so the ones used last come last; threads that do so at once check anew, no more.
        verified = self._verified.pop(digest, None) or self._check(token)
        at = time.time() if now is None else now.timestamp()
        if not verified.is_valid(at, ttl=self._ttl):
            raise InvalidToken  # guard: test_a_remembered_token_is_believed_as_long_as_any_other
        self._verified[digest] = verified
        if len(self._verified) > REMEMBERED:
            self._verified.popitem(last=False)  # guard: test_the_tokens_that_were_used_last_are_remembered
        return verified.claims

    def _check(self, token: str) -> _Verified:
        try:
            header = _parse_header(token.partition(".")[0])
            # The key decides the algorithm, never the token (RFC 8725, 3.1).
            key = self._ring[header["kid"]]
            claims = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY,
                options={"require": REQUIRED},
            )
            if header.get("typ") != TYPE:  # PyJWT itself refuses a `crit` that it does not understand
                raise InvalidToken  # guard: test_a_token_of_another_type_is_refused
            # Tokens of release 0.1 lack both claims; they stay valid during a rolling deployment.
            if not CLIENT.items() <= (CLIENT | claims).items():
                raise InvalidToken  # guard: test_a_token_for_another_client_or_scope_is_refused
            for claim in ("iat", "nbf", "exp"):
                datetime.fromtimestamp(claims[claim], UTC)  # guard: test_a_time_that_is_no_time_is_refused
            if claims["exp"] - claims["iat"] > self._ttl:
                raise InvalidToken  # guard: test_a_token_that_would_live_longer_than_ours_is_refused
            ids = AccessClaims(UUID(claims["sub"]), UUID(claims["sid"]))
            return _Verified(ids, int(claims["iat"]), int(claims["nbf"]), int(claims["exp"]))
        except (jwt.InvalidTokenError, KeyError, ValueError, TypeError, AttributeError, OverflowError, OSError) as exc:
            # For example a kid that is a list, an exp of 10^400 or "tomorrow", a sub that is no UUID.
            raise InvalidToken from exc


@dataclass(frozen=True, slots=True)
class RefreshClaims:
    """The session of a refresh token, and its number there."""

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
        """Return the refresh token number `counter` of a session.

        Raises:
            RefreshTokenNotFound: when its key was removed from the ring within the grace.
        """
        key = self._ring.get(key_id)
        if key is None:
            raise RefreshTokenNotFound
        return f"rt_{session_id.hex}.{counter}.{self._mac(key, session_id, counter)}"

    def parse(self, token: str) -> RefreshClaims:
        """Check the MAC of a token and return its claims, so that a forged token causes no query.

        Raises:
            RefreshTokenNotFound: when it is not a token that one of our keys has derived.
        """
        parts = _REFRESH_TOKEN.fullmatch(token)
        if parts is None:
            raise RefreshTokenNotFound
        session_id, counter, mac = UUID(parts[1]), int(parts[2]), parts[3]
        if not any(hmac.compare_digest(self._mac(key, session_id, counter), mac) for key in self._ring.values()):
            raise RefreshTokenNotFound  # guard: test_a_changed_refresh_token_is_refused
        return RefreshClaims(session_id, counter)

    @staticmethod
    def _mac(key: bytes, session_id: UUID, counter: int) -> str:
        digest = hmac.digest(key, session_id.bytes + counter.to_bytes(8), hashlib.sha256)
        return base64url(digest)
