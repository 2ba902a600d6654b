"""The second factor on the wire."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr

Code = Annotated[SecretStr, Field(max_length=64)]


class TotpRead(BaseModel):
    """Whether each sign-in asks for a one-time code."""

    model_config = ConfigDict(from_attributes=True)

    since: datetime | None
    """When it was turned on; absent while it is off."""
    recovery_codes: int
    """How many recovery codes are left."""


class TotpOffered(BaseModel):
    """A secret for a generator: it is shown once, and counts after its first code."""

    secret: str
    """In base32, to type."""
    uri: str
    """The same as an `otpauth:` address."""
    qr_code: str
    """That address as a picture (SVG)."""


class CodeSubmit(BaseModel, extra="forbid"):
    """The code that a generator shows."""

    code: Code


class ChallengeAnswer(CodeSubmit):
    """A challenge, and the code that a generator shows, or a recovery code."""

    challenge: Annotated[str, Field(max_length=512)]


class RecoveryCodes(BaseModel):
    """Recovery codes: each is good once in place of a one-time code. They are shown once."""

    recovery_codes: list[str]
