"""Hashing runs in threads beside the event loop, a limited number at once."""

import asyncio
import threading
from contextlib import closing
from datetime import timedelta

import pytest

from app_auth.auth import open_auth
from app_auth.errors import HashingBusy
from app_auth.passwords import PasswordHasher
from app_auth.settings import AuthSettings
from app_auth.testing import PASSWORD, busy_hashing


async def test_the_event_loop_goes_on_while_a_password_is_hashed(auth_settings: AuthSettings) -> None:
    with closing(PasswordHasher(auth_settings)) as hasher:
        # The block ends, and lets the hashes go on, only because the loop that runs it does not wait for them.
        async with busy_hashing(hasher):
            for _ in range(100):
                await asyncio.sleep(0)


class Meeting(str):
    """A stored hash whose comparison waits until every thread has reached it."""

    __slots__ = ("barrier",)
    barrier: threading.Barrier

    def partition(self, sep: str, /) -> tuple[str, str, str]:
        self.barrier.wait(timeout=15)
        return super().partition(sep)


async def test_hashes_run_beside_each_other_on_every_core(auth_settings: AuthSettings) -> None:
    with closing(PasswordHasher(auth_settings)) as hasher:
        stored = Meeting(await hasher.hash(PASSWORD))
        stored.barrier = threading.Barrier(hasher.threads)

        verified = await asyncio.gather(*(hasher.verify(PASSWORD, stored) for _ in range(hasher.threads)))

    assert verified == [True] * hasher.threads


async def test_a_hash_that_finds_the_queue_full_is_refused(auth_settings: AuthSettings) -> None:
    with closing(PasswordHasher(auth_settings.model_copy(update={"hash_queue": 3}))) as hasher:
        at_once = hasher.threads + 3

        outcomes = await asyncio.gather(*(hasher.hash(PASSWORD) for _ in range(at_once + 5)), return_exceptions=True)

    assert [isinstance(outcome, HashingBusy) for outcome in outcomes] == [False] * at_once + [True] * 5


async def test_a_hash_that_waits_too_long_is_refused(auth_settings: AuthSettings) -> None:
    impatient = auth_settings.model_copy(update={"hash_wait": timedelta(milliseconds=1)})

    with closing(PasswordHasher(impatient)) as hasher:
        async with busy_hashing(hasher):
            with pytest.raises(HashingBusy):
                await hasher.hash(PASSWORD)


async def test_an_unknown_account_waits_its_turn_like_a_known_one(auth_settings: AuthSettings) -> None:
    impatient = auth_settings.model_copy(update={"hash_wait": timedelta(milliseconds=1)})

    with closing(PasswordHasher(impatient)) as hasher:
        async with busy_hashing(hasher):
            with pytest.raises(HashingBusy):
                await hasher.verify(PASSWORD, None)


async def test_who_was_refused_leaves_the_queue(auth_settings: AuthSettings) -> None:
    impatient = auth_settings.model_copy(update={"hash_wait": timedelta(milliseconds=1), "hash_queue": 1})

    with closing(PasswordHasher(impatient)) as hasher:
        async with busy_hashing(hasher):
            with pytest.raises(HashingBusy):
                await hasher.hash(PASSWORD)

        assert await hasher.hash(PASSWORD)


async def test_a_cancelled_hash_frees_its_slot(auth_settings: AuthSettings) -> None:
    with closing(PasswordHasher(auth_settings)) as hasher:
        for _ in range(hasher.threads + 1):
            running = asyncio.create_task(hasher.hash(PASSWORD))
            await asyncio.sleep(0)  # it has its slot, and its thread works
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

        assert await hasher.hash(PASSWORD)


async def test_a_request_that_is_cancelled_in_the_queue_leaves_it(auth_settings: AuthSettings) -> None:
    with closing(PasswordHasher(auth_settings.model_copy(update={"hash_queue": 1}))) as hasher:
        async with busy_hashing(hasher):
            waiting = asyncio.create_task(hasher.hash(PASSWORD))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            successor = asyncio.create_task(hasher.hash(PASSWORD))
            await asyncio.sleep(0)

        assert await successor


async def test_a_cancelled_hash_keeps_its_slot_while_its_thread_works(auth_settings: AuthSettings) -> None:
    impatient = auth_settings.model_copy(update={"hash_wait": timedelta(milliseconds=1)})

    with closing(PasswordHasher(impatient)) as hasher:
        async with busy_hashing(hasher) as running:
            for request in running:
                request.cancel()
            with pytest.raises(HashingBusy):
                await hasher.hash(PASSWORD)


async def test_the_threads_end_with_the_process_they_were_opened_for(auth_settings: AuthSettings) -> None:
    with open_auth(auth_settings) as auth:
        await auth.passwords.hash(PASSWORD)

    with pytest.raises(RuntimeError, match="after shutdown"):
        await auth.passwords.hash(PASSWORD)
