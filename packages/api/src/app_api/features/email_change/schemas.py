"""The requests of a change of address."""

from pydantic import BaseModel, SecretStr

from app_api.features.accounts.schemas import Email, Password, Token


class EmailChangeCreate(BaseModel, extra="forbid"):
    """The address that the account is to have."""

    email: Email


class EmailChangeConfirmation(BaseModel, extra="forbid"):
    """The token that was mailed to the new address; the password of the account, where its bearer is not signed in."""

    token: Token
    password: Password = SecretStr("")


class EmailChangeUndoing(BaseModel, extra="forbid"):
    """The token that was mailed to the address before."""

    token: Token
