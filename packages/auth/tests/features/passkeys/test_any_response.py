"""Strangers choose each byte of a response: it is taken, or rejected, and never a fault of ours."""

import contextlib
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import cbor2
from hypothesis import given, settings
from hypothesis import strategies as st

from app_auth.features.passkeys.ceremonies import challenge_in, creation_options, verify_registration, verify_sign_in
from app_auth.features.passkeys.errors import ResponseRejected
from app_auth.features.passkeys.relying_party import RelyingParty
from app_auth.features.passkeys.responses import RegistrationResponse, SignInResponse, handle_of
from app_db.features.passkeys.models import Passkey
from app_db.types import new_id
from packages.auth.tests.features.passkeys.authenticator import ORIGIN, Authenticator, Json, decoded, encoded

PARTY = RelyingParty("localhost", (ORIGIN,), "Shop")
CHALLENGE = b"c" * 56
USER = new_id()
DEVICE = Authenticator()
OPTIONS = creation_options(PARTY, user_id=USER, email="ada@example.test", challenge=CHALLENGE, existing=[])
CREATED = DEVICE.create(OPTIONS, format="packed")
FEW = 150
EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", FEW))
many = settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES == FEW, database=None)


def registration(created: Json, **changed: bytes) -> RegistrationResponse:
    response = created["response"]
    parts: dict[str, Any] = {
        "credential_id": decoded(created["id"]),
        "client_data": decoded(response["clientDataJSON"]),
        "attestation": decoded(response["attestationObject"]),
    }
    return RegistrationResponse(**{**parts, **changed})


def sign_in(**changed: bytes) -> SignInResponse:
    used = DEVICE.get({"challenge": encoded(CHALLENGE)})
    response = used["response"]
    parts: dict[str, Any] = {
        "credential_id": decoded(used["id"]),
        "client_data": decoded(response["clientDataJSON"]),
        "authenticator_data": decoded(response["authenticatorData"]),
        "signature": decoded(response["signature"]),
        "user_handle": handle_of(USER),
    }
    return SignInResponse(**{**parts, **changed})


def register(response: RegistrationResponse) -> Passkey:
    return verify_registration(PARTY, response, challenge=CHALLENGE, user_id=USER, name="Laptop")


GENUINE = registration(CREATED)
PASSKEY = register(GENUINE)

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=40) | st.text(max_size=10)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers() | st.text(max_size=8), inner)
)
keys = st.dictionaries(st.sampled_from((1, 3, -1, -2, -3)), values | st.sampled_from((1, 2, 3, 6, 7, -7, -8, -257)))


def changed(genuine: bytes) -> st.SearchStrategy[bytes]:
    """Bytes that differ from genuine ones in a place, end early, or go on."""

    def flipped(place: tuple[int, int]) -> bytes:
        at, byte = place[0] % len(genuine), place[1]
        return genuine[:at] + bytes([byte]) + genuine[at + 1 :]

    places = st.tuples(st.integers(0, len(genuine)), st.integers(0, 255))
    return (
        places.map(flipped)
        | st.integers(0, len(genuine)).map(lambda end: genuine[:end])
        | st.binary(max_size=20).map(lambda more: genuine + more)
        | st.binary(max_size=200)
        | values.map(cbor2.dumps)
    )


def attested(key: Any) -> bytes:  # Any: CBOR
    """A response with any key in the place of the genuine one."""
    return decoded(Authenticator().create(OPTIONS, public_key=cbor2.dumps(key))["response"]["attestationObject"])


def require_no_fault(verify: Callable[[], object]) -> None:
    with contextlib.suppress(ResponseRejected):
        verify()


@many
@given(
    attestation=changed(GENUINE.attestation) | (keys | values).map(attested), client_data=changed(GENUINE.client_data)
)
def test_no_response_is_a_fault_of_ours(attestation: bytes, client_data: bytes) -> None:
    require_no_fault(lambda: register(registration(CREATED, attestation=attestation)))
    require_no_fault(lambda: register(registration(CREATED, client_data=client_data)))
    require_no_fault(lambda: challenge_in(client_data))


@many
@given(
    data=changed(sign_in().authenticator_data), signature=changed(sign_in().signature), handle=st.binary(max_size=64)
)
def test_no_sign_in_is_a_fault_of_ours(data: bytes, signature: bytes, handle: bytes) -> None:
    for response in (sign_in(authenticator_data=data), sign_in(signature=signature), sign_in(user_handle=handle)):
        require_no_fault(partial(verify_sign_in, PARTY, response, challenge=CHALLENGE, passkey=PASSKEY))


@many
@given(key=keys | values)
def test_no_stored_key_is_a_fault_of_ours(key: Any) -> None:  # Any: CBOR
    stored = Passkey(user_id=USER, public_key=cbor2.dumps(key), backup_eligible=True)

    require_no_fault(lambda: verify_sign_in(PARTY, sign_in(), challenge=CHALLENGE, passkey=stored))


def test_a_genuine_sign_in_is_taken() -> None:
    assert verify_sign_in(PARTY, sign_in(), challenge=CHALLENGE, passkey=PASSKEY).sign_count == 0
