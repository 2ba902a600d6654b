"""Clients that use the API while hosts are lost, and keep each answer."""

import asyncio
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Self

from httpx2 import AsyncClient, HTTPError

from app_auth.testing import PASSWORD
from app_db.types import new_id
from tests.e2e.http_site import NO_HANG

CLIENTS = 6
PAUSE = 0.05
"""Seconds between two requests of a client."""
BREAK = 0
"""The status of a request that got no answer at all."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one request, as its client saw it."""

    route: str
    status: int
    seconds: float
    at: float
    says_when: bool
    """Whether a refusal says after how long to try again."""

    @property
    def is_good(self) -> bool:
        return self.status in {200, 201}


@dataclass(frozen=True, slots=True)
class Act:
    """One loss, from the moment it happened until the next act."""

    name: str
    began: float
    answers: list[Answer] = field(default_factory=list)

    @property
    def statuses(self) -> Counter[int]:
        """How often the API answered with each status."""
        return Counter(answer.status for answer in self.answers)

    @property
    def refused_for(self) -> float:
        """Seconds from the loss to the end of the last request that failed."""
        return max((answer.at - self.began for answer in self.answers if not answer.is_good), default=0.0)

    @property
    def longest_gap(self) -> float:
        """Seconds of the longest time in which no request succeeded, since the loss or between two that did."""
        good = sorted(answer.at for answer in self.answers if answer.is_good)
        return max((later - earlier for earlier, later in pairwise([self.began, *good])), default=0.0)

    @property
    def longest(self) -> float:
        """Seconds of the slowest request, whether it succeeded or failed."""
        return max((answer.seconds for answer in self.answers), default=0.0)

    @property
    def goes_on(self) -> bool:
        """Whether the last request of each route succeeded."""
        last = {answer.route: answer for answer in sorted(self.answers, key=lambda answer: answer.at)}
        return bool(last) and all(answer.is_good for answer in last.values())

    def __str__(self) -> str:
        failed = [answer for answer in self.answers if not answer.is_good]
        by_status = Counter(answer.status or "broken off" for answer in failed)
        what = ", ".join(f"{status}: {times}" for status, times in by_status.items()) or "none"
        return (
            f"{self.name}: {len(failed)} of {len(self.answers)} requests failed ({what}), the last one"
            f" {self.refused_for:.1f} s after the loss; none succeeded for {self.longest_gap:.1f} s;"
            f" slowest {self.longest:.1f} s"
        )


class Load:
    """Clients that register a new user, then ask /auth/me, again and again."""

    def __init__(self, url: str, *, token: str) -> None:
        self.accounts: list[str] = []
        """Addresses whose registration was answered with 201."""
        self.act = Act("calm", time.monotonic())
        self.acts = [self.act]
        self._url = url
        self._token = token
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self, name: str) -> None:
        """Count all requests from now on for this act."""
        self.act = Act(name, time.monotonic())
        self.acts.append(self.act)

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._ask_for_ever()) for _ in range(CLIENTS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task

    async def _ask_for_ever(self) -> None:
        async with AsyncClient(base_url=self._url, timeout=NO_HANG) as client:
            while True:
                await self._register(client)
                await self._ask(client, "GET", "/auth/me", headers={"Authorization": f"Bearer {self._token}"})
                await asyncio.sleep(PAUSE)

    async def _register(self, client: AsyncClient) -> None:
        email = f"{new_id().hex}@example.test"
        if await self._ask(client, "POST", "/auth/register", json={"email": email, "password": PASSWORD}) == 201:
            self.accounts.append(email)

    async def _ask(self, client: AsyncClient, method: str, path: str, **arguments: object) -> int:
        act, began, status, says_when = self.act, time.monotonic(), BREAK, False
        with suppress(HTTPError):
            response = await client.request(method, path, **arguments)  # type: ignore[arg-type]  # as httpx's own
            status, says_when = response.status_code, "retry-after" in response.headers
        now = time.monotonic()
        act.answers.append(Answer(path, status, now - began, now, says_when))
        return status
