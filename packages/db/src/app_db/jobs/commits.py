"""What happens after a commit that made jobs due: relays are notified, and new jobs are counted."""

from collections import Counter
from collections.abc import Iterable
from weakref import WeakKeyDictionary

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session as SyncSession
from sqlalchemy.orm import SessionTransaction

TELL = "jobs_committed"
"""In `session.info`: what is called, with the kinds of the new jobs, once they can be seen."""
_OWED = "jobs_owed"

type _Owed = WeakKeyDictionary[SessionTransaction, Counter[str]]
"""By transaction or savepoint: what one that was rolled back owed is forgotten with it."""


def notify_after_commit(session: AsyncSession) -> None:
    """Wake the relays when this transaction has committed: call it for every job that it makes due.

    `enqueue` does it by itself. A transaction that is rolled back notifies nobody.
    """
    count_after_commit(session, ())


def count_after_commit(session: AsyncSession, kinds: Iterable[str]) -> None:
    """Add `kinds`, one for each job, to `Database.enqueued` when this transaction has committed; notifies as well."""
    sync = session.sync_session
    transaction = sync.get_nested_transaction() or sync.get_transaction() or sync.begin()
    owed: _Owed = sync.info.setdefault(_OWED, WeakKeyDictionary())
    owed.setdefault(transaction, Counter()).update(kinds)


@event.listens_for(SyncSession, "after_commit")
def _pass_on(session: SyncSession) -> None:
    """Pass what is owed on: by a savepoint to what it is part of, at the end to the process.

    Not before: a NOTIFY inside the transaction costs 60 % of the commits, and what it tells of cannot be seen yet.
    """
    owed: _Owed | None = session.info.get(_OWED)
    ended = session.get_nested_transaction() or session.get_transaction()
    if owed is None or ended is None or (kinds := owed.pop(ended, None)) is None:
        return
    if ended.parent is not None:
        owed.setdefault(ended.parent, Counter()).update(kinds)
    elif (tell := session.info.get(TELL)) is not None:
        tell(kinds)
