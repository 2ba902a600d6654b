"""Passkeys on the wire; what browsers answer is in the form of their own `toJSON()` (WebAuthn Level 3, 5.1)."""

from base64 import urlsafe_b64decode
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, RootModel

from app_auth.features.passkeys.responses import RegistrationResponse, SignInResponse


def _require_base64url(text: str) -> str:
    _decoded(text)
    return text


def _decoded(text: str) -> bytes:
    return urlsafe_b64decode(f"{text}{'=' * (-len(text) % 4)}")


type Encoded = Annotated[str, Field(max_length=49_152, pattern=r"^[A-Za-z0-9_-]*$"), AfterValidator(_require_base64url)]
"""Bytes as base64url without padding."""
type Name = Annotated[str, Field(max_length=256)]


class Options(RootModel[dict[str, Any]]):  # Any: JSON
    """Options for `PublicKeyCredential.parseCreationOptionsFromJSON` or `parseRequestOptionsFromJSON`."""


class _OfBrowsers(BaseModel):
    """Browsers add members with time; those that are not known are left out."""

    model_config = ConfigDict(extra="ignore")


class Attestation(_OfBrowsers):
    """The response of a new credential."""

    client_data: Encoded = Field(alias="clientDataJSON")
    attestation: Encoded = Field(alias="attestationObject")
    transports: Annotated[tuple[Annotated[str, Field(max_length=64)], ...], Field(max_length=16)] = ()


class NewCredential(_OfBrowsers):
    """What `navigator.credentials.create` returns."""

    id: Encoded
    type: Literal["public-key"]
    response: Attestation

    def to_response(self) -> RegistrationResponse:
        """Return it decoded."""
        answer = self.response
        client_data, attestation = _decoded(answer.client_data), _decoded(answer.attestation)
        return RegistrationResponse(_decoded(self.id), client_data, attestation, answer.transports)


class Assertion(_OfBrowsers):
    """The response of a credential that signs in."""

    client_data: Encoded = Field(alias="clientDataJSON")
    authenticator_data: Encoded = Field(alias="authenticatorData")
    signature: Encoded
    user_handle: Encoded | None = Field(default=None, alias="userHandle")


class UsedCredential(_OfBrowsers):
    """What `navigator.credentials.get` returns."""

    id: Encoded
    type: Literal["public-key"]
    response: Assertion

    def to_response(self) -> SignInResponse:
        """Return it decoded."""
        answer, handle = self.response, self.response.user_handle
        return SignInResponse(
            _decoded(self.id),
            _decoded(answer.client_data),
            _decoded(answer.authenticator_data),
            _decoded(answer.signature),
            None if handle is None else _decoded(handle),
        )


class PasskeyCreate(BaseModel, extra="forbid"):
    """A new passkey with the name that its owner gives it."""

    name: Name
    credential: NewCredential


class PasskeyUpdate(BaseModel, extra="forbid"):
    """Another name."""

    name: Name


class PasskeySignIn(BaseModel, extra="forbid"):
    """A sign-in by a passkey."""

    credential: UsedCredential


class PasskeyRead(BaseModel, from_attributes=True):
    """A passkey as its owner sees it."""

    id: UUID
    name: str
    created_at: datetime
    last_used_at: datetime | None
    backed_up: bool
    """Whether it was copied to other devices of the owner, when it was used last."""


class PasskeyList(BaseModel):
    """All passkeys of the bearer, oldest first; their number is bounded, so there are no pages."""

    items: list[PasskeyRead]
