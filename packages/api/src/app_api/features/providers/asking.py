"""Asks providers: bounded in time, in size and in number; an answer is JSON, or the provider is not available."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2
import structlog

from app_api.features.providers.errors import ProviderUnavailable
from app_db.features.providers.settings import ProviderSettings

log = structlog.get_logger(__name__)

MOST_BYTES: Final = 256 * 1024
OK: Final = 200
# Compressed, a small answer could be a large one.
HEADERS: Final = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "groundwork"}

type Json = Mapping[str, Any]  # Any: JSON


class Unreadable(Exception):
    """An answer that cannot be used; the message says why."""


class Asking:
    """Sends requests to providers. It follows no redirect: whoever answers is who was asked."""

    def __init__(self, settings: ProviderSettings, http: httpx2.AsyncClient) -> None:
        self._seconds = settings.timeout.total_seconds()
        self._most = settings.most_waiting
        self._http = http
        self._waiting = 0

    @asynccontextmanager
    async def bounded(self, provider: str) -> AsyncIterator[None]:
        """Bound all that one request asks of a provider: in time, and in how many requests do so at once.

        Raises:
            ProviderUnavailable: it took too long, or too many wait already; nobody else has to wait for a place then.
        """
        if self._waiting >= self._most:
            raise ProviderUnavailable  # guard: test_a_frozen_provider_takes_no_more_than_its_share
        self._waiting += 1
        try:
            async with asyncio.timeout(self._seconds):  # guard: test_a_provider_that_is_frozen_is_given_up
                yield
        except (TimeoutError, httpx2.HTTPError, httpx2.InvalidURL, Unreadable) as error:
            log.warning("provider_unavailable", provider=provider, cause=repr(error)[:200])
            raise ProviderUnavailable from error
        finally:
            self._waiting -= 1

    async def get(self, url: str, *, token: str | None = None) -> Json:
        """Return the JSON object at an address, shown the token. To be called within `bounded`, as all methods."""
        proof = {} if token is None else {"Authorization": f"Bearer {token}"}
        status, document = await self._send("GET", url, headers=HEADERS | proof)
        if status != OK:
            raise Unreadable(f"status {status}")
        return document

    async def post(self, url: str, form: Mapping[str, str], *, auth: tuple[str, str] | None) -> tuple[int, Json]:
        """Send a form; return the status and the JSON object of the answer."""
        return await self._send("POST", url, headers=HEADERS, data=form, auth=auth)

    async def _send(self, method: str, url: str, **parts: Any) -> tuple[int, Json]:  # Any: of httpx2
        async with self._http.stream(method, url, **parts) as response:
            if response.is_redirect or response.is_server_error:
                raise Unreadable(f"status {response.status_code}")
            if "content-encoding" in response.headers:
                raise Unreadable("it is compressed, which nobody asked for")
            body = bytearray()
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > MOST_BYTES:
                    raise Unreadable("it is too large")  # guard: test_an_answer_without_end_is_given_up
            return response.status_code, _object_in(bytes(body))


def _object_in(body: bytes) -> Json:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise Unreadable("it is no JSON") from None
    if not isinstance(document, dict):
        raise Unreadable("it is no JSON object")
    return document
