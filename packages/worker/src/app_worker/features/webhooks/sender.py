"""Sends requests to addresses that strangers have chosen: public ones only, bounded in time and size (ADR-0082).

The name is looked up here, once, and the connection goes to a number that was judged: nobody can give another answer in
between. TLS asks the other side to prove the name.
"""

import asyncio
import socket
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address
from typing import Final
from uuid import UUID

import httpx2

from app_auth.features.webhooks.targets import may_reach
from app_db.features.webhooks.settings import WebhookSettings

SECONDS: Final = 10.0
"""For all of a request: the look-up of the name, the connection, and the answer."""
ANSWER_KEPT: Final = 1024
"""Bytes; nothing beyond is read."""
THREADS: Final = 4
"""For names: of a resolver that hangs, look-ups of others must not wait behind ours."""

type LookUp = Callable[[str], Awaitable[Sequence[str]]]


class Problem(StrEnum):
    """Why an event was not delivered."""

    NAME_UNKNOWN = "name_unknown"
    ADDRESS_REFUSED = "address_refused"
    NOT_CONNECTED = "not_connected"
    NOT_TRUSTED = "not_trusted"
    TIMED_OUT = "timed_out"
    BROKEN_OFF = "broken_off"
    REDIRECTED = "redirected"
    REFUSED = "refused"
    SECRET_LOST = "secret_lost"  # noqa: S105  # a problem, and no secret


class NameUnknown(Exception):
    """The name has no address."""


class AddressRefused(Exception):
    """The name leads to an address that is not public."""


@dataclass(slots=True)
class Answer:
    """What came back."""

    status: int | None = None
    problem: Problem | None = None
    body: bytearray = field(default_factory=bytearray)
    milliseconds: int = 0

    @property
    def text(self) -> str | None:
        """The beginning of the answer, as PostgreSQL can store it; None if there was none."""
        if self.status is None:
            return None
        return self.body[:ANSWER_KEPT].decode(errors="replace").replace("\0", "\ufffd")


class WebhookSender:
    """Sends events; it keeps no connection and no cookie, and follows no redirect."""

    def __init__(self, settings: WebhookSettings, *, look_up: LookUp | None = None, seconds: float = SECONDS) -> None:
        self._settings = settings
        self._threads = ThreadPoolExecutor(THREADS, "webhook-names")
        self._look_up: LookUp = look_up or self._ask_system
        self._seconds = seconds
        self._trusted: ssl.SSLContext | None = None
        self._sending: Counter[UUID] = Counter()

    def close(self) -> None:
        """Wait for no look-up."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def place(self, user_id: UUID) -> Iterator[bool]:
        """Tell the block whether it may send now: slow endpoints, or those of one account, must not take every slot."""
        most = self._settings.at_once
        is_free = self._sending.total() < most and self._sending[user_id] < (most + 1) // 2
        self._sending[user_id] += is_free
        try:
            yield is_free  # guard: test_slow_endpoints_leave_slots_to_other_jobs
        finally:
            self._sending[user_id] -= is_free
            self._sending += Counter()  # forgets accounts with none

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Post a body, and return what came back; it raises nothing that an endpoint could cause."""
        answer, began = Answer(), time.monotonic()
        try:
            async with asyncio.timeout(self._seconds):  # guard: test_an_endpoint_that_is_slow_is_given_up
                await self._post(url, headers, body, answer=answer)
        except (TimeoutError, NameUnknown, AddressRefused, httpx2.HTTPError, httpx2.InvalidURL) as error:
            if answer.status is None:
                answer.problem = _problem_of(error)
        answer.milliseconds = round((time.monotonic() - began) * 1000)
        return answer

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes, *, answer: Answer) -> None:
        request = httpx2.Request("POST", url, headers={**headers, "Connection": "close"}, content=body)
        host = request.url.host
        request.extensions["sni_hostname"] = host
        *first, last = await self._addresses_of(host)
        # A transport for each: a connection that is kept could serve another name, which it has not proved.
        async with httpx2.AsyncHTTPTransport(verify=await self._context(), trust_env=False) as transport:
            for address in first:
                try:
                    return await self._exchange(transport, request, address, answer=answer)
                except httpx2.ConnectError:
                    continue
            return await self._exchange(transport, request, last, answer=answer)

    async def _exchange(
        self, transport: httpx2.AsyncHTTPTransport, request: httpx2.Request, address: str, *, answer: Answer
    ) -> None:
        request.url = request.url.copy_with(host=address)  # the header Host keeps the name
        response = await transport.handle_async_request(request)
        try:
            answer.status, answer.problem = response.status_code, _judged(response)
            async for piece in response.aiter_raw():
                answer.body += piece
                if len(answer.body) >= ANSWER_KEPT:
                    break  # guard: test_an_answer_without_end_is_cut_off
        finally:
            await response.aclose()

    async def _addresses_of(self, host: str) -> Sequence[str]:
        """Return the numbers of a name, if each of them may be reached: a name with others is up to something."""
        try:
            numbers = [str(ip_address(host))]
        except ValueError:
            numbers = [*await self._look_up(host)]
        if not numbers:
            raise NameUnknown
        if not all(may_reach(ip_address(number), self._settings.allowed_networks) for number in numbers):
            raise AddressRefused  # guard: test_a_name_with_one_private_address_among_others_is_refused
        return numbers

    async def _ask_system(self, host: str) -> Sequence[str]:
        running = asyncio.get_running_loop().run_in_executor(self._threads, _numbers_of, host)
        try:
            return await running
        except (OSError, UnicodeError) as error:
            raise NameUnknown from error

    async def _context(self) -> ssl.SSLContext:
        if self._trusted is None:
            self._trusted = await asyncio.to_thread(_trusted, self._settings)
        return self._trusted


def _trusted(settings: WebhookSettings) -> ssl.SSLContext:
    context = httpx2.create_ssl_context(trust_env=False)
    if settings.authorities is not None:
        context.load_verify_locations(settings.authorities)
    return context


def _numbers_of(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [*dict.fromkeys(str(address[0]) for *_, address in found)]


def _judged(response: httpx2.Response) -> Problem | None:
    if response.is_success:
        return None
    return Problem.REDIRECTED if response.is_redirect else Problem.REFUSED


def _problem_of(error: Exception) -> Problem:
    match error:
        case TimeoutError():
            return Problem.TIMED_OUT
        case NameUnknown() | httpx2.InvalidURL():
            return Problem.NAME_UNKNOWN
        case AddressRefused():
            return Problem.ADDRESS_REFUSED
        case httpx2.ConnectError():
            return Problem.NOT_TRUSTED if "CERTIFICATE" in str(error) else Problem.NOT_CONNECTED
        case _:
            return Problem.BROKEN_OFF
