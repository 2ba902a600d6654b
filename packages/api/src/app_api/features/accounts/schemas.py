"""The requests and responses of the auth endpoints."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, Field, SecretStr, model_validator

from app_api.description import NEW_PASSWORD
from app_api.problems import InvalidRequest
from app_auth.machines import Machine
from app_auth.principal import Caller
from app_auth.sessions import IssuedTokens

# Characters. The service has the rules; these limits only bound its input.
Email = Annotated[str, Field(max_length=320, json_schema_extra={"format": "email"})]
Password = Annotated[SecretStr, Field(max_length=1024)]
# `describe_passwords` replaces the mark with the `minLength` of the settings.
NewPassword = Annotated[SecretStr, Field(max_length=1024, json_schema_extra={NEW_PASSWORD: True})]


class UnsupportedGrantType(InvalidRequest):
    """The only grant type is password."""

    code = "unsupported_grant_type"


class TokenRequest(BaseModel, extra="forbid"):
    """The form of a token endpoint: a missing parameter has its own error code there (RFC 6749, 5.2)."""

    @model_validator(mode="before")
    @classmethod
    def _be_complete(cls, given: object) -> object:
        if isinstance(given, dict) and any(
            field.is_required() and name not in given for name, field in cls.model_fields.items()
        ):
            raise InvalidRequest  # guard: test_a_token_request_that_lacks_a_parameter_is_an_invalid_request
        return given


Token = Annotated[str, Field(max_length=512)]


class AccessTokenForm(TokenRequest):
    """The form of a first-party login, with the field names of RFC 6749, 4.3.2."""

    username: Email
    password: Password
    grant_type: Annotated[str | None, Field(max_length=64, json_schema_extra={"enum": ["password", None]})] = None
    scope: Annotated[str, Field(max_length=1024)] = ""
    client_id: Annotated[str, Field(max_length=256)] | None = None
    client_secret: Annotated[SecretStr, Field(max_length=256)] | None = None

    @model_validator(mode="before")  # before the check for missing ones: another grant has other parameters
    @classmethod
    def _be_a_password_grant(cls, given: object) -> object:
        if isinstance(given, dict) and given.get("grant_type") not in {None, "password"}:
            raise UnsupportedGrantType  # guard: test_another_grant_type_is_unsupported
        return given


class RefreshTokenCreate(TokenRequest):
    """A refresh token to exchange."""

    # Any length the body limit allows, so that every foreign token gets the same answer.
    refresh_token: Annotated[str, Field(max_length=65536)]


class AccessTokenRead(BaseModel):
    """The response to a sign-in and a refresh; times are epoch seconds."""

    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105  # the name of a scheme
    access_token: str
    expires_at: int
    refresh_token: str
    refresh_token_expires_at: int

    @classmethod
    def of(cls, tokens: IssuedTokens) -> Self:
        """Return the schema of issued tokens."""
        return cls(
            access_token=tokens.access_token,
            expires_at=int(tokens.access_expires_at.timestamp()),
            refresh_token=tokens.refresh_token,
            refresh_token_expires_at=int(tokens.refresh_expires_at.timestamp()),
        )


class UserCreate(BaseModel, extra="forbid"):
    """A new account."""

    email: Email
    password: NewPassword


class UserRead(BaseModel):
    """An account as its owner sees it."""

    user_id: UUID
    email: str


class KeyInUse(BaseModel):
    """The key that asks."""

    id: UUID
    name: str
    scopes: list[str]
    expires_at: datetime


class CallerRead(UserRead):
    """An account, and who asks for it."""

    kind: Literal["person", "key"] = "person"
    key: KeyInUse | None = None
    """Null for a person who has signed in."""

    @classmethod
    def of(cls, caller: Caller) -> Self:
        """Return the schema of who asks."""
        if not isinstance(caller, Machine):
            return cls(user_id=caller.user_id, email=caller.email)
        key = KeyInUse(
            id=caller.key_id, name=caller.key_name, scopes=sorted(caller.scopes), expires_at=caller.expires_at
        )
        return cls(user_id=caller.user_id, email=caller.email, kind="key", key=key)


class PasswordUpdate(BaseModel, extra="forbid"):
    """A new password, with the current one as proof."""

    password: NewPassword
    current_password: Password


class PasswordChange(BaseModel, extra="forbid"):
    """A new password, with the current one as proof."""

    current_password: Password
    new_password: NewPassword


class EmailSubmit(BaseModel, extra="forbid"):
    """An address to send a link to."""

    email: Email


class EmailVerification(BaseModel, extra="forbid"):
    """The token of a link, and the password that is to count from now on."""

    token: Token
    password: NewPassword


class PasswordReset(BaseModel, extra="forbid"):
    """A new password, with the token of a link as proof."""

    token: Token
    new_password: NewPassword


class MailAccepted(BaseModel):
    """The same for every address: whether it has an account is told by mail, to its owner."""

    detail: str = "If this address can be used, a mail is on its way to it."
