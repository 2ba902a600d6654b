"""Limits that hold against parallel guesses: counted before the work, in this process and in Valkey (ADR-0039).

Both counts must allow an attempt. Valkey counts for all processes; each process also counts its own attempts, so its
limits hold without Valkey. Windows slide and refusals are not counted, so nobody is ever locked out for good.
"""

import asyncio
import hmac
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app_auth.client import Client
from app_auth.errors import InvalidCredentials, InvalidGrant, Throttled
from app_auth.limits import Hit, Limit, ThrottleSettings, network_of
from app_auth.valkey import BlockingLeavingPool
from app_auth.windows import LocalWindows
from app_runtime.valkey import DEFAULT_PREFIX, ValkeySettings

log = structlog.get_logger(__name__)

MAX_RETRY_AFTER = 300  # seconds; a longer wait may end earlier, and would show too much
PAUSE = timedelta(seconds=1)
CONNECTIONS = 16

# Each list has its hits newest first, in milliseconds, since Lua's numbers are doubles. Returns how long to wait, and
# the stamp of the hits. A list with a stamp a minute ahead, of a clock that was set back since, is deleted.
_HIT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local wait = 0
for i, key in ipairs(KEYS) do
  local newest = redis.call('LINDEX', key, 0)
  if newest and newest - now > 60000 then redis.call('DEL', key) end
  local last = redis.call('LINDEX', key, ARGV[2 * i - 1] - 1)
  if last then wait = math.max(wait, last + ARGV[2 * i] - now) end
end
if wait > 0 then return {wait, now} end
for i, key in ipairs(KEYS) do
  redis.call('LPUSH', key, now)
  redis.call('LTRIM', key, 0, ARGV[2 * i - 1] - 1)
  redis.call('PEXPIRE', key, ARGV[2 * i])
end
return {0, now}
"""


class SharedWindows:
    """Sliding windows in Valkey, for all processes; one script counts all hits of a request atomically.

    No call takes longer than the timeout. After a call that failed, requests skip Valkey during a pause; then one
    request tries again.
    """

    def __init__(
        self, valkey: Redis, *, timeout: timedelta, pause: timedelta = PAUSE, prefix: str = DEFAULT_PREFIX
    ) -> None:
        self._valkey = valkey
        self._prefix = prefix
        self._script = valkey.register_script(_HIT)
        self._timeout = timeout.total_seconds()
        self._pause = pause.total_seconds()
        self._away_until: float | None = None
        self.outages = 0
        """How often Valkey went away, since the start."""

    async def hit(self, hits: Sequence[Hit]) -> tuple[float, int] | None:
        """Return seconds to wait (0: all hits are counted) and the stamp; None when Valkey does not answer."""
        arguments = [number for hit in hits for number in (hit.limit.count, hit.limit.seconds * 1000)]
        answer = await self._ask(lambda: self._script(keys=self._keys(hits), args=arguments))
        return None if answer is None else (answer[0] / 1000, answer[1])

    async def give_back(self, hits: Sequence[Hit], *, stamp: int) -> None:
        """Remove the hit that was counted at `stamp`; if Valkey does not answer, it stays counted."""
        async with self._valkey.pipeline(transaction=False) as pipeline:
            for key in self._keys(hits):
                pipeline.lrem(key, 1, str(stamp))
            await self._ask(pipeline.execute)

    def _keys(self, hits: Sequence[Hit]) -> list[str]:
        return [f"{self._prefix}throttle:{hit.key}" for hit in hits]

    async def _ask(self, question: Callable[[], Awaitable[Any]]) -> Any:  # replies of redis-py have no types
        now = time.monotonic()
        if self._away_until is not None:
            if now < self._away_until:
                return None  # guard: test_a_frozen_valkey_is_not_asked_by_each_request
            self._away_until = now + self._pause  # others go on without Valkey while this one tries
        try:
            async with asyncio.timeout(self._timeout):  # guard: test_a_frozen_valkey_lets_requests_pass
                answer = await question()
        except (RedisError, OSError) as error:
            if self._away_until is None:
                self.outages += 1
                log.warning("throttle_valkey_lost", cause=type(error).__name__)
            self._away_until = time.monotonic() + self._pause
            return None
        if self._away_until is not None:
            self._away_until = None
            log.info("throttle_valkey_found")
        return answer


@dataclass(frozen=True, slots=True)
class Attempt:
    """The counted hits of an attempt, so that they can be removed again."""

    stamp: float
    shared_stamp: int | None
    """None when Valkey was away."""


class Throttle:
    """Counts attempts before their work. All clients without a known address share one bucket."""

    def __init__(self, settings: ThrottleSettings, *, secret: bytes, shared: SharedWindows | None = None) -> None:
        """`secret` keys the digests that stand for addresses; without `shared`, this process counts alone."""
        self._limits = {name: Limit.parse(text) for name, text in settings.model_dump().items()}
        self._secret = secret
        self._local = LocalWindows()
        self.shared = shared

    @asynccontextmanager
    async def login(self, client: Client, account: str) -> AsyncIterator[None]:
        """Context manager around a password check: counts the address before it, the account only on failure.

        `account` is the canonical e-mail address, known or not, or the given text if that is no address.
        If the block succeeds, or fails with anything but InvalidCredentials, the account's hits are given back; the
        address's hit stays counted.

        Raises:
            Throttled: before the block; the right password is refused, too.
        """
        network = network_of(client.address)
        per_account = (self._hit("login_account", network, account), self._hit("login_account_day", account))
        attempt = await self.check(self._hit("login_ip", network), *per_account)
        try:
            yield
        except InvalidCredentials:
            raise
        except Exception:  # an outage; it becomes DatabaseUnavailable only at the edge of the request
            await self.give_back(attempt, *per_account)
            raise
        await self.give_back(attempt, *per_account)

    async def sign_in(self, client: Client) -> None:
        """Count a sign-in by anything but a password, such as a passkey; see `login` for passwords."""
        await self.check(self._hit("login_ip", network_of(client.address)))

    async def register(self, client: Client) -> None:
        """Count a registration. Raises Throttled, like the methods below except `mail`."""
        await self.check(self._hit("register_ip", network_of(client.address)))

    async def forgot(self, client: Client) -> None:
        """Count a request for a mail with a link, to reset a password or to verify an address."""
        await self.check(self._hit("forgot_ip", network_of(client.address)))

    @asynccontextmanager
    async def mail(self, kind: str, account: str) -> AsyncIterator[bool]:
        """Count a mail that a stranger asks for, and tell the block whether to send it. Never raises Throttled.

        A refusal would show that others asked for this address, so the block gets False instead. If the block fails,
        the mail is not counted.
        """
        hit = self._hit("mail_account", kind, account)
        try:
            attempt = await self.check(hit)
        except Throttled:
            yield False
            return
        try:
            yield True
        except Exception:  # an outage, most likely: no mail was sent
            await self.give_back(attempt, hit)  # guard: test_a_mail_that_could_not_be_asked_for_is_not_counted
            raise

    async def refresh(self, client: Client) -> None:
        """Count an exchange of a refresh token."""
        await self.check(self._hit("refresh_ip", network_of(client.address)))

    async def one_time(self, client: Client) -> None:
        """Count a use of a one-time token."""
        await self.check(self._hit("one_time_ip", network_of(client.address)))

    @asynccontextmanager
    async def code(self, user_id: UUID, challenge_id: UUID) -> AsyncIterator[None]:
        """Context manager around the check of a second factor: counted before it, given back unless it is refused.

        Raises:
            Throttled: before the block; the right code is refused, too.
        """
        account = str(user_id)
        hits = (
            self._hit("code_challenge", str(challenge_id)),
            self._hit("code_account", account),
            self._hit("code_account_day", account),
        )
        attempt = await self.check(*hits)
        try:
            yield
        except InvalidGrant:
            raise
        except Exception:  # an outage, or keys that are missing
            await self.give_back(attempt, *hits)
            raise
        await self.give_back(attempt, *hits)

    async def export(self, user_id: UUID) -> None:
        """Count an export that a user asks for."""
        await self.check(self._hit("export_account", str(user_id)))

    async def new_key(self, user_id: UUID) -> None:
        """Count a key for machines that a user makes."""
        await self.check(self._hit("new_key_account", str(user_id)))

    async def webhook(self, user_id: UUID) -> None:
        """Count what a user asks of a webhook that makes a secret, or sends something."""
        await self.check(self._hit("webhook_account", str(user_id)))

    async def wrong_key(self, client: Client) -> None:
        """Count a wrong key for machines, after it was found wrong: right ones from there go on."""
        await self.check(self._hit("key_ip", network_of(client.address)))

    async def key_request(self, key_id: UUID) -> None:
        """Count a request with a right key for machines."""
        await self.check(self._hit("key_requests", str(key_id)))

    async def check(self, *hits: Hit) -> Attempt:
        """Count all hits, or none of them.

        Raises:
            Throttled: when one of the buckets is full.
        """
        now = time.monotonic()
        if wait := self._local.hit(hits, now=now):
            raise _throttled(wait, hits)  # guard: test_without_valkey_a_full_bucket_refuses
        answer = None if self.shared is None else await self.shared.hit(hits)
        if answer is None:
            return Attempt(now, None)
        wait, stamp = answer
        if wait:
            self._local.give_back(hits, stamp=now)
            raise _throttled(wait, hits)  # guard: test_two_processes_share_their_limits
        return Attempt(now, stamp)

    async def give_back(self, attempt: Attempt, *hits: Hit) -> None:
        """Uncount these hits of an attempt."""
        self._local.give_back(hits, stamp=attempt.stamp)
        if self.shared is not None and attempt.shared_stamp is not None:
            await self.shared.give_back(hits, stamp=attempt.shared_stamp)

    def _hit(self, name: str, *bucket: str) -> Hit:
        # Keyed with the secret: anybody can hash all IPv4 addresses without one and look the digest up.
        text = "\0".join(("throttle", name, *bucket)).encode(errors="surrogatepass")
        digest = hmac.digest(self._secret, text, "sha256").hex()[:32]
        return Hit(name, f"{name}:{digest}", self._limits[name])


@asynccontextmanager
async def open_throttle(
    settings: ThrottleSettings, *, secret: bytes, valkey: ValkeySettings
) -> AsyncIterator[Throttle]:
    """Open a throttle that uses Valkey; Valkey may be down, and each call to it takes no longer than its `timeout`."""
    # No limit for the wait for a free connection: SharedWindows limits the whole call.
    pool = BlockingLeavingPool.of(
        valkey, max_connections=CONNECTIONS, timeout=None, socket_connect_timeout=valkey.timeout.total_seconds()
    )
    async with Redis.from_pool(pool) as client:
        shared = SharedWindows(client, timeout=valkey.timeout, prefix=valkey.prefix)
        yield Throttle(settings, secret=secret, shared=shared)


def _throttled(wait: float, hits: Sequence[Hit]) -> Throttled:
    log.info("request_throttled", limits=[hit.name for hit in hits], seconds=math.ceil(wait))
    return Throttled(min(MAX_RETRY_AFTER, math.ceil(wait)))
