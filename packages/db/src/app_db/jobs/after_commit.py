"""Notifies the relays after a commit that made jobs due, and counts the new jobs."""

from collections import Counter
from collections.abc import Iterable
from weakref import WeakKeyDictionary

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session as SyncSession
from sqlalchemy.orm import SessionTransaction

ON_COMMIT = "on_jobs_committed"
"""Key of `session.info`: the function to call, with the kinds of the new jobs, once other sessions can see them."""
_PENDING = "jobs_pending"

type _Pending = WeakKeyDictionary[SessionTransaction, Counter[str]]
"""Kinds by transaction or savepoint: when one is rolled back, its kinds are forgotten with it."""


def notify_after_commit(session: AsyncSession) -> None:
    """Notify the relays when this transaction has committed: call it for every job that the transaction makes due.

    `enqueue` calls it by itself. A transaction that is rolled back notifies nobody.
    """
    count_after_commit(session, ())


def count_after_commit(session: AsyncSession, kinds: Iterable[str]) -> None:
    """Add `kinds`, one for each job, to `Database.enqueued` when this transaction has committed; notifies as well."""
    sync = session.sync_session
    transaction = sync.get_nested_transaction() or sync.get_transaction() or sync.begin()
    pending: _Pending = sync.info.setdefault(_PENDING, WeakKeyDictionary())
    pending.setdefault(transaction, Counter()).update(kinds)


@event.listens_for(SyncSession, "after_commit")
def _after_commit(session: SyncSession) -> None:
    """Hand the pending kinds of a savepoint to its parent, and those of a transaction to `ON_COMMIT`.

    After the commit, because a NOTIFY inside the transaction costs 60 % of the commits, and no relay could see the jobs
    yet.
    """
    pending: _Pending | None = session.info.get(_PENDING)
    ended = session.get_nested_transaction() or session.get_transaction()
    if pending is None or ended is None or (kinds := pending.pop(ended, None)) is None:
        return
    if ended.parent is not None:
        pending.setdefault(ended.parent, Counter()).update(kinds)
    elif (on_commit := session.info.get(ON_COMMIT)) is not None:
        on_commit(kinds)
