"""Passkeys over HTTP: added by their owner, with what a browser has made for this session and with nothing else."""

import asyncio
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from httpx2 import AsyncClient

from app_api.testing import SignedIn, assert_problem
from app_auth.auth import Auth
from app_auth.features.passkeys.challenges import LIFE, Challenges, Purpose
from app_auth.principal import Principal
from app_auth.testing import MakeAccount, SignIn
from app_db import Database
from app_db.models import Role
from app_db.types import utcnow
from packages.api.tests.features.passkeys.conftest import MakeOlder, Passkeys, events_of, notices_of
from packages.auth.tests.features.passkeys.authenticator import (
    AT,
    BE,
    BS,
    UP,
    UV,
    Algorithm,
    Authenticator,
    Credential,
    cose,
    decoded,
    encoded,
)


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "RS256"])
@pytest.mark.parametrize("attestation", ["none", "packed"])
async def test_a_passkey_is_added(
    passkeys: Passkeys, signed_in: SignedIn, algorithm: Algorithm, attestation: str
) -> None:
    device = Authenticator(algorithm)
    options = await passkeys.options(signed_in)

    added = await passkeys.finish(signed_in, device.create(options, format=attestation), name="  Ada's laptop ")

    assert added.status_code == 201, added.text
    assert added.json() == {
        "id": added.json()["id"],
        "name": "Ada's laptop",
        "created_at": added.json()["created_at"],
        "last_used_at": None,
        "backed_up": True,
    }
    assert await passkeys.all(signed_in) == [added.json()]


async def test_the_options_ask_for_a_verified_user_and_show_nothing_of_the_account(
    passkeys: Passkeys, signed_in: SignedIn
) -> None:
    device = Authenticator()
    await passkeys.add(signed_in, device)

    options = await passkeys.options(signed_in)

    assert options["rp"] == {"id": "localhost", "name": "Groundwork"}
    assert options["authenticatorSelection"] == {
        "residentKey": "required",
        "requireResidentKey": True,
        "userVerification": "required",
    }
    assert options["attestation"] == "none"
    assert [each["alg"] for each in options["pubKeyCredParams"]] == [-7, -8, -257]
    assert options["user"]["name"] == signed_in.account.email
    handle = decoded(options["user"]["id"])
    assert len(handle) == 32
    assert signed_in.account.id.bytes not in handle
    assert [each["id"] for each in options["excludeCredentials"]] == [encoded(device.credentials[0].id)]
    assert (await passkeys.options(signed_in))["user"] == options["user"]
    assert (await passkeys.options(signed_in))["challenge"] != options["challenge"]


P384 = ec.generate_private_key(ec.SECP384R1())
SHORT_RSA = rsa.generate_private_key(65537, 1024)
OFF_CURVE = cbor2.dumps({1: 2, 3: -7, -1: 1, -2: bytes(31) + b"\1", -3: bytes(31) + b"\1"})
BENT = {
    "another origin": {"origin": "https://evil.example"},
    "another port": {"origin": "http://localhost:8001"},
    "an origin that begins alike": {"origin": "http://localhost:8000.evil.example"},
    "no text for an origin": {"origin": ["http://localhost:8000"]},
    "another domain": {"rp_id": "evil.example"},
    "another ceremony": {"type": "webauthn.get"},
    "another type": {"type": "payment.create"},
    "in a frame": {"cross_origin": True},
    "nobody there": {"flags": UV | AT | BE},
    "nobody verified": {"flags": UP | AT | BE},
    "nothing attested": {"flags": UP | UV | BE},
    "copied, and no copies allowed": {"flags": UP | UV | AT | BS},
    "another challenge": {"challenge": encoded(b"x" * 56)},
    "a short challenge": {"challenge": ""},
    "no text for a challenge": {"challenge": 1},
    "another id": {"shown_id": b"x" * 32},
    "a long id": {"id_bytes": 1024},
    "no id": {"id_bytes": 0},
    "another curve": {"public_key": cose(P384)},
    "a point on no curve": {"public_key": OFF_CURVE},
    "a short key": {"public_key": cose(SHORT_RSA)},
    "an algorithm that nobody asked for": {"public_key": cbor2.dumps({1: 2, 3: -35, -1: 2, -2: b"x", -3: b"y"})},
    "no algorithm": {"public_key": cbor2.dumps({1: 2})},
    "no key": {"public_key": b""},
    "no map for a key": {"public_key": cbor2.dumps([1, 2])},
    "an attestation of another": {"format": "packed", "statement": {"alg": -7, "sig": b"x"}},
    "the certificate of its maker": {"format": "packed", "certified": True},
    "an attestation of a TPM": {"format": "tpm"},
    "an attestation of no format": {"format": 7},
    "a statement of none": {"statement": {"sig": b"x"}},
    "no statement": {"format": "packed", "statement": 7},
    "no CBOR": {"attestation": b"\xff"},
    "deep CBOR": {"attestation": b"\x81" * 20_000},
    "CBOR that is no map": {"attestation": cbor2.dumps([])},
    "an empty map": {"attestation": cbor2.dumps({})},
    "short data": {"attestation": cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": b"x" * 36})},
    "no bytes for data": {"attestation": cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": "x"})},
    "no JSON": {"client_data": b"{"},
    "JSON that is no object": {"client_data": b"[]"},
    "JSON without members": {"client_data": b"{}"},
    "JSON that is no UTF-8": {"client_data": b"\xff"},
    "deep JSON": {"client_data": b"[" * 20_000},
}


@pytest.mark.parametrize("bent", BENT.values(), ids=BENT.keys())
async def test_a_bent_registration_is_refused(
    passkeys: Passkeys, signed_in: SignedIn, bent: dict[str, Any], database: Database
) -> None:
    credential = Authenticator().create(await passkeys.options(signed_in), **bent)

    assert_problem(await passkeys.finish(signed_in, credential), 400, "passkey_not_added")

    assert await passkeys.all(signed_in) == []
    assert await notices_of(database, signed_in) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"id": "a"},  # no length that base64url has
        {"id": "§"},
        {"id": "a=="},
        {"type": "password"},
        {"response": {}},
        {"response": {"clientDataJSON": "", "attestationObject": None}},
        {"response": {"clientDataJSON": "x" * 50_000, "attestationObject": ""}},
    ],
)
async def test_what_is_no_credential_is_not_valid(
    passkeys: Passkeys, signed_in: SignedIn, changed: dict[str, Any]
) -> None:
    credential = Authenticator().create(await passkeys.options(signed_in)) | changed

    assert_problem(await passkeys.finish(signed_in, credential), 422, "validation_failed")


async def test_a_challenge_of_a_registration_is_taken_once(passkeys: Passkeys, signed_in: SignedIn) -> None:
    options = await passkeys.options(signed_in)
    credential = Authenticator().create(options)
    assert (await passkeys.finish(signed_in, credential)).status_code == 201
    removed = await passkeys.client.delete(
        f"/auth/passkeys/{(await passkeys.all(signed_in))[0]['id']}", headers=signed_in.headers
    )
    assert removed.status_code == 204

    again = [await passkeys.finish(signed_in, each) for each in (credential, Authenticator().create(options))]

    for response in again:
        assert_problem(response, 400, "passkey_not_added")


async def test_of_parallel_answers_to_one_challenge_one_is_taken(passkeys: Passkeys, signed_in: SignedIn) -> None:
    options = await passkeys.options(signed_in)

    answers = [passkeys.finish(signed_in, Authenticator().create(options)) for _ in range(6)]
    statuses = sorted(response.status_code for response in await asyncio.gather(*answers))

    assert statuses == [201] + [400] * 5


async def test_a_challenge_of_others_is_refused(
    passkeys: Passkeys, signed_in: SignedIn, make_account: MakeAccount, sign_in: SignIn
) -> None:
    ben = await make_account()
    another = SignedIn(ben, await sign_in(ben))
    elsewhere = SignedIn(signed_in.account, await sign_in(signed_in.account))

    for holder in (another, elsewhere):
        credential = Authenticator().create(await passkeys.options(holder))
        assert_problem(await passkeys.finish(signed_in, credential), 400, "passkey_not_added")


async def test_an_old_challenge_is_refused(
    passkeys: Passkeys, signed_in: SignedIn, auth: Auth, database: Database
) -> None:
    claims = auth.access_tokens.verify(signed_in.tokens.access_token)
    holder = Principal(claims.user_id, "", Role.USER, claims.session_id, utcnow())
    options = await passkeys.options(signed_in)
    statuses = []
    for age in (LIFE.total_seconds() - 60, LIFE.total_seconds() + 1):
        made = utcnow().timestamp() - age
        at = utcnow().fromtimestamp(made, utcnow().tzinfo)
        challenge = Challenges(auth.settings).make(Purpose.REGISTRATION, now=at, holder=holder)
        credential = Authenticator().create({**options, "challenge": encoded(challenge)})
        statuses.append((await passkeys.finish(signed_in, credential)).status_code)

    assert statuses == [201, 400]


async def test_a_passkey_is_added_only_after_a_fresh_sign_in(
    passkeys: Passkeys, signed_in: SignedIn, make_older: MakeOlder
) -> None:
    options = await passkeys.options(signed_in)
    await make_older(signed_in)

    refused = await passkeys.client.post("/auth/passkeys/options", headers=signed_in.headers)

    assert_problem(refused, 403, "reauthentication_required")
    begun_in_time = await passkeys.finish(signed_in, Authenticator().create(options))
    assert begun_in_time.status_code == 201


async def test_a_passkey_of_one_account_is_none_of_another(
    passkeys: Passkeys, signed_in: SignedIn, make_account: MakeAccount, sign_in: SignIn
) -> None:
    ben = await make_account()
    another = SignedIn(ben, await sign_in(ben))
    device = Authenticator()
    await passkeys.add(signed_in, device)
    theirs: Credential = device.credentials[0]

    options = await passkeys.options(another)
    copy = Authenticator()
    response = copy.create(options)
    taken = rewritten(copy, response, theirs.id, options)

    assert_problem(await passkeys.finish(another, taken), 409, "passkey_taken")


def rewritten(device: Authenticator, response: dict[str, Any], credential_id: bytes, options: Any) -> dict[str, Any]:
    """Return a response whose authenticator chose the id of another passkey."""
    attestation = cbor2.loads(decoded(response["response"]["attestationObject"]))
    own = device.credentials[-1].id
    attestation["authData"] = attestation["authData"].replace(own, credential_id)
    inner = {**response["response"], "attestationObject": encoded(cbor2.dumps(attestation))}
    return {**response, "id": encoded(credential_id), "response": inner}


async def test_adding_and_removing_a_passkey_is_audited_and_told_to_the_owner(
    passkeys: Passkeys, signed_in: SignedIn, database: Database
) -> None:
    passkey = await passkeys.add(signed_in)
    await passkeys.client.delete(f"/auth/passkeys/{passkey['id']}", headers=signed_in.headers)

    about = {"passkey": passkey["id"]}
    assert await events_of(database, signed_in) == [("passkey_added", about), ("passkey_removed", about)]
    assert await notices_of(database, signed_in) == ["passkey_added", "passkey_removed"]


async def test_who_is_not_signed_in_has_no_passkeys(client: AsyncClient) -> None:
    for method, path in (("GET", ""), ("POST", "/options"), ("POST", "")):
        response = await client.request(method, f"/auth/passkeys{path}")
        assert_problem(response, 401, "not_authenticated")
