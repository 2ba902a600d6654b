"""What the auth endpoints take and give."""

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, Field, SecretStr

from app_auth.sessions import IssuedTokens

# Characters. The rules themselves are the service's; these keep what reaches it bounded.
Email = Annotated[str, Field(max_length=320, json_schema_extra={"format": "email"})]
Password = Annotated[SecretStr, Field(max_length=1024)]


class AccessTokenForm(BaseModel, extra="forbid"):
    """The form of a first-party login, with the field names of RFC 6749, 4.3.2."""

    username: Email
    password: Password
    grant_type: Literal["password"] | None = None
    scope: Annotated[str, Field(max_length=1024)] = ""
    client_id: Annotated[str, Field(max_length=256)] | None = None
    client_secret: Annotated[SecretStr, Field(max_length=256)] | None = None


class RefreshTokenCreate(BaseModel, extra="forbid"):
    """A refresh token to exchange."""

    refresh_token: Annotated[str, Field(max_length=512)]


class AccessTokenRead(BaseModel):
    """What a sign-in and a refresh return; times are epoch seconds."""

    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105  # the name of a scheme
    access_token: str
    expires_at: int
    refresh_token: str
    refresh_token_expires_at: int

    @classmethod
    def of(cls, tokens: IssuedTokens) -> Self:
        """Translate what the service issued."""
        return cls(
            access_token=tokens.access_token,
            expires_at=int(tokens.access_expires_at.timestamp()),
            refresh_token=tokens.refresh_token,
            refresh_token_expires_at=int(tokens.refresh_expires_at.timestamp()),
        )


class UserCreate(BaseModel, extra="forbid"):
    """A new account."""

    email: Email
    password: Password


class UserRead(BaseModel):
    """An account as its owner sees it."""

    user_id: UUID
    email: str


class PasswordUpdate(BaseModel, extra="forbid"):
    """A new password, with the current one as proof."""

    password: Password
    current_password: Password


class JobAccepted(BaseModel):
    """Where to look for what was started."""

    job_id: UUID
