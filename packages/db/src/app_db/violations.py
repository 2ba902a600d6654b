"""Violations of constraints: the violation of a named constraint becomes an expected failure."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, IntegrityError

from app_db.errors import AppError

_LONGEST_NAME = 63
"""Bytes that PostgreSQL keeps of a name."""
_REBUILT = re.compile(r"_cc(?:new|old)[0-9]*$")


@contextmanager
def violation_as(error: type[AppError], *, of: str) -> Iterator[None]:
    """Turn a violation of the constraint named `of` into `error`; any other violation passes through.

    The constraint decides races, not a SELECT before it: flush inside the block, where the clash can still be named.

    Example:
        session.add(user)
        with violation_as(EmailTaken, of="uq_users_email_canonical"):
            await session.flush()
    """
    try:
        yield
    except IntegrityError as exc:
        if _names(violated_by(exc), of):
            raise error from exc  # guard: test_a_violation_of_the_named_constraint_becomes_the_error
        raise


def violated_by(error: DBAPIError) -> str:
    """Return the name of the constraint, or of the unique index, that an error is about; "" if it is about none."""
    # The name is in asyncpg's exception, which is the cause of SQLAlchemy's.
    return getattr(getattr(error.orig, "__cause__", None), "constraint_name", None) or ""


def is_being_rebuilt(name: str) -> bool:
    """Return whether a name is that of an index that `REINDEX … CONCURRENTLY` is building, or is about to drop."""
    return _REBUILT.search(name) is not None


def _names(violated: str, constraint: str) -> bool:
    """Return whether a name is that of the constraint, or of the copy of its index during REINDEX CONCURRENTLY."""
    own = _REBUILT.sub("", violated)
    # PostgreSQL shortens a long name so that the suffix fits.
    is_cut = own != violated and len(violated.encode()) == _LONGEST_NAME and constraint.startswith(own)
    return constraint in {violated, own} or is_cut
