"""The requests and responses of signing in by a mailed link."""

from typing import Annotated

from pydantic import BaseModel, Field, SecretStr

from app_api.features.accounts.schemas import Email, MailAccepted, Token


class SignInLinkCreate(BaseModel, extra="forbid"):
    """The address to mail a link to."""

    email: Email


class SignInLinkAccepted(MailAccepted):
    """The same for every address, but for the secret."""

    secret: str
    """What the link only works with: keep it where the link will be opened."""


class SignInLinkUse(BaseModel, extra="forbid"):
    """The token of the link, and the secret of who has asked for it."""

    token: Token
    secret: Annotated[SecretStr, Field(max_length=128)]
