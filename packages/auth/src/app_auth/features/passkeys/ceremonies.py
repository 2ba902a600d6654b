"""What browsers are asked for, and what counts of what they answer (WebAuthn Level 3, 7.1 and 7.2).

Import this module in the functions that need it: webauthn costs a process 6 MB and 0.2 s, and few ever use a passkey.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import (
    bytes_to_base64url,
    decode_credential_public_key,
    decoded_public_key_to_cryptography,
    options_to_json_dict,
    parse_attestation_object,
    parse_authenticator_data,
    parse_client_data_json,
)
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AttestationFormat,
    AuthenticationCredential,
    AuthenticatorAssertionResponse,
    AuthenticatorAttestationResponse,
    AuthenticatorSelectionCriteria,
    AuthenticatorTransport,
    PublicKeyCredentialDescriptor,
    RegistrationCredential,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from app_auth.features.passkeys.challenges import PATIENCE
from app_auth.features.passkeys.errors import ResponseRejected
from app_auth.features.passkeys.relying_party import RelyingParty
from app_auth.features.passkeys.responses import RegistrationResponse, SignInResponse, Use, handle_of
from app_db.features.passkeys.models import Passkey

ALGORITHMS: Final = [
    COSEAlgorithmIdentifier.ECDSA_SHA_256,
    COSEAlgorithmIdentifier.EDDSA,
    COSEAlgorithmIdentifier.RSASSA_PKCS1_v1_5_SHA_256,  # Windows Hello
]
TRANSPORTS: Final = frozenset(transport.value for transport in AuthenticatorTransport)
LONGEST_ID: Final = 1023
RSA_BITS: Final = range(2048, 4097)
_MILLISECONDS: Final = int(PATIENCE.total_seconds() * 1000)


def creation_options(
    party: RelyingParty, *, user_id: UUID, email: str, challenge: bytes, existing: Sequence[Passkey]
) -> dict[str, Any]:  # Any: JSON
    """Return PublicKeyCredentialCreationOptionsJSON; `existing` are passkeys that the account has."""
    options = generate_registration_options(
        rp_id=party.id,
        rp_name=party.name,
        user_id=handle_of(user_id),
        user_name=email,
        challenge=challenge,
        timeout=_MILLISECONDS,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
        ),
        # Without it an authenticator would replace the passkey that it has by another one.
        exclude_credentials=[_descriptor(passkey) for passkey in existing],
        supported_pub_key_algs=ALGORITHMS,
    )
    return options_to_json_dict(options)


def request_options(party: RelyingParty, *, challenge: bytes) -> dict[str, Any]:  # Any: JSON
    """Return PublicKeyCredentialRequestOptionsJSON that name no account: the browser shows what it has."""
    options = generate_authentication_options(
        rp_id=party.id,
        challenge=challenge,
        timeout=_MILLISECONDS,
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return options_to_json_dict(options)


def challenge_in(client_data: bytes) -> bytes:
    """Return the challenge that a response answers; it is not known yet whether it is one of ours.

    Raises:
        ResponseRejected: there is none, or the response was made in a frame of another site.
    """
    with _rejecting():
        read = parse_client_data_json(client_data)
        if read.cross_origin:
            raise ResponseRejected("it comes from a frame")  # guard: test_a_bent_registration_is_refused
        return read.challenge


def verify_registration(
    party: RelyingParty, response: RegistrationResponse, *, challenge: bytes, user_id: UUID, name: str
) -> Passkey:
    """Return the passkey that a response brings, to be stored.

    Raises:
        ResponseRejected: it is not a new passkey of this party with user verification.
    """
    with _rejecting():
        _require_no_certificates(response.attestation)
        verified = verify_registration_response(
            credential=RegistrationCredential(
                bytes_to_base64url(response.credential_id),
                response.credential_id,
                AuthenticatorAttestationResponse(response.client_data, response.attestation),
            ),
            expected_challenge=challenge,
            expected_rp_id=party.id,
            expected_origin=list(party.origins),
            require_user_verification=True,  # guard: test_a_bent_registration_is_refused
            supported_pub_key_algs=ALGORITHMS,
        )
        if verified.credential_id != response.credential_id or len(verified.credential_id) > LONGEST_ID:
            raise ResponseRejected("its id is not that of its passkey")  # guard: test_a_bent_registration_is_refused
        _require_good_key(verified.credential_public_key)
        return Passkey(
            user_id=user_id,
            credential_id=verified.credential_id,
            public_key=verified.credential_public_key,
            sign_count=verified.sign_count,
            transports=[each for each in dict.fromkeys(response.transports) if each in TRANSPORTS],
            backup_eligible=parse_attestation_object(response.attestation).auth_data.flags.be,
            backed_up=verified.credential_backed_up,
            name=name,
        )


def verify_sign_in(party: RelyingParty, response: SignInResponse, *, challenge: bytes, passkey: Passkey) -> Use:
    """Return what a response says of its passkey, with which it was signed. The counter is left to the caller.

    Raises:
        ResponseRejected: it is no sign-in at this party with this passkey and user verification.
    """
    with _rejecting():
        verified = verify_authentication_response(
            credential=AuthenticationCredential(
                bytes_to_base64url(response.credential_id),
                response.credential_id,
                AuthenticatorAssertionResponse(
                    response.client_data, response.authenticator_data, response.signature, response.user_handle
                ),
            ),
            expected_challenge=challenge,
            expected_rp_id=party.id,
            expected_origin=list(party.origins),
            credential_public_key=passkey.public_key,
            credential_current_sign_count=0,  # compared where it is stored, in one statement
            require_user_verification=True,  # guard: test_a_bent_sign_in_is_refused
        )
        if response.user_handle != handle_of(passkey.user_id):
            raise ResponseRejected("it is of another account")  # guard: test_a_bent_sign_in_is_refused
        if parse_authenticator_data(response.authenticator_data).flags.be is not passkey.backup_eligible:
            raise ResponseRejected("its passkey cannot be this one")  # guard: test_a_bent_sign_in_is_refused
        return Use(verified.new_sign_count, verified.credential_backed_up)


@contextmanager
def _rejecting() -> Iterator[None]:
    """Let whatever fails in the block mean that the response is rejected: strangers choose each byte of it."""
    try:
        yield
    except ResponseRejected:
        raise
    except Exception as error:
        reason = str(error) if isinstance(error, WebAuthnException) else type(error).__name__
        raise ResponseRejected(reason) from error  # guard: test_a_bent_registration_is_refused


def _require_no_certificates(attestation: bytes) -> None:
    """Refuse attestations that nobody has asked for: only a passkey's own signature, or none, is read."""
    read = parse_attestation_object(attestation)
    own = read.fmt in {AttestationFormat.NONE, AttestationFormat.PACKED} and not read.att_stmt.x5c
    if not own:
        raise ResponseRejected("it has an attestation")  # guard: test_a_bent_registration_is_refused


def _require_good_key(public_key: bytes) -> None:
    """Refuse a key with which nobody could sign in, or whose signatures would take long to verify."""
    key = decoded_public_key_to_cryptography(decode_credential_public_key(public_key))
    is_other_curve = isinstance(key, EllipticCurvePublicKey) and not isinstance(key.curve, SECP256R1)
    if is_other_curve or (isinstance(key, RSAPublicKey) and key.key_size not in RSA_BITS):
        raise ResponseRejected("its key is of another kind")  # guard: test_a_bent_registration_is_refused


def _descriptor(passkey: Passkey) -> PublicKeyCredentialDescriptor:
    transports = [AuthenticatorTransport(each) for each in passkey.transports]
    return PublicKeyCredentialDescriptor(passkey.credential_id, transports=transports)
