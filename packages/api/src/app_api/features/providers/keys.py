"""The keys of providers: fetched each hour, and when none of them has signed a token, but not without end."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from app_api.features.providers.asking import Asking
from app_api.features.providers.discovery import LIFE
from app_auth.features.providers.errors import InvalidProviderAnswer
from app_auth.features.providers.id_tokens import Claims, Expected, Keys, NoSuchKey, verified

MOST_FETCHES: Final = 5
PERIOD: Final = 60.0
"""Seconds in which the keys at one address are fetched so often, at most."""


class KeySet:
    """The keys at one address."""

    def __init__(self, asking: Asking, url: str, *, clock: Callable[[], float]) -> None:
        self._asking = asking
        self._url = url
        self._clock = clock
        self._keys = Keys({})
        self._fetched: deque[float] = deque(maxlen=MOST_FETCHES)
        self._fetching = asyncio.Lock()

    async def claims_of(self, token: object, expected: Expected) -> Claims:
        """Return the claims of an ID token, if one of the keys has signed it; to be called within `Asking.bounded`.

        Raises:
            InvalidProviderAnswer: it is not acceptable. If no key has signed it, the keys are fetched once more.
        """
        if not self._fetched or self._clock() - self._fetched[-1] >= LIFE:
            await self._fetch(instead_of=self._keys)
        keys = self._keys
        try:
            return verified(token, keys, expected)
        except NoSuchKey:
            await self._fetch(instead_of=keys)  # guard: test_a_new_key_of_the_provider_is_found_at_once
        try:
            return verified(token, self._keys, expected)
        except NoSuchKey:
            raise InvalidProviderAnswer from None  # guard: test_what_is_not_from_the_provider_for_us_and_now_is_refused

    async def _fetch(self, *, instead_of: Keys) -> None:
        """Fetch the keys, unless somebody has meanwhile, or they were fetched too often just now."""
        async with self._fetching:
            if self._keys is not instead_of:
                return  # guard: test_requests_at_once_fetch_the_keys_once
            now = self._clock()
            if len(self._fetched) == MOST_FETCHES and now - self._fetched[0] < PERIOD:
                return  # guard: test_keys_are_not_fetched_without_end
            self._keys = Keys(await self._asking.get(self._url))
            self._fetched.append(now)  # only now: a fetch that has failed counts for nothing


class KeySets:
    """The keys of all providers."""

    def __init__(self, asking: Asking, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._make = partial(KeySet, asking, clock=clock)
        self._known: dict[str, KeySet] = {}

    def at(self, url: str) -> KeySet:
        """Return the keys at an address."""
        return self._known.setdefault(url, self._make(url))
