"""Recognises machines by their keys, and notes that a key is in use, beside the request and at most so often."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Collection
from contextvars import Context
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog

from app_auth.auth import Auth
from app_auth.client import Client
from app_auth.errors import InvalidToken
from app_auth.features.api_keys.errors import KeyExpired
from app_auth.features.api_keys.secrets import KeyDigests, KeyText, parse_key
from app_auth.machines import Machine, MachineKeys
from app_db import Database, Session
from app_db.features.api_keys.repository import ApiKeyRepository, FoundKey, find_key, stamp_key
from app_db.models import Role
from app_db.outage import DatabaseUnavailable

log = structlog.get_logger(__name__)

STAMP: Final = timedelta(minutes=10)
"""How old `last_used_at` gets while a key is in use."""
TRY_AGAIN: Final = 60.0
"""Seconds until a stamp that could not be written is tried again."""
REMEMBERED: Final = 1000
AT_ONCE: Final = 2
"""Stamps that are written at once by a process; a key that finds all of them busy is stamped by a later request."""


class StampedKeys(MachineKeys):
    """Recognises a machine by one query. No request waits for a stamp, and none fails because of one."""

    def __init__(self) -> None:
        self._digests: KeyDigests | None = None
        self._tried: OrderedDict[UUID, float] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    async def recognise(self, auth: Auth, database: Database, *, token: str, client: Client) -> Machine:
        """Return the machine of a key; see `MachineKeys`.

        A wrong key counts against its client, a right one against itself. So nobody's wrong keys lock out right ones.
        """
        key, digests = parse_key(token), self._digests_of(auth)
        found = await find_key(database, key.id)
        if found is None or not digests.is_right(key, found.digest, pepper=found.key_id):
            await auth.throttle.wrong_key(client)  # guard: test_wrong_keys_are_throttled
            raise InvalidToken
        if found.seen_at >= found.expires_at:
            raise KeyExpired  # guard: test_a_key_that_has_expired_is_refused
        await auth.throttle.key_request(key.id)  # guard: test_requests_with_a_key_are_throttled
        self._note_use(database, key, found, digests=digests)
        return Machine(
            found.user_id, found.email, Role.USER, key.id, found.name, frozenset(found.scopes), found.expires_at
        )

    async def alive(self, session: Session, key_ids: Collection[UUID]) -> Collection[UUID]:
        """Return which of these keys are accepted still; see `MachineKeys`."""
        return await ApiKeyRepository(session).alive(key_ids)

    async def close(self) -> None:
        """Wait for the stamps that are being written: each has the time limit of a request."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _digests_of(self, auth: Auth) -> KeyDigests:
        if self._digests is None:  # one process has one ring
            self._digests = KeyDigests(auth.settings.peppers)
        return self._digests

    def _note_use(self, database: Database, key: KeyText, found: FoundKey, *, digests: KeyDigests) -> None:
        is_recent = found.last_used_at is not None and found.seen_at - found.last_used_at < STAMP
        if is_recent and found.key_id == digests.active_id:
            return
        now = time.monotonic()
        if len(self._tasks) >= AT_ONCE or now - self._tried.get(key.id, -TRY_AGAIN) < TRY_AGAIN:
            return  # guard: test_a_stamp_that_cannot_be_written_is_not_tried_by_each_request
        self._tried[key.id] = now
        self._tried.move_to_end(key.id)
        if len(self._tried) > REMEMBERED:
            self._tried.popitem(last=False)
        # In no request's context: it belongs to none, and has a time limit of its own.
        stamp = asyncio.create_task(_stamp(database, key, digests), context=Context())
        self._tasks.add(stamp)  # asyncio itself keeps no task alive
        stamp.add_done_callback(self._tasks.discard)


async def _stamp(database: Database, key: KeyText, digests: KeyDigests) -> None:
    try:
        await stamp_key(database, key.id, digest=digests.of(key), pepper=digests.active_id, age=STAMP)
    except DatabaseUnavailable:  # what can be read is shown, although nothing can be written
        log.warning("key_use_not_noted")
