"""The stored hash of a password, and the comparison with it."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from types import FrameType

import bcrypt
import pytest

from app_auth.auth import Auth
from app_auth.errors import PasswordTooCommon, PasswordTooLong, PasswordTooShort
from app_auth.passwords import NICENESS, PasswordHasher
from app_auth.settings import AuthSettings
from app_auth.testing import PASSWORD, new_key

PHRASE = "correct horse battery 42, " * 10


@contextmanager
def comparisons() -> Iterator[list[str]]:
    """List the bcrypt hashes that are compared with in the block, as the interpreter itself reports the calls."""
    seen: list[str] = []

    def note(frame: FrameType, event: str, called: object) -> None:
        if event == "c_call" and called is bcrypt.checkpw:
            seen.extend(value for value in frame.f_locals.values() if str(value).startswith("$2b$"))

    threading.setprofile_all_threads(note)
    try:
        yield seen
    finally:
        threading.setprofile_all_threads(None)


def cost(bcrypt_hash: str) -> str:
    return bcrypt_hash.split("$")[2]


async def test_a_password_verifies_against_its_own_hash(auth: Auth) -> None:
    stored = await auth.passwords.hash(PASSWORD)

    assert await auth.passwords.verify(PASSWORD, stored)


async def test_the_hash_names_its_scheme_its_pepper_and_its_cost(auth: Auth) -> None:
    stored = await auth.passwords.hash(PASSWORD)

    assert stored.startswith("bcrypt-sha384$1$$2b$04$")


async def test_two_hashes_of_one_password_differ(auth: Auth) -> None:
    assert await auth.passwords.hash(PASSWORD) != await auth.passwords.hash(PASSWORD)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a priority is one of the whole process")
async def test_hashing_gives_way_to_the_event_loop(auth: Auth) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    await auth.passwords.hash(PASSWORD)

    hashing = [thread.native_id or 0 for thread in threading.enumerate() if "password-hash" in thread.name]

    assert {os.getpriority(os.PRIO_PROCESS, thread) for thread in hashing} == {min(own + NICENESS, 19)}
    assert os.getpriority(os.PRIO_PROCESS, threading.main_thread().native_id or 0) == own


@pytest.mark.parametrize("length", [72, 73, 200, 256])
async def test_the_last_character_of_a_long_password_counts(auth: Auth, length: int) -> None:
    password = "p" * (length - 1) + "x"
    stored = await auth.passwords.hash(password)

    assert await auth.passwords.verify(password, stored)
    assert not await auth.passwords.verify(password[:-1], stored)
    assert not await auth.passwords.verify(password[:-1] + "y", stored)


async def test_what_follows_a_nul_counts(auth: Auth) -> None:
    stored = await auth.passwords.hash("before the nul\0and after it")

    assert await auth.passwords.verify("before the nul\0and after it", stored)
    assert not await auth.passwords.verify("before the nul\0and something else", stored)


async def test_a_composed_and_a_decomposed_accent_are_the_same_password(auth: Auth) -> None:
    stored = await auth.passwords.hash("caf\u00e9 au lait, s'il te pla\u00eet")

    assert await auth.passwords.verify("cafe\u0301 au lait, s'il te plai\u0302t", stored)


async def test_a_compatibility_character_is_another_password(auth: Auth) -> None:
    stored = await auth.passwords.hash("\ufb01fteen characters")

    assert not await auth.passwords.verify("fifteen characters", stored)


async def test_spaces_around_a_password_count(auth: Auth) -> None:
    stored = await auth.passwords.hash(f" {PASSWORD} ")

    assert not await auth.passwords.verify(PASSWORD, stored)


async def test_another_pepper_makes_the_hash_worthless(auth: Auth, auth_settings: AuthSettings) -> None:
    stored = await auth.passwords.hash(PASSWORD)

    with closing(PasswordHasher(auth_settings.model_copy(update={"peppers": (new_key("1"),)}))) as elsewhere:
        assert not await elsewhere.verify(PASSWORD, stored)


async def test_a_hash_of_a_retired_pepper_still_verifies(auth: Auth, auth_settings: AuthSettings) -> None:
    stored = await auth.passwords.hash(PASSWORD)
    retired = auth_settings.peppers[0].model_copy(update={"state": "verify"})
    rotated = auth_settings.model_copy(update={"peppers": (retired, new_key("2"))})

    with closing(PasswordHasher(rotated)) as hasher:
        assert await hasher.verify(PASSWORD, stored)
        assert (await hasher.hash(PASSWORD)).startswith("bcrypt-sha384$2$")


async def test_a_hash_of_a_removed_pepper_matches_nothing(auth: Auth, auth_settings: AuthSettings) -> None:
    stored = await auth.passwords.hash(PASSWORD)

    with closing(PasswordHasher(auth_settings.model_copy(update={"peppers": (new_key("2"),)}))) as elsewhere:
        assert not await elsewhere.verify(PASSWORD, stored)


async def test_an_unknown_account_has_no_right_password(auth: Auth) -> None:
    assert not await auth.passwords.verify(PASSWORD, None)


async def test_an_unknown_account_costs_one_comparison_of_the_same_cost(auth: Auth) -> None:
    stored = await auth.passwords.hash(PASSWORD)

    with comparisons() as known:
        await auth.passwords.verify("some other password", stored)
    with comparisons() as unknown:
        await auth.passwords.verify("some other password", None)

    assert len(known) == len(unknown) == 1
    assert cost(known[0]) == cost(unknown[0])


@pytest.mark.parametrize("password", ["", "p" * 14, "cafe\u0301 au lait 1"])
def test_a_password_below_fifteen_characters_is_too_short(auth: Auth, password: str) -> None:
    with pytest.raises(PasswordTooShort):
        auth.passwords.check_strength(password, email="ada@example.test")


@pytest.mark.parametrize("password", ["p" * 257, "\U0001f511" * 257])
def test_a_password_above_256_characters_is_too_long(auth: Auth, password: str) -> None:
    with pytest.raises(PasswordTooLong):
        auth.passwords.check_strength(password, email="ada@example.test")


@pytest.mark.parametrize(
    "password", [PHRASE[:15], PHRASE[:256], "\U0001f511\U0001f5dd" * 127 + "ab", "e\u0301x" * 127 + "yz"]
)
def test_a_password_of_15_to_256_characters_has_a_fitting_length(auth: Auth, password: str) -> None:
    auth.passwords.check_strength(password, email="ada@example.test")


@pytest.mark.parametrize("password", ["passwordpassword", "ada@example.test", "groundwork12345"])
def test_a_password_that_is_easy_to_guess_is_refused(auth: Auth, password: str) -> None:
    with pytest.raises(PasswordTooCommon):
        auth.passwords.check_strength(password, email="ada@example.test")


def raw_hash(password: str) -> str:
    return bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode()


async def test_a_raw_bcrypt_hash_verifies(auth: Auth) -> None:
    assert await auth.passwords.verify(PASSWORD, raw_hash(PASSWORD))
    assert not await auth.passwords.verify(PASSWORD[:-1], raw_hash(PASSWORD))


@pytest.mark.parametrize("length", [73, 1024])
async def test_what_a_raw_hash_does_not_know_of_a_password_counts(auth: Auth, length: int) -> None:
    assert not await auth.passwords.verify("p" * length, raw_hash("p" * 72))


async def test_a_raw_hash_costs_one_comparison(auth: Auth) -> None:
    with comparisons() as seen:
        await auth.passwords.verify("p" * 73, raw_hash(PASSWORD))

    assert [cost(hashed) for hashed in seen] == ["04"]


@pytest.mark.parametrize("stored", ["", "another", "$argon2id$v=19$m=65536$x$y", "bcrypt-sha384", "bcrypt-sha384$2$x"])
async def test_what_we_cannot_compare_with_matches_nothing(auth: Auth, stored: str) -> None:
    assert not await auth.passwords.verify(PASSWORD, stored)


@pytest.mark.parametrize("stored", [None, raw_hash(PASSWORD)], ids=["unknown", "known"])
async def test_a_password_of_more_than_1024_bytes_is_not_even_compared(auth: Auth, stored: str | None) -> None:
    with comparisons() as seen, pytest.raises(PasswordTooLong):
        await auth.passwords.verify("\u00e9" * 513, stored)

    assert seen == []


async def test_a_hash_of_today_is_not_outdated(auth: Auth) -> None:
    assert await auth.passwords.rehashed(PASSWORD, await auth.passwords.hash(PASSWORD)) is None


async def test_hashes_of_other_schemes_costs_and_peppers_are_outdated(auth: Auth, auth_settings: AuthSettings) -> None:
    retired = auth_settings.peppers[0].model_copy(update={"state": "verify"})
    rotated = auth_settings.model_copy(update={"peppers": (retired, new_key("2"))})
    dearer = auth_settings.model_copy(update={"bcrypt_rounds": 5})
    today = await auth.passwords.hash(PASSWORD)

    with closing(PasswordHasher(rotated)) as hasher, closing(PasswordHasher(dearer)) as slower:
        new = [
            await auth.passwords.rehashed(PASSWORD, raw_hash(PASSWORD)),
            await hasher.rehashed(PASSWORD, today),
            await slower.rehashed(PASSWORD, today),
        ]

    assert [stored and stored[:23] for stored in new] == [
        "bcrypt-sha384$1$$2b$04$",
        "bcrypt-sha384$2$$2b$04$",
        "bcrypt-sha384$1$$2b$05$",
    ]
