"""Claims of Idempotency-Keys: one transaction carries a request out, others find its answer or that it is under way."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Connection,
    Interval,
    LargeBinary,
    Text,
    Uuid,
    bindparam,
    event,
    func,
    literal,
    orm,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from app_db.errors import Conflict
from app_db.models import IdempotentRequest
from app_db.repositories.expiry import BATCH, delete_batch, deletion_of_expired
from app_db.session import Session

KEPT = timedelta(hours=24)
"""How long an answer is kept."""


class RequestUnderWay(Conflict):
    """The request with this Idempotency-Key is being carried out. Ask again in a moment."""

    code = "request_under_way"
    retry_after = 1
    """Seconds."""


class KeptAnswer(Exception):
    """The request of this key has been carried out."""

    def __init__(self, answer: bytes, key_id: str) -> None:
        super().__init__()
        self.answer = answer
        self.key_id = key_id


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to carry out the request of an Idempotency-Key."""

    id: UUID
    """A digest of the account and the key."""
    lock: int
    """Another digest of both, of 64 bits and signed."""
    user_id: UUID | None


_NOW = func.now()
_PLACEHOLDER = select(
    bindparam("claim", type_=Uuid),
    bindparam("owner", type_=Uuid),
    literal(b"", LargeBinary),
    literal("", Text),
    _NOW + bindparam("kept", type_=Interval),
    # Asked for without waiting: a client that sends one request many times takes one connection of the pool, not all.
).where(func.pg_try_advisory_xact_lock(bindparam("lock", type_=BigInteger)))
# The lock is released after the commit has become visible, and a conflict is decided by what is committed, not by the
# snapshot of this statement. So who gets the lock late conflicts with the row of whoever had it before.
_INSERT = insert(IdempotentRequest).from_select(["id", "user_id", "answer", "key_id", "expires_at"], _PLACEHOLDER)
_CLAIM = _INSERT.on_conflict_do_update(
    index_elements=[IdempotentRequest.id],
    set_={
        "user_id": _INSERT.excluded.user_id,
        "answer": _INSERT.excluded.answer,
        "created_at": _NOW,
        "expires_at": _INSERT.excluded.expires_at,
    },
    where=IdempotentRequest.expires_at <= _NOW,  # guard: test_a_request_is_carried_out_once_and_found_afterwards
).returning(IdempotentRequest.id)
_FIND = select(IdempotentRequest.answer, IdempotentRequest.key_id).where(
    IdempotentRequest.id == bindparam("claim", type_=Uuid), IdempotentRequest.answer != b""
)
_DELETE_EXPIRED = deletion_of_expired("idempotent_requests", column="expires_at")


def _take(connection: Connection, claim: Claim) -> None:
    parameters = {"claim": claim.id, "owner": claim.user_id, "lock": claim.lock, "kept": KEPT}
    if connection.execute(_CLAIM, parameters).one_or_none() is not None:
        return
    # A statement of its own, which sees what was committed before the first one ended.
    kept = connection.execute(_FIND, {"claim": claim.id}).one_or_none()
    if kept is None:
        raise RequestUnderWay
    raise KeptAnswer(*kept)


@dataclass(frozen=True, slots=True)
class IdempotencyRepository:
    """Claims keys, keeps answers, and deletes them when they have expired."""

    session: Session

    async def claim(self, claim: Claim) -> None:
        """Claim the key for the transaction of this session, and again for the next one after `Session.release`.

        Without the answer that `keep` writes, the claim leaves nothing: roll the transaction back.

        Raises:
            RequestUnderWay: another transaction has the claim. Nobody waits for it.
            KeptAnswer: the request has been carried out.
        """

        def claim_again(session: orm.Session, transaction: object, connection: Connection) -> None:
            _take(connection, claim)  # guard: test_a_claim_outlives_the_release_of_its_connection

        event.listen(self.session.sync_session, "after_begin", claim_again)
        # Begins the transaction, unless another statement has; then it is too late to claim first.
        await self.session.connection()  # type: ignore[unused-awaitable]  # it began; the connection stays unused

    async def keep(self, claim: Claim, answer: bytes, *, key_id: str) -> None:
        """Write the answer to a claimed request, to be committed with its work."""
        statement = update(IdempotentRequest).where(IdempotentRequest.id == claim.id)
        values = statement.values(answer=answer, key_id=key_id).execution_options(synchronize_session=False)
        await self.session.execute(values)

    async def delete_expired(self, *, limit: int = BATCH) -> int:
        """Delete up to `limit` answers that have expired; return how many. See `UserSessionRepository`."""
        return await delete_batch(self.session, _DELETE_EXPIRED, now=None, limit=limit)
