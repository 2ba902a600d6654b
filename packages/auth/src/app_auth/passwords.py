"""Password hashing: pre-hashed, peppered, and never on the event loop."""

import asyncio
import base64
import hashlib
import hmac
import os
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum

import bcrypt
import structlog

from app_auth.addresses import readable
from app_auth.common_passwords import is_common
from app_auth.errors import HashingBusy, PasswordTooCommon, PasswordTooLong, PasswordTooShort
from app_auth.settings import MAX_ROUNDS, MIN_ROUNDS, AuthSettings, active

log = structlog.get_logger(__name__)

SCHEME = "bcrypt-sha384"
PRODUCT = "groundwork"
MAX_LENGTH = 256  # code points
MAX_BYTES = 4 * MAX_LENGTH  # the most that MAX_LENGTH code points take in UTF-8
RAW = ("$2a$", "$2b$", "$2y$")  # how plain bcrypt hashes start, made from the password itself
MAX_RAW = 72  # bytes that bcrypt can hash
NICENESS = 10
"""By how much threads that hash give way to the event loop, and to a database on the same machine."""
# The last character of a salt holds two bits, and bcrypt fails on more.
_STORED = re.compile(
    rf"(?:{SCHEME}\$(?P<pepper>[A-Za-z0-9._-]{{1,64}})\$)?"
    r"\$2[aby]\$(?P<rounds>[0-9]{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}"
)


class HashFlaw(StrEnum):
    """Why no password can match a stored hash."""

    UNKNOWN_FORMAT = "unknown_format"
    """It is neither a hash of this application nor of plain bcrypt."""
    TOO_COSTLY = "too_costly"
    """One comparison would keep a thread for minutes, up to days; probably an import went wrong."""
    UNKNOWN_PEPPER = "unknown_pepper"
    """The ring lacks its pepper: it was retired, or these are another installation's secrets."""


def _give_way() -> None:
    os.nice(NICENESS)  # of this thread alone: setpriority(2), "C library/kernel differences"


class PasswordHasher:
    """`bcrypt(base64(HMAC-SHA-384(pepper, NFC(password))))`, stored as `bcrypt-sha384$<pepper id>$<bcrypt hash>`.

    The MAC is 64 bytes of base64: below bcrypt's 72, so no password is truncated, and free of NUL. bcrypt releases
    the GIL, so a pool of one thread per core keeps the event loop free; a full queue refuses hashes (ADR-0004).
    """

    def __init__(self, settings: AuthSettings) -> None:
        self._rounds = settings.bcrypt_rounds
        self._peppers = {key.kid: key.key_bytes for key in settings.peppers}
        self._pepper_id = active(settings.peppers).kid
        self._names = (PRODUCT, settings.issuer)
        self._min_length = settings.password_min_length
        self.threads = os.process_cpu_count() or 1
        # Elsewhere than on Linux a priority is one of the whole process.
        self._pool = ThreadPoolExecutor(
            self.threads, "password-hash", initializer=_give_way if sys.platform == "linux" else None
        )  # guard: test_hashing_gives_way_to_the_event_loop
        self._slots = asyncio.Semaphore(self.threads)
        self._wait = settings.hash_wait.total_seconds()
        self._queue_limit = settings.hash_queue
        self._waiting = 0
        self.flaws = Counter(dict.fromkeys(HashFlaw, 0))
        """How often `verify` met a stored hash that no password can match."""
        # The hash for unknown accounts, so that verifying takes the same time. Its password is random.
        self._nobody = self._hash(os.urandom(32).hex())

    @property
    def waiting(self) -> int:
        """How many hashes wait for a thread."""
        return self._waiting

    def close(self) -> None:
        """Stop the threads, without waiting for running hashes: no request waits for their results."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def check_strength(self, password: str, *, email: str) -> None:
        """Refuse a new password by its length after normalisation (NIST SP 800-63B-4, 3.1.1.2), or as easy to guess.

        Raises:
            PasswordTooShort, PasswordTooLong, PasswordTooCommon.
        """
        normal = unicodedata.normalize("NFC", password)
        if len(normal) < self._min_length:
            raise PasswordTooShort(min_length=self._min_length)
        if len(normal) > MAX_LENGTH:
            raise PasswordTooLong(max_length=MAX_LENGTH)
        if is_common(normal, (email, readable(email), *self._names)):
            raise PasswordTooCommon  # guard: test_a_password_that_is_easy_to_guess_is_refused

    async def hash(self, password: str) -> str:
        """Return the hash to store.

        Raises:
            HashingBusy: when the queue is full, or no thread is free in time.
        """
        return await self._in_pool(lambda: self._hash(password))

    async def verify(self, password: str, stored: str | None) -> bool:
        """Whether the password matches the stored hash; without a stored hash, False after the same work.

        Raises:
            PasswordTooLong: for more than 1024 bytes, for known and unknown accounts alike.
            HashingBusy: when the queue is full, or no thread is free in time.
        """
        if len(password.encode()) > MAX_BYTES:
            raise PasswordTooLong(
                max_length=MAX_LENGTH
            )  # guard: test_a_password_of_more_than_1024_bytes_is_not_even_compared
        flaw = None if stored is None else self.flaw_of(stored)
        if flaw is not None:
            self.flaws[flaw] += 1
            log.warning("password_hash_unusable", flaw=flaw.value)
            stored = None  # refused after the same work; guard: test_a_hash_that_no_password_matches_is_not_computed
        return await self._in_pool(lambda: self._verify(password, stored or self._nobody)) and stored is not None

    def flaw_of(self, stored: str) -> HashFlaw | None:
        """Return why no password can match this hash; None if one can."""
        parts = _STORED.fullmatch(stored)
        if parts is None or int(parts["rounds"]) < MIN_ROUNDS:
            return HashFlaw.UNKNOWN_FORMAT
        if int(parts["rounds"]) > MAX_ROUNDS:
            return HashFlaw.TOO_COSTLY
        return None if parts["pepper"] in {None, *self._peppers} else HashFlaw.UNKNOWN_PEPPER

    async def rehashed(self, password: str, stored: str) -> str | None:
        """Return a new hash to store for a password that has just been verified; None when `stored` is up to date.

        A hash is outdated if it is another application's plain bcrypt, or if its cost or pepper is not the current one.

        Raises:
            HashingBusy: when the queue is full, or no thread is free in time.
        """
        current = f"{SCHEME}${self._pepper_id}$$2b${self._rounds:02d}$"
        return None if stored.startswith(current) else await self.hash(password)

    async def _in_pool[T](self, work: Callable[[], T]) -> T:
        if self._waiting >= self._queue_limit:
            raise HashingBusy  # guard: test_a_hash_that_finds_the_queue_full_is_refused
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait):
                await self._slots.acquire()
        except TimeoutError:
            raise HashingBusy from None
        finally:
            self._waiting -= 1
        running = asyncio.get_running_loop().run_in_executor(self._pool, work)
        # Cancelling the request does not stop the thread: the slot is released when the thread has finished.
        running.add_done_callback(lambda _: self._slots.release())  # guard: test_a_cancelled_hash_frees_its_slot
        return await asyncio.shield(running)

    def _prehash(self, password: str, pepper: bytes) -> bytes:
        normal = unicodedata.normalize("NFC", password).encode()
        return base64.b64encode(hmac.digest(pepper, normal, hashlib.sha384))

    def _hash(self, password: str) -> str:
        prehash = self._prehash(password, self._peppers[self._pepper_id])
        return f"{SCHEME}${self._pepper_id}${bcrypt.hashpw(prehash, bcrypt.gensalt(self._rounds)).decode()}"

    def _verify(self, password: str, stored: str) -> bool:
        if stored.startswith(RAW):
            # bcrypt refuses more than 72 bytes; compare the first 72 for equal time, and refuse the password.
            raw = password.encode()
            matches = bcrypt.checkpw(raw[:MAX_RAW], stored.encode())
            if len(raw) > MAX_RAW:
                matches = False  # guard: test_what_a_raw_hash_does_not_know_of_a_password_counts
            return matches
        _, _, rest = stored.partition("$")
        pepper_id, _, hashed = rest.partition("$")
        return bcrypt.checkpw(self._prehash(password, self._peppers[pepper_id]), hashed.encode())
