"""What browsers answer, what it proves, and whose it is."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

_HANDLE_OF: Final = b"the user handle of passkeys\0"


@dataclass(frozen=True, slots=True)
class RegistrationResponse:
    """What a browser answers to a registration, decoded and unverified."""

    credential_id: bytes
    client_data: bytes
    attestation: bytes
    transports: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class SignInResponse:
    """What a browser answers to a sign-in, decoded and unverified."""

    credential_id: bytes
    client_data: bytes
    authenticator_data: bytes
    signature: bytes
    user_handle: bytes | None = None


@dataclass(frozen=True, slots=True)
class Use:
    """What a verified sign-in says of its passkey."""

    sign_count: int
    backed_up: bool


def handle_of(user_id: UUID) -> bytes:
    """Return the user handle of an account: it shows nothing of it, and is the same for all its passkeys."""
    return hashlib.sha256(_HANDLE_OF + user_id.bytes).digest()
