"""A provider that is down, frozen or broken: a clear refusal in time, and nobody else has to wait for it."""

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse

from app_api.features.providers.client import OpenId
from app_api.features.providers.errors import ProviderUnavailable
from app_api.features.providers.names import THREADS, NamedTransport, authorities
from app_api.features.providers.resources import resources
from app_auth.features.providers.states import Purpose, States
from app_db.features.providers.settings import ProviderSettings
from app_db.types import utcnow
from packages.api.tests.features.providers.issuer import Issuer
from packages.api.tests.features.providers.journeys import BACK, SECRET, identity_of

WELL_KNOWN = "/.well-known/openid-configuration"
QUICK = timedelta(seconds=0.5)


def without_end() -> StreamingResponse:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b"[" * 10_000
            await asyncio.sleep(0.01)  # so that the server notices that nobody reads on

    return StreamingResponse(pieces(), media_type="application/json")


@pytest.mark.parametrize("path", [WELL_KNOWN, "/token", "/keys"])
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda: HTMLResponse("<h1>Bad gateway</h1>", 502), id="502"),
        pytest.param(lambda: HTMLResponse("<h1>Please sign in to this network</h1>"), id="a page"),
        pytest.param(without_end, id="without end"),
        pytest.param(lambda: Response(b"{" * 100_000, media_type="application/json"), id="too deep"),
        pytest.param(lambda: JSONResponse([]), id="a list"),
        pytest.param(lambda: JSONResponse({}, headers={"Content-Encoding": "gzip"}), id="compressed"),
        pytest.param(lambda: RedirectResponse("http://127.0.0.1:1/"), id="elsewhere"),
        pytest.param(lambda: Response(status_code=204), id="nothing"),
        pytest.param(lambda: JSONResponse({}, 404), id="not found"),
    ],
)
async def test_what_is_no_answer_is_an_outage_of_the_provider(
    issuer: Issuer, openid: OpenId, states: States, path: str, answer: Any
) -> None:
    issuer.answers = {path: answer}

    with pytest.raises(ProviderUnavailable):
        await identity_of(openid, states)


@pytest.mark.parametrize(
    "said",
    [
        {"issuer": "https://evil.example"},
        {"issuer": None},
        {"token_endpoint": None},
        {"token_endpoint": "http://elsewhere.example/token"},
        {"token_endpoint": "https://user@elsewhere.example/token"},
        {"token_endpoint": "https://a.example/token?a=\u00e4"},
        {"jwks_uri": "file:///etc/passwd"},
        {"authorization_endpoint": ["https://a.example"]},
        {"id_token_signing_alg_values_supported": ["HS256", "none", 7]},
    ],
)
async def test_a_description_of_another_is_refused(
    issuer: Issuer, openid: OpenId, states: States, said: dict[str, Any]
) -> None:
    issuer.description = said

    with pytest.raises(ProviderUnavailable):
        await identity_of(openid, states)


async def test_our_own_secret_is_wrong_is_an_outage_and_no_fault_of_who_signs_in(
    issuer: Issuer, openid: OpenId, states: States
) -> None:
    issuer.answers = {"/token": lambda: JSONResponse({"error": "invalid_client"}, 401)}

    with pytest.raises(ProviderUnavailable):
        await identity_of(openid, states)


async def test_an_answer_without_end_is_given_up(issuer: Issuer, openid: OpenId, states: States) -> None:
    issuer.answers = {"/keys": without_end}

    async with asyncio.timeout(5):
        with pytest.raises(ProviderUnavailable):
            await identity_of(openid, states)


@pytest.mark.parametrize("path", [WELL_KNOWN, "/token", "/keys"])
async def test_a_provider_that_is_frozen_is_given_up(
    issuer: Issuer, provider_settings: ProviderSettings, http: httpx2.AsyncClient, states: States, path: str
) -> None:
    openid = OpenId(provider_settings.model_copy(update={"timeout": QUICK}), http)
    issuer.frozen = {path}

    async with asyncio.timeout(5):  # the client of these tests itself would give up after ten seconds
        with pytest.raises(ProviderUnavailable):
            await identity_of(openid, states)


async def test_a_frozen_provider_takes_no_more_than_its_share(
    issuer: Issuer, provider_settings: ProviderSettings, http: httpx2.AsyncClient, states: States
) -> None:
    openid = OpenId(provider_settings.model_copy(update={"timeout": QUICK, "most_waiting": 2}), http)
    issuer.frozen = {WELL_KNOWN}
    begun = states.begin("acme", Purpose.SIGN_IN, secret=SECRET, session_id=None, now=utcnow())
    ended: list[str] = []

    async def ask(name: str) -> None:
        with pytest.raises(ProviderUnavailable):
            await openid.address_for(openid.named("acme"), begun, redirect_uri=BACK)
        ended.append(name)

    await asyncio.gather(ask("waits"), ask("waits"), ask("one too many"))

    assert ended[0] == "one too many"
    issuer.frozen = set()
    await openid.address_for(openid.named("acme"), begun, redirect_uri=BACK)  # all places are free again


async def test_a_provider_that_is_down_is_an_outage(provider_settings: ProviderSettings, states: States) -> None:
    [provider] = provider_settings.openid
    gone = ProviderSettings(openid=(provider.model_copy(update={"issuer": "http://127.0.0.1:1"}),))
    async for openid in resources(gone):
        begun = states.begin("acme", Purpose.SIGN_IN, secret=SECRET, session_id=None, now=utcnow())

        with pytest.raises(ProviderUnavailable):
            await openid.address_for(openid.named("acme"), begun, redirect_uri=BACK)


# --- names -----------------------------------------------------------------------------------------------------------


async def test_a_name_that_nobody_knows_is_an_outage_of_the_provider(
    provider_settings: ProviderSettings, http: httpx2.AsyncClient, states: States
) -> None:
    [provider] = provider_settings.openid
    openid = OpenId(ProviderSettings(openid=(provider.model_copy(update={"issuer": "https://nobody.invalid"}),)), http)
    begun = states.begin("acme", Purpose.SIGN_IN, secret=SECRET, session_id=None, now=utcnow())

    with pytest.raises(ProviderUnavailable):
        await openid.address_for(openid.named("acme"), begun, redirect_uri=BACK)


async def test_a_name_is_asked_at_each_of_its_addresses_until_one_answers(issuer: Issuer) -> None:
    class TwoAddresses(NamedTransport):
        async def _addresses_of(self, host: str) -> list[str]:
            assert host == "localhost"
            return ["127.0.0.99", *await super()._addresses_of("127.0.0.1")]  # nobody listens at the first

    async with httpx2.AsyncClient(transport=TwoAddresses(), timeout=5) as http:
        answer = await http.get(f"{issuer.url.replace('127.0.0.1', 'localhost')}/keys")

    assert answer.json() == issuer.published()


async def test_a_name_of_this_machine_is_found(issuer: Issuer, http: httpx2.AsyncClient) -> None:
    answer = await http.get(f"{issuer.url.replace('127.0.0.1', 'localhost')}/keys")

    assert answer.json() == issuer.published()


async def test_names_that_get_no_answer_hold_up_no_other_look_up(issuer: Issuer) -> None:
    """On uvloop two of them would stop every other look-up of the process."""
    transport, gate = NamedTransport(), threading.Event()
    loop = asyncio.get_running_loop()
    stuck = [loop.run_in_executor(transport._threads, gate.wait) for _ in range(THREADS)]
    async with httpx2.AsyncClient(transport=transport) as http:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await http.get("http://localhost:1/")

        assert await loop.getaddrinfo("localhost", None)
        assert (await http.get(f"{issuer.url}/keys")).status_code == 200  # a number needs no look-up
        gate.set()
        await asyncio.gather(*stuck)


async def test_the_certificates_of_the_authorities_are_read_once() -> None:
    authorities.cache_clear()
    for _ in range(2):
        async with NamedTransport() as transport:
            with pytest.raises(httpx2.ConnectError):
                await transport.handle_async_request(httpx2.Request("GET", "https://127.0.0.1:1/"))

    assert authorities.cache_info().misses == 1


async def test_nobody_who_asks_no_provider_reads_the_certificates() -> None:
    authorities.cache_clear()
    async with NamedTransport():
        pass

    assert authorities.cache_info().misses == 0
