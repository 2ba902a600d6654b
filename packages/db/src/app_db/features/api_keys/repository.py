"""Keys for machines: found with their owner in one query, which requests of one moment share."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    DateTime,
    Interval,
    LargeBinary,
    Text,
    Uuid,
    bindparam,
    column,
    delete,
    func,
    or_,
    select,
    update,
)

from app_db.clock import NOW
from app_db.engine import Database
from app_db.errors import AppError
from app_db.features.api_keys.models import ApiKey
from app_db.models import User
from app_db.repositories.expiry import BATCH, delete_batch, deletion_of_expired
from app_db.session import Session
from app_db.violations import violation_as


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A key with its owner, as the database knows them now."""

    user_id: UUID
    email: str
    name: str
    scopes: tuple[str, ...]
    digest: bytes
    key_id: str
    expires_at: datetime
    last_used_at: datetime | None
    seen_at: datetime
    """Now, by Postgres's clock."""


_USERS, _KEYS = User.__table__.c, ApiKey.__table__.c
_TIMESTAMP = DateTime(timezone=True)
_ASKED = (
    func.unnest(bindparam("id", type_=ARRAY(Uuid)), bindparam("now", type_=ARRAY(_TIMESTAMP)))
    .table_valued(column("id", Uuid), column("now", _TIMESTAMP), with_ordinality="number")
    .render_derived(name="asked")
)
_FIND = (
    select(
        _USERS.id,
        _USERS.email,
        _KEYS.name,
        _KEYS.scopes,
        _KEYS.digest,
        _KEYS.key_id,
        _KEYS.expires_at,
        _KEYS.last_used_at,
        func.coalesce(_ASKED.c.now, func.now(), type_=_TIMESTAMP),
        _ASKED.c.number,
    )
    .select_from(_ASKED)
    .join(ApiKey.__table__, _KEYS.id == _ASKED.c.id)
    .join(User.__table__, _USERS.id == _KEYS.user_id)
    .where(_USERS.disabled_at.is_(None))  # guard: test_the_key_of_a_disabled_user_is_dead
)
# Of N processes that see an old stamp at once, one writes: the others wait for it and then match nothing.
_STAMP = (
    update(ApiKey)
    .where(
        ApiKey.id == bindparam("which"),
        or_(
            ApiKey.last_used_at.is_(None),
            ApiKey.last_used_at <= NOW - bindparam("age", type_=Interval),
            ApiKey.key_id != bindparam("pepper", type_=Text),
        ),
    )
    .values(last_used_at=NOW, digest=bindparam("new_digest", type_=LargeBinary), key_id=bindparam("pepper", type_=Text))
    .returning(ApiKey.id)
    .execution_options(synchronize_session=False)
)
_DELETE_EXPIRED = deletion_of_expired("api_keys", column="expires_at")


async def find_key(database: Database, key_id: UUID, *, now: datetime | None = None) -> FoundKey | None:
    """Return the key with this id, unless it was revoked or its owner is disabled or gone. Calls at once share a query.

    Raises:
        DatabaseUnavailable: as for `Database.read_gathered`.
    """
    row = await database.read_gathered(_FIND, {"id": key_id, "now": now})
    if row is None:
        return None
    user_id, email, name, scopes, *rest, _ = row
    return FoundKey(user_id, email, name, tuple(scopes), *rest)


async def stamp_key(
    database: Database, key_id: UUID, *, digest: bytes, pepper: str, age: timedelta, now: datetime | None = None
) -> bool:
    """Note that a key was used, if the last note is older than `age`; return whether this call did.

    `digest` is that of its secret by the pepper that is active now.

    Raises:
        DatabaseUnavailable: as for `Database.unit_of_work`.
    """
    parameters = {"which": key_id, "new_digest": digest, "pepper": pepper, "age": age, "now": now}
    return await database.write_one(_STAMP, parameters) is not None


@dataclass(frozen=True, slots=True)
class ApiKeyRepository:
    """Keeps, lists and revokes keys."""

    session: Session

    async def add(self, key: ApiKey, *, taken: type[AppError]) -> None:
        """Insert the key; raise `taken` if its owner has one of this name."""
        self.session.add(key)
        with violation_as(taken, of="uq_api_keys_user_id_name"):
            await self.session.flush()  # here, where the clash can still be named

    async def of_user(self, user_id: UUID) -> list[ApiKey]:
        """Return all keys of a user, newest first."""
        statement = select(ApiKey).where(ApiKey.user_id == user_id).order_by(ApiKey.id.desc())
        return list(await self.session.scalars(statement))

    async def alive(self, key_ids: Collection[UUID]) -> set[UUID]:
        """Return which of these keys have neither expired nor been revoked, and whose owner is not disabled."""
        asked = func.any(bindparam("key_ids", [*key_ids], type_=ARRAY(Uuid)))
        kept = select(ApiKey.id).join(User, User.id == ApiKey.user_id).where(ApiKey.id == asked)
        return {*await self.session.scalars(kept.where(ApiKey.expires_at > func.now(), User.disabled_at.is_(None)))}

    async def count(self, user_id: UUID) -> int:
        """Return how many keys a user has. Lock the user first, and then ask: the lock shows what others committed."""
        statement = select(func.count()).select_from(ApiKey).where(ApiKey.user_id == user_id)
        return int((await self.session.scalars(statement)).one())

    async def revoke(self, key_id: UUID, *, user_id: UUID) -> bool:
        """Delete a key of this user; return False if they have none with this id."""
        gone = delete(ApiKey).where(ApiKey.id == key_id, ApiKey.user_id == user_id).returning(ApiKey.id)
        return (await self.session.scalars(gone)).one_or_none() is not None

    async def delete_expired(self, now: datetime | None = None, *, limit: int = BATCH) -> int:
        """Delete up to `limit` keys that have expired; return how many. See `UserSessionRepository`."""
        return await delete_batch(self.session, _DELETE_EXPIRED, now=now, limit=limit)
