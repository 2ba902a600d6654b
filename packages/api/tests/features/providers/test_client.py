"""What is asked of a provider, and what of its answers is believed: spoken to over HTTP, with every answer bent."""

import asyncio
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from fastapi.responses import JSONResponse
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from app_api.features.providers.client import Answer, OpenId
from app_api.features.providers.discovery import LIFE
from app_api.features.providers.errors import ProviderUnavailable
from app_api.features.providers.keys import MOST_FETCHES
from app_auth.features.providers.errors import InvalidProviderAnswer, UnknownProvider
from app_auth.features.providers.identity import Identity
from app_auth.features.providers.states import Purpose, States
from app_db.features.providers.settings import ProviderSettings
from app_db.types import utcnow
from packages.api.tests.features.providers.forgeries import FORGERIES, segment, with_shared_secret
from packages.api.tests.features.providers.issuer import CLIENT_ID, Issuer, approve
from packages.api.tests.features.providers.journeys import BACK, SECRET, identity_of

WELL_KNOWN = "/.well-known/openid-configuration"


async def test_somebody_who_comes_back_is_who_the_provider_says(issuer: Issuer, openid: OpenId, states: States) -> None:
    assert await identity_of(openid, states) == Identity(issuer.url, issuer.person["sub"], "ada@example.test")


async def test_a_browser_is_sent_with_all_that_binds_the_answer(openid: OpenId, states: States) -> None:
    begun = states.begin("acme", Purpose.SIGN_IN, secret=SECRET, session_id=None, now=utcnow())

    address = await openid.address_for(openid.named("acme"), begun, redirect_uri=BACK, again=True)

    query = parse_qs(urlsplit(address).query)
    assert query["state"] == [begun.state]
    assert query["nonce"] == [begun.nonce]
    assert query["code_challenge"] == [begun.challenge]
    assert query["code_challenge_method"] == ["S256"]
    assert query["scope"] == ["openid email"]
    assert query["prompt"] == ["login"]


async def test_only_providers_of_the_settings_are_asked(openid: OpenId) -> None:
    with pytest.raises(UnknownProvider):
        openid.named("evil")


# --- whose answer it is: mix-up, replay ------------------------------------------------------------------------------


@pytest.mark.parametrize("named", ["https://evil.example", "", None])
async def test_an_answer_of_another_provider_is_refused(
    issuer: Issuer, openid: OpenId, states: States, named: str | None
) -> None:
    with pytest.raises(InvalidProviderAnswer):
        await identity_of(openid, states, issuer=named)

    assert "/token" not in issuer.asked  # the code is told to nobody


async def test_a_provider_that_does_not_say_that_it_names_itself_need_not(
    issuer: Issuer, openid: OpenId, states: States
) -> None:
    issuer.description = {"authorization_response_iss_parameter_supported": False}

    assert (await identity_of(openid, states, issuer=None)).issuer == issuer.url
    with pytest.raises(InvalidProviderAnswer):
        await identity_of(openid, states, issuer="https://evil.example")


async def test_a_code_is_good_once_and_for_who_began(issuer: Issuer, openid: OpenId, states: States) -> None:
    provider, now = openid.named("acme"), utcnow()
    begun = states.begin("acme", Purpose.SIGN_IN, secret=SECRET, session_id=None, now=now)
    another = states.begin("acme", Purpose.SIGN_IN, secret=SECRET, session_id=None, now=now)
    code = (await approve(await openid.address_for(provider, begun, redirect_uri=BACK)))["code"]
    for_whom = {"provider": "acme", "secret": SECRET, "session_id": None, "now": now}
    injected = states.read(another.state, Purpose.SIGN_IN, **for_whom)  # type: ignore[arg-type]  # of several types
    own = states.read(begun.state, Purpose.SIGN_IN, **for_whom)  # type: ignore[arg-type]  # of several types

    with pytest.raises(InvalidProviderAnswer):
        await openid.identity_behind(provider, Answer(code, issuer.url, BACK), injected)
    with pytest.raises(InvalidProviderAnswer):  # and it is used up, as the rules ask
        await openid.identity_behind(provider, Answer(code, issuer.url, BACK), own)


# --- what an ID token has to be --------------------------------------------------------------------------------------


PUBLIC = RSAKey.generate_key(2048, {"kid": "1"})
SHARED = OctKey.import_key(b"k" * 32, {"kid": "2"})


@pytest.mark.parametrize(
    "bent",
    [
        *(pytest.param(bent, id=name) for name, bent in FORGERIES.items()),
        pytest.param({"token": with_shared_secret(b"k" * 32), "keys": [SHARED.as_dict()]}, id="HS256, a published key"),
        pytest.param({"keys": []}, id="a key that is not published"),
        pytest.param({"keys": [{**PUBLIC.as_dict(private=False), "use": "enc"}]}, id="a key for encryption"),
        pytest.param(
            {"keys": [{**PUBLIC.as_dict(private=False), "alg": "PS256"}], "key": PUBLIC}, id="a key for PS256"
        ),
        pytest.param({"alg": "RS512"}, id="an algorithm that is not offered"),
        pytest.param({"token": lambda token: f"{token[:-8]}AAAAAAAA"}, id="a changed signature"),
        pytest.param({"token": lambda token: token + "." * 3}, id="no token at all"),
        pytest.param({"token": lambda _: "?.e30.x"}, id="no header"),
        pytest.param({"token": lambda _: f"{segment({'alg': ['RS256'], 'kid': '1'})}.e30.x"}, id="algorithms"),
        pytest.param({"token": lambda token: f"{token}{'A' * 70_000}"}, id="too long"),
        pytest.param({"header": {"crit": ["b64"], "b64": True}}, id="an extension that nobody knows"),
        pytest.param({"claims": {"iss": "https://evil.example"}}, id="another issuer"),
        pytest.param({"claims": {"iss": None}}, id="no issuer"),
        pytest.param({"claims": {"aud": None}}, id="no client"),
        pytest.param({"claims": {"aud": [CLIENT_ID, "another"]}}, id="two clients and no azp"),
        pytest.param({"claims": {"azp": "another"}}, id="given to another client"),
        pytest.param({"claims": {"aud": [CLIENT_ID, "x"], "azp": "x"}}, id="two clients, given to the other"),
        pytest.param({"claims": {"nonce": None}}, id="no sign-in"),
        pytest.param({"claims": {"nonce": "ä\ud800"}}, id="a sign-in that is no text"),
        pytest.param({"claims": {"exp": int(utcnow().timestamp()) - 61}}, id="expired"),
        pytest.param({"claims": {"exp": None}}, id="for ever"),
        pytest.param({"claims": {"exp": 1e400}}, id="until infinity"),
        pytest.param({"claims": {"exp": float("nan")}}, id="until no number"),
        pytest.param({"claims": {"exp": 10**400}}, id="until the end of time"),
        pytest.param({"claims": {"exp": True}}, id="until true"),
        pytest.param({"claims": {"exp": "2099-01-01"}}, id="until a text"),
        pytest.param({"claims": {"iat": None}}, id="from no time"),
        pytest.param({"claims": {"sub": None}}, id="nobody"),
        pytest.param({"claims": {"sub": ""}}, id="an empty name"),
        pytest.param({"claims": {"sub": "a\nb"}}, id="a name of two lines"),
        pytest.param({"claims": {"sub": 7}}, id="a number"),
        pytest.param({"claims": {"sub": "x" * 256}}, id="a name without end"),
    ],
)
async def test_what_is_not_from_the_provider_for_us_and_now_is_refused(
    issuer: Issuer, openid: OpenId, states: States, bent: dict[str, Any]
) -> None:
    vars(issuer).update(bent)

    with pytest.raises(InvalidProviderAnswer) as refused:
        await identity_of(openid, states)

    assert refused.type is InvalidProviderAnswer  # whatever was wrong, it is said in the same words


@pytest.mark.parametrize(
    "bent",
    [
        pytest.param({"moved": {"exp": -20}}, id="a slow clock"),
        pytest.param({"moved": {"iat": 20, "nbf": 20}}, id="a fast clock"),
        pytest.param({"claims": {"aud": [CLIENT_ID]}}, id="a list of one"),
        pytest.param({"claims": {"aud": [CLIENT_ID, "x"], "azp": CLIENT_ID}}, id="a list of two"),
        pytest.param({"header": {"kid": None}}, id="no key named"),
        pytest.param({"claims": {"groups": ["g" * 30] * 1000}}, id="a thousand groups"),
        pytest.param({"alg": "PS256"}, id="PS256"),
        pytest.param({"key": ECKey.generate_key("P-256", {"kid": "e"}), "alg": "ES256"}, id="ES256"),
        pytest.param({"key": OKPKey.generate_key("Ed25519", {"kid": "o"}), "alg": "EdDSA"}, id="EdDSA"),
        pytest.param(
            {
                "key": PUBLIC,
                "keys": [
                    {"kty": "EC", "crv": "P-1000", "kid": "0", "x": "AA", "y": "AA"}, {"kty": "X"}, 7, "x",
                    SHARED.as_dict(),
                    {**PUBLIC.as_dict(private=False), "use": "sig", "alg": "RS256"},
                ],
            },
            id="among keys that nobody knows",
        ),
        pytest.param({"description": {"token_endpoint_auth_methods_supported": ["client_secret_post"]}}, id="a form"),
        pytest.param({"description": {"id_token_signing_alg_values_supported": None}}, id="algorithms not said"),
    ],
)  # fmt: skip
async def test_what_providers_may_do_in_several_ways_is_accepted(
    issuer: Issuer, openid: OpenId, states: States, bent: dict[str, Any]
) -> None:
    vars(issuer).update(bent)

    assert (await identity_of(openid, states)).subject == issuer.person["sub"]


async def test_a_client_without_a_secret_names_itself_in_the_form(
    issuer: Issuer, states: States, http: httpx2.AsyncClient
) -> None:
    issuer.secret = None
    openid = OpenId(ProviderSettings(openid=(issuer.provider,)), http)

    assert (await identity_of(openid, states)).subject == issuer.person["sub"]


# --- keys that change ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kid", "header"), [("2", {}), ("1", {}), ("2", {"kid": None})], ids=["its own id", "the same id", "not named"]
)
async def test_a_new_key_of_the_provider_is_found_at_once(
    issuer: Issuer, openid: OpenId, states: States, kid: str, header: dict[str, None]
) -> None:
    issuer.header = dict(header)
    await identity_of(openid, states)
    issuer.key = RSAKey.generate_key(2048, {"kid": kid})

    await identity_of(openid, states)
    await identity_of(openid, states)

    assert issuer.asked.count("/keys") == 2


async def test_keys_that_could_not_be_had_are_asked_for_again(issuer: Issuer, openid: OpenId, states: States) -> None:
    issuer.answers = {"/keys": lambda: JSONResponse({}, 503)}
    for _ in range(MOST_FETCHES + 1):
        with pytest.raises(ProviderUnavailable):
            await identity_of(openid, states)
    issuer.answers = {}

    await identity_of(openid, states)  # at once


async def test_keys_are_not_fetched_without_end(issuer: Issuer, openid: OpenId, states: States) -> None:
    issuer.keys = []
    for _ in range(8):
        with pytest.raises(InvalidProviderAnswer):
            await identity_of(openid, states)

    assert issuer.asked.count("/keys") == MOST_FETCHES


async def test_requests_at_once_fetch_the_keys_once(issuer: Issuer, openid: OpenId, states: States) -> None:
    await asyncio.gather(*(identity_of(openid, states) for _ in range(8)))

    assert issuer.asked.count("/keys") == 1


async def test_descriptions_and_keys_are_asked_for_again_after_an_hour(
    issuer: Issuer, states: States, provider_settings: ProviderSettings, http: httpx2.AsyncClient
) -> None:
    time = 0.0
    openid = OpenId(provider_settings, http, clock=lambda: time)
    await identity_of(openid, states)
    time = LIFE - 1
    await identity_of(openid, states)
    assert (issuer.asked.count("/keys"), issuer.asked.count(WELL_KNOWN)) == (1, 1)

    time = LIFE
    await identity_of(openid, states)

    assert (issuer.asked.count("/keys"), issuer.asked.count(WELL_KNOWN)) == (2, 2)
