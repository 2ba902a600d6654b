"""GET /.well-known/jwks.json: other services verify our tokens by it alone."""

from datetime import date

import pytest
from httpx2 import AsyncClient
from joserfc import jwt
from joserfc.errors import BadSignatureError
from joserfc.jwk import KeySet

from app_api.settings import ApiSettings
from app_api.testing import open_client
from app_auth.keys import new_key
from app_auth.settings import Algorithm
from app_auth.testing import Account
from packages.api.tests.conftest import app_of

PATH = "/.well-known/jwks.json"


def signing(settings: ApiSettings, *algorithms: Algorithm) -> ApiSettings:
    """Return settings with a key of each algorithm; the first one signs."""
    first, *others = (new_key(date(2026, 11, 30), alg=alg) for alg in algorithms)
    keys = (first, *(key.model_copy(update={"state": "verify"}) for key in others))
    return settings.model_copy(update={"auth": settings.auth.model_copy(update={"keys": keys})})


# RFC 9864 names the curve instead (Ed25519), which PyJWT does not know yet.
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated:joserfc.errors.SecurityWarning")
@pytest.mark.parametrize("algorithms", [("EdDSA", "ES256", "HS256"), ("ES256", "EdDSA")])
async def test_a_token_is_verified_by_the_key_set_alone(
    api_settings: ApiSettings, ada: Account, algorithms: tuple[Algorithm, ...]
) -> None:
    settings = signing(api_settings, *algorithms)
    async with open_client(app_of(settings)) as client:
        form = {"username": ada.email, "password": ada.password}
        token = (await client.post("/auth/access-token", data=form)).json()["access_token"]
        answer = await client.get(PATH)
        me = await client.get("/auth/me", headers={"Authorization": f"Bearer {token}"})

    keys = KeySet.import_key_set(answer.json())
    verified = jwt.decode(token, keys, algorithms=[algorithms[0]])

    assert verified.claims["sub"] == me.json()["user_id"] == str(ada.id)
    assert verified.header["typ"] == "at+jwt"
    assert len(keys.keys) == 2
    with pytest.raises(BadSignatureError):
        jwt.decode(f"{token[:-8]}AAAAAAAA", keys, algorithms=[algorithms[0]])


async def test_the_key_set_may_be_kept_and_says_when_it_is_the_same(api_settings: ApiSettings) -> None:
    async with open_client(app_of(signing(api_settings, "EdDSA"))) as client:
        first = await client.get(PATH)
        tag = first.headers["ETag"]
        same = [await client.get(PATH, headers={"If-None-Match": text}) for text in (tag, f'W/"x", {tag}', "*")]
        other = await client.get(PATH, headers={"If-None-Match": '"another"'})
        head = await client.head(PATH)

    assert first.headers["Cache-Control"] == "public, max-age=300"
    assert {(answer.status_code, answer.content, answer.headers["ETag"]) for answer in same} == {(304, b"", tag)}
    assert (other.status_code, head.status_code, head.headers["ETag"]) == (200, 200, tag)


async def test_where_all_keys_are_secrets_the_set_is_empty(client: AsyncClient) -> None:
    answer = await client.get(PATH)

    assert (answer.status_code, answer.json()) == (200, {"keys": []})
