"""The session: SQLAlchemy's unit of work, with checks of its own."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Row, Select, orm
from sqlalchemy.exc import PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncSession

from app_db.driver import TransactionDivided


class _Flushing(orm.Session):
    """SQLAlchemy's session, which remembers the error of a failed flush; SQLAlchemy keeps only its text."""

    failed_at: Exception | None = None

    def flush(self, objects: Sequence[Any] | None = None) -> None:
        try:
            super().flush(objects)
        except Exception as error:
            self.failed_at = error
            raise


class Session(AsyncSession):
    """A unit of work. Only the code that opened it commits it."""

    sync_session_class = _Flushing
    sync_session: _Flushing

    @contextmanager
    def naming_failed_flush(self) -> Iterator[None]:
        """If code goes on after a failed flush, chain its error to that of the flush, for `outage.blame`."""
        try:
            yield
        except PendingRollbackError as error:
            cause = error.__cause__ or self.sync_session.failed_at  # an error from another session has a cause already
            error.__cause__ = cause  # guard: test_an_outage_that_was_caught_at_a_flush_is_one
            raise

    async def release(self) -> None:
        """Return the connection to the pool before slow work that needs none, such as hashing a password.

        For use before the first write only. Entities that were read have expired afterwards, so read plain columns;
        the next statement takes a connection again.
        """
        assert not any((self.new, self.dirty, self.deleted)), "release() would lose what was not written yet"
        await self.rollback()  # guard: test_a_released_session_holds_no_connection

    async def read_alone[*Columns](
        self, statement: Select[*Columns], parameters: Mapping[str, Any]
    ) -> Row[*Columns] | None:
        """Return the row of a query that is a transaction by itself, or None: one round trip instead of three.

        For use before the first write only. No connection is held afterwards, as after `release`.
        """
        await self.release()
        connection = await self.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        row = (await connection.execute(statement, parameters)).one_or_none()
        await self.release()  # guard: test_a_sign_in_holds_no_connection_while_it_hashes
        return row

    @contextmanager
    def undivided(self) -> Iterator[None]:
        """Refuse a commit or rollback inside the block: the caller ends the transaction.

        Raises:
            TransactionDivided: at the end of the block, if code in it ended the transaction.
        """
        transaction = self.sync_session.get_transaction()
        yield
        if self.sync_session.get_transaction() is not transaction:
            raise TransactionDivided  # guard: test_a_handler_cannot_end_the_transaction_of_its_job
