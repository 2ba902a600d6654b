"""`APP_AUTH__…`: keys, lifetimes and the cost of a password hash."""

import base64
from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, SecretStr, model_validator

from app_runtime.durations import Duration

MIN_ROUNDS, MAX_ROUNDS = 4, 14  # of bcrypt: 14 is a second of one core
MIN_KEY_BYTES = 32  # RFC 7518, 3.2: a key as long as the hash output or longer
PRIVATE_KEY_BYTES = 32  # of Ed25519 (RFC 8032, 5.1.5) and of P-256
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # FIPS 186-5: private keys are below it

type Algorithm = Literal["HS256", "EdDSA", "ES256"]


def _check_key(secret: SecretStr) -> SecretStr:
    try:
        length = len(base64.b64decode(secret.get_secret_value(), validate=True))
    except ValueError:
        raise ValueError("must be base64; `openssl rand -base64 32` makes one") from None
    if length < MIN_KEY_BYTES:
        raise ValueError(f"must hold at least {MIN_KEY_BYTES} bytes; `openssl rand -base64 32` makes such a key")
    return secret


class Key(BaseModel, frozen=True, hide_input_in_errors=True):
    """One secret of a ring. `verify` keys are still accepted but sign nothing new, which is how keys are rotated."""

    kid: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    alg: Algorithm = "HS256"
    """What it signs by; `EdDSA` is Ed25519, `ES256` is P-256. Only `keys` has others than `HS256`."""
    secret: Annotated[SecretStr, AfterValidator(_check_key)]
    """The secret of HS256, or the private key itself."""
    state: Literal["active", "verify"] = "active"

    @model_validator(mode="after")
    def _check_private_key(self) -> Self:
        if self.alg != "HS256" and len(self.key_bytes) != PRIVATE_KEY_BYTES:
            raise ValueError(f"a key of {self.alg} has exactly {PRIVATE_KEY_BYTES} bytes; `openssl rand -base64 32`")
        if self.alg == "ES256" and not 0 < int.from_bytes(self.key_bytes) < P256_ORDER:
            raise ValueError("this number is no private key of P-256; `openssl rand -base64 32` makes another one")
        return self

    @property
    def key_bytes(self) -> bytes:
        """The secret itself."""
        return base64.b64decode(self.secret.get_secret_value())


def _check_ring(keys: tuple[Key, ...]) -> tuple[Key, ...]:
    if len({key.kid for key in keys}) != len(keys):
        raise ValueError("two keys have the same kid")
    if sum(key.state == "active" for key in keys) != 1:
        raise ValueError('exactly one key must have the state "active"')
    return keys


def _check_secrets(keys: tuple[Key, ...]) -> tuple[Key, ...]:
    if any(key.alg != "HS256" for key in keys):
        raise ValueError("this ring has secrets only: its keys have the alg HS256")
    return keys


type SigningRing = Annotated[tuple[Key, ...], AfterValidator(_check_ring)]
"""Keys that may have public halves."""
type KeyRing = Annotated[SigningRing, AfterValidator(_check_secrets)]


def active(ring: tuple[Key, ...]) -> Key:
    """Return the key of the ring that signs."""
    return next(key for key in ring if key.state == "active")


class OneTimeSettings(BaseModel, frozen=True, hide_input_in_errors=True):
    """The settings of links in mails: the worker reads these, and none of the other secrets."""

    token_keys: KeyRing
    """For links in mails. `config init` makes each ring, `config rotate` turns it."""
    verify_ttl: Annotated[Duration, Field(ge=timedelta(minutes=5), le=timedelta(days=7))] = timedelta(hours=24)
    """Life of a link that verifies an address."""
    reset_ttl: Annotated[Duration, Field(ge=timedelta(minutes=5), le=timedelta(hours=24))] = timedelta(minutes=30)
    """Life of a link that sets a password."""


class AuthSettings(OneTimeSettings, frozen=True, hide_input_in_errors=True):
    """Secrets have no default. A lifetime that would weaken the promises is refused."""

    keys: SigningRing
    """For access tokens. With `"alg": "EdDSA"` or `"ES256"`, other services verify them by `/.well-known/jwks.json`."""
    refresh_keys: KeyRing
    """For refresh tokens."""
    peppers: KeyRing
    """For password hashes."""
    issuer: str = "groundwork"
    """`iss` of access tokens."""
    audience: str = ""
    """`aud` of access tokens; the issuer if empty."""
    access_ttl: Annotated[Duration, Field(ge=timedelta(seconds=60), le=timedelta(seconds=3600))] = timedelta(minutes=15)
    """Life of an access token, unless its session ends before."""
    refresh_idle: Annotated[Duration, Field(gt=timedelta(seconds=0))] = timedelta(days=14)
    """A session ends when not refreshed for so long."""
    refresh_absolute: Annotated[Duration, Field(gt=timedelta(seconds=0))] = timedelta(days=30)
    """A session ends after so long in any case."""
    refresh_grace: Annotated[Duration, Field(ge=timedelta(seconds=0), le=timedelta(seconds=60))] = timedelta(seconds=10)
    """A rotated refresh token still yields its successor for so long."""
    fresh_sign_in: Annotated[Duration, Field(ge=timedelta(seconds=60), le=timedelta(seconds=3600))] = timedelta(
        minutes=5
    )
    """Irreversible acts need a sign-in within this time."""
    verification: bool = True
    """Whether an address must be verified by mail before its account can be used; `off` by default in development."""
    magic_link: bool = False
    """Whether people may sign in by a mailed link."""
    registration: Literal["open", "closed"] = "open"
    """Whether strangers may register."""
    sessions_per_user: Annotated[int, Field(ge=1, le=1000)] = 50
    """One more sign-in ends the oldest session."""
    password_min_length: Annotated[int, Field(ge=8, le=64)] = 15
    """Characters."""
    bcrypt_rounds: Annotated[int, Field(ge=MIN_ROUNDS, le=MAX_ROUNDS)] = 12
    """Cost of a hash: one more doubles it. Stored hashes above the maximum are refused."""
    hash_queue: Annotated[int, Field(ge=1, le=1000)] = 32
    """Password hashes that may wait for a core; one more gets a 503."""
    hash_wait: Annotated[Duration, Field(gt=timedelta(seconds=0), le=timedelta(seconds=10))] = timedelta(seconds=2)
    """A hash waits so long for a core; then a 503."""
